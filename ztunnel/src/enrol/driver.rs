//! Drives enrolment over the agent's socket: connects, receives, binds, answers, retries.
//! Owns the socket, the waits and the running pods. Decides nothing (`enrol`).

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::name::Identity;
use ambit_model::workload::Workload;
use ambit_process::ready::Gate;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_sys::netns::{Netns, NetnsError, NetnsId};
use ambit_sys::pass::SeqPacket;
use ambit_wire::limits::NODE_LINK_PACKET;
use ambit_wire::node_link::{
    Certificate, PodInfo, PodUid, Request, Response, decode_request, encode_hello, encode_response,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use super::{Action, Enrol, Shown};
use crate::board::{Board, PodShown};
use crate::outcome::chain;
use crate::pod::{Running, Shared};
use crate::sockets::{InNamespace, Sockets};

/// Between tries of pods whose listeners could not be bound.
const RETRY: Duration = Duration::from_secs(5);
/// The first pause before connecting again, and the longest. The agent takes five connections a second.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// The agent reads answers at once; one that does not is gone.
const SEND_WAIT: Duration = Duration::from_secs(5);

/// The shared mode of ztunnel.
pub struct Driver {
    path: PathBuf,
    reuse_port: bool,
    shared: Arc<Shared>,
    gate: Gate,
    board: Board,
    enrol: Enrol<Handle>,
    running: BTreeMap<PodUid, Carried>,
    stopping: Tasks,
}

/// A pod that is carried for.
struct Carried {
    info: PodInfo,
    running: Running,
}

/// A namespace as the state machine compares it.
#[derive(Debug, Clone)]
struct Handle(Arc<Netns>);

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Handle {
    fn id(&self) -> NetnsId {
        self.0.id()
    }
}

/// Why a connection to the agent ended.
#[derive(Debug, thiserror::Error)]
enum LinkEnd {
    #[error("the agent closed the connection")]
    Closed,
    #[error("the agent broke the protocol")]
    Slip,
    #[error("the agent took no answer within {SEND_WAIT:?}")]
    Stuck,
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

impl Driver {
    /// A driver for the agent at `path`.
    #[must_use]
    pub fn new(path: PathBuf, reuse_port: bool, shared: Arc<Shared>, gate: Gate, board: Board) -> Self {
        Self {
            path,
            reuse_port,
            shared,
            gate,
            board,
            enrol: Enrol::new(),
            running: BTreeMap::new(),
            stopping: Tasks::new(&Stop::new()),
        }
    }

    /// Follows the agent until stopped; then lets every pod's connections finish.
    pub async fn run(mut self, stop: Stop) {
        let (mut pause, mut last_reason) = (PAUSE_FIRST, String::new());
        while !stop.is_stopped() {
            // Cancel-safe where it matters: on a stop the pods are drained below, whatever the session was doing.
            let ended = tokio::select! {
                () = stop.stopped() => break,
                ended = self.session() => ended,
            };
            let was_ready = self.enrol.is_ready();
            self.enrol.on_disconnected();
            self.show();
            if was_ready {
                pause = PAUSE_FIRST;
            }
            // Said once, not every second that the agent is away.
            let reason = chain(&ended);
            if was_ready || reason != last_reason {
                info!(reason, pods = self.running.len(), "not connected to the node agent");
                last_reason = reason;
            }
            tokio::select! {
                () = stop.stopped() => break,
                () = self.wait(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MOST);
        }
        self.finish().await;
    }

    async fn wait(&mut self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    async fn finish(self) {
        let limit = self.shared.drain;
        let mut all = self.stopping;
        for (_, Carried { running, .. }) in self.running {
            all.spawn("drain pod", move |_| async move {
                running.finish(limit).await;
            });
        }
        all.finish(limit + Duration::from_secs(2), Duration::from_secs(1)).await;
    }

    async fn session(&mut self) -> LinkEnd {
        match self.connected().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn connected(&mut self) -> Result<std::convert::Infallible, LinkEnd> {
        let link = watched(SeqPacket::connect(&self.path)?)?;
        send(&link, &encode_hello()).await?;
        self.enrol.on_connected();
        info!(socket = %self.path.display(), "connected to the node agent");
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: a packet and its descriptors leave the kernel in one call, or not at all.
            let actions = tokio::select! {
                packet = receive(&link) => {
                    let (packet, namespaces) = packet?;
                    self.enrol.on_packet(packet, namespaces)
                }
                _ = retry.tick() => self.enrol.on_retry(),
            };
            self.obey(actions, &link).await?;
            self.show();
        }
    }

    async fn obey(&mut self, actions: Vec<Action<Handle>>, link: &AsyncFd<SeqPacket>) -> Result<(), LinkEnd> {
        for action in actions {
            match action {
                Action::Start { uid, info, netns } => {
                    let outcome = self.start(&uid, &info, &netns).map_err(|error| chain(error.as_ref()));
                    match &outcome {
                        Ok(()) => self.prepare(&info).await,
                        Err(why) => warn!(%uid, pod = %info.name, why, "pod is not carried for"),
                    }
                    // What follows a start is an answer, which starts nothing.
                    let answers = self.enrol.on_started(&uid, outcome);
                    Box::pin(self.obey(answers, link)).await?;
                }
                Action::Stop { uid } => self.stop(&uid).await,
                Action::Answer(response) => {
                    if let Response::Failed(why) = &response {
                        warn!(why, "refused a request of the node agent");
                    }
                    send(link, &encode_response(&response)).await?;
                }
                Action::Vouch { uid } => {
                    let response = self.vouch(&uid).await;
                    send(link, &encode_response(&response)).await?;
                }
                Action::HangUp => return Err(LinkEnd::Slip),
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        uid: &PodUid,
        info: &PodInfo,
        netns: &Handle,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let shared = &self.shared;
        let inside = netns.0.try_clone()?;
        migrate_queues(&inside);
        let sockets: Arc<dyn Sockets> =
            Arc::new(InNamespace::new(Some(inside), &shared.settings, self.reuse_port));
        let running = Running::start(shared, info, &sockets)?;
        info!(%uid, pod = %info.name, namespace = %info.namespace, "pod is carried for");
        self.shared.metrics.pods_started.inc();
        self.running.insert(uid.clone(), Carried { info: info.clone(), running });
        Ok(())
    }

    /// What is known of a pod's certificate. It is also asked for, should its account only be known since lately.
    async fn vouch(&self, uid: &PodUid) -> Response {
        let Some(Carried { info, .. }) = self.running.get(uid).filter(|_| self.shared.settings.carry) else {
            return Response::Done;
        };
        let held = |local: &Workload| self.shared.vault.held(&local.identity()).is_some();
        if self.shared.world.local_now(info).is_some_and(|local| held(&local)) {
            return Response::Carried(Certificate::Held);
        }
        self.prepare(info).await;
        Response::Carried(Certificate::Awaited)
    }

    /// Asks for the pod's certificate ahead of its traffic. One that is held or asked for already costs nothing;
    /// a workload that is not known yet is asked for when the control plane tells of it.
    async fn prepare(&self, info: &PodInfo) {
        let carried = self.shared.settings.carry;
        if let Some(local) = self.shared.world.local_now(info).filter(|_| carried) {
            self.shared.vault.prepare(local.identity()).await;
        }
    }

    async fn stop(&mut self, uid: &PodUid) {
        let Some(Carried { info, running }) = self.running.remove(uid) else { return };
        info!(%uid, "pod is no longer carried for");
        self.shared.metrics.pods_stopped.inc();
        self.stopping.spawn("stop pod", move |_| async move {
            running.stop().await;
        });
        let of_another = |other: &Carried| same_account(&other.info, &info);
        if !self.running.values().any(of_another) {
            self.let_go(&info).await;
        }
    }

    /// Drops the keys of an account that no pod has any more, unless the world names another pod of it here,
    /// which is about to be enrolled.
    async fn let_go(&self, info: &PodInfo) {
        let Shared { vault, world, .. } = &*self.shared;
        let theirs = |identity: &Identity| {
            identity.namespace == info.namespace && identity.service_account == info.service_account
        };
        for identity in vault.identities().into_iter().filter(theirs) {
            if !world.expects_another(&identity, info) {
                vault.forget(identity).await;
            }
        }
    }

    fn show(&mut self) {
        self.gate.set(self.enrol.is_ready());
        let shown = |(uid, info, state): (&PodUid, &PodInfo, Shown)| PodShown {
            uid: uid.to_string(),
            info: info.clone(),
            state,
            pages: self.running.get(uid).map(|carried| carried.running.pages().to_vec()).unwrap_or_default(),
        };
        let pods: Vec<_> = self.enrol.pods().map(shown).collect();
        let count =
            |wanted| i64::try_from(pods.iter().filter(|pod| pod.state == wanted).count()).unwrap_or(0);
        self.shared.metrics.pods_active.set(count(Shown::Up));
        self.shared.metrics.pods_pending.set(count(Shown::Pending));
        self.board.post(pods);
    }
}

fn same_account(a: &PodInfo, b: &PodInfo) -> bool {
    a.namespace == b.namespace && a.service_account == b.service_account
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, and `SeqPacket` owns its descriptor for as long as it lives"
)]
fn watched(socket: SeqPacket) -> io::Result<AsyncFd<SeqPacket>> {
    AsyncFd::new(socket)
}

async fn send(link: &AsyncFd<SeqPacket>, packet: &[u8]) -> Result<(), LinkEnd> {
    let sending = link.async_io(Interest::WRITABLE, |socket| socket.try_send(packet, None));
    timeout(SEND_WAIT, sending).await.map_err(|_| LinkEnd::Stuck)??;
    Ok(())
}

type Packet = Result<Request, ambit_wire::node_link::LinkError>;

async fn receive(link: &AsyncFd<SeqPacket>) -> Result<(Packet, Vec<Handle>), LinkEnd> {
    let mut buffer = [0; NODE_LINK_PACKET];
    let received = link.async_io(Interest::READABLE, |socket| socket.try_recv(&mut buffer)).await?;
    if received.len == 0 {
        return Err(LinkEnd::Closed);
    }
    let packet = decode_request(buffer.get(..received.len).unwrap_or_default());
    let open = |fd| Netns::from_fd(fd).map(|netns| Handle(Arc::new(netns)));
    let namespaces: Result<Vec<_>, NetnsError> = received.descriptors.into_iter().map(open).collect();
    match namespaces {
        Ok(namespaces) => Ok((packet, namespaces)),
        Err(error) => {
            // Counts as none: the request is refused for want of a namespace.
            debug!(error = chain(&error), "a descriptor of the node agent cannot be used");
            Ok((packet, Vec::new()))
        }
    }
}

/// Lets connections that wait in a closing listener's queue move to the other process's listener, while two
/// overlap. Best effort: a kernel before 5.14 has no such setting, and loses those connections.
fn migrate_queues(netns: &Netns) {
    let wrote = netns.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1"));
    if !matches!(wrote, Ok(Ok(()))) {
        debug!("queued connections will not migrate between processes");
    }
}
