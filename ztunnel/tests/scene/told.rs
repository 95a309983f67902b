//! One proxy in a namespace of its own, told of the world by a scripted control plane.

#![expect(dead_code, reason = "each test file uses its part of the scene")]

#[path = "raw.rs"]
mod raw;

use std::borrow::Borrow;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_kit::{Authority, Echo, Namespace, Plane, Signatory, eventually};
use ambit_wire::local;
use raw::Raw;

/// Long enough for two cores that also compile.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Told {
    pub(crate) namespace: Namespace,
    pub(crate) plane: Plane,
    dir: tempfile::TempDir,
    proxy: Process,
    echo: Echo,
}

impl Told {
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        Self::build(Authority::new(), settings, |_| Vec::new())
    }

    /// With certificates from somebody else's authority, which signs for those who show this token; the proxy shows
    /// another one if it is told to.
    pub(crate) fn signed_elsewhere(shown: &str) -> (Self, Signatory) {
        let (authority, mut elsewhere) = (Arc::new(Authority::new()), None);
        let told = Self::build(Arc::clone(&authority), &[("AUTH_TOKEN", shown)], |namespace| {
            let who = "spiffe://cluster.local/ns/shop/sa/server";
            let signatory = Signatory::start(namespace, authority, ("token", who));
            let settings = [("CA_ADDRESS", signatory.url()), ("CA_ROOT_CA", signatory.root_pem().to_owned())];
            elsewhere = Some(signatory);
            settings.into()
        });
        (told, elsewhere.unwrap())
    }

    /// `more` are settings that are known once the namespace is there; without any, the identity is in files.
    fn build(
        authority: impl Borrow<Authority>,
        settings: &[(&str, &str)],
        more: impl FnOnce(&Namespace) -> Vec<(&'static str, String)>,
    ) -> Self {
        let namespace = Namespace::new();
        for address in ["10.77.0.2/32", "10.77.0.1/32"] {
            let added =
                namespace.within(|| Command::new("ip").args(["addr", "add", address, "dev", "lo"]).status());
            assert!(added.expect("install it: apt-get install iproute2").success());
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["server", "client"] {
            let identity = format!("spiffe://cluster.local/ns/shop/sa/{name}");
            authority.borrow().issue(&identity).write(&dir.path().join(name));
        }
        let echo = Echo::start_in(&namespace, target());
        let plane = Plane::start(&namespace, &world(&[]), None);
        std::fs::write(dir.path().join("xds-root.pem"), plane.root_pem()).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ztunnel"));
        command
            .env_clear()
            .env("PROXY_MODE", "dedicated")
            .env("PROXY_WORKLOAD_INFO", "shop/server/server")
            .env("XDS_ADDRESS", plane.url())
            .env("XDS_ROOT_CA", dir.path().join("xds-root.pem"))
            .envs(settings.iter().copied())
            .env("RUST_LOG", "info,access=info,policy=debug")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        match more(&namespace) {
            none if none.is_empty() => command.env("IDENTITY_DIR", dir.path().join("server")),
            more => command.envs(more),
        };
        let proxy = namespace.within(move || command.spawn().unwrap());
        let scene = Self { namespace, plane, dir, proxy: Process(proxy), echo };
        scene.says("the world is known");
        scene
    }

    /// Begins the control plane anew under another certificate, which the proxy is not told to believe.
    pub(crate) fn restart_plane(self) -> Self {
        let Self { namespace, plane, dir, proxy, echo } = self;
        let plane = plane.restart(&namespace);
        Self { namespace, plane, dir, proxy, echo }
    }

    /// Tells the proxy to believe the control plane as it is now.
    pub(crate) fn believe_plane(&self) {
        std::fs::write(self.dir.path().join("xds-root.pem"), self.plane.root_pem()).unwrap();
    }

    /// Waits until the log says this: lines are written beside the traffic, and may come after what they tell of.
    pub(crate) fn says(&self, text: &str) {
        let said = || if self.log().contains(text) { Ok(()) } else { Err(self.log()) };
        eventually(PATIENCE, said).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub(crate) fn peer(&self) -> Raw {
        let hop: SocketAddr = "10.77.0.2:15008".parse().unwrap();
        let tcp = self.namespace.within(|| TcpStream::connect(hop).unwrap());
        Raw::new(tcp, &self.dir.path().join("client"), true)
    }

    /// Asks for a connection while `meanwhile` happens. Whether it was given, and after how long.
    pub(crate) fn ask_while(&self, meanwhile: impl FnOnce()) -> (bool, Duration) {
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut peer = self.peer();
                let began = Instant::now();
                (peer.connect(1, target()), began.elapsed())
            });
            meanwhile();
            asking.join().unwrap()
        })
    }
}

/// Ends with its holder.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn target() -> SocketAddr {
    "10.77.0.2:8080".parse().unwrap()
}

/// The server's workload, for which these policies are chosen.
pub(crate) fn world(policies: &[&str]) -> ambit_model::delta::Delta {
    let text = format!(
        "workloads: [{{uid: Kubernetes//Pod/shop/server, name: server, namespace: shop, \
         serviceAccount: server, trustDomain: cluster.local, workloadIps: [10.77.0.2], protocol: HBONE, \
         services: {{}}, authorizationPolicies: [{}]}}]",
        policies.join(", ")
    );
    local::parse(&text).unwrap()
}
