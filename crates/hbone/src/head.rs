//! CONNECT requests and their answers as types (`ztunnel.md` 2.4 to 2.6).
//! Owns what is well formed. Where a request may go, and whether, is decided elsewhere.

mod baggage;
mod forwarded;

pub use baggage::Baggage;
pub use forwarded::Forwarded;

use std::fmt;
use std::str::FromStr;

use ambit_model::address::{Authority, AuthorityError};
use ambit_model::name::Network;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};

const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const NETWORK: HeaderName = HeaderName::from_static("x-forwarded-network");
/// Ours. In a request: whoever asks does so for somebody who has proven nothing, and whose address is forwarded. In an
/// answer: that it was understood.
const STRANGER: HeaderName = HeaderName::from_static("ambit-stranger");

const YES: &str = "1";

/// Why a request is no CONNECT that can be served. All are answered with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Another method.
    #[error("the method is {method}, not CONNECT")]
    Method {
        /// The method.
        method: Method,
    },
    /// No authority, or one that leads nowhere.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// A trace's id, and the one span we add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: u128,
    /// The parent span.
    pub span: u64,
}

impl Trace {
    /// A new trace. Nothing secret depends on it.
    #[must_use]
    pub fn random() -> Self {
        // Zero is "invalid" (W3C trace context, 3.2.2.3).
        Self { id: fastrand::u128(1..), span: fastrand::u64(1..) }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-00", self.id, self.span)
    }
}

impl FromStr for Trace {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let (Some("00"), Some(id), Some(span), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        let hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex(id, 32) || !hex(span, 16) {
            return Err(());
        }
        let id = u128::from_str_radix(id, 16).map_err(|_| ())?;
        Ok(Self { id, span: u64::from_str_radix(span, 16).map_err(|_| ())? })
    }
}

/// A CONNECT request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Where to.
    pub authority: Authority,
    /// What the source says it is.
    pub baggage: Baggage,
    /// For whom, and to which service.
    pub forwarded: Option<Forwarded>,
    /// The trace it belongs to.
    pub trace: Option<Trace>,
    /// The network it came from (inner requests between networks).
    pub network: Option<Network>,
    /// Whether it is for somebody who has proven nothing, not for the tunnel's source.
    pub for_stranger: bool,
}

impl Connect {
    /// The request to send.
    ///
    /// # Errors
    /// [`HeadError::Authority`] when the authority cannot be one of HTTP's.
    pub fn request(&self) -> Result<Request<()>, HeadError> {
        let refuse = || AuthorityError { value: self.authority.to_string() };
        let authority = http::uri::Authority::try_from(self.authority.to_string()).map_err(|_| refuse())?;
        let mut request = Request::new(());
        // RFC 9113, 8.5: a CONNECT carries neither :scheme nor :path.
        let mut uri = http::uri::Parts::default();
        uri.authority = Some(authority);
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| refuse())?;
        *request.method_mut() = Method::CONNECT;
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        put(headers, BAGGAGE, &self.baggage.to_string());
        for (name, value) in [
            (FORWARDED, self.forwarded.as_ref().map(ToString::to_string)),
            (TRACEPARENT, self.trace.map(|trace| trace.to_string())),
            (NETWORK, self.network.as_ref().map(ToString::to_string)),
            (STRANGER, self.for_stranger.then(|| YES.to_owned())),
        ] {
            put(headers, name, value.as_deref().unwrap_or_default());
        }
        Ok(request)
    }

    /// Reads a request that was received. Headers that do not read count as absent.
    ///
    /// # Errors
    /// [`HeadError`] when it is no CONNECT, or one to nowhere.
    pub fn read<B>(request: &Request<B>) -> Result<Self, HeadError> {
        if request.method() != Method::CONNECT {
            return Err(HeadError::Method { method: request.method().clone() });
        }
        let authority = request.uri().authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let headers = request.headers();
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        Ok(Self {
            authority: authority.parse()?,
            baggage: Baggage::read(headers, &BAGGAGE),
            forwarded: Forwarded::read(headers, &FORWARDED),
            trace: text(TRACEPARENT).and_then(|text| text.parse().ok()),
            network: text(NETWORK).filter(|text| !text.is_empty()).map(Network::from),
            // Whatever it says: a header that does not read must not make the source of the stranger.
            for_stranger: headers.contains_key(STRANGER),
        })
    }
}

/// A refusal's status. The reasons are in the table of `ztunnel.md` 2.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request makes no sense here: 400.
    Bad,
    /// Policy says no: 401.
    Denied,
    /// It is not served here: 404, a waypoint's answer.
    Elsewhere,
    /// It cannot be served now: 503.
    Unavailable,
}

impl Refusal {
    /// The status code.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Bad => StatusCode::BAD_REQUEST,
            Self::Denied => StatusCode::UNAUTHORIZED,
            Self::Elsewhere => StatusCode::NOT_FOUND,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) fn response(self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status();
        response
    }
}

/// The answer that opens the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// What the destination says it is, if it says so.
    pub baggage: Option<Baggage>,
    /// Whether whoever it was opened for is taken for the stranger that the request said it was.
    pub for_stranger: bool,
}

impl Opened {
    pub(crate) fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        if let Some(baggage) = &self.baggage {
            put(response.headers_mut(), BAGGAGE, &baggage.to_string());
        }
        if self.for_stranger {
            put(response.headers_mut(), STRANGER, YES);
        }
        response
    }

    pub(crate) fn read<B>(response: &Response<B>) -> Self {
        let headers = response.headers();
        Self {
            baggage: headers.contains_key(BAGGAGE).then(|| Baggage::read(headers, &BAGGAGE)),
            for_stranger: headers.get(STRANGER).is_some_and(|said| said == YES),
        }
    }
}

/// Leaves out what is empty, and what no header can carry: none of these decides anything.
fn put(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if text.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
