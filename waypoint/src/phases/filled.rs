//! What is put into headers by operators (`waypoint.md` 4.1): what is known of a request when it has its route, and of its
//! answer when that has come. Owns which is which; kept only for rules that ask for it. What an operator is, is
//! `ambit_model::operator`'s.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::SystemTime;

use ambit_model::http_route::Filling;
use ambit_model::name::Label;
use ambit_model::operator::{End, Field, Known, Seen, Shown, Template};
use ambit_process::clock::now_system;
use http::header::HeaderMap;
use http::request::Parts;
use http::{HeaderName, StatusCode};

use super::identify::{Asked, scheme_of};
use super::kept::{Kept, MOST, shown};
use super::record::protocol;
use crate::stream::Inbound;
use crate::upstream::Met;

/// A request, and its answer once there is one.
#[derive(Clone)]
pub(crate) struct Told {
    method: String,
    path: String,
    authority: Option<String>,
    scheme: &'static str,
    protocol: &'static str,
    client: (SocketAddr, Option<String>),
    asked: SocketAddr,
    service: Option<String>,
    route: String,
    start: SystemTime,
    headers: Kept,
    /// Headers of the answer that are kept when it comes.
    wanted: Vec<HeaderName>,
    answer: Option<Answer>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    target: Label,
    server: String,
    headers: Kept,
}

impl Told {
    /// What these need of a request.
    pub(super) fn new(
        inbound: &Inbound,
        (parts, asked): (&Parts, &Asked),
        route: String,
        of: &[&Filling],
    ) -> Self {
        let values = || of.iter().map(|it| &it.value);
        let mut wanted: Vec<HeaderName> = values().flat_map(Template::response_headers).cloned().collect();
        wanted.truncate(MOST);
        Self {
            method: parts.method.to_string(),
            path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            authority: asked.authority.as_ref().map(ToString::to_string),
            scheme: scheme_of(&parts.uri),
            protocol: protocol(parts.version),
            client: (inbound.client.from.socket(), inbound.principal().map(|it| it.to_string())),
            asked: inbound.dialled,
            service: inbound.service().map(|it| it.hostname.to_string()),
            route,
            start: now_system(),
            headers: Kept::of(&parts.headers, values().flat_map(Template::request_headers)),
            wanted,
            answer: None,
        }
    }

    /// The same once an endpoint has answered.
    pub(super) fn answered(&self, status: StatusCode, met: &Met, headers: &HeaderMap) -> Self {
        let server = met.principal.to_string();
        let headers = Kept::of(headers, self.wanted.iter());
        Self { answer: Some(Answer { status, target: met.target.clone(), server, headers }), ..self.clone() }
    }
}

impl Seen for Told {
    fn known(&self, of: Known) -> Option<Shown<'_>> {
        let answer = self.answer.as_ref();
        match of {
            Known::Protocol => text(self.protocol),
            Known::Client => text(self.client.1.as_deref()?),
            Known::Route => text(&self.route),
            Known::Service => text(self.service.as_deref()?),
            Known::Code => Some(Shown::Number(answer?.status.as_u16().into())),
            Known::Endpoint => text(answer?.target.as_str()),
            Known::Server => text(&answer?.server),
            // Known when all is over, or to the access log alone.
            Known::CodeDetails
            | Known::Flags
            | Known::Received
            | Known::Sent
            | Known::Duration
            | Known::Answered
            | Known::Passed
            | Known::Attempts
            | Known::Failure
            | Known::Trace
            | Known::Nothing => None,
        }
    }

    fn request(&self, field: &Field) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match field {
            Field::Method => self.method.as_str(),
            Field::Path => self.path.as_str(),
            Field::Authority => self.authority.as_deref()?,
            Field::Scheme => self.scheme,
            Field::Header(name) => return self.headers.get(name).map(shown),
        }))
    }

    fn response(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        self.answer.as_ref()?.headers.get(name).map(shown)
    }

    fn address(&self, of: End) -> Option<SocketAddr> {
        Some(match of {
            End::Remote => self.client.0,
            End::Local => self.asked,
        })
    }

    fn start(&self) -> SystemTime {
        self.start
    }

    fn grpc(&self) -> Option<u16> {
        None
    }
}

fn text(it: &str) -> Option<Shown<'_>> {
    Some(Shown::Text(Cow::Borrowed(it)))
}
