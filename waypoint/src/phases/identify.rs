//! What a request is (`waypoint.md` 6.2, 6.3): whom it is addressed to, and that everybody on its way would read it
//! alike. Owns those rules as far as they are about whole heads, and taking out what is the connection's alone.
//! Who asks is known from the tunnel, and is never read from a request.

use ambit_model::http_head::asks_for_websocket;
use http::header::{
    CONNECTION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, Uri, Version};

use crate::refused::Refused;

/// Longer targets are refused.
const TARGET_MOST: usize = 16 * 1024;
/// More headers are refused (`waypoint.md` 6.1).
pub(crate) const HEADERS_MOST: usize = 128;

/// What proxies tell applications and each other; nobody else does.
const OURS: &str = "x-envoy-";
pub(super) const CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Headers of one connection, whatever its `connection` header says (RFC 9110, 7.6.1).
const HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// What nobody may have taken out on the way by calling it a header of the connection.
const KEPT: [&str; 5] = ["host", "x-request-id", "authorization", "content-length", "cookie"];

/// What a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// To whom; none only in HTTP/1.0.
    pub(crate) authority: Option<Authority>,
    /// The protocol that is asked for instead of HTTP, if it is one that we pass on.
    pub(crate) upgrade: Option<HeaderValue>,
}

impl Asked {
    /// Whom it asks for, as far as it says.
    pub(crate) fn host(&self) -> &str {
        self.authority.as_ref().map_or("", Authority::as_str)
    }
}

/// What a target says that is spoken; one that says nothing means plain HTTP.
pub(crate) fn scheme_of(uri: &Uri) -> &'static str {
    if uri.scheme() == Some(&Scheme::HTTPS) { "https" } else { "http" }
}

/// Reads a request's head, takes out what is of this connection only and what is not the client's to say, and has all who
/// decide by it see what its endpoint will.
pub(crate) fn identify(parts: &mut Parts) -> Result<Asked, Refused> {
    if parts.headers.len() > HEADERS_MOST {
        return Err(Refused::TooMany);
    }
    if parts.method.as_str() == "PRI" {
        return Err(Refused::Bad("the method is none but HTTP/2's beginning"));
    }
    let bridged = bridged(parts)?;
    target(parts)?;
    let authority = authority(parts)?;
    coding(&parts.headers)?;
    let upgrade = if bridged.is_some() { bridged } else { upgrade(&parts.headers)? };
    strip(&mut parts.headers)?;
    take_forged(&mut parts.headers);
    say_host(&mut parts.headers, authority.as_ref());
    join_cookies(&mut parts.headers);
    Ok(Asked { authority, upgrade })
}

/// A websocket over HTTP/2 is asked for by CONNECT (RFC 8441, 4); for all who decide about it, it is what it would be
/// in HTTP/1.1.
fn bridged(parts: &mut Parts) -> Result<Option<HeaderValue>, Refused> {
    if parts.method != Method::CONNECT {
        return Ok(None);
    }
    let protocol = parts.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str);
    if protocol != Some("websocket") {
        return Err(Refused::Upgrade);
    }
    parts.method = Method::GET;
    Ok(Some(HeaderValue::from_static("websocket")))
}

/// Whether no further request may come on the same connection of HTTP/1.1: where this one ends depends on its answer, or
/// is known to nobody.
pub(crate) fn is_last(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(UPGRADE).iter();
    upgrades.any(|to| asks_for_websocket(to.as_bytes())) || coding(headers).is_err()
}

/// Whether a head that somebody else has changed is still one that we pass on.
pub(super) fn is_sound(parts: &Parts) -> Result<(), &'static str> {
    match target(parts).and_then(|()| authority(parts)) {
        Ok(_) => Ok(()),
        Err(Refused::Bad(why)) => Err(why),
        Err(_) => Err("the target is too long"),
    }
}

fn target(parts: &Parts) -> Result<(), Refused> {
    let uri = &parts.uri;
    let whole = uri.scheme().is_some();
    // "GET shop" reads as an authority, which only CONNECT has for a target.
    if !whole && uri.authority().is_some() {
        return Err(Refused::Bad("the target is no path"));
    }
    let path = uri.path();
    let asterisk = path == "*" && parts.method == Method::OPTIONS;
    let is_path = asterisk || path.starts_with('/') || whole && path.is_empty();
    if !is_path {
        return Err(Refused::Bad("the target is no path"));
    }
    let target = uri.path_and_query().map_or("", |all| all.as_str());
    if target.len() > TARGET_MOST {
        return Err(Refused::TooLong);
    }
    let plain = |byte: u8| byte.is_ascii_graphic();
    if !target.bytes().all(plain) {
        return Err(Refused::Bad("the target holds what no target may"));
    }
    Ok(())
}

/// The one authority of a request: of its target, else of its only Host; both must agree in HTTP/2.
fn authority(parts: &Parts) -> Result<Option<Authority>, Refused> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refused::Bad("there are several Host headers"));
    }
    let read = |host: &HeaderValue| {
        Authority::try_from(host.as_bytes()).map_err(|_| Refused::Bad("the Host is no authority"))
    };
    let authority = match (parts.uri.authority(), host) {
        (Some(target), Some(host)) if parts.version >= Version::HTTP_2 => {
            if !target.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) {
                return Err(Refused::Bad(":authority and Host differ"));
            }
            target.clone()
        }
        // RFC 9112, 3.2.2: a target that is a whole URI says it, and Host is replaced.
        (Some(target), _) => target.clone(),
        (None, Some(host)) => read(host)?,
        (None, None) if parts.version < Version::HTTP_11 => return Ok(None),
        (None, None) => return Err(Refused::Bad("there is no Host")),
    };
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(Refused::Bad("the Host is no authority"));
    }
    Ok(Some(authority))
}

/// Whether only proxies say it: nobody else's word for it is believed (`waypoint.md` 1.4, 1.6).
pub(super) fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with(OURS) || *name == CERTIFICATE
}

/// Takes out what only proxies say, whoever has said it.
pub(super) fn take_forged(headers: &mut HeaderMap) {
    let forged: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

/// One word for whom it asks for, in either version of HTTP: policies and routes that look at Host see what goes on.
fn say_host(headers: &mut HeaderMap, authority: Option<&Authority>) {
    let Some(authority) = authority.map(|it| it.as_str().as_bytes()) else { return };
    if headers.get(HOST).is_some_and(|host| host.as_bytes() == authority) {
        return;
    }
    match HeaderValue::from_bytes(authority) {
        Ok(host) => drop(headers.insert(HOST, host)),
        Err(_) => drop(headers.remove(HOST)),
    }
}

/// RFC 9113, 8.2.3: HTTP/2 may send them in pieces; HTTP/1.1, and whoever decides by them, knows one header.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Only `chunked`, and that once: what we cannot undo we cannot pass on either.
fn coding(headers: &HeaderMap) -> Result<(), Refused> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refused::Coding),
    }
}

/// Websockets are passed on; an offer of HTTP/2 is declined by saying nothing of it.
fn upgrade(headers: &HeaderMap) -> Result<Option<HeaderValue>, Refused> {
    let Some(wanted) = headers.get(UPGRADE).filter(|_| nominates(headers, "upgrade")) else {
        return Ok(None);
    };
    match wanted.as_bytes() {
        name if name.eq_ignore_ascii_case(b"websocket") => Ok(Some(wanted.clone())),
        name if name.eq_ignore_ascii_case(b"h2c") => Ok(None),
        _ => Err(Refused::Upgrade),
    }
}

/// What the `connection` headers name.
fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty())
}

fn nominates(headers: &HeaderMap, name: &str) -> bool {
    nominated(headers).any(|one| one.eq_ignore_ascii_case(name))
}

/// Takes out what is of one connection only, of requests.
fn strip(headers: &mut HeaderMap) -> Result<(), Refused> {
    let hides = |name: &str| {
        let kept = |kept: &&str| name.eq_ignore_ascii_case(kept);
        let forwarded = name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case("x-forwarded-"));
        KEPT.iter().any(kept) || forwarded || name.starts_with(':')
    };
    if nominated(headers).any(hides) {
        return Err(Refused::Bad("the Connection header names what is not the connection's"));
    }
    let trailers = headers.get(TE).is_some_and(|te| {
        let mut codings = te.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        codings.any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    });
    take_out(headers);
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(())
}

/// Takes out what is of one connection only, of requests and of answers.
pub(crate) fn take_out(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = nominated(headers).filter_map(|name| name.parse().ok()).collect();
    for name in named.iter().chain(&HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn read(request: http::request::Builder) -> (Result<Asked, Refused>, Parts) {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        (identify(&mut parts), parts)
    }

    #[test]
    fn what_others_could_read_in_another_way_is_refused() {
        let http1 = || Request::builder().uri("/").header("host", "a");
        let http2 = || Request::builder().version(Version::HTTP_2).uri("http://a/");
        for (request, wanted) in [
            (http1(), None),
            (Request::builder().uri("/"), Some("there is no Host")),
            (Request::builder().uri("/").version(Version::HTTP_10), None),
            (http1().header("host", "a"), Some("there are several Host headers")),
            (Request::builder().uri("/").header("host", ""), Some("the Host is no authority")),
            (Request::builder().uri("/").header("host", "a b"), Some("the Host is no authority")),
            (Request::builder().uri("/").header("host", "u@a"), Some("the Host is no authority")),
            (http1().uri("shop"), Some("the target is no path")),
            (http1().uri("*"), Some("the target is no path")),
            (http1().uri("*").method("OPTIONS"), None),
            (http1().uri("http://b/"), None),
            (http2(), None),
            (http2().header("host", "A"), None),
            (http2().header("host", "b"), Some(":authority and Host differ")),
            (
                http1().header("connection", "host"),
                Some("the Connection header names what is not the connection's"),
            ),
            (
                http1().header("connection", "close, X-Forwarded-For"),
                Some("the Connection header names what is not the connection's"),
            ),
            (http1().header("connection", "close, x-mine"), None),
        ] {
            let shown = format!("{request:?}");
            let found = match read(request).0 {
                Ok(_) => None,
                Err(Refused::Bad(why)) => Some(why),
                Err(other) => panic!("{shown}: {other}"),
            };
            assert_eq!(found, wanted, "{shown}");
        }
    }

    #[test]
    fn other_codings_other_protocols_and_long_targets_have_answers_of_their_own() {
        let get = || Request::builder().uri("/").header("host", "a");
        let upgrade = |to: &str| get().header("connection", "upgrade").header("upgrade", to);
        for (request, status) in [
            (get().header("transfer-encoding", "gzip, chunked"), 501),
            (get().header("transfer-encoding", "chunked").header("transfer-encoding", "chunked"), 501),
            (upgrade("spdy/3"), 403),
            (get().method("CONNECT").uri("a:80"), 403),
            (get().uri(format!("/{}", "x".repeat(TARGET_MOST))), 414),
        ] {
            let shown = format!("{request:?}").chars().take(200).collect::<String>();
            assert_eq!(read(request).0.unwrap_err().words().status, status, "{shown}");
        }
        assert!(read(get().header("transfer-encoding", "Chunked")).0.is_ok());
        assert_eq!(read(upgrade("WebSocket")).0.unwrap().upgrade.unwrap(), "WebSocket");
        assert_eq!(read(upgrade("h2c")).0.unwrap().upgrade, None);
        assert_eq!(read(get().header("upgrade", "websocket")).0.unwrap().upgrade, None);
    }

    #[test]
    fn who_is_asked_for_is_said_in_one_way_in_either_version() {
        let http2 = || Request::builder().version(Version::HTTP_2).uri("http://shop/");
        for (request, wanted) in [
            (Request::builder().uri("/").header("host", "shop:80"), Some("shop:80")),
            (Request::builder().uri("http://inner/").header("host", "shop"), Some("inner")),
            (http2(), Some("shop")),
            (http2().header("host", "SHOP"), Some("shop")),
            (Request::builder().uri("/").version(Version::HTTP_10), None),
        ] {
            let shown = format!("{request:?}");
            let (_, parts) = read(request);
            let found: Vec<_> = parts.headers.get_all(HOST).iter().collect();
            assert_eq!(found, wanted.into_iter().collect::<Vec<_>>(), "{shown}");
        }
    }

    #[test]
    fn cookies_in_pieces_are_one_header_again() {
        let mut request = Request::builder().version(Version::HTTP_2).uri("http://a/");
        for piece in ["a=1", "b=2", "c=3"] {
            request = request.header(COOKIE, piece);
        }
        let (_, parts) = read(request);
        assert_eq!(parts.headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn what_only_proxies_say_is_nobodys_to_send() {
        let mut request = Request::builder().uri("/").header("host", "a").header("x-mine", "1");
        for name in ["x-envoy-max-retries", "x-envoy-internal", "x-forwarded-client-cert"] {
            request = request.header(name, "1").header(name, "2");
        }
        let (_, parts) = read(request);
        let mut names: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "x-mine"]);
    }

    #[test]
    fn what_is_of_the_connection_is_taken_out_and_nothing_else() {
        let (_, parts) = read(
            Request::builder()
                .uri("/")
                .header("host", "a")
                .header("connection", "keep-alive, x-mine")
                .header("x-mine", "1")
                .header("keep-alive", "5")
                .header("proxy-connection", "keep-alive")
                .header("te", "gzip, trailers")
                .header("trailer", "x-sum")
                .header("x-yours", "1"),
        );
        let mut names: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "te", "trailer", "x-yours"]);
        assert_eq!(parts.headers["te"], "trailers");
    }
}
