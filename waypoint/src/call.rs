//! Calls of our own to services of the mesh: one message there, one back; calls that go on are `stream`'s. Owns where such a service is, which endpoint
//! is called, and that every call is bounded in time, in size and in number. What is asked, and what an answer means, is
//! for whoever calls; the way there is `upstream`'s, so it goes through tunnels wherever the service's own traffic does.

mod stream;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::provider::Reach;
use ambit_model::route::{Bound, Hints, Plan, Refusal};
use ambit_model::service::AppProtocol;
use ambit_wire::health::METHOD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body::Body as _;
use tokio::time::timeout;

use crate::body::{Arriving, HttpError, Upload};
use crate::lane::Lane;
use crate::messages::PREFIX;
use crate::phases::route::protocol_of;
use crate::upstream::{Failure, Got, Lines, endpoint, plan};
pub(crate) use stream::{Stream, pour};

/// Calls under way from one thread; more are not made.
const CALLS: usize = 4096;
/// Larger answers are not taken.
const LARGEST: usize = 1 << 20;
/// Endpoints that are tried, as long as none has seen anything of the call.
const TRIES: u32 = 3;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody is known there.
    #[error("no service is known at {0}")]
    Unknown(Reach),
    /// It has no endpoint.
    #[error("no endpoint is healthy at {0}")]
    NoEndpoint(Reach, #[source] Box<Refusal>),
    /// No endpoint took it, or gave an answer.
    #[error("the endpoint gave no answer")]
    Failed(#[source] Box<Failure>),
    /// The answer broke off.
    #[error("the answer broke off")]
    Broken(#[source] HttpError),
    /// The answer is longer than any we take.
    #[error("the answer has more than {LARGEST} bytes")]
    TooLarge,
    /// A message is longer than any we take of this call.
    #[error("a message has more than {0} bytes")]
    TooLong(usize),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// There are too many calls.
    #[error("too many calls are under way")]
    Full,
    /// The target is none.
    #[error("the target of the call is none")]
    Target(#[source] http::Error),
    /// The call was answered, but not as gRPC answers.
    #[error("the call was answered {0}")]
    Status(StatusCode),
    /// The method failed.
    #[error("the call failed with gRPC status {0:?}")]
    Grpc(String),
    /// An answer that is no single message.
    #[error("the answer is no message of gRPC")]
    NoMessage,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    trailers: HeaderMap,
}

/// Sends a request whose target is a path, and waits for the whole answer. What is spoken at the service's port decides
/// about the version of HTTP.
pub(crate) async fn call(
    lane: &Arc<Lane>,
    at: &Reach,
    request: Request<Bytes>,
    patience: Duration,
) -> Result<Called, CallError> {
    let to = find(lane, at)?;
    within(lane, patience, exchange(lane, (at, &to), &request, speaks_http2(&to))).await
}

/// A body for somebody, and headers beside those that it needs.
pub(crate) fn post(
    at: &Reach,
    target: Uri,
    (kind, body): (&'static str, Bytes),
    add: &[(HeaderName, HeaderValue)],
) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let authority = HeaderValue::try_from(format!("{}:{}", at.host, at.port));
    headers.extend(authority.ok().map(|authority| (HOST, authority)));
    headers.extend(add.iter().cloned());
    request
}

/// Calls a method of gRPC with a message and headers beside the call's own, and waits for its answer.
pub(crate) async fn grpc(
    lane: &Arc<Lane>,
    at: &Reach,
    (method, message): (&'static str, &Bytes),
    add: &[(HeaderName, HeaderValue)],
    patience: Duration,
) -> Result<Bytes, CallError> {
    let to = find(lane, at)?;
    let mut request = post(at, Uri::from_static(method), ("application/grpc", framed(message)?), add);
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    let called = within(lane, patience, exchange(lane, (at, &to), &request, true)).await?;
    message_of(&called)
}

/// A message as gRPC sends it.
pub(crate) fn framed(message: &Bytes) -> Result<Bytes, CallError> {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).map_err(|_| CallError::NoMessage)?);
    framed.put_slice(message);
    Ok(framed.freeze())
}

/// Whether headers or trailers say that a call has ended well; not that it has ended at all, where they say nothing.
fn is_success(headers: &HeaderMap) -> Result<bool, CallError> {
    match headers.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(b"0") => Ok(true),
        Some(other) => Err(CallError::Grpc(String::from_utf8_lossy(other).into_owned())),
        None => Ok(false),
    }
}

/// Asks one endpoint for a path of a host. Whoever asks bounds the time.
pub(crate) async fn get(
    lane: &Arc<Lane>,
    (to, plan): (&Bound, &Plan),
    (path, host): (&str, &str),
) -> Result<Called, CallError> {
    let request = Request::builder().uri(path).header(HOST, host).body(Bytes::new());
    at_one(lane, (to, plan), &request.map_err(CallError::Target)?, speaks_http2(to)).await
}

/// Asks one endpoint of a host by gRPC's health checking protocol. Whoever asks bounds the time.
pub(crate) async fn health(
    lane: &Arc<Lane>,
    (to, plan): (&Bound, &Plan),
    (question, host): (&Bytes, &str),
) -> Result<Bytes, CallError> {
    let request = Request::builder().method(Method::POST).uri(METHOD).header(HOST, host);
    let request = request.header(CONTENT_TYPE, "application/grpc").header(TE, "trailers");
    let request = request.body(framed(question)?).map_err(CallError::Target)?;
    message_of(&at_one(lane, (to, plan), &request, true).await?)
}

/// A call to an endpoint that is chosen already. A connection that was kept may have ended meanwhile, which another one
/// finds out.
async fn at_one(
    lane: &Arc<Lane>,
    (to, plan): (&Bound, &Plan),
    request: &Request<Bytes>,
    http2: bool,
) -> Result<Called, CallError> {
    let Some(_seat) = lane.calls.add_below(CALLS) else { return Err(CallError::Full) };
    let sent = Box::pin(Lines::send(lane, (to, plan), http2, head(request, http2)?)).await;
    Box::pin(whole(sent.map_err(|failure| CallError::Failed(Box::new(failure)))?)).await
}

/// The one message of an answer.
fn message_of(called: &Called) -> Result<Bytes, CallError> {
    if called.status != StatusCode::OK {
        return Err(CallError::Status(called.status));
    }
    // A call that fails at once says so in the head.
    if !(is_success(&called.trailers)? || is_success(&called.headers)?) {
        return Err(CallError::NoMessage);
    }
    let (prefix, message) = called.body.split_first_chunk::<PREFIX>().ok_or(CallError::NoMessage)?;
    let [compressed, length @ ..] = *prefix;
    let whole = usize::try_from(u32::from_be_bytes(length)).is_ok_and(|length| length == message.len());
    if compressed != 0 || !whole {
        return Err(CallError::NoMessage);
    }
    Ok(called.body.slice(PREFIX..))
}

/// What is spoken at a port, where the caller has no version of its own.
fn speaks_http2(to: &Bound) -> bool {
    matches!(protocol_of(to), AppProtocol::Http2 | AppProtocol::Grpc | AppProtocol::GrpcWeb)
}

fn find(lane: &Lane, at: &Reach) -> Result<Bound, CallError> {
    let world = lane.shared.world.load();
    let service = at.meant(world.services_by_host(&at.host));
    let service = service.filter(|service| service.ports.contains_key(&at.port));
    let to =
        service.map(|service| Bound::Service { service: Arc::clone(service), port: at.port, subset: None });
    to.ok_or_else(|| CallError::Unknown(at.clone()))
}

async fn within(
    lane: &Lane,
    patience: Duration,
    exchange: impl Future<Output = Result<Called, CallError>>,
) -> Result<Called, CallError> {
    let Some(_seat) = lane.calls.add_below(CALLS) else { return Err(CallError::Full) };
    match timeout(patience, Box::pin(exchange)).await {
        Ok(called) => called,
        Err(_) => Err(CallError::Silent(patience)),
    }
}

async fn exchange(
    lane: &Arc<Lane>,
    (at, to): (&Reach, &Bound),
    request: &Request<Bytes>,
    http2: bool,
) -> Result<Called, CallError> {
    let mut hints = Hints::default();
    for last in (0..TRIES).map(|tried| tried + 1 == TRIES) {
        let planned = plan(lane, to, &mut hints).await;
        let plan = planned.map_err(|refusal| CallError::NoEndpoint(at.clone(), Box::new(refusal)))?;
        let sent = Box::pin(Lines::send(lane, (to, &plan), http2, head(request, http2)?)).await;
        match sent {
            Ok(got) => return Box::pin(whole(got)).await,
            Err(failure) if last || !failure.is_unseen() => return Err(CallError::Failed(Box::new(failure))),
            Err(_) => {}
        }
        hints.avoid.extend(endpoint(&plan).map(|workload| workload.uid.clone()));
    }
    Err(CallError::NoMessage)
}

/// One sending of a request, as its version of HTTP writes it.
fn head(request: &Request<Bytes>, http2: bool) -> Result<Request<Upload>, CallError> {
    let mut one = Request::new(Upload::own(request.body().clone()));
    one.method_mut().clone_from(request.method());
    one.headers_mut().clone_from(request.headers());
    one.uri_mut().clone_from(request.uri());
    if http2 && let Some(host) = one.headers_mut().remove(HOST) {
        let target = request.uri().path_and_query().map_or("/", |it| it.as_str());
        let uri = Uri::builder().scheme("http").authority(host.as_bytes()).path_and_query(target).build();
        *one.uri_mut() = uri.map_err(CallError::Target)?;
    }
    Ok(one)
}

async fn whole(got: Got) -> Result<Called, CallError> {
    let Got { response, lease, .. } = got;
    let (parts, body) = response.into_parts();
    let (body, trailers) = read(body).await?;
    lease.give_back();
    Ok(Called { status: parts.status, headers: parts.headers, body, trailers })
}

async fn read(mut body: Arriving) -> Result<(Bytes, HeaderMap), CallError> {
    let (mut all, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(CallError::Broken)?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > LARGEST {
                return Err(CallError::TooLarge);
            }
            all.extend_from_slice(data);
        } else if let Ok(last) = frame.into_trailers() {
            trailers = last;
        }
    }
    Ok((all.freeze(), trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(status: u16, grpc: Option<&'static str>, body: &'static [u8]) -> Called {
        let trailers = grpc.map(|code| ("grpc-status".parse().unwrap(), HeaderValue::from_static(code)));
        Called {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body),
            trailers: trailers.into_iter().collect(),
        }
    }

    #[test]
    fn an_answer_of_grpc_is_one_whole_message_of_a_call_that_succeeded() {
        for (answer, wanted) in [
            (called(200, Some("0"), b"\0\0\0\0\x02ab"), Some(&b"ab"[..])),
            (called(200, Some("0"), b"\0\0\0\0\0"), Some(b"")),
            (called(200, Some("0"), b""), None),
            (called(200, Some("0"), b"\0\0\0\0\x03ab"), None),
            (called(200, Some("0"), b"\0\0\0\0\x01ab"), None),
            (called(200, Some("0"), b"\x01\0\0\0\x02ab"), None),
            (called(200, Some("7"), b"\0\0\0\0\x02ab"), None),
            (called(200, None, b"\0\0\0\0\x02ab"), None),
            (called(503, Some("0"), b"\0\0\0\0\x02ab"), None),
        ] {
            let shown = format!("{answer:?}");
            assert_eq!(message_of(&answer).ok().as_deref(), wanted, "{shown}");
        }
    }
}
