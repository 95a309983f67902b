//! The client's end alone: what it sends, when it acknowledges, what it retains, when it tries again.

use std::sync::Arc;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::request_policy::RequestPolicy;
use ambit_wire::convert::encode;
use ambit_wire::pb::discovery::{Payload, Resource};

use super::*;
use crate::loopback::node;
use crate::sample::{demand, gone, pod, policy, service};

const ADDRESS: ResourceType = ResourceType::Address;

fn resource(change: &Change, version: &str) -> Resource {
    let (key, encoded) = encode(change);
    let value = encoded.unwrap().body;
    Resource {
        version: version.into(),
        resource: Some(Payload { type_url: key.kind().url().into(), value }),
        name: key.to_string(),
        ..Resource::default()
    }
}

fn response(
    kind: ResourceType,
    nonce: &str,
    resources: Vec<Resource>,
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.url().into(),
        nonce: nonce.into(),
        resources,
        removed_resources: removed.iter().map(ToString::to_string).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn bad(name: &str) -> Resource {
    let payload = Payload { type_url: ADDRESS.url().into(), value: vec![0x0a, 0x02, 0x28, 0x09].into() };
    Resource { name: name.into(), version: "v9".into(), resource: Some(payload), ..Resource::default() }
}

fn connected(mode: Mode) -> Subscriber {
    let mut subscriber = Subscriber::new(node("ztunnel", "n1"), mode);
    assert_eq!(subscriber.start(), [Action::Open]);
    let _ = subscriber.on_opened();
    subscriber
}

fn sent(actions: Vec<Action>) -> Vec<DeltaDiscoveryRequest> {
    actions
        .into_iter()
        .map(|action| match action {
            Action::Send(request) => *request,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn batch(actions: Vec<Action>) -> Batch {
    let [Action::Apply(batch)] = <[Action; 1]>::try_from(actions).unwrap() else { panic!("a batch") };
    batch
}

/// What a new stream would report as held.
fn reported(subscriber: &mut Subscriber) -> Vec<(String, String)> {
    let requests = sent(subscriber.on_opened());
    requests.into_iter().flat_map(|request| request.initial_resource_versions).collect()
}

#[test]
fn the_first_requests_ask_for_both_types_in_order_and_say_who_asks() {
    let mut subscriber = Subscriber::new(node("ztunnel", "n1"), Mode::Wildcard);
    let _ = subscriber.start();
    let requests = sent(subscriber.on_opened());
    let urls: Vec<&str> = requests.iter().map(|request| request.type_url.as_str()).collect();
    assert_eq!(urls, [ADDRESS.url(), ResourceType::Authorization.url()]);
    for request in &requests {
        assert_eq!(request.node, Some(node("ztunnel", "n1")));
        assert!(request.resource_names_subscribe.is_empty() && request.initial_resource_versions.is_empty());
    }
}

#[test]
fn an_acknowledgement_waits_until_the_batch_is_in_force() {
    let mut subscriber = connected(Mode::Wildcard);
    let actions = subscriber.on_response(response(ADDRESS, "n1", vec![resource(&pod("a", 1), "v1")], &[]));
    let batch = batch(actions);
    assert_eq!(batch.delta.changes, [pod("a", 1)]);
    let answers = sent(subscriber.on_applied());
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].response_nonce.as_str(), &answers[0].error_detail), ("n1", &None));
    assert_eq!(answers[0].node, None);
    assert_eq!(subscriber.on_applied(), [], "nothing is acknowledged twice");
}

#[test]
fn bad_resources_are_refused_by_name_and_the_rest_takes_effect() {
    let mut subscriber = connected(Mode::Wildcard);
    let resources = vec![bad("x"), resource(&pod("a", 1), "v1"), bad("y")];
    let batch = batch(subscriber.on_response(response(ADDRESS, "n1", resources, &[])));
    assert_eq!(batch.delta.changes, [pod("a", 1)]);
    let answer = sent(subscriber.on_applied()).remove(0);
    let text = answer.error_detail.unwrap().message;
    let reason = "tunnel_protocol is 9, which is unknown here";
    assert!(
        text.starts_with("x: namespace is refused") || text == format!("x: {reason}; y: {reason}"),
        "{text}"
    );
    assert!(text.contains("; y: "), "{text}");
    assert_eq!(reported(&mut subscriber), [("Kubernetes//Pod/ns/a".into(), "v1".into())]);
}

#[test]
fn one_bad_resource_does_not_keep_a_node_from_being_in_step() {
    let mut subscriber = connected(Mode::Wildcard);
    let _ = subscriber.on_response(response(ADDRESS, "n1", vec![bad("x")], &[]));
    let _ = subscriber.on_response(response(ResourceType::Authorization, "n2", vec![], &[]));
    let _ = subscriber.on_applied();
    assert!(!subscriber.is_in_step(), "handed on is not in force");
    let _ = subscriber.on_applied();
    assert!(subscriber.is_in_step());
}

#[test]
fn a_refused_change_leaves_the_version_that_is_in_force() {
    let mut subscriber = connected(Mode::Wildcard);
    let _ = subscriber.on_response(response(ADDRESS, "n1", vec![resource(&pod("a", 1), "v1")], &[]));
    let batch =
        batch(subscriber.on_response(response(ADDRESS, "n2", vec![bad("Kubernetes//Pod/ns/a")], &[])));
    assert!(batch.delta.is_empty());
    assert_eq!(reported(&mut subscriber), [("Kubernetes//Pod/ns/a".into(), "v1".into())]);
}

#[test]
fn what_is_demanded_of_requests_and_does_not_read_lets_nobody_in_until_it_does_or_is_gone() {
    const DEMAND: ResourceType = ResourceType::Policy;
    let unreadable = |name: &str| Resource {
        resource: Some(Payload { type_url: DEMAND.url().into(), value: vec![0x22, 0x01, 0xff].into() }),
        ..bad(name)
    };
    let told = |subscriber: &mut Subscriber, nonce, resources, removed: &[&str]| {
        let batch = batch(subscriber.on_response(response(DEMAND, nonce, resources, removed)));
        let answer = sent(subscriber.on_applied()).remove(0);
        (batch.delta.changes, answer.error_detail.is_some())
    };
    let mut subscriber = Subscriber::new(node("waypoint", ""), Mode::Wildcard).asking(&ResourceType::ALL);
    let _ = subscriber.start();
    let _ = subscriber.on_opened();
    let closed = Change::RequestPolicy(Arc::new(RequestPolicy::closed("ns/d".parse().unwrap())));
    assert_eq!(told(&mut subscriber, "1", vec![unreadable("ns/d")], &[]), (vec![closed], true));
    assert_eq!(reported(&mut subscriber), [("ns/d".into(), String::new())], "it is asked for again");
    assert_eq!(told(&mut subscriber, "2", vec![unreadable("ns/d")], &[]), (vec![], true), "it stays closed");
    let read = vec![resource(&demand("d", 1), "v1")];
    assert_eq!(told(&mut subscriber, "3", read, &[]), (vec![demand("d", 1)], false));
    assert_eq!(
        told(&mut subscriber, "4", vec![unreadable("ns/d")], &[]),
        (vec![], true),
        "what was read stays"
    );
    assert_eq!(told(&mut subscriber, "5", vec![], &["ns/d"]), (vec![gone(&demand("d", 1))], false));
}

#[test]
fn a_removed_name_is_tried_as_a_uid_and_then_as_a_service() {
    let mut subscriber = connected(Mode::Wildcard);
    let held = vec![resource(&pod("a", 1), "1"), resource(&service("h", 1), "2")];
    let _ = subscriber.on_response(response(ADDRESS, "n1", held, &[]));
    let removed = ["Kubernetes//Pod/ns/a", "ns/h", "ns/never", "a/b/c"];
    let batch = batch(subscriber.on_response(response(ADDRESS, "n2", vec![], &removed)));
    assert_eq!(batch.delta.changes, [gone(&pod("a", 1)), gone(&service("h", 1))]);
    assert_eq!(reported(&mut subscriber), []);
}

#[test]
fn a_batch_in_force_after_its_stream_is_not_acknowledged_on_the_next() {
    let mut subscriber = connected(Mode::Wildcard);
    let now = Instant::now();
    let _ = subscriber.on_response(response(ADDRESS, "n1", vec![resource(&pod("a", 1), "v1")], &[]));
    let _ = subscriber.on_closed(&Ending::Closed, now, 0);
    assert_eq!(subscriber.on_time(now + Duration::from_secs(60)), [Action::Open]);
    let _ = subscriber.on_opened();
    assert_eq!(subscriber.on_applied(), []);
}

#[test]
fn a_clean_end_is_waited_for_too_and_failures_longer() {
    let mut subscriber = connected(Mode::Wildcard);
    let now = Instant::now();
    let wait = |actions: Vec<Action>| match actions.as_slice() {
        [Action::WakeAt(until)] => *until - now,
        other => panic!("{other:?}"),
    };
    let first = wait(subscriber.on_closed(&Ending::Closed, now, u32::MAX));
    assert!(first >= Duration::from_millis(10), "{first:?}");
    let mut last = first;
    for _ in 0..5 {
        let next = wait(subscriber.on_closed(&Ending::Unreachable("refused".into()), now, u32::MAX));
        assert!(next > last, "{next:?} after {last:?}");
        last = next;
    }
}

#[test]
fn a_response_of_another_type_is_answered_and_changes_nothing() {
    let mut subscriber = connected(Mode::Wildcard);
    let odd = DeltaDiscoveryResponse { type_url: "odd".into(), nonce: "n".into(), ..Default::default() };
    let answer = sent(subscriber.on_response(odd)).remove(0);
    assert_eq!((answer.type_url.as_str(), answer.response_nonce.as_str()), ("odd", "n"));
    assert_eq!(subscriber.retained(), 0);
}

#[test]
fn on_demand_asks_for_nothing_first_and_then_for_what_is_needed() {
    let mut subscriber = connected(Mode::OnDemand);
    let asked = sent(subscriber.on_demand("/10.0.0.1")).remove(0);
    assert_eq!(asked.resource_names_subscribe, ["/10.0.0.1"]);
    assert_eq!(subscriber.on_demand("/10.0.0.1"), [], "asked once is enough");
    let first = &sent(subscriber.on_opened())[0];
    assert_eq!(first.resource_names_subscribe, ["*"]);
    assert_eq!(first.resource_names_unsubscribe, ["*"]);
    assert_eq!(first.initial_resource_versions["/10.0.0.1"], "", "a new stream asks again");
    let batch = batch(subscriber.on_response(response(ADDRESS, "n1", vec![], &["/10.0.0.1"])));
    assert_eq!(batch.missing, ["/10.0.0.1"]);
    assert!(!subscriber.is_in_step());
    let _ = subscriber.on_response(response(
        ResourceType::Authorization,
        "n",
        vec![resource(&policy("p", 1), "")],
        &[],
    ));
    let _ = subscriber.on_applied();
    let _ = subscriber.on_applied();
    assert!(subscriber.is_in_step(), "only policies are waited for");
}

#[test]
fn names_that_do_not_exist_are_dropped_at_the_limit_and_those_that_do_are_kept() {
    let mut subscriber = connected(Mode::OnDemand);
    let _ = subscriber.on_demand("/10.0.0.1");
    let named = Resource { aliases: vec!["/10.0.0.1".into()], ..resource(&pod("a", 1), "v1") };
    let known = batch(subscriber.on_response(response(ADDRESS, "n", vec![named], &[])));
    assert_eq!(known.found, ["/10.0.0.1"]);
    let names: Vec<String> = (0..DEMANDED).map(|number| format!("/none-{number}")).collect();
    for name in &names {
        assert_eq!(sent(subscriber.on_demand(name)).len(), 1);
    }
    assert_eq!(subscriber.on_demand("/one-more"), [], "the server does not answer");
    let missing: Vec<&str> = names.iter().skip(1).map(String::as_str).collect();
    let _ = subscriber.on_response(response(ADDRESS, "n", vec![], &missing));
    let asked = sent(subscriber.on_demand("/one-more")).remove(0);
    assert_eq!(asked.resource_names_subscribe, ["/one-more"]);
    assert_eq!(asked.resource_names_unsubscribe.len(), names.len() - 1);
    let versions = sent(subscriber.on_opened()).remove(0).initial_resource_versions;
    let held: Vec<&str> = versions.keys().map(String::as_str).collect();
    assert_eq!(held, ["/10.0.0.1", "/none-0", "/one-more", &*pod_name()]);
}

fn pod_name() -> String {
    encode(&pod("a", 1)).0.to_string()
}
