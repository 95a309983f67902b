//! Rules of what is told of requests: which parts of it waypoints understand, and what is worth a word because it does
//! nothing.

use ambit_model::telemetry::{Filter, Formula, Metric, is_label_name};

use super::policy::targets;
use super::{Findings, selector};
use crate::kinds::telemetry::{
    MetricsWord, Mode, ModeMatch, NamedTag, ProviderName, TagOverride, TagWord, Telemetry, TracingWord,
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
            let remedy = "name one, as REQUEST_COUNT or TCP_SENT_BYTES";
            findings.warn(format!("{field}.match.metric"), metric, "not known to waypoints", remedy);
        }
        if given.is_some_and(|it| it.mode == Mode::Client) {
            let remedy = "say SERVER, or leave it out";
            findings.warn(format!("{field}.match.mode"), "CLIENT", "waypoints are on the other side", remedy);
        }
        for (name, tag) in &one.tag_overrides {
            label(&format!("{field}.tagOverrides.{name}"), (name, tag), findings);
        }
    }
}

/// A label of counters that is otherwise than usual.
fn label(field: &str, (name, given): (&str, &TagOverride), findings: &mut Findings) {
    let TagOverride { operation, value } = given;
    if !is_label_name(name) {
        let remedy = "use letters, digits and _, without __ in front; le is taken";
        findings.warn(field, name, "not a label's name, and left out by waypoints", remedy);
    }
    match operation.as_str() {
        "REMOVE" if value.is_empty() => {}
        "REMOVE" => {
            findings.warn(
                format!("{field}.value"),
                value,
                "a label that is left out has none",
                "leave it out",
            );
        }
        "" | "UPSERT" => {
            if let Err(error) = value.parse::<Formula>() {
                let problem = format!(
                    "not understood by waypoints, which leave the label as it is: at character {}: {}",
                    error.at, error.problem
                );
                findings.warn(format!("{field}.value"), value, &problem, error.remedy);
            }
        }
        other => {
            findings.refuse(
                format!("{field}.operation"),
                other,
                "not an operation",
                "write UPSERT or REMOVE",
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

#[cfg(test)]
mod tests {
    use super::super::review;

    fn told(spec: &str) -> Vec<String> {
        let head =
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: own, namespace: shop}\n";
        let object = yaml_serde::from_str(&format!("{head}spec: {spec}\n")).unwrap();
        let refused = |it: &super::super::Finding| if it.refused { "refused" } else { "warned" };
        review(&object).iter().map(|it| format!("{}: {it}", refused(it))).collect()
    }

    #[test]
    fn each_label_that_is_none_is_said_by_its_field_and_those_that_are_pass() {
        let label = |name: &str, of: &str| {
            told(&format!("{{metrics: [{{overrides: [{{tagOverrides: {{{name}: {of}}}}}]}}]}}"))
        };
        for (name, of, wanted) in [
            ("host", "{value: request.host}", ""),
            ("source_app", "{operation: REMOVE}", ""),
            (
                "a-b",
                "{operation: REMOVE}",
                "warned: spec.metrics[0].overrides[0].tagOverrides.a-b: a-b: not a label's name",
            ),
            (
                "host",
                "{operation: REMOVE, value: request.host}",
                "tagOverrides.host.value: request.host: a label that is left out",
            ),
            ("host", "{value: request.hots}", "at character 1: \"request.hots\" is not known here"),
            ("host", "{operation: UPSERT}", "at character 1: a value is missing"),
            (
                "host",
                "{operation: ADD, value: request.host}",
                "refused: spec.metrics[0].overrides[0].tagOverrides.host.operation: ADD",
            ),
        ] {
            let found = label(name, of);
            match wanted {
                "" => assert!(found.is_empty(), "{name} {of}: {found:?}"),
                wanted => assert!(found.len() == 1 && found[0].contains(wanted), "{wanted} in {found:?}"),
            }
        }
    }
}
