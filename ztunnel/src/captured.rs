//! What the ways through have in common: whose connection it is, for which workload, and what policy says.
//! Owns the reasons to end before there is anything to record.

use std::io;
use std::sync::Arc;

use ambit_hbone::accept::AcceptError;
use ambit_hbone::head::HeadError;
use ambit_model::address::{ClientAddr, OriginalDst};
use ambit_model::judge::{Opinion, Verdict};
use ambit_model::route::NotAdmitted;
use ambit_model::workload::Workload;
use ambit_process::net::TcpStream;
use ambit_sys::socket::original_destination;
use ambit_tls::vault::FetchError;
use ambit_wire::node_link::PodInfo;
use tracing::{debug, info};

use crate::ledger::Admitted;
use crate::pod::{LOCAL_WAIT, Lane};

/// Why a connection ended before there was anything to record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Early {
    /// The control plane has not told of the pod in time.
    #[error("workload {}/{} is not known", pod.namespace, pod.name)]
    Unknown { pod: Arc<PodInfo> },
    /// One of our own listeners was addressed.
    #[error("the port is the mesh's own")]
    ReservedPort,
    /// Too many connections have proven nothing yet, and this is one of their source's.
    #[error("too many handshakes at a time")]
    Crowded,
    /// There is no certificate to show.
    #[error(transparent)]
    Credential(#[from] FetchError),
    /// The peer is no tunnel.
    #[error(transparent)]
    Tunnel(#[from] AcceptError),
    /// The request makes no sense.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Strangers are led to waypoints, and here is none: its client would be taken for the tunnel's.
    #[error("a stranger is asked for, and this is no waypoint")]
    Stranger,
    /// The target may not be asked for.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
}

impl Early {
    /// A word out of a closed set.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown_workload",
            Self::ReservedPort => "reserved_port",
            Self::Crowded => "too_many_handshakes",
            Self::Credential(_) => "no_certificate",
            Self::Tunnel(_) => "no_tunnel",
            Self::Head(_) | Self::Stranger => "bad_request",
            Self::NotAdmitted(_) => "target_not_ours",
        }
    }
}

/// Who connected, and where it meant to go.
pub(crate) fn ends(lane: &Lane, stream: &TcpStream) -> io::Result<(ClientAddr, OriginalDst)> {
    lane.sockets.tune(stream)?;
    let client = ClientAddr::new(stream.peer_addr()?);
    // Not redirected, but addressed to us: the listener's own address then is the destination.
    let dst = match original_destination(stream) {
        Some(dst) => dst,
        None => stream.local_addr()?,
    };
    Ok((client, OriginalDst::new(dst)))
}

/// The workload this pod is.
pub(crate) async fn local(lane: &Lane) -> Result<Arc<Workload>, Early> {
    let found = lane.shared.world.local(&lane.pod, LOCAL_WAIT).await;
    found.ok_or_else(|| Early::Unknown { pod: Arc::clone(&lane.pod) })
}

/// The opinion once all policies are known, or after the wait for them.
async fn settled(lane: &Lane, admitted: &Admitted, mut opinion: Opinion) -> Opinion {
    let mut world = lane.shared.world.clone();
    let mut late = std::pin::pin!(tokio::time::sleep(lane.shared.policy_wait));
    while opinion.verdict.awaits_policy() {
        // Both arms are cancel-safe. A change between the judgement and this wait is one that was not seen yet.
        tokio::select! {
            () = &mut late => break,
            more = world.changed() => if !more { break },
        }
        opinion = admitted.judge(&world.load());
    }
    opinion
}

/// Judges a connection that has its seat already, and logs the decision. While a policy is chosen but not known yet,
/// the connection is held, for a bounded time: what the policy says when it comes is what is decided.
pub(crate) async fn decide(lane: &Lane, admitted: &Admitted) -> Verdict {
    let mut opinion = admitted.judge(&lane.shared.world.load());
    if opinion.verdict.awaits_policy() {
        opinion = Box::pin(settled(lane, admitted, opinion)).await;
    }
    let Opinion { verdict, dry_run } = opinion;
    for rehearsal in dry_run {
        if lane.shared.log_decisions {
            info!(target: "policy", src = %admitted.from, dst = %admitted.to, ?rehearsal, "dry run");
        } else {
            debug!(target: "policy", src = %admitted.from, dst = %admitted.to, ?rehearsal, "dry run");
        }
    }
    if lane.shared.log_decisions {
        info!(target: "policy", src = %admitted.from, dst = %admitted.to, policy = %verdict, "decided");
    } else {
        debug!(target: "policy", src = %admitted.from, dst = %admitted.to, policy = %verdict, "decided");
    }
    verdict
}
