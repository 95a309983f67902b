//! What policies mean, by tables, and what must hold whatever they say.

use proptest::prelude::*;

use super::*;
use crate::delta::Delta;
use crate::policy::{AccountMatch, Clause, Condition, Match, RangeMatch, Rule, TextMatch};
use crate::sample::{identity, pod, policy, policy_key, socket, world};

fn exact(text: &str) -> TextMatch {
    TextMatch::Exact(text.into())
}

fn any<T>(values: impl IntoIterator<Item = T>) -> Condition<T> {
    Condition { any: values.into_iter().collect(), none: vec![] }
}

fn none<T>(values: impl IntoIterator<Item = T>) -> Condition<T> {
    Condition { any: vec![], none: values.into_iter().collect() }
}

fn principal(text: &str) -> Match {
    Match { principals: any([exact(text)]), ..Match::default() }
}

fn range(text: &str) -> RangeMatch {
    RangeMatch::Range(text.parse().unwrap())
}

fn account(namespace: &str, account: &str) -> AccountMatch {
    AccountMatch { namespace: namespace.parse().unwrap(), service_account: account.parse().unwrap() }
}

const WEB: &str = "cluster.local/ns/shop/sa/web";

/// The verdict on `peer` (plaintext when empty) reaching shop/db at 10.0.0.2:80 from 10.0.0.1.
fn verdict_in(world: &Snapshot, peer: &str) -> Verdict {
    let peer = (!peer.is_empty()).then(|| identity(peer));
    let dest = world.workload(&"Kubernetes//Pod/shop/db".into()).unwrap();
    let (from, to) = (ClientAddr::new(socket("10.0.0.1:9")), OriginalDst::new(socket("10.0.0.2:80")));
    judge(world, dest, peer.as_ref(), from, to)
}

fn db() -> Workload {
    pod("shop/db", "10.0.0.2")
}

fn matches(action: Action, m: Match, peer: &str) -> bool {
    let world = world([db().into(), policy("shop/p", PolicyScope::Global, action, vec![m]).into()]);
    verdict_in(&world, peer).is_allowed() == (action == Action::Allow)
}

/// What is demanded, and whether it holds for shop/web, for other/web and for plaintext.
type Case = (&'static str, Match, [bool; 3]);

fn with(change: fn(&mut Match)) -> Match {
    let mut m = Match::default();
    change(&mut m);
    m
}

fn peer_conditions() -> Vec<Case> {
    vec![
        ("nothing", Match::default(), [false, false, false]),
        ("namespace", with(|m| m.namespaces = any([exact("shop")])), [true, false, false]),
        ("not namespace", with(|m| m.namespaces = none([exact("shop")])), [false, true, true]),
        (
            "namespace prefix",
            with(|m| m.namespaces = any([TextMatch::Prefix("sh".into())])),
            [true, false, false],
        ),
        (
            "namespace suffix",
            with(|m| m.namespaces = any([TextMatch::Suffix("op".into())])),
            [true, false, false],
        ),
        ("any namespace", with(|m| m.namespaces = any([TextMatch::Presence])), [true, true, false]),
        ("empty namespace", with(|m| m.namespaces = any([exact("")])), [false, false, false]),
        ("account", with(|m| m.service_accounts = any([account("shop", "web")])), [true, false, false]),
        ("not account", with(|m| m.service_accounts = none([account("shop", "web")])), [false, true, true]),
        ("principal", with(|m| m.principals = any([exact(WEB)])), [true, false, false]),
        ("not principal", with(|m| m.principals = none([exact(WEB)])), [false, true, true]),
        ("any principal", with(|m| m.principals = any([TextMatch::Presence])), [true, true, false]),
        ("no principal", with(|m| m.principals = none([TextMatch::Presence])), [false, false, true]),
        (
            "principal with scheme",
            with(|m| m.principals = any([exact("spiffe://cluster.local/ns/shop/sa/web")])),
            [false, false, false],
        ),
        ("case", with(|m| m.namespaces = any([exact("Shop")])), [false, false, false]),
    ]
}

fn address_conditions() -> Vec<Case> {
    vec![
        ("source", with(|m| m.source_ips = any([range("10.0.0.0/31")])), [true, true, true]),
        ("other source", with(|m| m.source_ips = any([range("10.0.0.2/32")])), [false, false, false]),
        ("not source", with(|m| m.source_ips = none([range("10.0.0.0/8")])), [false, false, false]),
        ("source of the other family", with(|m| m.source_ips = any([range("::/0")])), [false, false, false]),
        ("destination", with(|m| m.destination_ips = any([range("10.0.0.2/32")])), [true, true, true]),
        (
            "not destination",
            with(|m| m.destination_ips = none([range("10.0.0.2/32")])),
            [false, false, false],
        ),
        ("port", with(|m| m.destination_ports = any([80])), [true, true, true]),
        ("other port", with(|m| m.destination_ports = any([443])), [false, false, false]),
        ("not port", with(|m| m.destination_ports = none([80])), [false, false, false]),
        (
            "all of several",
            with(|m| {
                m.destination_ports = any([443, 80]);
                m.namespaces = any([exact("shop")]);
            }),
            [true, false, false],
        ),
    ]
}

#[test]
fn each_condition_and_its_negation_reads_plaintext_and_identity_as_specified() {
    for (what, m, wanted) in peer_conditions().into_iter().chain(address_conditions()) {
        for action in [Action::Allow, Action::Deny] {
            let found = ["shop/web", "other/web", ""].map(|peer| matches(action, m.clone(), peer));
            assert_eq!(found, wanted, "{what}, {action:?}");
        }
    }
}

#[test]
fn a_range_that_cannot_be_read_never_widens_a_policy() {
    let unreadable = || vec![RangeMatch::Unreadable];
    for (what, any, none, allow, deny) in [
        ("accepted", unreadable(), vec![], false, true),
        ("refused", vec![], unreadable(), false, true),
        (
            "accepted beside one that hits",
            vec![RangeMatch::Unreadable, range("10.0.0.1/32")],
            vec![],
            true,
            true,
        ),
        (
            "refused beside one that hits",
            vec![],
            vec![RangeMatch::Unreadable, range("10.0.0.1/32")],
            false,
            false,
        ),
    ] {
        for source in [true, false] {
            let mut m = Match::default();
            let place = if source { &mut m.source_ips } else { &mut m.destination_ips };
            *place = Condition { any: any.clone(), none: none.clone() };
            if !source {
                // The same table, with the destination's address in place of the source's.
                for r in place.any.iter_mut().chain(&mut place.none).filter(|r| **r == range("10.0.0.1/32")) {
                    *r = range("10.0.0.2/32");
                }
            }
            assert_eq!(matches(Action::Allow, m.clone(), "shop/web"), allow, "{what}, allow");
            assert_eq!(matches(Action::Deny, m, "shop/web"), deny, "{what}, deny");
        }
    }
}

#[test]
fn empty_things_match_as_specified() {
    let clause = |matches| Clause { matches };
    let hit = || Match { destination_ports: any([80]), ..Match::default() };
    let miss = || Match { destination_ports: any([81]), ..Match::default() };
    for (what, rules, wanted) in [
        ("no rules", vec![], false),
        ("a rule without clauses", vec![Rule::default()], true),
        ("a clause without matches", vec![Rule { clauses: vec![Clause::default()] }], true),
        ("an empty match", vec![Rule { clauses: vec![clause(vec![Match::default()])] }], false),
        (
            "an empty match beside one",
            vec![Rule { clauses: vec![clause(vec![Match::default(), hit()])] }],
            true,
        ),
        ("clauses are and", vec![Rule { clauses: vec![clause(vec![hit()]), clause(vec![miss()])] }], false),
        ("rules are or", vec![Rule { clauses: vec![clause(vec![miss()])] }, Rule::default()], true),
    ] {
        let mut p = policy("shop/p", PolicyScope::Global, Action::Deny, vec![]);
        p.rules = rules;
        let denied = !verdict_in(&world([db().into(), p.into()]), "shop/web").is_allowed();
        assert_eq!(denied, wanted, "{what}");
    }
}

#[test]
fn deny_goes_before_missing_before_allow() {
    let yes = || principal(WEB);
    let no = || principal("cluster.local/ns/shop/sa/nobody");
    let allow = |m| policy("shop/allow", PolicyScope::Namespace, Action::Allow, vec![m]);
    let deny = |m| policy("shop/deny", PolicyScope::Global, Action::Deny, vec![m]);
    let mut choosy = db();
    choosy.policies = vec![policy_key("shop/absent")];
    let denied = |key| Verdict::Deny(Denial::Policy(policy_key(key)));
    let nothing = Verdict::Deny(Denial::NothingAllows { considered: vec![policy_key("shop/allow")] });
    let missing = Verdict::Deny(Denial::PolicyMissing(policy_key("shop/absent")));
    let by = |key: &str| Verdict::Allow { by: Some(policy_key(key)) };
    for (what, world, wanted) in [
        ("nothing", world([db().into()]), Verdict::Allow { by: None }),
        ("a deny that misses", world([db().into(), deny(no()).into()]), Verdict::Allow { by: None }),
        ("a deny", world([db().into(), deny(yes()).into(), allow(yes()).into()]), denied("shop/deny")),
        ("an allow", world([db().into(), deny(no()).into(), allow(yes()).into()]), by("shop/allow")),
        ("an allow that misses", world([db().into(), allow(no()).into()]), nothing),
        ("a missing one", world([choosy.clone().into(), allow(yes()).into()]), missing),
        ("a deny beside a missing one", world([choosy.into(), deny(yes()).into()]), denied("shop/deny")),
    ] {
        assert_eq!(verdict_in(&world, "shop/web"), wanted, "{what}");
    }
}

#[test]
fn scope_and_selection_say_whom_a_policy_concerns() {
    let deny_all = |key: &str, scope| {
        let mut p = policy(key, scope, Action::Deny, vec![]);
        p.rules = vec![Rule::default()];
        p
    };
    let mut chosen = db();
    chosen.policies = vec![policy_key("shop/p"), policy_key("root/p")];
    for (key, scope, plain, listed) in [
        ("root/p", PolicyScope::Global, true, true),
        ("shop/p", PolicyScope::Namespace, true, true),
        ("root/p", PolicyScope::Namespace, false, true),
        ("shop/p", PolicyScope::Selector, false, true),
    ] {
        let other = if key == "root/p" { "shop/p" } else { "root/p" };
        let harmless = policy(other, PolicyScope::Selector, Action::Deny, vec![]);
        for (dest, wanted) in [(db(), plain), (chosen.clone(), listed)] {
            let world = world([dest.into(), deny_all(key, scope).into(), harmless.clone().into()]);
            assert_eq!(!verdict_in(&world, "shop/web").is_allowed(), wanted, "{key} {scope:?}");
            let dest = world.workload(&"Kubernetes//Pod/shop/db".into()).unwrap();
            let mut keys: Vec<_> = applicable(&world, dest).policies.iter().map(|p| &p.key).collect();
            let count = keys.len();
            keys.dedup();
            assert_eq!(keys.len(), count, "each applies once");
        }
    }
}

#[test]
fn a_dry_run_is_reported_and_changes_nothing() {
    let dry = |key: &str, action, m| {
        let mut p = policy(key, PolicyScope::Global, action, vec![m]);
        p.dry_run = true;
        p
    };
    let miss = || principal("nobody");
    let enforced = policy("shop/e", PolicyScope::Global, Action::Allow, vec![principal(WEB)]);
    let key = policy_key("shop/p");
    for (policies, wanted) in [
        (vec![dry("shop/p", Action::Deny, principal(WEB))], vec![Rehearsal::WouldDeny(key.clone())]),
        (vec![dry("shop/p", Action::Deny, miss())], vec![]),
        (vec![dry("shop/p", Action::Allow, principal(WEB))], vec![Rehearsal::WouldAllow(key)]),
        (vec![dry("shop/p", Action::Allow, miss())], vec![Rehearsal::NothingWouldAllow]),
        (vec![dry("shop/p", Action::Allow, miss()), enforced], vec![]),
    ] {
        let world = world([db().into()]).with(&policies.into_iter().map(Into::into).collect::<Delta>());
        let dest = world.workload(&"Kubernetes//Pod/shop/db".into()).unwrap();
        let (from, to) = (ClientAddr::new(socket("10.0.0.1:9")), OriginalDst::new(socket("10.0.0.2:80")));
        let opinion = consider(&world, dest, Some(&identity("shop/web")), from, to);
        assert!(opinion.verdict.is_allowed());
        assert_eq!(opinion.dry_run, wanted);
    }
}

fn some_match() -> impl Strategy<Value = Match> {
    let text = prop_oneof![
        Just(TextMatch::Presence),
        Just(exact("shop")),
        Just(exact(WEB)),
        Just(TextMatch::Prefix("cluster.local".into())),
        Just(TextMatch::Suffix("db".into())),
    ];
    let ranges = prop_oneof![
        Just(RangeMatch::Unreadable),
        Just(range("10.0.0.0/8")),
        Just(range("10.0.0.1/32")),
        Just(range("192.168.0.0/16")),
    ];
    let condition = |list: BoxedStrategy<Vec<TextMatch>>| {
        (list.clone(), list).prop_map(|(any, none)| Condition { any, none })
    };
    let texts = prop::collection::vec(text, 0..2).boxed();
    let ranges = prop::collection::vec(ranges, 0..2).boxed();
    let ports = prop::collection::vec(prop_oneof![Just(80_u16), Just(443)], 0..2).boxed();
    (
        condition(texts.clone()),
        condition(texts),
        (ranges.clone(), ranges).prop_map(|(any, none)| Condition { any, none }),
        (ports.clone(), ports).prop_map(|(any, none)| Condition { any, none }),
    )
        .prop_map(|(namespaces, principals, source_ips, destination_ports)| Match {
            namespaces,
            principals,
            source_ips,
            destination_ports,
            ..Match::default()
        })
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let clause = prop::collection::vec(some_match(), 0..3).prop_map(|matches| Clause { matches });
    let rule = prop::collection::vec(clause, 0..3).prop_map(|clauses| Rule { clauses });
    let scope =
        prop_oneof![Just(PolicyScope::Global), Just(PolicyScope::Namespace), Just(PolicyScope::Selector)];
    let action = prop_oneof![Just(Action::Allow), Just(Action::Deny)];
    (0..4_u8, scope, action, prop::collection::vec(rule, 0..3), prop::bool::weighted(0.2)).prop_map(
        |(name, scope, action, rules, dry_run)| Policy {
            key: policy_key(&format!("shop/p{name}")),
            scope,
            action,
            rules,
            dry_run,
        },
    )
}

fn allowed_peers(world: &Snapshot) -> [bool; 3] {
    ["shop/web", "other/web", ""].map(|peer| verdict_in(world, peer).is_allowed())
}

proptest! {
    #[test]
    fn another_deny_policy_never_lets_more_in(
        policies in prop::collection::vec(some_policy(), 0..5), mut deny in some_policy(), listed in 0..4_u8,
    ) {
        let mut dest = db();
        dest.policies = vec![policy_key(&format!("shop/p{listed}"))];
        let known = world([dest.into()]).with(&policies.into_iter().map(Into::into).collect::<Delta>());
        // A key of its own: replacing an allow policy is a different matter.
        (deny.key, deny.action) = (policy_key("shop/another"), Action::Deny);
        let stricter = known.with(&Delta { changes: vec![deny.into()] });
        for (before, after) in allowed_peers(&known).into_iter().zip(allowed_peers(&stricter)) {
            prop_assert!(before || !after);
        }
    }

    #[test]
    fn a_policy_in_dry_run_never_changes_a_verdict(
        policies in prop::collection::vec(some_policy(), 0..5), mut dry in some_policy(),
    ) {
        let known = world([db().into()]).with(&policies.into_iter().map(Into::into).collect::<Delta>());
        (dry.key, dry.dry_run) = (policy_key("shop/another"), true);
        let rehearsed = known.with(&Delta { changes: vec![dry.into()] });
        prop_assert_eq!(allowed_peers(&known), allowed_peers(&rehearsed));
    }
}

#[test]
fn who_is_led_through_a_waypoint_is_kept_out_for_itself_and_let_in_as_itself_or_as_the_waypoint() {
    let way = "cluster.local/ns/shop/sa/way";
    let from = |block: &str| {
        let range = RangeMatch::Range(block.parse().unwrap());
        Match { source_ips: any([range]), ..Match::default() }
    };
    let led = |action, m: Match| {
        let world = world([db().into(), policy("shop/p", PolicyScope::Global, action, vec![m]).into()]);
        let dest = world.workload(&"Kubernetes//Pod/shop/db".into()).unwrap();
        let (from, to) = (ClientAddr::new(socket("192.0.2.7:9")), OriginalDst::new(socket("10.0.0.2:80")));
        consider_led(&world, dest, &identity("shop/way"), from, to).verdict.is_allowed()
    };
    let both = |a: Match, b: Match| Match { principals: a.principals, ..b };
    for (name, action, m, wanted) in [
        // STRICT, as it comes to us: whoever has no principal.
        ("strict", Action::Deny, with(|m| m.principals = none([TextMatch::Presence])), false),
        ("deny its address", Action::Deny, from("192.0.2.0/24"), false),
        ("deny the waypoint", Action::Deny, principal(way), true),
        ("allow the waypoint", Action::Allow, principal(way), true),
        (
            "allow the waypoint's namespace",
            Action::Allow,
            with(|m| m.namespaces = any([exact("shop")])),
            true,
        ),
        ("allow somebody else", Action::Allow, principal(WEB), false),
        ("allow the pod itself", Action::Allow, principal("cluster.local/ns/shop/sa/db"), false),
        ("allow its address", Action::Allow, from("192.0.2.0/24"), true),
        ("allow another address", Action::Allow, from("10.0.0.0/8"), false),
        ("allow the waypoint there", Action::Allow, both(principal(way), from("192.0.2.0/24")), true),
        ("allow the waypoint elsewhere", Action::Allow, both(principal(way), from("10.0.0.0/8")), false),
    ] {
        assert_eq!(led(action, m), wanted, "{name}");
    }
}
