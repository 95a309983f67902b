//! Client, server and the wire between them: namespaces, redirection, proxies, an HTTP server and a listener on
//! the wire. Everything ends with the scene.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ambit_kit::{Authority, Namespace, eventually, pause};
use socket2::{Domain, Protocol, Socket, Type};

/// Long enough for two cores that also compile.
const PATIENCE: Duration = Duration::from_secs(20);

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
    ct mark & 0xfff == 0x111 meta mark set ct mark
  }
}
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Client,
    Server,
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
    proxy: Child,
    log: PathBuf,
    identity: PathBuf,
}

pub(crate) struct Scene {
    client: Machine,
    server: Machine,
    wire: Namespace,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    dir: tempfile::TempDir,
}

/// What went over the wire so far.
pub(crate) struct Wire(Vec<Vec<u8>>);

/// A connection that is kept.
pub(crate) struct Open(TcpStream);

impl Scene {
    pub(crate) fn new(policies: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let wire = Namespace::new();
        run(&wire, "ip", &["link", "add", "br0", "type", "bridge"]);
        run(&wire, "ip", &["addr", "add", "10.77.0.9/24", "dev", "br0"]);
        run(&wire, "ip", &["link", "set", "br0", "up"]);
        let seen = listen_on(&wire);
        let world = dir.path().join("world.yaml");
        let policies = if policies.is_empty() { "[]" } else { policies };
        fs::write(&world, format!("{WORLD}policies: {policies}\n")).unwrap();
        let authority = Authority::new();
        let machine = |name: &str, number: u8| {
            let namespace = Namespace::new();
            join(&wire, &namespace, number);
            redirect(&namespace);
            let identity = dir.path().join(name);
            authority.issue(&format!("spiffe://cluster.local/ns/shop/sa/{name}")).write(&identity);
            let log = dir.path().join(format!("{name}.log"));
            let proxy = start(&namespace, name, &identity, &world, &log);
            Machine { namespace, proxy, log, identity }
        };
        let (client, server) = (machine("client", 1), machine("server", 2));
        serve_http(&server.namespace);
        let scene = Self { client, server, wire, seen, dir };
        for who in [Who::Client, Who::Server] {
            let ready =
                || if scene.get(who, 15021, "/healthz/ready").contains("200 OK") { Ok(()) } else { Err(()) };
            assert!(eventually(PATIENCE, ready).is_ok(), "{who:?} is not ready\n{}", scene.logs());
        }
        scene
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

    /// A connection of somebody's application that is kept.
    pub(crate) fn open(&self, who: Who, server: &str) -> Open {
        let server: SocketAddr = server.parse().unwrap();
        let stream = self.namespace(who).within(|| TcpStream::connect(server).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Open(stream)
    }

    /// What one of a proxy's own ports answers.
    pub(crate) fn get(&self, who: Who, port: u16, path: &str) -> String {
        self.namespace(who).within(|| exchange(SocketAddr::from(([127, 0, 0, 1], port)), path))
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

    /// Gives somebody a certificate with the right name by an authority nobody believes.
    pub(crate) fn replace_identity_by_a_stranger(&self, who: Who) {
        let name = if who == Who::Client { "client" } else { "server" };
        let stranger = Authority::new().issue(&format!("spiffe://cluster.local/ns/shop/sa/{name}"));
        stranger.write(&self.machine(who).identity);
    }

    pub(crate) fn terminate(&self, who: Who) {
        let pid = self.machine(who).proxy.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        // The signal is handled on another thread; what follows must see it handled.
        pause(Duration::from_millis(300));
    }

    pub(crate) fn wait_for_end(&mut self, who: Who) -> Duration {
        let machine = if who == Who::Client { &mut self.client } else { &mut self.server };
        let began = Instant::now();
        let ended = eventually(PATIENCE, || machine.proxy.try_wait().unwrap().ok_or(()));
        assert!(ended.unwrap().success());
        began.elapsed()
    }

    fn machine(&self, who: Who) -> &Machine {
        match who {
            Who::Client => &self.client,
            Who::Server | Who::Outsider => &self.server,
        }
    }

    fn namespace(&self, who: Who) -> &Namespace {
        if who == Who::Outsider { &self.wire } else { &self.machine(who).namespace }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for machine in [&mut self.client, &mut self.server] {
            let _ = machine.proxy.kill();
            let _ = machine.proxy.wait();
        }
        // The directory goes after the processes that write there.
        let _ = fs::remove_dir_all(self.dir.path());
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

fn start(namespace: &Namespace, name: &str, identity: &PathBuf, world: &PathBuf, log: &PathBuf) -> Child {
    let out = File::create(log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztunnel"));
    command
        .env_clear()
        .env("PROXY_MODE", "dedicated")
        .env("PROXY_WORKLOAD_INFO", format!("shop/{name}/{name}"))
        .env("XDS_ADDRESS", "")
        .env("IDENTITY_DIR", identity)
        .env("LOCAL_XDS_PATH", world)
        .env("PACKET_MARK", "1337")
        .env("CONNECTION_TERMINATION_DEADLINE", "2s")
        .env("RUST_LOG", "info,access=info,policy=debug")
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out);
    namespace.within(move || command.spawn().unwrap())
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
    let Ok(mut stream) = TcpStream::connect_timeout(&server, PATIENCE) else { return String::new() };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n");
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
