//! Two networks that no route joins, a proxy in each, and a gateway with a leg in both: an HBONE acceptor that joins
//! each stream to a connection to the far proxy's tunnel port, as gateways of other makes do.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use ambit_hbone::Windows;
use ambit_hbone::accept::{Accepted, Arrival, accept};
use ambit_hbone::cut::Why;
use ambit_hbone::head::{Connect, Opened};
use ambit_hbone::pump::{self, Count};
use ambit_kit::{Authority, Echo, Leaf, Namespace, eventually, until_up};
use ambit_process::net::{TcpListener, TcpStream as Stream};
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::credential::{Credential, Material, Terms};
use tokio::sync::oneshot;

use super::{PATIENCE, Proxy, Wire, exchange, listen_on, redirect, run};

/// The services of the near world, by their last byte of address: who they say answers, and the gateway's address.
const SERVICES: [(&str, u8, &str, &str); 4] = [
    ("four", 1, "spiffe://cluster.local/ns/shop/sa/server", "10.77.0.7"),
    ("six", 2, "spiffe://cluster.local/ns/shop/sa/server", "fd77::7"),
    ("mistaken", 3, "spiffe://cluster.local/ns/shop/sa/somebody-else", "10.77.0.7"),
    ("nobody", 4, "", "10.77.0.7"),
];

pub(crate) struct Networks {
    proxies: [(Proxy, Namespace); 2],
    gateway: Option<Gateway>,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    dir: tempfile::TempDir,
    /// Ends last: the legs are in there.
    _between: Namespace,
}

/// Runs until it is dropped.
struct Gateway {
    asked: Arc<Mutex<Vec<(String, Connect)>>>,
    _running: oneshot::Sender<()>,
}

impl Networks {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (between, authority) = (Namespace::new(), Authority::new());
        let seen = listen_on(&between);
        let leaf = |account: &str| authority.issue(&format!("spiffe://cluster.local/ns/shop/sa/{account}"));
        let place = |name: &str, network: &str, (subnet, host): (u8, u8), world: &str| {
            let namespace = Namespace::new();
            leg(&between, &namespace, subnet, host);
            redirect(&namespace);
            leaf(name).write(&dir.path().join(name));
            fs::write(dir.path().join(format!("{name}.yaml")), world).unwrap();
            (start(&namespace, name, network, dir.path()), namespace)
        };
        let near = place("client", "near", (77, 1), &near());
        let far = place("server", "far", (78, 2), FAR);
        let _ = Echo::start_in(&far.1, "[::]:8080".parse().unwrap());
        let gateway = Some(Gateway::start(&between, &leaf("gateway")));
        let this = Self { proxies: [near, far], gateway, seen, dir, _between: between };
        for (_, namespace) in &this.proxies {
            let ready = || namespace.within(|| exchange(([127, 0, 0, 1], 15021).into(), "/healthz/ready"));
            let is = || if ready().contains("200 OK") { Ok(()) } else { Err(()) };
            assert!(eventually(PATIENCE, is).is_ok(), "not ready\n{}", this.logs());
        }
        this
    }

    /// Sends bytes to a service of the near world, says so, and returns what comes back until the end.
    pub(crate) fn send(&self, service: &str, v6: bool, bytes: &[u8]) -> Vec<u8> {
        let number = SERVICES.iter().find(|(name, ..)| *name == service).unwrap().1;
        let ip: IpAddr =
            if v6 { format!("fd00:96::{number}") } else { format!("10.96.0.{number}") }.parse().unwrap();
        self.proxies[0].1.within(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, 80), PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut writer = stream.try_clone().unwrap();
            std::thread::scope(|scope| {
                // A connection that is refused breaks the write or the read, whichever comes first.
                scope.spawn(|| writer.write_all(bytes).and_then(|()| writer.shutdown(Shutdown::Write)));
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all);
                all
            })
        })
    }

    /// What the gateway was asked for, and by whom.
    pub(crate) fn asked(&self) -> Vec<(String, Connect)> {
        self.gateway.as_ref().unwrap().asked.lock().unwrap().clone()
    }

    pub(crate) fn close_gateway(&mut self) {
        self.gateway = None;
    }

    /// The first access line of a proxy (`client` or `server`) that holds all `parts`.
    pub(crate) fn access(&self, name: &str, parts: &[&str]) -> String {
        let complete = |line: &&str| {
            line.contains("\taccess\tconnection complete\t") && parts.iter().all(|part| line.contains(part))
        };
        let find = || {
            let log = fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap();
            log.lines().find(complete).map(String::from).ok_or(())
        };
        eventually(PATIENCE, find).unwrap_or_else(|()| panic!("no line with {parts:?}\n{}", self.logs()))
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire(self.seen.lock().unwrap().clone())
    }

    pub(crate) fn logs(&self) -> String {
        ["client", "server"]
            .map(|name| fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default())
            .join("\nserver:\n")
    }
}

impl Gateway {
    fn start(namespace: &Namespace, leaf: &Leaf) -> Self {
        let material =
            Material::from_pem(leaf.chain_pem.as_bytes(), leaf.key_pem.as_bytes(), leaf.root_pem.as_bytes());
        let credential = Credential::new(material.unwrap(), &Terms::default()).unwrap();
        let listener = namespace.within(|| std::net::TcpListener::bind("[::]:15008").unwrap());
        listener.set_nonblocking(true).unwrap();
        let (running, stop) = oneshot::channel();
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let (noted, netns) = (Arc::clone(&asked), namespace.netns().try_clone().unwrap());
        std::thread::spawn(move || {
            netns.run_on_thread(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        () = relay(listener, &credential, noted) => {}
                        _ = stop => {}
                    }
                });
            })
        });
        Self { asked, _running: running }
    }
}

async fn relay(
    listener: std::net::TcpListener,
    credential: &Credential,
    asked: Arc<Mutex<Vec<(String, Connect)>>>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut tunnels = Tasks::new(&Stop::new());
    loop {
        let (tcp, from) = listener.accept().await.unwrap();
        let far: SocketAddr =
            if from.ip().to_canonical().is_ipv4() { "10.78.0.2:15008" } else { "[fd78::2]:15008" }
                .parse()
                .unwrap();
        let (tls, asked) = (credential.accepting(), Arc::clone(&asked));
        tunnels.spawn("tunnel", move |stop| async move {
            if let Ok(accepted) = accept(tcp, tls, Windows::default()).await {
                streams(accepted, stop, far, asked).await;
            }
        });
    }
}

async fn streams(accepted: Accepted, stop: Stop, far: SocketAddr, asked: Arc<Mutex<Vec<(String, Connect)>>>) {
    let (peer, mut streams) = (accepted.peer().to_string(), Tasks::new(&Stop::new()));
    let take = |arrival: Arrival| {
        asked.lock().unwrap().push((peer.clone(), arrival.head().unwrap().clone()));
        streams.spawn("stream", move |_| async move {
            let far = Stream::connect(far).await.unwrap();
            let stream = arrival.open(&Opened::default()).unwrap();
            pump::tunnel(far, stream, &Count::default(), std::future::pending::<Why>()).await;
        });
    };
    accepted.serve(stop, take).await;
    while streams.one_ended().await {}
}

/// A cable from the gateway into a network, and the way to everything else through it.
fn leg(between: &Namespace, machine: &Namespace, subnet: u8, host: u8) {
    let (port, path) = (format!("leg{subnet}"), machine.path().display().to_string());
    run(between, "ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &path]);
    for (namespace, device, host) in [(between, port.as_str(), 7), (machine, "eth0", host)] {
        run(namespace, "ip", &["addr", "add", &format!("10.{subnet}.0.{host}/24"), "dev", device]);
        run(namespace, "ip", &["addr", "add", &format!("fd{subnet}::{host}/64"), "dev", device, "nodad"]);
        run(namespace, "ip", &["link", "set", device, "up"]);
    }
    between.within(|| until_up(&[&port]));
    machine.within(|| until_up(&["eth0"]));
    run(machine, "ip", &["route", "add", "default", "via", &format!("10.{subnet}.0.7")]);
    run(machine, "ip", &["-6", "route", "add", "default", "via", &format!("fd{subnet}::7")]);
}

fn start(namespace: &Namespace, name: &str, network: &str, dir: &Path) -> Proxy {
    let log = File::options().create(true).append(true).open(dir.join(format!("{name}.log"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztunnel"));
    command
        .env_clear()
        .env("XDS_ADDRESS", "")
        .env("NETWORK", network)
        .env("IDENTITY_DIR", dir.join(name))
        .env("LOCAL_XDS_PATH", dir.join(format!("{name}.yaml")))
        .env("PROXY_MODE", "dedicated")
        .env("PACKET_MARK", "1337")
        .env("PROXY_WORKLOAD_INFO", format!("shop/{name}/{name}"))
        .env("RUST_LOG", "info,access=info")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    Proxy { child: Mutex::new(namespace.within(move || command.spawn().unwrap())), own: None }
}

/// What the near side knows: itself, the gateway's near leg, and a stand-in for all that is far.
fn near() -> String {
    let mut services = String::from("services:\n");
    let mut workloads = String::from(
        "
workloads:
- {uid: client, name: client, namespace: shop, serviceAccount: client, trustDomain: cluster.local, network: near,
   workloadName: client, workloadIps: [10.77.0.1, 'fd77::1'], protocol: HBONE, services: {}}
- {uid: gateway, name: gateway, namespace: shop, serviceAccount: gateway, trustDomain: cluster.local,
   network: near, workloadIps: [10.77.0.7, 'fd77::7'], protocol: HBONE, services: {}}
",
    );
    for (name, number, identity, gateway) in SERVICES {
        let host = format!("{name}.shop.svc.cluster.local");
        services += &format!(
            "- {{name: {name}, namespace: shop, hostname: {host}, ports: {{80: 8080}},
   vips: ['near/10.96.0.{number}', 'near/fd00:96::{number}'], subjectAltNames: [{identity}]}}\n"
        );
        workloads += &format!(
            "- {{uid: far/{name}, name: {name}-far, namespace: shop, serviceAccount: default, network: far,
   trustDomain: cluster.local, workloadIps: [], protocol: HBONE,
   networkGateway: {{destination: 'near/{gateway}', hboneMtlsPort: 15008}},
   services: {{shop/{host}: {{80: 8080}}}}}}\n"
        );
    }
    format!("{workloads}{services}policies: []\n")
}

/// What the far side knows: itself, and the gateway's far leg, whose address inner tunnels come from.
const FAR: &str = "
workloads:
- uid: server
  name: server
  namespace: shop
  serviceAccount: server
  trustDomain: cluster.local
  network: far
  workloadName: server
  workloadIps: [10.78.0.2, 'fd78::2']
  protocol: HBONE
  services:
    shop/four.shop.svc.cluster.local: {80: 8080}
    shop/six.shop.svc.cluster.local: {80: 8080}
    shop/mistaken.shop.svc.cluster.local: {80: 8080}
- uid: gateway
  name: gateway
  namespace: shop
  serviceAccount: gateway
  trustDomain: cluster.local
  network: far
  workloadName: gateway
  workloadIps: [10.78.0.7, 'fd78::7']
  protocol: HBONE
  services: {}
services:
- {name: four, namespace: shop, hostname: four.shop.svc.cluster.local, ports: {80: 8080}, vips: []}
- {name: six, namespace: shop, hostname: six.shop.svc.cluster.local, ports: {80: 8080}, vips: []}
- {name: mistaken, namespace: shop, hostname: mistaken.shop.svc.cluster.local, ports: {80: 8080}, vips: []}
policies: []
";
