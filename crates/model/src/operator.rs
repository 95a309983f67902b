//! Texts with command operators, as Envoy writes them (`%PROTOCOL%`): lines of access logs, values of headers. Owns which
//! operators there are and what a text is with what is known of a request put in. Read once (`read`), written often. What
//! nobody here knows is kept by its name, so that its author can be told of it.

mod line;
mod read;
mod time;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use http::HeaderName;

pub use line::{LineFormat, LineKind};
pub use read::TemplateError;
use time::TimeForm;

/// Bytes of one value; what is longer is cut off.
const LONGEST_VALUE: usize = 8_192;

/// A text with operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Of(Operator),
}

/// What is put in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Operator {
    what: What,
    /// At most so many bytes of it.
    most: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Known(Known),
    Start(TimeForm),
    Request(Field, Option<Field>),
    /// Without a query.
    RequestBare(Field, Option<Field>),
    Response(HeaderName, Option<HeaderName>),
    Address(End, Form),
    Grpc(Wording),
    /// The operator as it was written.
    Unknown(Box<str>),
}

/// What an operator without arguments is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// `PROTOCOL`.
    Protocol,
    /// `RESPONSE_CODE`.
    Code,
    /// `RESPONSE_CODE_DETAILS`.
    CodeDetails,
    /// `RESPONSE_FLAGS`.
    Flags,
    /// `BYTES_RECEIVED`.
    Received,
    /// `BYTES_SENT`.
    Sent,
    /// `DURATION`, in milliseconds.
    Duration,
    /// `RESPONSE_DURATION`: until an endpoint has answered.
    Answered,
    /// `RESPONSE_TX_DURATION`: from there to the end.
    Passed,
    /// `UPSTREAM_HOST`: the endpoint.
    Endpoint,
    /// `UPSTREAM_CLUSTER`: the service.
    Service,
    /// `UPSTREAM_REQUEST_ATTEMPT_COUNT`.
    Attempts,
    /// `UPSTREAM_TRANSPORT_FAILURE_REASON`.
    Failure,
    /// `DOWNSTREAM_PEER_URI_SAN`: who asks.
    Client,
    /// `UPSTREAM_PEER_URI_SAN`: who answers.
    Server,
    /// `ROUTE_NAME`.
    Route,
    /// `TRACE_ID`.
    Trace,
    /// Of what there is nothing here, though the operator is known.
    Nothing,
}

/// What of a request is asked for as a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A header.
    Header(HeaderName),
    /// `:METHOD`.
    Method,
    /// `:PATH`, with the query.
    Path,
    /// `:AUTHORITY`.
    Authority,
    /// `:SCHEME`.
    Scheme,
}

/// Whose address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client's.
    Remote,
    /// The one that it asked for.
    Local,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    WithoutPort,
    Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wording {
    Camel,
    Snake,
    Number,
}

/// What is known of a request.
pub trait Seen {
    /// What has no arguments.
    fn known(&self, of: Known) -> Option<Shown<'_>>;
    /// Of the request.
    fn request(&self, field: &Field) -> Option<Cow<'_, str>>;
    /// A header of the answer.
    fn response(&self, name: &HeaderName) -> Option<Cow<'_, str>>;
    /// An address.
    fn address(&self, of: End) -> Option<SocketAddr>;
    /// When it began.
    fn start(&self) -> SystemTime;
    /// What gRPC answered.
    fn grpc(&self) -> Option<u16>;
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A number.
    Number(u64),
}

impl Template {
    /// The operators that nobody here knows.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.operators().filter_map(|it| if let What::Unknown(name) = it { Some(&**name) } else { None })
    }

    /// What it says of every request, if it says the same of all.
    #[must_use]
    pub fn plain(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The headers of requests that it is made of.
    pub fn request_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let fields = self.operators().flat_map(|it| match it {
            What::Request(one, other) | What::RequestBare(one, other) => [Some(one), other.as_ref()],
            What::Known(_)
            | What::Start(_)
            | What::Response(..)
            | What::Address(..)
            | What::Grpc(_)
            | What::Unknown(_) => [None, None],
        });
        fields.flatten().filter_map(|it| if let Field::Header(name) = it { Some(name) } else { None })
    }

    /// The headers of answers that it is made of.
    pub fn response_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let names = self.operators().flat_map(|it| match it {
            What::Response(one, other) => [Some(one), other.as_ref()],
            What::Known(_)
            | What::Start(_)
            | What::Request(..)
            | What::RequestBare(..)
            | What::Address(..)
            | What::Grpc(_)
            | What::Unknown(_) => [None, None],
        });
        names.flatten()
    }

    /// The text with what is known put in. What is not known is left out.
    pub fn filled(&self, seen: &impl Seen) -> String {
        self.written(seen, "", |text, to| to.push_str(text))
    }

    /// The text, with values as they are to be put in, and this for those that are not known.
    fn written(&self, seen: &impl Seen, absent: &str, put: impl Fn(&str, &mut String)) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Of(operator) => match operator.value(seen) {
                    Some(Shown::Text(value)) => put(&value, &mut text),
                    Some(Shown::Number(value)) => put(&value.to_string(), &mut text),
                    None => text.push_str(absent),
                },
            }
        }
        text
    }

    /// The one operator that it consists of.
    fn only(&self) -> Option<&Operator> {
        if let [Part::Of(operator)] = &*self.parts { Some(operator) } else { None }
    }

    fn operators(&self) -> impl Iterator<Item = &What> {
        self.parts
            .iter()
            .filter_map(|it| if let Part::Of(operator) = it { Some(&operator.what) } else { None })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Operator {
    /// What it is for a request; an empty text is nothing.
    fn value<'a>(&self, seen: &'a impl Seen) -> Option<Shown<'a>> {
        let value = match &self.what {
            What::Known(of) => seen.known(*of)?,
            What::Start(form) => Shown::Text(form.of(seen.start()).into()),
            What::Request(one, other) => Shown::Text(field(seen, one, other.as_ref())?),
            What::RequestBare(one, other) => Shown::Text(bare(field(seen, one, other.as_ref())?)),
            What::Response(one, other) => {
                let either = || seen.response(other.as_ref()?);
                Shown::Text(seen.response(one).or_else(either)?)
            }
            What::Address(end, form) => form.of(seen.address(*end)?),
            What::Grpc(wording) => wording.of(seen.grpc()?),
            What::Unknown(_) => return None,
        };
        match value {
            Shown::Number(_) => Some(value),
            Shown::Text(text) => {
                let text = cut(text, Some(self.most.unwrap_or(LONGEST_VALUE).min(LONGEST_VALUE)));
                (!text.is_empty()).then_some(Shown::Text(text))
            }
        }
    }
}

fn field<'a>(seen: &'a impl Seen, one: &Field, other: Option<&Field>) -> Option<Cow<'a, str>> {
    let either = || seen.request(other?);
    seen.request(one).filter(|it| !it.is_empty()).or_else(either)
}

fn bare(text: Cow<'_, str>) -> Cow<'_, str> {
    let end = text.find('?');
    cut(text, end)
}

/// At most so many bytes, up to the end of a character.
fn cut(text: Cow<'_, str>, most: Option<usize>) -> Cow<'_, str> {
    let Some(most) = most.filter(|most| *most < text.len()) else { return text };
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

impl Form {
    fn of(self, address: SocketAddr) -> Shown<'static> {
        match self {
            Self::Whole => Shown::Text(address.to_string().into()),
            Self::WithoutPort => Shown::Text(address.ip().to_string().into()),
            Self::Port => Shown::Number(address.port().into()),
        }
    }
}

/// Of gRPC, in the order of their numbers.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

impl Wording {
    fn of(self, status: u16) -> Shown<'static> {
        let words = GRPC.get(usize::from(status));
        match (self, words) {
            (Self::Camel, Some((camel, _))) => Shown::Text((*camel).into()),
            (Self::Snake, Some((_, snake))) => Shown::Text((*snake).into()),
            (Self::Number, _) | (_, None) => Shown::Number(status.into()),
        }
    }
}

#[cfg(test)]
mod tests;
