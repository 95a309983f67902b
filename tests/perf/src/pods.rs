//! Two pods on a wire: namespaces, addresses, a ztunnel in each, and redirection that can be put in and out.
//! Owns the set-up. The rules are those of the node daemon, from its golden files.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ambit_kit::{Authority, Namespace, eventually, until_up};
use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// What the node daemon puts into a pod's namespace.
const RULES: &str = include_str!("../../../cni/src/rules/golden/pod-both.nft");

/// One pod: who it is and where.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Pod, service account and node in one word.
    pub name: &'static str,
    /// Its address.
    pub ip: &'static str,
}

/// Who asks.
pub const CLIENT: Place = Place { name: "client", ip: "10.77.0.1" };
/// Who answers.
pub const SERVER: Place = Place { name: "server", ip: "10.77.0.2" };

/// A pod's namespace with its ztunnel, until dropped.
pub struct Pod {
    namespace: Namespace,
    ztunnel: Option<Running>,
}

/// A program that ends with its owner.
pub struct Running(pub(crate) Child);

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A program that is gone already cannot be killed; nothing is lost then.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Both pods, joined by a veth pair.
pub struct Pair {
    /// Sends.
    pub client: Pod,
    /// Answers.
    pub server: Pod,
    dir: TempDir,
}

impl Pair {
    /// Makes both namespaces and the link.
    ///
    /// # Errors
    /// Without root, `ip` or `nft`.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ambit-perf-").tempdir()?;
        let pair = Self { client: Pod::new(), server: Pod::new(), dir };
        let far = pair.server.namespace.path().display().to_string();
        pair.client.ip(&format!("link add eth0 type veth peer name eth0 netns {far}"))?;
        for (pod, place) in [(&pair.client, CLIENT), (&pair.server, SERVER)] {
            pod.dress(place)?;
        }
        for pod in [&pair.client, &pair.server] {
            pod.until_up();
        }
        Ok(pair)
    }

    /// Starts a ztunnel in each pod and waits until both are ready.
    ///
    /// # Errors
    /// When one does not become ready.
    pub fn start(&mut self, ztunnel: &Path, threads: usize) -> Result<()> {
        let authority = Authority::new();
        let world = self.dir.path().join("world.yaml");
        std::fs::write(&world, world_of_both())?;
        for (pod, place) in [(&mut self.client, CLIENT), (&mut self.server, SERVER)] {
            let mut command = pod.proxy(ztunnel, place, (&authority, self.dir.path()))?;
            command.env("LOCAL_XDS_PATH", &world).env("XDS_ADDRESS", "");
            command.env("ZTUNNEL_WORKER_THREADS", threads.to_string());
            pod.ztunnel = Some(Running(command.spawn().with_context(|| ztunnel.display().to_string())?));
            let ready = eventually(Duration::from_secs(10), || pod.ready());
            ready.with_context(|| logged(&self.dir, place).unwrap_or_default())?;
        }
        Ok(())
    }

    /// What a pod's ztunnel has logged.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn log(&self, place: Place) -> Result<String> {
        logged(&self.dir, place)
    }

    /// Puts redirection into both pods, or takes it out.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn redirect(&self, on: bool) -> Result<()> {
        [&self.client, &self.server].iter().try_for_each(|pod| pod.redirect(self.dir.path(), on))
    }
}

impl Pod {
    /// A namespace without a link or a ztunnel.
    pub(crate) fn new() -> Self {
        Self { namespace: Namespace::new(), ztunnel: None }
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Gives its end of a link the address, and what redirection needs of routes.
    pub(crate) fn dress(&self, place: Place) -> Result<()> {
        self.ip(&format!("address add {}/24 dev eth0", place.ip))?;
        self.ip("link set eth0 up")?;
        self.ip("route add local 0.0.0.0/0 dev lo table 100")?;
        self.ip("rule add fwmark 0x111/0xfff priority 32764 lookup 100")?;
        // Tens of thousands of connections in a few seconds would use up the ports, and looking for a free one would
        // be what is measured.
        self.shell("echo 1000 > /proc/sys/net/ipv4/tcp_max_tw_buckets")
    }

    /// Waits until its link carries packets.
    pub(crate) fn until_up(&self) {
        self.namespace.within(|| until_up(&["eth0"]));
    }

    /// Redirection put in, or taken out.
    pub(crate) fn redirect(&self, dir: &Path, on: bool) -> Result<()> {
        let rules = dir.join("rules.nft");
        std::fs::write(&rules, RULES)?;
        self.shell("nft delete table inet ambit 2>/dev/null || true")?;
        if on { self.shell(&format!("nft -f {}", rules.display())) } else { Ok(()) }
    }

    /// A proxy of this place's own, with an identity of its name, that logs into the folder. What it is told of the
    /// world is left out.
    pub(crate) fn proxy(
        &self,
        program: &Path,
        place: Place,
        (authority, dir): (&Authority, &Path),
    ) -> Result<Command> {
        let identity = dir.join(place.name);
        authority.issue(&format!("spiffe://cluster.local/ns/perf/sa/{}", place.name)).write(&identity);
        let log = std::fs::File::create(dir.join(format!("{}.log", place.name)))?;
        let mut command = self.inside(program);
        command.stdout(log.try_clone()?).stderr(log);
        command.env("PROXY_MODE", "dedicated").env("NODE_NAME", place.name);
        command.env("PROXY_WORKLOAD_INFO", format!("perf/{0}/{0}", place.name));
        command.env("IDENTITY_DIR", identity);
        command.env("PACKET_MARK", "1337").env("ENABLE_ORIG_SRC", "true").env("RUST_LOG", "warn");
        Ok(command)
    }

    /// A command that will run inside this pod.
    #[must_use]
    pub fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace.path().display())).arg("--").arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Starts a program inside, to end with the returned owner.
    ///
    /// # Errors
    /// When it does not start.
    pub fn spawn(&self, program: &Path, arguments: &[&str]) -> Result<Running> {
        Ok(Running(self.inside(program).args(arguments).spawn()?))
    }

    /// The process of this pod's ztunnel; nsenter became it.
    #[must_use]
    pub fn ztunnel(&self) -> Option<u32> {
        self.ztunnel.as_ref().map(Running::pid)
    }

    pub(crate) fn ip(&self, arguments: &str) -> Result<()> {
        self.shell(&format!("ip {arguments}"))
    }

    pub(crate) fn shell(&self, script: &str) -> Result<()> {
        let output = self.inside(Path::new("sh")).args(["-c", script]).output()?;
        ensure!(output.status.success(), "`{script}`: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    pub(crate) fn ready(&self) -> Result<()> {
        use std::io::{Read as _, Write as _};
        let answer = self.namespace.within(|| -> Result<String> {
            let mut probe = std::net::TcpStream::connect("127.0.0.1:15021")?;
            probe.set_read_timeout(Some(Duration::from_secs(1)))?;
            probe.write_all(b"GET /healthz/ready HTTP/1.1\r\nhost: ztunnel\r\nconnection: close\r\n\r\n")?;
            let mut text = String::new();
            probe.read_to_string(&mut text)?;
            Ok(text)
        })?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "not ready: {answer}");
        Ok(())
    }
}

fn logged(dir: &TempDir, place: Place) -> Result<String> {
    Ok(std::fs::read_to_string(dir.path().join(format!("{}.log", place.name)))?)
}

fn world_of_both() -> String {
    let workload = |place: Place| {
        format!(
            "- uid: cluster1//v1/pod/perf/{0}\n  name: {0}\n  namespace: perf\n  serviceAccount: {0}\n  \
             trustDomain: cluster.local\n  node: {0}\n  workloadIps: [\"{1}\"]\n  protocol: HBONE\n  services: {{}}\n",
            place.name, place.ip
        )
    };
    format!("workloads:\n{}{}services: []\npolicies: []\n", workload(CLIENT), workload(SERVER))
}
