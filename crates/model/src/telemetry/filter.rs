//! Conditions of lines of the access log: a small part of CEL, as objects write it. Owns which attributes there are and
//! what a condition is for one request. What is no part of it is refused with the place and the remedy (`read`), rather
//! than read as something else. What is not known of a request makes what it is compared with neither true nor false.
//! Values of labels (`formula`) are made of the same attributes.

mod formula;
mod read;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderName;

use crate::name::Label;
pub use formula::Formula;

/// Characters of one condition.
const LONGEST: usize = 1_024;

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: Box<str>,
    root: Expr,
}

/// What a condition may be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// `response.code`.
    ResponseCode,
    /// `response.grpc_status`.
    GrpcStatus,
    /// `response.size`, in bytes.
    ResponseSize,
    /// `request.size`, in bytes.
    RequestSize,
    /// `request.duration`.
    RequestDuration,
    /// `response.backend_latency`.
    BackendLatency,
    /// `request.method`.
    Method,
    /// `request.path`, with the query.
    Path,
    /// `request.url_path`.
    UrlPath,
    /// `request.host`.
    Host,
    /// `request.headers['…']`.
    Header(HeaderName),
    /// `response.code_details`.
    CodeDetails,
    /// `xds.route_name`.
    RouteName,
    /// `connection.mtls`.
    Mtls,
    /// `connection.uri_san_peer_certificate`: who asks.
    Peer,
    /// `request.protocol`.
    Protocol,
    /// `request.query`, without the question mark.
    Query,
    /// `destination.port`: the one that was asked for.
    Port,
    /// `upstream.address`: the endpoint.
    Endpoint,
}

/// What is known of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Number(i64),
    /// A text.
    Text(&'a str),
    /// A time.
    Time(Duration),
    /// Yes or no.
    Bool(bool),
}

/// What is known of one request.
pub trait Facts {
    /// The value of an attribute, if it has one.
    fn value(&self, of: &Attribute) -> Option<Value<'_>>;
}

/// Why a text is no condition that is understood here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {problem}; {remedy}")]
pub struct FilterError {
    /// Where, from 1.
    pub at: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}

/// A part of a condition that is true, false or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expr {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Compare(Term, Order, Term),
    Text(Attribute, How, Label),
    Has(Attribute),
    Is(Term),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Of(Attribute),
    Number(i64),
    Text(Label),
    Time(Duration),
    Bool(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Same,
    Other,
    Less,
    LessOrSame,
    More,
    MoreOrSame,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Begins,
    Ends,
    Holds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Number,
    Text,
    Time,
    Bool,
}

impl Filter {
    /// Whether it is true of a request; what is neither true nor false is not.
    pub fn is_true(&self, facts: &impl Facts) -> bool {
        self.root.value(facts) == Some(true)
    }

    /// The headers that it is about.
    #[must_use]
    pub fn headers(&self) -> Vec<&HeaderName> {
        let mut all = Vec::new();
        self.root.headers(&mut all);
        all
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > LONGEST {
            let problem = format!("a condition of more than {LONGEST} characters");
            return Err(FilterError { at: LONGEST, problem, remedy: "make it shorter" });
        }
        Ok(Self { text: text.into(), root: read::read(text)? })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Attribute {
    /// The one of a name, but for headers.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "response.code" => Self::ResponseCode,
            "response.grpc_status" => Self::GrpcStatus,
            "response.size" => Self::ResponseSize,
            "request.size" => Self::RequestSize,
            "request.duration" => Self::RequestDuration,
            "response.backend_latency" => Self::BackendLatency,
            "request.method" => Self::Method,
            "request.path" => Self::Path,
            "request.url_path" => Self::UrlPath,
            "request.host" => Self::Host,
            "request.useragent" => Self::Header(http::header::USER_AGENT),
            "request.id" => Self::Header(HeaderName::from_static("x-request-id")),
            "response.code_details" => Self::CodeDetails,
            "xds.route_name" => Self::RouteName,
            "connection.mtls" => Self::Mtls,
            "connection.uri_san_peer_certificate" => Self::Peer,
            "request.referer" => Self::Header(http::header::REFERER),
            "request.protocol" => Self::Protocol,
            "request.query" => Self::Query,
            "destination.port" => Self::Port,
            "upstream.address" => Self::Endpoint,
            _ => return None,
        })
    }

    fn sort(&self) -> Sort {
        match self {
            Self::ResponseCode | Self::GrpcStatus | Self::ResponseSize | Self::RequestSize | Self::Port => {
                Sort::Number
            }
            Self::RequestDuration | Self::BackendLatency => Sort::Time,
            Self::Method
            | Self::Path
            | Self::UrlPath
            | Self::Host
            | Self::Header(_)
            | Self::CodeDetails
            | Self::RouteName
            | Self::Peer
            | Self::Protocol
            | Self::Query
            | Self::Endpoint => Sort::Text,
            Self::Mtls => Sort::Bool,
        }
    }
}

impl Expr {
    /// As CEL has it: what is neither does not matter where the other side decides.
    fn value(&self, facts: &impl Facts) -> Option<bool> {
        match self {
            Self::Any(all) => among(all, facts, true),
            Self::All(all) => among(all, facts, false),
            Self::Not(one) => one.value(facts).map(|it| !it),
            Self::Compare(left, order, right) => order.holds(left.value(facts)?, right.value(facts)?),
            Self::Text(of, how, wanted) => match facts.value(of)? {
                Value::Text(text) => Some(how.holds(text, wanted.as_str())),
                Value::Number(_) | Value::Time(_) | Value::Bool(_) => None,
            },
            Self::Has(of) => Some(facts.value(of).is_some()),
            Self::Is(term) => match term.value(facts)? {
                Value::Bool(it) => Some(it),
                Value::Number(_) | Value::Time(_) | Value::Text(_) => None,
            },
        }
    }

    fn headers<'a>(&'a self, all: &mut Vec<&'a HeaderName>) {
        let mut of = |attribute: &'a Attribute| {
            if let Attribute::Header(name) = attribute {
                all.push(name);
            }
        };
        match self {
            Self::Any(list) | Self::All(list) => list.iter().for_each(|it| it.headers(all)),
            Self::Not(one) => one.headers(all),
            Self::Compare(left, _, right) => {
                [left, right].into_iter().filter_map(Term::attribute).for_each(of)
            }
            Self::Text(attribute, ..) | Self::Has(attribute) => of(attribute),
            Self::Is(term) => term.attribute().into_iter().for_each(of),
        }
    }
}

/// Whether one of them is this; if none is, neither where one is neither.
fn among(all: &[Expr], facts: &impl Facts, wanted: bool) -> Option<bool> {
    let mut known = true;
    for one in all {
        match one.value(facts) {
            Some(it) if it == wanted => return Some(wanted),
            Some(_) => {}
            None => known = false,
        }
    }
    known.then_some(!wanted)
}

impl Term {
    fn value<'a>(&'a self, facts: &'a impl Facts) -> Option<Value<'a>> {
        match self {
            Self::Of(attribute) => facts.value(attribute),
            Self::Number(it) => Some(Value::Number(*it)),
            Self::Text(it) => Some(Value::Text(it.as_str())),
            Self::Time(it) => Some(Value::Time(*it)),
            Self::Bool(it) => Some(Value::Bool(*it)),
        }
    }

    fn sort(&self) -> Sort {
        match self {
            Self::Of(attribute) => attribute.sort(),
            Self::Number(_) => Sort::Number,
            Self::Text(_) => Sort::Text,
            Self::Time(_) => Sort::Time,
            Self::Bool(_) => Sort::Bool,
        }
    }

    fn header(&self) -> Option<&HeaderName> {
        if let Some(Attribute::Header(name)) = self.attribute() { Some(name) } else { None }
    }

    fn attribute(&self) -> Option<&Attribute> {
        match self {
            Self::Of(attribute) => Some(attribute),
            Self::Number(_) | Self::Text(_) | Self::Time(_) | Self::Bool(_) => None,
        }
    }
}

impl Order {
    /// Values of different sorts are not compared.
    fn holds(self, left: Value<'_>, right: Value<'_>) -> Option<bool> {
        let order = match (left, right) {
            (Value::Number(left), Value::Number(right)) => left.cmp(&right),
            (Value::Time(left), Value::Time(right)) => left.cmp(&right),
            (Value::Text(left), Value::Text(right)) => left.cmp(right),
            (Value::Bool(left), Value::Bool(right)) => left.cmp(&right),
            (Value::Number(_) | Value::Time(_) | Value::Text(_) | Value::Bool(_), _) => return None,
        };
        Some(match self {
            Self::Same => order.is_eq(),
            Self::Other => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrSame => order.is_le(),
            Self::More => order.is_gt(),
            Self::MoreOrSame => order.is_ge(),
        })
    }
}

impl How {
    fn holds(self, text: &str, wanted: &str) -> bool {
        match self {
            Self::Begins => text.starts_with(wanted),
            Self::Ends => text.ends_with(wanted),
            Self::Holds => text.contains(wanted),
        }
    }
}

#[cfg(test)]
mod tests;
