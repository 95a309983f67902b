//! Rules of what is told of requests: which parts of it waypoints understand, and what is worth a word because it does
//! nothing.

use ambit_model::telemetry::{Filter, Metric};

use super::policy::targets;
use super::{Findings, selector};
use crate::kinds::telemetry::{
    MetricsWord, Mode, ModeMatch, NamedTag, ProviderName, TagWord, Telemetry, TracingWord,
};

pub(super) fn told(telemetry: &Telemetry, findings: &mut Findings) {
    let spec = &telemetry.spec;
    if let Some(given) = &spec.selector {
        selector("spec.selector.matchLabels", &given.match_labels, findings);
        if spec.targets().next().is_some() {
            let remedy = "keep the selector for sidecars, or targetRefs for waypoints";
            findings.refuse("spec.targetRefs", "", "given together with selector", remedy);
        } else if spec.selects() {
            let remedy = "attach it with targetRefs, or leave the selector out for all of the namespace";
            findings.warn("spec.selector", "", "only sidecars go by such a one", remedy);
        }
    }
    targets(spec.target_ref.as_ref(), &spec.target_refs, findings);
    for (at, word) in spec.tracing.iter().enumerate() {
        tracing(&format!("spec.tracing[{at}]"), word, findings);
    }
    for (at, word) in spec.access_logging.iter().enumerate() {
        let field = format!("spec.accessLogging[{at}]");
        side(&field, word.r#match.as_ref(), findings);
        providers(&field, &word.providers, findings);
        let expression = word.filter.as_ref().map(|it| it.expression.as_str()).unwrap_or_default();
        if let Err(error) = expression.parse::<Filter>()
            && !expression.is_empty()
        {
            let problem = format!(
                "not understood by waypoints, which write every line instead: at character {}: {}",
                error.at, error.problem
            );
            findings.warn(format!("{field}.filter.expression"), expression, &problem, error.remedy);
        }
    }
    for (at, word) in spec.metrics.iter().enumerate() {
        metrics(&format!("spec.metrics[{at}]"), word, findings);
    }
}

fn tracing(field: &str, word: &TracingWord, findings: &mut Findings) {
    side(field, word.r#match.as_ref(), findings);
    providers(field, &word.providers, findings);
    for (name, tag) in &word.custom_tags {
        self::tag(&format!("{field}.customTags.{name}"), tag, findings);
    }
    for (name, given) in [
        ("useRequestIdForTraceSampling", word.use_request_id_for_trace_sampling == Some(true)),
        ("disableContextPropagation", word.disable_context_propagation == Some(true)),
    ] {
        if given {
            findings.warn(format!("{field}.{name}"), "true", "waypoints do not go by it", "leave it out");
        }
    }
}

fn tag(field: &str, tag: &TagWord, findings: &mut Findings) {
    if let Some(NamedTag { name, .. }) = &tag.header
        && name.parse::<http::HeaderName>().is_err()
    {
        findings.refuse(format!("{field}.header.name"), name, "not a header's name", "give one, as x-user");
    }
    if let Some(NamedTag { name, .. }) = &tag.environment {
        let problem = "the environment of waypoints is told nobody; its default value is what is said";
        findings.warn(format!("{field}.environment"), name, problem, "give a literal");
    }
    if tag.formatter.is_some() {
        let remedy = "give a literal or a header";
        findings.warn(format!("{field}.formatter"), "", "waypoints do not know it, and leave it out", remedy);
    }
}

fn metrics(field: &str, word: &MetricsWord, findings: &mut Findings) {
    providers(field, &word.providers, findings);
    if !word.reporting_interval.is_empty() {
        let problem = "waypoints count as things happen";
        findings.warn(
            format!("{field}.reportingInterval"),
            &word.reporting_interval,
            problem,
            "leave it out",
        );
    }
    for (at, one) in word.overrides.iter().enumerate() {
        let field = format!("{field}.overrides[{at}]");
        let given = one.r#match.as_ref();
        let metric = given.map(|it| it.metric.as_str()).unwrap_or_default();
        if !matches!(metric, "" | "ALL_METRICS") && Metric::named(metric).is_none() {
            let remedy = "name one of requests, as REQUEST_COUNT";
            findings.warn(format!("{field}.match.metric"), metric, "waypoints always keep it", remedy);
        }
        if given.is_some_and(|it| it.mode == Mode::Client) {
            let remedy = "say SERVER, or leave it out";
            findings.warn(format!("{field}.match.mode"), "CLIENT", "waypoints are on the other side", remedy);
        }
        if !one.tag_overrides.is_empty() {
            let problem = "waypoints keep the labels that there are";
            findings.warn(
                format!("{field}.tagOverrides"),
                "",
                problem,
                "leave it out, or disable the counter",
            );
        }
    }
}

fn side(field: &str, given: Option<&ModeMatch>, findings: &mut Findings) {
    if !ModeMatch::is_for_waypoints(given) {
        let remedy = "say SERVER, or leave it out";
        findings.warn(format!("{field}.match.mode"), "CLIENT", "waypoints are on the other side", remedy);
    }
}

fn providers(field: &str, all: &[ProviderName], findings: &mut Findings) {
    if let Some(at) = all.iter().position(|it| it.name.is_empty()) {
        let remedy = "name an extension provider of the mesh's configuration";
        findings.refuse(format!("{field}.providers[{at}].name"), "", "missing", remedy);
    }
}
