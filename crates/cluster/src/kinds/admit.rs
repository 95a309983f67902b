//! Whether an object may be admitted (`control-plane.md` 8.2): pure, for a webhook and for people who ask before
//! they apply. Stricter than reading: what would be read leniently, or mean nothing, is told here as well.
//! Owns the shape of objects and what kinds have in common. A kind's own rules are in a file of its own.

mod authentication;
mod backend_tls;
mod destination_rule;
mod entry;
mod ext_proc;
mod mesh;
mod policy;
mod rate_limit;
mod telemetry;
mod virtual_service;

use std::fmt;

use serde_json::Value;

use crate::fault::Wrong;
use crate::files::identify;
use crate::kinds::meta::{Texts, is_label_word};
use crate::kinds::{read, without_nulls};
use crate::object::{Body, Kind};

/// What an object may hold at its top.
const MEMBERS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Something to be said about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the object is not to be admitted; otherwise it is a warning.
    pub refused: bool,
    /// Field, value, problem and remedy.
    pub wrong: Wrong,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong { field, value, problem, remedy, .. } = &self.wrong;
        for part in [field, value].into_iter().filter(|part| !part.is_empty()) {
            write!(f, "{part}: ")?;
        }
        f.write_str(problem)?;
        if remedy.is_empty() { Ok(()) } else { write!(f, "; {remedy}") }
    }
}

/// All that is to be said about an object. Kinds that the mesh does not read are not looked at.
#[must_use]
pub fn review(object: &Value) -> Vec<Finding> {
    let mut object = object.clone();
    without_nulls(&mut object);
    let kind = match identify(&object) {
        Ok(Some(reference)) => reference.kind,
        Ok(None) => return Vec::new(),
        Err(wrong) => return vec![Finding { refused: true, wrong }],
    };
    let mut findings = Findings::default();
    if is_defined_here(kind) {
        members(&object, &mut findings);
    }
    match read(kind, &object) {
        Err(wrong) => findings.refuse_as(wrong),
        Ok(Body::AuthorizationPolicy(it)) => policy::authorization(&it, &mut findings),
        Ok(Body::PeerAuthentication(it)) => policy::peer(&it, &object, &mut findings),
        Ok(Body::RequestAuthentication(it)) => authentication::tokens(&it, &mut findings),
        Ok(Body::RateLimitPolicy(it)) => rate_limit::limits(&it, &mut findings),
        Ok(Body::BackendTlsPolicy(it)) => backend_tls::secured(&it, &mut findings),
        Ok(Body::ExtProcPolicy(it)) => ext_proc::processor(&it, &mut findings),
        Ok(Body::DestinationRule(it)) => destination_rule::traffic(&it, &mut findings),
        Ok(Body::Telemetry(it)) => telemetry::told(&it, &mut findings),
        Ok(Body::ConfigMap(it)) => mesh::configured(&it, &mut findings),
        Ok(Body::ServiceEntry(it)) => entry::service(&it, &mut findings),
        Ok(Body::WorkloadEntry(it)) => entry::workload(&it, &mut findings),
        Ok(Body::VirtualService(it)) => virtual_service::routes(&it, &mut findings),
        Ok(_) => {}
    }
    findings.0
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn refuse(&mut self, field: impl Into<String>, value: &str, problem: &str, remedy: &str) {
        self.refuse_as(Wrong::field(field, value, problem, remedy));
    }

    fn refuse_as(&mut self, wrong: Wrong) {
        self.0.push(Finding { refused: true, wrong });
    }

    fn warn(&mut self, field: impl Into<String>, value: &str, problem: &str, remedy: &str) {
        self.0.push(Finding { refused: false, wrong: Wrong::field(field, value, problem, remedy) });
    }
}

fn is_defined_here(kind: Kind) -> bool {
    kind.group().ends_with("istio.io") || kind.is_own()
}

fn members(object: &Value, findings: &mut Findings) {
    for name in object.as_object().into_iter().flatten().map(|(name, _)| name) {
        if !MEMBERS.contains(&name.as_str()) {
            let remedy = format!("remove it, or move it below spec; there are {}", MEMBERS.join(", "));
            findings.refuse(name, "", "unknown field", &remedy);
        }
    }
}

/// A selector's labels.
fn selector(field: &str, labels: &Texts, findings: &mut Findings) {
    if labels.is_empty() {
        let remedy = "leave the selector out if that is meant, or give labels";
        findings.warn(field, "", "a selector without labels is for the whole namespace", remedy);
    }
    label_texts(field, labels, findings);
}

/// Labels that nobody has checked yet.
fn label_texts(field: &str, labels: &Texts, findings: &mut Findings) {
    for (key, value) in labels {
        let name = key.rsplit_once('/').map_or(key.as_str(), |(_, name)| name);
        if key.contains('*') || value.contains('*') {
            let remedy = "name the label and its value in full";
            findings.refuse(format!("{field}.{key}"), value, "labels take no wildcards", remedy);
        } else if name.is_empty() || !is_label_word(name) || !is_label_word(value) {
            let remedy = "use letters, digits, '-', '_' and '.', at most 63 of them";
            findings.refuse(format!("{field}.{key}"), value, "not a label", remedy);
        }
    }
}

/// A DNS label: the part of a name between dots.
fn is_label(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let edges = text.chars().next().is_some_and(letter) && text.chars().last().is_some_and(letter);
    edges && text.len() <= 63 && text.chars().all(|c| letter(c) || c == '-')
}

/// A DNS name of letters in any case; underscores are in use.
fn is_fqdn(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |part: &str| is_label(&part.to_ascii_lowercase().replace('_', "0"));
    !text.is_empty() && text.len() <= 255 && text.split('.').all(label)
}

#[cfg(test)]
mod tests;
