//! How a connection ended, as flags and as text (`ztunnel.md` 11.1, 11.2). Owns the reasons that records know.

use std::error::Error;
use std::io;

use ambit_hbone::cut::Why;
use ambit_hbone::dial::{DialError, Stage};
use ambit_hbone::pool::{OpenError, RelayError};
use ambit_hbone::pump::{self, Reset};
use ambit_model::judge::Denial;
use ambit_model::route::Refusal;
pub use ambit_proxy::fault::chain;

/// How a connection ended.
#[derive(Debug)]
pub enum Outcome {
    /// Both directions ended by themselves.
    Done,
    /// We had to stop.
    Drained,
    /// A policy kept it out, or ended it.
    Denied(Denial),
    /// There was no way to carry it.
    NoWay(Refusal),
    /// The far end did not take the connection.
    Connect(io::Error),
    /// There was no tunnel, or no stream on it.
    Open(OpenError),
    /// There was no way through another network's gateway.
    Relay(RelayError),
    /// The waypoint does not know what a stranger is, and would take it for the pod that it came to.
    NoStranger,
    /// It broke while bytes flowed.
    Broken(Box<dyn Error + Send + Sync>),
}

impl Outcome {
    /// From how the copy ended. An application that just goes away is no failure.
    #[must_use]
    pub fn of_pump(ended: pump::Outcome, denial: Option<&Denial>) -> Self {
        match (ended, denial) {
            (pump::Outcome::Cut(Why::Revoked), Some(denial)) => Self::Denied(denial.clone()),
            (pump::Outcome::Cut(_), _) => Self::Drained,
            (pump::Outcome::Closed, _) => Self::Done,
            (pump::Outcome::App(error) | pump::Outcome::Destination(error), _) if is_ending(&error) => {
                Self::Done
            }
            (pump::Outcome::App(error) | pump::Outcome::Destination(error), _) => Self::Broken(error.into()),
            (pump::Outcome::Peer(Reset::Enough | Reset::Cancelled | Reset::Broken), _) => Self::Done,
            (pump::Outcome::Peer(fault @ Reset::Fault(_)), _) => {
                Self::Broken(format!("stream reset by the peer: {fault}").into())
            }
            (pump::Outcome::Tunnel(error), _) => Self::Broken(error.into()),
        }
    }

    /// `response_flags`.
    #[must_use]
    pub fn flags(&self) -> &'static str {
        match self {
            Self::Done | Self::Drained => "-",
            Self::Denied(_) => "DENY",
            Self::NoWay(_) | Self::Connect(_) | Self::NoStranger | Self::Broken(_) => "CONNECT",
            Self::Open(error) | Self::Relay(RelayError::Gateway(error) | RelayError::Behind(error)) => {
                open_flags(error)
            }
        }
    }

    /// The text of the record; none when nothing went wrong.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        Some(match self {
            Self::Done => return None,
            Self::Drained => "connection closed due to connection drain".into(),
            Self::Denied(denial) => refused(denial),
            Self::NoWay(refusal) => chain(refusal),
            Self::Connect(error) => format!("io error: {error}"),
            Self::Open(error) => opening(error),
            Self::Relay(RelayError::Gateway(error)) => format!("the gateway: {}", opening(error)),
            Self::Relay(RelayError::Behind(error)) => format!("behind the gateway: {}", opening(error)),
            Self::NoStranger => {
                "the waypoint cannot tell who comes from outside the mesh from the pod itself: \
                                 it is older than this, or not ours"
                    .into()
            }
            Self::Broken(error) => chain(error.as_ref()),
        })
    }
}

fn open_flags(error: &OpenError) -> &'static str {
    match error {
        OpenError::Dial(error) => dial_flags(error),
        OpenError::Broken(_) => "H2_HANDSHAKE_FAILURE",
        OpenError::Head(_) | OpenError::Refused { .. } | OpenError::Silent { .. } => "CONNECT",
    }
}

fn opening(error: &OpenError) -> String {
    match error {
        OpenError::Refused { status } => format!("http status: {status}"),
        error => chain(error),
    }
}

fn dial_flags(error: &DialError) -> &'static str {
    match error {
        DialError::Certificate { .. } => "IDENTITY_ERROR",
        DialError::Silent { stage: Stage::Connect, .. } => "NETWORK_POLICY",
        DialError::WrongPeer { .. } | DialError::Tls { .. } => "TLS_FAILURE",
        DialError::Http2 { .. } => "H2_HANDSHAKE_FAILURE",
        DialError::Connect { .. }
        | DialError::Silent { .. }
        | DialError::Full { .. }
        | DialError::NoStreams { .. }
        | DialError::Closed => "CONNECT",
    }
}

fn is_ending(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof)
}

/// The words that documentation and people search for.
fn refused(denial: &Denial) -> String {
    let start = "connection closed due to policy rejection";
    match denial {
        Denial::Policy(key) => format!("{start}: explicitly denied by: {key}"),
        Denial::NothingAllows { considered } => {
            let names: Vec<_> = considered.iter().map(ToString::to_string).collect();
            format!("{start}: allow policies exist, but none allowed: {}", names.join(", "))
        }
        Denial::PolicyMissing(key) => format!("{start}: policy applies but is not known yet: {key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_ends_in_the_policy_that_said_so() {
        let outcome = Outcome::Denied(Denial::Policy("shop/no-guests".parse().unwrap()));
        assert_eq!(outcome.flags(), "DENY");
        assert!(outcome.error().unwrap().ends_with("explicitly denied by: shop/no-guests"));
    }

    #[test]
    fn a_status_is_shown_with_its_reason() {
        let status = http::StatusCode::UNAUTHORIZED;
        let outcome = Outcome::Open(OpenError::Refused { status });
        assert_eq!(outcome.error().unwrap(), "http status: 401 Unauthorized");
        let outcome = Outcome::Relay(RelayError::Behind(OpenError::Refused { status }));
        assert_eq!(outcome.error().unwrap(), "behind the gateway: http status: 401 Unauthorized");
    }
}
