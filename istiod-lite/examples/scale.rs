//! Measures the control plane with a large directory: `cargo run -p ambit-istiod-lite --release --example scale`.
//! Prints the time from its start to the first push, its memory, and how long a changed policy takes to arrive at a
//! subscriber. The control plane runs in a process of its own (this program again), so its memory is its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ambit_istiod_lite::config::{Cli, Command as Asked};
use ambit_istiod_lite::run;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::configs::control_plane::{ControlPlane, RootSource};
use ambit_wire::pb::discovery::Node;
use ambit_xds::pump::{Apply, Pump, Settings};
use ambit_xds::subscriber::Mode;
use anyhow::{Context, bail};
use clap::Parser;
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::json;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;

const PODS: usize = 1000;
const SERVICES: usize = 100;
const CHANGES: usize = 100;
const ADDRESS: &str = "127.0.0.1:35012";
const WAIT: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    let runtime = ambit_process::start::Runtimes::start("scale", 1)?;
    if std::env::args().len() > 1 {
        let Asked::Run(config) = Cli::parse().command else { bail!("only run is measured") };
        return Ok(runtime.run(run::until_signal(*config, runtime.traffic().first()))?);
    }
    let folder = tempfile::tempdir()?;
    let bytes = generate(folder.path())?;
    let signer = KeyPair::generate()?;
    std::fs::write(folder.path().join("token.pem"), signer.public_key_pem())?;
    println!("{PODS} pods, {SERVICES} services, {} KiB of manifests", bytes / 1024);
    runtime.run(measure(folder.path(), &signer))
}

/// Ends the measured process whatever happens.
struct Measured(Child);

impl Drop for Measured {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(folder: &Path, signer: &KeyPair) -> anyhow::Result<()> {
    let start = Instant::now();
    let measured = serve(folder)?;
    listens().await?;
    println!("start to listening: {:?}", start.elapsed());
    let (world, mut batches) = mpsc::channel(1);
    let mut tasks = Tasks::new(&Stop::new());
    let (pump, _handle) = Pump::new(settings(folder.join("state/root-cert.pem"), token(signer)?), world);
    tasks.spawn("pump", |stop| pump.run(stop));
    let mut resources = 0;
    while resources < PODS + SERVICES {
        resources += next(&mut batches).await?;
    }
    println!("start to first push received: {:?} ({resources} resources)", start.elapsed());
    println!("memory after the first push: {}", memory(measured.0.id())?);
    let mut delays = Vec::new();
    for round in 0..CHANGES {
        let action = if round % 2 == 0 { "DENY" } else { "ALLOW" };
        let start = Instant::now();
        std::fs::write(folder.join("mesh/policy.yaml"), policy(action))?;
        next(&mut batches).await?;
        delays.push(start.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    delays.sort();
    let at = |part: usize| delays.get(delays.len() * part / 100).copied().unwrap_or_default();
    println!("policy file to subscriber over {CHANGES} changes: p50 {:?}, p99 {:?}", at(50), at(99));
    println!("memory at the end: {}", memory(measured.0.id())?);
    Ok(())
}

/// Waits until somebody listens, so that no client of ours pauses after an attempt that came too early.
async fn listens() -> anyhow::Result<()> {
    let began = Instant::now();
    while std::net::TcpStream::connect(ADDRESS).is_err() {
        anyhow::ensure!(began.elapsed() < WAIT, "nobody listens on {ADDRESS}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn serve(folder: &Path) -> anyhow::Result<Measured> {
    let here = |name: &str| folder.join(name).into_os_string();
    let child = Command::new(std::env::current_exe()?)
        .arg("run")
        .args(
            [("--source".into(), here("mesh")), ("--state".into(), here("state"))]
                .into_iter()
                .flat_map(|(k, v): (std::ffi::OsString, _)| [k, v]),
        )
        .arg("--token-key")
        .arg(here("token.pem"))
        .args(["--secure-grpc-addr", ADDRESS, "--host", "127.0.0.1", "--grpc-addr", "127.0.0.1:0"])
        .args(["--http-addr", "127.0.0.1:0", "--monitoring-addr", "127.0.0.1:0"])
        .spawn()?;
    Ok(Measured(child))
}

fn settings(roots: PathBuf, token: String) -> Settings {
    let dial = move || {
        let roots = RootSource::File(roots.clone());
        async move {
            let remote = ControlPlane::new(&format!("https://{ADDRESS}"), roots, None)?;
            Ok(remote.connect().await?)
        }
        .boxed()
    };
    let headers = move || {
        let mut headers = MetadataMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse()?);
        Ok(headers)
    };
    let id = "ztunnel~10.0.0.9~ztunnel.istio-system~istio-system.svc.cluster.local".to_owned();
    let node = Node { id, ..Node::default() };
    Settings { node, mode: Mode::Wildcard, dial: Box::new(dial), headers: Box::new(headers) }
}

async fn next(batches: &mut mpsc::Receiver<Apply>) -> anyhow::Result<usize> {
    let Apply { batch, done } =
        tokio::time::timeout(WAIT, batches.recv()).await?.context("the pump ended")?;
    // The pump may have ended in this moment; the next call says so.
    let _ = done.send(());
    Ok(batch.delta.changes.len())
}

fn token(signer: &KeyPair) -> anyhow::Result<String> {
    let claims = json!({
        "iss": "ambit-local", "aud": ["istio-ca"], "exp": 4_000_000_000_u64,
        "sub": "system:serviceaccount:istio-system:ztunnel",
        "kubernetes.io": {
            "namespace": "istio-system", "node": {"name": "n0"}, "serviceaccount": {"name": "ztunnel"},
        },
    });
    let key = EncodingKey::from_ec_pem(signer.serialize_pem().as_bytes())?;
    Ok(encode(&Header::new(Algorithm::ES256), &claims, &key)?)
}

fn memory(process: u32) -> anyhow::Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    Ok(format!("RSS {}, peak {}", line("VmRSS:"), line("VmHWM:")))
}

fn policy(action: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: ns-0}}\n\
         spec: {{action: {action}, rules: [{{from: [{{source: {{namespaces: [ns-1]}}}}]}}]}}\n"
    )
}

/// A directory as a cluster writes it down: ten namespaces, a file each, pods with all that usually comes with them.
fn generate(folder: &Path) -> anyhow::Result<usize> {
    let mesh = folder.join("mesh");
    std::fs::create_dir(&mesh)?;
    let mut bytes = 0;
    for space in 0..10 {
        let mut text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns-{space}}}\n");
        for service in 0..SERVICES / 10 {
            write!(
                text,
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: app-{service}, namespace: ns-{space}}}\nspec:\n  clusterIP: \
                 10.96.{space}.{service}\n  ports:\n  - {{name: http, port: 80, targetPort: 8080}}\n  selector: {{app: app-{service}}}\n"
            )?;
        }
        for pod in 0..PODS / 10 {
            text += &manifest(space, pod);
        }
        bytes += text.len();
        std::fs::write(mesh.join(format!("ns-{space}.yaml")), text)?;
    }
    Ok(bytes)
}

fn manifest(space: usize, pod: usize) -> String {
    let (app, node) = (pod % 10, pod % 20);
    let mut env = String::new();
    for number in 0..8 {
        env += &format!(
            "    - {{name: SETTING_{number}, value: 'a value that nobody in the mesh reads {number}'}}\n"
        );
    }
    format!(
        "---
apiVersion: v1
kind: Pod
metadata:
  name: app-{app}-5d4f8c7b9-{pod:05}
  generateName: app-{app}-5d4f8c7b9-
  namespace: ns-{space}
  uid: 00000000-0000-0000-{space:04}-{pod:012}
  creationTimestamp: '2026-01-01T00:00:00Z'
  labels: {{app: app-{app}, pod-template-hash: 5d4f8c7b9, version: v1}}
  annotations: {{ambient.istio.io/redirection: enabled, example.com/config-hash: 0123456789abcdef0123456789abcdef}}
  ownerReferences:
  - {{apiVersion: apps/v1, kind: ReplicaSet, name: app-{app}-5d4f8c7b9, controller: true, uid: 1}}
spec:
  nodeName: n{node}
  serviceAccountName: app-{app}
  containers:
  - name: app
    image: registry.example.com/shop/app:1.2.3
    ports:
    - {{name: http, containerPort: 8080, protocol: TCP}}
    env:
{env}    resources: {{limits: {{cpu: 500m, memory: 256Mi}}, requests: {{cpu: 100m, memory: 128Mi}}}}
    volumeMounts:
    - {{mountPath: /var/run/secrets/kubernetes.io/serviceaccount, name: kube-api-access, readOnly: true}}
  tolerations:
  - {{effect: NoExecute, key: node.kubernetes.io/not-ready, operator: Exists, tolerationSeconds: 300}}
  - {{effect: NoExecute, key: node.kubernetes.io/unreachable, operator: Exists, tolerationSeconds: 300}}
status:
  phase: Running
  podIP: 10.{space}.1.{pod}
  podIPs:
  - ip: 10.{space}.1.{pod}
  - ip: fd00:{space}::{pod}
  conditions:
  - {{lastTransitionTime: '2026-01-01T00:00:00Z', status: 'True', type: Ready}}
  - {{lastTransitionTime: '2026-01-01T00:00:00Z', status: 'True', type: ContainersReady}}
  containerStatuses:
  - {{containerID: 'containerd://0123456789abcdef', image: app, name: app, ready: true, restartCount: 0}}
"
    )
}
