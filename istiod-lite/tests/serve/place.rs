//! A control plane on loopback and whoever asks it: a folder of manifests, tokens for it, a tunnel's subscription, and
//! plain HTTP.

use std::path::PathBuf;
use std::time::Duration;

use ambit_istiod_lite::config::{Cluster, Given, Run, Unset};
use ambit_istiod_lite::run::{Addresses, ControlPlane};
use ambit_model::delta::Change;
use ambit_process::start::Traffic;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::configs::control_plane::{ControlPlane as Remote, RootSource};
use ambit_tls::credential::Terms;
use ambit_tls::issue::{Ca, CaSettings, Token};
use ambit_wire::pb::discovery::Node;
use ambit_xds::pump::{Apply, Handle, Pump, Settings};
use ambit_xds::subscriber::Mode;
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use rcgen::KeyPair;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;

/// Ample for loopback on a busy machine; nothing waits this long when all is well.
pub(crate) const WAIT: Duration = Duration::from_secs(60);

pub(crate) const WORLD: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: shop, labels: {app: web}}, spec: {nodeName: n1, serviceAccountName: web}, status: {phase: Running, podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: cart-1, namespace: shop}, spec: {nodeName: n2, serviceAccountName: cart}, status: {phase: Running, podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80}]}}
";

pub(crate) const POLICY: &str = "
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: NAME, namespace: shop}, spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}}
";

pub(crate) struct Place {
    folder: TempDir,
    signer: KeyPair,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mesh")).unwrap();
        let place = Self { folder, signer: KeyPair::generate().unwrap() };
        std::fs::write(place.path("token.pem"), place.signer.public_key_pem()).unwrap();
        place.write("world.yaml", WORLD);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path("mesh").join(file), text).unwrap();
    }

    pub(crate) fn config(&self, secure: u16) -> Run {
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
                external: Unset,
                in_cacerts: Unset,
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
            read_secrets: false,
            waypoint: Default::default(),
        }
    }

    /// A token of the tunnel on a node.
    pub(crate) fn token(&self, node: &str) -> String {
        self.token_of("istio-system", "ztunnel", node)
    }

    pub(crate) fn token_of(&self, namespace: &str, account: &str, node: &str) -> String {
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

    pub(crate) fn remote(&self, addresses: Addresses) -> Remote {
        let roots = RootSource::File(self.path("state/root-cert.pem"));
        Remote::new(&format!("https://{}", addresses.secure), roots, None).unwrap()
    }
}

pub(crate) struct Running {
    pub(crate) addresses: Addresses,
    stop: Stop,
    tasks: Tasks,
}

impl Running {
    pub(crate) async fn start(place: &Place, secure: u16) -> Self {
        Self::start_with(place.config(secure)).await
    }

    pub(crate) async fn start_with(config: Run) -> Self {
        Self::start_on(config, None).await
    }

    /// Telling on this thread.
    pub(crate) async fn start_on(config: Run, telling: Option<&Traffic>) -> Self {
        let plane = Box::pin(ControlPlane::open(config)).await.unwrap().telling_on(telling);
        let (addresses, stop) = (plane.addresses(), Stop::new());
        let mut tasks = Tasks::new(&stop);
        tasks.spawn("control plane", |stop| plane.run(stop));
        Self { addresses, stop, tasks }
    }

    pub(crate) async fn end(self) -> u16 {
        self.stop.stop();
        assert_eq!(self.tasks.drain(WAIT).await.aborted, 0);
        self.addresses.secure.port()
    }
}

/// A tunnel's subscription; what it is told is the test's to see.
pub(crate) struct Tunnel {
    batches: mpsc::Receiver<Apply>,
    _handle: Handle,
    _tasks: Tasks,
}

impl Tunnel {
    pub(crate) fn start(place: &Place, addresses: Addresses) -> Self {
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
            node: Node { id, metadata: Some(version("1.2.3")), ..Node::default() },
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
    pub(crate) async fn next(&mut self) -> Vec<String> {
        self.next_after(Duration::ZERO).await
    }

    /// The next batch, in force after a while.
    pub(crate) async fn next_after(&mut self, while_: Duration) -> Vec<String> {
        let Apply { batch, done } = tokio::time::timeout(WAIT, self.batches.recv()).await.unwrap().unwrap();
        tokio::time::sleep(while_).await;
        done.send(()).unwrap();
        batch.delta.changes.iter().map(told).collect()
    }

    /// Batches until as many changes have come.
    pub(crate) async fn changes(&mut self, count: usize) -> Vec<String> {
        let mut changes = Vec::new();
        while changes.len() < count {
            changes.extend(self.next().await);
        }
        changes
    }
}

fn version(version: &str) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(version.into())) };
    Struct { fields: [("ISTIO_VERSION".to_owned(), value)].into() }
}

fn told(change: &Change) -> String {
    match change {
        Change::Workload(it) => {
            let listed: Vec<_> = it.policies.iter().map(ToString::to_string).collect();
            format!("+workload {} {listed:?}", it.name)
        }
        Change::Service(it) => format!("+service {}", it.name),
        Change::Policy(it) => format!("+policy {}", it.key),
        Change::Route(it) => format!("+route {}", it.key),
        Change::RequestPolicy(it) => format!("+demand {}", it.key),
        Change::WorkloadGone(uid) => format!("-workload {uid}"),
        Change::ServiceGone(key) => format!("-service {key}"),
        Change::PolicyGone(key) => format!("-policy {key}"),
        Change::RouteGone(key) => format!("-route {key}"),
        Change::RequestPolicyGone(key) => format!("-demand {key}"),
        Change::RateLimit(it) => format!("+limit {}", it.key),
        Change::RateLimitGone(key) => format!("-limit {key}"),
        Change::ExtProc(it) => format!("+processor {}", it.key),
        Change::ExtProcGone(key) => format!("-processor {key}"),
        Change::Authentication(it) => format!("+issuer {}", it.key),
        Change::AuthenticationGone(key) => format!("-issuer {key}"),
        Change::Provider(it) => format!("+provider {}", it.name),
        Change::ProviderGone(name) => format!("-provider {name}"),
        Change::Traffic(it) => format!("+traffic {}", it.service),
        Change::TrafficGone(key) => format!("-traffic {key}"),
        Change::Credential(it) => format!("+credential {}", it.name),
        Change::CredentialGone(name) => format!("-credential {name}"),
        Change::Telemetry(it) => format!("+telemetry {}", it.key),
        Change::TelemetryGone(key) => format!("-telemetry {key}"),
    }
}

pub(crate) async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
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

pub(crate) fn authority(place: &Place, addresses: Addresses, token: Token) -> Ca {
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

pub(crate) async fn http(address: std::net::SocketAddr, path: &str) -> String {
    http_with(address, path, "").await
}

/// With more lines in the head.
pub(crate) async fn http_with(address: std::net::SocketAddr, path: &str, more: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{more}connection: close\r\n\r\n");
    String::from_utf8(raw(address, request.as_bytes()).await).unwrap()
}

pub(crate) async fn raw(address: std::net::SocketAddr, request: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = ambit_process::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}
