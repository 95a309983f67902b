//! A thousand node proxies as far as a control plane sees of them: a connection each, everything subscribed to,
//! every response acknowledged. What they are sent is counted and thrown away; the first of them keeps names and
//! versions for all, to report them when they come back. Owns the clients and the board on which they count.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::scale::answer::{Answers, Said, framed, put, resource};
use crate::scale::cluster::{Cluster, pod_of};

/// What is subscribed to, policies last: who asks for addresses first is the harder case.
const KINDS: [&str; 2] =
    ["type.googleapis.com/istio.workload.Address", "type.googleapis.com/istio.security.Authorization"];
/// As the HTTP/2 stack of node proxies has them.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;
/// Between two attempts: shorter than node proxies wait, so that the control plane bears more, not less.
const RETRY: Duration = Duration::from_millis(500);

/// A node proxy puts in force what it is told before it says so. Here this time is for all others to be told: the one
/// thread that plays a thousand nodes would otherwise answer for the first ones while the last ones' news wait.
const IN_FORCE: Duration = Duration::from_millis(5);

/// What the clients tell, and what they are told.
pub struct Board {
    cluster: Arc<Cluster>,
    /// Counted up when all are to drop their connections and come back.
    session: watch::Sender<u64>,
    /// Addresses that make a client caught up.
    target: Cell<usize>,
    requests: RefCell<[Bytes; 2]>,
    names: RefCell<[BTreeMap<String, String>; 2]>,
    /// When each client of this session caught up.
    pub caught_up: RefCell<Vec<Instant>>,
    /// From a pod's change to its arrival, for each client.
    pub delays: RefCell<Vec<Duration>>,
    /// Resources that came in this session.
    pub resources: Cell<usize>,
    /// Responses that came in this session.
    pub responses: Cell<usize>,
    /// Bytes that came in this session.
    pub bytes: Cell<u64>,
    /// Attempts that came to nothing, by what became of them.
    pub refused: RefCell<BTreeMap<String, usize>>,
}

impl Board {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            session: watch::channel(0).0,
            target: Cell::default(),
            requests: RefCell::default(),
            names: RefCell::default(),
            caught_up: RefCell::default(),
            delays: RefCell::default(),
            resources: Cell::default(),
            responses: Cell::default(),
            bytes: Cell::default(),
            refused: RefCell::default(),
        }
    }

    /// All connections are dropped; nobody comes back yet.
    pub fn drop_all(&self) {
        self.session.send_modify(|session| *session += 1);
    }

    /// All connect, reporting what they have. A client has caught up once it got so many addresses.
    pub fn connect_all(&self, target: usize) {
        let requests = [0, 1].map(|kind| first_request(kind, &self.names.borrow()[kind]).into());
        *self.requests.borrow_mut() = requests;
        self.target.set(target);
        self.caught_up.borrow_mut().clear();
        self.delays.borrow_mut().clear();
        self.resources.set(0);
        self.responses.set(0);
        self.bytes.set(0);
        self.refused.borrow_mut().clear();
        self.session.send_modify(|session| *session += 1);
    }
}

/// The first request of a type: who asks, and what it has.
fn first_request(kind: usize, held: &BTreeMap<String, String>) -> Vec<u8> {
    let (mut node, mut request) = (Vec::new(), Vec::new());
    put(&mut node, 1, b"ztunnel~10.0.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local");
    put(&mut request, 1, &node);
    put(&mut request, 2, KINDS[kind].as_bytes());
    for (name, version) in held {
        let mut entry = Vec::new();
        put(&mut entry, 1, name.as_bytes());
        put(&mut entry, 2, version.as_bytes());
        put(&mut request, 5, &entry);
    }
    framed(&request)
}

/// One client, over all its sessions: in odd ones it is connected.
pub async fn client(number: usize, board: Rc<Board>, to: SocketAddr) {
    let mut session = board.session.subscribe();
    loop {
        if *session.borrow_and_update() % 2 == 1 {
            let ended = tokio::select! {
                _ = session.changed() => continue,
                ended = stream(number, &board, to) => ended,
            };
            if let Err(error) = ended {
                *board.refused.borrow_mut().entry(format!("{error:#}")).or_default() += 1;
            }
            let wait = RETRY.mul_f64(0.5 + (number % 64) as f64 / 64.0);
            tokio::select! {
                _ = session.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        } else if session.changed().await.is_err() {
            return;
        }
    }
}

async fn stream(number: usize, board: &Board, to: SocketAddr) -> Result<()> {
    let tcp = TcpStream::connect(to).await?;
    tcp.set_nodelay(true)?;
    let mut builder = Builder::new();
    builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, connection) = builder.handshake(tcp).await?;
    let mut driver = JoinSet::new();
    driver.spawn_local(connection);
    let ended = talk(number, board, to, sender).await;
    // Why the connection ended says more than that the stream did.
    match (ended, driver.try_join_next()) {
        (Err(error), Some(Ok(Err(why)))) => Err(error.context(why)),
        (ended, _) => ended,
    }
}

async fn talk(number: usize, board: &Board, to: SocketAddr, sender: SendRequest<Bytes>) -> Result<()> {
    let (mut send, mut body) = open(sender, board, to).await?;
    let mut client =
        Client { number, board, answers: Answers::default(), got: 0, names: Vec::new(), first: [true; 2] };
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        // Beyond the window nothing was sent, so giving it back succeeds.
        let _ = body.flow_control().release_capacity(chunk.len());
        let due = client.take(&chunk)?;
        if !due.is_empty() {
            tokio::time::sleep(IN_FORCE).await;
        }
        for (kind, nonce) in due {
            let mut ack = Vec::new();
            put(&mut ack, 2, kind.as_bytes());
            put(&mut ack, 6, nonce.as_bytes());
            send.send_data(framed(&ack).into(), false)?;
        }
    }
    bail!("the stream was ended")
}

async fn open(
    sender: SendRequest<Bytes>,
    board: &Board,
    to: SocketAddr,
) -> Result<(SendStream<Bytes>, RecvStream)> {
    let path = "envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    let request = Request::post(format!("http://{to}/{path}"));
    let request = request.header("content-type", "application/grpc").header("te", "trailers").body(())?;
    let mut sender = sender.ready().await?;
    let (response, mut send) = sender.send_request(request, false)?;
    let requests = board.requests.borrow().clone();
    for request in requests {
        send.send_data(request, false)?;
    }
    let response = response.await?;
    if let Some(status) = response.headers().get("grpc-status") {
        bail!("refused: {}", status.to_str().context("a status")?);
    }
    Ok((send, response.into_body()))
}

struct Client<'a> {
    number: usize,
    board: &'a Board,
    answers: Answers,
    got: usize,
    /// Names and versions of the response that is coming in; the first client's only.
    names: Vec<(String, String)>,
    /// No response of the type was complete yet.
    first: [bool; 2],
}

impl Client<'_> {
    fn take(&mut self, chunk: &[u8]) -> Result<Vec<(String, String)>> {
        let Self { number, board, answers, got, names, first } = self;
        let (mut acks, mut addresses) = (Vec::new(), 0);
        let now = Instant::now();
        let was_caught_up = first.iter().all(|it| !it) && *got >= board.target.get();
        let taken = answers.take(chunk, |said| match said {
            Said::Resource(bytes) => {
                board.resources.set(board.resources.get() + 1);
                addresses += 1;
                if *number > 0 && first[0] {
                    return;
                }
                let (name, version) = resource(bytes);
                if let Some(since) = pod_of(name).and_then(|pod| board.cluster.changed(pod)) {
                    board.delays.borrow_mut().push(now.saturating_duration_since(since));
                }
                if *number == 0 {
                    names.push((name.to_owned(), version.to_owned()));
                }
            }
            Said::Removed(_) => {}
            Said::End { kind, nonce } => {
                let which = KINDS.iter().position(|it| *it == kind).unwrap_or_default();
                first[which] = false;
                board.names.borrow_mut()[which].extend(names.drain(..));
                acks.push((kind.to_owned(), nonce.to_owned()));
            }
        });
        taken.ok().context("what came in is no discovery")?;
        *got += addresses;
        board.bytes.set(board.bytes.get() + chunk.len() as u64);
        board.responses.set(board.responses.get() + acks.len());
        if !was_caught_up && first.iter().all(|it| !it) && *got >= board.target.get() {
            board.caught_up.borrow_mut().push(now);
        }
        Ok(acks)
    }
}
