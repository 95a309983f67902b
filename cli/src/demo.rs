//! `ambit demo`: eight steps on a mesh of its own. Owns the order, the report and the clearing up;
//! what happens in a step is in the modules below.

mod enrolment;
mod failures;
mod judgement;
mod leftovers;
mod report;
mod stage;
mod tokens;
mod trace;
mod traces;
mod waypoint;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use self::leftovers::Footprint;
use self::report::{Report, Scene};
use self::stage::{Shown, Stage};
use crate::args::{chain, fail};
use crate::local::{Mesh, MeshName, Process, Spec, beside_ambit, down, up};

/// The manifests the demo starts with.
const MANIFESTS: [(&str, &str); 3] = [
    ("00-cluster.yaml", include_str!("../../deploy/demo/00-cluster.yaml")),
    ("10-pods.yaml", include_str!("../../deploy/demo/10-pods.yaml")),
    ("20-services.yaml", include_str!("../../deploy/demo/20-services.yaml")),
];

/// What `ambit demo` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Leave the mesh up afterwards, to look around in it.
    #[arg(long)]
    keep: bool,
    /// One JSON object a step: {step, ok, seen}.
    #[arg(long)]
    json: bool,
    /// Where meshes keep what they make.
    #[arg(long, env = "AMBIT_RUN_DIR", default_value = "/run/ambit")]
    run_dir: std::path::PathBuf,
    /// Where the mesh's programs are; default: beside `ambit`.
    #[arg(long)]
    bin_dir: Option<std::path::PathBuf>,
}

/// Plays the demo. Succeeds only if every step showed what it promised.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    match play(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error.as_ref()),
    }
}

fn play(args: &DemoArgs) -> Result<bool, Box<dyn std::error::Error>> {
    if !nix::unistd::geteuid().is_root() {
        return Err("the demo makes network namespaces and needs root: run it with sudo".into());
    }
    let name: MeshName = format!("demo-{}", std::process::id()).parse()?;
    let mesh = Mesh::new(&args.run_dir, name);
    let spec = Spec {
        source: mesh.manifests(),
        nodes: 2,
        bin_dir: args.bin_dir.clone().map_or_else(beside_ambit, Ok)?,
        bare: false,
        owner: Process::own(),
    };
    let before = Footprint::of_machine()?;
    let interrupted = clear_up_on_interrupt(&mesh)?;
    let cleared = Cleared { mesh: mesh.clone(), keep: args.keep, interrupted };
    let mut report = Report::new(args.json);
    up(&mesh, &spec, &MANIFESTS)?;
    let stage = Stage { mesh };
    for (number, done, act) in SCENES {
        let mut scene = Scene::new(number, done);
        if let Err(why) = act(&stage, &mut scene) {
            scene.see("the step", Err::<String, _>(why));
        }
        cleared.wait_if_interrupted();
        report.add(&scene);
    }
    let mut scene = Scene::new(8, "the mesh is taken down");
    if args.keep {
        Spec { owner: None, ..spec }.write(&stage.mesh)?;
        scene.see("kept", Ok(format!("the mesh stays up: ambit local --name {} status", stage.mesh.name())));
    } else {
        leftovers::down(&stage, &before, &mut scene);
    }
    cleared.wait_if_interrupted();
    report.add(&scene);
    drop(cleared);
    Ok(report.all_ok())
}

type Act = fn(&Stage, &mut Scene) -> Shown<()>;

const SCENES: [(u8, &str, Act); 7] = [
    (1, "two nodes, four pods, no mesh: web asks cart on the other node", enrolment::without_the_mesh),
    (2, "namespace shop gets istio.io/dataplane-mode=ambient", enrolment::joined),
    (3, "PeerAuthentication STRICT; default deny; web allowed by its identity", judgement::judged),
    (4, "a policy denies web while its connection is open", judgement::cut),
    (5, "a new pod joins through the plugin, then opts out by label", enrolment::late),
    (6, "istiod-lite, the CNI daemons and the ztunnels are killed or replaced", failures::survived),
    (
        7,
        "a Gateway and a label: cart gets a waypoint; a canary, a broken pod, another waypoint",
        waypoint::routed,
    ),
];

/// Takes the mesh away however the demo ends, short of `kill -9`.
struct Cleared {
    mesh: Mesh,
    keep: bool,
    interrupted: Arc<AtomicBool>,
}

impl Cleared {
    /// Whoever was interrupted has nothing more to say: the mesh goes under it, and then the process.
    fn wait_if_interrupted(&self) {
        while self.interrupted.load(Ordering::Relaxed) {
            std::thread::park();
        }
    }
}

impl Drop for Cleared {
    fn drop(&mut self) {
        self.wait_if_interrupted();
        if !self.keep
            && let Err(error) = down(&self.mesh)
        {
            eprintln!("ambit: {}; try `ambit local down`", chain(&error));
        }
    }
}

/// Ctrl-C and SIGTERM take the mesh away, too.
fn clear_up_on_interrupt(mesh: &Mesh) -> std::io::Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let mesh = mesh.clone();
    let interrupted = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&interrupted);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
        });
        seen.store(true, Ordering::Relaxed);
        eprintln!("interrupted; taking the mesh down");
        let code = match down(&mesh) {
            Ok(()) => 130,
            Err(error) => {
                eprintln!("ambit: {}; try `ambit local down`", chain(&error));
                1
            }
        };
        std::process::exit(code);
    });
    Ok(interrupted)
}
