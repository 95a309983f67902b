//! A pod with the node agent's rules in it, a resolver as programs have one, and an upstream on the wire.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_kit::{Authority, Namespace, eventually, pause, until_up};
use ambit_wire::dns::{Carrier, Question};
use ambit_wire::node_link::PodInfo;

use super::agent::Agent;

const PATIENCE: Duration = Duration::from_secs(60);

/// The pod's own addresses.
pub(crate) const POD: [&str; 2] = ["10.80.0.2", "fd80::2"];

const WORLD: &str = "
workloads:
- {uid: Kubernetes//Pod/shop/client, name: client, namespace: shop, serviceAccount: client, trustDomain: cluster.local,
   canonicalName: client, workloadIps: [10.80.0.2, 'fd80::2'], protocol: HBONE, services: {}}
- {uid: Kubernetes//Pod/shop/db-0, name: db-0, namespace: shop, serviceAccount: db, workloadIps: [10.80.0.5],
   services: {shop/db.shop.svc.cluster.local: {80: 80}}}
- {uid: Kubernetes//Pod/shop/db-1, name: db-1, namespace: shop, serviceAccount: db, workloadIps: [10.80.0.6],
   services: {shop/db.shop.svc.cluster.local: {80: 80}}}
services:
- {name: web, namespace: shop, hostname: web.shop.svc.cluster.local, vips: [/10.1.0.1, '/fd10::1'], ports: {80: 80}}
- {name: db, namespace: shop, hostname: db.shop.svc.cluster.local, vips: [], ports: {80: 80}}
- {name: api, namespace: shop, hostname: api.example.com, vips: [/10.1.0.2], ports: {443: 443}}
policies: []
";

/// What leads packets from outside to where names are asked, which no agent does.
const LEAK: &str = "
table ip leak {
  chain in {
    type nat hook prerouting priority -110; policy accept;
    udp dport 5300 counter dnat to 127.0.0.1:15053
  }
}
";

pub(crate) struct Scene {
    pod: Namespace,
    wire: Namespace,
    own: Namespace,
    upstream: Upstream,
    _agent: Agent,
    dir: tempfile::TempDir,
}

/// A proxy's process; it ends with its holder.
pub(crate) struct Proxy(Mutex<Child>);

/// The C library's resolver, with a file of its own.
pub(crate) struct Resolver<'a> {
    scene: &'a Scene,
    file: tempfile::NamedTempFile,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (pod, wire, own) = (Namespace::new(), Namespace::new(), Namespace::new());
        let inside = pod.path().display().to_string();
        run(&wire, "ip", &["link", "add", "pod", "type", "veth", "peer", "name", "eth0", "netns", &inside]);
        for (at, device, four, six) in
            [(&wire, "pod", "10.80.0.9/24", "fd80::9/64"), (&pod, "eth0", "10.80.0.2/24", "fd80::2/64")]
        {
            run(at, "ip", &["addr", "add", four, "dev", device]);
            run(at, "ip", &["addr", "add", six, "dev", device, "nodad"]);
            run(at, "ip", &["link", "set", device, "up"]);
        }
        wire.within(|| until_up(&["pod"]));
        pod.within(|| until_up(&["eth0"]));
        run(&pod, "ip", &["route", "add", "default", "via", "10.80.0.9"]);
        run(&pod, "ip", &["-6", "route", "add", "default", "via", "fd80::9"]);
        redirect(&pod);
        let authority = Authority::new();
        authority.issue("spiffe://cluster.local/ns/shop/sa/client").write(&dir.path().join("client"));
        fs::write(dir.path().join("world.yaml"), WORLD).unwrap();
        fs::write(dir.path().join("resolv.conf"), "nameserver 10.80.0.9\n").unwrap();
        let info = PodInfo {
            name: "client".into(),
            namespace: "shop".parse().unwrap(),
            service_account: "client".parse().unwrap(),
        };
        let agent = Agent::start(&dir.path().join("zds.sock"), info, pod.netns().try_clone().unwrap());
        let upstream = Upstream::start(&wire);
        Self { pod, wire, own, upstream, _agent: agent, dir }
    }

    /// Starts a proxy in shared mode and waits until it is ready.
    pub(crate) fn start(&self, settings: &[(&str, &str)]) -> Proxy {
        let path = |name: &str| self.dir.path().join(name);
        let log = File::options().create(true).append(true).open(path("log")).unwrap();
        // The proxy asks those whom its own machine asks.
        let mut command = with_resolvers(&path("resolv.conf"), env!("CARGO_BIN_EXE_ztunnel"));
        // A second one beside the first has its own ports elsewhere.
        let own = if log.metadata().unwrap().len() == 0 {
            self.own.netns().try_clone()
        } else {
            Namespace::new().netns().try_clone()
        }
        .unwrap();
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("XDS_ADDRESS", "")
            .env("INPOD_UDS", path("zds.sock"))
            .env("IDENTITY_DIR", path("client"))
            .env("LOCAL_XDS_PATH", path("world.yaml"))
            .env("CONNECTION_TERMINATION_DEADLINE", "2s")
            .env("RUST_LOG", "info,dns=debug")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = own.run_on_thread(move || command.spawn().unwrap()).unwrap();
        let proxy = Proxy(Mutex::new(child));
        let ready = || {
            let said = own.run_on_thread(|| exchange(15021, "/healthz/ready")).unwrap();
            if said.contains("200 OK") { Ok(()) } else { Err(said) }
        };
        let outcome = eventually(PATIENCE, ready);
        assert!(outcome.is_ok(), "not ready: {outcome:?}\n{}", self.log());
        proxy
    }

    /// A resolver of the pod's that asks this server.
    pub(crate) fn resolver(&self, server: &str, options: &str) -> Resolver<'_> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let search = "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
        write!(file, "nameserver {server}\n{search}{options}").unwrap();
        Resolver { scene: self, file }
    }

    /// Asks for a name again and again, and counts; says how many questions were lost.
    pub(crate) fn ask_while(&self, going: &AtomicBool, name: &str, asked: &AtomicUsize) -> usize {
        let mut lost = 0;
        while going.load(Ordering::Relaxed) {
            let socket = self.pod.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            socket.send_to(&question(name), "10.96.0.10:53").unwrap();
            lost += usize::from(socket.recv(&mut [0; 512]).is_err());
            asked.fetch_add(1, Ordering::Relaxed);
        }
        lost
    }

    /// Leads packets from outside to where names are asked.
    pub(crate) fn lead_outsiders_in(&self) {
        for setting in ["all", "eth0"] {
            let path = format!("/proc/sys/net/ipv4/conf/{setting}/route_localnet");
            self.pod.within(|| fs::write(path, "1").unwrap());
        }
        let file = self.dir.path().join("leak.nft");
        fs::write(&file, LEAK).unwrap();
        run(&self.pod, "nft", &["-f", &file.display().to_string()]);
    }

    /// How many packets were led in.
    pub(crate) fn led_in(&self) -> usize {
        let rules = run(&self.pod, "nft", &["list", "table", "ip", "leak"]);
        let count = rules.split_once("counter packets ").unwrap().1;
        count.split(' ').next().unwrap().parse().unwrap()
    }

    pub(crate) fn outside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.wire.within(work)
    }

    /// Takes IPv6 from the pod, loopback included.
    pub(crate) fn switch_ipv6_off(&self) {
        for name in ["all", "lo"] {
            let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            self.pod.within(|| fs::write(path, "1").unwrap());
        }
    }

    /// Who asked the upstream.
    pub(crate) fn askers(&self) -> BTreeSet<IpAddr> {
        self.upstream.askers.lock().unwrap().clone()
    }

    /// What is listened on in the pod.
    pub(crate) fn listening(&self) -> String {
        run(&self.pod, "ss", &["-Hltun"])
    }

    pub(crate) fn get(&self, port: u16, path: &str) -> String {
        self.own.within(|| exchange(port, path))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Proxy {
    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let pid = self.0.lock().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&self) -> ExitStatus {
        eventually(PATIENCE, || self.0.lock().unwrap().try_wait().unwrap().ok_or(())).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut child = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Resolver<'_> {
    /// What a program finds under a name: addresses in order, or how many, if they are many.
    pub(crate) fn find(&self, name: &str) -> String {
        let mut command = with_resolvers(self.file.path(), "getent");
        command.args(["ahosts", name]);
        let outcome = self.scene.pod.within(|| command.output()).unwrap();
        assert!(matches!(outcome.status.code(), Some(0 | 2)), "{outcome:?}");
        let text = String::from_utf8(outcome.stdout).unwrap();
        let found: BTreeSet<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        match found.len() {
            many @ 5.. => format!("{many} addresses"),
            _ => found.into_iter().collect::<Vec<_>>().join(" "),
        }
    }
}

/// A program that finds this file where resolvers look.
fn with_resolvers(file: &std::path::Path, program: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(file).arg(program);
    command
}

/// The resolver of others, on the wire: knows `*.test`.
struct Upstream {
    askers: Arc<Mutex<BTreeSet<IpAddr>>>,
}

impl Upstream {
    fn start(wire: &Namespace) -> Self {
        let askers = Arc::new(Mutex::new(BTreeSet::new()));
        let socket = wire.within(|| UdpSocket::bind("10.80.0.9:53").unwrap());
        let listener = wire.within(|| TcpListener::bind("10.80.0.9:53").unwrap());
        let seen = Arc::clone(&askers);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                seen.lock().unwrap().insert(from.ip());
                let (asked, socket) = (buffer[..length].to_vec(), socket.try_clone().unwrap());
                std::thread::spawn(move || socket.send_to(&known(&asked, Carrier::Udp), from));
            }
        });
        let seen = Arc::clone(&askers);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                seen.lock().unwrap().insert(stream.peer_addr().unwrap().ip());
                std::thread::spawn(move || converse(stream));
            }
        });
        Self { askers }
    }
}

fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut asked = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut asked)?;
    let answer = known(&asked, Carrier::Tcp);
    stream.write_all(&[&u16::try_from(answer.len()).unwrap().to_be_bytes()[..], &answer].concat())
}

fn known(asked: &[u8], carrier: Carrier) -> Vec<u8> {
    let question = Question::parse(asked).unwrap();
    let four = question.family() == Some(ambit_model::dns::Family::V4);
    let addresses: Vec<IpAddr> = match question.name() {
        Some("other.test") if four => vec![IpAddr::from([192, 0, 2, 1])],
        Some("slow.test") => {
            pause(Duration::from_millis(200));
            vec![IpAddr::from([192, 0, 2, 2])]
        }
        Some("long.test") if four => (1..=40).map(|n| IpAddr::from([192, 0, 2, n])).collect(),
        Some("other.test" | "long.test") => Vec::new(),
        _ => {
            let mut none = question.answer(None, &[], carrier);
            none[3] |= 3;
            return none;
        }
    };
    question.answer(None, &addresses, carrier)
}

/// A question for an IPv4 address.
pub(crate) fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// What the node agent puts into a pod: its very rules, and the routes beside them.
fn redirect(pod: &Namespace) {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../cni/src/rules/golden/pod-dns-both.nft");
    run(pod, "nft", &["-f", rules]);
    for (family, all) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        let rule = ["rule", "add", "fwmark", "0x111/0xfff", "priority", "32764", "lookup", "100"];
        run(pod, "ip", &[&[family][..], &rule].concat());
        run(pod, "ip", &[family, "route", "add", "local", all, "dev", "lo", "table", "100"]);
    }
}

fn run(at: &Namespace, program: &str, args: &[&str]) -> String {
    let outcome = at.within(|| Command::new(program).args(args).output());
    let outcome = outcome.expect("install it: apt-get install iproute2 nftables");
    assert!(outcome.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&outcome.stderr));
    String::from_utf8(outcome.stdout).unwrap()
}

fn exchange(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))) else {
        return "nobody listens".into();
    };
    let request = format!("GET {path} HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}
