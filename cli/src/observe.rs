//! `ambit why`: asks the ztunnels of a mesh what they know, and the waypoint on the way, and has it explained.
//! Owns the asking, of a mesh on this machine, of a cluster, or of a file; the explanation is `why`'s.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ambit_model::snapshot::Snapshot;
use ambit_wire::local::{LocalError, TEXT_LIMIT, read_dump};
use clap::Args;
use serde::Serialize;

use crate::args::{Which, fail};
use crate::cluster;
use crate::local::{AskError, Component, Mesh, SpaceError, status, within};
use crate::output::{Output, render};
use crate::pod::{Answer, FetchError, UrlError, get};
use crate::why::{
    self, Explanation, RequestExplanation, Told, ToldError, Unclear, Wanted, explain, explain_request,
    waypoint_of,
};

/// A ztunnel writes its dump from memory.
const DUMP_WAIT: Duration = Duration::from_secs(5);
const ADMIN: &str = "http://127.0.0.1:15000";

/// What `ambit why` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    which: Which,
    /// Ask the ztunnels of a Kubernetes cluster; --kubeconfig and --context say so, too.
    #[arg(long, conflicts_with = "name")]
    cluster: bool,
    #[command(flatten)]
    of: cluster::Which,
    /// A ztunnel's dump in a file, instead of a mesh.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["cluster", "name", "kubeconfig", "context"])]
    file: Option<PathBuf>,
    /// The pod that connects: NAME or NAMESPACE/NAME. Of a request: its method.
    #[arg(value_name = "SRC|METHOD")]
    src: String,
    /// Where to: an address, a service's host name or a pod, and the port. Of a request: its URL.
    #[arg(value_name = "DST:PORT|URL")]
    dst: String,
    /// Explain a request, of this pod: NAME or NAMESPACE/NAME.
    #[arg(long, value_name = "POD", conflicts_with = "file")]
    from: Option<String>,
    /// A header of the request, `NAME: VALUE`; as often as there are some.
    #[arg(short = 'H', long = "header", value_name = "HEADER", requires = "from")]
    headers: Vec<String>,
    /// How to print it.
    #[arg(short = 'o', long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhyError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("no ztunnel runs in mesh {0}; without one nothing is tunnelled")]
    NoZtunnel(String),
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("{component} does not give its dump")]
    Dump { component: Component, source: FetchError },
    #[error("{component} gave a dump that cannot be read")]
    Unreadable { component: Component, source: LocalError },
    #[error(transparent)]
    Unclear(#[from] Unclear),
    #[error("waypoint {pod} does not run here; `ambit local status` says which pods do")]
    NoWaypoint { pod: String },
    #[error("waypoint {pod} does not tell what it knows")]
    Silent { pod: String, source: FetchError },
    #[error("waypoint {pod} does not tell what it knows (HTTP {status} for {path})")]
    Untold { pod: String, path: &'static str, status: u16 },
    #[error(transparent)]
    Told(#[from] ToldError),
}

/// Explains a connection, or a request.
pub(crate) fn why(args: &WhyArgs) -> ExitCode {
    let WhyArgs { src, dst, .. } = args;
    let is_cluster = args.cluster || args.of.kubeconfig.is_some() || args.of.context.is_some();
    if let Some(from) = &args.from {
        let explained = match Wanted::read(src, dst, &args.headers) {
            Err(error) => Err(error.into()),
            Ok(wanted) if is_cluster => cluster::why_request(&args.of, from, &wanted),
            Ok(wanted) => ask_for(&args.which.mesh(), from, &wanted).map_err(Into::into),
        };
        return match explained {
            Ok(explanation) => show(&explanation, args.output),
            Err(error) => fail(error.as_ref()),
        };
    }
    let explained = match &args.file {
        Some(path) => in_file(path, src, dst),
        None if is_cluster => cluster::why(&args.of, src, dst),
        None => ask(&args.which.mesh(), src, dst).map_err(Into::into),
    };
    match explained {
        Ok(explanation) => show(&explanation, args.output),
        Err(error) => fail(error.as_ref()),
    }
}

/// What the mesh's proxies would do with this connection, by what they know now.
pub(crate) fn ask(mesh: &Mesh, src: &str, dst: &str) -> Result<Explanation, WhyError> {
    Ok(explain(&world(mesh)?, src, dst)?)
}

/// What becomes of a request, by what the waypoint on its way knows now.
pub(crate) fn ask_for(mesh: &Mesh, from: &str, wanted: &Wanted) -> Result<RequestExplanation, WhyError> {
    let connection = ask(mesh, from, &wanted.dialled())?;
    let told = match waypoint_of(&connection) {
        Some(pod) => Some(told(mesh, pod)?),
        None => None,
    };
    Ok(explain_request(wanted, connection, told.as_ref())?)
}

/// What a waypoint knows.
fn told(mesh: &Mesh, pod: &str) -> Result<Told, WhyError> {
    let status = status(mesh)?;
    let is_it = |it: &&crate::local::PodStatus| format!("{}/{}", it.namespace, it.name) == pod;
    let none = || WhyError::NoWaypoint { pod: pod.into() };
    let space = &status.pods.iter().find(is_it).ok_or_else(none)?.space;
    let ask = |path: &'static str| {
        let answer = tell(space, path)?.map_err(|source| WhyError::Silent { pod: pod.into(), source })?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(WhyError::Untold { pod: pod.into(), path, status }),
        }
    };
    Ok(Told { dump: ask(why::DUMP)?, resources: ask(why::RESOURCES)? })
}

/// What the proxy of this dump would do with it.
fn in_file(path: &Path, src: &str, dst: &str) -> Result<Explanation, Box<dyn Error>> {
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(wrong)?.len();
    if size > u64::try_from(TEXT_LIMIT)? {
        return Err(format!("{} is larger than any dump", path.display()).into());
    }
    let known = read_dump(&std::fs::read_to_string(path).map_err(wrong)?)?;
    Ok(explain(&Snapshot::default().with(&known), src, dst)?)
}

/// What all ztunnels know together: each knows its own node best.
fn world(mesh: &Mesh) -> Result<Snapshot, WhyError> {
    let status = status(mesh)?;
    let mut world = Snapshot::default();
    let mut asked = 0;
    for ztunnel in status.components.iter().filter(|c| matches!(c.component, Component::Ztunnel(_))) {
        if ztunnel.pid.is_none() {
            continue;
        }
        let component = || ztunnel.component.clone();
        let dump =
            dump(&ztunnel.space)?.map_err(|source| WhyError::Dump { component: component(), source })?;
        let known =
            read_dump(&dump).map_err(|source| WhyError::Unreadable { component: component(), source })?;
        world = world.with(&known);
        asked += 1;
    }
    if asked == 0 { Err(WhyError::NoZtunnel(mesh.name().to_string())) } else { Ok(world) }
}

fn dump(space: &Path) -> Result<Result<String, FetchError>, WhyError> {
    Ok(tell(space, why::DUMP)?.map(|answer| answer.body))
}

fn tell(space: &Path, path: &str) -> Result<Result<Answer, FetchError>, WhyError> {
    let url = format!("{ADMIN}{path}").parse()?;
    Ok(within(space, || get(&url, DUMP_WAIT))?)
}

fn show(explanation: &(impl Serialize + ToString), output: Output) -> ExitCode {
    match render(explanation, output, ToString::to_string) {
        Ok(text) => print!("{text}"),
        Err(error) => return fail(error.as_ref()),
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_in_a_file_is_explained_and_a_file_that_is_not_there_is_named() {
        let dump = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dump.json"));
        let said = in_file(dump, "default/client", "web:80").unwrap().to_string();
        assert!(said.starts_with("default/client -> web:80: allowed"), "{said}");
        assert!(
            said.contains("HBONE to") && said.contains("spiffe://cluster.local/ns/default/sa/default"),
            "{said}"
        );
        let missing = in_file(Path::new("/nonexistent.json"), "a", "b:1").unwrap_err().to_string();
        assert!(missing.contains("/nonexistent.json"), "{missing}");
    }
}
