//! Admission of objects (`control-plane.md` 8): what the API server asks over HTTPS before it stores one.
//! Owns the shape of question and answer, and their limits. Which objects are refused is `cluster::kinds::admit`'s;
//! what happens while nobody answers is the `failurePolicy` of the webhook's configuration.

use ambit_cluster::Kind;
use ambit_cluster::fault::shorten;
use ambit_cluster::kinds::admit::{Finding, review};
use ambit_process::admin::{Body, answer, text};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{debug, info};

use crate::metrics::{Admission, Metrics};

/// The path, and the beginning of paths, that are answered.
const PATH: &str = "/validate";

/// The group of questions, in the versions that are the same for us.
const VERSIONS: [&str; 2] = ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"];

/// Remarks in one answer: whoever mends these asks again. An API server passes on 4 KiB of warnings.
const REMARKS: usize = 16;

/// Bodies above this are looked at beside the runtime, so that nobody else waits for a large one.
const LARGE: usize = 64 << 10;

/// Why a question gets no answer but an HTTP status.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswerable {
    /// It is no such JSON.
    #[error("the body is no AdmissionReview: {0}")]
    Unreadable(String),
    /// It is something else.
    #[error("{0:?} is not answered here; send an AdmissionReview of admission.k8s.io/v1")]
    Foreign(String),
    /// Nothing is asked.
    #[error("the AdmissionReview has no request with a uid")]
    Empty,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Asked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    kind: Named,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    group: String,
    kind: String,
}

/// What is answered to a question.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    /// The `AdmissionReview` to send.
    pub review: Value,
    /// Whether the object may be stored.
    pub allowed: bool,
    /// How the object is called, for the log.
    pub object: String,
}

/// Answers the body of a question. Pure.
///
/// # Errors
/// When it is none.
pub fn decide(body: &[u8]) -> Result<Answered, Unanswerable> {
    let review: Review =
        serde_json::from_slice(body).map_err(|error| Unanswerable::Unreadable(error.to_string()))?;
    let Review { api_version, kind, request } = review;
    if kind != "AdmissionReview" || !VERSIONS.contains(&api_version.as_str()) {
        return Err(Unanswerable::Foreign(shorten(&format!("{api_version} {kind}"))));
    }
    let asked = request.filter(|asked| !asked.uid.is_empty()).ok_or(Unanswerable::Empty)?;
    let findings = findings(&asked);
    let allowed = !findings.iter().any(|finding| finding.refused);
    let mut response = json!({"uid": asked.uid, "allowed": allowed});
    if let Some(members) = response.as_object_mut() {
        let warnings = lines(&findings, false);
        if !warnings.is_empty() {
            members.insert("warnings".into(), warnings.into());
        }
        if !allowed {
            let message = format!("configuration is invalid: {}", lines(&findings, true).join("\n"));
            let status = json!({"status": "Failure", "reason": "Invalid", "code": 422, "message": message});
            members.insert("status".into(), status);
        }
    }
    let review = json!({"apiVersion": api_version, "kind": kind, "response": response});
    let name = asked.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let object = shorten(&format!("{} {}/{name}", asked.kind.kind, asked.namespace));
    Ok(Answered { review, allowed, object })
}

/// What is to be said of the object that is asked about. What nobody reads is nobody's business here, and neither
/// is an object on its way out: a finalizer must be able to leave a bad one.
fn findings(asked: &Asked) -> Vec<Finding> {
    let is_read = Kind::named(&asked.kind.kind).is_some_and(|kind| kind.group() == asked.kind.group);
    let is_change = matches!(asked.operation.as_str(), "CREATE" | "UPDATE") && asked.sub_resource.is_empty();
    let leaves = asked.object.pointer("/metadata/deletionTimestamp").is_some_and(Value::is_string);
    if !is_read || !is_change || leaves {
        return Vec::new();
    }
    let mut object = asked.object.clone();
    // The name of an object that lets the API server choose one is not chosen yet.
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && !metadata.contains_key("name")
        && let Some(begin) = metadata.get("generateName").and_then(Value::as_str)
    {
        let name = format!("{begin}x");
        metadata.insert("name".into(), name.into());
    }
    review(&object)
}

fn lines(findings: &[Finding], refused: bool) -> Vec<String> {
    let wanted: Vec<_> = findings.iter().filter(|finding| finding.refused == refused).collect();
    let mut lines: Vec<_> = wanted.iter().take(REMARKS).map(ToString::to_string).collect();
    if wanted.len() > REMARKS {
        lines.push(format!("and {} more", wanted.len() - REMARKS));
    }
    lines
}

/// Answers a request of the API server.
pub async fn respond(request: Request<Bytes>, metrics: Metrics) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path != PATH && !path.strip_prefix(PATH).is_some_and(|rest| rest.starts_with('/')) {
        return text(StatusCode::NOT_FOUND, "not here; /validate is\n");
    }
    if head.method != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "post an AdmissionReview\n");
    }
    let content = head.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let media = content.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        metrics.admitted(Admission::Unanswerable);
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json\n");
    }
    let decided = if body.len() > LARGE {
        let beside = tokio::task::spawn_blocking(move || decide(&body)).await;
        beside.unwrap_or_else(|error| Err(Unanswerable::Unreadable(error.to_string())))
    } else {
        decide(&body)
    };
    match decided {
        Ok(Answered { review, allowed, object }) => {
            if allowed {
                debug!(target: "admit", object, "admitted");
            } else {
                info!(target: "admit", object, "refused");
            }
            metrics.admitted(if allowed { Admission::Passed } else { Admission::Failed });
            answer(StatusCode::OK, "application/json", review.to_string())
        }
        Err(error) => {
            debug!(target: "admit", error = %error, "not answered");
            metrics.admitted(Admission::Unanswerable);
            text(StatusCode::BAD_REQUEST, format!("{error}\n"))
        }
    }
}

#[cfg(test)]
mod tests;
