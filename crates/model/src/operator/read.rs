//! Reads a text with operators. Owns their names and arguments; bounded in length and in the number of parts.

use std::str::FromStr;

use http::HeaderName;

use super::time::TimeForm;
use super::{End, Field, Form, Known, Operator, Part, Template, What, Wording};

/// Bytes of one text.
const LONGEST: usize = 4_096;
/// Operators in one text.
const MOST: usize = 64;

/// Why a text is no text with operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {problem}; {remedy}")]
pub struct TemplateError {
    /// Where, from 1.
    pub at: usize,
    /// What is wrong.
    pub problem: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.len() > LONGEST {
            let problem = "a text of more than 4096 bytes";
            return Err(TemplateError { at: LONGEST, problem, remedy: "make it shorter" });
        }
        let (mut parts, mut operators) = (Vec::new(), 0);
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let wrong = || TemplateError {
                at: text.len() - after.len(),
                problem: "a % that begins no operator",
                remedy: "close the operator by %, as %PROTOCOL%, or write %% for a percent sign",
            };
            let (operator, after) = operator(after).ok_or_else(wrong)?;
            operators += 1;
            if operators > MOST {
                return Err(TemplateError {
                    problem: "more than 64 operators",
                    remedy: "use fewer",
                    ..wrong()
                });
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Of(operator));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self { text: text.into(), parts: parts.into() })
    }
}

/// An operator behind its first `%`, and what follows its last one.
fn operator(text: &str) -> Option<(Operator, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))?;
    let (name, mut rest) = text.split_at_checked(end).filter(|(name, _)| !name.is_empty())?;
    let mut arguments = None;
    if let Some(inner) = rest.strip_prefix('(') {
        let (given, after) = inner.split_once(')')?;
        (arguments, rest) = (Some(given), after);
    }
    let mut most = None;
    if let Some(after) = rest.strip_prefix(':') {
        let (digits, _) = after.split_once('%')?;
        most = Some(digits.parse().ok()?);
        rest = after.get(digits.len()..)?;
    }
    let rest = rest.strip_prefix('%')?;
    let unknown = || {
        let given = arguments.map(|it| format!("({it})")).unwrap_or_default();
        What::Unknown(format!("{name}{given}").into())
    };
    let what = what(name, arguments).unwrap_or_else(unknown);
    Some((Operator { what, most }, rest))
}

fn what(name: &str, arguments: Option<&str>) -> Option<What> {
    match (name, arguments) {
        ("START_TIME", given) => TimeForm::read(given.unwrap_or_default()).map(What::Start),
        ("REQ", Some(given)) => fields(given).map(|(one, other)| What::Request(one, other)),
        ("REQ_WITHOUT_QUERY", Some(given)) => fields(given).map(|(one, other)| What::RequestBare(one, other)),
        ("RESP", Some(given)) => {
            let (one, other) = either(given);
            let other = other.map(|it| it.parse().ok());
            // Of two, both are to be read.
            let other = if let Some(read) = other { Some(read?) } else { None };
            Some(What::Response(one.parse().ok()?, other))
        }
        ("GRPC_STATUS", given) => Some(What::Grpc(match given.unwrap_or_default() {
            "" | "CAMEL_STRING" => Wording::Camel,
            "SNAKE_STRING" => Wording::Snake,
            "NUMBER" => Wording::Number,
            _ => return None,
        })),
        ("GRPC_STATUS_NUMBER", None) => Some(What::Grpc(Wording::Number)),
        (name, None) => address(name).or_else(|| known(name).map(What::Known)),
        (_, Some(_)) => None,
    }
}

fn address(name: &str) -> Option<What> {
    let (end, form) = match name {
        "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => (End::Remote, Form::Whole),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
            (End::Remote, Form::WithoutPort)
        }
        "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT" => (End::Remote, Form::Port),
        "DOWNSTREAM_LOCAL_ADDRESS" => (End::Local, Form::Whole),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => (End::Local, Form::WithoutPort),
        "DOWNSTREAM_LOCAL_PORT" => (End::Local, Form::Port),
        _ => return None,
    };
    Some(What::Address(end, form))
}

fn known(name: &str) -> Option<Known> {
    Some(match name {
        "PROTOCOL" => Known::Protocol,
        "RESPONSE_CODE" => Known::Code,
        "RESPONSE_CODE_DETAILS" => Known::CodeDetails,
        "RESPONSE_FLAGS" => Known::Flags,
        "BYTES_RECEIVED" => Known::Received,
        "BYTES_SENT" => Known::Sent,
        "DURATION" => Known::Duration,
        "RESPONSE_DURATION" => Known::Answered,
        "RESPONSE_TX_DURATION" => Known::Passed,
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Known::Endpoint,
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Known::Service,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Known::Attempts,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Known::Failure,
        "DOWNSTREAM_PEER_URI_SAN" => Known::Client,
        "UPSTREAM_PEER_URI_SAN" => Known::Server,
        "ROUTE_NAME" => Known::Route,
        "TRACE_ID" => Known::Trace,
        "REQUESTED_SERVER_NAME" | "CONNECTION_TERMINATION_DETAILS" | "UPSTREAM_LOCAL_ADDRESS" => {
            Known::Nothing
        }
        _ => return None,
    })
}

/// `X?Y`.
fn either(given: &str) -> (&str, Option<&str>) {
    given.split_once('?').map_or((given, None), |(one, other)| (one, Some(other)))
}

fn fields(given: &str) -> Option<(Field, Option<Field>)> {
    let (one, other) = either(given);
    let other = if let Some(other) = other { Some(field(other)?) } else { None };
    Some((field(one)?, other))
}

fn field(name: &str) -> Option<Field> {
    Some(match name.to_ascii_uppercase().as_str() {
        ":METHOD" => Field::Method,
        ":PATH" => Field::Path,
        ":AUTHORITY" | "HOST" => Field::Authority,
        ":SCHEME" => Field::Scheme,
        _ => Field::Header(name.parse::<HeaderName>().ok()?),
    })
}
