//! Object metadata, cut down to what is read, with its rules: names, labels, times.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::fault::Wrong;
use crate::kinds::text::Text;

pub use crate::kinds::texts::Texts;

/// Longest annotation that is kept whole; of longer ones (of sidecars) only the presence is ever asked.
const ANNOTATION_KEPT: usize = 1024;

/// A static pod's uid on its node; the object that mirrors it has another.
const STATIC_POD_UID: &str = "kubernetes.io/config.hash";

/// What is read of `metadata`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// The name.
    #[serde(deserialize_with = "object_name")]
    pub name: String,
    /// The namespace; empty for kinds that have none.
    #[serde(deserialize_with = "object_name")]
    pub namespace: String,
    /// The API server's id; empty in manifests.
    pub uid: String,
    /// Labels.
    #[serde(deserialize_with = "labels")]
    pub labels: Texts,
    /// Annotations of the mesh's own domains; the others are dropped.
    #[serde(deserialize_with = "annotations")]
    pub annotations: Texts,
    /// When it was made.
    #[serde(deserialize_with = "time")]
    pub creation_timestamp: Option<jiff::Timestamp>,
    /// When it was asked to go.
    #[serde(deserialize_with = "time")]
    pub deletion_timestamp: Option<jiff::Timestamp>,
    /// Prefix of a generated name.
    pub generate_name: Text,
    /// Counted up by the API server at each change of the specification.
    pub generation: i64,
    /// Who made it.
    #[serde(deserialize_with = "shared")]
    pub owner_references: Arc<[Owner]>,
}

impl Meta {
    /// A label's value.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    /// An annotation's value.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Age for "the oldest wins": objects without a time are youngest, and equal ones are told apart by name.
    #[must_use]
    pub fn age(&self) -> (jiff::Timestamp, &str, &str) {
        (self.creation_timestamp.unwrap_or(jiff::Timestamp::MAX), &self.namespace, &self.name)
    }
}

/// An object's owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// The owner's kind.
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// Whether it is the one that manages the object.
    pub controller: bool,
}

/// Whether every label demanded is there.
#[must_use]
pub fn selects(selector: &Texts, labels: &Texts) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Labels as Kubernetes selects by them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that must be there.
    pub match_labels: Texts,
    /// What else must hold.
    pub match_expressions: Vec<LabelRule>,
}

/// One demand on labels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRule {
    /// The label's key.
    pub key: String,
    /// What is demanded of it.
    pub operator: LabelOperator,
    /// Of these values.
    #[serde(default)]
    pub values: Vec<String>,
}

/// What is demanded of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether labels are as demanded; a selector that demands nothing selects everything.
    #[must_use]
    pub fn selects(&self, labels: &Texts) -> bool {
        let holds = |rule: &LabelRule| {
            let value = labels.get(&rule.key);
            let listed = value.is_some_and(|value| rule.values.contains(value));
            match rule.operator {
                LabelOperator::In => listed,
                LabelOperator::NotIn => !listed,
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        };
        selects(&self.match_labels, labels) && self.match_expressions.iter().all(holds)
    }

    /// That values are given where they are needed, and only there.
    pub(crate) fn check(&self, field: &str) -> Result<(), Wrong> {
        for rule in &self.match_expressions {
            let needs = matches!(rule.operator, LabelOperator::In | LabelOperator::NotIn);
            if needs == rule.values.is_empty() {
                let remedy = "give values with In and NotIn, and none with Exists and DoesNotExist";
                let problem = if needs { "the expression has no values" } else { "values are given" };
                return Err(Wrong::field(format!("{field}: matchExpressions"), &rule.key, problem, remedy));
            }
        }
        Ok(())
    }
}

/// A DNS name of lower-case letters, digits, `-` and `.`: what Kubernetes allows, and what file names can hold.
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 253
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
}

fn object_name<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let text = String::deserialize(input)?;
    if text.is_empty() || is_object_name(&text) {
        return Ok(text);
    }
    Err(D::Error::custom("not a name; use lower-case letters, digits, '-' and '.', at most 253 of them"))
}

fn labels<'de, D: Deserializer<'de>>(input: D) -> Result<Texts, D::Error> {
    let labels = Texts::deserialize(input)?;
    for (key, value) in &labels {
        let name = key.rsplit_once('/').map_or(key.as_str(), |(_, name)| name);
        if name.is_empty() || !is_label_word(name) {
            return Err(D::Error::custom(format!(
                "label {key:?} is not a label key; {}",
                "use letters, digits, '-', '_' and '.', at most 63 of them"
            )));
        }
        if !is_label_word(value) {
            return Err(D::Error::custom(format!(
                "label {key} has the value {value:?}; {}",
                "use letters, digits, '-', '_' and '.', at most 63 of them"
            )));
        }
    }
    Ok(labels)
}

pub(crate) fn is_label_word(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn annotations<'de, D: Deserializer<'de>>(input: D) -> Result<Texts, D::Error> {
    let is_ours = |domain: &str| domain.ends_with("istio.io") || domain == "ambit.io";
    let of_mesh = |key: &str| key.split_once('/').is_some_and(|(domain, _)| is_ours(domain));
    let kept =
        Texts::deserialize(input)?.into_iter().filter(|(key, _)| of_mesh(key) || key == STATIC_POD_UID);
    let cut = |value: String| if value.len() > ANNOTATION_KEPT { String::new() } else { value };
    Ok(kept.map(|(key, value)| (key, cut(value))).collect())
}

/// A list without the room that reading it left.
pub(crate) fn snug<'de, D: Deserializer<'de>, T: Deserialize<'de>>(input: D) -> Result<Vec<T>, D::Error> {
    let mut list = Vec::deserialize(input)?;
    list.shrink_to_fit();
    Ok(list)
}

/// A list that copies share.
pub(crate) fn shared<'de, D: Deserializer<'de>, T: Deserialize<'de>>(input: D) -> Result<Arc<[T]>, D::Error> {
    Vec::deserialize(input).map(Into::into)
}

fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    let text = String::deserialize(input)?;
    text.parse().map(Some).map_err(|_| D::Error::custom("not a time; write it like 2026-01-31T12:00:00Z"))
}
