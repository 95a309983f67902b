//! `ambit why`: asks the ztunnels of a mesh what they know, and has it explained.
//! Owns the asking; the explanation is `why`'s.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ambit_model::snapshot::Snapshot;
use ambit_wire::local::{LocalError, read_dump};
use clap::Args;

use crate::args::{Which, fail};
use crate::local::{AskError, Component, Mesh, SpaceError, status, within};
use crate::output::{Output, render};
use crate::pod::{FetchError, UrlError, get};
use crate::why::{Explanation, Unclear, explain};

/// A ztunnel writes its dump from memory.
const DUMP_WAIT: Duration = Duration::from_secs(5);
const DUMP: &str = "http://127.0.0.1:15000/config_dump";

/// What `ambit why` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    which: Which,
    /// The pod that connects: NAME or NAMESPACE/NAME.
    src: String,
    /// Where to: an address, a service's host name or a pod, and the port.
    #[arg(value_name = "DST:PORT")]
    dst: String,
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
}

/// Explains a connection.
pub(crate) fn why(args: &WhyArgs) -> ExitCode {
    match ask(&args.which.mesh(), &args.src, &args.dst) {
        Ok(explanation) => show(&explanation, args.output),
        Err(error) => fail(&error),
    }
}

/// What the mesh's proxies would do with this connection, by what they know now.
pub(crate) fn ask(mesh: &Mesh, src: &str, dst: &str) -> Result<Explanation, WhyError> {
    Ok(explain(&world(mesh)?, src, dst)?)
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
    let url = DUMP.parse()?;
    Ok(within(space, || get(&url, DUMP_WAIT))?.map(|answer| answer.body))
}

fn show(explanation: &Explanation, output: Output) -> ExitCode {
    match render(explanation, output, ToString::to_string) {
        Ok(text) => print!("{text}"),
        Err(error) => return fail(error.as_ref()),
    }
    ExitCode::SUCCESS
}
