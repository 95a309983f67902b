//! Client, server and the wire between them: namespaces, redirection, proxies, an HTTP server and a listener on
//! the wire. Everything ends with the scene.

#![expect(dead_code, reason = "each test file uses its part of the scene")]

mod again;
pub(crate) mod agent;
pub(crate) mod networks;
mod peer;
pub(crate) mod raw;
mod way;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::Agent;
use ambit_kit::{Authority, Leaf, Namespace, eventually, pause, until_up};
use ambit_wire::node_link::PodInfo;
use socket2::{Domain, Protocol, Socket, Type};

/// Long enough for two cores that also compile.
const PATIENCE: Duration = Duration::from_secs(60);

/// A policy of the local file that keeps the client out.
pub(crate) const DENY: &str = "
- name: no-clients
  namespace: shop
  scope: Namespace
  action: Deny
  dryRun: false
  rules:
  - - - namespaces: []
        notNamespaces: []
        serviceAccounts: []
        notServiceAccounts: []
        principals: [!Exact cluster.local/ns/shop/sa/client]
        notPrincipals: []
        sourceIps: []
        notSourceIps: []
        destinationIps: []
        notDestinationIps: []
        destinationPorts: []
        notDestinationPorts: []
";

/// What the node agent would put into a pod (`ztunnel.md` Appendix B).
const REDIRECTION: &str = "
table inet redirection {
  chain nat_in {
    type nat hook prerouting priority dstnat; policy accept;
    iifname lo accept
    meta l4proto tcp tcp dport != { 15008, 15020, 15021 } meta mark & 0xfff != 0x539 redirect to :15006
  }
  chain nat_out {
    type nat hook output priority -100; policy accept;
    meta mark & 0xfff == 0x111 accept
    oifname lo accept
    meta l4proto tcp meta mark & 0xfff != 0x539 redirect to :15001
  }
  chain mark_in {
    type filter hook prerouting priority mangle; policy accept;
    meta mark & 0xfff == 0x539 ct mark set 0x111
  }
  chain mark_out {
    type route hook output priority mangle; policy accept;
    ct mark & 0xfff == 0x111 meta mark & 0xfff != 0x539 meta mark set ct mark
  }
}
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Client,
    Server,
    /// A pod whose application has ended: its proxy is there, behind it is nobody. Only in [`Scene::half_gone`].
    Ended,
    /// On the wire, not in the mesh.
    Outsider,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The server answered, and saw this client.
    Served { seen: IpAddr },
    /// The connection ended without an answer.
    Cut,
}

/// One machine with a proxy.
struct Machine {
    namespace: Namespace,
    proxy: Proxy,
    agent: Option<Agent>,
    log: PathBuf,
    identity: PathBuf,
    leaf: Leaf,
}

/// A proxy's process; it ends with its holder.
pub(crate) struct Proxy {
    child: Mutex<Child>,
    /// Where it lives, if not in the pod's namespace.
    own: Option<Namespace>,
}

/// How proxies run.
#[derive(Clone, Copy)]
struct How {
    /// For a node, told of pods by an agent; otherwise for one pod.
    shared: bool,
    /// What open connections get after the end is asked for.
    drain: &'static str,
    /// Whether plaintext goes through waypoints.
    led: bool,
}

impl How {
    const DEDICATED: Self = Self { shared: false, drain: "2s", led: false };
    const SHARED: Self = Self { shared: true, ..Self::DEDICATED };
}

pub(crate) struct Scene {
    client: Machine,
    server: Machine,
    ended: Option<Machine>,
    wire: Namespace,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    authority: Authority,
    dir: tempfile::TempDir,
}

/// What went over the wire so far.
pub(crate) struct Wire(Vec<Vec<u8>>);

/// A connection that is kept.
pub(crate) struct Open(TcpStream);

impl Scene {
    /// Proxies in dedicated mode, with these policies.
    pub(crate) fn new(policies: &str) -> Self {
        Self::build(WORLD, policies, How::DEDICATED)
    }

    /// Proxies of a pod each or of a node, whose connections may go on for a minute after the end is asked for.
    pub(crate) fn patient(shared: bool) -> Self {
        Self::build(WORLD, "", How { shared, drain: "60s", led: false })
    }

    /// Proxies of a pod each, whose connections may go on for so long after the end is asked for.
    pub(crate) fn draining(drain: &'static str) -> Self {
        Self::build(WORLD, "", How { drain, ..How::DEDICATED })
    }

    /// Proxies in shared mode, with these policies.
    pub(crate) fn shared(policies: &str) -> Self {
        Self::build(WORLD, policies, How::SHARED)
    }

    /// Proxies in dedicated mode, and a service at `10.77.0.80` with two endpoints: the server, and a pod whose
    /// application has ended.
    pub(crate) fn half_gone() -> Self {
        let services = "  services: {shop/web.shop.svc.cluster.local: {8080: 8080}}";
        let (client, server) = WORLD.split_once("- uid: Kubernetes//Pod/shop/server").unwrap();
        let server =
            format!("- uid: Kubernetes//Pod/shop/server{server}").replace("  services: {}", services);
        let (server, _) = server.split_once("services: []").unwrap();
        let ended = server.replace("server", "ended").replace("0.2", "0.3").replace("::2", "::3");
        let service = "{name: web, namespace: shop, hostname: web.shop.svc.cluster.local, vips: [/10.77.0.80], ports: {8080: 8080}}";
        let scene =
            Self::build(&format!("{client}{server}{ended}services: [{service}]\n"), "", How::DEDICATED);
        scene.wait_until_ready(Who::Ended);
        scene
    }

    fn build(known: &str, policies: &str, how: How) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let wire = Namespace::new();
        run(&wire, "ip", &["link", "add", "br0", "type", "bridge"]);
        run(&wire, "ip", &["addr", "add", "10.77.0.9/24", "dev", "br0"]);
        run(&wire, "ip", &["link", "set", "br0", "up"]);
        let seen = listen_on(&wire);
        let world = dir.path().join("world.yaml");
        let policies = if policies.is_empty() { "[]" } else { policies };
        fs::write(&world, format!("{known}policies: {policies}\n")).unwrap();
        let authority = Authority::new();
        let machine = |name: &str, number: u8| {
            let namespace = Namespace::new();
            join(&wire, &namespace, number);
            redirect(&namespace);
            let identity = dir.path().join(name);
            let leaf = authority.issue(&format!("spiffe://cluster.local/ns/shop/sa/{name}"));
            leaf.write(&identity);
            let log = dir.path().join(format!("{name}.log"));
            let socket = dir.path().join(format!("{name}.sock"));
            let agent = || Agent::start(&socket, pod(name), namespace.netns().try_clone().unwrap());
            let agent = how.shared.then(agent);
            let proxy = Proxy::start(&namespace, name, dir.path(), how);
            Machine { namespace, proxy, agent, log, identity, leaf }
        };
        let (client, server) = (machine("client", 1), machine("server", 2));
        let ended = known.contains("name: ended").then(|| machine("ended", 3));
        serve_http(&server.namespace);
        let scene = Self { client, server, ended, wire, seen, authority, dir };
        for who in [Who::Client, Who::Server] {
            scene.wait_until_ready(who);
        }
        scene
    }

    fn wait_until_ready(&self, who: Who) {
        let ready = || {
            let answer = self.get(who, 15021, "/healthz/ready");
            if answer.contains("200 OK") { Ok(()) } else { Err(answer) }
        };
        let outcome = eventually(PATIENCE, ready);
        assert!(outcome.is_ok(), "{who:?} is not ready: {outcome:?}\n{}", self.logs());
    }

    /// Starts a second proxy beside somebody's, and hands out the first once the second is ready.
    pub(crate) fn start_another(&mut self, who: Who) -> Proxy {
        let name = if who == Who::Client { "client" } else { "server" };
        let proxy = Proxy::start(&self.machine(who).namespace, name, self.dir.path(), How::SHARED);
        let machine = if who == Who::Client { &mut self.client } else { &mut self.server };
        let old = std::mem::replace(&mut machine.proxy, proxy);
        self.wait_until_ready(who);
        old
    }

    pub(crate) fn agent(&self, who: Who) -> &Agent {
        self.machine(who).agent.as_ref().unwrap()
    }

    /// Waits until so many proxies are connected to somebody's agent.
    pub(crate) fn wait_for_agent(&self, who: Who, proxies: usize) {
        let there = || if self.agent(who).connected() == proxies { Ok(()) } else { Err(()) };
        assert!(eventually(PATIENCE, there).is_ok(), "{}", self.logs());
    }

    /// A request from somebody's application.
    pub(crate) fn ask(&self, who: Who, server: &str, path: &str) -> Answer {
        let server: SocketAddr = server.parse().unwrap();
        let answer = self.namespace(who).within(|| exchange(server, path));
        match answer.lines().find_map(|line| line.strip_prefix("x-seen: ")) {
            Some(seen) => Answer::Served { seen: seen.trim().parse().unwrap() },
            None => Answer::Cut,
        }
    }

    /// Asks again and again until `over`; every request must be served, and counts.
    pub(crate) fn ask_until(
        &self,
        over: &AtomicBool,
        server: &str,
        (served, count): (&Answer, &AtomicUsize),
    ) {
        while !over.load(Ordering::Relaxed) {
            assert_eq!(self.ask(Who::Client, server, "/"), *served, "{}", self.logs());
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the server's proxy answers to a CONNECT for `target` by somebody with the client's certificate.
    pub(crate) fn connect_as_client(&self, target: &str) -> u16 {
        self.connect(target, false)
    }

    /// The same for a stranger.
    pub(crate) fn connect_for_stranger(&self, target: &str) -> u16 {
        self.connect(target, true)
    }

    fn connect(&self, target: &str, for_stranger: bool) -> u16 {
        let identity = self.client.identity.clone();
        self.wire.within(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(peer::ask(
                identity,
                target,
                for_stranger,
            ))
        })
    }

    /// A tunnel to the server's proxy that is read frame by frame, by somebody with the client's certificate.
    pub(crate) fn raw(&self, polite: bool) -> raw::Raw {
        let tcp = self.wire.within(|| TcpStream::connect("10.77.0.2:15008").unwrap());
        raw::Raw::new(tcp, &self.client.identity, polite)
    }

    /// A connection of somebody's application that is kept.
    pub(crate) fn open(&self, who: Who, server: &str) -> Open {
        let server: SocketAddr = server.parse().unwrap();
        let stream = self.namespace(who).within(|| TcpStream::connect(server).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Open(stream)
    }

    /// What one of a proxy's own ports answers.
    pub(crate) fn get(&self, who: Who, port: u16, path: &str) -> String {
        let machine = self.machine(who);
        let own = machine.proxy.own.as_ref().unwrap_or(&machine.namespace);
        own.within(|| exchange(SocketAddr::from(([127, 0, 0, 1], port)), path))
    }

    /// Tells one of a proxy's own ports to do something.
    pub(crate) fn post(&self, who: Who, port: u16, path: &str) -> String {
        let machine = self.machine(who);
        let own = machine.proxy.own.as_ref().unwrap_or(&machine.namespace);
        own.within(|| say_to(SocketAddr::from(([127, 0, 0, 1], port)), "POST", path))
    }

    /// The first access line of a proxy that holds `part`.
    pub(crate) fn access(&self, who: Who, part: &str) -> String {
        let found = eventually(PATIENCE, || {
            let log = fs::read_to_string(&self.machine(who).log).unwrap();
            let line =
                log.lines().find(|l| l.contains("\taccess\tconnection complete\t") && l.contains(part));
            line.map(String::from).ok_or(())
        });
        found.unwrap_or_else(|()| panic!("no access line with {part}\n{}", self.logs()))
    }

    /// Waits until a proxy has said this.
    pub(crate) fn logged(&self, who: Who, part: &str) {
        let said = || fs::read_to_string(&self.machine(who).log).is_ok_and(|log| log.contains(part));
        let found = eventually(PATIENCE, || said().then_some(()).ok_or(()));
        assert!(found.is_ok(), "{who:?} never said {part:?}\n{}", self.logs());
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire(self.seen.lock().unwrap().clone())
    }

    pub(crate) fn logs(&self) -> String {
        let log = |who| fs::read_to_string(&self.machine(who).log).unwrap_or_default();
        format!("client:\n{}\nserver:\n{}", log(Who::Client), log(Who::Server))
    }

    /// Takes somebody's certificate away, before it was ever used.
    pub(crate) fn take_identity_away(&self, who: Who) {
        fs::remove_dir_all(&self.machine(who).identity).unwrap();
    }

    /// Revokes somebody's certificate, for all.
    pub(crate) fn revoke(&self, who: Who) {
        let list = self.authority.revoke(&[self.machine(who).leaf.serial.clone()]);
        fs::write(self.dir.path().join("crl.pem"), list).unwrap();
    }

    /// Gives somebody a new certificate by the same authority.
    pub(crate) fn renew_identity(&self, who: Who) {
        let name = if who == Who::Client { "client" } else { "server" };
        let renewed = self.authority.issue(&format!("spiffe://cluster.local/ns/shop/sa/{name}"));
        renewed.write(&self.machine(who).identity);
    }

    /// Gives somebody a certificate with the right name by an authority nobody believes.
    pub(crate) fn replace_identity_by_a_stranger(&self, who: Who) {
        let name = if who == Who::Client { "client" } else { "server" };
        let stranger = Authority::new().issue(&format!("spiffe://cluster.local/ns/shop/sa/{name}"));
        stranger.write(&self.machine(who).identity);
    }

    pub(crate) fn terminate(&self, who: Who) {
        self.machine(who).proxy.terminate();
    }

    pub(crate) fn wait_for_end(&mut self, who: Who) -> Duration {
        let began = Instant::now();
        assert!(self.machine(who).proxy.ended().success());
        began.elapsed()
    }

    fn machine(&self, who: Who) -> &Machine {
        match who {
            Who::Client => &self.client,
            Who::Ended => self.ended.as_ref().unwrap(),
            Who::Server | Who::Outsider => &self.server,
        }
    }

    fn namespace(&self, who: Who) -> &Namespace {
        if who == Who::Outsider { &self.wire } else { &self.machine(who).namespace }
    }
}

impl Proxy {
    fn start(pod: &Namespace, name: &str, dir: &Path, how: How) -> Self {
        let log = File::options().create(true).append(true).open(dir.join(format!("{name}.log"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ztunnel"));
        command
            .env_clear()
            .env("XDS_ADDRESS", "")
            .env("IDENTITY_DIR", dir.join(name))
            .env("LOCAL_XDS_PATH", dir.join("world.yaml"))
            .env("CRL_PATH", dir.join("crl.pem"))
            .env("CONNECTION_TERMINATION_DEADLINE", how.drain)
            .env("RUST_LOG", "info,access=info,policy=debug")
            .envs(how.led.then_some(("ENABLE_PLAINTEXT_VIA_WAYPOINT", "true")))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if how.shared {
            command.env("INPOD_UDS", dir.join(format!("{name}.sock")));
        } else {
            command.env("PROXY_MODE", "dedicated").env("PACKET_MARK", "1337");
            command.env("PROXY_WORKLOAD_INFO", format!("shop/{name}/{name}"));
        }
        let own = how.shared.then(Namespace::new);
        let child = own.as_ref().unwrap_or(pod).within(move || command.spawn().unwrap());
        Self { child: Mutex::new(child), own }
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = self.child.lock().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        // The signal is handled on another thread; what follows must see it handled.
        pause(Duration::from_millis(300));
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&self) -> ExitStatus {
        eventually(PATIENCE, || self.child.lock().unwrap().try_wait().unwrap().ok_or(())).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Wire {
    pub(crate) fn contains(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|packet| packet.windows(bytes.len()).any(|part| part == bytes))
    }

    /// A TLS handshake in an IPv4 packet to this port.
    pub(crate) fn tls_to(&self, port: u16) -> bool {
        // Ethernet 14, IPv4 20, TCP with options; the record starts with type 22, version 3.1.
        self.0.iter().any(|packet| {
            packet.get(36..38) == Some(&port.to_be_bytes()[..])
                && packet.get(54..).unwrap_or_default().windows(3).any(|part| part == [22, 3, 1])
        })
    }
}

impl Open {
    /// Says something, whether anybody listens or not.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// One request; whether it was answered.
    pub(crate) fn ask(&mut self, path: &str) -> bool {
        let request = format!("GET {path} HTTP/1.1\r\nhost: server\r\n\r\n");
        if self.0.write_all(request.as_bytes()).is_err() {
            return false;
        }
        let mut buffer = [0; 4096];
        matches!(self.0.read(&mut buffer), Ok(bytes) if bytes > 0)
    }
}

const WORLD: &str = "
workloads:
- uid: Kubernetes//Pod/shop/client
  name: client
  namespace: shop
  serviceAccount: client
  trustDomain: cluster.local
  workloadIps: [10.77.0.1, 'fd77::1']
  protocol: HBONE
  services: {}
- uid: Kubernetes//Pod/shop/server
  name: server
  namespace: shop
  serviceAccount: server
  trustDomain: cluster.local
  workloadIps: [10.77.0.2, 'fd77::2']
  protocol: HBONE
  services: {}
services: []
";

fn pod(name: &str) -> PodInfo {
    PodInfo { name: name.into(), namespace: "shop".parse().unwrap(), service_account: name.parse().unwrap() }
}

fn run(namespace: &Namespace, program: &str, args: &[&str]) {
    namespace.within(|| {
        let outcome = Command::new(program).args(args).output();
        let outcome = outcome
            .unwrap_or_else(|e| panic!("{program}: {e}; install it: apt-get install {}", package(program)));
        assert!(outcome.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&outcome.stderr));
    });
}

fn package(program: &str) -> &'static str {
    if program == "nft" { "nftables" } else { "iproute2" }
}

fn join(wire: &Namespace, machine: &Namespace, number: u8) {
    let (port, path) = (format!("port{number}"), machine.path().display().to_string());
    run(wire, "ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &path]);
    run(wire, "ip", &["link", "set", &port, "master", "br0", "up"]);
    run(machine, "ip", &["addr", "add", &format!("10.77.0.{number}/24"), "dev", "eth0"]);
    run(machine, "ip", &["addr", "add", &format!("fd77::{number}/64"), "dev", "eth0", "nodad"]);
    run(machine, "ip", &["link", "set", "eth0", "up"]);
    machine.within(|| until_up(&["eth0"]));
    wire.within(|| until_up(&[&port, "br0"]));
}

fn redirect(machine: &Namespace) {
    let file = machine.path().with_extension("nft");
    fs::write(&file, REDIRECTION).unwrap();
    run(machine, "nft", &["-f", &file.display().to_string()]);
    for (family, all) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        run(
            machine,
            "ip",
            &[family, "rule", "add", "fwmark", "0x111/0xfff", "priority", "32764", "lookup", "100"],
        );
        run(machine, "ip", &[family, "route", "add", "local", all, "dev", "lo", "table", "100"]);
    }
}

/// An HTTP server that tells each client which address it was seen with.
fn serve_http(machine: &Namespace) {
    let listener = machine.within(|| TcpListener::bind("[::]:8080").unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
}

fn answer(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let Ok(peer) = stream.peer_addr() else { return };
    while matches!(stream.read(&mut buffer), Ok(bytes) if bytes > 0) {
        let seen = peer.ip().to_canonical();
        let text = format!("HTTP/1.1 200 OK\r\nx-seen: {seen}\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn exchange(server: SocketAddr, path: &str) -> String {
    say_to(server, "GET", path)
}

fn say_to(server: SocketAddr, method: &str, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect_timeout(&server, PATIENCE) else { return String::new() };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).is_err() {
        return String::new();
    }
    if server.port() == 8080 {
        // The server keeps its connections: half-close, which must reach it through the tunnel.
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

/// Keeps every packet that crosses the wire.
fn listen_on(wire: &Namespace) -> Arc<Mutex<Vec<Vec<u8>>>> {
    /// `ETH_P_ALL`, in network order.
    const EVERYTHING: i32 = 0x0300;
    let socket =
        wire.within(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERYTHING))).unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(bytes) = (&socket).read(&mut buffer) {
            keep.lock().unwrap().push(buffer[..bytes].to_vec());
        }
    });
    seen
}
