//! Whom a request's token names (`waypoint.md` 4.4). Owns the order - where tokens are looked for, who is asked about
//! them, what the first good one means - and that no client sets a header that only the mesh may. A request without
//! a token goes on as nobody's: whether that will do is `authorize`'s.

use std::sync::Arc;

use ambit_jwt::{Fault, Signed};
use ambit_model::authentication::{
    Authentication, Place, Taken, TokenRule, carry_on, found, header_of, is_preflight, spread,
};
use ambit_model::request_policy::Token;
use ambit_process::clock::now_system;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};
use tracing::debug;

use super::record::Record;
use super::route::put_together;
use crate::believed::Remembered;
use crate::refused::Refused;
use crate::stream::Inbound;

/// What a rule makes of the tokens where it looks for them.
enum Opinion {
    /// There are none.
    Missing,
    /// They are good; the claims as they were sent, if they go on.
    Good(Arc<Token>, Option<HeaderValue>),
}

/// Checks the tokens of a request, and takes out those that do not go on with it. What the first good one shows.
pub(crate) async fn authenticate(
    record: &mut Record,
    parts: &mut Parts,
) -> Result<Option<Arc<Token>>, Refused> {
    let world = record.lane().shared.world.load();
    let all = world.authentications_of(&record.inbound().targets);
    if all.is_empty() {
        return Ok(None);
    }
    if is_preflight(&parts.method, &parts.headers) {
        return Ok(None);
    }
    let mut failed = None;
    for rule in rules(&all) {
        match Box::pin(judge(record.inbound(), rule, parts)).await {
            Ok(Opinion::Good(token, payload)) => {
                good(rule, (&token, payload), parts);
                return Ok(Some(token));
            }
            Ok(Opinion::Missing) => {}
            // That one issuer's token is none of another's says little.
            Err(fault) if failed.is_none_or(|it| it == Fault::Issuer) => failed = Some(fault),
            Err(_) => {}
        }
    }
    match failed {
        None => Ok(None),
        Some(fault) => Err(Refused::Unproven { fault, realm: realm(parts) }),
    }
}

/// Takes out headers that only the mesh sets, before anybody goes by them. No record shows a token.
pub(crate) fn unforge(record: &mut Record, parts: &mut Parts) {
    let world = record.lane().shared.world.load();
    let all = world.authentications_of(&record.inbound().targets);
    for name in rules(&all).flat_map(|rule| rule.headers()) {
        parts.headers.remove(name);
    }
    if let Some(uri) = without(rules(&all).flat_map(|rule| &rule.places), parts) {
        record.show(uri);
    }
}

fn rules<'a>(all: &'a [&Authentication]) -> impl Iterator<Item = &'a Arc<TokenRule>> {
    all.iter().flat_map(|it| &it.rules)
}

async fn judge(inbound: &Inbound, rule: &Arc<TokenRule>, parts: &Parts) -> Result<Opinion, Fault> {
    let query = parts.uri.query();
    let tokens: Vec<&str> =
        rule.places.iter().flat_map(|place| found(place, &parts.headers, query)).collect();
    let mut opinion = Opinion::Missing;
    for text in tokens {
        // All of them have to be good; the first is the one that counts.
        let token = Box::pin(check(inbound, rule, text)).await?;
        if let Opinion::Missing = opinion {
            let payload = rule.payload_header.as_ref().and_then(|_| text.split('.').nth(1));
            let payload = payload.and_then(|text| HeaderValue::try_from(text).ok());
            opinion = Opinion::Good(token, payload);
        }
    }
    Ok(opinion)
}

async fn check(inbound: &Inbound, rule: &Arc<TokenRule>, text: &str) -> Result<Arc<Token>, Fault> {
    let (lane, now) = (&inbound.lane, now_system());
    if let Some(token) = lane.believed.find(text, rule, now) {
        return Ok(token);
    }
    let mut signed = Signed::read(text)?;
    if signed.token.issuer != rule.issuer {
        return Err(Fault::Issuer);
    }
    signed.timely(now)?;
    signed.meant_for(&rule.audiences)?;
    let ring = lane.shared.keys.at(&rule.keys).ok_or(Fault::NoKeys)?;
    let keys = ring.verify(&signed, rule.patience).await?;
    let ends = signed.ends();
    spread(&mut signed.token, &rule.words);
    let token = Arc::new(signed.token);
    debug!(issuer = %rule.issuer, "a token is believed");
    lane.believed.put(
        rule,
        Remembered {
            text: text.into(),
            rule: Arc::downgrade(rule),
            ring,
            keys: Arc::downgrade(&keys),
            ends,
            token: Arc::clone(&token),
        },
    );
    Ok(token)
}

fn good(rule: &TokenRule, (token, payload): (&Token, Option<HeaderValue>), parts: &mut Parts) {
    if !rule.forward {
        if let Some(uri) = without(rule.places.iter(), parts) {
            parts.uri = uri;
        }
        for place in &rule.places {
            carry_on(place, &mut parts.headers, &mut None);
        }
    }
    if let (Some(name), Some(payload)) = (&rule.payload_header, payload) {
        parts.headers.insert(name, payload);
    }
    for (name, path) in &rule.claim_headers {
        if let Some(value) = header_of(token, path) {
            parts.headers.insert(name, value);
        }
    }
}

/// The target without tokens in its query; none: there are none.
fn without<'a>(places: impl Iterator<Item = &'a Place>, parts: &Parts) -> Option<Uri> {
    let mut query = Some(parts.uri.query()?.to_owned());
    let mut changed = false;
    let mut no_headers = HeaderMap::new();
    for place in places.filter(|place| matches!(place, Place::Query(_))) {
        changed |= carry_on(place, &mut no_headers, &mut query) == Taken::Query;
    }
    with_query(&parts.uri, query.as_deref()).filter(|_| changed)
}

/// The same target with another query.
pub(super) fn with_query(uri: &Uri, query: Option<&str>) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(put_together(uri.path(), query).ok()?);
    Uri::from_parts(parts).ok()
}

/// What the client is told that it has no access to (RFC 6750, 3).
fn realm(parts: &Parts) -> String {
    let host = parts.uri.authority().map(|it| it.as_str());
    let host = host.or_else(|| parts.headers.get(http::header::HOST)?.to_str().ok()).unwrap_or_default();
    let plain = |c: &char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
    format!("http://{host}{}", parts.uri.path()).chars().filter(plain).take(REALM).collect()
}

/// Longer ones are cut.
const REALM: usize = 256;
