//! The watch against a server that lists, pages and watches like the real one, and fails as it is told to.

#[expect(unreachable_pub, reason = "the same file is a public module of the kit")]
pub(crate) mod fake;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::object::Object;
use fake::{FakeApi, Trick};

const PODS: &str = "/api/v1/pods";
const NAMESPACES: &str = "/api/v1/namespaces";
const POLICIES: &str = "/apis/security.istio.io/v1/authorizationpolicies";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEFINITION: &str = "authorizationpolicies.security.istio.io";

/// Long enough for what happens at once, short enough to be waited for where nothing may happen.
const SOON: Duration = Duration::from_millis(300);
/// For what must happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn limits() -> Limits {
    Limits {
        answer: PATIENCE,
        quiet: PATIENCE,
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(40),
        look_again: Duration::from_millis(50),
        page: 3,
        ..Limits::default()
    }
}

pub(crate) async fn client(fake: &FakeApi) -> Client {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), fake.kubeconfig()).unwrap();
    Client::from_kubeconfig(file.path()).await.unwrap().limited(limits())
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": name}, "creationTimestamp": null},
        "spec": {"nodeName": "n1", "serviceAccountName": "web", "containers": [{"name": "c", "ports": null}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    })
}

fn policy(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"action": "DENY", "rules": [{"to": [{"operation": {"ports": ["80"]}}]}]},
    })
}

fn install(fake: &FakeApi) {
    let version = json!({"name": "v1", "served": true});
    let object = json!({"metadata": {"name": DEFINITION}, "spec": {"versions": [version]}});
    fake.put(DEFINITIONS, object);
    fake.serve_collection(POLICIES, true);
}

async fn follow(fake: &FakeApi, kinds: &[Kind]) -> Watch {
    let wanted: Vec<_> = kinds.iter().map(|kind| Wanted::from(*kind)).collect();
    watch(&client(fake).await, &wanted, Keep::Slim)
}

async fn next(watch: &mut Watch) -> String {
    let event = tokio::time::timeout(PATIENCE, watch.next()).await.expect("an event");
    match event {
        Event::Applied(object) => format!("+{}", object.reference.name),
        Event::Gone(object) => format!("-{}", object.name),
        Event::Complete => "complete".into(),
        Event::Fault(fault) => format!("!{fault}"),
    }
}

async fn some(watch: &mut Watch, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(next(watch).await);
    }
    all
}

async fn quiet(watch: &mut Watch) {
    let more = tokio::time::timeout(SOON, watch.next()).await;
    assert!(more.is_err(), "nothing more happens: {more:?}");
}

/// Until a request was made, so that what follows happens after it.
pub(crate) async fn asked(fake: &FakeApi, text: &str, times: usize) {
    for _ in 0..6_000 {
        if fake.asked().iter().filter(|line| line.contains(text)).count() >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{text} was not asked {times} times: {:#?}", fake.asked());
}

#[tokio::test]
async fn all_pages_are_told_then_complete_then_each_change() {
    let fake = FakeApi::start().await;
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        fake.put(PODS, pod(name));
    }
    let mut watch = follow(&fake, &[Kind::Pod]).await;
    assert_eq!(some(&mut watch, 8).await, ["+a", "+b", "+c", "+d", "+e", "+f", "+g", "complete"]);
    fake.put(PODS, pod("h"));
    assert_eq!(next(&mut watch).await, "+h");
    fake.remove(PODS, "shop", "a");
    assert_eq!(next(&mut watch).await, "-a");
    // What nobody reads is no change.
    let mut same = pod("b");
    same["status"]["qosClass"] = "Burstable".into();
    fake.put(PODS, same);
    quiet(&mut watch).await;
    assert!(watch.faults().is_empty());
}

#[tokio::test]
async fn a_watch_that_is_cut_goes_on_from_its_bookmark_without_listing_again() {
    let fake = FakeApi::start().await;
    fake.put(PODS, pod("a"));
    let mut watch = follow(&fake, &[Kind::Pod]).await;
    assert_eq!(some(&mut watch, 2).await, ["+a", "complete"]);
    asked(&fake, "watch=true", 1).await;
    fake.bookmark();
    // Nothing shows that it has arrived.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fake.cut();
    fake.put(PODS, pod("b"));
    assert_eq!(next(&mut watch).await, "+b");
    let asked = fake.asked();
    assert_eq!(asked.iter().filter(|line| line.contains("limit=")).count(), 1, "{asked:#?}");
    assert!(asked.last().unwrap().contains("resourceVersion=2"), "{asked:#?}");
}

#[tokio::test]
async fn an_expired_version_lists_anew_and_only_what_is_really_gone_is_told_as_gone() {
    let fake = FakeApi::start().await;
    for name in ["a", "b", "c", "d"] {
        fake.put(PODS, pod(name));
    }
    let mut watch = follow(&fake, &[Kind::Pod]).await;
    some(&mut watch, 5).await;
    asked(&fake, "watch=true", 1).await;
    // While nobody can look: one is gone, one is new, and the history is forgotten.
    fake.trick("watch=true", Trick::Refuse(410), 1);
    fake.trick("limit=", Trick::Slow(Duration::from_millis(100)), 1);
    fake.cut();
    fake.remove(PODS, "shop", "b");
    fake.put(PODS, pod("e"));
    fake.compact();
    let mut told = some(&mut watch, 2).await;
    told.sort();
    assert_eq!(told, ["+e", "-b"]);
    quiet(&mut watch).await;
}

#[tokio::test]
async fn an_outage_freezes_what_is_known_and_is_told_once() {
    let mut fake = FakeApi::start().await;
    fake.put(PODS, pod("a"));
    fake.put(NAMESPACES, json!({"metadata": {"name": "shop"}}));
    let mut watch = follow(&fake, &[Kind::Pod, Kind::Namespace]).await;
    some(&mut watch, 3).await;
    fake.fall();
    let fault = next(&mut watch).await;
    assert!(fault.contains("what was read stays in force"), "{fault}");
    quiet(&mut watch).await;
    assert_eq!(watch.faults().len(), 1);
    fake.rise().await;
    fake.put(PODS, pod("b"));
    assert_eq!(next(&mut watch).await, "+b");
    // The other kind is listed in its own time.
    let begun = std::time::Instant::now();
    while !watch.faults().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", watch.faults());
        quiet(&mut watch).await;
    }
}

#[tokio::test]
async fn failing_pages_complete_nothing_and_take_nothing_away() {
    let fake = FakeApi::start().await;
    for name in ["a", "b", "c", "d"] {
        fake.put(PODS, pod(name));
    }
    // The second page: silence, a server error, half a page, no JSON, and an expired mark, one after the other.
    let tricks =
        [Trick::Hang, Trick::Refuse(500), Trick::Cut, Trick::Say("{\"items\": [".into()), Trick::Refuse(410)];
    for trick in tricks {
        fake.trick("continue=", trick, 1);
    }
    let client = client(&fake).await.limited(Limits { answer: Duration::from_secs(3), ..limits() });
    let mut watch = watch(&client, &[Kind::Pod.into()], Keep::Slim);
    let mut told = Vec::new();
    while told.last().is_none_or(|it| it != "complete") {
        told.push(next(&mut watch).await);
    }
    told.retain(|it| !it.starts_with('!'));
    assert_eq!(told, ["+a", "+b", "+c", "+d", "complete"]);
    // The same once everything is known.
    for trick in [Trick::Refuse(500), Trick::Cut, Trick::Refuse(410)] {
        fake.trick("continue=", trick, 1);
    }
    fake.compact();
    fake.cut();
    tokio::time::sleep(SOON).await;
    fake.put(PODS, pod("z"));
    let mut told = next(&mut watch).await;
    while told.starts_with('!') {
        told = next(&mut watch).await;
    }
    assert_eq!(told, "+z");
    quiet(&mut watch).await;
}

#[tokio::test]
async fn a_bad_object_is_a_fault_that_names_the_field_and_its_last_good_version_stays() {
    let fake = FakeApi::start().await;
    install(&fake);
    fake.put(POLICIES, policy("deny"));
    let mut bad = policy("typo");
    bad["spec"]["rules"][0]["to"][0]["operation"]["ports"] = json!(["http"]);
    fake.put(POLICIES, bad.clone());
    let mut watch = follow(&fake, &[Kind::AuthorizationPolicy]).await;
    let told = some(&mut watch, 3).await;
    assert_eq!((told[0].as_str(), told[2].as_str()), ("+deny", "complete"));
    let named = "AuthorizationPolicy shop/typo, spec.rules[0].to[0].operation.ports[0]";
    assert!(told[1].contains(named) && told[1].contains("http"), "{}", told[1]);
    bad["metadata"]["name"] = "deny".into();
    fake.put(POLICIES, bad);
    assert!(next(&mut watch).await.contains("shop/deny"));
    quiet(&mut watch).await;
    assert_eq!(watch.faults().len(), 2);
    // Listed anew it is still not gone, and still not told again.
    fake.compact();
    quiet(&mut watch).await;
    fake.put(POLICIES, policy("typo"));
    assert_eq!(next(&mut watch).await, "+typo");
    fake.remove(POLICIES, "shop", "deny");
    assert_eq!(next(&mut watch).await, "-deny");
    assert!(watch.faults().is_empty());
}

#[tokio::test]
async fn a_kind_that_is_not_installed_is_empty_and_is_picked_up_when_it_is() {
    let fake = FakeApi::start().await;
    fake.serve_collection(POLICIES, false);
    fake.put(PODS, pod("a"));
    let mut watch = follow(&fake, &[Kind::Pod, Kind::AuthorizationPolicy]).await;
    assert_eq!(some(&mut watch, 2).await, ["+a", "complete"]);
    quiet(&mut watch).await;
    assert!(watch.faults().is_empty());
    install(&fake);
    fake.put(POLICIES, policy("deny"));
    assert_eq!(next(&mut watch).await, "+deny");
    // Removed for good: the definition itself is gone.
    fake.remove(DEFINITIONS, "", DEFINITION);
    fake.serve_collection(POLICIES, false);
    assert_eq!(next(&mut watch).await, "-deny");
}

#[tokio::test]
async fn a_server_that_forgets_its_paths_while_it_starts_takes_no_policy_away() {
    let fake = FakeApi::start().await;
    install(&fake);
    fake.put(POLICIES, policy("deny"));
    let mut watch = follow(&fake, &[Kind::AuthorizationPolicy]).await;
    assert_eq!(some(&mut watch, 2).await, ["+deny", "complete"]);
    // The paths are unknown, and so are the definitions for a while.
    fake.trick("customresourcedefinitions", Trick::NoSuchPath, 3);
    fake.serve_collection(POLICIES, false);
    asked(&fake, "customresourcedefinitions", 6).await;
    fake.serve_collection(POLICIES, true);
    fake.put(POLICIES, policy("more"));
    let mut told = next(&mut watch).await;
    while told.starts_with('!') {
        told = next(&mut watch).await;
    }
    assert_eq!(told, "+more");
    quiet(&mut watch).await;
}

#[tokio::test]
async fn what_may_not_be_read_is_a_fault_and_never_an_empty_kind() {
    let fake = FakeApi::start().await;
    install(&fake);
    fake.put(POLICIES, policy("deny"));
    fake.trick("authorizationpolicies", Trick::Refuse(403), usize::MAX);
    let mut watch = follow(&fake, &[Kind::AuthorizationPolicy]).await;
    let fault = next(&mut watch).await;
    assert!(fault.contains("authorizationpolicies") && fault.contains("list and watch"), "{fault}");
    quiet(&mut watch).await;
    fake.behave();
    assert_eq!(some(&mut watch, 2).await, ["+deny", "complete"]);
    assert!(watch.faults().is_empty());
    fake.trick("authorizationpolicies", Trick::Refuse(403), usize::MAX);
    fake.cut();
    assert!(next(&mut watch).await.starts_with('!'));
    quiet(&mut watch).await;
    assert_eq!(watch.faults().len(), 1, "what was read stays, and it is said why");
}

#[tokio::test]
async fn pages_that_are_too_large_are_read_in_smaller_ones() {
    let fake = FakeApi::start().await;
    for name in ["a", "b", "c", "d"] {
        fake.put(PODS, pod(name));
    }
    let tight = Limits { answer_bytes: 700, page: 4, ..limits() };
    let client = client(&fake).await.limited(tight);
    let mut watch = watch(&client, &[Kind::Pod.into()], Keep::Slim);
    assert_eq!(some(&mut watch, 5).await, ["+a", "+b", "+c", "+d", "complete"]);
}

#[tokio::test]
async fn a_silent_watch_is_begun_again() {
    let fake = FakeApi::start().await;
    let client = client(&fake).await.limited(Limits { quiet: Duration::from_millis(50), ..limits() });
    let mut watch = watch(&client, &[Kind::Pod.into()], Keep::Slim);
    assert_eq!(next(&mut watch).await, "complete");
    asked(&fake, "watch=true", 3).await;
    quiet(&mut watch).await;
    assert!(watch.faults().is_empty());
}

#[tokio::test]
async fn a_node_is_told_of_its_own_pods_only() {
    let fake = FakeApi::start().await;
    fake.put(PODS, pod("here"));
    let mut elsewhere = pod("elsewhere");
    elsewhere["spec"]["nodeName"] = "n2".into();
    fake.put(PODS, elsewhere);
    let wanted = [Wanted::pods_of("n1")];
    let mut watch = watch(&client(&fake).await, &wanted, Keep::Slim);
    assert_eq!(some(&mut watch, 2).await, ["+here", "complete"]);
}

#[tokio::test]
async fn the_whole_object_is_kept_when_it_is_asked_for() {
    let fake = FakeApi::start().await;
    fake.put(PODS, pod("a"));
    let mut watch = watch(&client(&fake).await, &[Kind::Pod.into()], Keep::Whole);
    let Event::Applied(Object { raw: Some(raw), .. }) = watch.next().await else { panic!("no raw object") };
    assert_eq!((raw["kind"].as_str(), raw["apiVersion"].as_str()), (Some("Pod"), Some("v1")));
    assert_eq!(raw["metadata"].get("creationTimestamp"), None);
}
