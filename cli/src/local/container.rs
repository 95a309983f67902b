//! A pod's containers as processes: what a manifest says of them beyond the typed pod, and what a local mesh
//! cannot run. Pure; who starts them is `pods`.

use std::net::IpAddr;
use std::time::Duration;

use ambit_cluster::kinds::scalar::{Port, PortName};
use serde::Deserialize;
use serde_json::Value;

use super::kept::Restart;
use super::probe::{Ask, Probe, ProbeKind, Probes};

/// What a pod is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodPlan {
    pub(crate) containers: Vec<Container>,
    pub(crate) restart: Restart,
    /// How long its containers may take to end when asked; none: as long as is usual here.
    pub(crate) grace: Option<Duration>,
    /// What more names mean in it.
    pub(crate) aliases: Vec<Alias>,
}

/// Names of an address, as `hostAliases` gives them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Alias {
    pub(crate) ip: IpAddr,
    pub(crate) hostnames: Vec<String>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) name: String,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// Variables with a plain value.
    pub(crate) env: Vec<(String, String)>,
    /// Variables that tell of the pod itself; others are not set here.
    pub(crate) fields: Vec<(String, Field)>,
    pub(crate) probes: Probes,
}

/// What a variable may tell of its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Name,
    Namespace,
    Uid,
    Node,
    Address,
}

impl Field {
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "metadata.name" => Self::Name,
            "metadata.namespace" => Self::Namespace,
            "metadata.uid" => Self::Uid,
            "spec.nodeName" => Self::Node,
            "status.podIP" => Self::Address,
            _ => return None,
        })
    }
}

/// Why a pod cannot run here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("the pod is not as Kubernetes has it: {0}")]
    Malformed(String),
    #[error("the pod has no containers")]
    Empty,
    #[error("a local mesh runs no init containers: start what {0} does from a container's command")]
    Init(String),
    #[error(
        "container {0} has no command: a local mesh has no images, so spec.containers[].command says what runs"
    )]
    NoCommand(String),
    #[error("restartPolicy {0} is none of Always, OnFailure, Never")]
    Restart(String),
    #[error("{kind} of container {container}: {problem}")]
    Probe { container: String, kind: ProbeKind, problem: &'static str },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    spec: DocumentSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DocumentSpec {
    containers: Vec<ContainerSpec>,
    init_containers: Vec<ContainerSpec>,
    restart_policy: String,
    termination_grace_period_seconds: Option<u32>,
    host_aliases: Vec<Alias>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerSpec {
    name: String,
    command: Vec<String>,
    args: Vec<String>,
    env: Vec<EnvVar>,
    ports: Vec<NamedPort>,
    startup_probe: Option<ProbeSpec>,
    readiness_probe: Option<ProbeSpec>,
    liveness_probe: Option<ProbeSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EnvVar {
    name: String,
    value: String,
    value_from: Option<ValueFrom>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ValueFrom {
    field_ref: FieldRef,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FieldRef {
    field_path: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NamedPort {
    name: String,
    container_port: Port,
}

/// Numbers that are left out, or 0, are Kubernetes' own defaults.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ProbeSpec {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    exec: Option<ExecCommand>,
    initial_delay_seconds: u32,
    period_seconds: u32,
    timeout_seconds: u32,
    success_threshold: u32,
    failure_threshold: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    port: PortName,
    #[serde(default)]
    path: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    http_headers: Vec<EnvVar>,
}

#[derive(Debug, Clone, Deserialize)]
struct TcpSocket {
    port: PortName,
    #[serde(default)]
    host: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ExecCommand {
    command: Vec<String>,
}

/// Reads what a pod is to run from its manifest.
pub(crate) fn plan(manifest: &Value) -> Result<PodPlan, Unfit> {
    let document = Document::deserialize(manifest).map_err(|e| Unfit::Malformed(e.to_string()))?;
    let DocumentSpec { containers, init_containers, restart_policy, .. } = document.spec;
    let grace = document.spec.termination_grace_period_seconds.map(|it| Duration::from_secs(it.into()));
    let aliases = document.spec.host_aliases;
    if let Some(init) = init_containers.first() {
        return Err(Unfit::Init(init.name.clone()));
    }
    if containers.is_empty() {
        return Err(Unfit::Empty);
    }
    let restart = match restart_policy.as_str() {
        "" | "Always" => Restart::Always,
        "OnFailure" => Restart::OnFailure,
        "Never" => Restart::Never,
        _ => return Err(Unfit::Restart(restart_policy)),
    };
    let containers = containers.into_iter().map(container).collect::<Result<_, _>>()?;
    Ok(PodPlan { containers, restart, grace, aliases })
}

fn container(spec: ContainerSpec) -> Result<Container, Unfit> {
    let read = |kind, probe: &Option<ProbeSpec>| {
        let read = probe.as_ref().map(|probe| read_probe(probe, &spec.ports)).transpose();
        read.map_err(|problem| Unfit::Probe { container: spec.name.clone(), kind, problem })
    };
    let probes = Probes {
        startup: read(ProbeKind::Startup, &spec.startup_probe)?,
        readiness: read(ProbeKind::Readiness, &spec.readiness_probe)?,
        liveness: read(ProbeKind::Liveness, &spec.liveness_probe)?,
    };
    if spec.command.is_empty() {
        return Err(Unfit::NoCommand(spec.name));
    }
    Ok(Container {
        name: spec.name,
        command: spec.command.into_iter().chain(spec.args).collect(),
        fields: spec.env.iter().filter_map(field).collect(),
        env: spec
            .env
            .into_iter()
            .filter(|var| var.value_from.is_none())
            .map(|var| (var.name, var.value))
            .collect(),
        probes,
    })
}

fn field(var: &EnvVar) -> Option<(String, Field)> {
    let path = &var.value_from.as_ref()?.field_ref.field_path;
    Some((var.name.clone(), Field::at(path)?))
}

fn read_probe(spec: &ProbeSpec, ports: &[NamedPort]) -> Result<Probe, &'static str> {
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    let seconds = |given: u32| Duration::from_secs(given.into());
    let ask = match (&spec.http_get, &spec.tcp_socket, &spec.exec) {
        (Some(http), None, None) => Ask::Http {
            port: port(&http.port, &http.host, ports)?,
            path: path(&http.path, &http.scheme)?,
            headers: headers(&http.http_headers)?,
        },
        (None, Some(tcp), None) => Ask::Tcp { port: port(&tcp.port, &tcp.host, ports)? },
        (None, None, Some(exec)) if !exec.command.is_empty() => Ask::Exec { command: exec.command.clone() },
        _ => return Err("a local mesh probes by one of httpGet, tcpSocket and exec"),
    };
    Ok(Probe {
        ask,
        delay: seconds(spec.initial_delay_seconds),
        period: seconds(or(spec.period_seconds, 10)),
        limit: seconds(or(spec.timeout_seconds, 1)),
        successes: or(spec.success_threshold, 1),
        failures: or(spec.failure_threshold, 3),
    })
}

fn port(wanted: &PortName, host: &str, ports: &[NamedPort]) -> Result<u16, &'static str> {
    if !host.is_empty() {
        return Err("a local mesh probes the pod itself; leave out host");
    }
    match wanted {
        PortName::Number(port) => Ok(*port),
        PortName::Name(name) => {
            let named = ports.iter().find(|port| port.name == *name);
            named.map(|port| port.container_port.0).ok_or("no port of the container has this name")
        }
    }
}

fn path(path: &str, scheme: &str) -> Result<String, &'static str> {
    if !matches!(scheme, "" | "HTTP") {
        return Err("a local mesh probes by plain HTTP only");
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if path.contains(|c: char| c.is_whitespace() || c.is_control()) { Err("not a path") } else { Ok(path) }
}

fn headers(given: &[EnvVar]) -> Result<Vec<(String, String)>, &'static str> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let fine = |header: &EnvVar| {
        !header.name.is_empty() && header.name.chars().all(token) && !header.value.contains(char::is_control)
    };
    if !given.iter().all(fine) {
        return Err("httpHeaders holds what is no header");
    }
    Ok(given.iter().map(|header| (header.name.clone(), header.value.clone())).collect())
}

#[cfg(test)]
mod tests;
