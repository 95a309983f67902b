//! Strangers: whoever comes in plaintext to a pod that has a waypoint is led there, in the pod's own name and told to be
//! a stranger, and comes back from it in the waypoint's. Owns that order, and that not a byte goes out before the
//! waypoint has said that it takes it for one. Who is led, and where to, is `model::route`'s; the tries are `outbound`'s.

use std::sync::Arc;

use ambit_hbone::pool::Carried;
use ambit_hbone::pump;
use ambit_model::address::{ClientAddr, OriginalDst};
use ambit_model::name::Identity;
use ambit_model::route::{Flow, Hints, Plan, leads, plan_led};
use ambit_model::workload::{GatewayRef, Workload};
use ambit_process::net::TcpStream;

use crate::ledger::Seat;
use crate::outbound::{Asking, Chance, Reached, reach};
use crate::outcome::Outcome;
use crate::pod::Lane;
use crate::record::{ClientSide, Record};

/// Somebody who is to be led.
pub(crate) struct Led {
    flow: Flow,
    to: GatewayRef,
    /// Who will come back for it; none: there is no way there.
    pub(crate) through: Option<Identity>,
}

/// Whether the client of `local` is to be led, and where to.
pub(crate) fn led(
    lane: &Lane,
    local: &Arc<Workload>,
    (client, dst): (ClientAddr, OriginalDst),
) -> Option<Led> {
    if !lane.shared.settings.plaintext_via_waypoint {
        return None;
    }
    let flow = Flow { source: Arc::clone(local), client, dst };
    let world = lane.shared.world.load();
    let to = leads(&world, &flow)?.clone();
    let through = match plan_led(&world, &flow, &to, &Hints::default(), &mut Chance) {
        Ok(Plan::ViaWaypoint(way)) => Some(way.destination.identity()),
        // What is wrong with the way is found out, and told, when it is taken.
        Ok(_) | Err(_) => None,
    };
    Some(Led { flow, to, through })
}

/// Leads it there, after the pod's policies have let it so far.
pub(crate) async fn carry(lane: &Lane, led: &Led, stream: TcpStream, record: Record, mut seat: Seat) {
    let carried = match Box::pin(reach(lane, &led.flow, Asking::Stranger(&led.to))).await {
        Reached::Tunnel(_, carried) if carried.answer.for_stranger => carried,
        // Dropped, the stream is reset: nobody has heard anything.
        Reached::Tunnel(..) | Reached::Relay(..) | Reached::Direct(..) => {
            return record.close(&Outcome::NoStranger);
        }
        Reached::Nowhere(_, outcome) => return record.close(&outcome),
    };
    let Carried { stream: far, .. } = *carried;
    let meter = ClientSide(Arc::clone(record.counts()));
    let ended = pump::tunnel(stream, far, &meter, seat.cut()).await;
    record.close(&Outcome::of_pump(ended, seat.denial()));
}
