//! TLS that a waypoint begins to a service outside the mesh, from the policy in the directory to what is on the wire: the
//! server's name, who has to answer, and that nothing goes to anybody else, least of all in plaintext.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_kit::{Authority, Leaf, eventually};
use ambit_sys::netns::Netns;
use ambit_tls::configs::{Served, control_plane};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::mesh::{Mesh, SOON};

/// The first byte of TLS; of HTTP it is a letter.
const HANDSHAKE: u8 = 22;

/// How long the server waits for the rest of what has begun.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pod that is no part of the mesh, and its service, which goes through the waypoint.
const VAULT: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: vault, namespace: shop, labels: { app: vault, istio.io/dataplane-mode: none } }
spec:
  nodeName: node-2
  serviceAccountName: vault
  containers: [{ name: app, command: [ambit, pod, serve] }]
---
apiVersion: v1
kind: Service
metadata: { name: vault, namespace: shop, labels: { istio.io/use-waypoint: way } }
spec: { selector: { app: vault }, ports: [{ name: http, port: 443, targetPort: 8443 }] }
";

const URL: &str = "http://vault.shop:443/";

/// The policy, and the map with those who vouch, if there is one.
fn policy(host: &str, roots: Option<&str>) -> String {
    let map = roots.map_or_else(String::new, |pem| {
        let lines: String = pem.lines().map(|line| format!("    {line}\n")).collect();
        let meta = "metadata: { name: vault-ca, namespace: shop }";
        format!("---\napiVersion: v1\nkind: ConfigMap\n{meta}\ndata:\n  ca.crt: |\n{lines}")
    });
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{ name: vault, namespace: shop }}
spec:
  targetRefs: [{{ group: '', kind: Service, name: vault, sectionName: http }}]
  validation:
    hostname: {host}
    caCertificateRefs: [{{ group: '', kind: ConfigMap, name: vault-ca }}]
{map}"
    )
}

/// What came to the vault: how each connection began, and how many requests were answered.
#[derive(Default)]
struct Came {
    begun: Vec<Vec<u8>>,
    answered: usize,
}

struct Vault(Arc<Mutex<Came>>);

impl Vault {
    /// Serves TLS in the pod, until the test ends.
    fn start(mesh: &Mesh, leaf: &Leaf) -> Self {
        let pod = mesh.pod("shop/vault").unwrap();
        assert_eq!(pod["in_mesh"], false, "{pod}");
        let space = Netns::open(pod["space"].as_str().unwrap().as_ref()).unwrap();
        let bind = || std::net::TcpListener::bind("0.0.0.0:8443");
        let listener = space.run_on_thread(bind).unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (chain, key) = (leaf.chain_pem.as_bytes(), leaf.key_pem.as_bytes());
        let tls = control_plane::server_of(control_plane::Speaks::Http, chain, key).unwrap();
        let came = Arc::new(Mutex::new(Came::default()));
        let shared = Arc::clone(&came);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((tcp, _)) = listener.accept().await {
                    let beginning = beginning(&tcp).await;
                    shared.lock().unwrap().begun.push(beginning);
                    let served = async { answer(Served::accept(Arc::clone(&tls), tcp).await.ok()?).await };
                    if timeout(PATIENCE, served).await.ok().flatten().is_some() {
                        shared.lock().unwrap().answered += 1;
                    }
                }
            });
        });
        Self(came)
    }

    /// What came since this was called last.
    fn came(&self) -> Came {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// The first record of a connection, which stays where it is; of one that says less, that.
async fn beginning(tcp: &TcpStream) -> Vec<u8> {
    let mut seen = [0; 16 << 10];
    let mut length = 0;
    for _ in 0..200 {
        length = tcp.peek(&mut seen).await.unwrap_or(0);
        let wanted = 5 + usize::from(u16::from_be_bytes([seen[3], seen[4]]));
        if length == 0 || length >= wanted || seen[0] != HANDSHAKE {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    seen[..length].to_vec()
}

/// Answers one request, and ends.
async fn answer(mut stream: Served) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{\"vault\": true}";
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

fn gets_in(mesh: &Mesh) -> Result<(), String> {
    let answer = mesh.fetch("shop/web", URL)?;
    if answer["vault"] == true { Ok(()) } else { Err(answer.to_string()) }
}

/// Whether the waypoint says so itself: nobody else is asked in the vault's place.
fn is_refused(mesh: &Mesh, status: u16) -> Result<(), String> {
    match mesh.fetch("shop/web", URL) {
        Err(why) if why.contains(&format!("status {status}")) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Whether all connections began TLS, and asked for this server.
fn asked_for(begun: &[Vec<u8>], host: &str) {
    for begun in begun {
        let shown = String::from_utf8_lossy(begun);
        assert_eq!(begun.first(), Some(&HANDSHAKE), "not in TLS: {shown}");
        assert!(begun.windows(host.len()).any(|it| it == host.as_bytes()), "not for {host}: {shown}");
    }
}

#[test]
fn a_policy_of_tls_leads_to_tls_with_whom_it_names_and_to_nothing_with_anybody_else() {
    let mesh = Mesh::up("secured");
    let gateway = include_str!("waypoints.yaml").split("---").next().unwrap();
    mesh.write("way.yaml", gateway);
    mesh.write("vault.yaml", VAULT);
    let authority = Authority::new();
    let (ours, other) = (authority.root_pem(), Authority::new());
    mesh.write("tls.yaml", &policy("vault.example", Some(ours)));
    eventually(SOON * 2, || mesh.phase("shop/vault", "Running")).unwrap();
    let vault = Vault::start(&mesh, &authority.issue_host("vault.example"));
    // Until waypoint and policy are there, it is asked as any other service.
    eventually(SOON * 2, || gets_in(&mesh)).unwrap();
    vault.came();
    for _ in 0..3 {
        gets_in(&mesh).unwrap();
    }
    let came = vault.came();
    asked_for(&came.begun, "vault.example");
    assert_eq!((came.answered, came.begun.len()), (3, 3));
    for (host, roots, status) in [
        // Somebody else vouches.
        ("vault.example", Some(other.root_pem()), 503),
        // Nobody is there to vouch.
        ("vault.example", None, 500),
        // It proves another name.
        ("other.example", Some(ours), 503),
    ] {
        mesh.write("tls.yaml", &policy(host, roots));
        eventually(SOON, || is_refused(&mesh, status)).unwrap_or_else(|why| panic!("{host}: {why}"));
        vault.came();
        for _ in 0..3 {
            is_refused(&mesh, status).unwrap();
        }
        let came = vault.came();
        assert_eq!(came.answered, 0, "{host}");
        // Whoever has nobody to believe need not even begin.
        assert!(roots.is_none() || !came.begun.is_empty(), "nobody came for {host}");
        let sent: Vec<_> = came.begun.into_iter().filter(|it| !it.is_empty()).collect();
        asked_for(&sent, host);
        mesh.write("tls.yaml", &policy("vault.example", Some(ours)));
        eventually(SOON, || gets_in(&mesh)).unwrap_or_else(|why| panic!("{host}, again: {why}"));
    }
}
