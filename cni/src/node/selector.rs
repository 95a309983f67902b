//! Which pods are asked into the mesh: label selectors on a pod and its namespace, as the chart writes them
//! (`cni.md` 2.1). Read strictly: a selector that is misread selects other pods than were meant.

use std::collections::BTreeMap;
use std::str::FromStr;

use ambit_cluster::kinds::meta::Texts;
use serde::Deserialize;

/// Demands on a pod and its namespace together; no demands are always met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// On the pod's labels.
    pub pod: Vec<Demand>,
    /// On the namespace's labels.
    pub namespace: Vec<Demand>,
}

/// Selectors, any one of which selects; none select nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selectors(pub Vec<Selector>);

/// A demand on labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// The label is there with one of these values.
    In(String, Vec<String>),
    /// The label is not there, or with none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is not there.
    Missing(String),
}

/// Why a text is no list of selectors.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// It is not of the form.
    #[error("not a list of podSelector and namespaceSelector")]
    Form(#[source] yaml_serde::Error),
    /// A key or value that no label can have.
    #[error("{0:?} cannot be a label's {1}")]
    Label(String, &'static str),
    /// An operator with values it does not take, or without those it needs.
    #[error("{operator} of {key} takes {wants}")]
    Values {
        /// The operator.
        operator: &'static str,
        /// The label.
        key: String,
        /// What it takes.
        wants: &'static str,
    },
}

/// What upstream's chart sets.
pub const DEFAULT: &str = "[{podSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}}, \
    {namespaceSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}, podSelector: {matchExpressions: \
    [{key: istio.io/dataplane-mode, operator: NotIn, values: [none]}]}}]";

impl Selector {
    /// Whether both sets of labels meet all demands.
    #[must_use]
    pub fn selects(&self, pod: &Texts, namespace: &Texts) -> bool {
        self.pod.iter().all(|it| it.is_met(pod)) && self.namespace.iter().all(|it| it.is_met(namespace))
    }
}

impl Demand {
    fn is_met(&self, labels: &Texts) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|it| values.contains(it)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|it| !values.contains(it)),
            Self::Exists(key) => labels.contains_key(key),
            Self::Missing(key) => !labels.contains_key(key),
        }
    }
}

impl FromStr for Selectors {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        let pairs: Vec<Pair> = yaml_serde::from_str(text).map_err(SelectorError::Form)?;
        let both = |pair: Pair| {
            Ok(Selector { pod: demands(pair.pod_selector)?, namespace: demands(pair.namespace_selector)? })
        };
        pairs.into_iter().map(both).collect::<Result<_, _>>().map(Self)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Pair {
    pod_selector: Option<LabelSelector>,
    namespace_selector: Option<LabelSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct LabelSelector {
    match_labels: Option<BTreeMap<String, String>>,
    match_expressions: Option<Vec<Requirement>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Requirement {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

fn demands(selector: Option<LabelSelector>) -> Result<Vec<Demand>, SelectorError> {
    let LabelSelector { match_labels, match_expressions } = selector.unwrap_or_default();
    let labels = match_labels.unwrap_or_default().into_iter().map(|(key, value)| {
        let demand = Demand::In(key, vec![value]);
        demand.checked()
    });
    let expressions = match_expressions.unwrap_or_default().into_iter().map(demand);
    labels.chain(expressions).collect()
}

fn demand(it: Requirement) -> Result<Demand, SelectorError> {
    let Requirement { key, operator, values } = it;
    let values = values.unwrap_or_default();
    let wrong = |operator, key, wants| Err(SelectorError::Values { operator, key, wants });
    let demand = match (operator, values.is_empty()) {
        (Operator::In, false) => Demand::In(key, values),
        (Operator::NotIn, false) => Demand::NotIn(key, values),
        (Operator::Exists, true) => Demand::Exists(key),
        (Operator::DoesNotExist, true) => Demand::Missing(key),
        (Operator::In, true) => return wrong("In", key, "at least one value"),
        (Operator::NotIn, true) => return wrong("NotIn", key, "at least one value"),
        (Operator::Exists, false) => return wrong("Exists", key, "no values"),
        (Operator::DoesNotExist, false) => return wrong("DoesNotExist", key, "no values"),
    };
    demand.checked()
}

impl Demand {
    fn checked(self) -> Result<Self, SelectorError> {
        let none = Vec::new();
        let (key, values) = match &self {
            Self::In(key, values) | Self::NotIn(key, values) => (key, values),
            Self::Exists(key) | Self::Missing(key) => (key, &none),
        };
        if !is_label_key(key) {
            return Err(SelectorError::Label(key.clone(), "key"));
        }
        match values.iter().find(|it| !it.is_empty() && !is_label_word(it)) {
            Some(value) => Err(SelectorError::Label(value.clone(), "value")),
            None => Ok(self),
        }
    }
}

/// A name of up to 63 characters, perhaps behind a domain and `/`.
fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => {
            let part =
                |it: &str| is_label_word(it) && !it.contains(|c: char| c == '_' || c.is_ascii_uppercase());
            domain.len() <= 253 && domain.split('.').all(part) && is_label_word(name)
        }
        None => is_label_word(text),
    }
}

fn is_label_word(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(all: &[(&str, &str)]) -> Texts {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_operator_looks_at_its_label_as_kubernetes_does() {
        let cases = [
            ("In, values: [a, b]", [false, true, false]),
            ("NotIn, values: [a, b]", [true, false, true]),
            ("Exists", [false, true, true]),
            ("DoesNotExist", [true, false, false]),
        ];
        for (operator, wanted) in cases {
            let text =
                format!("[{{podSelector: {{matchExpressions: [{{key: tier, operator: {operator}}}]}}}}]");
            let Selectors(all) = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            for (pod, wanted) in
                [labels(&[]), labels(&[("tier", "a")]), labels(&[("tier", "c")])].iter().zip(wanted)
            {
                assert_eq!(all[0].selects(pod, &labels(&[])), wanted, "{operator} {pod:?}");
            }
        }
    }

    #[test]
    fn both_sides_must_be_met_and_an_empty_side_always_is() {
        let Selectors(all) =
            "- namespaceSelector: {matchLabels: {team: x, env: prod}}\n  podSelector:\n".parse().unwrap();
        let team = labels(&[("team", "x"), ("env", "prod")]);
        assert!(all[0].selects(&labels(&[]), &team));
        assert!(!all[0].selects(&team, &labels(&[("team", "x")])));
        let Selectors(all) = "[{}]".parse().unwrap();
        assert!(all[0].selects(&labels(&[]), &labels(&[])));
    }

    #[test]
    fn nothing_is_guessed() {
        for text in ["", " \n", "[]"] {
            assert_eq!(text.parse::<Selectors>().unwrap().0, [], "{text:?}");
        }
        for text in [
            "{podSelector: {}}",
            "ambient",
            "[{podselector: {}}]",
            "[{podSelector: {matchlabels: {a: b}}}]",
            "[{podSelector: {matchLabels: {a: [b]}}}]",
            "[{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}]",
            "[{podSelector: {matchExpressions: [{key: a, operator: In}]}}]",
            "[{podSelector: {matchExpressions: [{key: a, operator: NotIn, values: []}]}}]",
            "[{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]",
            "[{podSelector: {matchExpressions: [{operator: Exists}]}}]",
            "[{podSelector: {matchLabels: {'a b': c}}}]",
            "[{podSelector: {matchLabels: {'A_x/b': c}}}]",
            "[{podSelector: {matchLabels: {a: 'c d'}}}]",
            "[{podSelector: {matchLabels: {'': c}}}]",
        ] {
            assert!(text.parse::<Selectors>().is_err(), "{text:?}");
        }
    }
}
