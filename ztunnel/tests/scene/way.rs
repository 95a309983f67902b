//! A waypoint of our own making, on the wire at 10.77.0.8: it answers requests itself, and keeps what it was asked for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ambit_hbone::Windows;
use ambit_hbone::accept::{Accepted, Arrival, accept};
use ambit_hbone::head::{Connect, Opened, Refusal};
use ambit_hbone::nested::Nested;
use ambit_kit::{Leaf, Namespace};
use ambit_process::net::TcpListener;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::credential::{Credential, Material, Terms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::{How, Scene, WORLD, run};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nx-seen: 10.77.0.8\r\ncontent-length: 0\r\n\r\n";

/// Runs until it is dropped.
pub(crate) struct Way {
    asked: Arc<Asked>,
    _running: oneshot::Sender<()>,
}

#[derive(Default)]
struct Asked {
    heads: Mutex<Vec<(String, Connect)>>,
    bytes: Mutex<Vec<u8>>,
    /// It knows nothing of strangers, as others do not.
    ignorant: AtomicBool,
    /// How many more times it knows nothing of what it is asked for, either.
    late: AtomicUsize,
}

impl Scene {
    /// Proxies in dedicated mode, and a waypoint at 10.77.0.8 for whatever is addressed to the server. Whether plaintext
    /// goes through it, too, is asked for or not.
    pub(crate) fn with_waypoint(led: bool) -> (Self, Way) {
        let server = "  workloadIps: [10.77.0.2, 'fd77::2']\n";
        let reference = "  waypoint: {destination: /10.77.0.8, hboneMtlsPort: 15008}\n";
        let way = "- uid: Kubernetes//Pod/shop/way\n  name: way\n  namespace: shop\n  serviceAccount: way\n  \
                   trustDomain: cluster.local\n  workloadIps: [10.77.0.8]\n  protocol: HBONE\n  services: {}\nservices: []";
        let known = WORLD.replace(server, &format!("{server}{reference}")).replace("services: []", way);
        let scene = Self::build(&known, "", How { led, ..How::DEDICATED });
        run(&scene.wire, "ip", &["addr", "add", "10.77.0.8/24", "dev", "br0"]);
        let leaf = scene.authority.issue("spiffe://cluster.local/ns/shop/sa/way");
        let way = Way::start(&scene.wire, &leaf);
        (scene, way)
    }
}

impl Way {
    pub(crate) fn start(namespace: &Namespace, leaf: &Leaf) -> Self {
        let material =
            Material::from_pem(leaf.chain_pem.as_bytes(), leaf.key_pem.as_bytes(), leaf.root_pem.as_bytes());
        let credential = Credential::new(material.unwrap(), &Terms::default()).unwrap();
        let listener = namespace.within(|| std::net::TcpListener::bind("10.77.0.8:15008").unwrap());
        listener.set_nonblocking(true).unwrap();
        let (running, stop) = oneshot::channel();
        let asked = Arc::<Asked>::default();
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, &credential, &noted) => {}
                    _ = stop => {}
                }
            });
        });
        Self { asked, _running: running }
    }

    /// Who has asked for what, since the last time.
    pub(crate) fn asked(&self) -> Vec<(String, Connect)> {
        std::mem::take(&mut *self.asked.heads.lock().unwrap())
    }

    /// What clients have said to it.
    pub(crate) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.asked.bytes.lock().unwrap()).into_owned()
    }

    /// From now on it knows nothing of strangers.
    pub(crate) fn forget_strangers(&self) {
        self.asked.ignorant.store(true, Ordering::Relaxed);
    }

    /// It has not heard yet what it is for, when it is asked so many times more.
    pub(crate) fn lag(&self, times: usize) {
        self.asked.late.store(times, Ordering::Relaxed);
    }
}

async fn serve(listener: std::net::TcpListener, credential: &Credential, asked: &Arc<Asked>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut tunnels = Tasks::new(&Stop::new());
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (tls, asked) = (credential.accepting(), Arc::clone(asked));
        tunnels.spawn("tunnel", move |stop| async move {
            if let Ok(accepted) = accept(tcp, tls, Windows::default()).await {
                streams(accepted, stop, asked).await;
            }
        });
    }
}

async fn streams(accepted: Accepted, stop: Stop, asked: Arc<Asked>) {
    let (peer, mut streams) = (accepted.peer().to_string(), Tasks::new(&Stop::new()));
    let take = |arrival: Arrival| {
        let head = arrival.head().unwrap().clone();
        let for_stranger = head.for_stranger && !asked.ignorant.load(Ordering::Relaxed);
        asked.heads.lock().unwrap().push((peer.clone(), head));
        let late = asked.late.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(1));
        if late.is_ok() {
            return arrival.refuse(Refusal::Elsewhere);
        }
        let asked = Arc::clone(&asked);
        streams.spawn("stream", move |_| async move {
            let mut stream = Nested::new(arrival.open(&Opened { baggage: None, for_stranger }).unwrap());
            let mut piece = vec![0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut piece).await {
                asked.bytes.lock().unwrap().extend_from_slice(&piece[..count]);
                if piece[..count].ends_with(b"\r\n\r\n") && stream.write_all(ANSWER).await.is_err() {
                    return;
                }
            }
            // A client that goes without a word has heard what it wanted.
            let _ = stream.end();
        });
    };
    accepted.serve(stop, take).await;
    while streams.one_ended().await {}
}
