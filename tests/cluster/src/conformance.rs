//! The Gateway API's own tests, against our mesh on a real cluster: its namespaces in the mesh, a waypoint each, and the
//! suite as it is published. Owns the order, and what is told of it.

mod echo;
mod verdict;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::binaries::{self, Suite};
use crate::definitions::Channel;
use crate::lab::Lab;
use crate::layout::Layout;
use crate::mesh::{on, told};
use verdict::{Part, RELEASE, Verdict};

/// What we say that we do: every feature that a test of meshes asks for.
const FEATURES: &str = "Mesh,HTTPRoute,GRPCRoute,\
    MeshClusterIPMatching,MeshConsumerRoute,MeshHTTPRouteRewritePath,MeshHTTPRouteSchemeRedirect,\
    MeshHTTPRouteRedirectPort,MeshHTTPRouteRedirectPath,MeshHTTPRouteBackendRequestHeaderModification,\
    MeshHTTPRouteQueryParamMatching,MeshHTTPRouteNamedRouteRule,\
    HTTPRouteResponseHeaderModification,HTTPRouteParentRefPort,\
    HTTPRoute303RedirectStatusCode,HTTPRoute307RedirectStatusCode,HTTPRoute308RedirectStatusCode";
/// How the suite's namespaces come into the mesh, and to their waypoints.
const LABELS: &str = "istio.io/dataplane-mode=ambient,istio.io/use-waypoint=waypoint";
/// The same, where we make them before the suite does.
const ENROLLED: &str = "{istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}";
/// Namespaces of the suite's tests of meshes, whose services go through a waypoint.
const MESHES: [&str; 2] = ["gateway-conformance-mesh", "gateway-conformance-mesh-consumer"];
/// The one of its tests of gateways. It has a pod in whose network those run.
const GATEWAYS: &str = "gateway-conformance-infra";
/// Namespaces in which the suite waits for pods that only its tests of gateways would make.
const EMPTY: [&str; 2] = ["gateway-conformance-app-backend", "gateway-conformance-web-backend"];
/// A pod that is ready and does nothing.
const IDLE: &str = "idle";
/// The node that it is on, where that matters.
const NODE: &str = "n1";
/// A waypoint's pod may have to wait for two cores.
const READY: Duration = Duration::from_secs(180);
/// All tests, ten times what they take.
const LIMIT: &str = "1500";

/// What was asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Asked {
    /// Where reports are written; none are unless told, nor where a single test is asked for.
    #[arg(long)]
    out: Option<PathBuf>,
    /// One test instead of all, for example `MeshPorts`.
    #[arg(long)]
    test: Option<String>,
    /// Use the cluster of this name, which is up, and leave it up.
    #[arg(long)]
    here: bool,
}

/// Runs it, on a cluster of its own unless told.
pub fn run(layout: &Layout, asked: &Asked) -> Result<()> {
    // What takes minutes the first time comes before there is a cluster.
    binaries::suite()?;
    let story = |lab: &Lab| {
        if lab.kubectl(&["get", "namespace", GATEWAYS]).is_err() {
            prepare(lab)?;
        }
        examine(lab, asked)
    };
    if asked.here { on(&Lab::attach(layout)?, "conformance", story) } else { told("conformance", story) }
}

/// Gives a cluster all that the suite needs.
fn prepare(lab: &Lab) -> Result<()> {
    let suite = binaries::suite()?;
    let begun = Instant::now();
    for image in echo::write(lab.layout(), &suite)? {
        lab.import_image(&image)?;
    }
    lab.import_programs()?;
    lab.install_gateway_api(Channel::Standard)?;
    lab.install_mesh(&[])?;
    for namespace in EMPTY {
        lab.apply(&format!("{}\n---\n{}", of_name(namespace, "{}"), idle(namespace)))?;
    }
    for namespace in MESHES.into_iter().chain([GATEWAYS]) {
        lab.apply(&format!("{}\n---\n{}", of_name(namespace, ENROLLED), waypoint(namespace)))?;
    }
    lab.apply(&idle(GATEWAYS))?;
    for namespace in MESHES.into_iter().chain([GATEWAYS]) {
        lab.pods_ready(namespace, "gateway.networking.k8s.io/gateway-name=waypoint", READY)?;
    }
    lab.is_in(GATEWAYS, IDLE)?;
    println!("{:5.1} s  the mesh, its waypoints and the suite are ready", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Runs the suite on a cluster that is prepared.
fn examine(lab: &Lab, asked: &Asked) -> Result<()> {
    let suite = binaries::suite()?;
    let folder = lab.layout().dir().join("conformance");
    fs::create_dir_all(&folder)?;
    let report = folder.join("report.yaml");
    let mut verdict = Verdict::default();
    for part in Part::ALL {
        let mut command = command(lab, &suite, part)?;
        match &asked.test {
            Some(test) if part.has(test) => command.arg(format!("-run-test={test}")),
            Some(_) => continue,
            None if part == Part::Published => command.arg(format!("-report-output={}", report.display())),
            None => &mut command,
        };
        listen(command, &folder.join(format!("{}.log", part.function())), &mut verdict)?;
    }
    println!("{}", verdict.summary());
    match (&asked.test, &asked.out) {
        (Some(test), _) => verdict.one(test),
        (None, out) => {
            verdict.all()?;
            out.as_ref().map_or(Ok(()), |out| publish(out, &report, &verdict))
        }
    }
}

/// The suite's program, told what to run and for whom. Tests of gateways ask by themselves, not from within pods: they run
/// in a pod's network, so that what they ask is asked by that pod.
fn command(lab: &Lab, suite: &Suite, part: Part) -> Result<Command> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", LIMIT]).env("KUBECONFIG", lab.kubeconfig());
    if part == Part::Twins {
        let address = lab.kubectl(&["-n", GATEWAYS, "get", "pod", IDLE, "-o", "jsonpath={.status.podIP}"])?;
        let network = lab.node(NODE)?.pod_network(&address)?;
        command.arg("nsenter").arg(format!("--net={}", network.display()));
    }
    command.arg(&suite.tests);
    command.args(["-test.v", "-test.timeout=0", &format!("-test.run=^{}$", part.function())]);
    command.args([
        "-conformance-profiles=MESH-HTTP,MESH-GRPC",
        &format!("-supported-features={FEATURES}"),
        &format!("-namespace-labels={LABELS}"),
        // The cluster is thrown away.
        "-cleanup-base-resources=false",
        "-organization=ambit",
        "-project=ambit",
        "-url=README.md",
        concat!("-version=v", env!("CARGO_PKG_VERSION")),
        "-contact=SECURITY.md",
    ]);
    Ok(command)
}

/// Runs it to its end. All that it says is kept, and what it says of a test's end is told.
fn listen(mut command: Command, log: &Path, verdict: &mut Verdict) -> Result<()> {
    let mut kept = File::create(log).with_context(|| log.display().to_string())?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(kept.try_clone()?);
    let mut running = command.spawn().context("`timeout` does not start")?;
    let said = running.stdout.take().context("its output is not read")?;
    let mut failed = Vec::new();
    for line in BufReader::new(said).lines() {
        let line = line?;
        writeln!(kept, "{line}")?;
        if let Some(end) = verdict.hear(&line) {
            println!("         {end}");
        }
        if verdict::is_reason(&line) {
            failed.push(line);
        }
    }
    let status = running.wait()?;
    if !status.success() {
        eprintln!("--- {} has all; reasons in it:\n{}", log.display(), failed.join("\n"));
        eprintln!("--- it ends with\n{}", crate::wait::tail(log));
    }
    ensure!(
        status.code().is_some_and(|code| code <= 1),
        "the suite ended with {status}: see {}",
        log.display()
    );
    Ok(())
}

/// Keeps the suite's own report, and what it has no place for: tests that are of no profile.
fn publish(out: &Path, report: &Path, verdict: &Verdict) -> Result<()> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let counted = out.join(format!("{RELEASE}.yaml"));
    fs::copy(report, &counted).with_context(|| report.display().to_string())?;
    let all = out.join(format!("{RELEASE}-tests.txt"));
    fs::write(&all, verdict.table())?;
    println!("written: {} and {}", counted.display(), all.display());
    Ok(())
}

fn of_name(namespace: &str, labels: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {labels}}}}}")
}

fn idle(namespace: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {IDLE}, namespace: {namespace}}}, spec: {{nodeName: {NODE}, \
         terminationGracePeriodSeconds: 1, containers: [{{name: idle, image: '{}'}}]}}}}",
        crate::images::PAUSE
    )
}

fn waypoint(namespace: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: waypoint, namespace: {namespace}}}, \
         spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}}}"
    )
}
