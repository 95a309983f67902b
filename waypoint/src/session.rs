//! Sessions that stay with one endpoint (`waypoint.md` 2.13): reading what a client shows, finding the endpoint that it
//! means, and telling the client of it with the answer. Owns hashing and headers; what a token is and how long it counts
//! is the model's. Nothing is kept here, so that any replica goes on where another stopped.

use std::time::UNIX_EPOCH;

use ambit_model::http_route::{DIGEST, Found, Kept, PathMatch, Rule, Session, TOKEN, Token};
use ambit_model::name::{Label, WorkloadUid};
use ambit_model::snapshot::Snapshot;
use ambit_process::clock::now_system;
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

use crate::lane::Lane;
use crate::phases::route::known;
use crate::upstream::{Met, candidates};

/// Cookies of one name that are looked at; a client has one.
const COOKIES: usize = 4;

/// What is known of a request's session.
pub(crate) struct Stay {
    /// The route, for which alone a token counts.
    route: Label,
    /// What the client has shown, with the endpoint that it means.
    shown: Option<(Token, WorkloadUid)>,
    /// The path of its cookie.
    path: Label,
    /// Whether the client speaks TLS.
    secure: bool,
}

impl Stay {
    /// The session of a request, and the backend that it is kept at: none, if the endpoint is gone or nothing was shown
    /// that counts.
    pub(crate) fn find(
        (lane, world): (&Lane, &Snapshot),
        found: &Found<'_>,
        (headers, is_https): (&HeaderMap, bool),
    ) -> Option<(Self, Option<usize>)> {
        let session = found.rule.session.as_ref()?;
        let route = Label::from(found.route.key.to_string());
        let now_s = now_s();
        let alive = tokens(session, headers).filter(|token| session.is_alive(token, now_s));
        let place = alive.take(COOKIES).find_map(|token| place(lane, world, (found.rule, &route), &token));
        let forwarded = headers.get("x-forwarded-proto").is_some_and(|it| it.as_bytes() == b"https");
        let at = place.as_ref().map(|(_, _, at)| *at);
        let shown = place.map(|(token, uid, _)| (token, uid));
        Some((Self { route, shown, path: path(session, found), secure: is_https || forwarded }, at))
    }

    /// The endpoint that the client has shown.
    pub(crate) fn with(&self) -> Option<&WorkloadUid> {
        self.shown.as_ref().map(|(_, uid)| uid)
    }

    /// Tells the client who has answered, if it does not know that yet or would forget it.
    pub(crate) fn tell(&self, session: &Session, met: &Met, headers: &mut HeaderMap) {
        let Some(uid) = met.workload.as_ref().map(|it| &it.uid) else { return };
        let now_s = now_s();
        let kept = self.shown.as_ref().filter(|(_, shown)| shown == uid).map(|(token, _)| token.begun_s);
        if kept.is_some() && session.idle.is_none() {
            return;
        }
        let chance = fastrand::u64(..).to_be_bytes();
        let begun_s = kept.unwrap_or(now_s);
        let blank = Token { begun_s, seen_s: now_s, chance, digest: [0; DIGEST] };
        let token = Token { digest: digest_of(&blank, &self.route, uid), ..blank };
        let text = URL_SAFE_NO_PAD.encode(token.written());
        let told = match &session.kept {
            Kept::Header(name) => HeaderValue::try_from(text).ok().map(|value| (name.clone(), value)),
            Kept::Cookie { name, .. } => {
                let age = session.left_s(&token, now_s).map(|it| format!("; Max-Age={it}"));
                let secure = if self.secure { "; Secure" } else { "" };
                let (path, age) = (&self.path, age.unwrap_or_default());
                let cookie = format!("{name}={text}; Path={path}{age}; HttpOnly{secure}; SameSite=Lax");
                HeaderValue::try_from(cookie).ok().map(|value| (SET_COOKIE, value))
            }
        };
        if let Some((name, value)) = told {
            put(headers, name, value);
        }
    }
}

/// A cookie beside others, a header in the place of what an endpoint says there.
fn put(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    if name == SET_COOKIE {
        headers.append(name, value);
    } else {
        headers.insert(name, value);
    }
}

/// All that a client shows and that reads as a token.
fn tokens<'a>(session: &'a Session, headers: &'a HeaderMap) -> impl Iterator<Item = Token> + 'a {
    let (name, cookie) = match &session.kept {
        Kept::Header(name) => (name.clone(), None),
        Kept::Cookie { name, .. } => (COOKIE, Some(name.as_str())),
    };
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|it| it.to_str().ok()).collect();
    values.into_iter().flat_map(move |value| texts(value, cookie)).filter_map(|text| read(&text))
}

/// The header itself, or the values of a cookie in it.
fn texts(value: &str, cookie: Option<&str>) -> Vec<String> {
    let Some(name) = cookie else { return vec![value.trim().into()] };
    let pairs = value.split(';').filter_map(|pair| pair.trim().split_once('='));
    let own = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"').into());
    own.take(COOKIES).collect()
}

fn read(text: &str) -> Option<Token> {
    // Three bytes are four letters; one that is longer is none.
    if text.len() != TOKEN.div_ceil(3) * 4 && text.len() != (TOKEN * 4).div_ceil(3) {
        return None;
    }
    Token::read(&URL_SAFE_NO_PAD.decode(text).ok()?)
}

/// The endpoint that a token means, and the backend that it is of: of those only that a request may go to anyway.
fn place(
    lane: &Lane,
    world: &Snapshot,
    (rule, route): (&Rule, &Label),
    token: &Token,
) -> Option<(Token, WorkloadUid, usize)> {
    rule.backends.iter().enumerate().filter(|(_, backend)| backend.weight > 0).find_map(|(at, backend)| {
        let to = known(world, backend.to.as_ref().ok()?)?;
        let mut all = candidates(lane, world, &to).into_iter().map(|it| it.workload.uid.clone());
        let uid = all.find(|uid| digest_of(token, route, uid) == token.digest)?;
        Some((*token, uid, at))
    })
}

fn digest_of(token: &Token, route: &Label, uid: &WorkloadUid) -> [u8; DIGEST] {
    let hash = digest::digest(&digest::SHA256, &token.text(route.as_str(), uid.as_str()));
    let mut short = [0; DIGEST];
    short.iter_mut().zip(hash.as_ref()).for_each(|(place, byte)| *place = *byte);
    short
}

/// The path of a cookie: as it is written, or else the prefix that matched.
fn path(session: &Session, found: &Found<'_>) -> Label {
    let Kept::Cookie { path, .. } = &session.kept else { return Label::default() };
    let prefix = || match found.matched.map(|it| &it.path) {
        Some(PathMatch::Prefix(prefix)) if prefix.bytes().all(|it| it.is_ascii_graphic() && it != b';') => {
            Some(Label::from(&**prefix))
        }
        _ => None,
    };
    path.clone().or_else(prefix).unwrap_or_else(|| "/".into())
}

fn now_s() -> u32 {
    let since = now_system().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(route: &str, uid: &str) -> Token {
        let blank = Token { begun_s: 1, seen_s: 2, chance: [3; 8], digest: [0; DIGEST] };
        Token { digest: digest_of(&blank, &route.into(), &uid.into()), ..blank }
    }

    #[test]
    fn a_token_shows_nothing_and_means_one_endpoint_of_one_route() {
        let one = token("HTTPRoute/shop/a", "Kubernetes//Pod/shop/web-1");
        let written = one.written();
        assert!(!written.windows(4).any(|it| it == b"web-"), "{written:?}");
        assert_ne!(one.digest, token("HTTPRoute/shop/a", "Kubernetes//Pod/shop/web-2").digest);
        assert_ne!(one.digest, token("HTTPRoute/shop/b", "Kubernetes//Pod/shop/web-1").digest);
        assert_eq!(read(&URL_SAFE_NO_PAD.encode(written)), Some(one));
    }

    #[test]
    fn cookies_are_found_among_others_and_what_is_no_token_is_passed_over() {
        let text = URL_SAFE_NO_PAD.encode(token("r", "e").written());
        let kept = Kept::Cookie { name: "stay".parse().unwrap(), path: None, permanent: false };
        let session = Session { kept, absolute: None, idle: None };
        for (cookies, wanted) in [
            (vec![format!("a=b; stay={text}; c=d")], 1),
            (vec!["a=b".into(), format!("stay=\"{text}\"")], 1),
            (vec![format!("stay=x; stay={text}")], 1),
            (vec![format!("mystay={text}; stay"), format!("stay={text}A"), "stay=".into()], 0),
            (vec![format!("stay={}", "A".repeat(44))], 0),
        ] {
            let mut headers = HeaderMap::new();
            for it in &cookies {
                headers.append(COOKIE, it.parse().unwrap());
            }
            assert_eq!(tokens(&session, &headers).count(), wanted, "{cookies:?}");
        }
        let name = HeaderName::from_static("x-session");
        let session = Session { kept: Kept::Header(name.clone()), ..session };
        let mut headers = HeaderMap::new();
        headers.insert(name, text.parse().unwrap());
        assert_eq!(tokens(&session, &headers).count(), 1);
    }
}
