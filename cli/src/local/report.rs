//! What `local` commands and the supervisor say to each other: one line of JSON each way over a socket.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mesh::Mesh;

/// The supervisor answers from memory; longer means it is stuck.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A program of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum Component {
    Istiod,
    Cni(String),
    Ztunnel(String),
}

/// A text names no component.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no component: istiod, cni@NODE or ztunnel@NODE")]
pub(crate) struct ComponentError(String);

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Istiod => f.write_str("istiod"),
            Self::Cni(node) => write!(f, "cni@{node}"),
            Self::Ztunnel(node) => write!(f, "ztunnel@{node}"),
        }
    }
}

impl FromStr for Component {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, ComponentError> {
        match text.split_once('@') {
            None if text == "istiod" || text == "istiod-lite" => Ok(Self::Istiod),
            Some(("cni", node)) if !node.is_empty() => Ok(Self::Cni(node.to_owned())),
            Some(("ztunnel", node)) if !node.is_empty() => Ok(Self::Ztunnel(node.to_owned())),
            _ => Err(ComponentError(text.to_owned())),
        }
    }
}

impl From<Component> for String {
    fn from(component: Component) -> Self {
        component.to_string()
    }
}

impl TryFrom<String> for Component {
    type Error = ComponentError;

    fn try_from(text: String) -> Result<Self, ComponentError> {
        text.parse()
    }
}

/// What is asked of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Request {
    Status,
    /// Kills a program without a warning; it stays away until it is started.
    Kill(Component),
    Start(Component),
    /// Starts a second ztunnel on a node, beside the first.
    Overlap(String),
    /// Lets a node's older ztunnel drain and end.
    Retire(String),
}

/// What the supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply {
    Done,
    Refused(String),
    Status(Status),
}

/// The mesh as the supervisor sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Whether all manifests have been read once.
    pub(crate) loaded: bool,
    pub(crate) nodes: Vec<NodeStatus>,
    pub(crate) components: Vec<ComponentStatus>,
    pub(crate) pods: Vec<PodStatus>,
    /// Gateways that ask for a waypoint.
    #[serde(default)]
    pub(crate) waypoints: Vec<GatewayStatus>,
    #[serde(default)]
    pub(crate) routes: Vec<RouteStatus>,
    /// What is wrong with the manifests now.
    pub(crate) faults: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) space: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ComponentStatus {
    pub(crate) component: Component,
    /// None while it does not run.
    pub(crate) pid: Option<u32>,
    /// Told to stay away.
    pub(crate) stopped: bool,
    pub(crate) restarts: u32,
    /// The namespace it lives in.
    pub(crate) space: PathBuf,
    pub(crate) log: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodStatus {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) phase: String,
    /// Why it does not run.
    pub(crate) why: String,
    pub(crate) in_mesh: bool,
    /// Every container runs and passes its probes.
    pub(crate) ready: bool,
    pub(crate) space: PathBuf,
    pub(crate) files: PathBuf,
    pub(crate) containers: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) pid: Option<u32>,
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
    pub(crate) log: PathBuf,
}

/// A gateway that asks for a waypoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GatewayStatus {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) class: String,
    /// Traffic goes through it, as the control plane has it.
    pub(crate) programmed: bool,
    /// What the control plane says of that, or why there are no pods.
    pub(crate) why: String,
    /// Its pods: ready ones, how many there are to be, and those that end.
    pub(crate) ready: usize,
    pub(crate) wanted: usize,
    pub(crate) leaving: usize,
}

/// A route, as the control plane has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RouteStatus {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// All that it is attached to takes it as it is.
    pub(crate) accepted: bool,
    /// Why not.
    pub(crate) why: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("asking a mesh needs root: run this with sudo")]
    NotRoot,
    #[error("mesh {mesh} is not up; start it with `ambit local up DIR`")]
    NotUp { mesh: String },
    #[error(
        "the supervisor of mesh {mesh} is gone; remove what it left with `ambit local --name {mesh} down`"
    )]
    Crashed { mesh: String },
    #[error("the supervisor of mesh {mesh} does not answer; see {log}")]
    Silent { mesh: String, log: PathBuf, source: io::Error },
    #[error("{0}")]
    Refused(String),
}

/// Asks the supervisor of a mesh.
pub(crate) fn ask(mesh: &Mesh, request: &Request) -> Result<Reply, AskError> {
    let stream = UnixStream::connect(mesh.control()).map_err(|_| not_there(mesh))?;
    let silent = |source| AskError::Silent {
        mesh: mesh.name().to_string(),
        log: mesh.log(super::spec::SUPERVISOR),
        source,
    };
    match exchange(stream, request).map_err(silent)? {
        Reply::Refused(why) => Err(AskError::Refused(why)),
        reply => Ok(reply),
    }
}

/// Why nobody listens.
pub(crate) fn not_there(mesh: &Mesh) -> AskError {
    let name = mesh.name().to_string();
    if !nix::unistd::geteuid().is_root() {
        return AskError::NotRoot;
    }
    if mesh.dir().exists() && super::spec::supervisor(mesh).is_none() {
        return AskError::Crashed { mesh: name };
    }
    AskError::NotUp { mesh: name }
}

/// Asks for the status.
pub(crate) fn status(mesh: &Mesh) -> Result<Status, AskError> {
    match ask(mesh, &Request::Status)? {
        Reply::Status(status) => Ok(status),
        other => Err(AskError::Refused(format!("unexpected answer {other:?}"))),
    }
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Reply> {
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_named_as_they_are_shown() {
        for text in ["istiod", "cni@node-1", "ztunnel@node-2"] {
            assert_eq!(text.parse::<Component>().unwrap().to_string(), text);
        }
        for text in ["", "cni", "cni@", "waypoint@x"] {
            assert!(text.parse::<Component>().is_err(), "{text}");
        }
    }
}
