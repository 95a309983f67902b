//! Connections that are not HTTP: carried as they are, to an endpoint of the service or the workload itself, or to where
//! `routed` leads them. Owns the tries, as long as no byte has gone anywhere, and both halves' ends.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::accept::Arrival;
use ambit_hbone::head::Refusal;
use ambit_model::http_route::Table;
use ambit_model::route::{Bound, Hints, Plan};
use ambit_process::clock::{Instant, now};
use ambit_tls::configs::origin::Spoken;
use tokio::io::copy_bidirectional;
use tokio::time::sleep;

use crate::idle::Idle;
use crate::line::Line;
use crate::phases::authorize;
use crate::phases::record::Connection;
use crate::refused::Refused;
use crate::routed;
use crate::stream::Inbound;
use crate::upstream::{
    Announced, Begin, By, Counted, Failure, Guide, Met, connect, endpoint, look_up, plan_by,
};

/// Endpoints tried for one connection; more would only hide that a service is down.
const TRIES: usize = 3;

/// Follows routes of connections, where there are any.
pub(crate) async fn lead(inbound: &Arc<Inbound>, arrival: Arrival, table: Option<&Table>) {
    if !routed::asks_for_server(inbound, table) {
        return dial_first(inbound, arrival, routed::target(inbound, table)).await;
    }
    // What policies say of a server is known only once it was heard.
    if !routed::policies_ask_for_server(inbound)
        && let Err(denied) = authorize::admit(inbound)
    {
        arrival.refuse(Refusal::Denied);
        return refuse(inbound, &denied, now());
    }
    // The client may be gone, and then there is nobody to tell.
    let Ok(stream) = arrival.open(&inbound.opened()) else { return };
    hear(inbound, Line::from(stream), table).await;
}

/// Follows them with a stream that is open already.
pub(crate) async fn follow(inbound: &Arc<Inbound>, line: Line, table: Option<&Table>) {
    if routed::asks_for_server(inbound, table) {
        return hear(inbound, line, table).await;
    }
    carry(inbound, line, routed::target(inbound, table)).await;
}

/// Listens for which server is asked for, and goes on by that.
async fn hear(inbound: &Arc<Inbound>, mut line: Line, table: Option<&Table>) {
    if let Ok(server) = routed::server(&mut line).await {
        inbound.heard(server);
        carry(inbound, line, routed::target(inbound, table)).await;
    }
}

/// Reaches an endpoint first and only then opens the stream, so that the client learns when there is none.
async fn dial_first(inbound: &Arc<Inbound>, mut arrival: Arrival, to: Result<Bound, Refused>) {
    let began = now();
    if let Err(denied) = authorize::admit(inbound) {
        arrival.refuse(Refusal::Denied);
        return refuse(inbound, &denied, began);
    }
    // Cancel-safe: a dial that nobody waits for is given up.
    let reached = tokio::select! {
        reached = Box::pin(reach(inbound, to)) => reached,
        () = arrival.abandoned() => return,
    };
    match reached {
        Ok(reached) => match arrival.open(&inbound.opened()) {
            Ok(stream) => copy(inbound, Line::from(stream), reached, began).await,
            Err(_) => Connection::new(inbound, Some(&reached.met), began).close("DC", None),
        },
        Err(why) => {
            arrival.refuse(Refusal::Unavailable);
            refuse(inbound, &why, began);
        }
    }
}

/// Carries a stream that is open already.
async fn carry(inbound: &Arc<Inbound>, line: Line, to: Result<Bound, Refused>) {
    let began = now();
    if let Err(denied) = authorize::admit(inbound) {
        return refuse(inbound, &denied, began);
    }
    match Box::pin(reach(inbound, to)).await {
        Ok(reached) => copy(inbound, line, reached, began).await,
        // Dropped, the stream is reset: nobody takes that for an end.
        Err(why) => refuse(inbound, &why, began),
    }
}

/// An endpoint, and what was said of connections to it.
struct Reached {
    line: Line,
    met: Met,
    /// How long one may be without bytes, and how old it may become.
    still: Option<Duration>,
    age: Option<Duration>,
    /// Its place among those that there may be.
    _seat: Option<Counted>,
}

async fn reach(inbound: &Inbound, to: Result<Bound, Refused>) -> Result<Reached, Refused> {
    let (to, lane, mut hints) = (to?, &inbound.lane, Hints::default());
    let guide = Guide::of(lane, &to);
    if let Some(why) = guide.as_ref().and_then(Guide::closed) {
        return Err(Refused::Broken(why.to_string()));
    }
    let seat = guide.as_ref().map(|it| it.connect(lane)).transpose().map_err(Failure::from)?;
    let hash = guide.as_ref().and_then(|it| it.hash_of(inbound.client.from.ip()));
    // Which host of a wildcard is meant, only TLS says here.
    look_up(lane, &to, inbound.server(), &mut hints).await?;
    let tls = Begin::of(lane, guide.as_ref(), None)?;
    let by = By { guide: guide.as_ref(), hash, asked: Some(inbound.dialled.ip()) };
    let mut failed = None;
    for _ in 0..TRIES {
        let plan = match (plan_by(lane, &to, &mut hints, &by).await, failed.take()) {
            (Ok(plan), _) => plan,
            // Nothing else is left to try: the failure says more than that.
            (Err(_), Some(failure)) => return Err(Refused::Upstream(failure)),
            (Err(refusal), None) => return Err(Refused::NoEndpoint(refusal)),
        };
        match connected(inbound, &plan, guide.as_ref(), tls.as_ref()).await {
            Ok((line, met)) => {
                let limits = guide.as_ref().and_then(Guide::limits);
                let (still, age) = limits.map_or((None, None), |it| (it.still, it.age));
                return Ok(Reached { line, met, still, age, _seat: seat });
            }
            Err(failure) if failure.is_unseen() && matches!(to, Bound::Service { .. }) => {
                hints.avoid.extend(endpoint(&plan).map(|workload| workload.uid.clone()));
                failed = Some(failure);
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(failed.map_or(Refused::TimedOut, Refused::Upstream))
}

async fn connected(
    inbound: &Inbound,
    plan: &Plan,
    guide: Option<&Guide>,
    tls: Option<&Begin>,
) -> Result<(Line, Met), Failure> {
    let client = inbound.client.from.socket();
    let (mut line, met) = connect(&inbound.lane, plan, (Some(client), guide)).await?;
    if let Some(announced) = Announced::of(plan, guide, Some(inbound.ends())) {
        announced.tell(&mut line, guide).await?;
    }
    match tls {
        Some(tls) => Ok((tls.on(line, Spoken::Opaque, guide).await?, met)),
        None => Ok((line, met)),
    }
}

async fn copy(inbound: &Inbound, near: Line, reached: Reached, began: Instant) {
    let Reached { line, met, still, age, _seat } = reached;
    let connection = Connection::new(inbound, Some(&met), began);
    let mut idle = Idle::new(still);
    let mut near = connection.metered(near.by_halves(), idle.clone());
    let mut far = line.by_halves();
    let old = async {
        match age {
            Some(age) => sleep(age).await,
            None => pending().await,
        }
    };
    // Cancel-safe: a copy that is given up is of a connection that is cut, and its world keeps its own state.
    let copied = tokio::select! {
        copied = copy_bidirectional(&mut near, &mut far) => copied,
        denied = Box::pin(authorize::until_denied(inbound)) => {
            return connection.close(denied.words().flags, Some(&denied));
        }
        () = poll_fn(|cx| idle.poll(cx)) => return connection.close("SI", None),
        () = old => return connection.close("DT", None),
    };
    connection.close("-", copied.as_ref().err().map(|error| error as &dyn std::error::Error));
}

fn refuse(inbound: &Inbound, why: &Refused, began: Instant) {
    Connection::new(inbound, None, began).close(why.words().flags, Some(why));
}
