//! Rules of BackendTLSPolicies: what the API server lets through, and for which nothing would be sent.

use super::{Findings, is_fqdn};
use crate::kinds::backend_tls::BackendTlsPolicy;

pub(super) fn secured(policy: &BackendTlsPolicy, findings: &mut Findings) {
    let spec = &policy.spec;
    if spec.target_refs.is_empty() {
        findings.warn("spec.targetRefs", "", "TLS is begun to nothing", "name a Service");
    }
    for (at, target) in spec.target_refs.iter().enumerate() {
        let is_known = matches!(
            (target.group.as_str(), target.kind.as_str()),
            ("" | "core", "Service") | ("networking.istio.io", "ServiceEntry")
        );
        if !is_known {
            let remedy = "name a Service, or a ServiceEntry of networking.istio.io";
            let field = format!("spec.targetRefs[{at}].kind");
            findings.warn(field, &target.kind, "waypoints send to nothing of this kind", remedy);
        }
    }
    names(policy, findings);
    let validation = &spec.validation;
    let field = "spec.validation.wellKnownCACertificates";
    let problem = "nothing is sent, for nobody is known to vouch";
    match (validation.well_known.as_deref().unwrap_or_default(), validation.ca_certificate_refs.len()) {
        ("System", 0) | ("", 1..) => {}
        ("", 0) => {
            findings.warn(field, "", problem, "write System, or give caCertificateRefs");
        }
        (word, 0) => findings.warn(field, word, problem, "write System"),
        (word, _) => findings.warn(field, word, problem, "keep it, or caCertificateRefs"),
    }
    for (at, given) in validation.ca_certificate_refs.iter().enumerate().filter(|(_, it)| !it.is_config_map())
    {
        let field = format!("spec.validation.caCertificateRefs[{at}].kind");
        let remedy = "put the certificates into the key ca.crt of a ConfigMap, and name that";
        findings.warn(field, &given.kind, "only a ConfigMap is read", remedy);
    }
}

fn names(policy: &BackendTlsPolicy, findings: &mut Findings) {
    let validation = &policy.spec.validation;
    let problem = "not a host's name in full, so nothing is sent";
    if !is_fqdn(&validation.hostname) {
        let remedy = "write the name that the certificate holds";
        findings.warn("spec.validation.hostname", &validation.hostname, problem, remedy);
    }
    for (at, name) in validation.subject_alt_names.iter().enumerate() {
        let field = format!("spec.validation.subjectAltNames[{at}]");
        match name.kind.as_str() {
            "URI" if !name.uri.is_empty() => {}
            "Hostname" if is_fqdn(&name.hostname) => {}
            "Hostname" => {
                let remedy = "write a name that the certificate holds";
                findings.warn(format!("{field}.hostname"), &name.hostname, problem, remedy);
            }
            "URI" => {
                let remedy = "write a URI that the certificate holds";
                findings.warn(format!("{field}.uri"), "", "missing, so nothing is sent", remedy);
            }
            other => {
                let remedy = "write Hostname or URI";
                findings.warn(format!("{field}.type"), other, "not known, so nothing is sent", remedy);
            }
        }
    }
}
