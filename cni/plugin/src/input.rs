//! What the runtime gives: environment and configuration, parsed and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::failure::Failure;

/// The versions that are spoken, oldest first.
pub(crate) const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The environment, as far as the protocol names it.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    texts: BTreeMap<&'static str, String>,
    /// How long a daemon that a pod is to be asked of may take to be there.
    pub(crate) absence: Duration,
}

/// At a node's start the daemon comes seconds after the first pods, and a pod that fails is tried again only after many.
const ABSENCE: Duration = Duration::from_secs(10);

const NAMES: [&str; 6] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_ARGS"];

impl Surroundings {
    /// This process's.
    #[must_use]
    pub fn of_process() -> Self {
        let read = |name| std::env::var_os(name).map(|value| (name, value.to_string_lossy().into_owned()));
        Self { texts: NAMES.into_iter().filter_map(read).collect(), absence: ABSENCE }
    }

    /// Given ones, in which a daemon is there or not.
    #[must_use]
    pub fn given(all: &[(&'static str, &str)]) -> Self {
        let texts = all.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { texts, absence: Duration::ZERO }
    }

    /// The same, where a daemon that is away is waited for.
    #[must_use]
    pub fn waiting(self, absence: Duration) -> Self {
        Self { absence, ..self }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    /// Fails naming every one that is missing, and what is wrong with those that are not.
    pub(crate) fn demand(&self, names: &[&str]) -> Result<(), Failure> {
        let missing: Vec<_> = names.iter().copied().filter(|name| self.text(name).is_empty()).collect();
        if !missing.is_empty() {
            return Err(Failure::Environment(format!("not set: {}", missing.join(", "))));
        }
        let id = self.text("CNI_CONTAINERID");
        if names.contains(&"CNI_CONTAINERID") && !is_container_id(id) {
            return Err(Failure::Environment(format!("CNI_CONTAINERID {id:?} is no container id")));
        }
        let interface = self.text("CNI_IFNAME");
        if names.contains(&"CNI_IFNAME") && !is_interface(interface) {
            return Err(Failure::Environment(format!("CNI_IFNAME {interface:?} is no interface name")));
        }
        Ok(())
    }

    /// One of `CNI_ARGS`; empty when it is not there.
    pub(crate) fn argument(&self, key: &str) -> &str {
        let pairs = self.text("CNI_ARGS").split(';').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find_map(|(name, value)| (name == key).then_some(value)).unwrap_or("")
    }
}

/// The network configuration: what is needed of it.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) version: String,
    pub(crate) run_dir: PathBuf,
    /// Where the mesh's own pods are.
    pub(crate) system_namespace: String,
    /// Namespaces whose pods are never in the mesh, and start without asking.
    pub(crate) excluded: Vec<String>,
    /// STATUS fails while the daemon is away. Not for nodes where the daemon itself is a pod that needs a network.
    pub(crate) strict_status: bool,
    pub(crate) previous: Option<Value>,
    /// For GC: the attachments that the runtime has; none when there is no such list, which is not an empty one.
    pub(crate) valid: Option<Vec<String>>,
}

const RUN_DIR: &str = "/var/run/ambit-cni";

impl Network {
    pub(crate) fn parse(input: &[u8]) -> Result<Self, Failure> {
        let value: Value =
            serde_json::from_slice(input).map_err(|error| Failure::Undecodable(error.to_string()))?;
        if !value.is_object() {
            return Err(Failure::Undecodable("it is not an object".into()));
        }
        let version = text(&value, "cniVersion")?.unwrap_or("0.1.0").to_owned();
        if !VERSIONS.contains(&version.as_str()) {
            let spoken = VERSIONS.join(", ");
            return Err(Failure::Version(format!("it is {version:?}; spoken are {spoken}")));
        }
        if !text(&value, "name")?.is_some_and(is_network_name) {
            return Err(Failure::Configuration("name is missing or not a network's name".into()));
        }
        let strict_status = value.get("strict_status").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self {
            run_dir: Path::new(text(&value, "cni_agent_run_dir")?.unwrap_or(RUN_DIR)).into(),
            system_namespace: text(&value, "pod_namespace")?.unwrap_or("istio-system").to_owned(),
            excluded: excluded(&value)?,
            strict_status,
            previous: value.get("prevResult").filter(|it| !it.is_null()).cloned(),
            valid: valid_attachments(&value),
            version,
        })
    }

    /// Whether the configuration's version is at least this one of [`VERSIONS`].
    pub(crate) fn is_at_least(&self, version: &str) -> bool {
        let place = |wanted: &str| VERSIONS.iter().position(|it| *it == wanted);
        place(&self.version) >= place(version)
    }
}

fn excluded(value: &Value) -> Result<Vec<String>, Failure> {
    let wrong = || Failure::Configuration("exclude_namespaces is no list of texts".into());
    match value.get("exclude_namespaces") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(all)) => {
            all.iter().map(|it| it.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or_else(wrong)
        }
        Some(_) => Err(wrong()),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Result<Option<&'a str>, Failure> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Failure::Configuration(format!("{key} is {other}, not a text"))),
    }
}

/// All or nothing: an item that is not understood would be taken for one that is gone.
fn valid_attachments(value: &Value) -> Option<Vec<String>> {
    let list = value.get("cni.dev/valid-attachments").or_else(|| value.get("cni.dev/attachments"))?;
    list.as_array()?.iter().map(|it| it.get("containerID")?.as_str().map(str::to_owned)).collect()
}

fn is_word(text: &str, extra: &[char]) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(&c))
}

fn is_container_id(text: &str) -> bool {
    is_word(text, &['_', '.', '-'])
}

fn is_network_name(text: &str) -> bool {
    is_word(text, &['_', '.', '-'])
}

fn is_interface(text: &str) -> bool {
    let fine = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    (1..=15).contains(&text.len()) && text != "." && text != ".." && text.chars().all(fine)
}
