//! Authentications of requests. Owns their message, which is of our own schema: what cannot be read is refused whole,
//! and the former version stays in force.

use std::sync::Arc;
use std::time::Duration;

use ambit_model::authentication::{Authentication, ClaimPath, KeySource, Place, TokenRule, reserved};
use ambit_model::name::PolicyKey;
use http::HeaderName;

use super::request_policy::{target, target_to_pb};
use super::{ConvertError, check_count, name};
use crate::limits;
use crate::pb::waypoint as pb;

/// An authentication from its message.
pub fn authentication_from_pb(raw: pb::Authentication) -> Result<Authentication, ConvertError> {
    let pb::Authentication { namespace, name: own_name, targets, rules } = raw;
    check_count("targets", limits::POLICY_TARGETS, targets.len())?;
    check_count("rules", limits::TOKEN_RULES, rules.len())?;
    let rules = rules.into_iter().map(|raw| rule(raw).map(Arc::new));
    Ok(Authentication {
        key: PolicyKey { namespace: name("namespace", &namespace)?, name: name("name", &own_name)? },
        targets: targets.into_iter().map(target).collect::<Result<_, _>>()?,
        rules: rules.collect::<Result<_, _>>()?,
    })
}

fn rule(raw: pb::TokenRule) -> Result<TokenRule, ConvertError> {
    use pb::token_rule::Keys;
    let pb::TokenRule {
        issuer,
        audiences,
        keys,
        places,
        forward,
        payload_header,
        claim_headers,
        words,
        patience_ms,
    } = raw;
    let most = audiences.len().max(places.len()).max(claim_headers.len()).max(words.len());
    check_count("rules", limits::POLICY_LIST, most)?;
    if issuer.is_empty() {
        return Err(ConvertError::Value { field: "issuer", value: issuer, wanted: "a name" });
    }
    let keys = match keys.ok_or(ConvertError::NoAlternative { field: "keys" })? {
        Keys::Inline(text) => KeySource::Inline(text.into()),
        Keys::Uri(address) => KeySource::At(address.into()),
        Keys::Discovered(_) => KeySource::OfIssuer(issuer.as_str().into()),
        Keys::Nowhere(why) => KeySource::Nowhere(why.into()),
    };
    Ok(TokenRule {
        audiences: texts(audiences),
        keys,
        places: places.into_iter().map(place).collect::<Result<_, _>>()?,
        forward,
        payload_header: match payload_header.as_str() {
            "" => None,
            name => Some(settable("payload_header", name)?),
        },
        claim_headers: claim_headers.into_iter().map(claim_header).collect::<Result<_, _>>()?,
        words: texts(words),
        patience: Duration::from_millis(patience_ms),
        issuer: issuer.into(),
    })
}

fn place(raw: pb::TokenPlace) -> Result<Place, ConvertError> {
    use pb::token_place::Kind;
    let pb::TokenPlace { kind } = raw;
    Ok(match kind.ok_or(ConvertError::NoAlternative { field: "places" })? {
        Kind::Header(pb::TokenHeader { name, prefix }) => {
            Place::Header { name: header("places.header", &name)?, prefix: prefix.into() }
        }
        Kind::Query(name) => Place::Query(name.into()),
        Kind::Cookie(name) => Place::Cookie(name.into()),
    })
}

fn claim_header(raw: pb::ClaimHeader) -> Result<(HeaderName, ClaimPath), ConvertError> {
    let pb::ClaimHeader { header, path } = raw;
    Ok((settable("claim_headers", &header)?, ClaimPath(texts(path))))
}

/// A header that something may be put in.
fn settable(field: &'static str, text: &str) -> Result<HeaderName, ConvertError> {
    let wanted = "a header that a claim may be put in";
    let refuse = |_: &HeaderName| ConvertError::Value { field, value: text.into(), wanted };
    let name = header(field, text)?;
    if reserved(&name) { Err(refuse(&name)) } else { Ok(name) }
}

fn header(field: &'static str, text: &str) -> Result<HeaderName, ConvertError> {
    text.parse().map_err(|_| ConvertError::Value { field, value: text.into(), wanted: "a header's name" })
}

fn texts(all: Vec<String>) -> Vec<Box<str>> {
    all.into_iter().map(String::into_boxed_str).collect()
}

/// An authentication's message.
#[must_use]
pub fn authentication_to_pb(authentication: &Authentication) -> pb::Authentication {
    let Authentication { key: PolicyKey { namespace, name }, targets, rules } = authentication;
    pb::Authentication {
        namespace: namespace.to_string(),
        name: name.to_string(),
        targets: targets.iter().map(target_to_pb).collect(),
        rules: rules.iter().map(|rule| rule_to_pb(rule)).collect(),
    }
}

fn rule_to_pb(rule: &TokenRule) -> pb::TokenRule {
    use pb::token_rule::Keys;
    let TokenRule {
        issuer,
        audiences,
        keys,
        places,
        forward,
        payload_header,
        claim_headers,
        words,
        patience,
    } = rule;
    let written = |all: &[Box<str>]| all.iter().map(ToString::to_string).collect();
    pb::TokenRule {
        issuer: issuer.to_string(),
        audiences: written(audiences),
        keys: Some(match keys {
            KeySource::Inline(text) => Keys::Inline(text.to_string()),
            KeySource::At(address) => Keys::Uri(address.to_string()),
            KeySource::OfIssuer(_) => Keys::Discovered(true),
            KeySource::Nowhere(why) => Keys::Nowhere(why.to_string()),
        }),
        places: places.iter().map(place_to_pb).collect(),
        forward: *forward,
        payload_header: payload_header.as_ref().map(ToString::to_string).unwrap_or_default(),
        claim_headers: claim_headers
            .iter()
            .map(|(header, path)| pb::ClaimHeader { header: header.to_string(), path: written(&path.0) })
            .collect(),
        words: written(words),
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
    }
}

fn place_to_pb(place: &Place) -> pb::TokenPlace {
    use pb::token_place::Kind;
    let kind = match place {
        Place::Header { name, prefix } => {
            Kind::Header(pb::TokenHeader { name: name.to_string(), prefix: prefix.to_string() })
        }
        Place::Query(name) => Kind::Query(name.to_string()),
        Place::Cookie(name) => Kind::Cookie(name.to_string()),
    };
    pb::TokenPlace { kind: Some(kind) }
}
