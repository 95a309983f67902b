//! Rules of destination rules: what a host may be, and what is worth a word because it does nothing.

use super::{Findings, is_fqdn, label_texts};
use crate::kinds::destination_rule::{ClientTls, DestinationRule, OutlierDetection, TlsMode, TrafficPolicy};

/// With the usual share nobody is left out among fewer.
const USUAL_PERCENT: u32 = 10;

pub(super) fn traffic(rule: &DestinationRule, findings: &mut Findings) {
    let spec = &rule.spec;
    let named = spec.host.strip_prefix("*.").unwrap_or(&spec.host);
    if named != "*" && !is_fqdn(named) {
        let remedy = "write a DNS name, a service of the rule's namespace, or *. and the end of names";
        findings.refuse("spec.host", &spec.host, "not a host", remedy);
    }
    if spec.workload_selector.is_some() {
        let remedy = "leave it out: waypoints go by rules for everybody's traffic";
        findings.warn("spec.workloadSelector", "", "only sidecars go by such a rule", remedy);
    }
    for (at, subset) in spec.subsets.iter().enumerate() {
        let field = format!("spec.subsets[{at}]");
        if subset.labels.is_empty() {
            let remedy = "give the labels that its endpoints have";
            findings.warn(format!("{field}.labels"), "", "every endpoint is in it", remedy);
        }
        label_texts(&format!("{field}.labels"), &subset.labels, findings);
        policy(&format!("{field}.trafficPolicy"), subset.traffic_policy.as_ref(), findings);
    }
    for (key, unread) in rule.resilience().1 {
        let field = format!("metadata.annotations[{key}]");
        findings.refuse(field, &unread.part, unread.problem, unread.remedy);
    }
    policy("spec.trafficPolicy", spec.traffic_policy.as_ref(), findings);
}

fn policy(field: &str, policy: Option<&TrafficPolicy>, findings: &mut Findings) {
    let Some(policy) = policy else { return };
    let ports = policy.port_level_settings.iter().enumerate();
    let ports =
        ports.map(|(at, it)| (format!("{field}.portLevelSettings[{at}]"), &it.tls, &it.outlier_detection));
    let all = std::iter::once((field.to_owned(), &policy.tls, &policy.outlier_detection)).chain(ports);
    for (field, tls, outlier) in all {
        if let Some(tls) = tls {
            self::tls(&format!("{field}.tls"), tls, findings);
        }
        if let Some(outlier) = outlier {
            self::outlier(&field, outlier, findings);
        }
    }
}

/// Files are on no waypoint; what names one closes.
fn tls(field: &str, tls: &ClientTls, findings: &mut Findings) {
    let problem = "waypoints have no such file, and send nothing";
    let unchecked = tls.insecure_skip_verify == Some(true);
    let files = [
        ("clientCertificate", tls.client_certificate.as_str(), tls.mode == TlsMode::Mutual),
        ("privateKey", &tls.private_key, tls.mode == TlsMode::Mutual),
        ("caCertificates", &tls.ca_certificates, !unchecked && tls.ca_certificates != "system"),
        ("caCrl", &tls.ca_crl, !unchecked),
    ];
    let begins = matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual);
    for (name, file, _) in files.iter().filter(|(_, file, matters)| begins && *matters && !file.is_empty()) {
        findings.warn(format!("{field}.{name}"), file, problem, "leave it out");
    }
    if tls.mode == TlsMode::Mutual && tls.credential_name.is_empty() {
        let problem = "waypoints have no certificate to show, and send nothing";
        let remedy = "name a secret of the waypoint's namespace with credentialName";
        findings.warn(format!("{field}.mode"), "MUTUAL", problem, remedy);
    }
}

fn outlier(field: &str, outlier: &OutlierDetection, findings: &mut Findings) {
    let percent = outlier.max_ejection_percent.unwrap_or(USUAL_PERCENT);
    if percent < 50 {
        let least =
            100_u32.checked_div(percent).map_or_else(|| "any number of".into(), |least| least.to_string());
        let problem = format!("with fewer than {least} endpoints nobody is ever left out");
        let field = format!("{field}.outlierDetection.maxEjectionPercent");
        findings.warn(field, &percent.to_string(), &problem, "give more, for a service with few endpoints");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kinds::admit::review;

    #[test]
    fn an_annotation_that_is_not_understood_is_refused_by_its_part() {
        let said = |annotation: &str, text: &str| {
            let object = json!({
                "apiVersion": "networking.istio.io/v1",
                "kind": "DestinationRule",
                "metadata": { "name": "web", "namespace": "shop", "annotations": { (annotation): text } },
                "spec": { "host": "web" },
            });
            review(&object).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(said("ambit.io/health-check", "http=/healthz, interval=5s"), Vec::<String>::new());
        for (annotation, text, wanted) in [
            ("ambit.io/health-check", "http=/a, interval=5", "interval=5: not such a time"),
            ("ambit.io/hedging", "100ms", "100ms: not understood"),
            ("ambit.io/adaptive-concurrency", "min=9, max=2", "min=9, max=2: min is more than max"),
        ] {
            let found = said(annotation, text);
            let wanted = format!("metadata.annotations[{annotation}]: {wanted}");
            assert!(found.iter().any(|it| it.starts_with(&wanted)), "{found:?}");
        }
    }
}
