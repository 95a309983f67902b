//! Connections to endpoints that speak HTTP, kept while they may be used again: those of HTTP/1.1 one request at a
//! time, those of HTTP/2 many. Owns which one a request takes. All limits are of one thread.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ambit_hbone::nested::Nested;
use ambit_model::address::Authority;
use ambit_model::name::{Identity, WorkloadUid};
use ambit_model::route::{Bound, Plan};
use ambit_model::traffic::{Ends, Limits};
use ambit_process::clock::{Instant, now};
use ambit_tls::configs::origin::Spoken;
use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::group::{Counted, GroupKey, Room};
use super::http2::{Sender, Unsent};
use super::{Announced, Begin, Failure, Guide, Malformed, Met, connect, endpoint, secure};
use crate::body::{Arriving, HttpError, Upload};
use crate::interim::Heard;
use crate::lane::Lane;
use crate::line::Line;
use crate::room::count::One;

/// Connections of HTTP/1.1 to one endpoint that wait for a request.
const IDLE_EACH: usize = 128;
/// A connection that nobody has used for this long is closed; applications mostly wait longer.
const IDLE: Duration = Duration::from_secs(60);
/// Requests at a time on one connection of HTTP/2; more make another connection.
const STREAMS: usize = 100;
/// Connections that turn out to be closed, before the failure is the endpoint's.
const TRIES: usize = 3;
/// Heads of answers (`waypoint.md` 6.1).
const HEAD_MOST: usize = 64 * 1024;
const HEADERS_MOST: usize = 128;

/// Where a connection leads, and who must be there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    workload: Option<WorkloadUid>,
    hop: SocketAddr,
    target: Option<Authority>,
    expect: Box<[Identity]>,
    http2: bool,
    /// Whom TLS asks for, and how it begins; none: it does not.
    secured: Option<(Box<str>, u64)>,
    /// Whose limits it comes under.
    group: Option<GroupKey>,
    /// Of whom the endpoint is told: nobody's requests go by another's connection.
    announced: Option<Announced>,
}

impl Key {
    fn of(way: Way<'_>, http2: bool) -> Self {
        let Way { plan, guide, tls, announced, .. } = way;
        let group = guide.map(|it| it.group.key.clone());
        let workload = endpoint(plan).map(|workload| workload.uid.clone());
        let (hop, target, expect) = match plan {
            Plan::Tunnel(to) | Plan::ViaWaypoint(to) => (to.hop, Some(to.authority.clone()), &to.expect[..]),
            Plan::ViaGateway(to) => (to.outer.hop, Some(to.outer.authority.clone()), &to.expect[..]),
            Plan::Direct(to) => (to.hop, None, &[][..]),
        };
        let secured = tls.map(Begin::key);
        Self { workload, hop: hop.socket(), target, expect: expect.into(), http2, secured, group, announced }
    }
}

/// An answer whose body is still to come.
pub(crate) struct Got {
    pub(crate) response: Response<Arriving>,
    pub(crate) met: Arc<Met>,
    pub(crate) lease: Lease,
    /// The stream that another protocol has begun on, in HTTP/2.
    pub(crate) through: Option<Box<Nested>>,
}

/// One use of a connection. Given back when request and answer are over; dropped, an HTTP/1.1 connection is closed.
pub(crate) struct Lease {
    place: Arc<Place>,
    kind: Kind,
    met: Arc<Met>,
    /// What is counted as long as it lasts. Given up after the connection, which somebody may wait for.
    kept: Vec<Counted>,
    /// What the endpoint has to do for it, where nothing was said of its service.
    busy: Option<One>,
}

enum Kind {
    Http1(Single, Life),
    /// Counted for as long as it lasts.
    Http2 {
        _seat: Seat,
    },
}

/// A connection of HTTP/1.1.
struct Single {
    sender: http1::SendRequest<Upload>,
    /// Its place among those that there may be: kept as long as it is there, and as long as somebody uses it, also for
    /// another protocol.
    open: Option<Arc<Open>>,
}

/// One of the connections that there may be.
struct Open {
    _counted: Counted,
    _seat: Seat,
}

/// One of a connection's requests.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lease {
    /// The connection may be used again.
    pub(crate) fn give_back(self) {
        let Self { place, kind, met, kept, busy } = self;
        if let Kind::Http1(Single { sender, open }, life) = kind
            && !sender.is_closed()
        {
            let mut held = place.lock();
            if held.idle.len() < IDLE_EACH && !life.is_over(&held.limits) {
                let open = open.as_ref().map(Arc::downgrade).unwrap_or_default();
                held.idle.push(Idle { sender, open, met, since: now(), life });
            }
        }
        drop((kept, busy));
    }

    /// Counts something as long as it lasts.
    pub(crate) fn keep(&mut self, counted: impl IntoIterator<Item = Counted>) {
        self.kept.extend(counted);
    }
}

/// All connections of one thread.
#[derive(Default)]
pub(crate) struct Lines(Mutex<HashMap<Key, Arc<Place>>>);

/// Connections to one endpoint.
#[derive(Default)]
struct Place {
    held: Mutex<Held>,
    /// Held while a connection of HTTP/2 is made: all who wait for it share it.
    dialling: tokio::sync::Mutex<()>,
    /// How the last of those failed: to all who waited for it, too.
    failed: Mutex<Option<NotMade>>,
    /// Connections there are, as far as they are limited.
    open: Arc<AtomicUsize>,
}

/// A connection that could not be made, though another endpoint may be reached.
struct NotMade {
    at: Instant,
    why: String,
}

/// A connection's life so far.
#[derive(Clone, Copy)]
struct Life {
    born: Instant,
    requests: u32,
}

impl Life {
    fn begin() -> Self {
        Self { born: now(), requests: 0 }
    }

    fn is_over(&self, limits: &Limits) -> bool {
        limits.per_connection.is_some_and(|most| most > 0 && self.requests >= most)
            || limits.age.is_some_and(|most| self.born.elapsed() >= most)
    }
}

#[derive(Default)]
struct Held {
    /// What was said of connections last.
    limits: Limits,
    idle: Vec<Idle>,
    shared: Vec<Shared>,
}

struct Idle {
    sender: http1::SendRequest<Upload>,
    open: Weak<Open>,
    met: Arc<Met>,
    since: Instant,
    life: Life,
}

struct Shared {
    sender: Sender,
    met: Arc<Met>,
    requests: Arc<AtomicUsize>,
    since: Instant,
    life: Life,
}

/// A connection that is about to carry a request.
struct Taken<S> {
    sender: S,
    met: Arc<Met>,
    life: Life,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection of HTTP/1.1 that was used last.
    fn idle(&self) -> Option<Taken<Single>> {
        let mut held = self.lock();
        loop {
            let Idle { sender, open, met, since, life } = held.idle.pop()?;
            let stale = held.limits.idle.is_some_and(|most| since.elapsed() >= most);
            if !sender.is_closed() && !stale && !life.is_over(&held.limits) {
                return Some(Taken { sender: Single { sender, open: open.upgrade() }, met, life });
            }
        }
    }

    /// A connection of HTTP/2 with room for one more request.
    fn shared(&self) -> Option<(Taken<Sender>, Seat)> {
        let mut held = self.lock();
        let Held { shared, limits, .. } = &mut *held;
        // One whose life is over ends with the requests that are on it.
        shared.retain(|line| !line.sender.is_closed() && !line.life.is_over(limits));
        let most = limits.streams.and_then(|most| usize::try_from(most).ok()).unwrap_or(STREAMS).min(STREAMS);
        let room = |line: &&mut Shared| {
            line.requests.load(Ordering::Relaxed) < most.min(line.sender.streams()).max(1)
        };
        let line = shared.iter_mut().find(room)?;
        line.since = now();
        line.life.requests += 1;
        line.requests.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(&line.requests));
        Some((Taken { sender: line.sender.clone(), met: line.met.clone(), life: line.life }, seat))
    }

    /// Why the last connection of HTTP/2 could not be made, if that came out since then.
    fn failed_since(&self, since: Instant) -> Option<Failure> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let NotMade { why, .. } = failed.as_ref().filter(|it| it.at >= since)?;
        Some(Failure::Connect(std::io::Error::other(why.clone())))
    }

    /// What all others decide about it as about a connection that failed; else each finds out by itself.
    fn note(&self, failure: &Failure) {
        if failure.is_unseen() {
            let not_made = NotMade { at: now(), why: ambit_proxy::fault::chain(failure) };
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(not_made);
        }
    }

    /// Puts a new connection of HTTP/2 among the shared, and takes a seat on it.
    fn share(&self, sender: Sender, met: Arc<Met>) -> (Taken<Sender>, Seat) {
        let requests = Arc::new(AtomicUsize::new(1));
        let seat = Seat(Arc::clone(&requests));
        let life = Life { requests: 1, ..Life::begin() };
        let line = Shared { sender: sender.clone(), met: met.clone(), requests, since: now(), life };
        self.lock().shared.push(line);
        (Taken { sender, met, life }, seat)
    }

    /// Lets go of what nobody has used for long; false when nothing is left.
    fn sweep(&self, now: Instant) -> bool {
        let mut held = self.lock();
        let most = held.limits.idle.unwrap_or(IDLE);
        let fresh = |since: Instant| now.saturating_duration_since(since) < most;
        held.idle.retain(|line| fresh(line.since) && !line.sender.is_closed());
        let used = |line: &Shared| line.requests.load(Ordering::Relaxed) > 0 || fresh(line.since);
        held.shared.retain(|line| used(line) && !line.sender.is_closed());
        !(held.idle.is_empty() && held.shared.is_empty())
    }
}

impl Lines {
    fn place(&self, key: Key) -> Arc<Place> {
        Arc::clone(self.lock().entry(key).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what nobody has used for long.
    pub(crate) fn sweep(&self, now: Instant) {
        // A place that somebody is about to use is held by them, too.
        self.lock().retain(|_, place| place.sweep(now) || Arc::strong_count(place) > 1);
    }

    /// Sends a request of our own, or a copy of one, as planned, on a connection that is there or a new one. How its
    /// service's connections begin is heeded; what is counted there is counted for requests alone.
    pub(crate) async fn send(
        lane: &Lane,
        (to, plan): (&Bound, &Plan),
        http2: bool,
        request: Request<Upload>,
    ) -> Result<Got, Failure> {
        let guide = Guide::of(lane, to);
        if let Some(why) = guide.as_ref().and_then(Guide::closed) {
            return Err(Failure::Closed(why.to_string()));
        }
        let tls = Begin::of(lane, guide.as_ref(), secure::asked(&request))?;
        let announced = Announced::of(plan, guide.as_ref(), None);
        drop(guide);
        let way = Way { lane, plan, guide: None, tls: tls.as_ref(), announced };
        Self::send_on(way, http2, Box::new(request)).await
    }

    /// Sends a request as planned and as its service's traffic is handled, for whom.
    pub(crate) async fn send_by(
        lane: &Lane,
        plan: &Plan,
        http2: bool,
        request: Box<Request<Upload>>,
        (guide, ends): (Option<&Guide>, Ends),
    ) -> Result<Got, Failure> {
        let tls = Begin::of(lane, guide, secure::asked(&request))?;
        let announced = Announced::of(plan, guide, Some(ends));
        Self::send_on(Way { lane, plan, guide, tls: tls.as_ref(), announced }, http2, request).await
    }

    /// Whether the endpoint of a plan takes other protocols in HTTP/2's way (RFC 8441, 3).
    pub(crate) async fn take_protocols(
        lane: &Lane,
        plan: &Plan,
        (guide, ends): (Option<&Guide>, Ends),
        host: Option<&str>,
    ) -> Result<bool, Failure> {
        let tls = Begin::of(lane, guide, host)?;
        let announced = Announced::of(plan, guide, Some(ends));
        let way = Way { lane, plan, guide, tls: tls.as_ref(), announced };
        let place = lane.lines.place(Key::of(way, true));
        let (taken, _seat) = seat(way, &place).await?;
        Ok(taken.sender.takes_protocols().await)
    }

    /// The request in a place of its own: each function that waits with it would have room for it twice.
    async fn send_on(way: Way<'_>, http2: bool, request: Box<Request<Upload>>) -> Result<Got, Failure> {
        let Way { lane, plan, guide, .. } = way;
        let place = lane.lines.place(Key::of(way, http2));
        if let Some(limits) = guide.and_then(Guide::limits) {
            place.lock().limits.clone_from(limits);
        }
        let unsaid = endpoint(plan).filter(|_| guide.is_none());
        let busy = unsaid.map(|workload| lane.busy.begin(&workload.uid));
        let sent = if http2 {
            Box::pin(over_http2(way, place, request)).await
        } else {
            over_http1(way, place, request).await
        };
        sent.map(|mut got| {
            got.lease.busy = busy;
            got
        })
    }
}

/// Where a request goes, and how its connection is handled.
#[derive(Clone, Copy)]
struct Way<'a> {
    lane: &'a Lane,
    plan: &'a Plan,
    guide: Option<&'a Guide>,
    tls: Option<&'a Begin>,
    announced: Option<Announced>,
}

async fn over_http1(
    way: Way<'_>,
    place: Arc<Place>,
    mut request: Box<Request<Upload>>,
) -> Result<Got, Failure> {
    for last in (0..TRIES).map(|tried| tried + 1 == TRIES) {
        let Taken { sender: Single { mut sender, open }, met, mut life } = taken(way, &place, last).await?;
        life.requests += 1;
        if let Err(error) = sender.ready().await {
            if last {
                return Err(Failure::Unsent(error.into()));
            }
            continue;
        }
        let heard = Heard::on(&mut request);
        // Cancel-safe: of whoever floods us nothing is read any more, not even an answer.
        let sent = tokio::select! {
            biased;
            () = heard.flooded() => return Err(Failure::Malformed(Malformed::Flood)),
            sent = sender.try_send_request(*request) => sent,
        };
        match sent {
            Ok(response) if !is_framed(response.headers()) => {
                return Err(Failure::Malformed(Malformed::Framing));
            }
            Ok(response) => {
                let kind = Kind::Http1(Single { sender, open }, life);
                let lease = Lease { place, kind, met: met.clone(), kept: Vec::new(), busy: None };
                let response = response.map(Arriving::Http1);
                return Ok(Got { response, met, lease, through: None });
            }
            Err(mut error) => match error.take_message() {
                Some(back) if !last => *request = back,
                Some(_) => return Err(Failure::Unsent(error.into_error().into())),
                None => return Err(HttpError::from(error.into_error()).into()),
            },
        }
    }
    Err(Failure::Connect(std::io::ErrorKind::ConnectionAborted.into()))
}

/// Whether it is certain where an answer ends: one length at most, or the one coding that everybody undoes.
fn is_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    match (codings.next(), codings.next()) {
        (None, _) => lengths <= 1,
        (Some(one), None) => lengths == 0 && one.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

async fn over_http2(
    way: Way<'_>,
    place: Arc<Place>,
    mut request: Box<Request<Upload>>,
) -> Result<Got, Failure> {
    for last in (0..TRIES).map(|tried| tried + 1 == TRIES) {
        let (Taken { sender, met, .. }, seat) = seat(way, &place).await?;
        match sender.send(*request, &way.lane.crew).await? {
            Ok((response, through)) => {
                let kind = Kind::Http2 { _seat: seat };
                let lease = Lease { place, kind, met: met.clone(), kept: Vec::new(), busy: None };
                return Ok(Got { response, met, lease, through });
            }
            Err(Unsent { request: back, .. }) if !last => *request = back,
            Err(Unsent { error, .. }) => return Err(Failure::Unsent(error)),
        }
    }
    Err(Failure::Connect(std::io::ErrorKind::ConnectionAborted.into()))
}

/// A place for one more connection.
async fn room<T>(
    way: Way<'_>,
    place: &Place,
    idle: impl Fn() -> Option<T>,
) -> Result<Option<(Room<T>, Seat)>, Failure> {
    let Some(guide) = way.guide else { return Ok(None) };
    let is_first = || place.open.load(Ordering::Relaxed) == 0;
    let room = guide.connection(way.lane, is_first, idle).await?;
    place.open.fetch_add(1, Ordering::Relaxed);
    Ok(Some((room, Seat(Arc::clone(&place.open)))))
}

/// A new connection, over which HTTP may be spoken.
async fn connected(way: Way<'_>, spoken: Spoken) -> Result<(Line, Met), Failure> {
    let Way { lane, plan, guide, tls, announced } = way;
    let (mut line, met) = connect(lane, plan, (None, guide)).await?;
    if let Some(announced) = announced {
        announced.tell(&mut line, guide).await?;
    }
    match tls {
        Some(tls) => Ok((tls.on(line, spoken, guide).await?, met)),
        None => Ok((line, met)),
    }
}

/// A connection of HTTP/1.1 that is there, or a new one.
async fn taken(way: Way<'_>, place: &Place, is_anew: bool) -> Result<Taken<Single>, Failure> {
    if !is_anew && let Some(taken) = place.idle() {
        return Ok(taken);
    }
    Box::pin(dial_http1(way, place)).await
}

async fn dial_http1(way: Way<'_>, place: &Place) -> Result<Taken<Single>, Failure> {
    let room = room(way, place, || place.idle()).await?;
    if let Some((Room::Idle(taken), _)) = room {
        return Ok(taken);
    }
    let lane = way.lane;
    let (line, met) = connected(way, Spoken::Http1).await?;
    let (sender, conn) = http1::Builder::new()
        .max_headers(HEADERS_MOST)
        .max_buf_size(HEAD_MOST)
        .handshake(TokioIo::new(line))
        .await
        .map_err(|error| Failure::Handshake(error.into()))?;
    // The wait for it is over; its place lasts as long as it does.
    let open = room.and_then(|(room, seat)| Some(Open { _counted: room.seat()?, _seat: seat })).map(Arc::new);
    let lasting = open.clone();
    lane.crew.add("line", async move {
        // How it ends is told to whoever has a request on it.
        let _ = conn.with_upgrades().await;
        drop(lasting);
    });
    Ok(Taken { sender: Single { sender, open }, met: Arc::new(met), life: Life::begin() })
}

/// A seat on a connection of HTTP/2 that is there, or on a new one.
async fn seat(way: Way<'_>, place: &Place) -> Result<(Taken<Sender>, Seat), Failure> {
    match place.shared() {
        Some(taken) => Ok(taken),
        None => Box::pin(dial_http2(way, place)).await,
    }
}

/// One dial serves all who wait for it, also if it fails: one after the other, the last of many would wait for as many
/// failures.
async fn dial_http2(way: Way<'_>, place: &Place) -> Result<(Taken<Sender>, Seat), Failure> {
    let since = now();
    let _turn = place.dialling.lock().await;
    if let Some(taken) = place.shared() {
        return Ok(taken);
    }
    if let Some(failure) = place.failed_since(since) {
        return Err(failure);
    }
    let room = room(way, place, || place.shared()).await?;
    if let Some((Room::Idle(taken), _)) = room {
        return Ok(taken);
    }
    let begun = async {
        let (line, met) = connected(way, Spoken::Http2).await?;
        // The wait for it is over; its place lasts as long as it does.
        let lasting = room.and_then(|(room, open)| Some((room.seat()?, open)));
        let sender = Sender::begin(line, &way.lane.crew, HEAD_MOST, lasting).await?;
        Ok((sender, met))
    };
    let (sender, met) = begun.await.inspect_err(|failure| place.note(failure))?;
    Ok(place.share(sender, Arc::new(met)))
}
