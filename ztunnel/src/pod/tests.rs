//! One pod in one process: real connections, fake sockets, no namespace.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Mutex;

use ambit_process::clock;
use ambit_process::start::Runtimes;
use ambit_sys::socket::{self, Listen, Transparency};
use ambit_tls::credential::Terms;
use ambit_tls::issue::Directory;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::config::Config;
use crate::sockets::Connecting;
use crate::world::Writer;
use crate::{sample, world};

/// Listeners on loopback, at whatever ports are free; every connection goes to one application.
struct Fake {
    listening: Mutex<HashMap<u16, SocketAddr>>,
    application: SocketAddr,
}

impl Sockets for Fake {
    fn listen(&self, port: u16) -> Result<Listening, SocketsError> {
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let how = Listen { at, mark: None, transparency: Transparency::Off, reuse_port: false, backlog: 8 };
        let listening = socket::listen(&how)?;
        self.listening.lock().unwrap().insert(port, listening.socket.local_addr().unwrap());
        Ok(listening)
    }

    fn connect(&self, _: SocketAddr, _: Option<IpAddr>) -> Connecting {
        Box::pin(TcpStream::connect(self.application))
    }

    fn listen_names(&self, _: SocketAddr) -> Result<(UdpSocket, std::net::TcpListener), SocketsError> {
        unreachable!("no names here")
    }

    fn ask(&self, _: SocketAddr) -> Result<UdpSocket, SocketsError> {
        unreachable!("no names here")
    }

    fn owns(&self, _: IpAddr) -> bool {
        false
    }

    fn tune(&self, _: &TcpStream) -> io::Result<()> {
        Ok(())
    }
}

/// One pod named `web`, with an application that echoes.
struct Scene {
    runtimes: Runtimes,
    shared: Arc<Shared>,
    writer: Writer,
    synced: watch::Sender<bool>,
    fake: Arc<Fake>,
}

impl Scene {
    fn new(known: bool) -> Self {
        Self::draining(known, Duration::from_secs(60))
    }

    /// Connections of its pods may go on for this long.
    fn draining(known: bool, drain: Duration) -> Self {
        Self::on(1, known, drain)
    }

    fn on(threads: usize, known: bool, drain: Duration) -> Self {
        let runtimes = Runtimes::start("test", threads).unwrap();
        let (world, mut writer) = world::empty("n1".into());
        if known {
            writer.apply(&sample::world(&["127.0.0.1 web n1"]));
        }
        let (synced, view) = watch::channel(false);
        let (vault, _) = Vault::new(Directory::new("/nowhere".into(), Terms::default()), clock::now_system);
        let config = Config::read(&std::collections::BTreeMap::new()).unwrap();
        let shared = Arc::new(Shared {
            world,
            vault,
            ledger: Ledger::default(),
            unproven: Unproven::default(),
            metrics: Metrics::default(),
            settings: config.traffic,
            names: None,
            network: "".into(),
            log_decisions: false,
            policy_wait: Duration::ZERO,
            synced: view,
            threads: runtimes.traffic().into(),
            drain,
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let application = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        let fake = Arc::new(Fake { listening: Mutex::default(), application });
        Self { runtimes, shared, writer, synced, fake }
    }

    fn start(&self) -> Running {
        let sockets: Arc<dyn Sockets> = Arc::clone(&self.fake) as _;
        Running::start(&self.shared, &sample::pod("web"), &sockets).unwrap()
    }

    fn port(&self, port: u16) -> SocketAddr {
        self.fake.listening.lock().unwrap()[&port]
    }

    /// How many connections were closed with these flags.
    fn closed(&self, flags: &str) -> bool {
        let mut registry = ambit_process::observe::Registry::default();
        self.shared.metrics.register(&mut registry, &"".into(), false);
        let text = ambit_process::observe::encode(&registry);
        let flags = format!("response_flags=\"{flags}\"");
        text.lines().any(|l| l.starts_with("istio_tcp_connections_closed_total") && l.contains(&flags))
    }
}

async fn echoes(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4];
    stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut buffer).await.is_ok()
}

#[test]
fn nothing_is_accepted_before_the_world_is_known_and_nothing_is_lost() {
    let scene = Scene::new(true);
    scene.runtimes.run(async {
        let running = scene.start();
        let mut early = TcpStream::connect(scene.port(15006)).await.unwrap();
        let mut buffer = [0; 4];
        early.write_all(b"ping").await.unwrap();
        let silence = timeout(Duration::from_millis(100), early.read_exact(&mut buffer)).await;
        assert!(silence.is_err(), "{silence:?}");
        scene.synced.send_replace(true);
        early.read_exact(&mut buffer).await.unwrap();
        drop(early);
        running.stop().await;
    });
}

#[test]
fn a_pods_few_connections_share_a_thread_and_many_are_spread_over_all() {
    let scene = Scene::on(3, true, Duration::from_secs(60));
    let runtimes = Runtimes::start("other", 0).unwrap();
    runtimes.run(async {
        scene.synced.send_replace(true);
        let running = scene.start();
        let by_thread = || running.pages().iter().map(|page| page.dump().0.len()).collect::<Vec<_>>();
        let mut open = Vec::new();
        for (count, wanted) in [(4, [4, 0, 0]), (12, [4, 4, 4]), (15, [5, 5, 5])] {
            while open.len() < count {
                let mut stream = TcpStream::connect(scene.port(15006)).await.unwrap();
                assert!(echoes(&mut stream).await);
                open.push(stream);
            }
            assert_eq!(by_thread(), wanted);
        }
        for stream in &mut open {
            assert!(echoes(stream).await);
        }
        running.stop().await;
    });
}

#[test]
fn a_live_connection_is_cut_by_a_policy_and_recorded_as_denied() {
    let mut scene = Scene::new(true);
    let runtimes = Runtimes::start("other", 0).unwrap();
    runtimes.run(async {
        scene.synced.send_replace(true);
        let running = scene.start();
        let mut open = TcpStream::connect(scene.port(15006)).await.unwrap();
        assert!(echoes(&mut open).await);
        let delta = sample::deny_plaintext("no-plaintext");
        let world = scene.writer.apply(&delta);
        assert_eq!(scene.shared.ledger.rejudge(&world, &delta, clock::now()).cut, 1);
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(30), open.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.is_empty(), "{ended:?}");
        let mut refused = TcpStream::connect(scene.port(15006)).await.unwrap();
        assert!(!echoes(&mut refused).await);
        running.stop().await;
        assert!(scene.closed("DENY"));
    });
}

#[test]
fn a_stop_cuts_at_once_and_a_drain_waits_for_its_limit() {
    let limit = Duration::from_secs(3);
    let scene = Scene::draining(true, limit);
    scene.runtimes.run(async {
        scene.synced.send_replace(true);
        let running = scene.start();
        let mut open = TcpStream::connect(scene.port(15006)).await.unwrap();
        assert!(echoes(&mut open).await);
        let began = clock::now();
        let (_, goes_on) = tokio::join!(running.finish(limit), echoes(&mut open));
        assert!(goes_on, "an open connection goes on while draining");
        assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
        assert!(!echoes(&mut open).await);
    });
    let scene = Scene::new(true);
    scene.runtimes.run(async {
        scene.synced.send_replace(true);
        let running = scene.start();
        let mut open = TcpStream::connect(scene.port(15006)).await.unwrap();
        assert!(echoes(&mut open).await);
        // The drain's limit is a minute: one that was waited for would end by being aborted.
        assert_eq!(running.stop().await.aborted, 0);
        assert!(!echoes(&mut open).await);
    });
}

#[test]
fn a_pod_the_control_plane_never_tells_of_is_refused_after_a_bounded_wait() {
    let scene = Scene::new(false);
    scene.runtimes.run(async {
        scene.synced.send_replace(true);
        let running = scene.start();
        let began = clock::now();
        let mut stream = TcpStream::connect(scene.port(15006)).await.unwrap();
        let ended = timeout(LOCAL_WAIT * 6, stream.read(&mut [0; 4])).await.unwrap();
        assert!(!matches!(ended, Ok(bytes) if bytes > 0), "{ended:?}");
        assert!(began.elapsed() >= LOCAL_WAIT, "{:?}", began.elapsed());
        running.stop().await;
    });
}
