//! Questions to authorizers by gRPC, and what they answer (`waypoint.md` 4.8), as Envoy and those who work with it write
//! them. Owns both messages; who is asked, and what follows, is a waypoint's. An answer of which something cannot be
//! done is no answer: half a yes would be more than was said.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use ambit_model::provider::{
    Allowed, Answer, ERROR_STATUS, HeaderChange, HeaderChanges, How, QueryChanges, Refusing,
};
use bytes::Bytes;
use http::header::{InvalidHeaderName, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use prost::Message;

use crate::pb::ext_authz as pb;

/// The method that is called.
pub const METHOD: &str = "/envoy.service.auth.v3.Authorization/Check";

/// A request that is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub source: End<'a>,
    /// Who is asked.
    pub destination: End<'a>,
    /// When it came.
    pub at: SystemTime,
    /// The method.
    pub method: &'a str,
    /// The path, with the query.
    pub path: &'a str,
    /// To whom it is addressed.
    pub host: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The version of HTTP.
    pub version: &'a str,
    /// The headers that are shown.
    pub headers: &'a HeaderMap,
    /// The beginning of its body, as far as it is shown.
    pub body: Option<Body<'a>>,
}

/// An end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Where it is.
    pub at: SocketAddr,
    /// Its identity; empty: not known.
    pub principal: &'a str,
    /// The service that it is of; empty: none.
    pub service: &'a str,
}

/// A body, as far as it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Whether they stay bytes; else what is no text is not shown as it is.
    pub raw: bool,
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It does not read.
    #[error("the answer does not read")]
    Unread(#[from] prost::DecodeError),
    /// A name in it is none of a header.
    #[error("{0:?} is no header")]
    Name(String, #[source] InvalidHeaderName),
    /// No header has such a value.
    #[error("the value of {0:?} is none")]
    Value(String, #[source] InvalidHeaderValue),
    /// A status of a no that is none.
    #[error("{0} is no status of a refusal")]
    Status(i32),
}

/// A question as it is sent.
#[must_use]
pub fn question(asked: &Question<'_>) -> Bytes {
    let Question { source, destination, at, method, path, host, scheme, version, headers, body } = *asked;
    let length = headers.get(http::header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    let mut shown = joined(headers);
    for (name, value) in [(":method", method), (":path", path), (":authority", host), (":scheme", scheme)] {
        shown.insert(name.into(), value.into());
    }
    let mut http = pb::attribute_context::HttpRequest {
        id: shown.get("x-request-id").cloned().unwrap_or_default(),
        method: method.into(),
        headers: shown,
        path: path.into(),
        host: host.into(),
        scheme: scheme.into(),
        size: length.unwrap_or(-1),
        protocol: version.into(),
        body: String::new(),
        raw_body: Bytes::new(),
    };
    match body {
        Some(Body { bytes, raw: true }) => http.raw_body = Bytes::copy_from_slice(bytes),
        Some(Body { bytes, raw: false }) => http.body = String::from_utf8_lossy(bytes).into_owned(),
        None => {}
    }
    let request = pb::attribute_context::Request { time: Some(at.into()), http: Some(http) };
    let attributes = pb::AttributeContext {
        source: Some(end(source)),
        destination: Some(end(destination)),
        request: Some(request),
    };
    pb::CheckRequest { attributes: Some(attributes) }.encode_to_vec().into()
}

fn end(end: End<'_>) -> pb::attribute_context::Peer {
    let End { at, principal, service } = end;
    let socket = pb::SocketAddress { address: at.ip().to_string(), port_value: at.port().into() };
    pb::attribute_context::Peer {
        address: Some(pb::Address { socket_address: Some(socket) }),
        service: service.into(),
        principal: principal.into(),
    }
}

/// Headers of which several of a name are joined.
fn joined(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        all.entry(name.to_string())
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    all
}

/// What an answer says.
///
/// # Errors
/// When it is none.
pub fn answer(bytes: Bytes) -> Result<Answer, CheckError> {
    use pb::check_response::HttpResponse;
    let pb::CheckResponse { status, http_response } = pb::CheckResponse::decode(bytes)?;
    // Without a status it is that of 0.
    let is_yes = status.is_none_or(|it| it.code == 0);
    Ok(match (is_yes, http_response) {
        (true, Some(HttpResponse::OkResponse(more))) => Answer::Allowed(Box::new(allowed(more)?)),
        (true, _) => Answer::Allowed(Box::default()),
        (false, Some(HttpResponse::DeniedResponse(more))) => Answer::Refused(Box::new(refusing(more)?)),
        (false, _) => Answer::Refused(Box::new(refusing(pb::DeniedHttpResponse::default())?)),
    })
}

fn allowed(raw: pb::OkHttpResponse) -> Result<Allowed, CheckError> {
    let pb::OkHttpResponse {
        headers,
        headers_to_remove,
        response_headers_to_add,
        query_parameters_to_set,
        query_parameters_to_remove,
    } = raw;
    // Of a request's, what nobody chose replaces what is there; of an answer's, it comes beside it.
    let mut request = changes(headers, |_| How::Set)?;
    for name in headers_to_remove {
        // What belongs to the connection stays as it is, whatever is said of it.
        let _ = request.remove(named(&name)?);
    }
    let set = query_parameters_to_set.into_iter().map(|pb::QueryParameter { key, value }| (key, value));
    Ok(Allowed {
        request,
        query: QueryChanges { set: set.collect(), gone: query_parameters_to_remove },
        back: changes(response_headers_to_add, |_| How::Append)?,
    })
}

fn refusing(raw: pb::DeniedHttpResponse) -> Result<Refusing, CheckError> {
    let pb::DeniedHttpResponse { status, headers, body } = raw;
    let code = status.map(|it| it.code).filter(|code| *code != 0).unwrap_or_else(|| ERROR_STATUS.into());
    let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.filter(|it| (200..600).contains(&it.as_u16())).ok_or(CheckError::Status(code))?;
    // There is nothing yet that the first of a name could come beside.
    let headers = changes(headers, |is_first| if is_first { How::Set } else { How::Append })?;
    Ok(Refusing { status, headers, body: body.into() })
}

/// Changes as they were written; `unsaid` is how where nobody chose, of the first of a name and of others.
fn changes(
    raw: Vec<pb::HeaderValueOption>,
    unsaid: impl Fn(bool) -> How,
) -> Result<HeaderChanges, CheckError> {
    let mut changes = HeaderChanges::default();
    let mut seen: Vec<HeaderName> = Vec::new();
    for pb::HeaderValueOption { header, append, append_action } in raw {
        let pb::HeaderValue { key, value, raw_value } = header.unwrap_or_default();
        let name = named(&key)?;
        let bytes = if value.is_empty() { raw_value } else { value.into() };
        let value = HeaderValue::from_maybe_shared(bytes).map_err(|error| CheckError::Value(key, error))?;
        let is_first = !seen.contains(&name);
        let how = match (append, append_action) {
            (Some(true), _) => How::Append,
            (_, 1) => How::IfAbsent,
            (_, 3) => How::IfPresent,
            (Some(false), _) | (None, 2) => How::Set,
            (None, _) => unsaid(is_first),
        };
        seen.push(name.clone());
        // What belongs to the connection stays as it is, whatever is said of it.
        let _ = changes.push(HeaderChange { name, value, how });
    }
    Ok(changes)
}

fn named(text: &str) -> Result<HeaderName, CheckError> {
    text.parse().map_err(|error| CheckError::Name(text.into(), error))
}

#[cfg(test)]
mod tests;
