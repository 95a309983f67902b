//! Authentications of requests as people read them in dumps: shaped as the objects they come from, what is not set left
//! out. Written, never read back. Keys themselves are left out: they are long, and said where they come from.

use ambit_model::authentication::{Authentication, KeySource, Place, TokenRule};
use serde_json::{Map, Value, json};

use super::request_policy::target;

/// One authentication.
#[must_use]
pub fn authentication(authentication: &Authentication) -> Value {
    let Authentication { key, targets, rules } = authentication;
    json!({
        "namespace": key.namespace.as_str(),
        "name": key.name.as_str(),
        "targets": targets.iter().map(target).collect::<Value>(),
        "rules": rules.iter().map(|it| rule(it)).collect::<Value>(),
    })
}

fn rule(rule: &TokenRule) -> Value {
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
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.into(), value);
    put("issuer", issuer.as_ref().into());
    put(
        "keys",
        match keys {
            KeySource::Inline(text) => json!({ "inlineBytes": text.len() }),
            KeySource::At(address) => json!({ "uri": address }),
            KeySource::OfIssuer(issuer) => json!({ "discoveredAt": issuer }),
            KeySource::Nowhere(why) => json!({ "missing": why }),
        },
    );
    put("places", places.iter().map(place).collect());
    for (name, texts) in [("audiences", audiences), ("spaceDelimitedClaims", words)] {
        if !texts.is_empty() {
            put(name, texts.iter().map(AsRef::<str>::as_ref).collect());
        }
    }
    if *forward {
        put("forwardOriginalToken", true.into());
    }
    if let Some(header) = payload_header {
        put("outputPayloadToHeader", header.as_str().into());
    }
    if !claim_headers.is_empty() {
        let all = claim_headers.iter().map(|(name, path)| (name.to_string(), path.to_string().into()));
        put("outputClaimToHeaders", Value::Object(all.collect()));
    }
    put("timeout", format!("{patience:?}").into());
    Value::Object(members)
}

fn place(place: &Place) -> Value {
    match place {
        Place::Header { name, prefix } if prefix.is_empty() => json!({ "header": name.as_str() }),
        Place::Header { name, prefix } => json!({ "header": name.as_str(), "prefix": prefix }),
        Place::Query(name) => json!({ "query": name }),
        Place::Cookie(name) => json!({ "cookie": name }),
    }
}
