//! The world as people write and read it: the YAML of a local file, and the same shapes as JSON in a
//! configuration dump (`ztunnel.md` 8.7, 11.4). Owns both directions between text and model, and errors that
//! name the field. Reads no files.

mod authentication;
mod credential;
mod ext_proc;
mod fault;
mod lines;
mod provider;
mod rate_limit;
mod read;
mod request_policy;
mod route;
mod shape;
mod telemetry;
mod traffic;
mod write;

use ambit_model::delta::Delta;
use ambit_model::snapshot::Snapshot;
use serde::Serialize;
use serde_json::Value;

pub use authentication::authentication;
pub use credential::credential;
pub use ext_proc::ext_proc;
pub use fault::{FieldFault, LocalError};
pub use lines::{LinesError, read_lines, write_lines};
pub use provider::provider;
pub use rate_limit::rate_limit;
pub use request_policy::request_policy;
pub use route::route;
pub use telemetry::telemetry;
pub use traffic::traffic;

/// The longest local configuration or dump that is read: what a mesh of 50,000 workloads takes, twice.
pub const TEXT_LIMIT: usize = 128 << 20;

/// Reads a local configuration. All of it is read before anything is returned.
///
/// # Errors
/// The first thing in it that does not hold, by field.
pub fn parse(yaml: &str) -> Result<Delta, LocalError> {
    limit(yaml)?;
    let file: Option<shape::File> =
        yaml_serde::from_str(yaml).map_err(|e| LocalError::Shape { detail: e.to_string() })?;
    read::file(file.unwrap_or_default())
}

/// Reads the world back out of a whole configuration dump.
///
/// # Errors
/// The first thing in it that does not hold, by field.
pub fn read_dump(json: &str) -> Result<Delta, LocalError> {
    limit(json)?;
    let whole: Value = serde_json::from_str(json).map_err(|e| LocalError::Shape { detail: e.to_string() })?;
    read::file(shape::File {
        workloads: list(&whole, "workloads")?,
        services: list(&whole, "services")?,
        policies: list(&whole, "policies")?,
        staged_services: match whole.get("stagedServices") {
            None | Some(Value::Null) => Default::default(),
            Some(staged) => item(staged, || "stagedServices".into())?,
        },
    })
}

/// The world's part of a configuration dump. Serialises to the keys of the dump.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dump {
    /// By uid.
    pub workloads: Value,
    /// By host, with their endpoints.
    pub services: Value,
    /// By key.
    pub policies: Value,
    /// Endpoints of services that are not known: service key -> uid -> endpoint.
    pub staged_services: Value,
}

/// Writes the world's part of a configuration dump.
#[must_use]
pub fn dump(world: &Snapshot) -> Dump {
    // The shapes have text keys and no floats, so that turning them into values cannot fail; if it did, the
    // dump shows it where it happened.
    fn value(of: &impl Serialize) -> Value {
        serde_json::to_value(of).unwrap_or_else(|e| Value::String(e.to_string()))
    }
    Dump {
        workloads: value(&write::workloads(world)),
        services: value(&write::services(world)),
        policies: value(&write::policies(world)),
        staged_services: value(&write::staged_services(world)),
    }
}

fn limit(text: &str) -> Result<(), LocalError> {
    if text.len() > TEXT_LIMIT {
        return Err(LocalError::TooLarge { bytes: text.len(), limit: TEXT_LIMIT });
    }
    Ok(())
}

fn list<T: serde::de::DeserializeOwned>(whole: &Value, key: &'static str) -> Result<Vec<T>, LocalError> {
    let Some(items) = whole.get(key).and_then(Value::as_array) else {
        return Err(LocalError::Shape {
            detail: format!("{key}: missing, or not a list; give a whole dump"),
        });
    };
    items.iter().enumerate().map(|(i, value)| item(value, || format!("{key}[{i}]"))).collect()
}

fn item<T: serde::de::DeserializeOwned>(value: &Value, at: impl Fn() -> String) -> Result<T, LocalError> {
    T::deserialize(value).map_err(|e| LocalError::Shape { detail: format!("{}: {e}", at()) })
}

#[cfg(test)]
mod tests;
