//! gRPC as browsers ask for it (`waypoint.md` 6.3): over any HTTP, what follows a body in its last piece, and all of it in
//! base64 where the client reads nothing but text. Owns how a client asks and hears, and what becomes of heads and of the
//! answer's body; `text` reads the request's. Whoever stands between a client and an endpoint sees gRPC alone.

mod text;

use ambit_model::http_head::asks_for_websocket;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, UPGRADE,
};
use http::request::Parts;
use http_body::Frame;

pub(crate) use self::text::{Decoder, NoText};

const GRPC: &str = "application/grpc";
/// What a piece of an answer begins with that holds trailers.
const LAST: u8 = 0x80;
/// What an answer without a body says in its head.
const STATUS: [HeaderName; 3] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
];

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Binary,
    Text,
}

impl Form {
    const fn name(self) -> &'static str {
        match self {
            Self::Binary => "application/grpc-web",
            Self::Text => "application/grpc-web-text",
        }
    }

    /// As a media type says it, with what messages are written in.
    fn of(media: &str) -> Option<(Self, &str)> {
        [Self::Text, Self::Binary].into_iter().find_map(|form| Some((form, messages(media, form.name())?)))
    }
}

/// How a client asks, and how it wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GrpcWeb {
    asks: Form,
    hears: Form,
}

impl GrpcWeb {
    /// As a request says; none: it is no gRPC-web.
    pub(crate) fn asked(parts: &Parts) -> Option<Self> {
        let Parts { method, headers, .. } = parts;
        let is_upgrade = || headers.get_all(UPGRADE).iter().any(|to| asks_for_websocket(to.as_bytes()));
        let (asks, _) = Form::of(headers.get(CONTENT_TYPE)?.to_str().ok()?)?;
        if method != Method::POST || is_upgrade() {
            return None;
        }
        let accepts = headers.get_all(ACCEPT).iter().filter_map(|it| it.to_str().ok());
        let hears = accepts.flat_map(|it| it.split(',')).find_map(Form::of);
        Some(Self { asks, hears: hears.map_or(asks, |(hears, _)| hears) })
    }

    /// Whether the request's body is text.
    pub(crate) fn asks_in_text(self) -> bool {
        self.asks == Form::Text
    }

    /// Makes a request's head one of gRPC. That a browser asks, `x-grpc-web` still says.
    pub(crate) fn ask(headers: &mut HeaderMap) {
        rename(headers, GRPC, |media| Form::of(media).map(|(_, of)| of));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.remove(CONTENT_LENGTH);
    }

    /// Makes the head of an answer of gRPC the client's.
    pub(crate) fn answer(self, headers: &mut HeaderMap) {
        rename(headers, self.hears.name(), |media| messages(media, GRPC));
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRAILER);
    }

    /// Makes a piece of an answer the client's. Each is text by itself, so that none waits for the next.
    pub(crate) fn piece(self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let bytes = match frame.into_data().map_err(Frame::into_trailers) {
            Ok(data) => data,
            Err(Ok(trailers)) => last(&trailers),
            Err(Err(other)) => return other,
        };
        Frame::data(match self.hears {
            Form::Binary => bytes,
            Form::Text => STANDARD.encode(bytes).into(),
        })
    }
}

/// Whether a head is one of gRPC's.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let media = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    media.is_some_and(|it| messages(it, GRPC).is_some())
}

/// Takes out what an answer without a body says of how it ends. Said in a body it is seen by all clients, also of pages
/// that may not see such headers.
pub(crate) fn take_status(headers: &mut HeaderMap) -> HeaderMap {
    STATUS.into_iter().filter_map(|name| Some((name.clone(), headers.remove(name)?))).collect()
}

/// What messages are written in, with its plus, if a media type has this name.
fn messages<'m>(media: &'m str, name: &str) -> Option<&'m str> {
    let media = media.split(';').next()?.trim();
    let (before, after) = media.split_at_checked(name.len())?;
    (before.eq_ignore_ascii_case(name) && (after.is_empty() || after.starts_with('+'))).then_some(after)
}

/// Puts another name into a head's media type, before what messages are written in.
fn rename(headers: &mut HeaderMap, name: &str, messages: impl FnOnce(&str) -> Option<&str>) {
    let media = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let messages = media.and_then(messages).unwrap_or_default();
    if let Ok(renamed) = HeaderValue::try_from(format!("{name}{messages}")) {
        headers.insert(CONTENT_TYPE, renamed);
    }
}

/// What follows a body, as its last piece.
fn last(trailers: &HeaderMap) -> Bytes {
    let mut lines = Vec::new();
    for (name, value) in trailers {
        lines.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    let mut piece = BytesMut::with_capacity(crate::messages::PREFIX + lines.len());
    piece.put_u8(LAST);
    piece.put_u32(u32::try_from(lines.len()).unwrap_or(u32::MAX));
    piece.put_slice(&lines);
    piece.freeze()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(method: &str, media: &str, accept: &str) -> Option<GrpcWeb> {
        let request = Request::builder().method(method).header("content-type", media);
        let request = if accept.is_empty() { request } else { request.header("accept", accept) };
        GrpcWeb::asked(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_client_hears_what_it_accepts_or_else_what_it_speaks() {
        const TEXT: &str = "application/grpc-web-text";
        use Form::{Binary, Text};
        for (media, accept, wanted) in [
            ("application/grpc-web", "", Some((Binary, Binary))),
            ("application/grpc-web+proto", "*/*", Some((Binary, Binary))),
            ("Application/gRPC-Web+thrift; charset=utf-8", "", Some((Binary, Binary))),
            (TEXT, "", Some((Text, Text))),
            ("application/grpc-web-text+proto", "text/html, */*", Some((Text, Text))),
            ("application/grpc-web+proto", TEXT, Some((Binary, Text))),
            (TEXT, "application/grpc-web+proto, application/grpc-web-text", Some((Text, Binary))),
            ("application/grpc", TEXT, None),
            ("application/grpc+proto", "", None),
            ("application/grpc-webs", "", None),
            ("application/grpc-web-texts", "", None),
            ("text/plain", "", None),
        ] {
            let wanted = wanted.map(|(asks, hears)| GrpcWeb { asks, hears });
            assert_eq!(asked("POST", media, accept), wanted, "{media} {accept}");
            assert_eq!(asked("OPTIONS", media, accept), None, "{media} {accept}");
        }
    }

    #[test]
    fn heads_say_what_messages_are_written_in_both_ways() {
        for (web, grpc) in [
            ("application/grpc-web", "application/grpc"),
            ("application/grpc-web+json;a=b", "application/grpc+json"),
            ("application/grpc-web-text+proto", "application/grpc+proto"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(web));
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("8"));
            assert!(!is_grpc(&headers));
            GrpcWeb::ask(&mut headers);
            assert_eq!(
                (&headers[CONTENT_TYPE], &headers[TE]),
                (&grpc.parse().unwrap(), &"trailers".parse().unwrap())
            );
            assert!(is_grpc(&headers) && !headers.contains_key(CONTENT_LENGTH));
            GrpcWeb { asks: Form::Binary, hears: Form::of(web).unwrap().0 }.answer(&mut headers);
            assert_eq!(headers[CONTENT_TYPE], web.split(';').next().unwrap());
        }
    }

    #[test]
    fn what_follows_a_body_is_its_last_piece() {
        let (binary, text) = (Form::Binary, Form::Text);
        let trailers = || {
            let all = [("grpc-status", "5"), ("X-Sum", "a b")];
            Frame::trailers(
                all.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                    .into_iter()
                    .collect(),
            )
        };
        let last = b"\x80\0\0\0\x1cgrpc-status: 5\r\nx-sum: a b\r\n";
        for (hears, data, wanted) in
            [(binary, &b"ab"[..], &last[..]), (text, b"YWI=", STANDARD.encode(last).as_bytes())]
        {
            let web = GrpcWeb { asks: binary, hears };
            assert_eq!(web.piece(Frame::data("ab".into())).into_data().unwrap(), data);
            assert_eq!(web.piece(trailers()).into_data().unwrap(), wanted);
        }
    }
}
