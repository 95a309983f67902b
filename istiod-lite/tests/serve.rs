//! The control plane as a whole over real sockets on loopback: a tunnel's own client code subscribes and asks for
//! certificates, manifests change, the control plane goes and comes back.

#![cfg(test)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ambit_istiod_lite::config::{Cluster, Given, Run};
use ambit_istiod_lite::run::{Addresses, ControlPlane};
use ambit_model::delta::Change;
use ambit_model::name::Identity;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::configs::control_plane::{ControlPlane as Remote, RootSource};
use ambit_tls::credential::Terms;
use ambit_tls::issue::{Ca, CaSettings, IssueError, Issuer, Token};
use ambit_wire::pb::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_wire::pb::discovery::{DeltaDiscoveryRequest, Node};
use ambit_xds::pump::{Apply, Handle, Pump, Settings};
use ambit_xds::subscriber::Mode;
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::metadata::MetadataMap;

/// Ample for loopback on a busy machine; nothing waits this long when all is well.
const WAIT: Duration = Duration::from_secs(10);

const WORLD: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: shop, labels: {app: web}}, spec: {nodeName: n1, serviceAccountName: web}, status: {phase: Running, podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: cart-1, namespace: shop}, spec: {nodeName: n2, serviceAccountName: cart}, status: {phase: Running, podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80}]}}
";

const POLICY: &str = "
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: NAME, namespace: shop}, spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}}
";

struct Place {
    folder: TempDir,
    signer: KeyPair,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mesh")).unwrap();
        let place = Self { folder, signer: KeyPair::generate().unwrap() };
        std::fs::write(place.path("token.pem"), place.signer.public_key_pem()).unwrap();
        place.write("world.yaml", WORLD);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path("mesh").join(file), text).unwrap();
    }

    fn config(&self, secure: u16) -> Run {
        let local = |port: u16| ([127, 0, 0, 1], port).into();
        Run {
            cluster: Cluster {
                source: Some(self.path("mesh")),
                overlay: None,
                trust_domain: None,
                domain: "cluster.local".into(),
                root_namespace: "istio-system".into(),
                cluster_id: "Kubernetes".into(),
                revision: String::new(),
            },
            state: self.path("state"),
            cacerts: None,
            given: Given {
                signs: true,
                certificate: self.path("none"),
                key: self.path("none"),
                roots: self.path("none"),
                trust_bundle: false,
            },
            root_lifetime: Duration::from_secs(3650 * 24 * 3600),
            root_overlap: Duration::from_secs(48 * 3600),
            auto_addresses: true,
            auto_range_v4: "240.240.0.0/16".parse().unwrap(),
            auto_range_v6: "2001:2::/48".parse().unwrap(),
            token_key: Some(self.path("token.pem")),
            kubernetes: Default::default(),
            grpc_addr: local(0),
            secure_grpc_addr: local(secure),
            https_addr: None,
            webhooks: Vec::new(),
            http_addr: local(0),
            monitoring_addr: local(0),
            hosts: vec!["127.0.0.1".into()],
            trusted: vec!["istio-system/ztunnel".into()],
            readers: Vec::new(),
        }
    }

    /// A token of the tunnel on a node.
    fn token(&self, node: &str) -> String {
        self.token_of("istio-system", "ztunnel", node)
    }

    fn token_of(&self, namespace: &str, account: &str, node: &str) -> String {
        let claims = json!({
            "iss": "ambit-local", "aud": ["istio-ca"], "exp": 4_000_000_000_u64,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "kubernetes.io": {
                "namespace": namespace, "node": {"name": node}, "serviceaccount": {"name": account},
            },
        });
        let key = EncodingKey::from_ec_pem(self.signer.serialize_pem().as_bytes()).unwrap();
        encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
    }

    fn remote(&self, addresses: Addresses) -> Remote {
        let roots = RootSource::File(self.path("state/root-cert.pem"));
        Remote::new(&format!("https://{}", addresses.secure), roots, None).unwrap()
    }
}

struct Running {
    addresses: Addresses,
    stop: Stop,
    tasks: Tasks,
}

impl Running {
    async fn start(place: &Place, secure: u16) -> Self {
        Self::start_with(place.config(secure)).await
    }

    async fn start_with(config: Run) -> Self {
        let plane = Box::pin(ControlPlane::open(config)).await.unwrap();
        let (addresses, stop) = (plane.addresses(), Stop::new());
        let mut tasks = Tasks::new(&stop);
        tasks.spawn("control plane", |stop| plane.run(stop));
        Self { addresses, stop, tasks }
    }

    async fn end(self) -> u16 {
        self.stop.stop();
        assert_eq!(self.tasks.drain(WAIT).await.aborted, 0);
        self.addresses.secure.port()
    }
}

/// A tunnel's subscription; what it is told is the test's to see.
struct Tunnel {
    batches: mpsc::Receiver<Apply>,
    _handle: Handle,
    _tasks: Tasks,
}

impl Tunnel {
    fn start(place: &Place, addresses: Addresses) -> Self {
        let (world, batches) = mpsc::channel(1);
        let remote = place.remote(addresses);
        let dial = move || {
            let remote = remote.clone();
            async move { remote.connect().await.map_err(Into::into) }.boxed()
        };
        let token = place.token("n1");
        let headers = move || {
            let mut headers = MetadataMap::new();
            headers.insert("authorization", format!("Bearer {token}").parse()?);
            Ok(headers)
        };
        let id = "ztunnel~10.0.0.9~ztunnel-n1.istio-system~istio-system.svc.cluster.local".to_owned();
        let settings = Settings {
            node: Node { id, ..Node::default() },
            mode: Mode::Wildcard,
            dial: Box::new(dial),
            headers: Box::new(headers),
        };
        let (pump, handle) = Pump::new(settings, world);
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("pump", |stop| pump.run(stop));
        Self { batches, _handle: handle, _tasks: tasks }
    }

    /// The next batch, in force at once.
    async fn next(&mut self) -> Vec<String> {
        let Apply { batch, done } = tokio::time::timeout(WAIT, self.batches.recv()).await.unwrap().unwrap();
        done.send(()).unwrap();
        batch.delta.changes.iter().map(told).collect()
    }

    /// Batches until as many changes have come.
    async fn changes(&mut self, count: usize) -> Vec<String> {
        let mut changes = Vec::new();
        while changes.len() < count {
            changes.extend(self.next().await);
        }
        changes
    }
}

fn told(change: &Change) -> String {
    match change {
        Change::Workload(it) => {
            let listed: Vec<_> = it.policies.iter().map(ToString::to_string).collect();
            format!("+workload {} {listed:?}", it.name)
        }
        Change::Service(it) => format!("+service {}", it.name),
        Change::Policy(it) => format!("+policy {}", it.key),
        Change::WorkloadGone(uid) => format!("-workload {uid}"),
        Change::ServiceGone(key) => format!("-service {key}"),
        Change::PolicyGone(key) => format!("-policy {key}"),
    }
}

#[tokio::test]
async fn a_subscriber_is_told_the_world_then_each_change_and_after_a_restart_only_what_changed() {
    let place = Place::new();
    let running = Running::start(&place, 0).await;
    let mut tunnel = Tunnel::start(&place, running.addresses);
    let mut first = tunnel.changes(3).await;
    first.sort();
    assert_eq!(first, ["+service web", "+workload cart-1 []", "+workload web-1 []"]);

    let start = Instant::now();
    place.write("policy.yaml", &POLICY.replace("NAME", "first"));
    assert_eq!(tunnel.next().await, ["+policy shop/first"], "a policy comes before those that list it");
    println!("policy file to subscriber: {:?}", start.elapsed());
    assert_eq!(tunnel.next().await, [r#"+workload web-1 ["shop/first"]"#]);
    let layer = place.path("mesh.overlay/istiod/AuthorizationPolicy_shop_first.json");
    let told = eventually(|| std::fs::read_to_string(&layer).ok()).await;
    assert!(told.contains("ZtunnelAccepted") && told.contains("Accepted"), "{told}");

    place.write("broken.yaml", "kind: [");
    place.write("policy.yaml", &POLICY.replace("NAME", "second"));
    let mut changes = tunnel.changes(3).await;
    changes.sort();
    assert_eq!(changes, ["+policy shop/second", r#"+workload web-1 ["shop/second"]"#, "-policy shop/first"]);

    eventually(|| (!layer.exists()).then_some(())).await;
    let port = running.end().await;
    std::fs::remove_file(place.path("mesh/policy.yaml")).unwrap();
    let running = Running::start(&place, port).await;
    let mut changes = tunnel.changes(2).await;
    changes.sort();
    assert_eq!(changes, ["+workload web-1 []", "-policy shop/second"], "only what changed meanwhile");
    running.end().await;
}

async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(WAIT, found).await.unwrap()
}

fn authority(place: &Place, addresses: Addresses, token: Token) -> Ca {
    Ca::new(CaSettings {
        control_plane: place.remote(addresses),
        token,
        cluster: "Kubernetes".into(),
        headers: Vec::new(),
        ttl: Duration::from_secs(3600),
        impersonate: true,
        terms: Terms::default(),
    })
}

#[tokio::test]
async fn a_tunnel_gets_certificates_for_the_pods_of_its_node_and_for_no_others() {
    let place = Place::new();
    let running = Running::start(&place, 0).await;
    let ca = authority(&place, running.addresses, Token::Static(place.token("n1")));
    let who = |text: &str| format!("spiffe://cluster.local/ns/shop/sa/{text}").parse::<Identity>().unwrap();
    let credential = ca.issue(&who("web")).await.unwrap();
    assert_eq!(*credential.identity(), who("web"));
    assert!(matches!(ca.issue(&who("cart")).await, Err(IssueError::Refused(_))), "it runs on another node");
    let unknown = authority(&place, running.addresses, Token::Static("no.such.token".into()));
    assert!(matches!(unknown.issue(&who("web")).await, Err(IssueError::Refused(_))));
    // The pod is written while its tunnel already asks.
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let pod = WORLD
            .split("---")
            .next()
            .unwrap()
            .replace("web-1", "late-1")
            .replace("AccountName: web", "AccountName: late");
        place.write("late.yaml", &pod);
    };
    let late_who = who("late");
    let (answer, ()) = tokio::join!(ca.issue(&late_who), late);
    answer.unwrap();
    running.end().await;
}

async fn http(address: std::net::SocketAddr, path: &str) -> String {
    http_with(address, path, "").await
}

/// With more lines in the head.
async fn http_with(address: std::net::SocketAddr, path: &str, more: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{more}connection: close\r\n\r\n");
    String::from_utf8(raw(address, request.as_bytes()).await).unwrap()
}

async fn raw(address: std::net::SocketAddr, request: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = ambit_process::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn people_see_subscribers_faults_and_resources() {
    let place = Place::new();
    place.write("broken.yaml", "kind: Nonsense\n");
    let running = Running::start(&place, 0).await;
    let mut tunnel = Tunnel::start(&place, running.addresses);
    tunnel.changes(3).await;
    let at = running.addresses.http;
    assert!(http(at, "/ready").await.ends_with("ready\n"));
    let streams = http(at, "/debug/syncz").await;
    assert!(streams.contains("spiffe://cluster.local/ns/istio-system/sa/ztunnel"), "{streams}");
    assert!(http(at, "/debug/faults").await.contains("unknown kind"));
    assert!(http(at, "/debug/ambientz").await.contains("Kubernetes//Pod/shop/web-1"));
    let metrics = http(running.addresses.monitoring, "/metrics").await;
    let ca = authority(&place, running.addresses, Token::Static(place.token("n1")));
    ca.issue(&"spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()).await.unwrap();
    assert!(ca.issue(&"spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap()).await.is_err());
    let later = http(running.addresses.monitoring, "/metrics").await;
    for (text, line) in [
        (&metrics, "pilot_xds 1"),
        (&metrics, "manifest_faults 1"),
        (&metrics, "pilot_services 1"),
        (&metrics, "pilot_xds_pushes{type=\"Address\"} 1"),
        (&metrics, "pilot_total_xds_rejects 0"),
        (&metrics, "pilot_info{version="),
        (&later, "citadel_server_csr_count 2"),
        (&later, "citadel_server_success_cert_issuance_count 1"),
        (&later, "citadel_server_authentication_failure_count 1"),
    ] {
        assert!(text.contains(&format!("\n{line}")), "{line}: {text}");
    }
    let left = later.lines().find_map(|line| line.strip_prefix("citadel_server_root_cert_expiry_seconds "));
    let left: i64 = left.unwrap().parse().unwrap();
    assert!((3649 * 24 * 3600..=3650 * 24 * 3600).contains(&left), "{left}");
    let dump = http(at, "/debug/ambientz").await;
    let dump: serde_json::Value = serde_json::from_str(dump.split_once("\r\n\r\n").unwrap().1).unwrap();
    let counts = ["workloads", "services", "policies"].map(|it| dump[it].as_array().unwrap().len());
    assert_eq!(counts, [2, 1, 0]);
    running.end().await;
}

#[tokio::test]
async fn metrics_go_compressed_to_whoever_takes_them_so() {
    let place = Place::new();
    let running = Running::start(&place, 0).await;
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n";
    let answer = raw(running.addresses.monitoring, request).await;
    let at = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..at].to_vec()).unwrap();
    assert!(head.to_lowercase().contains("content-encoding: gzip"), "{head}");
    assert_eq!(answer[at + 4..at + 6], [0x1f, 0x8b]);
    running.end().await;
}

#[tokio::test]
async fn beyond_this_machine_only_accounts_of_the_control_planes_namespace_may_look() {
    let place = Place::new();
    let mut config = place.config(0);
    config.http_addr = "0.0.0.0:0".parse().unwrap();
    let running = Running::start_with(config).await;
    let port = running.addresses.http.port();
    let at = ([127, 0, 0, 1], port).into();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let own = bearer(&place.token("n1"));
    let other = bearer(&place.token_of("shop", "web", "n1"));
    for (path, more, wanted) in [
        ("/debug/syncz", "", "401"),
        ("/debug/syncz", &bearer("no.such.token"), "401"),
        ("/debug/syncz", &other, "403"),
        ("/debug/ambientz", &other, "403"),
        ("/debug", &other, "403"),
        ("/debug/list", &own, "200"),
        ("/debug/syncz", &own, "200"),
        ("/debugger", "", "404"),
    ] {
        let answer = http_with(at, path, more).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted}")), "{path} {wanted}: {answer}");
    }
    let ready = http(at, "/ready").await;
    assert!(ready.ends_with("ready\n"), "{ready}");
    running.end().await;
}

#[tokio::test]
async fn only_named_accounts_read_the_mesh() {
    let place = Place::new();
    let mut config = place.config(0);
    config.readers = vec!["ops/viewer".into()];
    let running = Running::start_with(config).await;
    for (namespace, account, wanted) in [
        ("istio-system", "ztunnel", Code::Ok),
        ("ops", "viewer", Code::Ok),
        ("shop", "web", Code::PermissionDenied),
        ("ops", "ztunnel", Code::PermissionDenied),
    ] {
        let channel = place.remote(running.addresses).connect().await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let mut request = tonic::Request::new(tokio_stream::pending::<DeltaDiscoveryRequest>());
        let bearer = format!("Bearer {}", place.token_of(namespace, account, "n1"));
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        let answered = client.delta_aggregated_resources(request).await;
        let code = answered.as_ref().map_or_else(tonic::Status::code, |_| Code::Ok);
        assert_eq!(code, wanted, "{namespace}/{account}: {:?}", answered.err());
    }
    running.end().await;
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_said_with_what_to_do() {
    let place = Place::new();
    let taken = ambit_process::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    type Spoil<'a> = Box<dyn Fn(&mut Run) + 'a>;
    let cases: [(Spoil<'_>, &str); 3] = [
        (
            Box::new(|run| run.cluster.source = Some("/nonexistent".into())),
            "name a folder of manifests that exists",
        ),
        (Box::new(|run| run.token_key = Some("/nonexistent".into())), "(--token-key)"),
        (Box::new(move |run| run.http_addr.set_port(port)), "stop what uses it, or choose another address"),
    ];
    for (spoil, told) in cases {
        let mut config = place.config(0);
        spoil(&mut config);
        let Err(error) = Box::pin(ControlPlane::open(config)).await else { panic!("it starts: {told}") };
        assert!(error.to_string().contains(told), "{error}");
    }
}
