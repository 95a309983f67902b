//! Programs that are built from Go modules once and kept: Kubernetes, the name server, Helm; and for stories of a mesh
//! of mixed parts, upstream's control plane, node agent and command line; and the Gateway API's own tests.
//! Kept outside the checkout, by a digest of everything that decides what comes out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{Context as Digest, SHA256};

/// The release of Kubernetes. The newest that runs on control groups of version 1 and on Debian's containerd.
const KUBERNETES: (&str, &str, &str) = ("v1.34.4", "1", "34");
/// Where Go is put by those who follow its own instructions.
const GO_HOME: &str = "/usr/local/go/bin/go";

/// Between tries to download.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30), Duration::from_secs(60)];

/// A program to build.
struct Module {
    /// Its own name.
    name: &'static str,
    /// Its folder under `go/`.
    folder: &'static str,
    /// What to build of the module.
    package: &'static str,
    /// What comes out.
    made: Made,
}

/// What is built of a package.
#[derive(Clone, Copy)]
enum Made {
    Program,
    /// A program of its tests.
    Tests,
}

const MODULES: [Module; 3] = [
    Module { name: "kube", folder: "kube", package: ".", made: Made::Program },
    Module { name: "coredns", folder: "coredns", package: ".", made: Made::Program },
    Module { name: "helm", folder: "helm", package: "helm.sh/helm/v3/cmd/helm", made: Made::Program },
];

/// Of one module: what the first build has compiled serves the others.
const UPSTREAM: [Module; 4] = [
    Module {
        name: "pilot-discovery",
        folder: "istio",
        package: "istio.io/istio/pilot/cmd/pilot-discovery",
        made: Made::Program,
    },
    Module {
        name: "install-cni",
        folder: "istio",
        package: "istio.io/istio/cni/cmd/install-cni",
        made: Made::Program,
    },
    Module {
        name: "istio-cni",
        folder: "istio",
        package: "istio.io/istio/cni/cmd/istio-cni",
        made: Made::Program,
    },
    Module {
        name: "istioctl",
        folder: "istio",
        package: "istio.io/istio/istioctl/cmd/istioctl",
        made: Made::Program,
    },
];

/// The Gateway API's own tests, and the programs that answer and ask in them.
const SUITE: [Module; 4] = [
    Module { name: "suite", folder: "conformance", package: ".", made: Made::Tests },
    Module {
        name: "server",
        folder: "conformance",
        package: "istio.io/istio/pkg/test/echo/cmd/server",
        made: Made::Program,
    },
    Module {
        name: "client",
        folder: "conformance",
        package: "istio.io/istio/pkg/test/echo/cmd/client",
        made: Made::Program,
    },
    Module {
        name: "echo-basic",
        folder: "conformance",
        package: "sigs.k8s.io/gateway-api/conformance/echo-basic",
        made: Made::Program,
    },
];

/// The built programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// All of Kubernetes.
    pub kube: PathBuf,
    /// The name server.
    pub coredns: PathBuf,
    /// Helm.
    pub helm: PathBuf,
}

/// Upstream's programs that can stand beside ours.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The control plane.
    pub pilot: PathBuf,
    /// The node agent.
    pub agent: PathBuf,
    /// Its plugin.
    pub plugin: PathBuf,
    /// What people type.
    pub tool: PathBuf,
}

/// The Gateway API's own tests of implementations.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The tests.
    pub tests: PathBuf,
    /// What answers in pods of its tests of meshes.
    pub server: PathBuf,
    /// What asks there.
    pub client: PathBuf,
    /// What answers in pods of its tests of gateways.
    pub basic: PathBuf,
}

/// The suite, built where it is not there yet.
pub fn suite() -> Result<Suite> {
    let [tests, server, client, basic] = &SUITE;
    let cache = cache();
    Ok(Suite {
        tests: tests.built(&cache)?,
        server: server.built(&cache)?,
        client: client.built(&cache)?,
        basic: basic.built(&cache)?,
    })
}

/// Upstream's programs, built where they are not there yet. No cluster needs them: only stories that mix parts ask.
pub fn upstream() -> Result<Upstream> {
    let [pilot, agent, plugin, tool] = &UPSTREAM;
    let cache = cache();
    Ok(Upstream {
        pilot: pilot.built(&cache)?,
        agent: agent.built(&cache)?,
        plugin: plugin.built(&cache)?,
        tool: tool.built(&cache)?,
    })
}

/// The programs, built where they are not there yet. That takes a quarter of an hour the first time, and says so.
pub fn build(cache: &Path) -> Result<Binaries> {
    let [kube, coredns, helm] = &MODULES;
    Ok(Binaries { kube: kube.built(cache)?, coredns: coredns.built(cache)?, helm: helm.built(cache)? })
}

/// Helm alone, built where it is not there yet.
pub fn helm() -> Result<PathBuf> {
    let [_, _, helm] = &MODULES;
    helm.built(&cache())
}

/// The folder of the Gateway API's module, downloaded where it is not there yet. Nothing of it is compiled.
pub fn gateway_api() -> Result<PathBuf> {
    const MODULE: &str = "sigs.k8s.io/gateway-api";
    let module = Module { name: "gateway-api", folder: "gateway", package: MODULE, made: Made::Program };
    let go = go()?;
    for pause in PAUSES.into_iter().map(Some).chain([None]) {
        let output = module.command(&go).args(["mod", "download", "-json", MODULE]).output()?;
        if output.status.success() {
            let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            return Ok(told["Dir"].as_str().with_context(|| told.to_string())?.into());
        }
        eprintln!("{}", String::from_utf8_lossy(&output.stdout).trim());
        let Some(pause) = pause else { break };
        crate::wait::pause(pause);
    }
    bail!("{MODULE} cannot be downloaded: see above, and `go env GOPROXY`")
}

/// Where they are kept: `$AMBIT_CACHE`, else `~/.cache/ambit`.
pub fn cache() -> PathBuf {
    let home =
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/ambit");
    std::env::var_os("AMBIT_CACHE").map_or_else(home, PathBuf::from)
}

impl Module {
    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("go").join(self.folder)
    }

    fn built(&self, cache: &Path) -> Result<PathBuf> {
        let dir = cache.join("go").join(format!("{}-{}", self.name, self.key()?));
        let program = dir.join(self.name);
        if program.is_file() {
            return Ok(program);
        }
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let lock = File::create(dir.join("lock"))?;
        // Whoever comes second waits, and finds it built.
        lock.lock()?;
        if !program.is_file() {
            self.build(&program)?;
        }
        Ok(program)
    }

    fn build(&self, program: &Path) -> Result<()> {
        let go = go()?;
        let begun = Instant::now();
        eprintln!("building {} from its Go module into {} (once)", self.name, program.display());
        let part = program.with_extension(format!("part-{}", std::process::id()));
        self.fetch(&go)?;
        let mut build = self.command(&go);
        // Whose checkout this is, and whether it is one, is nothing to the program.
        match self.made {
            Made::Program => build.arg("build"),
            Made::Tests => build.args(["test", "-c"]),
        };
        build.args(["-buildvcs=false", "-trimpath", "-ldflags", &flags()]);
        build.arg("-o").arg(&part).arg(self.package);
        // The compiler collects its garbage less often: a tenth of the time, for memory that is there.
        build.env("GOGC", "400");
        let status = build.status().context("`nice` does not start")?;
        ensure!(status.success(), "building {} failed: see above", self.name);
        fs::rename(&part, program)?;
        eprintln!("built {} in {} s", self.name, begun.elapsed().as_secs());
        Ok(())
    }

    /// Downloads what the package is made of, and tries again where that fails: a build that ends amid its downloads
    /// would throw a quarter of an hour away.
    fn fetch(&self, go: &Path) -> Result<()> {
        for pause in PAUSES.into_iter().map(Some).chain([None]) {
            let mut list = self.command(go);
            list.args(["list", "-deps"]).args(matches!(self.made, Made::Tests).then_some("-test"));
            let listed = list.arg(self.package).stdout(Stdio::null()).status();
            if listed.context("`nice` does not start")?.success() {
                return Ok(());
            }
            let Some(pause) = pause else { break };
            eprintln!("the modules of {} are not all there: again in {} s", self.name, pause.as_secs());
            crate::wait::pause(pause);
        }
        bail!("the modules of {} cannot be downloaded: see above, and `go env GOPROXY`", self.name)
    }

    /// Go, in the module, with the settings of whoever runs this.
    fn command(&self, go: &Path) -> Command {
        // The lowest priority: a build of this size would starve everything else for minutes.
        let mut command = Command::new("nice");
        command.args(["-n", "15"]).arg(go).current_dir(self.source()).env("CGO_ENABLED", "0");
        if std::env::var_os("HOME").is_none() {
            // Where Go keeps what it has downloaded and compiled is below it.
            command.env("HOME", "/root");
        }
        command
    }

    /// A digest of the module's files and of how it is built.
    fn key(&self) -> Result<String> {
        let mut digest = Digest::new(&SHA256);
        digest.update(flags().as_bytes());
        let source = self.source();
        let entries = fs::read_dir(&source).with_context(|| source.display().to_string())?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read(&file)?;
            digest.update(format!("{name} {}\n", text.len()).as_bytes());
            digest.update(&text);
        }
        Ok(digest.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Without a version kube-proxy and kubectl refuse to start: they parse it.
fn flags() -> String {
    let (version, major, minor) = KUBERNETES;
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in
            [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor), ("gitTreeState", "clean")]
        {
            flags += &format!(" -X {package}.{name}={value}");
        }
    }
    flags
}

fn go() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join("go")).chain([PathBuf::from(GO_HOME)]);
    match places.find(|place| place.is_file()) {
        Some(go) => Ok(go),
        None => bail!(
            "Go is missing (1.26 or newer): curl -L https://go.dev/dl/go1.26.8.linux-amd64.tar.gz | tar -C /usr/local -xz"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_kept_is_not_built_again_and_each_has_a_key_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let keys: std::collections::HashSet<String> = MODULES
            .iter()
            .chain(&UPSTREAM)
            .chain(&SUITE)
            .map(|it| format!("{}-{}", it.name, it.key().unwrap()))
            .collect();
        assert_eq!(keys.len(), MODULES.len() + UPSTREAM.len() + SUITE.len());
        let [kube, ..] = &MODULES;
        let kept = dir.path().join("go").join(format!("kube-{}", kube.key().unwrap())).join("kube");
        fs::create_dir_all(kept.parent().unwrap()).unwrap();
        fs::write(&kept, "").unwrap();
        assert_eq!(kube.built(dir.path()).unwrap(), kept);
    }
}
