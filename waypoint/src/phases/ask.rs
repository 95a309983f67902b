//! May this be asked, in the words of somebody else (`waypoint.md` 4.3, 4.8)? Owns who is asked about a request, what is
//! shown of it, and what follows: from a yes, from a no, and from no answer at all. Who has to be asked is decided by
//! `model::request_policy`, what an answer means by `model::provider`; the call itself is `call`'s.
//!
//! Ahead of everything that is known of the request's token, which is still with it: whoever is asked may want to see
//! it, or put another in its place.

use std::sync::Arc;

use ambit_model::authentication::is_preflight;
use ambit_model::http_path::RequestTarget;
use ambit_model::name::Label;
use ambit_model::provider::{Allowed, Answer, Authorizer, BodyShown, Failed, OverHttp, Speaks, from_http};
use ambit_model::request_policy::{Http, RequestAction, RuleRef, asks};
use ambit_process::clock::now_system;
use ambit_wire::check::{self, CheckError, End, Question};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version};

use super::identify::Asked;
use super::record::Record;
use super::route::Route;
use super::{authenticate, authorize, route};
use crate::body::Source;
use crate::call::{self, CallError};
use crate::metrics::{AskedLabels, Outcome};
use crate::refused::Refused;
use crate::stream::Inbound;
use crate::upstream::Chance;

/// Whether the body that is shown is only its beginning.
const PARTIAL: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");

/// Somebody who is asked, and because of whom.
pub(crate) struct Asking {
    pub(super) name: Label,
    pub(super) whom: Arc<Authorizer>,
    /// The rule of a policy that wants it; none: a route does.
    pub(super) by: Option<RuleRef>,
}

/// Why nobody has said yes or no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoWord {
    /// There was no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It is none that can be followed.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// It is an error of whoever was asked.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The question cannot be put.
    #[error("the question cannot be put")]
    Question(#[source] http::Error),
}

/// Asks everybody whom policies want to be asked. What routes go by, where that is not what came of it.
pub(crate) async fn ask(
    record: &mut Record,
    parts: &mut Parts,
    (asked, source): (&Asked, &Source),
    all: &[Asking],
) -> Result<Option<HeaderMap>, Refused> {
    let mut former = None;
    for one in all {
        let allowed = put(record, parts, (asked, source), one).await?;
        if former.is_none() && !one.whom.reroute && !allowed.request.is_empty() {
            former = Some(parts.headers.clone());
        }
        take(record, parts, *allowed);
    }
    Ok(former)
}

/// Asks one, and says what follows from its yes.
pub(super) async fn put(
    record: &mut Record,
    parts: &Parts,
    (asked, source): (&Asked, &Source),
    one: &Asking,
) -> Result<Box<Allowed>, Refused> {
    let shown = match one.whom.body {
        Some(most) => Some(beginning(source, most).await?),
        None => None,
    };
    let said = match Box::pin(consult(record.inbound(), parts, (asked, shown.as_ref()), &one.whom)).await {
        Ok(Answer::Allowed(allowed)) => (Outcome::Allowed, Ok(allowed)),
        Ok(Answer::Refused(answer)) => {
            (Outcome::Denied, Err(Refused::TurnedAway { by: one.name.clone(), answer }))
        }
        Err(error) if one.whom.fail_open => {
            tracing::debug!(provider = %one.name, error = ambit_proxy::fault::chain(&error), "let in unasked");
            (Outcome::FailedOpen, Ok(Box::default()))
        }
        Err(error) => {
            let status = StatusCode::from_u16(one.whom.error_status).unwrap_or(StatusCode::FORBIDDEN);
            (Outcome::Failed, Err(Refused::NoWord { by: one.name.clone(), status, error: Box::new(error) }))
        }
    };
    let (outcome, said) = said;
    let labels = AskedLabels { provider: one.name.clone(), outcome };
    record.lane().shared.metrics.asked.get_or_create(&labels).inc();
    record.asked(&labels, one.by.as_ref().filter(|_| said.is_err()));
    said
}

/// Does what a yes says.
pub(super) fn take(record: &mut Record, parts: &mut Parts, allowed: Allowed) {
    let Allowed { request, query, back } = allowed;
    request.apply(&mut parts.headers);
    if !query.is_empty() {
        let changed = query.apply(parts.uri.query());
        let uri = authenticate::with_query(&parts.uri, changed.as_deref());
        parts.uri = uri.unwrap_or_else(|| parts.uri.clone());
    }
    record.answer_with(back);
}

/// Asks whom a route wants to be asked, after policies have let a request in.
pub(crate) async fn ask_of_route(
    record: &mut Record,
    parts: &mut Parts,
    (asked, source): (&Asked, &Source),
    (route, whom): (&mut Route, Arc<Authorizer>),
) -> Result<(), Refused> {
    let one = Asking { name: route.name.clone(), whom, by: None };
    let allowed = put(record, parts, (asked, source), &one).await?;
    route.change_query(&allowed.query);
    take(record, parts, *allowed);
    Ok(())
}

/// Whom policies want to be asked about this request.
pub(crate) fn who(inbound: &Inbound, parts: &Parts, asked: &Asked) -> Result<Vec<Asking>, Refused> {
    let world = inbound.lane.shared.world.load();
    let policies = world.request_policies_of(&inbound.targets);
    if !policies.iter().any(|it| matches!(it.action, RequestAction::Custom { .. })) {
        return Ok(Vec::new());
    }
    let target = route::target(parts)?;
    // What pages of other origins may do is told to browsers that ask without saying who they are.
    if is_preflight(&parts.method, &parts.headers) {
        let seen = route::Seen { parts, asked, target: &target, token: None };
        let routed = route::route(inbound, &seen, &mut Chance).route;
        if let Err(refused @ Refused::Preflight { .. }) = routed {
            return Err(refused);
        }
    }
    let host = asked.host();
    let http = Http { host, method: &parts.method, path: &target.path, headers: &parts.headers, token: None };
    let facts = authorize::facts(inbound, Some(http));
    let all = asks(&policies, &facts).map_err(Refused::Denied)?;
    let known = all.into_iter().map(|(name, by)| {
        let whom = world.provider(name.as_str()).and_then(|it| it.authorizer());
        // Somebody whom nobody knows cannot be asked, and lets nobody in.
        let whom = whom.ok_or_else(|| Refused::Unasked(name.to_string()))?;
        Ok(Asking { name: name.clone(), whom: Arc::clone(whom), by: Some(by) })
    });
    known.collect()
}

/// What is shown of a body.
struct Shown {
    bytes: Bytes,
    is_whole: bool,
    raw: bool,
}

async fn beginning(source: &Source, shown: BodyShown) -> Result<Shown, Refused> {
    let (bytes, is_whole) = source.beginning(shown.most).await?;
    if !is_whole && !shown.partial {
        return Err(Refused::TooLarge);
    }
    Ok(Shown { bytes, is_whole, raw: shown.raw })
}

async fn consult(
    inbound: &Inbound,
    parts: &Parts,
    (asked, body): (&Asked, Option<&Shown>),
    whom: &Authorizer,
) -> Result<Answer, NoWord> {
    let lane = &inbound.lane;
    let target = match route::target(parts) {
        Ok(target) => whole(&target),
        // It was one before somebody else's yes changed its query.
        Err(_) => "/".to_owned(),
    };
    let host = asked.host();
    let shown = |name: &HeaderName| whom.shown.holds(name) || *name == AUTHORIZATION;
    let mut headers = HeaderMap::with_capacity(parts.headers.keys_len());
    for (name, value) in parts.headers.iter().filter(|(name, _)| shown(name)) {
        headers.append(name.clone(), value.clone());
    }
    if let Some(body) = body {
        headers.insert(PARTIAL, HeaderValue::from_static(if body.is_whole { "false" } else { "true" }));
    }
    match &whom.speaks {
        Speaks::Grpc => {
            let message = question(inbound, parts, (&target, host, &headers), body);
            let answer = call::grpc(lane, &whom.at, (check::METHOD, &message), &[], whom.patience).await?;
            Ok(check::answer(answer)?)
        }
        Speaks::Http(how) => {
            let bytes = body.map(|body| body.bytes.clone()).unwrap_or_default();
            let request = request(how, parts, (&target, host, headers), bytes)?;
            let called = call::call(lane, &whom.at, request, whom.patience).await?;
            Ok(from_http(how, called.status, (&called.headers, called.body.into()))?)
        }
    }
}

fn whole(target: &RequestTarget<'_>) -> String {
    let path = target.path.as_str();
    target.query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// The question as a message.
fn question(
    inbound: &Inbound,
    parts: &Parts,
    (path, host, headers): (&str, &str, &HeaderMap),
    body: Option<&Shown>,
) -> Bytes {
    let client = &inbound.client;
    let principal = client.identity.as_ref().map(ToString::to_string).unwrap_or_default();
    let own = inbound.lane.shared.identity.to_string();
    let service = inbound.service().map_or("", |service| service.hostname.as_str());
    check::question(&Question {
        source: End { at: client.from.socket(), principal: &principal, service: "" },
        destination: End { at: inbound.dialled, principal: &own, service },
        at: now_system(),
        method: parts.method.as_str(),
        path,
        host,
        scheme: "http",
        version: if parts.version >= Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
        headers,
        body: body.map(|body| check::Body { bytes: &body.bytes, raw: body.raw }),
    })
}

/// The question as a request.
fn request(
    how: &OverHttp,
    parts: &Parts,
    (target, host, mut headers): (&str, &str, HeaderMap),
    body: Bytes,
) -> Result<Request<Bytes>, NoWord> {
    for (name, value) in &how.add {
        headers.insert(name.clone(), value.clone());
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    // The body is sent at once.
    headers.remove(EXPECT);
    // One, also where the client's is shown.
    headers.remove(HOST);
    headers.extend(HeaderValue::try_from(host).ok().map(|host| (HOST, host)));
    let mut request = Request::builder().method(&parts.method).uri(format!("{}{target}", how.prefix));
    request.headers_mut().into_iter().for_each(|it| it.clone_from(&headers));
    request.body(body).map_err(NoWord::Question)
}
