//! The control plane: etcd, API server, controller manager, scheduler, and the kube-proxy of their host.
//! Owns how each is started and when it is ready. Each can be killed and started again on its own.

use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::enter;
use crate::kubectl;
use crate::layout::{Layout, PLANE};
use crate::process::{self, Process};
use crate::spec::Spec;
use crate::wait::wait;

/// The API server answers two seconds after its start on a quiet machine.
const API_WAIT: Duration = Duration::from_secs(240);
/// A killed process is gone at once, unless the kernel still works for it.
const KILL_WAIT: Duration = Duration::from_secs(30);

/// Beta in Kubernetes 1.34, and off by itself.
const TRUST_BUNDLES: [&str; 2] = [
    "--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true",
    "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
];

/// A program of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers of the built-in kinds.
    ControllerManager,
    /// Finds nodes for pods.
    Scheduler,
    /// Translates service addresses for the API server, which calls webhooks by them.
    Proxy,
}

impl Component {
    /// All, in the order in which they need each other.
    pub const ALL: [Self; 5] =
        [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler, Self::Proxy];

    /// Its name, also that of its log and its record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Proxy => "kube-proxy",
        }
    }

    /// Starts it.
    pub fn start(self, layout: &Layout, spec: &Spec) -> Result<()> {
        ensure!(self.process(layout).is_none(), "{} runs already", self.name());
        let mut child = enter::start(layout, PLANE, self.name(), &self.command(layout, spec))?;
        // A test that started it is its parent: ended but not waited for, it would stay in the table of processes.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// Ends it without a warning.
    pub fn kill(self, layout: &Layout) -> Result<()> {
        let Some(process) = self.process(layout) else { bail!("{} does not run", self.name()) };
        ensure!(process::end(&[process], KILL_WAIT).is_empty(), "{} does not end", self.name());
        Ok(())
    }

    /// The process, while it runs.
    pub fn process(self, layout: &Layout) -> Option<Process> {
        Process::recorded(&layout.record(self.name())).filter(|process| process.is_alive())
    }

    fn command(self, layout: &Layout, spec: &Spec) -> Command {
        let mut command = match self {
            Self::Etcd => Command::new("etcd"),
            _ => {
                let mut command = Command::new(&spec.kube);
                command.arg(self.name());
                command
            }
        };
        let arguments = match self {
            Self::Etcd => etcd(layout),
            Self::ApiServer => api_server(layout, spec),
            Self::ControllerManager => controller_manager(layout),
            Self::Scheduler => scheduler(layout),
            Self::Proxy => proxy(&layout.kubeconfig("kube-proxy").display().to_string(), spec, "n1"),
        };
        command.args(arguments);
        command
    }
}

impl FromStr for Component {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        let names = Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| {
            anyhow::anyhow!("no part of the control plane is called {text}; there are {names}")
        })
    }
}

/// Waits until the API server answers that it is ready.
pub fn api_ready(layout: &Layout, spec: &Spec) -> Result<()> {
    let logs = [layout.log("etcd"), layout.log("kube-apiserver")];
    wait("the API server", API_WAIT, &logs, || {
        for component in [Component::Etcd, Component::ApiServer] {
            ensure!(component.process(layout).is_some(), "{} has ended", component.name());
        }
        let said = kubectl::run(layout, spec, &["get", "--raw", "/readyz", "--request-timeout=2s"])?;
        ensure!(said.trim() == "ok", "it says {said}");
        Ok(())
    })
}

fn etcd(layout: &Layout) -> Vec<String> {
    let data = layout.dir().join("etcd");
    // The host's own loopback: clusters do not meet there. Nothing is to survive this machine, so no fsync.
    [
        &format!("--data-dir={}", data.display()),
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--logger=zap",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn api_server(layout: &Layout, spec: &Spec) -> Vec<String> {
    let file = |name: &str| layout.pki(name).display().to_string();
    let bundles: &[&str] = if spec.wish.trust_bundles { &TRUST_BUNDLES } else { &[] };
    let mut arguments = vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--advertise-address={}", spec.slot.plane()),
        "--bind-address=0.0.0.0".to_owned(),
        "--secure-port=6443".to_owned(),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("kube-apiserver.crt")),
        format!("--tls-private-key-file={}", file("kube-apiserver.key")),
        format!("--kubelet-client-certificate={}", file("admin.crt")),
        format!("--kubelet-client-key={}", file("admin.key")),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        format!("--service-cluster-ip-range={}", spec.slot.services()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--requestheader-client-ca-file={}", file("ca.crt")),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-proxy.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy.key")),
        "--profiling=false".to_owned(),
    ];
    arguments.extend(bundles.iter().map(|it| (*it).to_owned()));
    arguments
}

fn controller_manager(layout: &Layout) -> Vec<String> {
    let file = |name: &str| layout.pki(name).display().to_string();
    vec![
        format!("--kubeconfig={}", layout.kubeconfig("kube-controller-manager").display()),
        format!("--service-account-private-key-file={}", file("sa.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
        "--use-service-account-credentials=true".to_owned(),
        "--allocate-node-cidrs=false".to_owned(),
        "--leader-elect=false".to_owned(),
        // A crashed node is noticed within a test's patience, and a busy machine is not taken for a crash.
        "--node-monitor-period=2s".to_owned(),
        "--node-monitor-grace-period=20s".to_owned(),
    ]
}

fn scheduler(layout: &Layout) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", layout.kubeconfig("kube-scheduler").display()),
        "--leader-elect=false".to_owned(),
    ]
}

/// How kube-proxy is started, on the control plane's host and on nodes. It must be given the name of a node; on the
/// control plane's host, which is none, it borrows one.
pub fn proxy(kubeconfig: &str, spec: &Spec, node: &str) -> Vec<String> {
    vec![
        format!("--kubeconfig={kubeconfig}"),
        "--proxy-mode=nftables".to_owned(),
        format!("--cluster-cidr={}", spec.slot.pods()),
        format!("--hostname-override={node}"),
        // Limits of connection tracking are the machine's, not a namespace's: leave them as they are.
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-tcp-timeout-established=0".to_owned(),
        "--conntrack-tcp-timeout-close-wait=0".to_owned(),
    ]
}
