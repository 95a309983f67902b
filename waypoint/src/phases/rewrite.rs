//! What leaves us in a request's place (`waypoint.md` 1.6, 6.3): the head as an endpoint gets it, in either version of
//! HTTP. Owns which headers we add, and which of ours nobody may send through us.

use ambit_model::name::{Identity, Label};
use ambit_model::route::Bound;
use ambit_model::service::AppProtocol;
use ambit_model::telemetry::ProxyHeader;
use ambit_model::traffic::{Ends, Version as Wanted};
use base64::Engine;
use http::header::{
    HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};

use super::identify::{Asked, CERTIFICATE, join_cookies, scheme_of, take_forged};
use super::record::Record;
use super::route::{Route, protocol_of};
use crate::body::Upload;
use crate::interim::Turn;
use crate::stream::Inbound;

const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// The one version of websockets there is (RFC 6455, 4.1).
const VERSION_13: HeaderValue = HeaderValue::from_static("13");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const ATTEMPT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// A request as it leaves us.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    pub(crate) authority: Option<Authority>,
    pub(crate) headers: HeaderMap,
    pub(crate) http2: bool,
    upgrade: Option<HeaderValue>,
    /// Whether endpoints are told which attempt it is.
    counts: bool,
    /// Whether the client speaks HTTP/2.
    client_http2: bool,
    /// The authority that the client asked for.
    before: Option<Authority>,
    /// The headers as copies get them; only where there are any.
    copied: HeaderMap,
    /// For whom it goes on.
    pub(crate) ends: Ends,
    /// Whether the client may be told something before its answer.
    turn: Option<Turn>,
}

/// Makes the head that an endpoint gets.
pub(crate) fn rewrite(record: &Record, mut parts: Parts, asked: Asked, route: &Route) -> Outgoing {
    let inbound = record.inbound();
    // gRPC is not spoken in HTTP/1.1.
    let is_translated = record.web().is_some();
    let client_http2 = is_translated || parts.version >= Version::HTTP_2;
    let turn = parts.extensions.remove::<Turn>();
    let Asked { authority, upgrade } = asked;
    let fallback = || match &route.to {
        Bound::Service { service, .. } => service.hostname.as_str().parse().ok(),
        Bound::Workload { .. } => None,
    };
    let mut headers = parts.headers;
    let scheme = scheme_of(&parts.uri);
    own(&mut headers, scheme, record.tells(ProxyHeader::RequestId));
    if record.tells(ProxyHeader::Client) {
        let client = inbound.client.identity.as_ref();
        let told = client.and_then(|client| certificate(&inbound.lane.shared.identity, client));
        headers.extend(told.map(|told| (CERTIFICATE, told)));
    }
    route.edit_request(&mut headers);
    let copied = if route.mirrors.is_empty() { HeaderMap::new() } else { headers.clone() };
    route.edit_request_of_backend(&mut headers);
    tell(&mut headers, record, (route, authority.as_ref()));
    let before = authority.clone();
    Outgoing {
        method: parts.method,
        target: route.target.clone(),
        authority: route.authority.clone().or(authority).or_else(fallback),
        headers,
        http2: is_translated || speaks_http2(route.protocol(), client_http2, version(inbound, &route.to)),
        upgrade,
        counts: record.tells(ProxyHeader::Attempts),
        client_http2,
        before,
        copied,
        ends: inbound.ends(),
        turn,
    }
}

/// Which HTTP the service's traffic policy wants to be spoken.
fn version(inbound: &Inbound, to: &Bound) -> Wanted {
    let Bound::Service { service, port, subset } = to else { return Wanted::default() };
    let world = inbound.lane.shared.world.load();
    let handling = world
        .traffic_of(&service.key())
        .and_then(|traffic| traffic.of(*port, subset.as_ref().map(Label::as_str)));
    handling.map(|(handling, _)| handling.limits.version).unwrap_or_default()
}

fn speaks_http2(protocol: AppProtocol, client: bool, wanted: Wanted) -> bool {
    match protocol {
        AppProtocol::Http2 | AppProtocol::Grpc | AppProtocol::GrpcWeb => true,
        // What the client speaks, it would speak to the application, too.
        AppProtocol::Http11 | AppProtocol::Unknown | AppProtocol::Tcp | AppProtocol::Tls => match wanted {
            Wanted::OfPort => client,
            Wanted::Http1 => false,
            Wanted::Http2 => true,
        },
    }
}

/// Tells the endpoint what a route has changed, and how long the client waits.
fn tell(headers: &mut HeaderMap, record: &Record, (route, before): (&Route, Option<&Authority>)) {
    let value = |text: &str| HeaderValue::try_from(text).ok();
    let host = before.filter(|_| route.authority.is_some()).map(Authority::as_str);
    if record.tells(ProxyHeader::Details) {
        let limit = route.timeouts().request.after().map(|limit| limit.as_millis().to_string());
        let told = [(PATH, route.original.as_deref()), (ORIGINAL_HOST, host), (EXPECTED, limit.as_deref())];
        for (name, text) in told {
            headers.extend(text.and_then(|text| Some((name, value(text)?))));
        }
    }
    if let Some(host) = host.filter(|_| record.tells(ProxyHeader::Host)).and_then(value) {
        // Beside what proxies before us have said.
        headers.append(FORWARDED_HOST, host);
    }
    if record.tells(ProxyHeader::Port) && !headers.contains_key(FORWARDED_PORT) {
        headers.insert(FORWARDED_PORT, HeaderValue::from(record.inbound().dialled.port()));
    }
}

/// Takes out what only proxies say, of which others may have said something since; and adds what we do; with a name for a request that has none, where it gets one.
fn own(headers: &mut HeaderMap, scheme: &'static str, names: bool) {
    take_forged(headers);
    if !headers.contains_key(PROTO) {
        headers.insert(PROTO, HeaderValue::from_static(scheme));
    }
    if names && !headers.contains_key(REQUEST_ID) {
        let made = HeaderValue::try_from(request_id(fastrand::u128(..)));
        headers.extend(made.ok().map(|id| (REQUEST_ID, id)));
    }
}

/// Who asks, as the tunnel has proven, and who says so.
fn certificate(by: &Identity, client: &Identity) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("By={by};URI={client}")).ok()
}

/// RFC 9562, 5.4: a UUID of chance.
fn request_id(chance: u128) -> String {
    let set = (chance & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut id = String::with_capacity(36);
    for place in 0..32 {
        if [8, 12, 16, 20].contains(&place) {
            id.push('-');
        }
        let digit = u32::try_from((set >> (124 - 4 * place)) & 0xf).ok();
        id.extend(digit.and_then(|digit| char::from_digit(digit, 16)));
    }
    id
}

impl Outgoing {
    /// A copy for somebody else, without what a backend changes for itself.
    pub(crate) fn copy(&self, route: &Route, to: &Bound) -> Self {
        let (target, authority) = &route.copied;
        Self {
            method: self.method.clone(),
            target: target.clone(),
            authority: authority.clone().or_else(|| self.before.clone()),
            headers: self.copied.clone(),
            http2: speaks_http2(protocol_of(to), self.client_http2, Wanted::OfPort),
            upgrade: None,
            counts: self.counts,
            client_http2: self.client_http2,
            before: self.before.clone(),
            copied: HeaderMap::new(),
            ends: self.ends,
            turn: None,
        }
    }

    /// Whether it asks for another protocol.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.upgrade.is_some()
    }

    /// The request of one attempt, counted from 1, as this version of HTTP writes it.
    pub(crate) fn request(&self, attempt: u32, http2: bool, upload: Upload) -> Request<Upload> {
        let mut request = Request::new(upload);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        if self.counts {
            request.headers_mut().insert(ATTEMPT, HeaderValue::from(attempt));
        }
        if let Some(turn) = &self.turn {
            request.extensions_mut().insert(turn.clone());
        }
        if http2 {
            self.in_http2(&mut request)
        } else {
            self.in_http1(&mut request)
        }
        request
    }

    /// RFC 9113, 8.3.1: the authority is no header.
    fn in_http2(&self, request: &mut Request<Upload>) {
        request.headers_mut().remove(HOST);
        *request.version_mut() = Version::HTTP_2;
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(self.target.clone());
        if let Some(authority) = &self.authority {
            uri.scheme = Some(Scheme::HTTP);
            uri.authority = Some(authority.clone());
        }
        // All three are well formed, and together they always make one.
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        if self.is_upgrade() {
            // RFC 8441, 5: there is no key to prove.
            *request.method_mut() = Method::CONNECT;
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            let headers = request.headers_mut();
            headers.remove(SEC_WEBSOCKET_KEY);
            headers.entry(SEC_WEBSOCKET_VERSION).or_insert(VERSION_13);
        }
    }

    fn in_http1(&self, request: &mut Request<Upload>) {
        *request.uri_mut() = Uri::from(self.target.clone());
        let headers = request.headers_mut();
        let authority = self.authority.as_ref();
        headers.remove(HOST);
        headers.extend(authority.and_then(|a| Some((HOST, HeaderValue::try_from(a.as_str()).ok()?))));
        join_cookies(headers);
        if let Some(protocol) = &self.upgrade {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol.clone());
            // In HTTP/2 neither is said; a key proves nothing, but servers look for it (RFC 6455, 4.1).
            if !headers.contains_key(SEC_WEBSOCKET_KEY) {
                let key = base64::engine::general_purpose::STANDARD.encode(fastrand::u128(..).to_be_bytes());
                headers.extend(HeaderValue::try_from(key).ok().map(|key| (SEC_WEBSOCKET_KEY, key)));
            }
            headers.entry(SEC_WEBSOCKET_VERSION).or_insert(VERSION_13);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_proxies_say_is_not_taken_from_clients() {
        let mut headers = HeaderMap::new();
        for name in ["x-envoy-max-retries", "x-envoy-internal", "x-forwarded-client-cert", "x-mine"] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        headers.insert(PROTO, HeaderValue::from_static("https"));
        own(&mut headers, "http", true);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["x-forwarded-proto", "x-mine", "x-request-id"]);
        assert_eq!(headers[PROTO], "https");
        let given = HeaderValue::from_static("mine");
        headers.insert(REQUEST_ID, given.clone());
        own(&mut headers, "http", true);
        assert_eq!(headers[REQUEST_ID], given);
    }

    #[test]
    fn a_requests_id_is_a_uuid_of_version_4() {
        assert_eq!(request_id(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(request_id(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
