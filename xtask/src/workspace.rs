//! The workspace as cargo describes it: packages, their dependencies, their targets.
//! Owns reading `cargo metadata`; judges nothing (`tidy` does).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The repository: where it is and what is in it.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// One member of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) needs: Vec<Need>,
    pub(crate) targets: Vec<Target>,
}

/// One dependency as a manifest names it.
pub(crate) struct Need {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Which section of the manifest the dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

/// Something cargo builds: a library, a program, an integration test, an example.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: String,
}

/// The cargo that runs us, so that a pinned toolchain stays pinned.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

impl Workspace {
    /// Asks cargo about the workspace this program was built from.
    pub(crate) fn load() -> Result<Self> {
        let here = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = here.parent().context("xtask lies outside the repository")?;
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(root)
            .output()
            .context("cargo metadata does not start")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let described: Value = serde_json::from_slice(&output.stdout)?;
        Self::parse(root, &described).context("cargo metadata has another shape than expected")
    }

    /// The programs and test programs land here.
    pub(crate) fn built(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(name)
    }

    fn parse(root: &Path, described: &Value) -> Option<Self> {
        let packages = described.get("packages")?.as_array()?;
        Some(Self {
            root: root.to_owned(),
            target: described.get("target_directory")?.as_str()?.into(),
            packages: packages.iter().map(package).collect::<Option<Vec<_>>>()?,
        })
    }
}

fn package(described: &Value) -> Option<Package> {
    Some(Package {
        name: text(described, "name")?,
        needs: described.get("dependencies")?.as_array()?.iter().map(need).collect::<Option<_>>()?,
        targets: described.get("targets")?.as_array()?.iter().map(target).collect::<Option<_>>()?,
    })
}

fn need(described: &Value) -> Option<Need> {
    let kind = match described.get("kind")?.as_str() {
        None => Kind::Normal,
        Some("build") => Kind::Build,
        Some(_) => Kind::Dev,
    };
    Some(Need { name: text(described, "name")?, kind })
}

fn target(described: &Value) -> Option<Target> {
    let kind = described.get("kind")?.as_array()?.first()?.as_str()?.to_owned();
    Some(Target { name: text(described, "name")?, kind })
}

fn text(described: &Value, key: &str) -> Option<String> {
    Some(described.get(key)?.as_str()?.to_owned())
}
