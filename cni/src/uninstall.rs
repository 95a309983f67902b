//! Takes the mesh off this node: what the daemon leaves standing when it ends, because its successor needs it.
//! Owns the order: pods out first, then the node's rules, then files. Who is in is the daemon's to know.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_sys::netns::Netns;
use ambit_wire::node_link::PodUid;
use clap::{ArgAction, Parser};

use crate::apply::{ApplyError, remove_node, remove_pod};
use crate::config::{CONTROL_SOCKET, Config};
use crate::install::{self, InstallError};
use crate::node::sandbox::{Mark, Records, Sandbox};

/// Takes the mesh off this node: the node's rules, and with --unenrol every running pod's. Run it in the node's
/// network namespace, when the daemon is not to come back.
#[derive(Debug, Clone, Parser)]
#[command(name = "ambit-cni-node uninstall", version)]
pub struct Uninstall {
    /// Folder of the plugin's socket and of what is known of sandboxes.
    #[arg(long, env = "CNI_AGENT_RUN_DIR", default_value = "/var/run/ambit-cni")]
    pub run_dir: PathBuf,
    /// Let all running pods out of the mesh first: through the daemon while it runs, otherwise by its records.
    #[arg(long)]
    pub unenrol: bool,
    /// How long pods may take to leave, in seconds.
    #[arg(long, default_value_t = 60)]
    pub wait_seconds: u64,
    /// The container runtime's folder of network configurations; given, the plugin is taken out of it.
    #[arg(long, env = "MOUNTED_CNI_NET_DIR")]
    pub cni_net_dir: Option<PathBuf>,
    /// The container runtime's folder of plugins, from which ours is removed.
    #[arg(long, env = "MOUNTED_CNI_BIN_DIR", default_value = "/host/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// A configuration that is ours alone.
    #[arg(long, env = "ISTIO_OWNED_CNI_CONFIG_FILENAME", default_value = "02-istio-cni.conflist")]
    pub istio_owned_cni_config_filename: String,
    /// The node's process file system.
    #[arg(long, env = "HOST_PROC", default_value = "/proc")]
    pub proc_dir: PathBuf,
    /// The node's rules are in the network namespace of the node's first process.
    #[arg(long, env = "ALLOW_SWITCH_TO_HOST_NS", default_value_t = false, action = ArgAction::Set)]
    pub allow_switch_to_host_ns: bool,
}

impl Uninstall {
    /// What a daemon that ran by this configuration leaves, but for its pods.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            run_dir: config.run_dir.clone(),
            unenrol: false,
            wait_seconds: 1,
            cni_net_dir: config.install.cni_net_dir.clone(),
            cni_bin_dir: config.install.cni_bin_dir.clone(),
            istio_owned_cni_config_filename: config.install.istio_owned_cni_config_filename.clone(),
            proc_dir: config.proc_dir.clone(),
            allow_switch_to_host_ns: config.kubernetes.allow_switch_to_host_ns,
        }
    }

    fn remove_node(&self) -> Result<(), ApplyError> {
        if self.allow_switch_to_host_ns {
            return Netns::open(&self.proc_dir.join("1/ns/net"))?.run(remove_node)?;
        }
        remove_node()
    }
}

/// Why the mesh is still, or partly, on this node.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// It would put everything back.
    #[error("the daemon runs and would put everything back; stop it first, or let pods out with --unenrol")]
    Running,
    /// The daemon was asked and did not answer.
    #[error("the daemon did not answer at {}", socket.display())]
    Silent {
        /// Where.
        socket: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Pods stay in.
    #[error("pods have not left the mesh, try again: {0}")]
    Remaining(String),
    /// The plugin stays.
    #[error("the plugin is still installed")]
    Install(#[from] InstallError),
    /// The node's rules stay.
    #[error("cannot remove the node's rules")]
    Rules(#[from] ApplyError),
    /// Files stay.
    #[error("cannot remove {}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What was done, for people.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Lines.
    pub lines: Vec<String>,
}

/// Takes the mesh off this node. Doing it again, also after a failure, is fine.
///
/// # Errors
/// When something of it is left.
pub fn uninstall(what: &Uninstall) -> Result<Removed, UninstallError> {
    let mut removed = Removed::default();
    let socket = what.run_dir.join(CONTROL_SOCKET);
    match (UnixStream::connect(&socket), what.unenrol) {
        (Ok(_), false) => return Err(UninstallError::Running),
        (Ok(stream), true) => {
            let patience = Duration::from_secs(what.wait_seconds.max(1));
            let said =
                retire(stream, patience).map_err(|source| UninstallError::Silent { socket, source })?;
            removed.lines.push(said.map_err(UninstallError::Remaining)?);
        }
        (Err(_), true) => removed.lines.extend(clear_recorded(what)?),
        (Err(_), false) => {}
    }
    if let Some(folder) = &what.cni_net_dir {
        install::remove(folder, Some(&what.cni_bin_dir), Some(&what.istio_owned_cni_config_filename))?;
        removed.lines.push(format!("the plugin is out of {}", folder.display()));
    }
    what.remove_node()?;
    removed.lines.push("the node's rules are gone".into());
    remove_files(&what.run_dir)?;
    removed.lines.push(format!("{} is cleared", what.run_dir.display()));
    Ok(removed)
}

/// Asks the daemon to let everybody out; the inner error is its word on who did not go.
fn retire(mut stream: UnixStream, patience: Duration) -> io::Result<Result<String, String>> {
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(
        b"POST /retire HTTP/1.1\r\nhost: unix\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    )?;
    let mut text = String::new();
    stream.take(1 << 20).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let body = body.trim().to_owned();
    Ok(if head.starts_with("HTTP/1.1 200") {
        Ok(format!("the daemon let pods out: {body}"))
    } else {
        Err(body)
    })
}

/// Without the daemon: the rules of pods whose records lead to their very namespaces. Who they are to the cluster is
/// then nobody's to change; the control plane sees that no daemon speaks for the node.
fn clear_recorded(what: &Uninstall) -> Result<Vec<String>, UninstallError> {
    let boot = what.proc_dir.join("sys/kernel/random/boot_id");
    let boot = fs::read_to_string(&boot).map_err(at(&boot))?;
    let folder = what.run_dir.join("pods");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let (_, recorded): (Records, BTreeMap<PodUid, Sandbox>) =
        Records::open(folder.clone()).map_err(at(&folder))?;
    let mut lines = Vec::new();
    for sandbox in recorded.values() {
        let Ok(netns) = Netns::open(&sandbox.netns) else { continue };
        if sandbox.mark == Some(Mark::new(boot.trim(), netns.id())) {
            remove_pod(&netns)?;
            lines.push(format!("the rules of pod {} are gone; its annotation stays", sandbox.uid));
        }
    }
    Ok(lines)
}

/// Everything that a daemon makes in its folder, and the folder if nothing else is in it.
fn remove_files(run_dir: &Path) -> Result<(), UninstallError> {
    let records = run_dir.join("pods");
    fine_if_gone(fs::remove_dir_all(&records)).map_err(at(&records))?;
    for name in ["pluginevent.sock", "ztunnel.sock", CONTROL_SOCKET] {
        let path = run_dir.join(name);
        fine_if_gone(fs::remove_file(&path)).map_err(at(&path))?;
    }
    match fs::remove_dir(run_dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        // In the daemon's container it is a mount in what cannot be written, and the folder is the node's.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::ReadOnlyFilesystem) =>
        {
            Ok(())
        }
        other => fine_if_gone(other).map_err(at(run_dir)),
    }
}

fn fine_if_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> UninstallError {
    let path = path.to_owned();
    move |source| UninstallError::Path { path, source }
}
