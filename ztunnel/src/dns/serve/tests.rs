//! A pod's questions over real sockets on loopback, without a namespace.

use std::io::{Read, Write};
use std::net::UdpSocket as Plain;

use ambit_kit::eventually;
use ambit_model::delta::{Change, Delta};
use ambit_model::service::{Families, Service, Visibility};
use ambit_process::start::Runtimes;
use ambit_process::tasks::Drained;
use ambit_tls::credential::Terms;
use ambit_tls::issue::Directory;
use ambit_tls::vault::Vault;
use tokio::sync::watch;

use super::*;
use crate::config::Config;
use crate::dns::Names;
use crate::dns::resolvers::Resolvers;
use crate::dns::sample::{Fake, Upstream, address, answered, ask, told};
use crate::metrics::Metrics;
use crate::world::Writer;
use crate::{sample, world};

const PATIENCE: Duration = Duration::from_secs(60);

struct Scene {
    runtimes: Runtimes,
    shared: Arc<Shared>,
    fake: Arc<Fake>,
    synced: watch::Sender<bool>,
    _writer: Writer,
}

/// What runs, and where it is asked.
struct Running {
    tasks: Tasks,
    accepting: Stop,
    at: SocketAddr,
}

impl Running {
    async fn finish(self) -> Drained {
        self.accepting.stop();
        self.tasks.finish(PATIENCE, Duration::from_secs(1)).await
    }
}

impl Scene {
    /// A pod `web`, and a service `db.shop` at 10.1.0.1; others are asked at `upstream`.
    fn new(known: bool, upstream: &Upstream) -> Self {
        let runtimes = Runtimes::start("test", 1).unwrap();
        let (world, mut writer) = world::empty("n1".into());
        if known {
            writer.apply(&sample::world(&["10.0.0.2 web n1"]));
            writer.apply(&[Change::Service(Arc::new(db()))].into_iter().collect::<Delta>());
        }
        let (synced, view) = watch::channel(false);
        let (vault, _) =
            Vault::new(Directory::new("/nowhere".into(), Terms::default()), ambit_process::clock::now_system);
        let config = Config::read(&std::collections::BTreeMap::new()).unwrap();
        let resolvers = Resolvers::of(told(&[upstream], PATIENCE));
        let shared = Arc::new(Shared {
            world,
            vault,
            ledger: crate::ledger::Ledger::default(),
            unproven: ambit_proxy::unproven::Unproven::default(),
            metrics: Metrics::default(),
            names: Names::new(&config, Arc::new(resolvers)).map(|names| {
                let mut names = Arc::into_inner(names).unwrap();
                names.at.truncate(1);
                Arc::new(names)
            }),
            settings: config.traffic,
            network: "".into(),
            log_decisions: false,
            policy_wait: Duration::ZERO,
            synced: view,
            threads: runtimes.traffic().into(),
            drain: Duration::from_secs(2),
        });
        let own = vec!["10.0.0.77".parse().unwrap()];
        let fake = Arc::new(Fake { own, ..Fake::default() });
        Self { runtimes, shared, fake, synced, _writer: writer }
    }

    fn start(&self) -> Running {
        let [thread] = self.runtimes.traffic() else { panic!("one thread") };
        let bound = bind(&self.shared, self.fake.as_ref(), thread).unwrap().unwrap();
        let (mut tasks, accepting) = (Tasks::new(&Stop::new()), Stop::new());
        let sockets: Arc<dyn Sockets> = Arc::clone(&self.fake) as _;
        let pod = Arc::new(sample::pod("web"));
        serve(bound, (&self.shared, &pod, &sockets), (&mut tasks, thread, &accepting));
        Running { tasks, accepting, at: *self.fake.bound.lock().unwrap().last().unwrap() }
    }

    fn metric(&self, line: &str) -> Option<String> {
        let mut registry = ambit_process::observe::Registry::default();
        self.shared.metrics.register(&mut registry, &"".into(), false);
        let text = ambit_process::observe::encode(&registry);
        text.lines().find_map(|l| l.strip_prefix(line).map(|rest| rest.trim().to_owned()))
    }
}

fn db() -> Service {
    Service {
        name: "db".into(),
        namespace: "shop".parse().unwrap(),
        hostname: "db.shop.svc.cluster.local".parse().unwrap(),
        vips: vec![ambit_model::address::NetworkAddress::new("".into(), "10.1.0.1".parse().unwrap())],
        ranges: Vec::new(),
        ports: std::collections::BTreeMap::new(),
        subject_alt_names: Vec::new(),
        waypoint: None,
        weighted_waypoints: Vec::new(),
        load_balancing: None,
        families: Families::Automatic,
        canonical: false,
        ingress_use_waypoint: false,
        visibility: Visibility::Public,
    }
}

fn client() -> Plain {
    let socket = Plain::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn hear(socket: &Plain) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("an answer");
    buffer[..length].to_vec()
}

fn honest() -> Upstream {
    Upstream::new(|_, asked| vec![answered(asked, [10, 9, 0, 1])])
}

#[test]
fn nothing_is_read_before_the_world_is_known_and_nothing_is_lost() {
    let (upstream, socket) = (honest(), client());
    let scene = Scene::new(true, &upstream);
    let running = scene.start();
    socket.send_to(&ask("db", 1), running.at).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(socket.recv(&mut [0; 64]).is_err());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    scene.synced.send_replace(true);
    assert_eq!(address(&hear(&socket)).to_string(), "10.1.0.1");
    scene.runtimes.run(running.finish());
}

#[test]
fn our_names_are_answered_others_are_forwarded_and_both_are_counted() {
    let upstream = honest();
    let scene = Scene::new(true, &upstream);
    scene.synced.send_replace(true);
    let (running, socket) = (scene.start(), client());
    for (name, id, said) in [("db.shop", 1, "10.1.0.1"), ("example.com", 0xfffe, "10.9.0.1")] {
        socket.send_to(&ask(name, id), running.at).unwrap();
        let answer = hear(&socket);
        assert_eq!((&answer[..2], address(&answer).to_string().as_str()), (&id.to_be_bytes()[..], said));
    }
    assert_eq!(upstream.asked(), 1);
    let labels = "{request_query_type=\"a\",request_protocol=\"udp\",source_canonical_service=\"web\",source_canonical_revision=\"latest\"}";
    let count = |name: &str| scene.metric(&format!("{name}{labels}"));
    assert_eq!(count("istio_dns_requests_total").as_deref(), Some("2"));
    assert_eq!(count("istio_dns_upstream_requests_total").as_deref(), Some("1"));
    assert_eq!(count("istio_dns_upstream_failures_total"), None);
    assert_eq!(count("istio_dns_upstream_request_duration_seconds_count").as_deref(), Some("1"));
    scene.runtimes.run(running.finish());
}

#[test]
fn a_connection_may_ask_one_question_after_another() {
    let upstream = honest();
    let scene = Scene::new(true, &upstream);
    scene.synced.send_replace(true);
    let running = scene.start();
    let mut stream = std::net::TcpStream::connect(running.at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Both at once, as resolvers do for the two kinds of addresses.
    stream.write_all(&[framed(&ask("db", 1)), framed(&ask("example.com", 2))].concat()).unwrap();
    for (id, said) in [(1, "10.1.0.1"), (2, "10.9.0.1")] {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!((answer[1], address(&answer).to_string().as_str()), (id, said));
    }
    // Too long to be a question: the connection ends.
    stream.write_all(&[0xff, 0xff]).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    scene.runtimes.run(running.finish());
}

#[test]
fn a_pod_the_control_plane_never_tells_of_is_told_that_we_do_not_know() {
    let upstream = honest();
    let scene = Scene::new(false, &upstream);
    scene.synced.send_replace(true);
    let (running, socket) = (scene.start(), client());
    socket.send_to(&ask("example.com", 1), running.at).unwrap();
    assert_eq!(hear(&socket)[3] & 15, 2);
    assert_eq!(upstream.asked(), 0, "not even others are asked for it");
    let labels = "{request_query_type=\"a\",request_protocol=\"udp\",source_canonical_service=\"unknown\",source_canonical_revision=\"unknown\"}";
    assert_eq!(scene.metric(&format!("istio_dns_requests_total{labels}")).as_deref(), Some("1"));
    scene.runtimes.run(running.finish());
}

#[test]
fn what_is_under_way_has_a_limit_and_names_of_ours_need_none() {
    let silent = Upstream::new(|_, _| vec![]);
    let scene = Scene::new(true, &silent);
    scene.synced.send_replace(true);
    let (running, socket) = (scene.start(), client());
    for sent in 1..=UNDER_WAY {
        socket.send_to(&ask("example.com", 1), running.at).unwrap();
        // Fewer at once than a queue of the kernel takes.
        if sent % 64 == 0 || sent == UNDER_WAY {
            let arrived = || if silent.asked() == sent { Ok(()) } else { Err(silent.asked()) };
            assert_eq!(eventually(PATIENCE, arrived), Ok(()));
        }
    }
    socket.send_to(&ask("example.com", 2), running.at).unwrap();
    socket.send_to(&ask("db", 3), running.at).unwrap();
    let (full, known) = (hear(&socket), hear(&socket));
    assert_eq!((full[1], full[3] & 15), (2, 2), "told at once that there is no room");
    assert_eq!((known[1], address(&known).to_string().as_str()), (3, "10.1.0.1"));
    running.accepting.stop();
    scene.runtimes.run(running.tasks.drain(Duration::from_secs(2)));
}

#[test]
fn what_came_before_the_end_is_answered() {
    let slow = Upstream::new(|_, asked| {
        ambit_kit::pause(Duration::from_millis(300));
        vec![answered(asked, [10, 9, 0, 1])]
    });
    let scene = Scene::new(true, &slow);
    scene.synced.send_replace(true);
    let (running, socket) = (scene.start(), client());
    socket.send_to(&ask("example.com", 1), running.at).unwrap();
    let under_way = || if slow.asked() == 1 { Ok(()) } else { Err("not asked") };
    assert_eq!(eventually(PATIENCE, under_way), Ok(()));
    scene.runtimes.run(async {
        let finished = running.finish().await;
        assert_eq!((finished.finished, finished.aborted), (2, 0), "{finished:?}");
    });
    assert_eq!(address(&hear(&socket)).to_string(), "10.9.0.1");
}

#[test]
fn only_processes_of_the_pod_may_ask_and_never_we_ourselves() {
    let upstream = honest();
    let scene = Scene::new(true, &upstream);
    let desk = Desk {
        shared: Arc::clone(&scene.shared),
        names: scene.shared.names.clone().unwrap(),
        pod: Arc::new(sample::pod("web")),
        sockets: Arc::clone(&scene.fake) as _,
    };
    for (from, may) in [
        ("127.0.0.1:4000", true),
        ("[::1]:4000", true),
        ("[::ffff:127.0.0.1]:4000", true),
        ("10.0.0.2:4000", true),
        ("[::ffff:10.0.0.2]:4000", true),
        ("10.0.0.77:4000", true),
        ("10.0.0.3:4000", false),
        ("[fd00::3]:4000", false),
        ("127.0.0.1:15053", false),
    ] {
        assert_eq!(desk.may_ask(from.parse().unwrap()), may, "{from}");
    }
}
