//! What is known of a request, by name. Owns the names, which are those of conditions of policies and three more, and
//! what each is of a request.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::HeaderName;

use crate::request_policy::Facts;

/// Something that is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// The client's identity, without `spiffe://`.
    Principal,
    /// Its namespace.
    Namespace,
    /// Its account: `<namespace>/<name>`.
    ServiceAccount,
    /// Where its connection comes from.
    SourceIp,
    /// Where the request comes from, as those say who passed it on.
    RemoteIp,
    /// Whom its token names: `<issuer>/<subject>`.
    RequestPrincipal,
    /// Something that its token claims, by its path.
    Claim(Vec<Box<str>>),
    /// A header; of several, all of them joined.
    Header(HeaderName),
    /// The method.
    Method,
    /// The host, without regard to case.
    Host,
    /// The path, without the query.
    Path,
}

/// Why a text names nothing that is known of requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing that is known of a request")]
pub struct AttributeError(pub String);

/// Names that take nothing in brackets.
const NAMES: [(&str, Attribute); 9] = [
    ("source.principal", Attribute::Principal),
    ("source.namespace", Attribute::Namespace),
    ("source.serviceAccount", Attribute::ServiceAccount),
    ("source.ip", Attribute::SourceIp),
    ("remote.ip", Attribute::RemoteIp),
    ("request.auth.principal", Attribute::RequestPrincipal),
    ("request.method", Attribute::Method),
    ("request.host", Attribute::Host),
    ("request.path", Attribute::Path),
];

const HEADERS: &str = "request.headers[";
const CLAIMS: &str = "request.auth.claims[";

impl Attribute {
    /// What it is of a request; nothing, where that is not known.
    #[must_use]
    pub fn of<'f>(&self, facts: &'f Facts<'_>) -> Option<Cow<'f, str>> {
        let http = facts.http.as_ref();
        let token = http.and_then(|it| it.token);
        Some(match self {
            Self::Principal => facts.principal()?.into(),
            Self::Namespace => facts.peer?.namespace.as_str().into(),
            Self::ServiceAccount => {
                let peer = facts.peer?;
                format!("{}/{}", peer.namespace, peer.service_account).into()
            }
            Self::SourceIp => facts.from.to_canonical().to_string().into(),
            Self::RemoteIp => facts.remote.to_canonical().to_string().into(),
            Self::RequestPrincipal => {
                let token = token?;
                format!("{}/{}", token.issuer, token.subject).into()
            }
            Self::Claim(path) => {
                let texts = token?.texts(path);
                if texts.is_empty() {
                    return None;
                }
                texts.join(",").into()
            }
            Self::Header(name) => http?.header(name)?,
            Self::Method => http?.method.as_str().into(),
            Self::Host => {
                let host = http?.host;
                let is_plain = !host.bytes().any(|byte| byte.is_ascii_uppercase());
                if is_plain { host.into() } else { host.to_ascii_lowercase().into() }
            }
            Self::Path => http?.path.as_str().into(),
        })
    }
}

impl FromStr for Attribute {
    type Err = AttributeError;
    fn from_str(text: &str) -> Result<Self, AttributeError> {
        let refuse = || AttributeError(text.into());
        if let Some((_, found)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(found.clone());
        }
        if let Some(name) = text.strip_prefix(HEADERS).and_then(|rest| rest.strip_suffix(']')) {
            return name.parse().map(Self::Header).map_err(|_| refuse());
        }
        let path = text.strip_prefix(CLAIMS).and_then(|rest| rest.strip_suffix(']')).ok_or_else(refuse)?;
        let path: Vec<Box<str>> = path.split("][").map(Into::into).collect();
        let is_whole = path.iter().all(|part| !part.is_empty() && !part.contains(['[', ']']));
        if is_whole { Ok(Self::Claim(path)) } else { Err(refuse()) }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = NAMES.iter().find(|(_, it)| it == self) {
            return f.write_str(name);
        }
        match self {
            Self::Header(name) => write!(f, "{HEADERS}{name}]"),
            Self::Claim(path) => write!(f, "{CLAIMS}{}]", path.join("][")),
            Self::Principal
            | Self::Namespace
            | Self::ServiceAccount
            | Self::SourceIp
            | Self::RemoteIp
            | Self::RequestPrincipal
            | Self::Method
            | Self::Host
            | Self::Path => Ok(()),
        }
    }
}
