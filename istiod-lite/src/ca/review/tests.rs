//! The reviewer against a fake API server: whom it believes, for how long, and when nobody answers.

use std::sync::Arc;

use ambit_cluster::api::Limits;
use ambit_kit::fake_api::{FakeApi, Trick};
use serde_json::{Value, json};

use super::*;

pub(crate) async fn client(fake: &FakeApi) -> Client {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, fake.kubeconfig()).unwrap();
    // As long as a busy machine may take, and not longer: one test waits for a server that says nothing.
    let answer = Duration::from_secs(5);
    let brief = Duration::from_millis(10);
    let limits = Limits { answer, first_pause: brief, longest_pause: brief * 10, ..Limits::default() };
    Client::from_kubeconfig(&file).await.unwrap().limited(limits)
}

async fn reviewer(fake: &FakeApi) -> Reviewer {
    Reviewer::new(client(fake).await, "cluster.local".parse().unwrap(), vec!["istio-ca".into()])
}

fn user(name: &str) -> Value {
    json!({
        "authenticated": true, "audiences": ["istio-ca"],
        "user": {
            "username": name, "groups": [ACCOUNTS, "system:authenticated"],
            "extra": {POD_NAME: ["ztunnel-x"], POD_UID: ["u1"]},
        },
    })
}

const ZTUNNEL: &str = "system:serviceaccount:istio-system:ztunnel";

async fn ask(reviewer: &Reviewer, token: &str) -> Result<Bearer, TokenError> {
    let mut headers = MetadataMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    reviewer.bearer(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)).await
}

fn expiring(at: u64) -> String {
    format!("e30.{}.x", URL_SAFE_NO_PAD.encode(json!({"exp": at}).to_string()))
}

fn questions(fake: &FakeApi) -> usize {
    fake.asked().iter().filter(|line| line.contains("tokenreviews")).count()
}

#[tokio::test]
async fn a_caller_is_who_the_server_says_bound_to_its_pod_and_is_asked_about_once() {
    let fake = FakeApi::start().await;
    fake.token("good", user(ZTUNNEL));
    let reviewer = reviewer(&fake).await;
    for _ in 0..3 {
        let bearer = ask(&reviewer, "good").await.unwrap();
        assert_eq!(bearer.identity.to_string(), "spiffe://cluster.local/ns/istio-system/sa/ztunnel");
        assert_eq!(bearer.bound, Bound::Pod { name: "ztunnel-x".into(), uid: "u1".into() });
    }
    assert_eq!(questions(&fake), 1);
}

#[tokio::test]
async fn whoever_is_no_service_account_is_nobody() {
    let fake = FakeApi::start().await;
    let mut groupless = user(ZTUNNEL);
    groupless["user"]["groups"] = json!(["system:authenticated"]);
    fake.token("groupless", groupless);
    for (token, name) in [
        ("person", "alice"),
        ("node", "system:node:n1"),
        ("half", "system:serviceaccount:shop"),
        ("odd", "system:serviceaccount:shop:we/b"),
    ] {
        fake.token(token, user(name));
    }
    let reviewer = reviewer(&fake).await;
    for token in ["groupless", "person", "node", "half", "odd"] {
        let answer = ask(&reviewer, token).await;
        assert!(matches!(answer, Err(TokenError::Subject(_))), "{token}: {answer:?}");
    }
    let answer = ask(&reviewer, "nobody's").await;
    assert!(matches!(answer, Err(TokenError::Denied(_))), "{answer:?}");
}

#[tokio::test]
async fn without_the_server_nobody_new_is_anybody_and_the_failure_is_not_remembered() {
    let fake = FakeApi::start().await;
    fake.token("good", user(ZTUNNEL));
    let reviewer = reviewer(&fake).await;
    for trick in [Trick::Refuse(500), Trick::Hang, Trick::Cut, Trick::Say("{}".into())] {
        fake.trick("tokenreviews", trick.clone(), 1);
        let answer = ask(&reviewer, "good").await;
        assert!(answer.is_err(), "{trick:?}: {answer:?}");
        // An empty answer is a refusal, and is remembered as one for a moment.
        reviewer.words().clear();
    }
    ask(&reviewer, "good").await.unwrap();
}

#[tokio::test]
async fn the_servers_word_is_not_taken_for_longer_than_the_token_lives() {
    let fake = FakeApi::start().await;
    let reviewer = reviewer(&fake).await;
    let (dying, living) = (expiring(1_000), expiring(9_000));
    for token in [&dying, &living] {
        fake.token(token, user(ZTUNNEL));
        ask(&reviewer, token).await.unwrap();
        ask(&reviewer, token).await.unwrap();
    }
    assert_eq!(questions(&fake), 3, "twice about the one that has no time left");
    assert!(reviewer.words().values().all(|word| word.until <= clock::now() + TRUST));
}

#[tokio::test]
async fn what_is_remembered_is_bounded_and_questions_under_way_are_too() {
    let fake = FakeApi::start().await;
    let reviewer = Arc::new(reviewer(&fake).await);
    for number in 0..REMEMBERED + 10 {
        reviewer.remember(hash(&number.to_string()), None, TRUST);
    }
    assert_eq!(reviewer.words().len(), REMEMBERED);
    fake.token("good", user(ZTUNNEL));
    ask(&reviewer, "good").await.unwrap();
    assert_eq!(reviewer.words().len(), REMEMBERED, "asked about, not remembered");
    let held = reviewer.questions.acquire_many(16).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(100), ask(&reviewer, "good")).await;
    assert!(waits.is_err(), "the next one waits its turn");
    drop(held);
    ask(&reviewer, "good").await.unwrap();
}
