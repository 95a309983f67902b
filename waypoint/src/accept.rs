//! Tunnels to the waypoint (15008): who is there is proven, then each request of a tunnel is handed on. Owns the
//! listener's loop and the order of its end; what a request may be for is `stream`'s.

use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::accept::{AcceptError, Accepted, Ended, accept};
use ambit_model::address::ClientAddr;
use ambit_process::net::{TcpListener, TcpStream};
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_proxy::side::Reason;
use ambit_tls::vault::FetchError;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::lane::Lane;
use crate::pressure::{self, Measure};
use crate::stream::{self, Caller};

/// How long a certificate may take on the way of a tunnel.
const CREDENTIAL_WAIT: Duration = Duration::from_secs(10);
/// Tunnels of one thread.
pub(crate) const TUNNELS: usize = 20_000;
/// After a failed accept (mostly: no file descriptors left) wait before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between the request to end and the abort: long enough for a record to be written.
const GRACE: Duration = Duration::from_millis(500);

/// Why a connection did not become a tunnel.
#[derive(Debug, thiserror::Error)]
enum NoTunnel {
    #[error("too many handshakes at a time")]
    Crowded,
    #[error("there is too much to do")]
    Pressed,
    #[error(transparent)]
    Credential(#[from] FetchError),
    #[error(transparent)]
    Accept(#[from] AcceptError),
}

impl NoTunnel {
    fn label(&self) -> &'static str {
        match self {
            Self::Crowded => "too_many_handshakes",
            Self::Pressed => "too_much_to_do",
            Self::Credential(_) => "no_certificate",
            Self::Accept(_) => "no_tunnel",
        }
    }
}

/// Takes tunnels until `accepting` stops; then lets what is open end, for as long as a drain may take.
pub(crate) async fn listen(listener: TcpListener, lane: Arc<Lane>, accepting: Stop, stop: Stop) {
    let mut synced = lane.shared.synced.clone();
    // Cancel-safe: nothing is taken from the kernel's queue before the world is known.
    tokio::select! {
        () = accepting.stopped() => return,
        _ = synced.wait_for(|known| *known) => {}
    }
    let mut open = Tasks::new(&stop);
    loop {
        // Both arms are cancel-safe: a connection not yet taken stays in the kernel's queue.
        tokio::select! {
            () = accepting.stopped() => break,
            taken = listener.accept() => match taken {
                Ok((tcp, _)) => begin(&lane, &accepting, &mut open, tcp),
                Err(error) => {
                    warn!(%error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
        if open.len() >= TUNNELS {
            open.one_ended().await;
        }
    }
    // What has connected before the stop is told goodbye, not reset: closing a listener resets its queue.
    while let Ok(Ok((tcp, _))) = timeout(Duration::from_millis(1), listener.accept()).await {
        begin(&lane, &accepting, &mut open, tcp);
    }
    drop(listener);
    let left = open.len();
    let drained = open.finish(lane.shared.drain, GRACE).await;
    debug!(left, finished = drained.finished, aborted = drained.aborted, "listener drained");
}

fn begin(lane: &Arc<Lane>, accepting: &Stop, open: &mut Tasks, tcp: TcpStream) {
    let (lane, accepting) = (Arc::clone(lane), accepting.clone());
    open.spawn("tunnel", move |stop| async move {
        // Cancel-safe: a tunnel that is cut is closed with all of its streams.
        tokio::select! {
            () = serve(lane, tcp, accepting) => {}
            () = stop.stopped() => {}
        }
    });
}

async fn serve(lane: Arc<Lane>, tcp: TcpStream, accepting: Stop) {
    let Ok(from) = tcp.peer_addr().map(ClientAddr::new) else { return };
    match Box::pin(shake(&lane, from, tcp)).await {
        Ok(accepted) => Box::pin(requests(lane, accepted, accepting)).await,
        Err(why) => {
            lane.shared.metrics.refused.get_or_create(&Reason(why.label())).inc();
            let error = ambit_proxy::fault::chain(&why);
            debug!(target: "access", { src.addr = %from, error = error }, "connection failed");
        }
    }
}

/// Proves who is there, as one of not too many at a time.
async fn shake(lane: &Lane, from: ClientAddr, tcp: TcpStream) -> Result<Accepted, NoTunnel> {
    if pressure::takes(lane, Measure::RefuseTunnel) {
        return Err(NoTunnel::Pressed);
    }
    let mut place = lane.shared.unproven.enter(from.ip()).ok_or(NoTunnel::Crowded)?;
    // Small pieces leave at once; a socket that refuses this is dead, which the handshake finds out.
    let _ = tcp.set_nodelay(true);
    let prove = async {
        let credential = lane.shared.vault.fetch(&lane.shared.identity, CREDENTIAL_WAIT).await?;
        let windows = pressure::windows(lane);
        Ok(accept(tcp, credential.accepting(), windows).await?)
    };
    // Cancel-safe: a handshake that lost its place is given up, and its connection closed.
    tokio::select! {
        shaken = prove => shaken,
        () = place.lost() => Err(NoTunnel::Crowded),
    }
}

async fn requests(lane: Arc<Lane>, accepted: Accepted, accepting: Stop) {
    let _counted = Counted::new(&lane);
    let peer = accepted.peer().clone();
    let share = lane.room.share(&peer);
    let Some(_open) = share.open() else {
        lane.shared.metrics.refused.get_or_create(&Reason("too_many_tunnels")).inc();
        debug!(target: "access", { src.addr = %accepted.from(), src.identity = %peer }, "too many tunnels");
        return;
    };
    let caller = Arc::new(Caller { peer, from: accepted.from(), share });
    let mut streams = Tasks::new(&Stop::new());
    let ended = accepted
        .serve(accepting.child(), |arrival| {
            let (lane, caller, accepting) = (Arc::clone(&lane), Arc::clone(&caller), accepting.clone());
            streams.spawn("stream", move |_| stream::serve(lane, caller, arrival, accepting));
        })
        .await;
    if let Ended::Failed(error) = ended {
        debug!(peer = %caller.peer, %error, "tunnel ended early");
    }
    // With the tunnel gone each stream ends by itself.
    while streams.one_ended().await {}
}

/// One in the gauge of tunnels, also when its task is aborted.
struct Counted(prometheus_client::metrics::gauge::Gauge);

impl Counted {
    fn new(lane: &Lane) -> Self {
        let gauge = lane.shared.metrics.tunnels.clone();
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
