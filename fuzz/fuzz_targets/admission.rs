//! Questions of an API server about objects: any bytes are answered, or refused without an answer; whatever is
//! refused says why, and asking again gives the same answer.
//! Input: a letter, then a whole question, or the object of one.
#![no_main]

use ambit_istiod_lite::admit::decide;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::{Value, json};

/// An object of each kind has under 1 KiB; longer ones find nothing that these do not, only slower.
const LONGEST: usize = 4096;

/// A question about an object of the kind that it says it is.
fn about(object: &[u8]) -> Option<Vec<u8>> {
    let object: Value = serde_json::from_slice(object).ok()?;
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let group = text("/apiVersion").split_once('/').map_or(String::new(), |(group, _)| group.into());
    let kind = json!({"group": group, "version": "v1", "kind": text("/kind")});
    let request = json!({"uid": "u", "operation": "CREATE", "kind": kind, "object": object});
    let asked = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    Some(asked.to_string().into_bytes())
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((letter, rest)) = data.split_first().filter(|(_, rest)| rest.len() <= LONGEST) else {
        return Corpus::Reject;
    };
    let body = if *letter == b'o' { about(rest) } else { Some(rest.to_vec()) };
    let Some(body) = body else { return Corpus::Reject };
    let Ok(answered) = decide(&body) else { return Corpus::Keep };
    let response = &answered.review["response"];
    assert_eq!(response["allowed"], answered.allowed);
    assert!(response["uid"].as_str().is_some_and(|uid| !uid.is_empty()));
    let message = response["status"]["message"].as_str().unwrap_or_default();
    assert_eq!(answered.allowed, message.is_empty());
    assert_eq!(decide(&body), Ok(answered));
    Corpus::Keep
});
