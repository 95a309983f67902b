//! Tunnels into a pod (15008, `ztunnel.md` 5.1, 5.2): prove who is there, check that the target is this very pod's,
//! enter the ledger, judge, dial the application as its client, open, copy. Owns that order and the answers.

use std::io;
use std::sync::Arc;

use ambit_hbone::accept::{Accepted, Arrival, Ended, accept};
use ambit_hbone::head::{Baggage, Connect, Opened, Refusal};
use ambit_hbone::pump;
use ambit_model::address::{Authority, ClientAddr, ListenAddr, NetworkAddress, OriginalDst};
use ambit_model::judge::Verdict;
use ambit_model::name::Identity;
use ambit_model::route::{Admission, Handed, admit, served};
use ambit_model::workload::Workload;
use ambit_process::clock::now;
use ambit_process::net::TcpStream;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use tokio::io::AsyncWriteExt;
use tracing::debug;

use crate::captured::{self, Early};
use crate::ledger::Admitted;
use crate::metrics::{RefusedLabels, Reporter};
use crate::outcome::Outcome;
use crate::pod::{CREDENTIAL_WAIT, Lane};
use crate::proxy_header;
use crate::record::{Parties, Party, Record, ServerSide, refuse_early};

/// One tunnel whose client is proven.
struct Tunnel {
    lane: Arc<Lane>,
    peer: Identity,
    from: ClientAddr,
    at: ListenAddr,
}

/// What a request is carried with, once it may be.
struct Stream {
    local: Arc<Workload>,
    asked: Authority,
    admission: Admission,
    admitted: Admitted,
}

/// Serves one tunnel to its end. When `accepting` stops, the client is told to open no more streams.
pub(crate) async fn serve(lane: Arc<Lane>, stream: TcpStream, accepting: Stop) {
    let (Ok(from), Ok(at)) = (stream.peer_addr(), stream.local_addr()) else { return };
    if lane.sockets.tune(&stream).is_err() {
        return;
    }
    let (from, at) = (ClientAddr::new(from), ListenAddr::new(at));
    match Box::pin(shake(&lane, from, stream)).await {
        Ok(accepted) => {
            let tunnel = Tunnel { peer: accepted.peer().clone(), from, at, lane };
            Box::pin(requests(tunnel, accepted, accepting.child())).await;
        }
        // Counted, without a line: a flood would write as many.
        Err(early @ Early::Crowded) => {
            let labels = RefusedLabels { reporter: Reporter::Destination, reason: early.label() };
            lane.shared.metrics.refused_early.get_or_create(&labels).inc();
            debug!(src.addr = %from, error = %early, "connection failed");
        }
        Err(early) => {
            let ends = (from.socket(), at.socket());
            refuse_early(&lane.shared.metrics, Reporter::Destination, ends, early.label(), &early);
        }
    }
}

/// Proves who is there, as one of not too many at a time.
async fn shake(lane: &Lane, from: ClientAddr, stream: TcpStream) -> Result<Accepted, Early> {
    let mut place = lane.shared.unproven.enter(from.ip()).ok_or(Early::Crowded)?;
    // Cancel-safe: a handshake that lost its place is given up, and its connection closed.
    tokio::select! {
        shaken = prove(lane, stream) => shaken,
        () = place.lost() => Err(Early::Crowded),
    }
}

async fn prove(lane: &Lane, stream: TcpStream) -> Result<Accepted, Early> {
    let local = captured::local(lane).await?;
    let credential = lane.shared.vault.fetch(&local.identity(), CREDENTIAL_WAIT).await?;
    Ok(accept(stream, credential.accepting(), lane.shared.settings.windows).await?)
}

async fn requests(tunnel: Tunnel, accepted: Accepted, accepting: Stop) {
    let tunnel = Arc::new(tunnel);
    let mut streams = Tasks::new(&Stop::new());
    let ended = accepted
        .serve(accepting, |arrival| {
            let tunnel = Arc::clone(&tunnel);
            streams.spawn("stream", move |_| request(tunnel, arrival));
        })
        .await;
    if let Ended::Failed(error) = ended {
        debug!(peer = %tunnel.peer, %error, "tunnel ended early");
    }
    // With the tunnel gone each stream ends by itself, as soon as its application has taken what came.
    while streams.one_ended().await {}
}

async fn request(tunnel: Arc<Tunnel>, arrival: Arrival) {
    match Box::pin(admission(&tunnel, &arrival)).await {
        Ok(stream) => Box::pin(carry(&tunnel, stream, arrival)).await,
        Err(early) => {
            let refusal = match &early {
                Early::Head(_) | Early::Stranger => Refusal::Bad,
                Early::NotAdmitted(why) if why.status() == 400 => Refusal::Bad,
                _ => Refusal::Unavailable,
            };
            arrival.refuse(refusal);
            let ends = (tunnel.from.socket(), tunnel.at.socket());
            refuse_early(&tunnel.lane.shared.metrics, Reporter::Destination, ends, early.label(), &early);
        }
    }
}

/// Whether the target may be asked for here at all.
async fn admission(tunnel: &Tunnel, arrival: &Arrival) -> Result<Stream, Early> {
    let head = arrival.head().map_err(Clone::clone)?;
    if head.for_stranger {
        return Err(Early::Stranger);
    }
    let local = captured::local(&tunnel.lane).await?;
    let asked = head.authority.clone();
    let admission = admit(&tunnel.lane.shared.world.load(), &local, tunnel.at, &asked)?;
    let admitted = Admitted {
        peer: Some(tunnel.peer.clone()),
        through: None,
        from: tunnel.from,
        to: OriginalDst::new(admission.target.socket()),
        dest: Arc::clone(&local),
        host: head.forwarded.as_ref().and_then(|forwarded| forwarded.host.clone()),
    };
    Ok(Stream { local, asked, admission, admitted })
}

async fn carry(tunnel: &Tunnel, stream: Stream, mut arrival: Arrival) {
    let (lane, began) = (&tunnel.lane, now());
    // Before the judgement: a policy that changes in between finds the connection.
    let mut seat = lane.page.enter(stream.admitted.clone());
    let parties = parties(tunnel, &stream, arrival.head().ok());
    let record = Record::open(&lane.shared.metrics, parties, began);
    // Cancel-safe: nothing is kept of a decision that nobody waits for.
    let verdict = tokio::select! {
        verdict = captured::decide(lane, &stream.admitted) => verdict,
        () = arrival.abandoned() => {
            return record.close(&Outcome::Connect(io::ErrorKind::ConnectionAborted.into()));
        }
    };
    if let Verdict::Deny(denial) = verdict {
        arrival.refuse(Refusal::Denied);
        return record.close(&Outcome::Denied(denial));
    }
    // Cancel-safe: giving up on the application's socket closes it.
    let connected = tokio::select! {
        connected = dial(tunnel, &stream) => connected,
        () = arrival.abandoned() => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    let app = match connected {
        Ok(app) => app,
        Err(error) => {
            arrival.refuse(Refusal::Unavailable);
            return record.close(&Outcome::Connect(error));
        }
    };
    let said = lane.shared.settings.baggage.then(|| Baggage::of(&stream.local));
    let opened = match arrival.open(&Opened { baggage: said, for_stranger: false }) {
        Ok(opened) => opened,
        Err(error) => return record.close(&Outcome::Broken(error.into())),
    };
    let meter = ServerSide(Arc::clone(record.counts()));
    let ended = pump::tunnel(app, opened, &meter, seat.cut()).await;
    record.close(&Outcome::of_pump(ended, seat.denial()));
}

/// Connects to the application, as its client, and hands over what it is to know first.
async fn dial(tunnel: &Tunnel, stream: &Stream) -> io::Result<TcpStream> {
    let lane = &tunnel.lane;
    let target = stream.admission.target.socket();
    match stream.admission.handed {
        Handed::Plain => {
            let seen = lane.borrow_source.then(|| tunnel.from.ip());
            lane.sockets.connect(target, seen).await
        }
        Handed::Proxy(asked) => {
            let to = if lane.shared.settings.localhost_app_tunnel {
                proxy_header::loopback(target)
            } else {
                target
            };
            let mut app = lane.sockets.connect(to, None).await?;
            app.write_all(&proxy_header::encode(tunnel.from.socket(), asked, Some(&tunnel.peer))).await?;
            Ok(app)
        }
    }
}

fn parties(tunnel: &Tunnel, stream: &Stream, head: Option<&Connect>) -> Parties {
    let shared = &tunnel.lane.shared;
    let world = shared.world.load();
    let own =
        |network: &ambit_model::name::Network| network.as_str().eq_ignore_ascii_case(shared.network.as_str());
    let here = head.and_then(|head| head.network.as_ref()).is_none_or(own);
    let address = NetworkAddress::new(shared.network.clone(), tunnel.from.ip());
    let known = if here { world.workload_by_address(&address).cloned() } else { None };
    let told = head.filter(|_| shared.settings.baggage).map(|head| head.baggage.clone());
    let service = stream.admission.service.clone();
    let named = stream.admitted.host.as_deref();
    Parties {
        reporter: Reporter::Destination,
        from: tunnel.from.socket(),
        source: Party { workload: known, told, identity: Some(tunnel.peer.clone()) },
        destination: Party {
            workload: Some(Arc::clone(&stream.local)),
            told: None,
            identity: Some(stream.local.identity()),
        },
        to: tunnel.at.socket(),
        authority: Some(stream.asked.clone()),
        service: service.or_else(|| served(&world, &stream.local, named, stream.admission.target).cloned()),
        secured: true,
    }
}
