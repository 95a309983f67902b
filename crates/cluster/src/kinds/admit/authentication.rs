//! Rules of authentications of requests: what an issuer, a place of tokens and a header for claims may be.

use std::collections::BTreeSet;

use super::policy::targets;
use super::{Findings, selector};
use crate::kinds::authentication::{JwtRule, RequestAuthentication};
use crate::kinds::route::duration;

pub(super) fn tokens(authentication: &RequestAuthentication, findings: &mut Findings) {
    let spec = &authentication.spec;
    if let Some(given) = &spec.selector {
        selector("spec.selector.matchLabels", &given.match_labels, findings);
        if spec.targets().next().is_some() {
            let remedy = "keep the selector for sidecars, or targetRefs for waypoints";
            findings.refuse("spec.targetRefs", "", "given together with selector", remedy);
        }
    }
    if spec.targets().next().is_none() {
        let remedy = "attach it to a waypoint, or to what goes through one, with targetRefs";
        findings.warn("spec.targetRefs", "", "tunnels see no tokens: nobody enforces it", remedy);
    }
    targets(spec.target_ref.as_ref(), &spec.target_refs, findings);
    for (at, rule) in spec.jwt_rules.iter().enumerate() {
        self::rule(&format!("spec.jwtRules[{at}]"), rule, findings);
    }
}

fn rule(field: &str, rule: &JwtRule, findings: &mut Findings) {
    if !rule.jwks_uri.is_empty() && !is_address(&rule.jwks_uri) {
        let remedy = "write it as https://host/path";
        findings.refuse(format!("{field}.jwksUri"), &rule.jwks_uri, "not an address of the web", remedy);
    }
    if rule.jwks.is_empty() && rule.jwks_uri.is_empty() {
        if is_address(&rule.issuer) {
            let remedy = "give jwksUri, or see to it that the issuer has a page for OpenID Connect Discovery";
            findings.warn(format!("{field}.jwksUri"), "", "missing: the issuer is asked for it", remedy);
        } else {
            let remedy = "give jwks or jwksUri: the issuer is no address that could be asked";
            findings.warn(format!("{field}.jwksUri"), &rule.issuer, "there are no keys", remedy);
        }
    }
    for (at, header) in rule.from_headers.iter().enumerate() {
        is_header(&format!("{field}.fromHeaders[{at}].name"), &header.name, findings);
    }
    for (list, names) in [("fromParams", &rule.from_params), ("fromCookies", &rule.from_cookies)] {
        if let Some(at) = names.iter().position(String::is_empty) {
            findings.refuse(format!("{field}.{list}[{at}]"), "", "empty", "give a name, or leave it out");
        }
    }
    if !rule.output_payload_to_header.is_empty() {
        is_header(&format!("{field}.outputPayloadToHeader"), &rule.output_payload_to_header, findings);
    }
    let mut seen = BTreeSet::new();
    for (at, output) in rule.output_claim_to_headers.iter().enumerate() {
        let field = format!("{field}.outputClaimToHeaders[{at}]");
        is_header(&format!("{field}.header"), &output.header, findings);
        if output.claim.is_empty() {
            findings.refuse(format!("{field}.claim"), "", "missing", "name a claim");
        }
        if !seen.insert(output.header.to_ascii_lowercase()) {
            let remedy = "give each claim a header of its own";
            findings.refuse(format!("{field}.header"), &output.header, "given twice", remedy);
        }
    }
    if !rule.timeout.is_empty() && duration(&rule.timeout).is_none() {
        findings.refuse(format!("{field}.timeout"), &rule.timeout, "not a duration", "write it as 5s");
    }
}

fn is_address(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    plain && host.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#']))
}

fn is_header(field: &str, name: &str, findings: &mut Findings) {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        findings.refuse(field, name, "not the name of a header", "use letters, digits and '-'");
    }
}
