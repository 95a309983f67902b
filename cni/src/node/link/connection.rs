//! One connection from ztunnel: hello, snapshot, then request and answer, strictly in turn.
//! Any silence or nonsense ends it: a late answer would be taken for the answer to the next request.

use std::io;
use std::time::Duration;

use ambit_process::stop::Stop;
use ambit_sys::pass::{Received, SeqPacket};
use ambit_wire::limits::NODE_LINK_PACKET;
use ambit_wire::node_link::{LinkError, Request, Response, decode_hello, decode_response, encode_request};
use std::os::fd::AsFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{CarryError, Job, Link};

/// ztunnel speaks first, at once.
const HELLO_WAIT: Duration = Duration::from_secs(5);

/// Binding a pod's listeners takes milliseconds; shorter than what waits for it (`CALLER_WAIT`, the plugin).
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// A packet leaves at once unless the peer has stopped reading.
const SEND_WAIT: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("ztunnel closed it")]
    Closed,
    #[error("ztunnel did not {what} within {limit:?}")]
    Silent { what: &'static str, limit: Duration },
    #[error("ztunnel spoke without being asked")]
    Unasked,
    #[error("ztunnel sent a descriptor")]
    Descriptor,
    #[error("ztunnel sent what is no message")]
    Nonsense(#[from] LinkError),
    #[error("the socket failed")]
    Socket(#[from] io::Error),
}

/// Serves one connection to its end.
pub(super) async fn serve(link: Link, stream: SeqPacket, stop: Stop) {
    let mut wire = match watched(stream) {
        Ok(stream) => Wire { stream, buffer: vec![0; NODE_LINK_PACKET] },
        Err(error) => return warn!(%error, "cannot watch ztunnel's connection"),
    };
    let ended = tokio::select! {
        // Ending in the middle of a request is fine: the connection ends with it.
        () = stop.stopped() => return,
        ended = greet(&mut wire) => ended,
    };
    if let Err(error) = ended {
        return warn!(error = %chain(&error), "ztunnel's connection ended before its hello");
    }
    let (number, queue, snapshot) = link.join();
    info!(connection = number, pods = snapshot.len(), "ztunnel connected");
    let ended = tokio::select! {
        () = stop.stopped() => None,
        ended = converse(&link, number, &mut wire, (queue, snapshot)) => Some(ended),
    };
    link.leave(number);
    if let Some(Err(error)) = ended {
        info!(connection = number, reason = %chain(&error), "ztunnel's connection ended");
    }
}

async fn greet(wire: &mut Wire) -> Result<(), Ended> {
    let late = |_| Ended::Silent { what: "greet", limit: HELLO_WAIT };
    let hello = tokio::time::timeout(HELLO_WAIT, wire.receive()).await.map_err(late)??;
    Ok(decode_hello(hello)?)
}

async fn converse(
    link: &Link,
    number: u64,
    wire: &mut Wire,
    (mut queue, snapshot): (mpsc::Receiver<Job>, Vec<Job>),
) -> Result<(), Ended> {
    for job in snapshot {
        if let Response::Failed(why) = handle(link, number, wire, &job).await? {
            // ztunnel tries again by itself; the pod's keeper sees that it is not carried.
            warn!(request = ?job.request, why, "ztunnel cannot carry a pod yet");
        }
    }
    wire.ask(&Request::SnapshotSent, None).await?;
    link.ready(number);
    loop {
        // Cancel-safe: a job stays queued until taken, and idling reads only what ends the connection.
        let job = tokio::select! {
            job = queue.recv() => job,
            ended = wire.idle() => return ended,
        };
        let Some(mut job) = job else { return Ok(()) };
        let reply = job.reply.take();
        let (answer, ended) = match handle(link, number, wire, &job).await {
            Ok(Response::Done) => (Ok(None), None),
            Ok(Response::Carried(certificate)) => (Ok(Some(certificate)), None),
            Ok(Response::Failed(why)) => (Err(CarryError::Refused(why)), None),
            // Those who wait behind it only lose the connection, and ask the next one.
            Err(error) => (Err(CarryError::Silent), Some(error)),
        };
        // Whoever asked may have stopped waiting.
        let _ = reply.map(|reply| reply.send(answer));
        if let Some(error) = ended {
            return Err(error);
        }
    }
}

async fn handle(link: &Link, number: u64, wire: &mut Wire, job: &Job) -> Result<Response, Ended> {
    let netns = job.netns.as_deref();
    match (&job.request, netns) {
        // When an older connection takes over, its pods are asked of it by the link and by their keepers.
        (Request::Add { uid, .. }, Some(netns)) if !job.again && link.is_known(number, uid, netns.id()) => {
            return Ok(Response::Done);
        }
        (Request::Del { uid }, _) => link.forgotten(number, uid),
        _ => {}
    }
    let answer = wire.ask(&job.request, netns.map(AsFd::as_fd)).await;
    if let (Request::Add { uid, .. }, Err(Ended::Silent { .. })) = (&job.request, &answer) {
        link.went_silent_about(uid);
    }
    let answer = answer?;
    let vouches = matches!(answer, Response::Carried(_));
    let is_yes = vouches || answer == Response::Done;
    if let (Request::Add { uid, .. }, Some(netns), true) = (&job.request, netns, is_yes) {
        link.acknowledged(number, uid, (netns.id(), vouches));
    }
    Ok(answer)
}

/// Lets the runtime watch a socket.
#[expect(deprecated, reason = "its successor is unsafe, for types whose descriptor may change; ours cannot")]
pub(crate) fn watched<T: std::os::fd::AsRawFd>(socket: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(socket)
}

/// The socket, and where packets are received.
struct Wire {
    stream: AsyncFd<SeqPacket>,
    buffer: Vec<u8>,
}

impl Wire {
    async fn ask(
        &mut self,
        request: &Request,
        descriptor: Option<std::os::fd::BorrowedFd<'_>>,
    ) -> Result<Response, Ended> {
        let packet = encode_request(request)?;
        let send = self.stream.async_io(Interest::WRITABLE, |stream| stream.try_send(&packet, descriptor));
        let late = |_| Ended::Silent { what: "read", limit: SEND_WAIT };
        tokio::time::timeout(SEND_WAIT, send).await.map_err(late)??;
        let late = |_| Ended::Silent { what: "answer", limit: ANSWER_WAIT };
        let answer = tokio::time::timeout(ANSWER_WAIT, self.receive()).await.map_err(late)??;
        Ok(decode_response(answer)?)
    }

    async fn receive(&mut self) -> Result<&[u8], Ended> {
        let buffer = &mut self.buffer;
        let received = self.stream.async_io(Interest::READABLE, |stream| stream.try_recv(buffer)).await?;
        let Received { len, descriptors } = received;
        if !descriptors.is_empty() {
            return Err(Ended::Descriptor);
        }
        if len == 0 {
            return Err(Ended::Closed);
        }
        self.buffer.get(..len).ok_or(Ended::Unasked)
    }

    /// Waits for the connection to end while nothing is asked.
    async fn idle(&mut self) -> Result<(), Ended> {
        self.receive().await?;
        Err(Ended::Unasked)
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
