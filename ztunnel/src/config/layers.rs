//! What lies beneath the environment: the mesh's configuration file, and over it `PROXY_CONFIG` (`ztunnel.md` 12.1).
//! Owns reading both, and which settings shine through where the environment says nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ambit_process::config::{Faults, Key, Source};
use serde::Deserialize;
use yaml_serde::Value;

/// Where the mesh's configuration is mounted.
pub(super) const MESH_FILE: &str = "./etc/istio/config/mesh";
const PROXY_CONFIG: Key<Proxy> = Key::new(
    "PROXY_CONFIG",
    "YAML with discoveryAddress, proxyAdminPort, statsPort, concurrency or proxyMetadata; lies beneath the variables",
    |given| parse(given).map_err(|why| format!("{why}; {SHAPE}")),
    Proxy::default,
);
const META: &str = "ISTIO_META_";
const SHAPE: &str =
    "write YAML with discoveryAddress, proxyAdminPort, statsPort, concurrency or proxyMetadata";

/// The environment, and what it lies on.
pub(super) struct Layers<'a> {
    above: &'a dyn Source,
    discovery: Option<String>,
    metadata: BTreeMap<String, String>,
    /// The admin port.
    pub(super) admin_port: Option<u16>,
    /// The metrics port.
    pub(super) stats_port: Option<u16>,
    /// Traffic threads; 0: one per core.
    pub(super) concurrency: Option<u16>,
}

impl<'a> Layers<'a> {
    /// Reads both layers beneath `above`.
    pub(super) fn read(above: &'a dyn Source, mesh: &Path, faults: &mut Faults) -> Self {
        let mesh = mesh_file(mesh, faults);
        let own = PROXY_CONFIG.read(above, faults);
        let mut this = Self {
            above,
            discovery: own.discovery_address.or(mesh.discovery_address),
            metadata: BTreeMap::new(),
            admin_port: own.proxy_admin_port.or(mesh.proxy_admin_port).map(u16::from),
            stats_port: own.stats_port.or(mesh.stats_port).map(u16::from),
            concurrency: own.concurrency.or(mesh.concurrency),
        };
        for (key, value) in mesh.proxy_metadata.into_iter().chain(own.proxy_metadata).flatten() {
            let short = key.strip_prefix(META).unwrap_or(&key);
            match text(&value) {
                Some(text) => drop(this.metadata.insert(short.into(), text)),
                None => {
                    faults.add(key.clone(), format!("{value:?}"), "metadata is a text, a number or a flag")
                }
            }
        }
        this
    }
}

impl Source for Layers<'_> {
    fn value(&self, name: &str) -> Option<String> {
        self.above.value(name).or_else(|| match name.strip_prefix(META) {
            Some(short) => self.metadata.get(short).cloned(),
            None if name == "XDS_ADDRESS" => self.discovery.clone(),
            None => None,
        })
    }

    fn beginning_with(&self, prefix: &str) -> Vec<(String, String)> {
        let beneath = self.metadata.iter().map(|(short, value)| (format!("{META}{short}"), value.clone()));
        let mut all: BTreeMap<_, _> = beneath.filter(|(name, _)| name.starts_with(prefix)).collect();
        all.extend(self.above.beginning_with(prefix));
        all.into_iter().collect()
    }
}

/// The part of a mesh's configuration that is about proxies; it holds much more.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mesh {
    default_config: Option<Proxy>,
}

/// What may be said of a proxy; other keys are other proxies'.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Proxy {
    discovery_address: Option<String>,
    proxy_admin_port: Option<std::num::NonZeroU16>,
    stats_port: Option<std::num::NonZeroU16>,
    concurrency: Option<u16>,
    proxy_metadata: Option<BTreeMap<String, Value>>,
}

fn mesh_file(path: &Path, faults: &mut Faults) -> Proxy {
    let said = match std::fs::read_to_string(path) {
        Ok(text) => parse::<Mesh>(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Proxy::default(),
        Err(error) => Err(error.to_string()),
    };
    said.map(|mesh| mesh.default_config.unwrap_or_default()).unwrap_or_else(|why| {
        let remedy = format!("the mesh's configuration does not read: {why}; under defaultConfig {SHAPE}");
        faults.add(path.display().to_string(), "", remedy);
        Proxy::default()
    })
}

fn parse<T: Default + serde::de::DeserializeOwned>(yaml: &str) -> Result<T, String> {
    let found: Option<T> = yaml_serde::from_str(yaml).map_err(|error| error.to_string())?;
    Ok(found.unwrap_or_default())
}

/// People write `true` and `5` without quotes.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    fn mesh(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_environment_lies_over_proxy_config_which_lies_over_the_meshs_file() {
        let mesh = mesh(
            "rootNamespace: istio-system\ndefaultConfig:\n  discoveryAddress: mesh:15012\n  concurrency: 2\n  \
             statsPort: 1\n  proxyMetadata: {ISTIO_META_A: mesh, B: mesh, C: mesh, N: 5}\n",
        );
        let env = source(&[
            (
                "PROXY_CONFIG",
                "{discoveryAddress: own:15012, statsPort: 7, tracing: {}, proxyMetadata: {B: own, C: own}}",
            ),
            ("ISTIO_META_C", "env"),
        ]);
        let mut faults = Faults::new();
        let layers = Layers::read(&env, mesh.path(), &mut faults);
        assert_eq!(faults.all(), []);
        let value = |name| layers.value(name).unwrap();
        assert_eq!((value("ISTIO_META_A"), value("ISTIO_META_B")), ("mesh".into(), "own".into()));
        assert_eq!((value("ISTIO_META_C"), value("ISTIO_META_N")), ("env".into(), "5".into()));
        assert_eq!(value("XDS_ADDRESS"), "own:15012");
        assert_eq!((layers.concurrency, layers.stats_port, layers.admin_port), (Some(2), Some(7), None));
        let names: Vec<_> = layers.beginning_with("ISTIO_META_").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["ISTIO_META_A", "ISTIO_META_B", "ISTIO_META_C", "ISTIO_META_N"]);
    }

    #[test]
    fn an_object_without_metadata_an_empty_one_and_no_file_are_taken() {
        for given in ["", "concurrency: 0", "{}", "proxyMetadata:"] {
            let mut faults = Faults::new();
            let _ = Layers::read(&source(&[("PROXY_CONFIG", given)]), Path::new("/nowhere"), &mut faults);
            assert_eq!(faults.all(), [], "{given}");
        }
    }

    #[test]
    fn what_does_not_read_is_named_by_layer() {
        for (given, file) in
            [("statsPort: 0", "a: b"), ("[1]", ""), ("concurrency: many", "{}"), ("", "defaultConfig: 5")]
        {
            let mesh = mesh(file);
            let mut faults = Faults::new();
            let _ = Layers::read(&source(&[("PROXY_CONFIG", given)]), mesh.path(), &mut faults);
            let [fault] = faults.all() else { panic!("{given} {file}: {faults}") };
            let wanted = if given.is_empty() { mesh.path().to_str().unwrap() } else { PROXY_CONFIG.name };
            assert_eq!(fault.name, wanted, "{faults}");
        }
    }

    #[test]
    fn metadata_is_a_scalar() {
        let mut faults = Faults::new();
        let env = source(&[("PROXY_CONFIG", "proxyMetadata: {A: [1], B: true}")]);
        let layers = Layers::read(&env, Path::new("/nowhere"), &mut faults);
        assert_eq!(faults.all().len(), 1, "{faults}");
        assert_eq!(layers.value("ISTIO_META_B").unwrap(), "true");
    }
}
