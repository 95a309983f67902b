//! What authors say of what is made for a waypoint (`control-plane.md` 7.4): texts of a config map, a part each, laid over
//! what would be made. Pure. What is refused is refused when it is read, so that laying it over cannot fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambit_cluster::kinds::gateway::Gateway;
use serde_json::{Map, Value};

/// Where a map is: namespace and name.
pub type At = (Box<str>, Box<str>);

/// The most that is read of one text: a deployment with all that there is to say is a tenth of it.
const TEXT_LIMIT: usize = 64 << 10;
/// Whose object it is, and that it is the one that is made, is not an author's to say.
const IDENTITY: [&str; 12] = [
    "name",
    "namespace",
    "uid",
    "ownerReferences",
    "finalizers",
    "generateName",
    "generation",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "selfLink",
];
/// Labels by which what is made is found again.
const FOUND_BY: [&str; 2] = ["gateway.networking.k8s.io/", "gateway.istio.io/managed"];
/// What may be said of an entry of a list, or of an object, beside its fields.
const DIRECTIVE: &str = "$patch";

/// A part of what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Its pods.
    Deployment,
    /// Where it is reached.
    Service,
    /// Whom it is.
    ServiceAccount,
    /// How many of it there are; made only where somebody says so.
    HorizontalPodAutoscaler,
    /// How many of it may go at once; made only where somebody says so.
    PodDisruptionBudget,
}

impl Part {
    fn of_key(key: &str) -> Option<Self> {
        Some(match key {
            "deployment" => Self::Deployment,
            "service" => Self::Service,
            "serviceAccount" => Self::ServiceAccount,
            "horizontalPodAutoscaler" => Self::HorizontalPodAutoscaler,
            "podDisruptionBudget" => Self::PodDisruptionBudget,
            _ => return None,
        })
    }
}

/// What is said of parts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlay(BTreeMap<Part, Value>);

/// Why nothing is made by what a map says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// It is not there.
    #[error("there is no config map {0}/{1}")]
    Missing(Box<str>, Box<str>),
    /// It is not a config map.
    #[error("spec.infrastructure.parametersRef names a {0}; name a ConfigMap of the same namespace")]
    Kind(String),
    /// A key that stands for nothing.
    #[error(
        "key {0} stands for nothing that is made; there are deployment, service, serviceAccount, horizontalPodAutoscaler \
         and podDisruptionBudget"
    )]
    Key(String),
    /// Too long.
    #[error("{0} is longer than 65536 bytes")]
    Long(String),
    /// No YAML, or not that of an object.
    #[error("{0} is not the YAML of a part of an object: {1}")]
    Yaml(String, String),
    /// Not an author's to say.
    #[error("{0}: {1} is not to be changed")]
    Fixed(String, String),
    /// A word that is not known.
    #[error("{0}: {1} is not known; there are `$patch: delete`, `replace` and `merge`")]
    Directive(String, String),
}

impl Overlay {
    /// Reads a map's texts.
    ///
    /// # Errors
    /// When one of them cannot be followed.
    pub fn read<'a>(data: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, OverlayError> {
        let mut parts = BTreeMap::new();
        for (key, text) in data {
            let part = Part::of_key(key).ok_or_else(|| OverlayError::Key(key.into()))?;
            if text.len() > TEXT_LIMIT {
                return Err(OverlayError::Long(key.into()));
            }
            let wrong = |why: String| OverlayError::Yaml(key.into(), why);
            let value: Value = yaml_serde::from_str(text).map_err(|error| wrong(error.to_string()))?;
            match value {
                Value::Null => continue,
                Value::Object(_) => {}
                _ => return Err(wrong("it is a list, or a word".into())),
            }
            check(key, &value)?;
            parts.insert(part, value);
        }
        Ok(Self(parts))
    }

    /// Whether a part is spoken of.
    #[must_use]
    pub fn says(&self, part: Part) -> bool {
        self.0.contains_key(&part)
    }

    /// Lays what is said of a part over it.
    pub fn lay_over(&self, part: Part, object: &mut Value) {
        if let Some(said) = self.0.get(&part) {
            let port = if part == Part::Service { "port" } else { "containerPort" };
            lay(object, said, ("", port));
        }
    }
}

/// What may not be said.
fn check(key: &str, value: &Value) -> Result<(), OverlayError> {
    let fixed = |what: String| Err(OverlayError::Fixed(key.into(), what));
    for field in ["apiVersion", "kind", "status"] {
        if value.get(field).is_some() {
            return fixed(field.into());
        }
    }
    let metadata = value.get("metadata");
    if let Some(field) = IDENTITY.into_iter().find(|it| metadata.is_some_and(|of| of.get(it).is_some())) {
        return fixed(format!("metadata.{field}"));
    }
    let labels = metadata.and_then(|it| it.get("labels")).and_then(Value::as_object);
    let is_found_by = |label: &&String| FOUND_BY.iter().any(|it| label.starts_with(it));
    if let Some(label) = labels.and_then(|it| it.keys().find(is_found_by)) {
        return fixed(format!("label {label}"));
    }
    if metadata.is_some_and(|it| !it.is_object()) || metadata.is_some_and(|it| it.get(DIRECTIVE).is_some()) {
        return fixed("metadata as a whole".into());
    }
    words(key, value)
}

/// Words with a dollar are orders; one that is not known would be taken for a field.
fn words(key: &str, value: &Value) -> Result<(), OverlayError> {
    match value {
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            let is_known = name == DIRECTIVE && ["delete", "replace", "merge"].iter().any(|it| value == it);
            if name.starts_with('$') && !is_known {
                return Err(OverlayError::Directive(key.into(), format!("{name}: {value}")));
            }
            words(key, value)
        }),
        Value::Array(items) => items.iter().try_for_each(|it| words(key, it)),
        _ => Ok(()),
    }
}

/// Lays a patch over a value as Kubernetes lays its own (a strategic merge): objects field by field, `null` takes a
/// field away, lists whose entries have a name by that name, other lists as a whole. `field` is what the value is
/// called, `port` what ports are known by in this object.
fn lay(base: &mut Value, patch: &Value, (field, port): (&str, &'static str)) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) if !is_to(patch, "replace") => {
            let fields = patch.iter().filter(|(name, _)| *name != DIRECTIVE);
            fields.for_each(|(name, value)| lay_field(base, value, (name, port)));
        }
        (Value::Array(base), Value::Array(patch)) => match name_of(field, port) {
            Some(by) if !patch.iter().filter_map(Value::as_object).any(|it| is_to(it, "replace")) => {
                patch.iter().for_each(|it| lay_entry(base, it, (by, port)));
            }
            _ => *base = patch.iter().map(said).filter(|it| !is_order(it)).collect(),
        },
        (base, patch) => *base = said(patch),
    }
}

fn lay_field(base: &mut Map<String, Value>, patch: &Value, (name, port): (&str, &'static str)) {
    let is_gone = patch.is_null() || patch.as_object().is_some_and(|it| is_to(it, "delete"));
    if is_gone {
        base.remove(name);
    } else {
        lay(base.entry(name).or_insert(Value::Null), patch, (name, port));
    }
}

fn lay_entry(base: &mut Vec<Value>, patch: &Value, (by, port): (&'static str, &'static str)) {
    let is_same = |it: &Value| it.get(by).is_some() && it.get(by) == patch.get(by);
    if patch.as_object().is_some_and(|it| is_to(it, "delete")) {
        base.retain(|it| !is_same(it));
        return;
    }
    match base.iter_mut().find(|it| is_same(it)) {
        Some(there) => lay(there, patch, ("", port)),
        None => base.push(said(patch)),
    }
}

/// What entries of a list are known by; lists that are not here are one value.
fn name_of(field: &str, port: &'static str) -> Option<&'static str> {
    Some(match field {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => "name",
        "volumeMounts" => "mountPath",
        "ports" => port,
        "topologySpreadConstraints" => "topologyKey",
        "hostAliases" => "ip",
        _ => return None,
    })
}

fn is_to(members: &Map<String, Value>, what: &str) -> bool {
    members.get(DIRECTIVE).is_some_and(|it| it == what)
}

/// An entry of a list that holds an order and nothing else.
fn is_order(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

/// A value without orders, and without what is to be taken away.
fn said(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(name, value)| *name != DIRECTIVE && !value.is_null())
            .map(|(name, value)| (name.clone(), said(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(said).collect(),
        other => other.clone(),
    }
}

/// A map as it was read the last time.
pub type Reading = Result<Arc<Overlay>, OverlayError>;

/// What is known of maps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overlays {
    /// Those that gateways name.
    pub named: BTreeMap<At, Reading>,
    /// Those for whole classes; none before it is known which there are.
    pub classes: Option<BTreeMap<Box<str>, Reading>>,
}

impl Overlays {
    /// What is to be laid over what is made for a gateway, in this order; none while that is not known.
    #[must_use]
    pub fn of(&self, gateway: &Gateway) -> Option<Result<Vec<Arc<Overlay>>, OverlayError>> {
        let class = self.classes.as_ref()?.get(gateway.spec.gateway_class_name.as_str());
        let own = match named(gateway) {
            None => None,
            Some(Err(error)) => return Some(Err(error)),
            Some(Ok(at)) => Some(self.named.get(&at)?),
        };
        Some(class.into_iter().chain(own).cloned().collect())
    }
}

/// The map that a gateway names.
#[must_use]
pub fn named(gateway: &Gateway) -> Option<Result<At, OverlayError>> {
    let it = gateway.spec.infrastructure.parameters_ref.as_ref()?;
    if it.kind != "ConfigMap" || !it.group.is_empty() {
        return Some(Err(OverlayError::Kind(format!("{} {}", it.group, it.kind).trim().into())));
    }
    Some(Ok((gateway.metadata.namespace.as_str().into(), it.name.as_str().into())))
}

#[cfg(test)]
mod tests;
