//! Questions of an API server and their answers.

use super::*;

fn question(kind: (&str, &str), operation: &str, object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u1", "kind": {"group": kind.0, "version": "v1", "kind": kind.1}, "operation": operation,
            "namespace": "shop", "object": object, "oldObject": null, "dryRun": false,
        },
    })
}

fn policy(spec: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "deny", "namespace": "shop"}, "spec": spec,
    })
}

const POLICY: (&str, &str) = ("security.istio.io", "AuthorizationPolicy");

fn response(question: &Value) -> Value {
    let answered = decide(question.to_string().as_bytes()).unwrap();
    assert_eq!(answered.review["apiVersion"], question["apiVersion"]);
    assert_eq!(answered.review["kind"], "AdmissionReview");
    assert_eq!(answered.review["response"]["uid"], "u1");
    assert_eq!(answered.review["response"]["allowed"], answered.allowed);
    answered.review["response"].clone()
}

#[test]
fn a_refusal_names_field_value_and_remedy_of_everything_at_once() {
    let spec = json!({"selector": {"matchLabels": {"a*": "b", "c": "d*"}}, "rules": [{}]});
    let response = response(&question(POLICY, "CREATE", &policy(&spec)));
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 422);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("configuration is invalid: "), "{message}");
    for part in ["spec.selector.matchLabels.a*", "no wildcards", "name the label", "d*", "\n"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn what_is_no_refusal_is_a_warning() {
    let spec = json!({"selector": {"matchLabels": {}}, "rules": [{}]});
    let response = response(&question(POLICY, "UPDATE", &policy(&spec)));
    assert_eq!((&response["allowed"], &response["status"]), (&true.into(), &Value::Null));
    assert!(response["warnings"][0].as_str().unwrap().contains("whole namespace"), "{response}");
}

#[test]
fn only_changes_of_objects_that_the_mesh_reads_are_judged() {
    let bad = policy(&json!({"action": "DENY"}));
    let mut leaving = bad.clone();
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let mut status = question(POLICY, "UPDATE", &bad);
    status["request"]["subResource"] = "status".into();
    for (question, allowed) in [
        (question(POLICY, "CREATE", &bad), false),
        (question(POLICY, "UPDATE", &bad), false),
        (question(POLICY, "DELETE", &Value::Null), true),
        (question(POLICY, "CONNECT", &bad), true),
        (question(("networking.istio.io", "Sidecar"), "CREATE", &json!({"kind": "Sidecar"})), true),
        (question(("networking.istio.io", "Gateway"), "CREATE", &json!({"kind": "Gateway"})), true),
        (question(("other.example", "AuthorizationPolicy"), "CREATE", &bad), true),
        (question(POLICY, "UPDATE", &leaving), true),
        (status, true),
        // What claims to be one of ours and is nothing at all.
        (question(POLICY, "CREATE", &Value::Null), false),
        (question(POLICY, "CREATE", &json!([])), false),
    ] {
        assert_eq!(response(&question)["allowed"], allowed, "{question}");
    }
}

#[test]
fn a_name_that_the_server_is_to_choose_is_not_missing() {
    let mut object = policy(&json!({"rules": [{}]}));
    object["metadata"] = json!({"generateName": "deny-", "namespace": "shop"});
    assert_eq!(response(&question(POLICY, "CREATE", &object))["allowed"], true);
    object["metadata"] = json!({"namespace": "shop"});
    assert_eq!(response(&question(POLICY, "CREATE", &object))["allowed"], false);
}

#[test]
fn the_former_version_is_answered_in_kind_and_anything_else_is_not() {
    let good = question(POLICY, "CREATE", &policy(&json!({"rules": [{}]})));
    let mut former = good.clone();
    former["apiVersion"] = "admission.k8s.io/v1beta1".into();
    assert_eq!(response(&former)["allowed"], true);
    let mut foreign = good.clone();
    foreign["apiVersion"] = "admission.k8s.io/v2".into();
    let mut nothing = good.clone();
    nothing["request"] = Value::Null;
    let mut nameless = good;
    nameless["request"]["uid"] = "".into();
    for (body, wanted) in [(foreign, "Foreign"), (nothing, "Empty"), (nameless, "Empty")] {
        let error = decide(body.to_string().as_bytes()).unwrap_err();
        assert!(format!("{error:?}").starts_with(wanted), "{error:?}");
    }
    let deep = "[".repeat(100_000);
    let inside = question(POLICY, "CREATE", &"@".into()).to_string().replace("\"@\"", &deep);
    for body in ["", "{}x", "null", "[1]", &deep, &inside] {
        assert!(matches!(decide(body.as_bytes()), Err(Unanswerable::Unreadable(_))), "{:.40}", body);
    }
}

#[test]
fn an_answer_is_short_however_much_is_wrong() {
    let labels: serde_json::Map<_, _> = (0..5000).map(|n| (format!("a{n}*"), "b".into())).collect();
    let spec = json!({"selector": {"matchLabels": labels}, "rules": [{}]});
    let response = response(&question(POLICY, "CREATE", &policy(&spec)));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.ends_with("and 4984 more"), "{message}");
    assert!(message.len() < 8192);
}

#[test]
fn random_changes_of_questions_are_answered_the_same_twice_or_not_at_all() {
    let seeds = [
        question(
            POLICY,
            "CREATE",
            &policy(&json!({"selector": {"matchLabels": {"a": "b"}}, "action": "DENY"})),
        ),
        question(
            POLICY,
            "UPDATE",
            &policy(&json!({"rules": [{"from": [{"source": {"ipBlocks": ["10.0.0.0/8"]}}]}]})),
        ),
    ];
    let mut chance = fastrand::Rng::with_seed(7);
    let mut answered = 0;
    for round in 0..4000 {
        let mut text = seeds[round % seeds.len()].to_string().into_bytes();
        for _ in 0..chance.usize(1..4) {
            let at = chance.usize(..text.len());
            match chance.u8(..3) {
                0 => text[at] = chance.u8(32..127),
                1 => drop(text.remove(at)),
                _ => text.insert(at, b"{}[]\",:0*n"[chance.usize(..10)]),
            }
        }
        let first = decide(&text);
        assert_eq!(first, decide(&text));
        let Ok(it) = first else { continue };
        answered += 1;
        assert_eq!(it.allowed, it.review["response"]["status"]["message"].is_null(), "{}", it.review);
    }
    assert!(answered > 100, "{answered}");
}
