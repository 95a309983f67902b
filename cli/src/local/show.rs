//! What the `local` commands print, and the waits they are made of.

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ambit_cluster::files;

use super::UpArgs;
use super::layout::LAN;
use super::mesh::Mesh;
use super::report::{self, Component, PodStatus, Request, Status, ask};
use super::spec::Spec;
use super::up::{self, is_ready};
use crate::analyze::reviewed;
use crate::args::fail_as;
use crate::capture::{Capture, is_tls};
use crate::enter::{EnterArgs, NOT_ENTERED, become_command};
use crate::output::{Output, render};

/// How long a second ztunnel may take to be ready, and the first to drain.
const OVERLAP_WAIT: Duration = Duration::from_secs(20);
/// Bytes of a payload that are printed.
const TEXT_SHOWN: usize = 2048;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why a command has nothing to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShowError {
    #[error("there is no pod {0}")]
    NoPod(String),
    #[error("pod {pod} does not run: {why}")]
    NotRunning { pod: String, why: String },
    #[error("{0} was not ready within {OVERLAP_WAIT:?}")]
    Late(Component),
}

pub(super) fn up(mesh: &Mesh, args: &UpArgs) -> Result<(), Box<dyn Error>> {
    let spec = Spec {
        source: up::source(&args.dir)?,
        nodes: args.nodes,
        bin_dir: args.bin_dir.clone().map_or_else(beside_ambit, Ok)?,
        bare: args.bare,
        owner: None,
    };
    let status = up::up(mesh, &spec, &[])?;
    // The mesh does without what it cannot read, and whoever wrote it is to know.
    let review = files::review(&spec.source);
    eprint!("{}", review.map_or_else(|error| format!("{error}\n"), |it| reviewed(it.remarks)));
    println!("{}", table(mesh, &status));
    Ok(())
}

/// Where `ambit` itself is: the other programs are there too.
pub(crate) fn beside_ambit() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or(&own).to_owned())
}

pub(super) fn status(mesh: &Mesh, output: Output) -> Result<(), Box<dyn Error>> {
    let status = report::status(mesh)?;
    print!("{}", render(&status, output, |status| table(mesh, status))?);
    Ok(())
}

fn table(mesh: &Mesh, status: &Status) -> String {
    let mut lines = Vec::new();
    lines.push(format!("mesh {}", mesh.name()));
    for node in &status.nodes {
        let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!("  node     {:<24} {}", node.name, addresses.join(" ")));
    }
    for c in &status.components {
        let state = match c.pid {
            Some(_) if is_ready(mesh, c) => "ready",
            Some(_) => "starting",
            None if c.stopped => "stopped",
            None => "restarting",
        };
        lines.push(format!("  program  {:<24} {state} (restarts: {})", c.component.to_string(), c.restarts));
    }
    for pod in &status.pods {
        let name = format!("{}/{}", pod.namespace, pod.name);
        let ips: Vec<_> = pod.ips.iter().map(ToString::to_string).collect();
        let mesh = if pod.in_mesh { "in the mesh" } else { "" };
        let ready = pod.containers.iter().filter(|container| container.ready).count();
        let restarts: u32 = pod.containers.iter().map(|container| container.restarts).sum();
        let phase = format!("{} {ready}/{} (restarts: {restarts})", pod.phase, pod.containers.len());
        lines.push(format!(
            "  pod      {name:<24} {phase:<26} {:<10} {} {mesh} {}",
            pod.node,
            ips.join(" "),
            pod.why
        ));
    }
    for it in &status.waypoints {
        let name = format!("{}/{}", it.namespace, it.name);
        let state = if it.programmed { "ready" } else { "not ready" };
        let leaving = if it.leaving > 0 { format!(", {} ending", it.leaving) } else { String::new() };
        let why = if it.programmed { "" } else { it.why.as_str() };
        let state = format!("{state} {}/{}{leaving}", it.ready, it.wanted);
        lines.push(format!("  waypoint {name:<24} {state:<26} {} {why}", it.class));
    }
    for it in &status.routes {
        let name = format!("{}/{}", it.namespace, it.name);
        let state = if it.accepted { "accepted" } else { "not accepted" };
        lines.push(format!("  route    {name:<24} {state:<26} {} {}", it.kind, it.why));
    }
    for fault in &status.faults {
        lines.push(format!("  fault    {fault}"));
    }
    lines.join("\n")
}

/// Turns into the command inside the pod; returns only when that fails.
pub(super) fn exec(mesh: &Mesh, pod: &str, command: Vec<OsString>) -> ExitCode {
    match running_pod(mesh, pod) {
        Ok(found) => {
            let error = become_command(&enter_pod(mesh, &found, command));
            fail_as(error.code(), &error)
        }
        Err(error) => fail_as(NOT_ENTERED, error.as_ref()),
    }
}

/// How to enter a pod.
pub(crate) fn enter_pod(mesh: &Mesh, pod: &PodStatus, command: Vec<OsString>) -> EnterArgs {
    EnterArgs {
        netns: pod.space.clone(),
        record: None,
        hosts: Some(pod.files.join("hosts")),
        resolv: Some(pod.files.join("resolv.conf")),
        path_first: Some(mesh.programs()),
        command,
    }
}

fn running_pod(mesh: &Mesh, text: &str) -> Result<PodStatus, Box<dyn Error>> {
    let pod = find_pod(&report::status(mesh)?, text)?;
    if pod.phase == "ContainerCreating" || pod.phase == "Refused" {
        return Err(Box::new(ShowError::NotRunning { pod: text.to_owned(), why: pod.why }));
    }
    Ok(pod)
}

/// The pod called NAMESPACE/NAME, or NAME where that is enough.
pub(crate) fn find_pod(status: &Status, text: &str) -> Result<PodStatus, ShowError> {
    let (namespace, name) = text.split_once('/').map_or((None, text), |(ns, name)| (Some(ns), name));
    let mut found =
        status.pods.iter().filter(|p| p.name == name && namespace.is_none_or(|ns| ns == p.namespace));
    found.next().cloned().ok_or_else(|| ShowError::NoPod(text.to_owned()))
}

/// Takes frames until standard input ends, then prints the segments with a payload.
pub(super) fn wire(mesh: &Mesh) -> Result<(), Box<dyn Error>> {
    let capture = Capture::start(&mesh.space(LAN))?;
    println!("{{\"capturing\":true}}");
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    for segment in capture.finish() {
        let text = String::from_utf8_lossy(segment.payload.get(..TEXT_SHOWN).unwrap_or(&segment.payload));
        let line = serde_json::json!({
            "from": SocketAddr::from(segment.from),
            "to": SocketAddr::from(segment.to),
            "bytes": segment.payload.len(),
            "tls": is_tls(&segment),
            "text": text,
        });
        println!("{line}");
    }
    Ok(())
}

pub(super) fn tell(mesh: &Mesh, request: &Request) -> Result<(), Box<dyn Error>> {
    ask(mesh, request)?;
    Ok(())
}

/// A second ztunnel, and when it is ready the end of the first.
pub(super) fn overlap(mesh: &Mesh, node: &str) -> Result<(), Box<dyn Error>> {
    replace_ztunnel(mesh, node)?;
    println!("ztunnel@{node} replaced");
    Ok(())
}

/// Replaces a node's ztunnel without a gap.
pub(crate) fn replace_ztunnel(mesh: &Mesh, node: &str) -> Result<(), Box<dyn Error>> {
    let component = Component::Ztunnel(node.to_owned());
    ask(mesh, &Request::Overlap(node.to_owned()))?;
    until(mesh, &component, |status| {
        let mut own = status.components.iter().filter(|c| c.component == component);
        own.next_back().is_some_and(|newest| is_ready(mesh, newest))
    })?;
    ask(mesh, &Request::Retire(node.to_owned()))?;
    until(mesh, &component, |status| {
        status.components.iter().filter(|c| c.component == component).count() == 1
    })?;
    Ok(())
}

fn until(mesh: &Mesh, what: &Component, met: impl Fn(&Status) -> bool) -> Result<(), Box<dyn Error>> {
    let limit = Instant::now() + OVERLAP_WAIT;
    while !met(&report::status(mesh)?) {
        if Instant::now() >= limit {
            return Err(Box::new(ShowError::Late(what.clone())));
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
    Ok(())
}
