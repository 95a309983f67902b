//! `ambit local up`: checks, makes the run directory, starts the supervisor, waits until all is ready.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::down::{self, DownError};
use super::mesh::Mesh;
use super::programs::BINARIES;
use super::report::{Component, ComponentStatus, Status, status};
use super::space;
use super::spec::{SUPERVISOR, Spec, SpecError, supervisor};

/// How long a mesh may take until everything in it runs.
const READY_WAIT: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// The lines of the supervisor's log that are shown when it ended.
const LOG_LINES_SHOWN: usize = 5;

/// Why a mesh is not up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    #[error("a local mesh needs root: run this with sudo")]
    NotRoot,
    #[error("cannot use the directory of manifests {path}")]
    Source { path: PathBuf, source: io::Error },
    #[error(
        "{program} is not in {dir}: build it with `cargo build --workspace`, or name its place with --bin-dir"
    )]
    NoProgram { program: &'static str, dir: PathBuf },
    #[error("mesh {mesh} is up already: change it through its manifests, or end it with `ambit local down`")]
    UpAlready { mesh: String },
    #[error("cannot make {path}")]
    Make { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("what a crashed mesh left could not be removed")]
    Down(#[from] DownError),
    #[error("the supervisor ended: {said}")]
    Ended { said: String },
    #[error(
        "not ready within {READY_WAIT:?}: {missing}; look with `ambit local status` and `logs`, end it with `down`"
    )]
    NotReady { missing: String },
}

/// Starts a mesh and waits until it is ready. A crashed one of the same name is taken away first.
/// `manifests` are written to its source first: for a mesh that keeps them in its own directory.
pub(crate) fn up(mesh: &Mesh, spec: &Spec, manifests: &[(&str, &str)]) -> Result<Status, UpError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(UpError::NotRoot);
    }
    for program in BINARIES.iter().filter(|_| !spec.bare) {
        if !spec.bin_dir.join(program).is_file() {
            return Err(UpError::NoProgram { program, dir: spec.bin_dir.clone() });
        }
    }
    if supervisor(mesh).is_some() {
        return Err(UpError::UpAlready { mesh: mesh.name().to_string() });
    }
    if mesh.dir().exists() {
        eprintln!("removing what a crashed mesh {} left", mesh.name());
        down::down(mesh)?;
    }
    make(mesh, spec)?;
    for (name, text) in manifests {
        let path = spec.source.join(name);
        let written = fs::create_dir_all(&spec.source).and_then(|()| fs::write(&path, text));
        written.map_err(|source| UpError::Make { path, source })?;
    }
    let supervisor = start(mesh)?;
    let up = wait(mesh, supervisor);
    if let Err(UpError::Ended { .. }) = up {
        // Nobody is left who could tell more.
        down::down(mesh)?;
    }
    up
}

/// The canonical path of a directory of manifests.
pub(crate) fn source(path: &Path) -> Result<PathBuf, UpError> {
    let failed = |source| UpError::Source { path: path.to_owned(), source };
    let source = fs::canonicalize(path).map_err(failed)?;
    fs::read_dir(&source).map_err(failed)?;
    Ok(source)
}

fn make(mesh: &Mesh, spec: &Spec) -> Result<(), UpError> {
    for path in mesh.skeleton() {
        let made = fs::create_dir_all(&path);
        made.map_err(|source| UpError::Make { path, source })?;
    }
    // Keys and tokens live below; the sockets too are for root alone.
    let path = mesh.dir().to_owned();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o700))
        .map_err(|source| UpError::Make { path, source })?;
    Ok(spec.write(mesh)?)
}

fn start(mesh: &Mesh) -> Result<Child, UpError> {
    let failed = |path: PathBuf| move |source| UpError::Make { path, source };
    let record = mesh.process(SUPERVISOR);
    File::create(&record).and_then(|file| file.sync_all()).map_err(failed(record))?;
    let log = File::create(mesh.log(SUPERVISOR)).map_err(failed(mesh.log(SUPERVISOR)))?;
    let errors = log.try_clone().map_err(failed(mesh.log(SUPERVISOR)))?;
    let root = mesh.dir().parent().unwrap_or_else(|| mesh.dir());
    let supervisor = Command::new("/proc/self/exe")
        .args(["local", "--name", &mesh.name().to_string(), "--run-dir"])
        .arg(root)
        .arg("supervise")
        .current_dir("/")
        // A group of its own: Ctrl-C at the terminal is not meant for it.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn();
    supervisor.map_err(failed(mesh.log(SUPERVISOR)))
}

fn wait(mesh: &Mesh, mut supervisor: Child) -> Result<Status, UpError> {
    let until = Instant::now() + READY_WAIT;
    loop {
        let ended = !matches!(supervisor.try_wait(), Ok(None));
        let missing = match status(mesh) {
            Ok(status) => match missing(mesh, &status) {
                None => return Ok(status),
                Some(missing) => missing,
            },
            Err(_) if ended => return Err(UpError::Ended { said: last_words(mesh) }),
            Err(_) => "supervisor".to_owned(),
        };
        if Instant::now() >= until {
            return Err(UpError::NotReady { missing });
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// What is not as it should be yet; none when all is.
pub(crate) fn missing(mesh: &Mesh, status: &Status) -> Option<String> {
    if !status.loaded {
        return Some("manifests".to_owned());
    }
    if let Some(away) = status.components.iter().find(|c| !is_ready(mesh, c)) {
        return Some(format!("{} (see {})", away.component, away.log.display()));
    }
    let has_programs = !status.components.is_empty();
    let ztunnels = status.components.iter().filter(|c| matches!(c.component, Component::Ztunnel(_))).count();
    if has_programs && ztunnels < status.nodes.len() {
        return Some("ztunnel (istiod-lite has made no root certificate yet)".to_owned());
    }
    if let Some(waiting) = status.pods.iter().find(|pod| pod.phase == "ContainerCreating") {
        return Some(format!("pod {}/{}: {}", waiting.namespace, waiting.name, waiting.why));
    }
    let waiting = status.waypoints.iter().find(|it| it.wanted > 0 && !it.programmed)?;
    Some(format!("waypoint {}/{}: {}", waiting.namespace, waiting.name, waiting.why))
}

/// Whether a program says of itself that it can work.
pub(crate) fn is_ready(mesh: &Mesh, status: &ComponentStatus) -> bool {
    if status.pid.is_none() {
        return false;
    }
    match &status.component {
        Component::Istiod => answers(&status.space, 15012),
        Component::Cni(node) => mesh.node(node).join("pluginevent.sock").exists(),
        Component::Ztunnel(_) => says_ready(&status.space),
    }
}

fn answers(space: &Path, port: u16) -> bool {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tried = space::within(space, || TcpStream::connect_timeout(&to, Duration::from_millis(200)).is_ok());
    tried.unwrap_or(false)
}

/// ztunnel answers 200 on its readiness port only when it could carry traffic.
fn says_ready(space: &Path) -> bool {
    let Ok(url) = "http://127.0.0.1:15021/healthz/ready".parse() else { return false };
    let asked = space::within(space, || crate::pod::get(&url, Duration::from_secs(1)));
    matches!(asked, Ok(Ok(answer)) if answer.status == 200)
}

fn last_words(mesh: &Mesh) -> String {
    let text = fs::read_to_string(mesh.log(SUPERVISOR)).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
    lines.get(from..).unwrap_or_default().join("; ").trim_start_matches("ambit: ").to_owned()
}
