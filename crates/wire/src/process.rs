//! What processors are told, and what they say (`waypoint.md` 9.1), as Envoy and those who work with it write it. Owns both
//! messages; who is told of what, and what follows, is a waypoint's. Of an answer of which something cannot be done,
//! nothing is done: half a change would be another one.

use std::collections::BTreeMap;

use ambit_model::ext_proc::{
    BodyMode, Choice, Immediate, Modes, Mutation, Onward, Part, Reply, Said, Step, Streamed, Way,
};
use ambit_model::provider::{HeaderChange, How};
use bytes::Bytes;
use http::header::{InvalidHeaderName, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::pb::ext_proc as pb;
use crate::pb::ext_proc::processing_mode::{BodySendMode, HeaderSendMode};
use crate::pb::ext_proc::processing_request::Request as Told;
use crate::pb::ext_proc::processing_response::Response as Raw;
use crate::pb::ext_proc::{HeaderValue as RawValue, HeaderValueOption};

/// The method that is called.
pub const METHOD: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// By whom a processor is told of attributes: they look for them by this name.
const BY: &str = "envoy.filters.http.ext_proc";

/// Changes in one answer; more are of no message that may be.
const CHANGES: usize = 256;

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It does not read.
    #[error("the answer does not read")]
    Unread(#[from] prost::DecodeError),
    /// It says nothing.
    #[error("the answer says nothing")]
    Empty,
    /// It changes too much.
    #[error("the answer has {0} changes, more than {CHANGES}")]
    TooMany(usize),
    /// A name in it is none of a header.
    #[error("{0:?} is no header")]
    Name(String, #[source] InvalidHeaderName),
    /// No header has such a value.
    #[error("the value of {0:?} is none")]
    Value(String, #[source] InvalidHeaderValue),
    /// A status of an answer that is none.
    #[error("{0} is no status of an answer")]
    Status(i32),
    /// What it wants to be told is nothing that we tell.
    #[error("{0} is no way to be told of a body")]
    Mode(i32),
}

/// What a processor is told with the first message.
#[derive(Debug, Clone, Default)]
pub struct First {
    /// How it will be told of bodies.
    pub modes: Modes,
    /// What else is known of the request, by name.
    pub attributes: Vec<(String, String)>,
}

/// Headers as they are told: what is no header, by its name with a colon, then the headers.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// `:method` and so on.
    pub pseudo: &'a [(&'a str, &'a str)],
    /// Those that are shown.
    pub headers: &'a HeaderMap,
}

/// Tells of headers, and whether nothing follows.
#[must_use]
pub fn headers(way: Way, head: Head<'_>, is_end: bool, first: Option<&First>) -> Bytes {
    let headers = pb::HttpHeaders { headers: Some(map(head)), end_of_stream: is_end };
    message(
        first,
        match way {
            Way::Request => Told::RequestHeaders(headers),
            Way::Response => Told::ResponseHeaders(headers),
        },
    )
}

/// Tells of a body or a piece of it, and whether nothing follows.
#[must_use]
pub fn body(way: Way, body: Bytes, is_end: bool, first: Option<&First>) -> Bytes {
    let body = pb::HttpBody { body, end_of_stream: is_end };
    message(
        first,
        match way {
            Way::Request => Told::RequestBody(body),
            Way::Response => Told::ResponseBody(body),
        },
    )
}

/// Tells of trailers.
#[must_use]
pub fn trailers(way: Way, headers: &HeaderMap, first: Option<&First>) -> Bytes {
    let trailers = pb::HttpTrailers { trailers: Some(map(Head { pseudo: &[], headers })) };
    message(
        first,
        match way {
            Way::Request => Told::RequestTrailers(trailers),
            Way::Response => Told::ResponseTrailers(trailers),
        },
    )
}

fn map(head: Head<'_>) -> pb::HeaderMap {
    let one = |key: &str, value: &[u8]| RawValue {
        key: key.into(),
        value: String::new(),
        raw_value: Bytes::copy_from_slice(value),
    };
    let pseudo = head.pseudo.iter().map(|(name, value)| one(name, value.as_bytes()));
    let headers = head.headers.iter().map(|(name, value)| one(name.as_str(), value.as_bytes()));
    pb::HeaderMap { headers: pseudo.chain(headers).collect() }
}

fn message(first: Option<&First>, told: Told) -> Bytes {
    let mut request = pb::ProcessingRequest { request: Some(told), ..Default::default() };
    if let Some(First { modes, attributes }) = first {
        request.protocol_config = Some(pb::ProtocolConfiguration {
            request_body_mode: send_mode(modes.request_body).into(),
            response_body_mode: send_mode(modes.response_body).into(),
            send_body_without_waiting_for_header_response: modes.is_duplex(),
        });
        if !attributes.is_empty() {
            let value = |text: &String| Value { kind: Some(Kind::StringValue(text.clone())) };
            let fields = attributes.iter().map(|(name, text)| (name.clone(), value(text))).collect();
            request.attributes = BTreeMap::from([(BY.to_owned(), Struct { fields })]);
        }
    }
    request.encode_to_vec().into()
}

/// The same message, to which no answer is waited for.
#[must_use]
pub fn watched(message: &Bytes) -> Bytes {
    // What follows a message is read as more of it.
    let more = pb::ProcessingRequest { observability_mode: true, ..Default::default() };
    [message.as_ref(), &more.encode_to_vec()].concat().into()
}

const fn send_mode(mode: BodyMode) -> BodySendMode {
    match mode {
        BodyMode::None => BodySendMode::None,
        BodyMode::Streamed => BodySendMode::Streamed,
        BodyMode::Buffered => BodySendMode::Buffered,
        BodyMode::BufferedPartial => BodySendMode::BufferedPartial,
        BodyMode::Duplex => BodySendMode::FullDuplexStreamed,
    }
}

/// What an answer says.
///
/// # Errors
/// When it is none.
pub fn reply(bytes: Bytes) -> Result<Reply, ProcessError> {
    let pb::ProcessingResponse { response, mode_override, override_message_timeout } =
        pb::ProcessingResponse::decode(bytes)?;
    let of = |way, part, onward| Said::Onward(Step { way, part }, Box::new(onward));
    let said = match response {
        // It asks for time, of which it gets as much as everybody.
        None if override_message_timeout.is_some() => Said::Nothing,
        None => return Err(ProcessError::Empty),
        Some(Raw::RequestHeaders(it)) => of(Way::Request, Part::Headers, common(it.response)?),
        Some(Raw::ResponseHeaders(it)) => of(Way::Response, Part::Headers, common(it.response)?),
        Some(Raw::RequestBody(it)) => of(Way::Request, Part::Body, common(it.response)?),
        Some(Raw::ResponseBody(it)) => of(Way::Response, Part::Body, common(it.response)?),
        Some(Raw::RequestTrailers(it)) => of(Way::Request, Part::Trailers, trailing(it)?),
        Some(Raw::ResponseTrailers(it)) => of(Way::Response, Part::Trailers, trailing(it)?),
        Some(Raw::ImmediateResponse(it)) => Said::Answer(Box::new(immediate(it)?)),
    };
    Ok(Reply { said, choice: mode_override.map(choice).transpose()? })
}

fn trailing(raw: pb::TrailersResponse) -> Result<Onward, ProcessError> {
    let pb::TrailersResponse { header_mutation } = raw;
    Ok(Onward { headers: mutation(header_mutation.unwrap_or_default())?, ..Onward::default() })
}

fn common(raw: Option<pb::CommonResponse>) -> Result<Onward, ProcessError> {
    use pb::body_mutation::Mutation as Raw;
    let pb::CommonResponse { status, header_mutation, body_mutation, clear_route_cache } =
        raw.unwrap_or_default();
    let (body, streamed) = match body_mutation.and_then(|it| it.mutation) {
        Some(Raw::Body(bytes)) => (Some(bytes.into()), None),
        Some(Raw::ClearBody(true)) => (Some(Vec::new()), None),
        Some(Raw::StreamedResponse(pb::StreamedBodyResponse { body, end_of_stream: is_end })) => {
            (None, Some(Streamed { body: body.into(), is_end }))
        }
        Some(Raw::ClearBody(false)) | None => (None, None),
    };
    Ok(Onward {
        headers: mutation(header_mutation.unwrap_or_default())?,
        body,
        streamed,
        last: status == i32::from(pb::common_response::ResponseStatus::ContinueAndReplace),
        reroute: clear_route_cache,
    })
}

fn immediate(raw: pb::ImmediateResponse) -> Result<Immediate, ProcessError> {
    let pb::ImmediateResponse { status, headers, body, grpc_status, details } = raw;
    let code = status.map(|it| it.code).filter(|code| *code != 0).unwrap_or(200);
    let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.filter(|it| (200..600).contains(&it.as_u16())).ok_or(ProcessError::Status(code))?;
    let grpc = grpc_status.map(|it| u16::try_from(it.status).unwrap_or(2));
    Ok(Immediate {
        status,
        headers: mutation(headers.unwrap_or_default())?,
        body: body.into(),
        grpc,
        details: details.into(),
    })
}

fn mutation(raw: pb::HeaderMutation) -> Result<Mutation, ProcessError> {
    let pb::HeaderMutation { set_headers, remove_headers } = raw;
    let count = set_headers.len() + remove_headers.len();
    if count > CHANGES {
        return Err(ProcessError::TooMany(count));
    }
    let mut mutation = Mutation::default();
    for name in remove_headers {
        // What is no header is never taken out.
        if !name.starts_with(':') {
            mutation.gone.push(named(&name)?);
        }
    }
    for HeaderValueOption { header, append, append_action } in set_headers {
        let RawValue { key, value, raw_value } = header.unwrap_or_default();
        let bytes = if value.is_empty() { raw_value } else { value.into() };
        let value =
            HeaderValue::from_maybe_shared(bytes).map_err(|error| ProcessError::Value(key.clone(), error))?;
        if key.starts_with(':') || key.eq_ignore_ascii_case("host") {
            let name = if key.starts_with(':') { key.to_ascii_lowercase() } else { ":authority".to_owned() };
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            mutation.pseudo.push((name.into(), text.into()));
            continue;
        }
        // What nobody chose replaces what is there, as processors are used to.
        let how = match (append, append_action) {
            (Some(true), _) => How::Append,
            (_, 1) => How::IfAbsent,
            (_, 3) => How::IfPresent,
            (Some(false) | None, _) => How::Set,
        };
        mutation.set.push(HeaderChange { name: named(&key)?, value, how });
    }
    Ok(mutation)
}

fn named(text: &str) -> Result<HeaderName, ProcessError> {
    text.parse().map_err(|error| ProcessError::Name(text.into(), error))
}

fn choice(raw: pb::ProcessingMode) -> Result<Choice, ProcessError> {
    let pb::ProcessingMode {
        // It has seen those.
        request_header_mode: _,
        response_header_mode,
        request_body_mode,
        response_body_mode,
        request_trailer_mode,
        response_trailer_mode,
    } = raw;
    let sent = |mode: i32| match HeaderSendMode::try_from(mode) {
        Ok(HeaderSendMode::Send) => Some(true),
        Ok(HeaderSendMode::Skip) => Some(false),
        Ok(HeaderSendMode::Default) | Err(_) => None,
    };
    Ok(Choice {
        response_headers: sent(response_header_mode),
        request_body: body_mode(request_body_mode)?,
        response_body: body_mode(response_body_mode)?,
        request_trailers: sent(request_trailer_mode),
        response_trailers: sent(response_trailer_mode),
    })
}

fn body_mode(raw: i32) -> Result<BodyMode, ProcessError> {
    Ok(match BodySendMode::try_from(raw) {
        Ok(BodySendMode::None) => BodyMode::None,
        Ok(BodySendMode::Streamed) => BodyMode::Streamed,
        Ok(BodySendMode::Buffered) => BodyMode::Buffered,
        Ok(BodySendMode::BufferedPartial) => BodyMode::BufferedPartial,
        // Nobody begins with that in the middle of a conversation in which each waits for the other.
        Ok(BodySendMode::FullDuplexStreamed) | Err(_) => return Err(ProcessError::Mode(raw)),
    })
}

#[cfg(test)]
mod tests;
