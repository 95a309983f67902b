//! How writes are made, by whom, and what becomes of those that fail.

use super::*;
use crate::api::tests::fake::{FakeApi, Trick};
use crate::api::tests::{asked, client};
use crate::object::Kind;
use ambit_process::tasks::Tasks;

const POLICIES: &str = "/apis/security.istio.io/v1/authorizationpolicies";
const PODS: &str = "/api/v1/pods";

/// Nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

fn policy() -> ObjectRef {
    ObjectRef::new(Kind::AuthorizationPolicy, "shop", "deny")
}

fn said(reason: &str) -> Value {
    json!({"conditions": [{"type": "ZtunnelAccepted", "reason": reason, "observedGeneration": null}]})
}

async fn until(fake: &FakeApi, pointer: &str, wanted: &Value) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < PATIENCE {
        let object = fake.object(POLICIES, "shop", "deny").unwrap();
        if object.pointer(pointer).unwrap_or(&Value::Null) == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:#?}", fake.object(POLICIES, "shop", "deny"));
}

#[tokio::test]
async fn status_is_written_by_whose_part_it_is_survives_failures_and_the_newest_wins() {
    let fake = FakeApi::start().await;
    fake.put(POLICIES, json!({"metadata": {"name": "deny", "namespace": "shop"}, "spec": {}}));
    let (give, share) = watch::channel(Share::default());
    let (_lead, leading) = watch::channel(false);
    let duty = Duty::new(leading, share);
    let (mut orders, desk) = Orders::new(Hand::new(client(&fake).await, "ambit-istiod"), duty);
    let mut tasks = Tasks::new(&Stop::new());
    tasks.spawn("desk", |stop| desk.run(stop));
    orders.status(&policy(), said("Early")).unwrap();
    fake.trick("PATCH", Trick::Refuse(503), 3);
    let promoted = tokio::time::timeout(Duration::from_millis(50), orders.promoted()).await;
    assert!(promoted.is_err(), "it has no part yet");
    give.send_replace(Share::new("a", ["a".to_owned()]));
    tokio::time::timeout(PATIENCE, orders.promoted()).await.unwrap();
    orders.status(&policy(), said("First")).unwrap();
    asked(&fake, "PATCH", 1).await;
    orders.status(&policy(), said("Second")).unwrap();
    until(&fake, "/status/conditions/0/reason", &"Second".into()).await;
    assert!(!fake.object(POLICIES, "shop", "deny").unwrap().to_string().contains("observedGeneration"));
    let asked = fake.asked();
    assert!(asked[0].contains("/status?fieldManager=ambit-istiod-conditions&force=true"), "{asked:#?}");
    orders.clear(&policy()).unwrap();
    until(&fake, "/status/conditions", &Value::Null).await;
}

#[tokio::test]
async fn an_object_that_is_gone_is_not_made_by_writing_its_status() {
    let fake = FakeApi::start().await;
    let hand = Hand::new(client(&fake).await, "ambit-istiod");
    let spot = Spot { object: policy(), member: "conditions".into() };
    for value in [Some(&said("Accepted")), None] {
        assert!(matches!(hand.apply(&spot, value).await, Err(ApiError::NotFound { .. })));
    }
    assert_eq!(fake.object(POLICIES, "shop", "deny"), None);
}

#[tokio::test]
async fn what_is_being_deleted_is_known_to_be_leaving() {
    let fake = FakeApi::start().await;
    let hand = Hand::new(client(&fake).await, "ambit-istiod");
    assert!(hand.is_leaving(&policy()).await, "there is none");
    let mut object = json!({"metadata": {"name": "deny", "namespace": "shop"}, "spec": {}});
    fake.put(POLICIES, object.clone());
    assert!(!hand.is_leaving(&policy()).await);
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    fake.put(POLICIES, object);
    assert!(hand.is_leaving(&policy()).await, "it is about to go");
}

#[tokio::test]
async fn whether_what_is_refused_is_leaving_is_asked_once() {
    let fake = FakeApi::start().await;
    let (_share, share) = watch::channel(Share::new("a", ["a".to_owned()]));
    let (_lead, leading) = watch::channel(false);
    let hand = Hand::new(client(&fake).await, "ambit-istiod");
    let (orders, desk) = Orders::new(hand, Duty::new(leading, share));
    let mut tasks = Tasks::new(&Stop::new());
    tasks.spawn("desk", |stop| desk.run(stop));
    fake.trick("PATCH", Trick::Refuse(422), 1);
    orders.status(&policy(), said("First")).unwrap();
    asked(&fake, "GET", 1).await;
    // It is not written again and again: the next word is the next order's.
    fake.put(POLICIES, json!({"metadata": {"name": "deny", "namespace": "shop"}, "spec": {}}));
    orders.status(&policy(), said("Second")).unwrap();
    until(&fake, "/status/conditions/0/reason", &"Second".into()).await;
    assert_eq!(fake.asked().iter().filter(|it| it.starts_with("PATCH")).count(), 2, "{:#?}", fake.asked());
}

#[tokio::test]
async fn annotations_are_those_of_the_very_pod() {
    let fake = FakeApi::start().await;
    let hand = Hand::new(client(&fake).await, "ambit-cni");
    let pod = ObjectRef::new(Kind::Pod, "shop", "web");
    fake.put(
        PODS,
        json!({"metadata": {"name": "web", "namespace": "shop", "uid": "1", "annotations": {"a": "b"}}}),
    );
    let key = "ambient.istio.io/redirection";
    hand.annotate((&pod, "1"), &json!({key: "enabled"}), None).await.unwrap();
    let read = || fake.object(PODS, "shop", "web").unwrap()["metadata"]["annotations"].clone();
    assert_eq!(read(), json!({"a": "b", key: "enabled"}));
    let other = hand.annotate((&pod, "2"), &json!({key: null}), None).await;
    assert!(matches!(other, Err(ApiError::Conflict)), "{other:?}");
    hand.annotate((&pod, "1"), &json!({key: null}), None).await.unwrap();
    assert_eq!(read(), json!({"a": "b"}));
}

#[tokio::test]
async fn a_condition_is_merged_with_others_of_the_list_and_taken_out_of_it() {
    let fake = FakeApi::start().await;
    let hand = Hand::new(client(&fake).await, "ambit-cni");
    let pod = ObjectRef::new(Kind::Pod, "shop", "web");
    let ready = json!({"type": "Ready", "status": "True"});
    fake.put(
        PODS,
        json!({"metadata": {"name": "web", "namespace": "shop", "uid": "1"},
        "status": {"phase": "Running", "conditions": [ready]}}),
    );
    let read = || fake.object(PODS, "shop", "web").unwrap()["status"].clone();
    for status in ["False", "True"] {
        let ours = json!({"type": "ambit.io/Enrolled", "status": status});
        hand.annotate((&pod, "1"), &json!({}), Some(&ours)).await.unwrap();
        assert_eq!(read(), json!({"phase": "Running", "conditions": [ready, ours]}));
    }
    let gone = json!({"$patch": "delete", "type": "ambit.io/Enrolled"});
    hand.annotate((&pod, "1"), &json!({}), Some(&gone)).await.unwrap();
    assert_eq!(read(), json!({"phase": "Running", "conditions": [ready]}));
}

#[tokio::test]
async fn addresses_are_the_leaders_and_conditions_are_of_whose_part_the_object_is() {
    let fake = FakeApi::start().await;
    let members = ["a".to_owned(), "b".to_owned()];
    let (lead, leading) = watch::channel(false);
    let (give, share) = watch::channel(Share::default());
    let duty = Duty::new(leading, share);
    let (mut orders, desk) = Orders::new(Hand::new(client(&fake).await, "ambit-istiod"), duty.clone());
    let mut all = (0..100).map(|it| ObjectRef::new(Kind::ServiceEntry, "shop", &format!("e{it}")));
    let mine = all.find(|it| Share::new("a", members.clone()).holds(it)).unwrap();
    let other = all.find(|it| !Share::new("a", members.clone()).holds(it)).unwrap();
    let holds = |object, member| duty.holds(object, member);
    assert!(!holds(&mine, "conditions") && !holds(&mine, "addresses"));
    give.send_replace(Share::new("a", members));
    orders.promoted().await;
    assert!(holds(&mine, "conditions") && !holds(&other, "conditions") && !holds(&mine, "addresses"));
    let again = tokio::time::timeout(Duration::from_millis(50), orders.promoted()).await;
    assert!(again.is_err(), "told once");
    lead.send_replace(true);
    orders.promoted().await;
    assert!(holds(&other, "addresses") && !holds(&other, "conditions"));
    // What was another's when it is its turn is not written.
    orders.status(&mine, said("Accepted")).unwrap();
    give.send_replace(Share::new("a", ["b".to_owned()]));
    lead.send_replace(false);
    let mut tasks = Tasks::new(&Stop::new());
    let counted = desk.counted(|| panic!("it was written"));
    tasks.spawn("desk", |stop| counted.run(stop));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(fake.asked().is_empty(), "{:?}", fake.asked());
}

#[tokio::test]
async fn what_the_server_does_not_take_waits_by_itself_and_the_others_go_on() {
    let fake = FakeApi::start().await;
    for name in ["bad", "deny"] {
        fake.put(POLICIES, json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {}}));
    }
    let (_share, share) = watch::channel(Share::new("a", ["a".to_owned()]));
    let (_lead, leading) = watch::channel(false);
    let hand = Hand::new(client(&fake).await, "ambit-istiod");
    let (orders, desk) = Orders::new(hand, Duty::new(leading, share));
    let mut tasks = Tasks::new(&Stop::new());
    tasks.spawn("desk", |stop| desk.run(stop));
    fake.trick("/bad/", Trick::Refuse(500), usize::MAX);
    let bad = ObjectRef::new(Kind::AuthorizationPolicy, "shop", "bad");
    orders.status(&bad, said("Never")).unwrap();
    asked(&fake, "/bad/", 2).await;
    for reason in ["First", "Second"] {
        orders.status(&policy(), said(reason)).unwrap();
        until(&fake, "/status/conditions/0/reason", &reason.into()).await;
    }
    let before = fake.asked().len();
    asked(&fake, "/bad/", before + 1).await;
    fake.behave();
    let begun = std::time::Instant::now();
    while fake.object(POLICIES, "shop", "bad").unwrap()["status"].is_null() {
        assert!(begun.elapsed() < PATIENCE, "it is not tried again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_is_said_of_gateways_by_the_same_name_is_others() {
    const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";
    let fake = FakeApi::start().await;
    let hand = Hand::new(client(&fake).await, "ambit-istiod");
    let entry = |about: Value, said: &str| json!({"parentRef": about, "controllerName": "istio.io/gateway-controller", "conditions": [{"reason": said}]});
    let service = || json!({"group": "", "kind": "Service", "name": "cart"});
    let theirs = entry(json!({"name": "front"}), "Theirs");
    let whole =
        entry(json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "b"}), "Theirs");
    let before = [theirs.clone(), entry(service(), "Old"), whole.clone()];
    fake.put(
        ROUTES,
        json!({"metadata": {"name": "buy", "namespace": "shop"}, "status": {"parents": before}}),
    );
    let object = ObjectRef::new(Kind::HttpRoute, "shop", "buy");
    let spot = Spot { object, member: "parents".into() };
    let read = || fake.object(ROUTES, "shop", "buy").unwrap()["status"]["parents"].clone();
    let new = entry(service(), "New");
    hand.apply(&spot, Some(&json!([theirs, new, whole]))).await.unwrap();
    assert_eq!(read(), json!([theirs, whole, new]), "theirs stay as the server has them, and are said once");
    hand.apply(&spot, Some(&json!([]))).await.unwrap();
    assert_eq!(read(), json!([theirs, whole]));
}
