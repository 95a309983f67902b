//! Why a request is answered by the waypoint itself, and with what (`waypoint.md` 1.8, 2.14). Owns status, flags and
//! words; gRPC's way to say the same is `phases::answer`'s.

use std::borrow::Cow;

use ambit_jwt::Fault;
use ambit_model::ext_proc::Immediate;
use ambit_model::http_path::PathError;
use ambit_model::http_route::{AbortWith, Direct, HeaderEdits};
use ambit_model::name::Label;
use ambit_model::provider::Refusing;
use ambit_model::request_policy::Denial;
use ambit_model::route::Refusal;
use http::{HeaderMap, StatusCode};

use crate::body::{BodyError, Why};
use crate::phases::{Limited, NoCount, NoWord};
use crate::processor::NoReply;
use crate::room::Full;
use crate::upstream::Failure;

/// Why a request goes no further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It is no request that means the same to everybody.
    #[error("the request is malformed: {0}")]
    Bad(&'static str),
    /// Its path is none.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Its target is longer than any we accept.
    #[error("the target is too long")]
    TooLong,
    /// It has more headers than any we accept.
    #[error("there are too many headers")]
    TooMany,
    /// Nothing more of its body came for too long.
    #[error("the body stands still")]
    Idle,
    /// There is no room for it.
    #[error(transparent)]
    Full(#[from] Full),
    /// Its body comes in a coding that we do not know.
    #[error("the transfer coding is not known")]
    Coding,
    /// It asks for another protocol, one that is not passed on.
    #[error("the protocol asked for is not passed on")]
    Upgrade,
    /// A policy keeps it out.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// Somebody should be asked whether it may come in, and cannot be.
    #[error("nobody is known as {0}, who should have been asked")]
    Unasked(String),
    /// Somebody was asked whether it may come in, and says no.
    #[error("{by} does not let it in")]
    TurnedAway {
        /// Who.
        by: Label,
        /// What the client is answered.
        answer: Box<Refusing>,
    },
    /// Somebody should have said whether it may come in, and did not.
    #[error("{by} does not say whether it may come in")]
    NoWord {
        /// Who.
        by: Label,
        /// What the client is answered.
        status: StatusCode,
        /// Why.
        #[source]
        error: Box<NoWord>,
    },
    /// There are too many of its kind.
    #[error("policy {} lets no more in now", .0.by)]
    Limited(Box<Limited>),
    /// Somebody should have said whether there are too many, and did not.
    #[error("who counts for policy {by} does not say whether there are too many")]
    Uncounted {
        /// Whose limit it is.
        by: Label,
        /// Why.
        #[source]
        error: Box<NoCount>,
    },
    /// A processor answers it.
    #[error("the processor of {by} answers it: {:?}", .answer.details)]
    Processed {
        /// Whose policy it is.
        by: Label,
        /// What the client is answered.
        answer: Box<Immediate>,
    },
    /// A processor should have said how it goes on, and did not.
    #[error("the processor of {by} does not say how it goes on")]
    Unprocessed {
        /// Whose policy it is.
        by: Label,
        /// Why.
        #[source]
        error: Box<NoReply>,
    },
    /// The same, after that was said.
    #[error("the processor of {0} does not let it go on")]
    Stopped(Label),
    /// The answer's body is longer than what a processor is to be shown of it.
    #[error("the answer is longer than may be kept for a processor")]
    AnswerTooLarge,
    /// The answer broke off while it was kept.
    #[error("the answer broke off")]
    AnswerBroken(#[source] BodyError),
    /// Its body is longer than what somebody is to be shown of it.
    #[error("the body is longer than may be shown to who is asked about it")]
    TooLarge,
    /// It shows a token that is not believed.
    #[error("its token is not believed: {fault}")]
    Unproven {
        /// Why.
        fault: Fault,
        /// What it has no access to.
        realm: String,
    },
    /// Routes there are, but none for it.
    #[error("no route matches")]
    NoRoute,
    /// What its route says cannot be honoured.
    #[error("the route cannot be honoured: {0}")]
    Broken(String),
    /// Its route sends the client elsewhere.
    #[error("the client is sent to {location}")]
    Elsewhere {
        /// How it is said.
        status: u16,
        /// Where.
        location: String,
        /// What the route changes about its answers.
        headers: HeaderEdits,
    },
    /// Its route holds an answer ready.
    #[error("the route answers it")]
    Direct {
        /// The answer.
        answer: Direct,
        /// What the route changes about its answers.
        headers: HeaderEdits,
    },
    /// A fault was put in its way.
    #[error("a fault was put in its way")]
    Aborted(AbortWith),
    /// What its route leads to is not there.
    #[error("the route leads nowhere: {0}")]
    Nowhere(String),
    /// A browser asks what pages of another origin may do, and is told.
    #[error("a question of a browser is answered")]
    Preflight {
        /// What it is told.
        headers: HeaderMap,
    },
    /// There is no endpoint to send it to.
    #[error("no healthy endpoint")]
    NoEndpoint(#[source] Refusal),
    /// No endpoint took it, or gave an answer.
    #[error("the endpoint gave no answer")]
    Upstream(#[from] Failure),
    /// It took longer than it may.
    #[error("no answer in time")]
    TimedOut,
}

impl From<Why> for Refused {
    /// Of a body that is not whole. Why a processor has stopped one, that one knows.
    fn from(why: Why) -> Self {
        match why {
            Why::Broken => Self::Bad("the body is malformed"),
            Why::NoText => Self::Bad("the body is no base64"),
            Why::Idle => Self::Idle,
            Why::Unprocessed => Self::Stopped(Label::default()),
        }
    }
}

/// What is said, here and in records.
pub(crate) struct Words {
    pub(crate) status: StatusCode,
    pub(crate) flags: &'static str,
    pub(crate) details: &'static str,
    pub(crate) body: Cow<'static, str>,
}

impl Refused {
    pub(crate) fn words(&self) -> Words {
        let say = |status, flags, details, body: &'static str| Words {
            status,
            flags,
            details,
            body: Cow::Borrowed(body),
        };
        match self {
            Self::Bad(why) => say(StatusCode::BAD_REQUEST, "DPE", "http1.codec_error", why),
            Self::Path(_) => {
                say(StatusCode::BAD_REQUEST, "DPE", "path_normalization_failed", "the path is malformed")
            }
            Self::TooLong => say(StatusCode::URI_TOO_LONG, "DPE", "request_headers_too_large", ""),
            Self::TooMany => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                say(status, "DPE", "request_headers_too_large", "")
            }
            Self::Idle => say(StatusCode::REQUEST_TIMEOUT, "SI", "stream_idle_timeout", "stream timeout"),
            Self::Full(_) => say(StatusCode::SERVICE_UNAVAILABLE, "OM", "overload", "too many requests"),
            Self::Coding => say(StatusCode::NOT_IMPLEMENTED, "DPE", "http1.invalid_transfer_encoding", ""),
            Self::Upgrade => say(StatusCode::FORBIDDEN, "-", "upgrade_failed", ""),
            // Records say which policy; the client learns nothing of it.
            Self::Denied(_) => {
                say(StatusCode::FORBIDDEN, "-", "rbac_access_denied_matched_policy", "RBAC: access denied")
            }
            Self::Unasked(_) => say(StatusCode::FORBIDDEN, "UAEX", "ext_authz_error", ""),
            Self::TurnedAway { answer, .. } => turned_away(answer),
            Self::NoWord { status, .. } => say(*status, "UAEX", "ext_authz_error", ""),
            Self::Limited(limited) => over(limited),
            Self::Uncounted { .. } => {
                say(StatusCode::INTERNAL_SERVER_ERROR, "RLSE", "rate_limiter_error", "")
            }
            Self::Processed { .. }
            | Self::Unprocessed { .. }
            | Self::Stopped(_)
            | Self::AnswerTooLarge
            | Self::AnswerBroken(_) => self.words_of_processor(),
            Self::TooLarge => say(StatusCode::PAYLOAD_TOO_LARGE, "-", "request_payload_too_large", LARGE),
            Self::Unproven { fault, .. } => unproven(*fault),
            Self::NoRoute => say(StatusCode::NOT_FOUND, "NR", "route_not_found", ""),
            Self::Broken(_)
            | Self::Elsewhere { .. }
            | Self::Direct { .. }
            | Self::Aborted(_)
            | Self::Nowhere(_)
            | Self::Preflight { .. } => self.words_of_route(),
            Self::NoEndpoint(_) => {
                say(StatusCode::SERVICE_UNAVAILABLE, "UH", "no_healthy_upstream", "no healthy upstream")
            }
            Self::Upstream(failure) => unanswered(failure),
            Self::TimedOut => {
                say(StatusCode::GATEWAY_TIMEOUT, "UT", "response_timeout", "upstream request timeout")
            }
        }
    }

    /// What is said because of a processor.
    fn words_of_processor(&self) -> Words {
        let (status, flags, details) = match self {
            Self::Processed { answer, .. } => {
                let body = String::from_utf8_lossy(&answer.body).into_owned().into();
                let details = "ext_proc_immediate_response";
                return Words { status: answer.status, flags: "UPEX", details, body };
            }
            Self::AnswerTooLarge => (StatusCode::INTERNAL_SERVER_ERROR, "-", "response_payload_too_large"),
            Self::AnswerBroken(_) => (StatusCode::BAD_GATEWAY, "UC", "upstream_reset_after_response_started"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "UPEX", "ext_proc_error"),
        };
        Words { status, flags, details, body: "".into() }
    }

    /// What is said because a route has it so.
    fn words_of_route(&self) -> Words {
        let known = |status: u16, other| StatusCode::from_u16(status).unwrap_or(other);
        let (status, flags, details, body) = match self {
            Self::Elsewhere { status, .. } => (known(*status, StatusCode::FOUND), "-", DIRECT, ""),
            Self::Direct { answer, .. } => (known(answer.status, StatusCode::OK), "-", DIRECT, ""),
            Self::Preflight { .. } => (StatusCode::NO_CONTENT, "-", DIRECT, ""),
            Self::Aborted(with) => {
                let status = match with {
                    AbortWith::Http(status) => known(*status, StatusCode::SERVICE_UNAVAILABLE),
                    AbortWith::Grpc(_) => StatusCode::OK,
                };
                (status, "FI", "fault_filter_abort", "fault filter abort")
            }
            Self::Nowhere(_) => (StatusCode::SERVICE_UNAVAILABLE, "NC", "cluster_not_found", ""),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "-", DIRECT, ""),
        };
        Words { status, flags, details, body: Cow::Borrowed(body) }
    }
}

/// What Envoy says of answers that a route gives.
const DIRECT: &str = "direct_response";

/// What is said of a body that is too long to be shown.
const LARGE: &str = "Payload Too Large";

/// What is said where no endpoint has answered.
fn unanswered(failure: &Failure) -> Words {
    let (flags, details, reason) = failure.words();
    let (status, body) = match failure {
        Failure::Slow { .. } => (StatusCode::GATEWAY_TIMEOUT, "upstream request timeout".into()),
        failure => {
            let body =
                format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}");
            let malformed = matches!(failure, Failure::Malformed(_));
            let status = if malformed { StatusCode::BAD_GATEWAY } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, body.into())
        }
    };
    Words { status, flags, details, body }
}

fn turned_away(answer: &Refusing) -> Words {
    let body = String::from_utf8_lossy(&answer.body).into_owned().into();
    Words { status: answer.status, flags: "UAEX", details: "ext_authz_denied", body }
}

fn over(limited: &Limited) -> Words {
    let (details, body) = match &limited.ruled {
        None => ("local_rate_limited", Cow::Borrowed("local_rate_limited")),
        Some(ruled) => ("request_rate_limited", String::from_utf8_lossy(&ruled.body).into_owned().into()),
    };
    Words { status: StatusCode::TOO_MANY_REQUESTS, flags: "RL", details, body }
}

fn unproven(fault: Fault) -> Words {
    let status = if fault.is_forbidden() { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
    Words { status, flags: "-", details: fault.details(), body: fault.to_string().into() }
}
