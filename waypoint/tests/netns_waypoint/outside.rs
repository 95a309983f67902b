//! Ways out of the mesh: TLS that the waypoint begins to endpoints without tunnels, and hosts below a wildcard, which
//! clients name themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ambit_kit::Authority;
use ambit_model::address::{NetworkAddress, NetworkRange};
use ambit_model::credential::{Credential, Secret, Shown};
use ambit_model::delta::Change;
use ambit_model::service::{AppProtocol, LoadBalancing, Service, ServicePort};
use ambit_model::traffic::{Handling, Limits, Origination, Roots, SubjectName, Traffic};
use ambit_model::workload::{Tunnel, Workload};
use ambit_process::net::{TcpListener, TcpStream};
use ambit_tls::ServerConfig;
use ambit_tls::configs::{Served, control_plane};
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::client::{Answer, Client, empty, http1};
use crate::scene::{HOSTS, PATIENCE, Scene, credential, endpoint, identity, scene, scene_with, service};

const WEB: &str = "10.1.0.1:80";
/// Where the server is that is no part of the mesh.
pub(crate) const OUTSIDE: &str = "127.0.0.50";

/// Where hosts are. What is looked up is the whole name, to the dot at its end.
pub(crate) const NAMES: &str = "127.0.0.50 a.example.com.\n127.0.0.60 private.example.com.\n\
    127.0.0.49 pod.example.com.\n127.0.0.50 a.example.org.\n127.0.0.50 example.com.\n";

/// An endpoint without a tunnel.
pub(crate) fn plain(name: &str, ip: &str) -> Workload {
    Workload { tunnel: Tunnel::None, ..endpoint(name, ip) }
}

/// Answers requests at an address, over TLS or without it, and counts them.
async fn server(scene: &mut Scene, ip: &str, tls: Option<Arc<ServerConfig>>) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind((ip, 8080)).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    scene.tasks.spawn("outside", move |stop| async move {
        let mut open = ambit_process::tasks::Tasks::new(&stop);
        loop {
            let tcp = tokio::select! {
                taken = listener.accept() => taken.unwrap().0,
                () = stop.stopped() => return,
            };
            let (tls, counted) = (tls.clone(), Arc::clone(&counted));
            open.spawn("one", |stop| async move {
                tokio::select! {
                    () = serve(tcp, tls, &counted) => {}
                    () = stop.stopped() => {}
                }
            });
        }
    });
    count
}

async fn serve(tcp: TcpStream, tls: Option<Arc<ServerConfig>>, counted: &AtomicUsize) {
    let Some(tls) = tls else { return Box::pin(answer(tcp, counted)).await };
    if let Ok(stream) = Served::accept(tls, tcp).await {
        Box::pin(answer(stream, counted)).await;
    }
}

/// Says `ok` to each head that comes whole; heads here are small.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, counted: &AtomicUsize) {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(got @ 1..) = stream.read(&mut piece).await {
        head.extend_from_slice(&piece[..got]);
        if head.ends_with(b"\r\n\r\n") && head.starts_with(b"GET ") {
            head.clear();
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    }
}

async fn ask(client: &mut Client, host: &str) -> Answer {
    client.ask(Request::builder().uri("/").header("host", host).body(empty()).unwrap()).await
}

/// Asks until it is answered so: what was published comes when it comes.
async fn until(client: &mut Client, host: &str, status: u16) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = ask(client, host).await;
        if answer.status == status {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{host} {status}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn begun(tls: Option<Origination>) -> Change {
    let service = "shop/web.shop.svc.cluster.local".parse().unwrap();
    let handling = Handling { tls, ..Handling::default() };
    Change::Traffic(Arc::new(Traffic { handling, ..Traffic::unsaid(service) }))
}

#[test]
fn tls_begins_to_an_endpoint_that_proves_its_name_and_nothing_is_sent_to_one_that_does_not() {
    let authority = Authority::new();
    let leaf = authority.issue_host("api.example.com");
    let tls = control_plane::server_of(
        control_plane::Speaks::Http,
        leaf.chain_pem.as_bytes(),
        leaf.key_pem.as_bytes(),
    )
    .unwrap();
    let roots = || Roots::Given(authority.root_pem().into());
    let said = |server: Option<&str>, names: &[&str], roots| {
        let names = names.iter().map(|it| SubjectName::Any((*it).into())).collect();
        Some(Origination { server: server.map(Into::into), names, roots, shown: None })
    };
    let world = [
        Change::Service(Arc::new(service("web", "10.1.0.1", AppProtocol::Http11))),
        Change::Workload(Arc::new(plain("one", OUTSIDE))),
        begun(said(None, &[], roots())),
    ];
    scene(&world, async |scene| {
        let count = server(scene, OUTSIDE, Some(tls)).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        // The name is the one that the request is for.
        for _ in 0..3 {
            assert_eq!(ask(&mut client, "api.example.com").await.status, 200);
        }
        let before = count.load(Ordering::SeqCst);
        let answer = ask(&mut client, "other.example.com").await;
        assert_eq!(answer.status, 503, "{answer:?}");
        scene.logged(&["other.example.com is not proven", "response_flags=\"UF\""]);
        for (tls, status) in [
            (said(Some("api.example.com"), &[], roots()), 200),
            (said(Some("api.example.com"), &["other.example.com"], roots()), 503),
            (said(None, &["api.example.com"], roots()), 200),
            // Who vouches for others does not vouch for this one.
            (said(None, &["api.example.com"], Roots::Given(Authority::new().root_pem().into())), 503),
            (said(None, &[], Roots::Unchecked), 200),
            // Roots that are none vouch for nobody.
            (said(Some("api.example.com"), &[], Roots::Given("none".into())), 503),
            (said(Some("api.example.com"), &[], roots()), 200),
        ] {
            let what = format!("{tls:?}");
            scene.plane.publish(&[begun(tls)].into_iter().collect());
            until(&mut client, "other.example.com", status).await;
            // And not only by chance, on a connection that somebody else had begun.
            assert_eq!(ask(&mut client, "other.example.com").await.status, status, "{what}");
        }
        assert!(count.load(Ordering::SeqCst) > before);
    });
}

#[test]
fn a_service_that_is_wherever_it_is_asked_for_is_asked_for_there_and_nowhere_else() {
    let mode = ambit_model::service::BalanceMode::Passthrough;
    let passed = |name: &str, vips: &[&str], ranges: &[&str], protocol| {
        let at = |ip: &&str| NetworkAddress::new("".into(), ip.parse().unwrap());
        let range = |range: &&str| NetworkRange { network: "".into(), range: range.parse().unwrap() };
        let health = ambit_model::service::HealthRule::OnlyHealthy;
        let ports = BTreeMap::from([(8080, ServicePort { target: 8080, protocol })]);
        Change::Service(Arc::new(Service {
            vips: vips.iter().map(at).collect(),
            ranges: ranges.iter().map(range).collect(),
            ports,
            load_balancing: Some(LoadBalancing { preference: Vec::new(), mode, health }),
            ..service(name, "10.1.0.1", protocol)
        }))
    };
    let world = [
        passed("range", &[], &["127.0.0.48/30"], AppProtocol::Http11),
        passed("opaque", &[], &["127.0.0.52/30"], AppProtocol::Tcp),
        passed("several", &["127.0.0.60", "127.0.0.61"], &[], AppProtocol::Http11),
    ];
    scene(&world, async |scene| {
        let mut counts = Vec::new();
        for ip in [OUTSIDE, "127.0.0.53", "127.0.0.60", "127.0.0.61"] {
            counts.push(server(scene, ip, None).await);
        }
        let seen = || counts.iter().map(|it| it.load(Ordering::SeqCst)).collect::<Vec<_>>();
        for (asked, wanted) in [
            ("127.0.0.50:8080", [1, 0, 0, 0]),
            ("127.0.0.53:8080", [1, 1, 0, 0]),
            ("127.0.0.61:8080", [1, 1, 0, 1]),
            ("127.0.0.60:8080", [1, 1, 1, 1]),
        ] {
            let mut client = http1(scene.open("cart", asked).await.unwrap()).await;
            assert_eq!(ask(&mut client, "vendor.example").await.status, 200, "{asked}");
            assert_eq!(seen(), wanted, "{asked}");
        }
        // Where nobody is, nobody answers in their place.
        let mut client = http1(scene.open("cart", "127.0.0.49:8080").await.unwrap()).await;
        assert_eq!(ask(&mut client, "vendor.example").await.status, 503);
        assert!(scene.open("cart", "127.0.0.54:8080").await.is_err());
        assert_eq!(seen(), [1; 4]);
    });
}

/// Carries back what comes, over TLS and from those alone who show a certificate that it believes.
async fn mutual(scene: &mut Scene, tls: Arc<ServerConfig>) {
    let listener = TcpListener::bind((OUTSIDE, 8080)).await.unwrap();
    scene.tasks.spawn("mutual", move |stop| async move {
        let mut open = ambit_process::tasks::Tasks::new(&stop);
        loop {
            let tcp = tokio::select! {
                taken = listener.accept() => taken.unwrap().0,
                () = stop.stopped() => return,
            };
            let tls = Arc::clone(&tls);
            open.spawn("one", |stop| async move {
                let echo = async {
                    let Ok(mut stream) = Served::accept(tls, tcp).await else { return };
                    let mut bytes = [0; 64];
                    while let Ok(got @ 1..) = stream.read(&mut bytes).await {
                        let _ = stream.write_all(&bytes[..got]).await;
                    }
                };
                tokio::select! {
                    () = echo => {}
                    () = stop.stopped() => {}
                }
            });
        }
    });
}

/// Whether what is sent comes back.
async fn comes_back(scene: &Scene) -> bool {
    let Ok(mut stream) = scene.open("cart", WEB).await else { return false };
    let mut back = [0; 4];
    let there =
        async { stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut back).await.is_ok() };
    tokio::time::timeout(PATIENCE, there).await.unwrap() && back == *b"ping"
}

#[test]
fn a_certificate_is_shown_to_an_endpoint_that_asks_for_one_and_its_key_is_shown_to_nobody() {
    let authority = Authority::new();
    let leaf = authority.issue("spiffe://cluster.local/ns/shop/sa/gate");
    let strange = Authority::new().issue("spiffe://cluster.local/ns/shop/sa/gate");
    let told = |leaf: &ambit_kit::Leaf, owner: &str| {
        Change::Credential(Arc::new(Credential {
            name: "shop/gate".into(),
            owners: vec![identity(owner)],
            shown: Some(Shown { chain: leaf.chain_pem.as_str().into(), key: Secret::new(&leaf.key_pem) }),
            roots: Some(authority.root_pem().into()),
        }))
    };
    let shows = |shown: Option<&str>| {
        begun(Some(Origination {
            server: Some("server.example.com".into()),
            names: vec![SubjectName::Uri("spiffe://cluster.local/ns/shop/sa/server".into())],
            roots: Roots::Credential("shop/gate".into()),
            shown: shown.map(Into::into),
        }))
    };
    let world = [
        Change::Service(Arc::new(service("web", "10.1.0.1", AppProtocol::Tcp))),
        Change::Workload(Arc::new(plain("one", OUTSIDE))),
        told(&leaf, "way"),
        shows(Some("shop/gate")),
    ];
    let server = credential(&authority, &identity("server")).server();
    scene(&world, async |scene| {
        mutual(scene, server).await;
        assert!(comes_back(scene).await);
        for (what, change, wanted) in [
            ("nothing is shown", shows(None), false),
            ("a secret that is not there", shows(Some("shop/other")), false),
            ("it is there again", shows(Some("shop/gate")), true),
            ("one that the endpoint does not believe", told(&strange, "way"), false),
            ("the former one", told(&leaf, "way"), true),
            ("it is another waypoint's now", told(&leaf, "other"), false),
            ("ours once more", told(&leaf, "way"), true),
            ("it was taken away", Change::CredentialGone("shop/gate".into()), false),
        ] {
            scene.plane.publish(&[change].into_iter().collect());
            let end = tokio::time::Instant::now() + PATIENCE;
            while comes_back(scene).await != wanted {
                assert!(tokio::time::Instant::now() < end, "{what}:\n{}", scene.log());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        scene.logged(&["the secret shop/gate is not known here"]);
        scene.plane.publish(&[told(&leaf, "way")].into_iter().collect());
        let dump = scene.get(15000, "/config_dump").await.unwrap();
        assert!(dump.contains("shop/gate"), "{dump}");
        let resources = scene.get(15000, "/resources").await.unwrap_or_default();
        let piece = leaf.key_pem.lines().nth(1).unwrap();
        for text in [dump, resources, scene.log()] {
            assert!(!text.contains(piece) && !text.contains("PRIVATE KEY"), "{text}");
        }
    });
}

/// `*.example.com` behind the waypoint, each of whose hosts is its own endpoint.
pub(crate) fn wildcard(protocol: AppProtocol) -> [Change; 2] {
    let hosts =
        Service { hostname: "*.example.com".parse().unwrap(), ..service("web", "10.1.0.1", protocol) };
    let itself = Workload {
        addresses: Vec::new(),
        hostname: "*.example.com".into(),
        services: BTreeMap::from([(hosts.key(), BTreeMap::from([(80, 8080)]))]),
        ..plain("any", OUTSIDE)
    };
    [Change::Service(Arc::new(hosts)), Change::Workload(Arc::new(itself))]
}

#[test]
fn a_host_below_a_wildcard_is_asked_where_it_is_and_nowhere_that_only_we_can_reach() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hosts");
    std::fs::write(&file, NAMES).unwrap();
    let mut world = wildcard(AppProtocol::Http11).to_vec();
    world.push(Change::Workload(Arc::new(plain("pod", "127.0.0.49"))));
    let settings = [("DYNAMIC_DNS_RANGES", "127.0.0.48/30"), (HOSTS, file.to_str().unwrap())];
    scene_with(&settings, &world, async |scene| {
        let there = server(scene, OUTSIDE, None).await;
        let hidden = [server(scene, "127.0.0.60", None).await, server(scene, "127.0.0.49", None).await];
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        for (host, status) in [
            ("a.example.com", 200),
            ("A.Example.com:80", 200),
            // At an address that nobody has allowed, at one of the mesh, and nowhere.
            ("private.example.com", 503),
            ("pod.example.com", 503),
            ("nobody.example.com", 503),
            // Not below the wildcard, whatever has the name.
            ("a.example.org", 404),
            ("example.com", 404),
            ("127.0.0.50", 404),
        ] {
            assert_eq!(ask(&mut client, host).await.status, status, "{host}");
        }
        assert_eq!(there.load(Ordering::SeqCst), 2);
        assert!(hidden.iter().all(|count| count.load(Ordering::SeqCst) == 0));
    });
}

#[test]
fn without_a_word_no_private_address_is_asked_for_a_host_below_a_wildcard() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hosts");
    std::fs::write(&file, "127.0.0.50 a.example.com.\n").unwrap();
    scene_with(&[(HOSTS, file.to_str().unwrap())], &wildcard(AppProtocol::Http11), async |scene| {
        let there = server(scene, OUTSIDE, None).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(ask(&mut client, "a.example.com").await.status, 503);
        assert_eq!(there.load(Ordering::SeqCst), 0);
    });
}

/// Takes connections and says nothing on them; how many there were.
async fn silent(scene: &mut Scene) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind((OUTSIDE, 8080)).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    scene.tasks.spawn("silent", move |stop| async move {
        let mut held = Vec::new();
        loop {
            tokio::select! {
                taken = listener.accept() => held.push(taken.unwrap()),
                () = stop.stopped() => return,
            }
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    count
}

#[test]
fn of_all_who_wait_for_a_connection_that_fails_none_waits_for_another_failure_of_its_own() {
    const MANY: usize = 12;
    let of = "shop/web.shop.svc.cluster.local".parse().unwrap();
    let limits = Limits { connect: Some(Duration::from_secs(1)), ..Limits::default() };
    let handling = Handling {
        tls: Some(Origination { server: None, names: Vec::new(), roots: Roots::Unchecked, shown: None }),
        limits,
        ..Handling::default()
    };
    let world = [
        Change::Service(Arc::new(service("web", "10.1.0.1", AppProtocol::Http2))),
        Change::Workload(Arc::new(plain("one", OUTSIDE))),
        Change::Traffic(Arc::new(Traffic { handling, ..Traffic::unsaid(of) })),
    ];
    scene(&world, async |scene| {
        let count = silent(scene).await;
        let mut clients = Vec::new();
        for _ in 0..MANY {
            clients.push(http1(scene.open("cart", WEB).await.unwrap()).await);
        }
        let all = clients.iter_mut().map(|client| client.get("/"));
        let answers = tokio::time::timeout(PATIENCE, futures_util::future::join_all(all)).await.unwrap();
        assert!(answers.iter().all(|it| it.status == 503), "{answers:?}");
        assert!(count.load(Ordering::SeqCst) < MANY, "{count:?} connections");
    });
}
