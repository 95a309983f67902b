//! Every rule of `ztunnel.md` 10.2–10.4 as a case, and what holds of any name.

use proptest::prelude::*;

use super::*;
use crate::delta::Change;
use crate::sample::{Always, at, balancing, ip, pod, service, world};
use crate::service::{BalanceMode, Visibility};

const DOMAIN: &str = "cluster.local";

fn vips(key: &str, addresses: &[&str]) -> Service {
    service(key, addresses, &[(80, 8080)])
}

/// Asks as the pod `shop/client`.
struct Case {
    world: Snapshot,
    client: Workload,
    search: Option<Vec<String>>,
    preferred: Option<Namespace>,
    ipv6: bool,
}

impl Case {
    fn new<const N: usize>(changes: [Change; N]) -> Self {
        let client = pod("shop/client", "10.0.0.1");
        Self { world: world(changes), client, search: None, preferred: None, ipv6: true }
    }

    fn reply(&self, name: &str, family: Family) -> Reply {
        let asker = Asker {
            client: &self.client,
            domain: DOMAIN,
            search: self.search.as_deref().map_or(Search::Cluster, Search::Given),
            preferred: self.preferred.as_ref(),
            ipv6: self.ipv6,
        };
        resolve(&self.world, &asker, (name, family), &mut Always(u64::MAX))
    }

    /// `alias > addresses`, sorted; `-` when somebody else must be asked.
    fn said(&self, name: &str, family: Family) -> String {
        let Reply::Ours { alias, mut addresses } = self.reply(name, family) else { return "-".into() };
        addresses.sort();
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        alias.map(|alias| format!("{alias} > ")).unwrap_or_default() + &texts.join(" ")
    }

    fn a(&self, name: &str) -> String {
        self.said(name, Family::V4)
    }

    fn aaaa(&self, name: &str) -> String {
        self.said(name, Family::V6)
    }
}

#[test]
fn short_names_are_completed_by_the_number_of_their_labels() {
    let client = pod("shop/client", "10.0.0.1");
    let asker = Asker { client: &client, domain: "d", search: Search::Cluster, preferred: None, ipv6: true };
    for (short, full) in [
        ("x", "x.shop.svc.d"),
        ("x.y", "x.y.svc.d x.y.shop.svc.d"),
        ("x.y.svc", "x.y.svc.d x.y.svc.svc.d"),
        ("x.y.z", "x.y.z.svc.d"),
        ("a.b.c.svc", "a.b.c.svc.d"),
        ("a.b.c.d", ""),
        ("a.b.c.d.svc", ""),
    ] {
        assert_eq!(expansions(short, &asker).join(" "), full, "{short}");
    }
}

#[test]
fn search_domains_are_taken_off_in_their_order_and_what_is_left_is_completed() {
    let client = pod("shop/client", "10.0.0.1");
    let asker = Asker { client: &client, domain: "d", search: Search::Cluster, preferred: None, ipv6: true };
    let all = candidates("x.shop.svc.d", &asker);
    let text: Vec<_> = all.iter().map(|(s, c)| format!("{}:{c}", s.unwrap_or(""))).collect();
    let wanted = [
        ":x.shop.svc.d",
        "x:x",
        "x:x.shop.svc.d",
        "x.shop:x.shop",
        "x.shop:x.shop.svc.d",
        "x.shop:x.shop.shop.svc.d",
        "x.shop.svc:x.shop.svc",
        "x.shop.svc:x.shop.svc.d",
        "x.shop.svc:x.shop.svc.svc.d",
    ];
    assert_eq!(text, wanted);
    // A domain itself is not a name with nothing before it.
    assert!(candidates("svc.d", &asker).iter().all(|(_, c)| !c.is_empty() && !c.starts_with('.')));
}

#[test]
fn what_a_name_stands_for_is_said_only_with_an_address() {
    let case = Case::new([vips("shop/web.shop.svc.cluster.local", &["10.1.0.1"]).into()]);
    let completed = "web.shop.shop.svc.cluster.local";
    assert_eq!(case.a(completed), "web.shop > 10.1.0.1");
    // A resolver whose other question was asked elsewhere, as the pod joined, goes on with the next name.
    assert_eq!(case.reply(completed, Family::V6), Reply::Ours { alias: None, addresses: Vec::new() });
}

#[test]
fn a_service_is_found_by_its_whole_name_and_by_every_shorter_one() {
    let case = Case::new([
        vips("shop/web.shop.svc.cluster.local", &["10.1.0.1"]).into(),
        vips("other/web.other.svc.cluster.local", &["10.1.0.2"]).into(),
        vips("shop/api.example.com", &["10.1.0.3"]).into(),
    ]);
    for (name, said) in [
        ("web.shop.svc.cluster.local", "10.1.0.1"),
        ("web", "10.1.0.1"),
        ("web.shop", "10.1.0.1"),
        ("web.shop.svc", "10.1.0.1"),
        ("web.other", "10.1.0.2"),
        ("web.other.svc", "10.1.0.2"),
        ("web.other.svc.cluster.local", "10.1.0.2"),
        ("api.example.com", "10.1.0.3"),
        ("other", "-"),
        ("nothing.shop.svc.cluster.local", "-"),
        ("example.com", "-"),
        ("cluster.local", "-"),
        ("svc.cluster.local", "-"),
        ("", "-"),
        (".", "-"),
    ] {
        assert_eq!(case.a(name), said, "{name}");
    }
}

#[test]
fn what_a_resolver_has_appended_is_taken_off_again_and_told() {
    let case = Case::new([
        vips("shop/api.example.com", &["10.1.0.3"]).into(),
        vips("shop/web.shop.svc.cluster.local", &["10.1.0.1"]).into(),
    ]);
    for (name, said) in [
        ("api.example.com.shop.svc.cluster.local", "api.example.com > 10.1.0.3"),
        ("api.example.com.svc.cluster.local", "api.example.com > 10.1.0.3"),
        ("api.example.com.cluster.local", "api.example.com > 10.1.0.3"),
        ("web.shop.shop.svc.cluster.local", "web.shop > 10.1.0.1"),
        ("web.shop.svc.cluster.local", "10.1.0.1"),
        ("api.example.com.other.svc.cluster.local", "-"),
    ] {
        assert_eq!(case.a(name), said, "{name}");
    }
}

#[test]
fn the_search_domains_of_a_resolver_file_are_used_in_place_of_the_clusters() {
    let mut case = Case::new([vips("shop/api.example.com", &["10.1.0.3"]).into()]);
    case.search = Some(vec!["corp.test".into()]);
    assert_eq!(case.a("api.example.com.corp.test"), "api.example.com > 10.1.0.3");
    assert_eq!(case.a("api.example.com.svc.cluster.local"), "-");
}

#[test]
fn a_wildcard_holds_every_name_below_it_but_not_itself_and_the_longest_goes_first() {
    let case = Case::new([
        vips("shop/*.example.com", &["10.1.0.1"]).into(),
        vips("shop/*.b.example.com", &["10.1.0.2"]).into(),
        vips("shop/x.b.example.com", &["10.1.0.3"]).into(),
    ]);
    for (name, said) in [
        ("a.example.com", "10.1.0.1"),
        ("a.c.example.com", "10.1.0.1"),
        ("a.b.example.com", "10.1.0.2"),
        ("x.b.example.com", "10.1.0.3"),
        ("example.com", "-"),
        ("aexample.com", "-"),
        // A wildcard is not told as an alias.
        ("a.example.com.svc.cluster.local", "10.1.0.1"),
    ] {
        assert_eq!(case.a(name), said, "{name}");
    }
}

#[test]
fn the_order_of_aliases_goes_before_exactness() {
    // The name as given matches a wildcard; a shorter alias would match exactly.
    let case = Case::new([
        vips("shop/*.svc.cluster.local", &["10.1.0.1"]).into(),
        vips("shop/api.example.com", &["10.1.0.2"]).into(),
    ]);
    assert_eq!(case.a("api.example.com.svc.cluster.local"), "10.1.0.1");
}

#[test]
fn of_one_host_the_own_namespaces_service_goes_first_then_the_canonical_then_the_preferred() {
    let host = |namespace: &str, address: &str| vips(&format!("{namespace}/api.example.com"), &[address]);
    let canonical = Service { canonical: true, ..host("d", "10.1.0.4") };
    let mut case = Case::new([
        host("shop", "10.1.0.1").into(),
        host("b", "10.1.0.2").into(),
        host("c", "10.1.0.3").into(),
        canonical.clone().into(),
    ]);
    case.preferred = Some("c".parse().unwrap());
    let gone = |key: &Service| Change::ServiceGone(key.key());
    for (said, next) in [
        ("10.1.0.1", host("shop", "10.1.0.1")),
        ("10.1.0.4", canonical),
        ("10.1.0.3", host("c", "10.1.0.3")),
        ("10.1.0.2", host("b", "10.1.0.2")),
        ("-", host("b", "10.1.0.2")),
    ] {
        assert_eq!(case.a("api.example.com"), said);
        case.world = case.world.with(&[gone(&next)].into_iter().collect());
    }
}

#[test]
fn a_service_that_its_namespace_keeps_to_itself_is_unknown_elsewhere() {
    let own = |namespace: &str, address: &str| Service {
        visibility: Visibility::Namespace,
        ..vips(&format!("{namespace}/api.example.com"), &[address])
    };
    assert_eq!(Case::new([own("other", "10.1.0.1").into()]).a("api.example.com"), "-");
    assert_eq!(Case::new([own("shop", "10.1.0.1").into()]).a("api.example.com"), "10.1.0.1");
}

#[test]
fn the_kind_of_address_asked_for_is_the_only_one_told_and_none_is_an_answer() {
    let web = vips("shop/web.shop.svc.cluster.local", &["10.1.0.1", "fd00::1"]);
    let limited = |families| Service { families, ..web.clone() };
    for (families, a, aaaa) in [
        (Families::Automatic, "10.1.0.1", "fd00::1"),
        (Families::Dual, "10.1.0.1", "fd00::1"),
        (Families::V4, "10.1.0.1", ""),
        (Families::V6, "", "fd00::1"),
    ] {
        let mut case = Case::new([limited(families).into()]);
        assert_eq!((case.a("web").as_str(), case.aaaa("web").as_str()), (a, aaaa), "{families:?}");
        case.ipv6 = false;
        assert_eq!(case.aaaa("web"), "", "IPv6 is off");
    }
    assert_eq!(Case::new([vips("shop/web.shop.svc.cluster.local", &["10.1.0.1"]).into()]).aaaa("web"), "");
}

#[test]
fn addresses_of_other_networks_are_not_told() {
    let mut case =
        Case::new([vips("shop/web.shop.svc.cluster.local", &["n1/10.1.0.1", "n2/10.2.0.1"]).into()]);
    for (network, said) in [("n1", "10.1.0.1"), ("n2", "10.2.0.1"), ("n3", "")] {
        case.client.network = network.into();
        assert_eq!(case.a("web"), said, "{network}");
    }
}

#[test]
fn ranges_are_no_addresses_but_for_a_range_of_one() {
    let range =
        |text: &str| crate::address::NetworkRange { network: "".into(), range: text.parse().unwrap() };
    let only = |text: &str| Service { ranges: vec![range(text)], ..vips("shop/api.example.com", &[]) };
    assert_eq!(Case::new([only("10.3.0.0/16").into()]).a("api.example.com"), "-");
    assert_eq!(Case::new([only("10.3.0.7/32").into()]).a("api.example.com"), "10.3.0.7");
}

#[test]
fn a_host_without_an_address_is_ours_only_inside_the_cluster() {
    let headless = |key: &str| vips(key, &[]);
    let case = Case::new([
        headless("shop/db.shop.svc.cluster.local").into(),
        headless("shop/db.example.com").into(),
        headless("shop/db.shop.xsvc.cluster.local").into(),
    ]);
    assert_eq!(case.a("db"), "");
    assert_eq!(case.a("db.example.com"), "-");
    assert_eq!(case.a("db.shop.xsvc.cluster.local"), "-");
}

const DB: &str = "shop/db.shop.svc.cluster.local";

#[test]
fn a_headless_service_has_one_address_of_each_kind_per_healthy_endpoint() {
    let sick = Workload { health: Health::Unhealthy, ..pod("shop/db-2", "10.0.0.7").serving(DB, &[]) };
    let far = Workload { network: "n2".into(), ..pod("shop/db-3", "10.0.0.8").serving(DB, &[]) };
    let changes: [Change; 6] = [
        vips(DB, &[]).into(),
        pod("shop/db-0", "10.0.0.5 10.0.0.15 fd00::5").serving(DB, &[]).into(),
        pod("shop/db-1", "10.0.0.6").serving(DB, &[]).into(),
        sick.into(),
        far.into(),
        pod("shop/other", "10.0.0.9").into(),
    ];
    let mut case = Case::new(changes);
    assert_eq!(case.a("db"), "10.0.0.5 10.0.0.6");
    assert_eq!(case.aaaa("db"), "fd00::5");
    let mut all = vips(DB, &[]);
    all.load_balancing = balancing(BalanceMode::Standard, &[]).map(|mut it| {
        it.health = HealthRule::AllowAll;
        it
    });
    case.world = case.world.with(&[Change::from(all)].into_iter().collect());
    assert_eq!(case.a("db"), "10.0.0.5 10.0.0.6 10.0.0.7");
}

#[test]
fn the_pods_of_a_headless_service_have_names_below_it() {
    let elsewhere = pod("other/db-9", "10.0.0.9").serving(DB, &[]);
    let case = Case::new([
        vips(DB, &[]).into(),
        vips("shop/web.shop.svc.cluster.local", &["10.1.0.1"]).into(),
        pod("shop/db-0", "10.0.0.5 fd00::5").serving(DB, &[]).into(),
        pod("shop/web-0", "10.0.0.6").serving("shop/web.shop.svc.cluster.local", &[]).into(),
        elsewhere.into(),
    ]);
    for (name, said) in [
        ("db-0.db.shop.svc.cluster.local", "10.0.0.5"),
        ("db-0.db", "10.0.0.5"),
        ("db-0.db.shop", "10.0.0.5"),
        ("db-0.db.shop.svc", "10.0.0.5"),
        ("db-0.db.shop.svc.cluster.local.svc.cluster.local", "db-0.db.shop.svc.cluster.local > 10.0.0.5"),
        ("db-1.db.shop.svc.cluster.local", "-"),
        // It has an address of its own, and its pods no names.
        ("web-0.web.shop.svc.cluster.local", "-"),
        ("db-9.db.shop.svc.cluster.local", "-"),
    ] {
        assert_eq!(case.a(name), said, "{name}");
    }
    assert_eq!(case.aaaa("db-0.db"), "fd00::5");
}

#[test]
fn a_pod_has_a_name_made_of_its_address() {
    let case = Case::new([pod("shop/web", "10.0.0.5").into(), pod("shop/six", "fd00::5").into()]);
    assert_eq!(case.a("10-0-0-5.shop.pod.cluster.local"), "10.0.0.5");
    assert_eq!(case.aaaa("10-0-0-5.shop.pod.cluster.local"), "");
    assert_eq!(case.aaaa("fd00--5.shop.pod.cluster.local"), "fd00::5");
    for none in
        ["10-0-0-6.shop.pod.cluster.local", "10-0-0-5.other.pod.cluster.local", "web.shop.pod.cluster.local"]
    {
        assert_eq!(case.a(none), "-", "{none}");
    }
}

#[test]
fn every_order_of_addresses_is_as_likely_as_any_other() {
    struct Drawn(Vec<u64>);
    impl Pick for Drawn {
        fn below(&mut self, limit: u64) -> u64 {
            let drawn = self.0.remove(0);
            assert!(drawn < limit);
            drawn
        }
    }
    let mut orders = std::collections::BTreeSet::new();
    for draws in (0..3).flat_map(|one| (0..2).map(move |two| vec![one, two])) {
        let mut all = [ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3")];
        shuffle(&mut all, &mut Drawn(draws));
        orders.insert(all);
        all.sort();
        assert_eq!(all, [ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3")], "all are there");
    }
    assert_eq!(orders.len(), 6);
}

proptest! {
    #[test]
    fn any_name_is_answered_and_only_with_what_the_world_holds(name in "[a-z0-9.*-]{0,80}") {
        let case = Case::new([
            vips("shop/*.a", &["10.1.0.1"]).into(),
            vips("shop/a.shop.svc.cluster.local", &["10.1.0.1", "n9/10.1.0.2"]).into(),
        ]);
        if let Reply::Ours { addresses, .. } = case.reply(&name, Family::V4) {
            prop_assert_eq!(addresses, [at("10.1.0.1").ip]);
        }
    }
}
