//! Which endpoint a request gets, who is left out and comes back, and what there is no room for.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::*;
use crate::balance::{Endpoint, Pick};
use crate::http_route::RetryBudget;
use crate::sample;
use crate::workload::{Locality, Workload};

/// Chance that is the same each time.
struct Dice(u64);

impl Pick for Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn at(place: &str) -> Locality {
    let mut parts = place.split('/');
    let mut next = || parts.next().unwrap_or_default().into();
    Locality { region: next(), zone: next(), subzone: next() }
}

/// Endpoints by name, place and weight.
fn endpoints(all: &[(&str, &str, u32)]) -> Vec<Endpoint> {
    let one = |(name, place, capacity): &(&str, &str, u32)| Endpoint {
        workload: Arc::new(Workload {
            uid: (*name).into(),
            name: (*name).into(),
            locality: at(place),
            capacity: *capacity,
            ..sample::pod("shop/a", "10.0.0.1")
        }),
        target_port: 80,
    };
    all.iter().map(one).collect()
}

fn own(place: &str) -> Workload {
    Workload { locality: at(place), ..sample::pod("shop/way", "10.0.0.9") }
}

struct Run {
    ward: Ward,
    handling: Handling,
    own: Workload,
    now: Duration,
    unwell: HashSet<WorkloadUid>,
    left: Vec<Arc<Workload>>,
    dice: Dice,
}

impl Run {
    fn new(handling: Handling) -> Self {
        Self {
            ward: Ward::default(),
            handling,
            own: own("r/a/1"),
            now: secs(100),
            unwell: HashSet::new(),
            left: Vec::new(),
            dice: Dice(7),
        }
    }

    fn choose(&mut self, endpoints: &[Endpoint], hash: Option<u64>) -> Option<String> {
        let from = Choosing {
            handling: &self.handling,
            own: &self.own,
            endpoints,
            unwell: &self.unwell,
            left: &self.left,
            hash,
            now: self.now,
        };
        let chosen = self.ward.choose(&from, &mut self.dice)?;
        Some(endpoints[chosen].workload.uid.to_string())
    }

    fn counts(&mut self, endpoints: &[Endpoint], times: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            *counts.entry(self.choose(endpoints, None).unwrap_or_default()).or_default() += 1;
        }
        counts
    }

    fn fail(&mut self, uid: &str, times: usize) -> bool {
        let rule = self.handling.outlier.clone().unwrap();
        let out = |_| self.ward.came(&rule, &uid.into(), Came::Status(503), self.now);
        (0..times).map(out).last().unwrap()
    }
}

fn with(balance: Balance) -> Handling {
    Handling { balance, ..Handling::default() }
}

fn all_out(most_percent: u32) -> Handling {
    let outlier = Outlier { errors: 3, most_percent, ..Outlier::default() };
    Handling { outlier: Some(outlier), ..with(Balance::Random) }
}

#[test]
fn round_robin_goes_to_each_in_turn_and_to_the_heavier_more_often() {
    let mut run = Run::new(with(Balance::RoundRobin));
    let three = endpoints(&[("a", "", 1), ("b", "", 1), ("c", "", 1)]);
    let first: Vec<_> = (0..3).map(|_| run.choose(&three, None).unwrap()).collect();
    let second: Vec<_> = (0..3).map(|_| run.choose(&three, None).unwrap()).collect();
    assert_eq!(first, second);
    assert_eq!(run.counts(&three, 300).values().copied().collect::<Vec<_>>(), [100, 100, 100]);
    let uneven = endpoints(&[("a", "", 3), ("b", "", 1)]);
    let counts = Run::new(with(Balance::RoundRobin)).counts(&uneven, 400);
    assert!((298..=302).contains(&counts["a"]), "{counts:?}");
    // One that comes late is not given all that it has missed.
    let four = endpoints(&[("a", "", 1), ("b", "", 1), ("c", "", 1), ("d", "", 1)]);
    let counts = run.counts(&four, 40);
    assert!(counts["d"] <= 11, "{counts:?}");
}

#[test]
fn the_less_busy_of_two_is_chosen_and_with_weights_the_one_that_has_more_room() {
    let mut run = Run::new(Handling::default());
    let two = endpoints(&[("a", "", 1), ("b", "", 1)]);
    assert!(run.counts(&two, 200).values().all(|count| (70..130).contains(count)));
    for _ in 0..5 {
        run.ward.begin(&"a".into());
    }
    // Both of two by chance are the busy one in a quarter of all cases.
    let counts = run.counts(&two, 400);
    assert!((60..140).contains(&counts["a"]), "{counts:?}");
    for _ in 0..5 {
        run.ward.end(&"a".into());
    }
    assert!(run.counts(&two, 200)["a"] > 70);
    let mut run = Run::new(Handling::default());
    let uneven = endpoints(&[("a", "", 9), ("b", "", 1)]);
    let counts = run.counts(&uneven, 400);
    assert!((350..370).contains(&counts["a"]), "{counts:?}");
}

#[test]
fn nothing_is_sent_to_nobody_or_to_weights_of_nothing() {
    for balance in [Balance::LeastRequest, Balance::Random, Balance::RoundRobin] {
        let mut run = Run::new(with(balance));
        assert_eq!(run.choose(&[], None), None);
        assert_eq!(run.choose(&endpoints(&[("a", "", 0)]), None), None);
        assert_eq!(run.choose(&endpoints(&[("a", "", 0), ("b", "", 1)]), None).unwrap(), "b");
    }
}

#[test]
fn what_a_request_says_leads_to_the_same_endpoint_until_that_is_left_out() {
    for kind in [HashTable::Ring { least: 1024 }, HashTable::Maglev { size: 1021 }] {
        let balance = Balance::Hash(HashBy::SourceIp, kind);
        let mut run = Run::new(Handling { balance, ..all_out(100) });
        let three = endpoints(&[("a", "", 1), ("b", "", 1), ("c", "", 1)]);
        let home = run.choose(&three, Some(42)).unwrap();
        assert!((0..50).all(|_| run.choose(&three, Some(42)).unwrap() == home), "{kind:?}");
        assert!(run.fail(&home, 3));
        let other = run.choose(&three, Some(42)).unwrap();
        assert_ne!(home, other);
        run.now += secs(60);
        assert_eq!(run.choose(&three, Some(42)).unwrap(), home);
        // Who says nothing goes anywhere.
        assert_eq!(run.counts(&three, 100).len(), 3);
    }
}

#[test]
fn who_fails_often_enough_is_left_out_for_a_time_that_grows_and_shrinks_again() {
    let mut run = Run::new(all_out(100));
    let two = endpoints(&[("a", "", 1), ("b", "", 1)]);
    run.choose(&two, None);
    assert!(!run.fail("a", 2));
    let rule = run.handling.outlier.clone().unwrap();
    assert!(!run.ward.came(&rule, &"a".into(), Came::Status(200), run.now), "a good answer begins anew");
    assert!(run.fail("a", 3));
    assert_eq!(run.ward.left_out(), 1);
    assert_eq!(run.counts(&two, 50).keys().collect::<Vec<_>>(), ["b"]);
    for (wait, back) in [(29, false), (1, true)] {
        run.now += secs(wait);
        assert_eq!(run.counts(&two, 50).contains_key("a"), back, "after {wait} more");
    }
    // The second time is twice as long; once two intervals have gone well, it is as the first again.
    assert!(run.fail("a", 3));
    for (wait, back) in [(50, false), (20, true)] {
        run.now += secs(wait);
        assert_eq!(run.counts(&two, 50).contains_key("a"), back, "after {wait} more");
    }
    run.now += secs(40);
    run.choose(&two, None);
    assert!(run.fail("a", 3));
    run.now += secs(40);
    assert!(run.counts(&two, 50).contains_key("a"));
}

#[test]
fn no_more_are_left_out_than_may_be_and_with_none_left_nothing_is_sent_but_in_panic() {
    let ten: Vec<_> = "abcdefghij".chars().map(|name| name.to_string()).collect();
    let ten: Vec<_> = ten.iter().map(|name| (name.as_str(), "", 1)).collect();
    for (most, panic, count, wanted) in [
        (10, 0, 9, (0, 9)),
        (10, 0, 10, (1, 9)),
        (100, 0, 2, (2, 0)),
        (100, 50, 2, (2, 2)),
        (50, 0, 3, (1, 2)),
    ] {
        let mut run = Run::new(all_out(most));
        run.handling.outlier.as_mut().unwrap().panic_percent = panic;
        let all = endpoints(&ten[..count]);
        run.choose(&all, None);
        let out = all.iter().filter(|it| run.fail(it.workload.uid.as_str(), 3)).count();
        let used = run.counts(&all, 300).keys().filter(|name| !name.is_empty()).count();
        assert_eq!((out, used), wanted, "{most} % of {count}, panic below {panic} %");
    }
}

#[test]
fn what_counts_as_failing_is_as_the_rule_says() {
    use Came::{Late, Nothing, Status};
    let rule = |errors, gateway_errors, split| Outlier {
        errors,
        gateway_errors,
        split,
        most_percent: 100,
        ..Outlier::default()
    };
    for (rule, came, out) in [
        (rule(2, 0, None), &[Status(500), Status(503)][..], true),
        (rule(2, 0, None), &[Nothing, Late], true),
        (rule(2, 0, None), &[Status(500), Status(404), Status(500)], false),
        (rule(0, 2, None), &[Status(500), Status(500), Status(500)], false),
        (rule(0, 2, None), &[Status(502), Status(504)], true),
        (rule(0, 2, None), &[Status(502), Nothing], true),
        (rule(0, 0, None), &[Status(500), Nothing, Late], false),
        (rule(2, 0, Some(3)), &[Nothing, Nothing], false),
        (rule(2, 0, Some(2)), &[Nothing, Late], true),
        (rule(2, 0, Some(2)), &[Nothing, Status(200), Nothing], false),
        (rule(2, 0, Some(0)), &[Nothing, Nothing, Nothing], false),
    ] {
        let mut run = Run::new(Handling { outlier: Some(rule.clone()), ..Handling::default() });
        run.choose(&endpoints(&[("a", "", 1)]), None);
        let found = came.iter().any(|came| run.ward.came(&rule, &"a".into(), *came, run.now));
        assert_eq!(found, out, "{came:?} by {rule:?}");
    }
}

#[test]
fn places_are_left_as_long_as_others_can_be_used() {
    let all =
        endpoints(&[("near", "r/a/1", 1), ("too", "r/a/1", 1), ("zone", "r/a/2", 1), ("far", "s/x/1", 1)]);
    for (left, out, wanted) in [
        ("", "", vec!["near", "too"]),
        ("near", "", vec!["zone"]),
        ("near zone", "", vec!["far"]),
        ("near", "zone", vec!["far"]),
        ("near", "zone far", vec!["near", "too"]),
        ("near zone far", "", vec!["near", "too"]),
        ("gone", "", vec!["zone"]),
    ] {
        let mut run = Run::new(all_out(100));
        run.choose(&all, None);
        assert!(out.split_whitespace().all(|name| run.fail(name, 3)), "{out}");
        let gone = endpoints(&[("gone", "r/a/1", 1)]);
        let named = |it: &&Endpoint| left.split(' ').any(|name| name == it.workload.uid.as_str());
        run.left = all.iter().chain(&gone).filter(named).map(|it| Arc::clone(&it.workload)).collect();
        assert_eq!(run.counts(&all, 100).into_keys().collect::<Vec<_>>(), wanted, "left {left}, out {out}");
    }
}

#[test]
fn the_nearest_go_first_and_others_only_as_far_as_those_fail() {
    let all =
        endpoints(&[("near", "r/a/1", 1), ("zone", "r/a/2", 1), ("far", "s/x/1", 1), ("to", "t/x/1", 1)]);
    let failover = Near::Failover(vec![("r".into(), "t".into())]);
    for (near, outlier, order) in [
        (Near::Unsaid, true, vec![vec!["near"], vec!["zone"], vec!["far", "to"]]),
        (failover, true, vec![vec!["near"], vec!["zone"], vec!["to"], vec!["far"]]),
        (Near::Ignored, true, vec![vec!["far", "near", "to", "zone"]]),
        (Near::Unsaid, false, vec![vec!["far", "near", "to", "zone"]]),
    ] {
        let mut run = Run::new(Handling { near, ..all_out(100) });
        if !outlier {
            run.handling.outlier = None;
        }
        for names in &order {
            assert_eq!(run.counts(&all, 200).keys().collect::<Vec<_>>(), *names, "{:?}", run.handling.near);
            if outlier {
                names.iter().for_each(|name| assert!(run.fail(name, 3)));
            }
        }
    }
}

#[test]
fn a_place_that_is_not_whole_shares_with_the_next() {
    let all = endpoints(&[("n1", "r/a/1", 1), ("n2", "r/a/1", 1), ("far", "s/x/1", 1)]);
    let mut run = Run::new(all_out(100));
    run.choose(&all, None);
    assert!(run.fail("n1", 3));
    // Half of it holds for seventy of a hundred.
    let counts = run.counts(&all, 1_000);
    assert!((640..760).contains(&counts["n2"]), "{counts:?}");
    assert_eq!(counts["n2"] + counts["far"], 1_000);
}

#[test]
fn labels_in_an_order_say_who_goes_first_and_a_given_value_stands_for_the_waypoints_own() {
    let wanted = |scope, value: Option<&str>| Wanted { scope, value: value.map(Into::into) };
    let all = endpoints(&[("a", "r/a/1", 1), ("b", "r/b/1", 1), ("c", "s/a/1", 1)]);
    for (priority, first) in [
        (vec![wanted(Scope::Region, None), wanted(Scope::Zone, None)], vec!["a"]),
        (vec![wanted(Scope::Region, None)], vec!["a", "b"]),
        (vec![wanted(Scope::Region, Some("s"))], vec!["c"]),
        (vec![wanted(Scope::Region, None), wanted(Scope::Zone, Some("b"))], vec!["b"]),
    ] {
        let mut run = Run::new(Handling { near: Near::Priority(priority.clone()), ..all_out(100) });
        assert_eq!(run.counts(&all, 100).keys().collect::<Vec<_>>(), first, "{priority:?}");
    }
}

#[test]
fn shares_of_places_are_kept_and_what_has_none_gets_nothing() {
    let all = endpoints(&[("a", "r/a/1", 1), ("b", "r/b/1", 1), ("b2", "r/b/2", 1), ("c", "s/a/1", 1)]);
    let to = vec![(Place::read("r/a/*"), 80), (Place::read("r/b"), 20)];
    let near = Near::Shares(vec![Shares { from: Place::read("r/*"), to }]);
    let mut run = Run::new(Handling { near, ..with(Balance::Random) });
    let counts = run.counts(&all, 1_000);
    assert!((760..840).contains(&counts["a"]) && !counts.contains_key("c"), "{counts:?}");
    // A place without endpoints leaves its share to the others.
    assert_eq!(run.counts(&all[1..], 50).keys().collect::<Vec<_>>(), ["b", "b2"]);
    assert_eq!(run.choose(&all[3..], None), None);
    // Nothing was said of waypoints elsewhere.
    run.own = own("x/y/z");
    assert_eq!(run.counts(&all, 200).len(), 4);
}

#[test]
fn one_that_is_new_gets_little_at_first() {
    let warmup = Some(Warmup { duration: secs(100), least_percent: 10, aggression: 1_000 });
    let mut run = Run::new(Handling { warmup, ..with(Balance::RoundRobin) });
    let old = endpoints(&[("a", "", 1)]);
    run.choose(&old, None);
    run.now += secs(200);
    let both = endpoints(&[("a", "", 1), ("b", "", 1)]);
    run.choose(&both, None);
    for (age, range) in [(1, 60..130), (50, 300..360), (200, 480..520)] {
        run.now = secs(300 + age);
        let counts = run.counts(&both, 1_000);
        assert!(range.contains(&counts["b"]), "after {age}: {counts:?}");
    }
}

#[test]
fn there_is_no_more_of_anything_than_there_may_be() {
    let limits = Limits {
        connections: Some(1),
        pending: Some(1),
        requests: Some(2),
        retries: Some(1),
        ..Limits::default()
    };
    let mut ward = Ward::default();
    assert_eq!([ward.enter(&limits, None), ward.enter(&limits, None)], [Ok(()), Ok(())]);
    assert_eq!(ward.enter(&limits, None), Err(Overflow::Requests));
    ward.leave();
    assert_eq!(ward.enter(&limits, None), Ok(()));
    assert_eq!((ward.wait(&limits), ward.wait(&limits)), (Ok(()), Err(Overflow::Pending)));
    ward.waited();
    assert_eq!(ward.wait(&limits), Ok(()));
    assert_eq!(ward.connect(&limits, false), Ok(()));
    assert_eq!(ward.connect(&limits, false), Err(Overflow::Connections));
    assert_eq!(ward.connect(&limits, true), Ok(()), "the first to an endpoint");
    assert!(!ward.is_idle());
    assert!(ward.retry(&limits, None) && !ward.retry(&limits, None));
    ward.retried();
    let budget = Some(RetryBudget { percent: 0, floor: 0 });
    assert!(!ward.retry(&limits, budget) && ward.retry(&limits, None));
}

#[test]
fn what_a_request_says_is_read_where_it_is_said() {
    let headers = |all: &[(&'static str, &'static str)]| -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    };
    let read = |by: &HashBy, all: &[(&'static str, &'static str)], query: Option<&str>, client: &str| {
        let given = Given { headers: &headers(all), query, client: client.parse().unwrap() };
        affinity(by, given, &mut Dice(1))
    };
    let user = HashBy::Header("x-user".parse().unwrap());
    let one = read(&user, &[("x-user", "ann")], None, "10.0.0.1");
    assert!(one.hash.is_some());
    assert_eq!(one, read(&user, &[("x-user", "ann"), ("x-other", "b")], Some("a=b"), "10.0.0.2"));
    assert_ne!(one, read(&user, &[("x-user", "bob")], None, "10.0.0.1"));
    assert_eq!(read(&user, &[], None, "10.0.0.1").hash, None);
    let query = HashBy::Query("u".into());
    assert_eq!(read(&query, &[], Some("x=1&u=ann"), "::1").hash, one.hash);
    assert_eq!(read(&query, &[], Some("uu=ann"), "::1").hash, None);
    let cookie = |ttl| HashBy::Cookie { name: "u".into(), path: "/a".into(), ttl };
    for text in ["u=ann", "x=y; u=\"ann\"", "x=y;u=ann ; u=bob"] {
        let found = read(&cookie(Some(secs(60))), &[("cookie", text)], None, "::1");
        assert_eq!((found.hash, found.cookie), (one.hash, None), "{text}");
    }
    assert_eq!(read(&cookie(None), &[("cookie", "x=y")], None, "::1"), Affinity::default());
    for (ttl, wanted) in [(60, "; Max-Age=60; Path=/a; HttpOnly"), (0, "; Path=/a; HttpOnly")] {
        let found = read(&cookie(Some(secs(ttl))), &[], None, "::1");
        let text = found.cookie.unwrap().header().to_str().unwrap().to_owned();
        let (given, rest) = text.strip_prefix("u=\"").unwrap().split_once('"').unwrap();
        assert_eq!(rest, wanted);
        // Who brings it back comes to the same.
        let back: &'static str = format!("u={given}").leak();
        assert_eq!(read(&cookie(None), &[("cookie", back)], None, "::1").hash, found.hash);
    }
    let ip = |client| read(&HashBy::SourceIp, &[], None, client).hash;
    assert!(ip("10.0.0.1") == ip("10.0.0.1") && ip("10.0.0.1") != ip("10.0.0.2"));
}

#[test]
fn a_subset_that_is_not_there_is_no_other_and_a_port_goes_before_the_host() {
    let one = |balance| Handling { balance, ..Handling::default() };
    let subset = Subset {
        members: ["a".into()].into(),
        handling: one(Balance::Random),
        ports: BTreeMap::from([(81, one(Balance::LeastRequest))]),
    };
    let traffic = Traffic {
        service: "shop/web.shop.svc".parse().unwrap(),
        handling: one(Balance::RoundRobin),
        ports: BTreeMap::from([(81, one(Balance::Random))]),
        subsets: BTreeMap::from([("v1".into(), subset)]),
    };
    let of =
        |port, subset| traffic.of(port, subset).map(|(it, members)| (it.balance.clone(), members.is_some()));
    assert_eq!(of(80, None), Some((Balance::RoundRobin, false)));
    assert_eq!(of(81, None), Some((Balance::Random, false)));
    assert_eq!(of(80, Some("v1")), Some((Balance::Random, true)));
    assert_eq!(of(81, Some("v1")), Some((Balance::LeastRequest, true)));
    assert_eq!(of(80, Some("v2")), None);
}
