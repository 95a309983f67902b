//! Our control plane as a process beside the cluster, following its API server. Owns the process: it ends with this.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ambit_cluster_lab::{Lab, get};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const READY: Duration = Duration::from_secs(120);

/// A control plane that runs.
pub(crate) struct Plane {
    child: Child,
    address: SocketAddr,
}

impl Plane {
    /// Starts it, and waits until it has read everything.
    pub(crate) fn start(lab: &Lab, name: &str) -> Result<Self> {
        let folder = lab.layout().dir().join(format!("istiod-{name}"));
        std::fs::create_dir_all(&folder)?;
        // Nobody else asks for a port here between the two calls, or the start fails and says so.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = folder.join("log");
        let mut command = Command::new("setpriv");
        // A test that is killed takes it along.
        command.args(["--pdeathsig", "KILL", "--"]).arg(program()?);
        command.arg("run").arg(format!("--http-addr={address}")).arg("--state").arg(&folder);
        for listener in ["grpc", "secure-grpc", "https", "monitoring"] {
            command.arg(format!("--{listener}-addr=127.0.0.1:0"));
        }
        command.env("KUBECONFIG", lab.kubeconfig());
        let child =
            command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::create(&log)?).spawn()?;
        let plane = Self { child, address };
        let ready = lab.wait("our control plane to be ready", READY, || get(address, "/ready"));
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        ready.with_context(|| said)?;
        Ok(plane)
    }

    /// Everything that it tells node proxies, and nothing that it finds fault with.
    pub(crate) fn dump(&self) -> Result<Vec<Value>> {
        let faults: Vec<String> = serde_json::from_str(&get(self.address, "/debug/faults")?)?;
        ensure!(faults.is_empty(), "at fault: {faults:?}");
        let told: Value = serde_json::from_str(&get(self.address, "/debug/ambientz")?)?;
        let of = |sort: &str| told[sort].as_array().cloned().unwrap_or_default();
        Ok(["policies", "workloads", "services"].iter().flat_map(|sort| of(sort)).collect())
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Beside the tests' own programs.
fn program() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_ambit-lab")).parent().context("a program is in a folder")?;
    let program = folder.join("istiod-lite");
    ensure!(program.is_file(), "{} is not built: cargo build -p ambit-istiod-lite", program.display());
    Ok(program)
}
