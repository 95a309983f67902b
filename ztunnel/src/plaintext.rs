//! Captured plaintext into a pod (15006, `ztunnel.md` 5.5): judged without an identity, handed to the application, or to
//! `led` where the pod's waypoint is to see it first. Owns that order. Who may is `judge`'s.

use std::sync::Arc;

use ambit_hbone::pump;
use ambit_model::address::{Authority, ClientAddr, NetworkAddress, OriginalDst, TargetAddr};
use ambit_model::judge::Verdict;
use ambit_model::route::{RESERVED_PORTS, served};
use ambit_model::workload::Workload;
use ambit_process::clock::{Instant, now};
use ambit_process::net::TcpStream;

use crate::captured::{self, Early};
use crate::led;
use crate::ledger::Admitted;
use crate::metrics::Reporter;
use crate::outcome::Outcome;
use crate::pod::Lane;
use crate::record::{ClientSide, Parties, Party, Record, refuse_early};

/// Serves one captured connection to its end.
pub(crate) async fn serve(lane: Arc<Lane>, stream: TcpStream) {
    let began = now();
    // Gone before we looked: there is nobody to tell of it.
    let Ok((client, dst)) = captured::ends(&lane, &stream) else { return };
    let refuse = |early: &Early| {
        let ends = (client.socket(), dst.socket());
        refuse_early(&lane.shared.metrics, Reporter::Destination, ends, early.label(), early);
    };
    if RESERVED_PORTS.contains(&dst.port()) {
        return refuse(&Early::ReservedPort);
    }
    match captured::local(&lane).await {
        Ok(local) => carry(&lane, stream, (client, dst), local, began).await,
        Err(early) => refuse(&early),
    }
}

async fn carry(
    lane: &Lane,
    stream: TcpStream,
    (client, dst): (ClientAddr, OriginalDst),
    local: Arc<Workload>,
    began: Instant,
) {
    let led = led::led(lane, &local, (client, dst));
    let through = led.as_ref().and_then(|led| led.through.clone());
    let admitted =
        Admitted { peer: None, through, from: client, to: dst, dest: Arc::clone(&local), host: None };
    // Before the judgement: a policy that changes in between finds the connection.
    let mut seat = lane.page.enter(admitted.clone());
    let parties = Parties {
        authority: led.as_ref().map(|_| Authority::Address(dst.socket())),
        ..parties(lane, &admitted)
    };
    let record = Record::open(&lane.shared.metrics, parties, began);
    let verdict = captured::decide(lane, &admitted).await;
    if let Verdict::Deny(denial) = verdict {
        return record.close(&Outcome::Denied(denial));
    }
    if let Some(led) = led {
        return Box::pin(led::carry(lane, &led, stream, record, seat)).await;
    }
    let seen = lane.borrow_source.then(|| client.ip());
    let connected = lane.sockets.connect(dst.socket(), seen).await;
    let app = match connected {
        Ok(app) => app,
        Err(error) => return record.close(&Outcome::Connect(error)),
    };
    let meter = ClientSide(Arc::clone(record.counts()));
    let ended = pump::plain(stream, app, &meter, seat.cut()).await;
    record.close(&Outcome::of_pump(ended, seat.denial()));
}

fn parties(lane: &Lane, admitted: &Admitted) -> Parties {
    let Admitted { from, to, dest, .. } = admitted;
    let world = lane.shared.world.load();
    let source = world.workload_by_address(&NetworkAddress::new(lane.shared.network.clone(), from.ip()));
    Parties {
        reporter: Reporter::Destination,
        from: from.socket(),
        source: Party { workload: source.cloned(), ..Party::default() },
        destination: Party { workload: Some(Arc::clone(dest)), told: None, identity: Some(dest.identity()) },
        to: to.socket(),
        authority: None,
        service: served(&world, dest, None, TargetAddr::new(to.socket())).cloned(),
        secured: false,
    }
}
