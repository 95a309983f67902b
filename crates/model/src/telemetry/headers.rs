//! What applications and clients are told in headers that a waypoint adds (`waypoint.md` 1.6), and what it says in answers
//! of who serves them. Owns the words, and which are there without one.

use http::HeaderValue;

/// What a waypoint may tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `x-request-id`, where the request has none.
    RequestId,
    /// `x-envoy-attempt-count`.
    Attempts,
    /// The other `x-envoy-…`: of time limits, of what a route has rewritten, of time that an answer took, of too many
    /// requests.
    Details,
    /// `x-forwarded-host`, where a route names another host.
    Host,
    /// `x-forwarded-port`, where the request has none.
    Port,
    /// `x-forwarded-client-cert`.
    Client,
}

/// What an answer says in `server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// What the endpoint says; nothing in answers of the waypoint itself.
    Untold,
    /// This, in every answer.
    Is(HeaderValue),
}

/// What one object says of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderWords {
    /// What is told.
    pub told: Vec<ProxyHeader>,
    /// What is not.
    pub untold: Vec<ProxyHeader>,
    /// Of `server`.
    pub server: Option<Server>,
}

impl HeaderWords {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.is_empty() && self.untold.is_empty() && self.server.is_none()
    }

    /// What it says of one.
    pub(super) fn of(&self, what: ProxyHeader) -> Option<bool> {
        super::said_of(&self.untold, &self.told, &what)
    }
}

impl ProxyHeader {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::RequestId, Self::Attempts, Self::Details, Self::Host, Self::Port, Self::Client];

    /// What the mesh's configuration calls it, under `proxyHeaders`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestId => "requestId",
            Self::Attempts => "attemptCount",
            Self::Details => "envoyDebugHeaders",
            Self::Host => "xForwardedHost",
            Self::Port => "xForwardedPort",
            Self::Client => "forwardedClientCert",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Whether it is told without a word.
    #[must_use]
    pub const fn is_usual(self) -> bool {
        matches!(self, Self::RequestId | Self::Attempts | Self::Details)
    }
}
