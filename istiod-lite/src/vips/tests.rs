//! Who gets which address: always the same one, never one that another has, and what was given stays.

use ambit_cluster::kinds::entry::GivenAddress;
use ambit_cluster::kinds::scalar::Ip;
use ambit_cluster::{Body, Object};
use std::sync::Arc;

use super::*;
use crate::mesh::Mesh;
use crate::testing::{objects, world_of};

fn ranges() -> Ranges {
    Ranges { v4: "240.240.0.0/16".parse().unwrap(), v6: "2001:2::/48".parse().unwrap() }
}

fn world(objects: &[Object]) -> World {
    world_of(objects.iter().cloned())
}

fn entry(name: &str, day: u32, rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: a, \
         creationTimestamp: '2026-01-{day:02}T00:00:00Z'}}\nspec: {{ports: [{{number: 80}}], {rest}}}\n"
    )
}

/// The world after what is planned has been written down.
fn written(world: &World, ranges: Ranges) -> World {
    let mut next = World::new(Mesh::default());
    let planned = plan(world, ranges);
    for (_, space) in world.spaces() {
        for entry in space.entries.values() {
            let mut entry = entry.as_ref().clone();
            let at = ObjectRef::new(Kind::ServiceEntry, &entry.metadata.namespace, &entry.metadata.name);
            if let Some((_, given)) = planned.iter().find(|(of, _)| *of == at) {
                let address =
                    |(host, ip): &(String, IpAddr)| GivenAddress { value: Ip(*ip), host: host.clone() };
                entry.status.addresses = given.iter().map(address).collect();
            }
            next.apply(Object { reference: at, body: Body::ServiceEntry(Arc::new(entry)), raw: None });
        }
    }
    next
}

#[test]
fn each_host_gets_one_address_of_each_family_and_then_there_is_nothing_to_do() {
    let world = world(&objects(&entry("e", 1, "hosts: [h.example, i.example], resolution: DNS")));
    let [(object, given)] = plan(&world, ranges()).try_into().unwrap();
    assert_eq!(object.name.as_ref(), "e");
    let hosts: Vec<_> = given.iter().map(|(host, ip)| (host.as_str(), ip.is_ipv4())).collect();
    assert_eq!(hosts, [("h.example", true), ("h.example", false), ("i.example", true), ("i.example", false)]);
    for (_, ip) in &given {
        let inside = match ip {
            IpAddr::V4(ip) => ranges().v4.contains(ip) && *ip != ranges().v4.network(),
            IpAddr::V6(ip) => ranges().v6.contains(ip) && *ip != ranges().v6.network(),
        };
        assert!(inside, "{ip}");
    }
    assert_eq!(plan(&written(&world, ranges()), ranges()), []);
    assert_eq!(plan(&world, ranges()), [(object, given)], "without its memory it gives the same");
}

#[test]
fn only_entries_that_need_an_address_get_one() {
    for (spec, count) in [
        ("hosts: [h.example], resolution: NONE", 0),
        ("hosts: [h.example], resolution: STATIC", 2),
        ("hosts: [h.example], resolution: DNS, addresses: [10.0.0.1]", 0),
        ("hosts: ['*.example'], resolution: DNS", 0),
        ("hosts: ['*.example', h.example], resolution: DNS", 2),
        ("hosts: ['*.example'], resolution: DYNAMIC_DNS", 2),
    ] {
        let world = world(&objects(&entry("e", 1, spec)));
        let given = plan(&world, ranges()).into_iter().map(|(_, given)| given.len()).sum::<usize>();
        assert_eq!(given, count, "{spec}");
    }
    let out = entry("e", 1, "hosts: [h.example], resolution: DNS")
        .replace("name: e,", "name: e, labels: {networking.istio.io/enable-autoallocate-ip: 'false'},");
    assert_eq!(plan(&world(&objects(&out)), ranges()), []);
}

#[test]
fn an_entry_that_needs_its_address_no_more_loses_it() {
    let given = written(&world(&objects(&entry("e", 1, "hosts: [h.example], resolution: DNS"))), ranges());
    let before = given.space("a").unwrap().entries["e"].clone();
    let mut after = before.as_ref().clone();
    after.spec.resolution = Resolution::None;
    let at = ObjectRef::new(Kind::ServiceEntry, "a", "e");
    let mut world = given;
    world.apply(Object { reference: at.clone(), body: Body::ServiceEntry(Arc::new(after)), raw: None });
    assert_eq!(plan(&world, ranges()), [(at, Vec::new())]);
}

#[test]
fn what_somebody_writes_down_is_theirs_and_of_two_with_one_address_the_older_keeps_it() {
    let one = written(&world(&objects(&entry("e", 2, "hosts: [h.example], resolution: DNS"))), ranges());
    let entry_now = one.space("a").unwrap().entries["e"].clone();
    let ip = entry_now.status.addresses[0].value.0;
    let mut contested = one;
    for object in
        objects(&entry("user", 3, &format!("hosts: [u.example], addresses: [{ip}], resolution: STATIC")))
    {
        contested.apply(object);
    }
    let [(object, given)] = plan(&contested, ranges()).try_into().unwrap();
    assert_eq!(object.name.as_ref(), "e");
    assert!(given.iter().all(|(_, new)| *new != ip), "{given:?}");
    assert_eq!(given[1].1, entry_now.status.addresses[1].value.0, "the other family stays");

    let mut twin = entry_now.as_ref().clone();
    twin.metadata.name = "twin".into();
    twin.metadata.creation_timestamp = Some("2026-01-01T00:00:00Z".parse().unwrap());
    let mut world = world(&[]);
    for (name, entry) in [("e", entry_now.as_ref().clone()), ("twin", twin)] {
        let reference = ObjectRef::new(Kind::ServiceEntry, "a", name);
        world.apply(Object { reference, body: Body::ServiceEntry(Arc::new(entry)), raw: None });
    }
    let [(object, _)] = plan(&world, ranges()).try_into().unwrap();
    assert_eq!(object.name.as_ref(), "e", "the younger one gets others");
}

#[test]
fn addresses_stay_while_others_come_and_go_and_are_never_given_twice() {
    // A range of 14 addresses, so that hashes meet.
    let small = Ranges { v4: "240.240.0.0/28".parse().unwrap(), v6: ranges().v6 };
    let mut now = world(&[]);
    let mut known: std::collections::BTreeMap<String, IpAddr> = Default::default();
    for round in 0..12_u32 {
        for object in objects(&entry(
            &format!("e{round}"),
            round + 1,
            &format!("hosts: [h{round}.example], resolution: DNS"),
        )) {
            now.apply(object);
        }
        if round % 4 == 3 {
            let gone = format!("e{}", round - 2);
            now.remove(&ObjectRef::new(Kind::ServiceEntry, "a", &gone));
            known.remove(&gone);
        }
        now = written(&now, small);
        let mut all = BTreeSet::new();
        for (name, entry) in &now.space("a").unwrap().entries {
            let ip = entry.status.addresses[0].value.0;
            assert!(all.insert(ip), "{ip} twice");
            assert_eq!(*known.entry(name.to_string()).or_insert(ip), ip, "{name} moved");
        }
    }
}

#[test]
fn a_range_that_is_full_gives_no_more_and_one_that_is_taken_whole_ends_soon() {
    let tiny = Ranges { v4: "240.240.0.0/30".parse().unwrap(), v6: ranges().v6 };
    let three: String = (1..4)
        .map(|nth| entry(&format!("e{nth}"), nth, &format!("hosts: [h{nth}.example], resolution: DNS")))
        .collect();
    let counts: Vec<_> = plan(&world(&objects(&three)), tiny).iter().map(|(_, given)| given.len()).collect();
    assert_eq!(counts, [2, 2, 1]);
    let greedy = entry(
        "greedy",
        1,
        "hosts: [g.example], resolution: STATIC, addresses: ['2001:2::/48', 240.240.0.0/16]",
    ) + &entry("e", 2, "hosts: [h.example], resolution: DNS");
    assert_eq!(plan(&world(&objects(&greedy)), ranges()), []);
}

#[test]
fn whoever_claims_more_than_the_range_takes_nothing_of_it() {
    let wide = "hosts: [all.example], resolution: STATIC, addresses: [0.0.0.0/0, '::/0', 240.0.0.0/4]";
    let both = entry("all", 1, wide) + &entry("e", 2, "hosts: [h.example], resolution: DNS");
    let alone = entry("e", 2, "hosts: [h.example], resolution: DNS");
    let given = plan(&world(&objects(&both)), ranges());
    assert_eq!(given.iter().map(|(_, given)| given.len()).collect::<Vec<_>>(), [2]);
    assert_eq!(given, plan(&world(&objects(&alone)), ranges()));
    assert_eq!(plan(&written(&world(&objects(&both)), ranges()), ranges()), [], "and what was given stays");
}
