//! The node's end of the link to ztunnel (`wire.md` 9): who is to be carried, and which connection knows it.
//! Owns the roster and the order of connections. One connection's conversation is `link::connection`.
//!
//! The rule that makes restarts safe: the roster changes and connections are chosen under one lock, and a connection's
//! snapshot is taken under the same lock when it joins. So each pod is either in the snapshot or queued behind it.

mod connection;
mod suspect;

pub(crate) use connection::{chain, watched};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambit_process::clock;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_sys::netns::{Netns, NetnsId};
use ambit_sys::pass::{SeqPacket, SeqPacketListener};
use ambit_wire::node_link::{Certificate, PodInfo, PodUid, Request};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use suspect::Suspects;

/// Requests that may wait for one connection: twice the pods that a node is made for.
const QUEUE: usize = 1024;

/// A caller waits this long, behind others' requests and their answers; shorter than the plugin's question waits.
const CALLER_WAIT: Duration = Duration::from_secs(6);

/// Upstream accepts this often; more is a client that fails at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Connections at once: the running proxy, its successor, and one that is not gone yet.
const CONNECTIONS: usize = 8;

/// How long connections may take to end at a stop.
const DRAIN: Duration = Duration::from_millis(500);

/// Handle on the link; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    roster: Mutex<Roster>,
    /// Counts connections that became ready or went.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Roster {
    members: BTreeMap<PodUid, Member>,
    /// Oldest first; the last is the one that gets new pods.
    connections: Vec<Seat>,
    suspects: Suspects,
    next: u64,
}

/// A pod to be carried.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) info: PodInfo,
    /// Its namespace; unknown: a connection is asked to keep what it has.
    pub(crate) netns: Option<Arc<Netns>>,
}

#[derive(Debug)]
struct Seat {
    number: u64,
    ready: bool,
    jobs: mpsc::Sender<Job>,
    /// Pods that it acknowledged, with the namespace it knows them by.
    has: BTreeMap<PodUid, NetnsId>,
    /// It says whether certificates are there, as ours do and others do not.
    vouches: bool,
}

/// One request waiting for a connection.
#[derive(Debug)]
struct Job {
    request: Request,
    netns: Option<Arc<Netns>>,
    reply: Option<oneshot::Sender<Answer>>,
    /// To be asked though the connection has acknowledged it: what it says changes.
    again: bool,
}

/// What a connection said of a pod: that it carries it, and what it knows of the pod's certificate.
type Answer = Result<Option<Certificate>, CarryError>;

/// How asking the newest connection went.
enum Asked {
    /// It carries the pod already.
    Carried,
    /// It has not had its snapshot.
    NotYet,
    /// It will say.
    Waiting(oneshot::Receiver<Answer>),
}

/// Why ztunnel does not carry a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CarryError {
    #[error("no ztunnel is connected")]
    NoProxy,
    #[error("ztunnel did not answer in time")]
    Silent,
    #[error("the connection to ztunnel ended before it answered")]
    Lost,
    #[error("ztunnel went silent about the pod, and is asked for it again later")]
    Rests,
    #[error("ztunnel has too many requests waiting")]
    Busy,
    #[error("ztunnel refused: {0}")]
    Refused(String),
}

impl Link {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { roster: Mutex::default(), news: watch::Sender::new(0) }))
    }

    /// Puts a pod on the roster without waiting for anybody: for the time before the first connection.
    pub(crate) fn expect(&self, uid: PodUid, member: Member) {
        self.0.lock().members.insert(uid, member);
    }

    /// Has the newest connection carry a pod, and waits for its word. One that does already is not asked.
    pub(crate) async fn carry(
        &self,
        uid: &PodUid,
        info: PodInfo,
        netns: Arc<Netns>,
    ) -> Result<(), CarryError> {
        let member = Member { info, netns: Some(netns) };
        let mut was_lost = false;
        let asking = async {
            let mut news = self.news();
            loop {
                news.borrow_and_update();
                match self.ask(uid, &member) {
                    Ok(Asked::Carried) => return Ok(()),
                    Ok(Asked::Waiting(answer)) => match answer.await {
                        Ok(answer) => return answer.map(drop),
                        // Somebody before us in the queue was its end. ztunnel is about to connect again.
                        Err(_) => was_lost = true,
                    },
                    // Its snapshot may hold the pod; the sender of news lives as long as we do.
                    Ok(Asked::NotYet) => drop(news.changed().await),
                    Err(CarryError::NoProxy) if was_lost => drop(news.changed().await),
                    Err(error) => return Err(error),
                }
            }
        };
        let asked = tokio::time::timeout(CALLER_WAIT, asking).await;
        asked.unwrap_or(Err(if was_lost { CarryError::Lost } else { CarryError::Silent }))
    }

    fn ask(&self, uid: &PodUid, member: &Member) -> Result<Asked, CarryError> {
        let mut roster = self.0.lock();
        roster.members.insert(uid.clone(), member.clone());
        let Roster { connections, suspects, .. } = &mut *roster;
        let Some(seat) = connections.last_mut() else { return Err(CarryError::NoProxy) };
        if member.netns.as_ref().map(|it| it.id()) == seat.has.get(uid).copied() {
            return Ok(Asked::Carried);
        }
        if !seat.ready {
            return Ok(Asked::NotYet);
        }
        if suspects.rests(uid, clock::now()) {
            return Err(CarryError::Rests);
        }
        let (reply, answer) = oneshot::channel();
        let job = Job { reply: Some(reply), ..Job::add(uid, member.clone()) };
        match seat.jobs.try_send(job) {
            Ok(()) => {
                // What it carried of the pod before is over with this, also for who asks for that again meanwhile.
                seat.has.remove(uid);
                Ok(Asked::Waiting(answer))
            }
            Err(TrySendError::Full(_)) => Err(CarryError::Busy),
            // It has ended and is about to leave, which is news.
            Err(TrySendError::Closed(_)) => Ok(Asked::NotYet),
        }
    }

    /// Whether the certificate of a pod that is carried is there, now; nothing where ztunnel does not tell.
    pub(crate) async fn certificate(
        &self,
        uid: &PodUid,
        info: PodInfo,
        netns: Arc<Netns>,
    ) -> Result<Option<Certificate>, CarryError> {
        let answer = {
            let mut roster = self.0.lock();
            let Some(seat) = roster.connections.last_mut() else { return Err(CarryError::NoProxy) };
            if !seat.ready || !seat.vouches || seat.has.get(uid) != Some(&netns.id()) {
                return Ok(None);
            }
            let (reply, answer) = oneshot::channel();
            let member = Member { info, netns: Some(netns) };
            let job = Job { reply: Some(reply), again: true, ..Job::add(uid, member) };
            seat.jobs.try_send(job).map_err(|_| CarryError::Busy)?;
            answer
        };
        match tokio::time::timeout(CALLER_WAIT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CarryError::Lost),
            Err(_) => Err(CarryError::Silent),
        }
    }

    /// Has all connections let a pod go, and waits until they have or are gone themselves.
    pub(crate) async fn release(&self, uid: &PodUid) -> Result<(), CarryError> {
        let answers: Vec<_> = {
            let mut roster = self.0.lock();
            if roster.members.remove(uid).is_none()
                && !roster.connections.iter().any(|it| it.has.contains_key(uid))
            {
                return Ok(());
            }
            let seats = roster.connections.iter_mut();
            seats
                .filter_map(|seat| {
                    seat.has.remove(uid);
                    let (reply, answer) = oneshot::channel();
                    let request = Request::Del { uid: uid.clone() };
                    let job = Job { request, netns: None, reply: Some(reply), again: false };
                    seat.jobs.try_send(job).ok()?;
                    Some(answer)
                })
                .collect()
        };
        for answer in answers {
            // A connection that ended has let everything go, or will at its next snapshot.
            if tokio::time::timeout(CALLER_WAIT, answer).await.is_err() {
                return Err(CarryError::Silent);
            }
        }
        Ok(())
    }

    /// Whether the newest connection has acknowledged the pod in this namespace.
    pub(crate) fn carries(&self, uid: &PodUid, netns: NetnsId) -> bool {
        self.0.lock().connections.last().is_some_and(|seat| seat.has.get(uid) == Some(&netns))
    }

    /// Changes whenever a connection becomes ready or goes.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    /// Connections that have had their snapshot.
    pub(crate) fn connected(&self) -> usize {
        self.0.lock().connections.iter().filter(|seat| seat.ready).count()
    }

    /// Accepts connections until `stop`.
    pub(crate) async fn serve(self, listener: AsyncFd<SeqPacketListener>, stop: Stop) {
        let mut open = Tasks::new(&stop);
        loop {
            // Both arms are cancel-safe: a connection not taken stays in the kernel's queue.
            let taken = tokio::select! {
                () = stop.stopped() => break,
                taken = listener.async_io(tokio::io::Interest::READABLE, SeqPacketListener::try_accept) => taken,
            };
            match taken {
                Ok(stream) if open.len() < CONNECTIONS => {
                    let link = self.clone();
                    open.spawn("ztunnel", move |stop| connection::serve(link, stream, stop));
                }
                Ok(_) => warn!("too many connections from ztunnel; one was closed"),
                Err(error) => warn!(%error, "cannot accept ztunnel's connection"),
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        open.drain(DRAIN).await;
    }

    /// A connection joins: it is the newest from now on. Gives its number, its queue and its snapshot.
    fn join(&self) -> (u64, mpsc::Receiver<Job>, Vec<Job>) {
        let mut roster = self.0.lock();
        let (jobs, queue) = mpsc::channel(QUEUE);
        roster.next += 1;
        let number = roster.next;
        roster.connections.push(Seat { number, ready: false, jobs, has: BTreeMap::new(), vouches: false });
        let Roster { members, suspects, .. } = &*roster;
        let job = |(uid, member): (&PodUid, &Member)| match suspects.has(uid) {
            // Its keeper asks for it, behind everybody.
            true => Job::keep(uid),
            false => Job::add(uid, member.clone()),
        };
        let snapshot = members.iter().map(job).collect();
        (number, queue, snapshot)
    }

    /// A connection has been told everything.
    fn ready(&self, number: u64) {
        if let Some(seat) = self.0.lock().connections.iter_mut().find(|seat| seat.number == number) {
            seat.ready = true;
        }
        self.0.news.send_modify(|count| *count += 1);
    }

    /// A connection acknowledged a pod. One that was released meanwhile is not noted: its Del is queued behind. One
    /// that is wanted in another namespace by now is: that is what the connection knows.
    fn acknowledged(&self, number: u64, uid: &PodUid, (netns, vouches): (NetnsId, bool)) {
        let mut roster = self.0.lock();
        let still = roster.members.contains_key(uid);
        roster.suspects.clear(uid);
        if let Some(seat) = roster.connections.iter_mut().find(|seat| seat.number == number && still) {
            seat.has.insert(uid.clone(), netns);
            seat.vouches |= vouches;
        }
    }

    /// A connection ended because it did not answer when it was asked to carry the pod.
    fn went_silent_about(&self, uid: &PodUid) {
        self.0.lock().suspects.note(uid, clock::now());
    }

    /// Whether a connection has acknowledged the pod in this namespace: what it was asked twice is answered once.
    fn is_known(&self, number: u64, uid: &PodUid, netns: NetnsId) -> bool {
        let roster = self.0.lock();
        roster.connections.iter().any(|seat| seat.number == number && seat.has.get(uid) == Some(&netns))
    }

    /// A connection is about to be told to let a pod go.
    fn forgotten(&self, number: u64, uid: &PodUid) {
        if let Some(seat) = self.0.lock().connections.iter_mut().find(|seat| seat.number == number) {
            seat.has.remove(uid);
        }
    }

    /// A connection ends. If it was the newest, the one before is told what it does not know.
    fn leave(&self, number: u64) {
        let mut roster = self.0.lock();
        let was_newest = roster.connections.last().is_some_and(|seat| seat.number == number);
        roster.connections.retain(|seat| seat.number != number);
        if was_newest {
            roster.backfill();
        }
        drop(roster);
        self.0.news.send_modify(|count| *count += 1);
    }
}

/// Converses with a ztunnel on its own, to the end of its connection: it is told of one pod, which it is to keep.
pub async fn face(ztunnel: SeqPacket, pod: PodUid, info: PodInfo, stop: Stop) {
    let link = Link::new();
    link.expect(pod, Member { info, netns: None });
    connection::serve(link, ztunnel, stop).await;
}

impl Roster {
    /// Has the newest connection told of everybody it does not know.
    fn backfill(&mut self) {
        let Self { members, connections, suspects, .. } = self;
        let Some(seat) = connections.last_mut() else { return };
        for (uid, member) in members.iter().filter(|(uid, _)| !suspects.has(uid)) {
            let known = member.netns.as_ref().map(|it| it.id()) == seat.has.get(uid).copied();
            // A full queue is a proxy that does not answer; its connection is about to end anyway.
            if member.netns.is_some() && !known && seat.jobs.try_send(Job::add(uid, member.clone())).is_ok() {
                seat.has.remove(uid);
            }
        }
    }
}

impl Job {
    fn add(uid: &PodUid, member: Member) -> Self {
        let uid = uid.clone();
        let request = match member.netns {
            Some(_) => Request::Add { uid, info: member.info },
            None => Request::Keep { uid },
        };
        Self { request, netns: member.netns, reply: None, again: false }
    }

    fn keep(uid: &PodUid) -> Self {
        Self { request: Request::Keep { uid: uid.clone() }, netns: None, reply: None, again: false }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
