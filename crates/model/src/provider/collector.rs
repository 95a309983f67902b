//! Services that are told of requests when they are over: who collects spans (`waypoint.md` 4.6, 5.3), and what the mesh
//! as a whole wants it to be told. Owns the nouns; spans themselves are the waypoint's.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Reach;
use crate::name::Label;
use crate::trace::Sampling;

/// Somebody who collects spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Where it is.
    pub at: Reach,
    /// How it is told.
    pub takes: Takes,
    /// How long its answer is waited for.
    pub patience: Duration,
    /// What it is told of all requests of the mesh; none: nothing, unless somebody refers to it.
    pub mesh: Option<Traced>,
}

/// How a collector is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Takes {
    /// OTLP, by a call of gRPC with these headers.
    OtlpGrpc {
        /// Beside those of the call.
        add: Vec<(HeaderName, HeaderValue)>,
    },
    /// OTLP, as protobuf in a request.
    OtlpHttp {
        /// Where.
        path: Box<str>,
        /// Beside those of the request.
        add: Vec<(HeaderName, HeaderValue)>,
    },
    /// Zipkin's JSON, version 2, in a request.
    Zipkin {
        /// Where.
        path: Box<str>,
    },
}

/// Which requests are told of, and what beside what always is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// How many of those of which nobody has decided.
    pub sampling: Sampling,
    /// Further attributes.
    pub tags: Vec<(Label, Tag)>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// This one.
    Literal(Label),
    /// That of a header of the request.
    Header {
        /// Which.
        name: HeaderName,
        /// Where there is none; empty: then there is no attribute either.
        default: Label,
    },
}

/// How long a collector's answer is waited for when nobody says otherwise.
pub const COLLECT_PATIENCE: Duration = Duration::from_secs(10);

impl Tag {
    /// What it is for a request.
    #[must_use]
    pub fn value(&self, headers: &HeaderMap) -> Option<Label> {
        match self {
            Self::Literal(text) => Some(text.clone()),
            Self::Header { name, default } => {
                let found = headers.get(name).and_then(|value| value.to_str().ok()).map(Label::from);
                found.or_else(|| Some(default.clone()).filter(|default| !default.is_empty()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_a_header_says_else_what_it_is_by_default_else_nothing() {
        let header =
            |default: &str| Tag::Header { name: HeaderName::from_static("x-user"), default: default.into() };
        let none = HeaderMap::new();
        let bob: HeaderMap =
            [(HeaderName::from_static("x-user"), HeaderValue::from_static("bob"))].into_iter().collect();
        for (tag, headers, wanted) in [
            (Tag::Literal("a".into()), &none, Some("a")),
            (header("nobody"), &bob, Some("bob")),
            (header("nobody"), &none, Some("nobody")),
            (header(""), &none, None),
        ] {
            assert_eq!(tag.value(headers).as_ref().map(Label::as_str), wanted, "{tag:?}");
        }
    }
}
