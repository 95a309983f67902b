//! What a client is answered (`waypoint.md` 1.6, 1.8): the endpoint's answer as it comes, or our own words. Owns the
//! headers of both, gRPC's way to say no, and what follows an answer that ends HTTP.

use std::borrow::Cow;
use std::sync::Arc;

use ambit_hbone::nested::Nested;
use ambit_model::ext_proc::ChangeRules;
use ambit_model::http_route::AbortWith;
use ambit_model::telemetry::{ProxyHeader, Server};
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SERVER, UPGRADE, WWW_AUTHENTICATE,
};
use http::{Response, StatusCode, Version};
use http_body::Frame;
use tokio::time::sleep_until;

use super::identify::take_out;
use super::record::Record;
use super::route::Route;
use crate::body::{Coming, Download, Passing};
use crate::grpc_web::{GrpcWeb, is_grpc, take_status};
use crate::refused::Refused;
use crate::upgrade::{Upgrade, between};
use crate::upstream::{Failure, Got, Lease};

const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-local-overloaded");
const OVERFLOWED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
/// Who answers, where nobody has a word for it.
const OWN_NAME: HeaderValue = HeaderValue::from_static("ambit-waypoint");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// An endpoint's answer as its route has it.
pub(crate) struct Edited {
    pub(crate) response: Response<()>,
    pub(crate) body: Coming,
    /// The protocol that begins with it.
    pub(crate) protocol: Option<HeaderValue>,
    /// The stream that it begins on, in HTTP/2.
    through: Option<Box<Nested>>,
    /// None once nobody waits for the rest of its body.
    lease: Option<Lease>,
}

impl Edited {
    /// Puts this in the place of its body, and what follows after it; else nobody waits for more.
    pub(crate) fn replace(&mut self, by: Bytes, trailers: Option<HeaderMap>, after: Option<Coming>) {
        let length = u64::try_from(by.len()).unwrap_or(u64::MAX);
        if after.is_none() && !self.body.is_end_stream() {
            self.lease = None;
        }
        let headers = self.response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        if after.is_none() && trailers.is_none() {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        self.body = Coming::kept(by, trailers, after);
    }
}

/// Changes an endpoint's answer as its route says.
pub(crate) fn edit(record: &mut Record, got: Got, route: &Route) -> Edited {
    let Got { response, met, lease, through } = got;
    let (head, body) = response.into_parts();
    let mut response = Response::from_parts(head, ());
    record.answered(response.status(), response.headers(), &met);
    let protocol = response.headers().get(UPGRADE).cloned();
    let protocol = protocol.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS);
    let protocol = protocol.or_else(|| through.as_ref().map(|_| HeaderValue::from_static("websocket")));
    take_out(response.headers_mut());
    route.edit_answer((response.status(), &*met), response.headers_mut());
    route.tell_session(&met, response.headers_mut());
    Edited { response, body: Coming::Wire(body), protocol, through, lease: Some(lease) }
}

/// Passes an endpoint's answer on.
pub(crate) fn pass(
    mut record: Box<Record>,
    mut answer: Edited,
    upgrade: Option<Upgrade>,
) -> Response<Download> {
    record.passes(answer.response.status());
    record.finish(answer.response.headers_mut());
    if let Some(web) = record.web() {
        in_web(&mut record, &mut answer, web);
    }
    let Edited { mut response, body, protocol, through, lease } = answer;
    if record.tells(ProxyHeader::Details) {
        let took = record.upstream_took().as_millis();
        let took = HeaderValue::from(u64::try_from(took).unwrap_or(u64::MAX));
        response.headers_mut().insert(SERVICE_TIME, took);
    }
    if let Some(Server::Is(name)) = record.server() {
        response.headers_mut().insert(SERVER, name.clone());
    }
    *response.version_mut() = Version::HTTP_11;
    if let (Some(near), Some(protocol)) = (upgrade, protocol) {
        let far =
            through.map_or_else(|| Upgrade::Http1(hyper::upgrade::on(&mut response), None), Upgrade::Open);
        let headers = response.headers_mut();
        if record.is_http2() {
            // RFC 8441, 5: there it is an answer like any other, without a key to prove.
            headers.remove(SEC_WEBSOCKET_ACCEPT);
            *response.status_mut() = StatusCode::OK;
        } else {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol);
            if let (Upgrade::Open(_), Some(proof)) = (&far, near.proof()) {
                headers.insert(SEC_WEBSOCKET_ACCEPT, proof);
            }
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        let crew = record.lane().crew.clone();
        crew.add("upgraded", async move {
            between(near, far, record).await;
            // Until then it counts, as whoever uses the connection.
            drop(lease);
        });
        return response.map(|_| Download::Own(None));
    }
    if response.status() == StatusCode::NO_CONTENT {
        // RFC 9110, 8.6: it has none, and a reader might wait for one.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    unopened(&record, &mut response);
    response.map(|()| {
        let deadline = record.deadline().map(|at| Box::pin(sleep_until(at)));
        let idle = record.idle();
        Download::Upstream(Box::new(Passing { body, record, lease, deadline, idle }))
    })
}

/// No answer of HTTP/2 to whoever asks for a websocket is a success but one: it would say that the websocket is open.
fn unopened<T>(record: &Record, response: &mut Response<T>) {
    if record.is_http2() && record.is_upgrade() && response.status().is_success() {
        *response.status_mut() = StatusCode::BAD_GATEWAY;
    }
}

/// Makes an answer one of gRPC-web. One that is none of gRPC is told as a client of gRPC would read it: by its status.
fn in_web(record: &mut Record, answer: &mut Edited, web: GrpcWeb) {
    let headers = answer.response.headers();
    if !is_grpc(headers) || answer.body.is_end_stream() && !headers.contains_key(GRPC_STATUS) {
        let http = answer.response.status();
        let (status, words) = (grpc_status(http), format!("the endpoint answered with status {http}"));
        answer.replace(Bytes::new(), None, None);
        *answer.response.status_mut() = StatusCode::OK;
        answer.response.headers_mut().remove(CONTENT_ENCODING);
        say_grpc(answer.response.headers_mut(), status, &words);
        record.grpc(status);
    }
    if answer.body.is_end_stream() {
        let status = take_status(answer.response.headers_mut());
        answer.body = Coming::kept(Bytes::new(), Some(status), None);
    }
    web.answer(answer.response.headers_mut());
}

/// Answers in an endpoint's place.
pub(crate) fn own(mut record: Box<Record>, refused: &Refused) -> Response<Download> {
    let mut response = said(&mut record, refused);
    unopened(&record, &mut response);
    record.tell_pages(response.headers_mut());
    record.finish(response.headers_mut());
    match record.web() {
        Some(web) if response.headers().contains_key(GRPC_STATUS) => {
            let status = Frame::trailers(take_status(response.headers_mut()));
            web.answer(response.headers_mut());
            response.map(|_| Download::Own(web.piece(status).into_data().ok()))
        }
        _ => response,
    }
}

fn said(record: &mut Record, refused: &Refused) -> Response<Download> {
    let words = refused.words();
    record.refused(refused, &words);
    let mut response = Response::new(Download::Own(None));
    let headers = response.headers_mut();
    match record.server() {
        None => drop(headers.insert(SERVER, OWN_NAME)),
        Some(Server::Is(name)) => drop(headers.insert(SERVER, name.clone())),
        Some(Server::Untold) => {}
    }
    if matches!(
        refused,
        Refused::Bad(_)
            | Refused::Path(_)
            | Refused::Coding
            | Refused::TooLong
            | Refused::TooMany
            | Refused::Idle
    ) && !record.is_http2()
    {
        // Where one message ends and the next begins is no longer certain.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Refused::Upstream(Failure::Overflow(_)) = refused
        && record.tells(ProxyHeader::Details)
    {
        headers.insert(OVERFLOWED, HeaderValue::from_static("true"));
    }
    if let Refused::Full(_) = refused {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        headers.insert(OVERLOADED, HeaderValue::from_static("true"));
    }
    if let Refused::Limited(limited) = refused {
        limited.say(headers);
    }
    if let Refused::Unproven { fault, realm } = refused
        && !fault.is_forbidden()
    {
        // RFC 6750, 3. A token there was, or nobody would have been refused for it.
        let told = HeaderValue::try_from(format!("Bearer realm=\"{realm}\", error=\"invalid_token\""));
        headers.extend(told.ok().map(|told| (WWW_AUTHENTICATE, told)));
    }
    if is_route_s(refused, headers) {
        *response.status_mut() = words.status;
        return response;
    }
    let mut response = if let Some(status) = grpc_status_of(record, refused, words.status) {
        say_grpc(headers, status, &words.body);
        record.grpc(status);
        response
    } else {
        *response.status_mut() = words.status;
        let body = body(record, refused, words.body, response.headers_mut());
        response.map(|_| Download::Own(Some(body)))
    };
    if let Refused::Processed { answer, .. } = refused {
        // What belongs to the connection stays, and one that is too large gets none of them.
        let mut changed = response.headers().clone();
        if answer.headers.apply(&mut changed, &ChangeRules::default(), &[]).is_ok() {
            *response.headers_mut() = changed;
        }
    }
    response
}

/// Whether a route says all of an answer in its headers, which are put there.
fn is_route_s(refused: &Refused, headers: &mut HeaderMap) -> bool {
    match refused {
        Refused::Elsewhere { location, headers: edits, .. } => {
            headers.extend(HeaderValue::try_from(location).ok().map(|location| (LOCATION, location)));
            edits.apply(headers);
            true
        }
        Refused::Preflight { headers: told } => {
            headers.extend(told.clone());
            true
        }
        _ => false,
    }
}

/// What gRPC is told: whoever speaks it, and whoever is to be told so.
fn grpc_status_of(record: &Record, refused: &Refused, status: StatusCode) -> Option<u16> {
    Some(match refused {
        Refused::Aborted(AbortWith::Grpc(status)) => *status,
        _ if !record.is_grpc() => return None,
        // A method that no route has is one that is not implemented.
        Refused::NoRoute => 12,
        Refused::Broken(_) | Refused::Nowhere(_) => 14,
        Refused::Limited(limited) if limited.exhausted => 8,
        Refused::Processed { answer, .. } => answer.grpc.unwrap_or_else(|| grpc_status(status)),
        _ => grpc_status(status),
    })
}

/// The body of an answer of our own, with the headers that are its.
fn body(record: &mut Record, refused: &Refused, words: Cow<'static, str>, headers: &mut HeaderMap) -> Bytes {
    let body: Bytes = match refused {
        Refused::Direct { answer, .. } => Bytes::from_owner(Arc::clone(&answer.body)),
        Refused::TurnedAway { answer, .. } => Bytes::copy_from_slice(&answer.body),
        Refused::Processed { answer, .. } => Bytes::copy_from_slice(&answer.body),
        Refused::Limited(limited) if limited.ruled.is_some() => {
            limited.ruled.as_ref().map(|it| Bytes::copy_from_slice(&it.body)).unwrap_or_default()
        }
        _ => words.into_owned().into(),
    };
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    if let Refused::TurnedAway { answer, .. } = refused {
        answer.headers.apply(headers);
    }
    if let Refused::Direct { headers: edits, .. } = refused {
        edits.apply(headers);
        record.passed(u64::try_from(body.len()).unwrap_or(u64::MAX));
    }
    body
}

/// A status alone: HTTP says 200, and gRPC the rest.
fn say_grpc(headers: &mut HeaderMap, status: u16, message: &str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(status));
    let plain = |c: char| if c.is_ascii_graphic() && c != '%' || c == ' ' { c } else { '?' };
    let message: String = message.chars().map(plain).collect();
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// gRPC's word for a status of HTTP.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_says_what_http_means() {
        for (http, grpc) in
            [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (500, 2), (503, 14), (504, 14)]
        {
            assert_eq!(grpc_status(StatusCode::from_u16(http).unwrap()), grpc, "{http}");
        }
    }

    #[test]
    fn a_message_that_no_header_can_hold_is_said_without_what_it_cannot() {
        let mut headers = HeaderMap::new();
        say_grpc(&mut headers, 14, "50% of\nshop");
        assert_eq!(headers[GRPC_MESSAGE], "50? of?shop");
        assert_eq!(headers[GRPC_STATUS], "14");
    }
}
