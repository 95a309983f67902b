//! One waypoint as a real process in a namespace of its own, endpoints behind tunnels of theirs, and clients that
//! open tunnels to it: all on loopback, one address each. The world is the test's to publish.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::Windows;
use ambit_hbone::head::{Baggage, Connect, Forwarded};
use ambit_hbone::nested::Nested;
use ambit_hbone::pool::{Key, OpenError, Pool, PoolSettings};
use ambit_kit::{Authority, Namespace, Plane, eventually};
use ambit_model::address::HopAddr;
use ambit_model::delta::{Change, Delta};
use ambit_model::name::Identity;
use ambit_model::service::{AppProtocol, Families, Service, ServicePort, Visibility};
use ambit_model::workload::{
    GatewayDestination, GatewayRef, Health, Locality, Tunnel, Workload, WorkloadKind,
};
use ambit_process::net::{TcpSocket, TcpStream};
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::credential::{Credential, Material, Terms};
use ambit_tls::issue::{IssueError, Issuer};
use ambit_tls::vault::Vault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Long enough for two cores that also compile.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The waypoint's own address, and its Gateway's service.
pub(crate) const WAYPOINT: &str = "127.0.0.9";
const GATEWAY: &str = "way.shop.svc.cluster.local";

/// A setting of the test alone: the file that says what hosts there are.
pub(crate) const HOSTS: &str = "HOSTS_OF_TEST";

/// Another: the folder that is seen as the control groups', and says what memory there may be.
pub(crate) const GROUP: &str = "GROUP_OF_TEST";

/// Everything of one test.
pub(crate) struct Scene {
    pub(crate) plane: Plane,
    pub(crate) tasks: Tasks,
    vault: Vault,
    pool: Pool,
    process: Child,
    dir: tempfile::TempDir,
}

struct Signs(Arc<Authority>);

impl Issuer for Signs {
    async fn issue(&self, identity: &Identity) -> Result<Credential, IssueError> {
        Ok(credential(&self.0, identity))
    }
    async fn changed(&self) {
        std::future::pending().await
    }
}

pub(crate) fn credential(authority: &Authority, identity: &Identity) -> Credential {
    let leaf = authority.issue(&identity.to_string());
    let (chain, key, root) = (leaf.chain_pem, leaf.key_pem, leaf.root_pem);
    let material = Material::from_pem(chain.as_bytes(), key.as_bytes(), root.as_bytes()).unwrap();
    Credential::new(material, &Terms::default()).unwrap()
}

pub(crate) fn identity(account: &str) -> Identity {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
}

/// Runs a test in a namespace, on one thread, with a waypoint that knows `world`.
pub(crate) fn scene(world: &[Change], test: impl AsyncFnOnce(&mut Scene) + Send) {
    scene_with(&[], world, test);
}

/// The same, with settings of its own.
pub(crate) fn scene_with(
    settings: &[(&str, &str)],
    world: &[Change],
    test: impl AsyncFnOnce(&mut Scene) + Send,
) {
    let namespace = Namespace::new();
    let dir = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new());
    let plane = Plane::start(&namespace, &world.iter().cloned().collect::<Delta>(), Some(identity("way")));
    namespace.within(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let process = start(&authority, &plane, &dir, settings);
            let mut tasks = Tasks::new(&Stop::new());
            let (vault, driver) = Vault::new(Signs(Arc::clone(&authority)), ambit_process::clock::now_system);
            tasks.spawn("vault", |stop| async move { driver.run(stop.stopped()).await });
            let pool = Pool::new(vault.clone(), PoolSettings::default(), &Stop::new());
            let mut scene = Scene { plane, tasks, vault, pool, process, dir };
            scene.until_ready().await;
            test(&mut scene).await;
        });
    });
}

fn start(authority: &Authority, plane: &Plane, dir: &tempfile::TempDir, settings: &[(&str, &str)]) -> Child {
    let own = dir.path().join("identity");
    authority.issue(&identity("way").to_string()).write(&own);
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    program(settings)
        .env_clear()
        .env("GATEWAY_NAME", "way")
        .env("POD_NAME", "way-1")
        .env("POD_NAMESPACE", "shop")
        .env("INSTANCE_IP", WAYPOINT)
        .env("LISTEN_ADDRESS", WAYPOINT)
        .env("IDENTITY_DIR", own)
        .env("XDS_ADDRESS", plane.url())
        .env("XDS_ROOT_CA", plane.root_pem())
        .env("WAYPOINT_THREADS", "2")
        .env("DRAIN_GRACE", "10s")
        .env("CONNECTION_TERMINATION_DEADLINE", "20s")
        .envs(settings.iter().copied())
        .stdout(Stdio::from(log.try_clone().unwrap()))
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap()
}

/// The waypoint itself, or the same where something of the test is in the place of the machine's.
fn program(settings: &[(&str, &str)]) -> Command {
    let waypoint = env!("CARGO_BIN_EXE_ambit-waypoint");
    let places = [(HOSTS, "/etc/hosts"), (GROUP, "/sys/fs/cgroup")];
    let place = |name| places.iter().find(|(setting, _)| *setting == name).map(|(_, place)| *place);
    let Some((own, place)) = settings.iter().find_map(|(name, own)| Some((*own, place(*name)?))) else {
        return Command::new(waypoint);
    };
    let mut command = Command::new("/usr/bin/unshare");
    let script = "/usr/bin/mount --bind \"$0\" \"$1\" && exec \"$2\"";
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", script, own, place, waypoint]);
    command
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

impl Scene {
    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// What the waypoint has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A line of the log that holds all of these, once there is one.
    pub(crate) fn logged(&self, parts: &[&str]) -> String {
        eventually(PATIENCE, || {
            let log = self.log();
            let line = log.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            line.map(str::to_owned).ok_or(log)
        })
        .unwrap_or_else(|log| panic!("no line with {parts:?} in\n{log}"))
    }

    /// Asks the process itself, as Kubernetes and Prometheus do.
    pub(crate) async fn get(&self, port: u16, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.get(15021, "/healthz/ready").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    async fn until_ready(&self) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while !self.is_ready().await {
            assert!(tokio::time::Instant::now() < until, "not ready in time:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks the process to end, as Kubernetes does.
    pub(crate) fn terminate(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// How the process has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// The waypoint's memory that is resident, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        memory(self.pid(), "VmRSS:")
    }

    /// The waypoint's process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A stream to `authority` through the waypoint, as `account`.
    pub(crate) async fn open(&self, account: &str, authority: &str) -> Result<Nested, OpenError> {
        let hop = SocketAddr::new(WAYPOINT.parse().unwrap(), 15008);
        let (key, head) = (key(account, None), head(account, authority));
        let carried = self.pool.open(&key, &head, move || TcpStream::connect(hop)).await?;
        Ok(Nested::new(carried.stream))
    }

    /// The same from an address, and for the stranger at another where one is named; an empty one is not told. With the
    /// stream, whether the stranger was taken for one.
    pub(crate) async fn lead(
        &self,
        (account, from): (&str, &str),
        stranger: Option<&str>,
        authority: &str,
    ) -> Result<(Nested, bool), OpenError> {
        let from: IpAddr = from.parse().unwrap();
        let client = stranger.filter(|at| !at.is_empty()).map(|at| at.parse().unwrap());
        let forwarded = client.map(|client| Forwarded { client: Some(client), host: None });
        let head = Connect { forwarded, for_stranger: stranger.is_some(), ..head(account, authority) };
        let connect = move || async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(from, 0))?;
            socket.connect(SocketAddr::new(WAYPOINT.parse().unwrap(), 15008)).await
        };
        let carried = self.pool.open(&key(account, Some(from)), &head, connect).await?;
        Ok((Nested::new(carried.stream), carried.answer.for_stranger))
    }

    /// What accepts tunnels as `account`.
    pub(crate) async fn accepting(&self, account: &str) -> ambit_tls::configs::Accepting {
        self.vault.fetch(&identity(account), PATIENCE).await.unwrap().accepting()
    }

    pub(crate) fn windows() -> Windows {
        Windows::default()
    }
}

/// Memory of this sort that a process has, in bytes.
pub(crate) fn memory(pid: u32, sort: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(sort)).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

/// A tunnel of `account` to the waypoint.
fn key(account: &str, source_ip: Option<IpAddr>) -> Key {
    let hop = HopAddr::new(SocketAddr::new(WAYPOINT.parse().unwrap(), 15008));
    Key { source: identity(account), source_ip, hop, expect: Arc::from([identity("way")]) }
}

fn head(account: &str, authority: &str) -> Connect {
    Connect {
        authority: authority.parse().unwrap(),
        baggage: Baggage { service: account.into(), ..Baggage::default() },
        forwarded: None,
        trace: None,
        network: None,
        for_stranger: false,
    }
}

/// The endpoint `name` at `ip`, of the service `web`, whose port 80 is its 8080.
pub(crate) fn endpoint(name: &str, ip: &str) -> Workload {
    endpoint_of("web", name, ip)
}

/// The same of another service.
pub(crate) fn endpoint_of(service: &str, name: &str, ip: &str) -> Workload {
    let service = format!("shop/{service}.shop.svc.cluster.local").parse().unwrap();
    let ports = BTreeMap::from([(80, 8080)]);
    Workload {
        uid: format!("Kubernetes//Pod/shop/{name}").into(),
        name: name.into(),
        namespace: "shop".parse().unwrap(),
        addresses: vec![ip.parse::<IpAddr>().unwrap()],
        hostname: "".into(),
        network: "".into(),
        tunnel: Tunnel::Hbone,
        native_tunnel: false,
        trust_domain: "cluster.local".parse().unwrap(),
        service_account: name.parse().unwrap(),
        waypoint: None,
        network_gateway: None,
        node: "n1".into(),
        canonical_name: name.into(),
        canonical_revision: "v1".into(),
        kind: WorkloadKind::Deployment,
        workload_name: name.into(),
        application_tunnel: None,
        services: BTreeMap::from([(service, ports)]),
        policies: Vec::new(),
        health: Health::Healthy,
        cluster: "Kubernetes".into(),
        locality: Locality::default(),
        host_network: false,
        capacity: 1,
        labels: Default::default(),
    }
}

/// The service `name` at `vip`, behind the waypoint, with a port 80 of this protocol.
pub(crate) fn service(name: &str, vip: &str, protocol: AppProtocol) -> Service {
    let way = format!("shop/{GATEWAY}").parse().unwrap();
    Service {
        name: name.into(),
        namespace: "shop".parse().unwrap(),
        hostname: format!("{name}.shop.svc.cluster.local").parse().unwrap(),
        vips: vec![ambit_model::address::NetworkAddress::new("".into(), vip.parse().unwrap())],
        ranges: Vec::new(),
        ports: BTreeMap::from([(80, ServicePort { target: 8080, protocol })]),
        subject_alt_names: Vec::new(),
        waypoint: Some(GatewayRef { destination: GatewayDestination::Host(way), hbone_port: 15008 }),
        weighted_waypoints: Vec::new(),
        load_balancing: None,
        families: Families::Automatic,
        canonical: false,
        ingress_use_waypoint: false,
        visibility: Visibility::Public,
    }
}

/// One endpoint `one` at 127.0.0.2 behind the service `web`, which is 10.1.0.1.
pub(crate) fn shop(protocol: AppProtocol) -> Vec<Change> {
    vec![
        Change::Service(Arc::new(service("web", "10.1.0.1", protocol))),
        Change::Workload(Arc::new(endpoint("one", "127.0.0.2"))),
    ]
}
