//! What only VirtualServices can demand of a request (`waypoint.md` 4.1): what is known beside its path, its headers and
//! its query, and what is not to be there; and what can be demanded of a connection (2.17). Owns the nouns and how they are compared.

use super::connection::ConnectionMatch;
use super::matching::{HeaderMatch, ValueMatch};
use super::server::ServerName;
use super::table::{Asked, value_is_of};
use crate::name::Namespace;
use crate::request_policy::Token;
use crate::workload::Workload;

/// Further demands, which must all hold. What is not given may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct More {
    /// On its method, where that is not one alone.
    pub method: Option<ValueMatch>,
    /// On its scheme.
    pub scheme: Option<ValueMatch>,
    /// On its authority, as it was sent.
    pub authority: Option<ValueMatch>,
    /// The port of the service that was asked.
    pub port: Option<u16>,
    /// The namespace of who asks.
    pub from: Option<Namespace>,
    /// Labels of the workload that asks.
    pub from_labels: Vec<(Box<str>, Box<str>)>,
    /// Headers that are not to be so; one that is missing is not.
    pub without_headers: Vec<HeaderMatch>,
    /// On what its token claims.
    pub claims: Vec<ClaimMatch>,
    /// What it is not to claim.
    pub without_claims: Vec<ClaimMatch>,
    /// Of connections: the servers that are asked for with TLS; none: any.
    pub servers: Vec<ServerName>,
    /// Of a VirtualService's connections: what is demanded beside; given, it is of no request.
    pub connection: Option<ConnectionMatch>,
}

/// A demand on something that a token claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimMatch {
    /// Which, by the names on the way to it.
    pub path: Vec<Box<str>>,
    /// Its value; of several, any.
    pub value: ValueMatch,
}

/// What is known of a request beside its head.
#[derive(Debug, Clone, Copy, Default)]
pub struct Around<'a> {
    /// Its scheme.
    pub scheme: &'a str,
    /// To whom it is addressed, as it says.
    pub authority: &'a str,
    /// The port that was dialled.
    pub port: u16,
    /// The namespace of who asks, where that is known.
    pub from: Option<&'a Namespace>,
    /// The workload that asks, where that is known.
    pub source: Option<&'a Workload>,
    /// A token of it that is believed.
    pub token: Option<&'a Token>,
}

impl More {
    /// Whether a request is as demanded.
    pub(super) fn is_met(&self, asked: &Asked<'_>) -> bool {
        let Self {
            method,
            scheme,
            authority,
            port,
            from,
            from_labels: _, // by `has_labels`
            without_headers,
            claims,
            without_claims,
            servers,
            connection,
        } = self;
        let around = &asked.around;
        let is = |of: &Option<ValueMatch>, value: &str| {
            of.as_ref().is_none_or(|of| value_is_of(of, value.as_bytes()))
        };
        // No request says that.
        servers.is_empty()
            && connection.is_none()
            && is(method, asked.method.as_str())
            && is(scheme, around.scheme)
            && is(authority, around.authority)
            && port.is_none_or(|port| port == around.port)
            && from.as_ref().is_none_or(|from| around.from == Some(from))
            && self.has_labels(around.source)
            && !without_headers.iter().any(|it| asked.has(it))
            && claims.iter().all(|it| it.is_met(around.token))
            && !without_claims.iter().any(|it| it.is_met(around.token))
    }

    /// Every demand on a value.
    pub(super) fn values(&self) -> impl Iterator<Item = &ValueMatch> {
        let own = [&self.method, &self.scheme, &self.authority].into_iter().flatten();
        let claims = self.claims.iter().chain(&self.without_claims).map(|it| &it.value);
        own.chain(self.without_headers.iter().map(|it| &it.value)).chain(claims)
    }
}

impl ClaimMatch {
    /// Whether a token claims it. Without a token nothing is claimed.
    fn is_met(&self, token: Option<&Token>) -> bool {
        let Some(token) = token else { return false };
        if self.value == ValueMatch::Present {
            return token.claim(&self.path).is_some();
        }
        token.texts(&self.path).into_iter().any(|text| value_is_of(&self.value, text.as_bytes()))
    }
}
