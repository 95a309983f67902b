//! Authentications of requests to the mesh's nouns (`waypoint.md` 4.4): pure. Owns which waypoints are told of one, and
//! what becomes of each rule. A rule that cannot be honoured stays, without keys: none of its issuer's tokens is believed.

use std::sync::Arc;

use ambit_cluster::kinds::authentication::{JwtRule, RequestAuthentication};
use ambit_cluster::kinds::route::duration;
use ambit_jwt::KeySet;
use ambit_model::authentication::{
    Authentication, ClaimPath, KeySource, PATIENCE, Place, TokenRule, reserved,
};
use ambit_model::name::PolicyKey;
use http::HeaderName;

use crate::index::World;
use crate::translate::target::targets;

/// What became of an authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What waypoints are told; nothing, if it is attached to nothing of theirs.
    pub authentication: Option<Authentication>,
    /// What is not honoured, for its author.
    pub notes: Vec<String>,
}

/// Reads one.
#[must_use]
pub fn authentication(world: &World, object: &RequestAuthentication) -> Reading {
    let (meta, spec) = (&object.metadata, &object.spec);
    let mut notes = Vec::new();
    let rules = spec.jwt_rules.iter().enumerate();
    let rules: Vec<_> = rules.map(|(at, it)| Arc::new(rule(at, it, &mut notes))).collect();
    let targets: Vec<_> = spec.targets().flat_map(|it| targets(world, &meta.namespace, it)).collect();
    let key = || Some(PolicyKey { namespace: meta.namespace.parse().ok()?, name: meta.name.parse().ok()? });
    let authentication =
        key().filter(|_| !targets.is_empty()).map(|key| Authentication { key, targets, rules });
    Reading { authentication, notes }
}

fn rule(at: usize, rule: &JwtRule, notes: &mut Vec<String>) -> TokenRule {
    let mut note = |field: &str, why: &str| notes.push(format!("jwtRules[{at}].{field}: {why}"));
    let keys = keys(rule);
    if let KeySource::Nowhere(why) = &keys {
        note("jwks", why);
    }
    let mut header = |field: &str, text: &str, is_output: bool| -> Option<HeaderName> {
        let name = text.parse::<HeaderName>().ok().filter(|name| !(is_output && reserved(name)));
        if name.is_none() {
            note(field, &format!("{text:?} is no header that can be used for that"));
        }
        name
    };
    let in_headers = rule.from_headers.iter().filter_map(|it| {
        let name = header("fromHeaders", &it.name, false)?;
        Some(Place::Header { name, prefix: it.prefix.as_str().into() })
    });
    let mut places: Vec<Place> = in_headers.collect();
    places.extend(rule.from_params.iter().map(|name| Place::Query(name.as_str().into())));
    places.extend(rule.from_cookies.iter().map(|name| Place::Cookie(name.as_str().into())));
    if rule.from_headers.is_empty() && rule.from_params.is_empty() && rule.from_cookies.is_empty() {
        places = Place::usual();
    }
    let payload = rule.output_payload_to_header.as_str();
    let payload_header =
        (!payload.is_empty()).then(|| header("outputPayloadToHeader", payload, true)).flatten();
    let outputs = rule.output_claim_to_headers.iter();
    let claim_headers = outputs.filter_map(|it| {
        let name = header("outputClaimToHeaders", &it.header, true)?;
        Some((name, ClaimPath::from(it.claim.as_str())))
    });
    TokenRule {
        issuer: rule.issuer.as_str().into(),
        audiences: rule.audiences.iter().map(|it| it.as_str().into()).collect(),
        keys,
        places,
        forward: rule.forward_original_token,
        payload_header,
        claim_headers: claim_headers.collect(),
        words: rule.space_delimited_claims.iter().map(|it| it.as_str().into()).collect(),
        patience: duration(&rule.timeout).filter(|it| !it.is_zero()).unwrap_or(PATIENCE),
    }
}

fn keys(rule: &JwtRule) -> KeySource {
    let is_address = |text: &str| text.starts_with("https://") || text.starts_with("http://");
    let nowhere = |why: &str| KeySource::Nowhere(why.into());
    match (rule.jwks.as_str(), rule.jwks_uri.as_str()) {
        ("", "") if is_address(&rule.issuer) => KeySource::OfIssuer(rule.issuer.as_str().into()),
        ("", "") => nowhere("there are no keys, and the issuer is no address that could be asked"),
        ("", uri) if is_address(uri) => KeySource::At(uri.into()),
        ("", _) => nowhere("jwksUri is no address of the web"),
        (inline, _) => match KeySet::read(inline.as_bytes()) {
            Ok(_) => KeySource::Inline(inline.into()),
            Err(error) => nowhere(&error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests;
