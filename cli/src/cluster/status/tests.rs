//! Verdicts about meshes that are well, and about such that are not.

use super::gather::{PodFact, metric};
use super::*;

fn part(name: &str, node: &str, ready: bool) -> Part {
    Part {
        namespace: "istio-system".into(),
        name: name.into(),
        node: node.into(),
        ready,
        version: "1.2".into(),
        phase: if ready { "Running" } else { "CrashLoopBackOff" }.into(),
        restarts: 0,
    }
}

fn pod(name: &str, standing: Standing) -> PodFact {
    let stand = Stand { standing, why: format!("because of {name}") };
    PodFact { namespace: "shop".into(), name: name.into(), node: "n1".into(), stand }
}

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().unwrap()
}

fn well() -> Facts {
    let said = |name: &str| {
        format!(
            r#"[{{"node": "ztunnel~1~{name}.istio-system~x", "types": [{{"type": "a.Address", "sent": 1, "answered": 1}}]}}]"#
        )
    };
    let read = |name: &str| crate::cluster::proxies::read("istiod-a", &said(name)).unwrap();
    Facts {
        desired: 1,
        replicas: vec![part("istiod-a", "n1", true)],
        is_ours: true,
        leader: Some("istiod-a".into()),
        root_ends: Some("2036-11-21T00:00:00Z".parse().unwrap()),
        nodes: vec![("n1".into(), true), ("n2".into(), true)],
        ztunnels: vec![part("zt-1", "n1", true), part("zt-2", "n2", true)],
        daemons: vec![part("cni-1", "n1", true), part("cni-2", "n2", true)],
        proxies: [read("zt-1"), read("zt-2")].concat(),
        namespaces: vec![("shop".into(), Some("ambient".into())), ("other".into(), None)],
        pods: vec![pod("web", Standing::Enrolled), pod("job", Standing::Out)],
        troubles: Vec::new(),
    }
}

#[test]
fn a_mesh_that_is_well_is_said_to_be() {
    let status = Status::of(well(), now());
    assert_eq!(status.problems, Vec::<String>::new());
    assert!(status.healthy);
    assert!(status.nodes.iter().all(|node| node.synced == Some(true)));
    let [shop] = status.namespaces.as_slice() else { panic!("{:?}", status.namespaces) };
    assert_eq!((shop.name.as_str(), shop.enrolled, shop.out), ("shop", 1, 1));
    let text = text(&status);
    for words in
        ["Control plane: 1/1 ready", "istiod-a", "2036-11-21", "The mesh is well.", "Waypoints: none"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn each_thing_that_is_wrong_is_named_and_makes_it_fail() {
    type Spoil = fn(&mut Facts);
    let cases: [(Spoil, &str); 13] = [
        (|it| it.replicas.clear(), "no control plane"),
        (|it| it.desired = 2, "1 of 2 replicas"),
        (|it| it.replicas = vec![part("istiod-a", "n1", false)], "istiod-a is CrashLoopBackOff"),
        (|it| it.leader = None, "no replica leads"),
        (|it| it.root_ends = Some("2026-12-01T00:00:00Z".parse().unwrap()), "ends in 10 days"),
        (|it| it.nodes[1].1 = false, "node n2 is not ready"),
        (|it| it.ztunnels.truncate(1), "node n2 has no ztunnel"),
        (|it| it.ztunnels[1].ready = false, "node n2: ztunnel zt-2"),
        (|it| it.daemons.truncate(1), "node n2 has no node daemon"),
        (|it| it.proxies[0].istiod = None, "zt-1.istio-system is not connected"),
        (|it| it.pods.push(pod("late", Standing::NotEnrolled)), "are to be in the mesh and are not: 1"),
        (|it| it.pods.push(pod("stays", Standing::Leaving)), "are not to be: 1"),
        (|it| it.troubles.push("istiod-a cannot be asked".into()), "cannot be asked"),
    ];
    for (spoil, problem) in cases {
        let mut facts = well();
        spoil(&mut facts);
        let status = Status::of(facts, now());
        assert!(!status.healthy, "{problem}");
        assert!(
            status.problems.iter().any(|said| said.contains(problem)),
            "{problem}: {:?}",
            status.problems
        );
        assert!(text(&status).contains(problem), "{problem}");
    }
}

#[test]
fn pods_that_are_not_where_they_are_to_be_are_named_with_why_up_to_a_bound() {
    let mut facts = well();
    facts.pods.extend((0..25).map(|i| pod(&format!("late-{i:02}"), Standing::NotEnrolled)));
    let text = text(&Status::of(facts, now()));
    assert!(text.contains("shop/late-00 on n1: because of late-00"), "{text}");
    assert!(!text.contains("late-24") && text.contains("and 5 more"), "{text}");
}

#[test]
fn another_control_plane_has_no_lease_of_ours_and_that_is_no_trouble() {
    let facts = Facts { is_ours: false, leader: None, ..well() };
    assert!(Status::of(facts, now()).healthy);
}

#[test]
fn a_gauge_is_found_by_its_whole_name() {
    let metrics = "# HELP a\na_left 5\na 1790000000\nb{x=\"y\"} 2\n";
    assert_eq!(metric(metrics, "a"), Some(1_790_000_000));
    assert_eq!(metric(metrics, "b"), None);
    assert_eq!(metric("a 0\n", "a"), None);
    assert_eq!(metric("a 1790000000.25\n", "a"), Some(1_790_000_000));
}
