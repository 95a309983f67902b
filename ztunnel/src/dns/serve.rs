//! Takes a pod's questions over UDP and TCP and sends the answers. Owns the sockets, the limits on what is under way,
//! and the end. What is said is `desk`'s.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ambit_process::net::{TcpListener, TcpStream, UdpSocket};
use ambit_process::start::Traffic;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_wire::dns::{Carrier, Question};
use ambit_wire::node_link::PodInfo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::desk::{Desk, Next};
use super::forward::framed;
use crate::pod::{Shared, StartError};
use crate::sockets::Sockets;

/// Questions of one pod, over UDP and by one family, whose answers take time. Resolvers ask a few at a time; what is
/// beyond this is told to come back later.
const UNDER_WAY: usize = 256;
/// Connections of one pod by one family, each with one question at a time.
const CONNECTIONS: usize = 64;
/// A connection without a question for this long is closed.
const IDLE: Duration = Duration::from_secs(5);
/// Datagrams taken before others get their turn on this thread.
const BATCH: usize = 32;
/// The longest question: a name of 255 bytes, and options.
const LONGEST: usize = 4096;
/// After a failed accept or receive, wait before trying again.
const PAUSE: Duration = Duration::from_millis(50);
/// At the end, how long the kernel may take to hand over a datagram that has come.
const LATE: Duration = Duration::from_millis(20);
/// For what is under way at the end, beside the drain's limit.
const GRACE: Duration = Duration::from_millis(500);

/// Where one pod's names are asked, bound.
pub(crate) struct Bound {
    names: Arc<super::Names>,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

/// Binds where names are asked, if they are. A loopback address that the pod does not have (IPv6 may be off inside)
/// is done without, if there is another.
pub(crate) fn bind(
    shared: &Shared,
    sockets: &dyn Sockets,
    thread: &Traffic,
) -> Result<Option<Bound>, StartError> {
    let Some(names) = shared.names.clone() else { return Ok(None) };
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for at in &names.at {
        let port = at.port();
        let pair = match sockets.listen_names(*at) {
            Err(error) if error.no_such_address() && names.at.len() > 1 && at.is_ipv6() => continue,
            pair => pair.map_err(|source| StartError::Listen { port, source })?,
        };
        let register = |source| StartError::Register { port, source };
        udp.push(thread.enter(|| UdpSocket::from_std(pair.0)).map_err(register)?);
        tcp.push(thread.enter(|| TcpListener::from_std(pair.1)).map_err(register)?);
    }
    Ok(Some(Bound { names, udp, tcp }))
}

/// Serves a pod's questions on a thread until accepting stops; then finishes what is under way.
pub(crate) fn serve(
    bound: Bound,
    (shared, pod, sockets): (&Arc<Shared>, &Arc<PodInfo>, &Arc<dyn Sockets>),
    (tasks, thread, accepting): (&mut Tasks, &Traffic, &Stop),
) {
    let Bound { names, udp, tcp } = bound;
    let desk = Arc::new(Desk {
        shared: Arc::clone(shared),
        names,
        pod: Arc::clone(pod),
        sockets: Arc::clone(sockets),
    });
    for socket in udp {
        let (desk, accepting) = (Arc::clone(&desk), accepting.clone());
        tasks.spawn_on(thread, "names", move |stop| datagrams(desk, socket, accepting, stop));
    }
    for listener in tcp {
        let (desk, accepting) = (Arc::clone(&desk), accepting.clone());
        tasks.spawn_on(thread, "names by TCP", move |stop| connections(desk, listener, accepting, stop));
    }
}

/// True when there is something to serve; false when it is over before the world was known.
async fn synced(desk: &Desk, accepting: &Stop) -> bool {
    let mut synced = desk.shared.synced.clone();
    // Cancel-safe: nothing is taken from the kernel's queue before the world is known.
    tokio::select! {
        () = accepting.stopped() => false,
        known = synced.wait_for(|known| *known) => known.is_ok(),
    }
}

async fn datagrams(desk: Arc<Desk>, socket: UdpSocket, accepting: Stop, stop: Stop) {
    if !synced(&desk, &accepting).await {
        return;
    }
    let (socket, mut open) = (Arc::new(socket), Tasks::new(&stop));
    loop {
        // Both arms are cancel-safe: a datagram not yet taken stays in the kernel's queue.
        let ready = tokio::select! {
            () = accepting.stopped() => break,
            ready = socket.readable() => ready,
        };
        if ready.is_err() || take(&desk, &socket, &mut open).is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        tokio::task::yield_now().await;
    }
    // A socket with a peer gets no questions of others any more; another process's on this port gets them. What has
    // come before is answered.
    let nobody = SocketAddr::from(if is_v4(&socket) {
        (std::net::IpAddr::from(Ipv4Addr::LOCALHOST), 1)
    } else {
        (Ipv6Addr::LOCALHOST.into(), 1)
    });
    if let Err(error) = socket.connect(nobody).await {
        debug!(%error, "questions may be lost");
    }
    // The runtime hears of a datagram a turn after it has come, and one may be on its way into the queue: a short wait
    // for each round, and nobody can lengthen it.
    while let Ok(Ok(())) = timeout(LATE, socket.readable()).await {
        if take(&desk, &socket, &mut open).is_err() {
            break;
        }
    }
    finish(open, desk.shared.drain, &stop).await;
}

fn is_v4(socket: &UdpSocket) -> bool {
    socket.local_addr().is_ok_and(|at| at.is_ipv4())
}

/// Takes the datagrams that are there, at most a batch; says how many there were.
fn take(desk: &Arc<Desk>, socket: &Arc<UdpSocket>, open: &mut Tasks) -> io::Result<usize> {
    let mut buffer = [0; LONGEST];
    for taken in 0..BATCH {
        let (length, from) = match socket.try_recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
            Err(error) => {
                debug!(%error, "cannot take a question");
                return Err(error);
            }
        };
        if !desk.may_ask(from) {
            debug!(target: "dns", %from, pod = %desk.pod.name, "a question from outside the pod");
            continue;
        }
        match desk.look(buffer.get(..length).unwrap_or_default(), Carrier::Udp) {
            Next::Ignore => {}
            Next::Say(answer) => say(socket, &answer, from),
            Next::Wait(question) if open.len() >= UNDER_WAY => {
                say(socket, &desk.crowded(&question, Carrier::Udp), from);
            }
            Next::Wait(question) => {
                let (desk, socket) = (Arc::clone(desk), Arc::clone(socket));
                open.spawn("question", move |_| async move {
                    let answer = Box::pin(desk.later(question, Carrier::Udp)).await;
                    say(&socket, &answer, from);
                });
            }
        }
    }
    Ok(BATCH)
}

/// Sends an answer. One that does not fit the kernel's queue is lost, as datagrams are; resolvers ask again.
fn say(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, to) {
        debug!(target: "dns", %to, %error, "an answer is lost");
    }
}

async fn connections(desk: Arc<Desk>, listener: TcpListener, accepting: Stop, stop: Stop) {
    if !synced(&desk, &accepting).await {
        return;
    }
    let mut open = Tasks::new(&stop);
    loop {
        // Both arms are cancel-safe: a connection not yet taken stays in the kernel's queue.
        tokio::select! {
            () = accepting.stopped() => break,
            taken = listener.accept() => match taken {
                Ok((stream, from)) => begin(&desk, &mut open, stream, from),
                Err(error) => {
                    warn!(%error, "cannot accept a connection for names");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
        while open.len() >= CONNECTIONS {
            open.one_ended().await;
        }
    }
    // What has connected before the end is served, as everywhere.
    while let Ok(Ok((stream, from))) = timeout(Duration::from_millis(1), listener.accept()).await {
        begin(&desk, &mut open, stream, from);
    }
    drop(listener);
    finish(open, desk.shared.drain, &stop).await;
}

fn begin(desk: &Arc<Desk>, open: &mut Tasks, stream: TcpStream, from: SocketAddr) {
    if !desk.may_ask(from) {
        return debug!(target: "dns", %from, pod = %desk.pod.name, "a connection from outside the pod");
    }
    let desk = Arc::clone(desk);
    open.spawn("names of a connection", move |_| async move {
        if let Err(error) = Box::pin(converse(&desk, stream)).await {
            debug!(target: "dns", %from, %error, "a connection for names has ended");
        }
    });
}

/// Question by question, until the other end has no more.
async fn converse(desk: &Desk, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        if usize::from(length) > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a question too long to be one"));
        }
        let mut bytes = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut bytes)).await??;
        let answer = match desk.look(&bytes, Carrier::Tcp) {
            Next::Ignore => return Ok(()),
            Next::Say(answer) => answer,
            Next::Wait(question) => wait(desk, question).await,
        };
        timeout(IDLE, stream.write_all(&framed(&answer))).await??;
    }
}

async fn wait(desk: &Desk, question: Question) -> Vec<u8> {
    Box::pin(desk.later(question, Carrier::Tcp)).await
}

/// Waits for what is under way, within the drain's limit.
async fn finish(mut open: Tasks, limit: Duration, stop: &Stop) {
    let all_ended = async { while open.one_ended().await {} };
    // The stop cuts this short: it is pulled when the pod has gone.
    tokio::select! {
        () = stop.stopped() => {}
        () = tokio::time::sleep(limit) => {}
        () = all_ended => return,
    }
    open.drain(GRACE).await;
}

#[cfg(test)]
mod tests;
