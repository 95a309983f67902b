//! Credentials by identity: asked for, renewed, served. `schedule` decides what is due, the driver here
//! makes the calls, readers see the outcome on a board without a lock. How one is made is `issue`'s.

mod calendar;
mod census;
mod schedule;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_model::name::Identity;
use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::credential::{CertificateInfo, Credential};
use crate::issue::{IssueError, Issuer};
use calendar::{Calendar, plan, plan_new};
use schedule::{Landing, Lease, Schedule};

pub use census::Census;
pub use schedule::Priority;

/// Wishes that may queue; each is served in microseconds, so a full queue means the driver is gone.
const WISHES: usize = 1024;
/// One call to the authority, the connection included.
const CALL_WAIT: Duration = Duration::from_secs(20);
/// When nothing is due, the driver looks again after this: how soon it sees that the clock was set, or that the
/// machine has slept.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Why no credential was served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// None came in time.
    #[error("no certificate for {identity} within {limit:?}")]
    Silent {
        /// For whom.
        identity: Identity,
        /// How long was waited.
        limit: Duration,
    },
    /// The last attempt failed, and it is too early for another.
    #[error("no certificate for {identity}")]
    Lapsed {
        /// For whom.
        identity: Identity,
        /// Why the attempt failed.
        source: Arc<IssueError>,
    },
    /// It was forgotten while being waited for: the workload left.
    #[error("a certificate for {identity} is no longer needed")]
    Forgotten {
        /// For whom.
        identity: Identity,
    },
    /// The driver has ended.
    #[error("certificates are no longer served")]
    Closed,
}

/// One identity's state, as dumps show it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Whose.
    pub identity: Identity,
    /// In which state.
    pub state: ShownState,
    /// The chain that is served; empty when there is none.
    pub chain: Vec<CertificateInfo>,
    /// The roots that are believed; empty when there is none.
    pub roots: Vec<CertificateInfo>,
}

/// The states that dumps know.
#[derive(Debug, Clone)]
pub enum ShownState {
    /// Asked for.
    Initializing,
    /// Served.
    Available,
    /// Failed, and why.
    Unavailable(Arc<IssueError>),
}

/// What readers see of an identity.
#[derive(Debug, Clone)]
enum Seat {
    Asked,
    Held { credential: Arc<Credential>, expires_at: Instant },
    Lapsed { why: Arc<IssueError>, retry_from: Instant },
}

type Board = HashMap<Identity, Seat>;

enum Wish {
    Want(Identity, Priority),
    Forget(Identity),
    Again,
}

/// The readers' end. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    board: Arc<ArcSwap<Board>>,
    changes: watch::Receiver<()>,
    wishes: mpsc::Sender<Wish>,
}

impl Vault {
    /// A vault and the driver that fills it. `wall` tells the calendar's time, for validity.
    #[must_use]
    pub fn new<I: Issuer>(issuer: I, wall: fn() -> SystemTime) -> (Self, Driver<I>) {
        let board = Arc::new(ArcSwap::from_pointee(Board::new()));
        let (changed, changes) = watch::channel(());
        let (wishes, queue) = mpsc::channel(WISHES);
        let driver = Driver { issuer, wall, board: Arc::clone(&board), changed, queue };
        (Self { board, changes, wishes }, driver)
    }

    /// The credential for `identity`; waits at most `limit` for it to be made.
    ///
    /// # Errors
    /// [`FetchError`] when there is none in time, or the last attempt has only just failed.
    pub async fn fetch(&self, identity: &Identity, limit: Duration) -> Result<Arc<Credential>, FetchError> {
        if let Some(credential) = self.held(identity) {
            return Ok(credential);
        }
        let silent = |_| FetchError::Silent { identity: identity.clone(), limit };
        timeout(limit, self.wait(identity)).await.map_err(silent)?
    }

    /// The credential for `identity`, if there is a valid one now.
    #[must_use]
    pub fn held(&self, identity: &Identity) -> Option<Arc<Credential>> {
        match self.board.load().get(identity) {
            Some(Seat::Held { credential, expires_at }) if *expires_at > Instant::now() => {
                Some(Arc::clone(credential))
            }
            _ => None,
        }
    }

    /// Starts getting a credential ahead of traffic. Waits only for room in the queue.
    pub async fn prepare(&self, identity: Identity) {
        // A driver that has ended serves nobody; readers are told when they fetch.
        let _ = self.wishes.send(Wish::Want(identity, Priority::Warmup)).await;
    }

    /// Lets go of `identity`: no workload here has it any more.
    pub async fn forget(&self, identity: Identity) {
        let _ = self.wishes.send(Wish::Forget(identity)).await;
    }

    /// The control plane was heard of after a while: what could not be had may be had now. Waits only for room in
    /// the queue.
    pub async fn try_again(&self) {
        let _ = self.wishes.send(Wish::Again).await;
    }

    /// Every identity that is held or asked for.
    #[must_use]
    pub fn identities(&self) -> Vec<Identity> {
        self.board.load().keys().cloned().collect()
    }

    /// Every identity and its state, sorted.
    #[must_use]
    pub fn dump(&self) -> Vec<Shown> {
        let board = self.board.load();
        let mut shown: Vec<Shown> = board.iter().map(|(identity, seat)| show(identity, seat)).collect();
        shown.sort_by(|a, b| a.identity.cmp(&b.identity));
        shown
    }

    async fn wait(&self, identity: &Identity) -> Result<Arc<Credential>, FetchError> {
        let mut changes = self.changes.clone();
        let (mut asked, mut seen) = (false, false);
        loop {
            changes.borrow_and_update();
            let seat = self.board.load().get(identity).cloned();
            let now = Instant::now();
            match seat {
                Some(Seat::Held { credential, expires_at }) if expires_at > now => return Ok(credential),
                Some(Seat::Lapsed { why, retry_from }) if asked || retry_from > now => {
                    return Err(FetchError::Lapsed { identity: identity.clone(), source: why });
                }
                None if seen => return Err(FetchError::Forgotten { identity: identity.clone() }),
                _ => {}
            }
            seen |= self.board.load().contains_key(identity);
            if !asked {
                let wish = Wish::Want(identity.clone(), Priority::Traffic);
                self.wishes.send(wish).await.map_err(|_| FetchError::Closed)?;
                // A lapsed seat is asked anew by this wish: wait for that, then believe what comes.
                asked = true;
                self.until_asked(identity, &mut changes).await?;
                continue;
            }
            changes.changed().await.map_err(|_| FetchError::Closed)?;
        }
    }

    /// Waits until the driver has seen our wish: the seat is no longer the lapsed one it was.
    async fn until_asked(
        &self,
        identity: &Identity,
        changes: &mut watch::Receiver<()>,
    ) -> Result<(), FetchError> {
        while self.stale(identity) {
            changes.changed().await.map_err(|_| FetchError::Closed)?;
        }
        Ok(())
    }

    /// Lapsed, with a retry allowed that nobody has begun.
    fn stale(&self, identity: &Identity) -> bool {
        let now = Instant::now();
        match self.board.load().get(identity) {
            Some(Seat::Lapsed { retry_from, .. }) => *retry_from <= now,
            _ => false,
        }
    }
}

/// The one writer: takes wishes, makes calls, shows outcomes. Run it on the control runtime,
/// which is also where keys are made.
pub struct Driver<I> {
    issuer: I,
    wall: fn() -> SystemTime,
    board: Arc<ArcSwap<Board>>,
    changed: watch::Sender<()>,
    queue: mpsc::Receiver<Wish>,
}

impl<I: Issuer> Driver<I> {
    /// Serves until `stopped` resolves or every [`Vault`] is gone.
    pub async fn run(self, stopped: impl Future<Output = ()> + Send) {
        let Self { issuer, wall, board, changed, mut queue } = self;
        let mut schedule = Schedule::new();
        let mut calls = FuturesUnordered::new();
        let mut stopped = std::pin::pin!(stopped);
        let mut outdated = std::pin::pin!(issuer.changed());
        let mut calendar = Calendar::new(wall(), Instant::now());
        let mut news = true;
        loop {
            news |= follow_clock(&mut calendar, &mut schedule, wall());
            while let Some((identity, flight)) = schedule.begin(Instant::now()) {
                calls.push(call(&issuer, identity, flight));
                news = true;
            }
            if news {
                board.store(Arc::new(post(&schedule)));
                changed.send_replace(());
            }
            news = true;
            let look = Instant::now() + LOOK_AGAIN;
            let wake = schedule.next_wake().map_or(look, |due| due.min(look));
            // Cancel-safe: a call's result leaves the set only when its arm runs; the queue's recv is.
            tokio::select! {
                () = &mut stopped => return,
                wish = queue.recv() => match wish {
                    None => return,
                    Some(wish) => take(&mut schedule, wish),
                },
                Some((identity, flight, result)) = calls.next() => {
                    land(&mut schedule, wall(), Landed { identity, flight, result });
                }
                () = &mut outdated => {
                    schedule.renew_all(Instant::now());
                    outdated.set(issuer.changed());
                }
                () = sleep_until(wake) => news = false,
            }
        }
    }
}

struct Landed {
    identity: Identity,
    flight: schedule::Flight,
    result: Result<Credential, IssueError>,
}

fn take(schedule: &mut Schedule<Arc<Credential>>, wish: Wish) {
    match wish {
        Wish::Forget(identity) => schedule.forget(&identity),
        Wish::Again => schedule.again(Instant::now()),
        Wish::Want(identity, priority) => {
            if !schedule.want(&identity, priority, Instant::now()) {
                tracing::warn!(%identity, "too many identities on this node, not asking for this one");
            }
        }
    }
}

fn land(schedule: &mut Schedule<Arc<Credential>>, wall: SystemTime, landed: Landed) {
    let Landed { identity, flight, result } = landed;
    let result = result.and_then(|credential| still_valid(credential, wall));
    let (now, chance) = (Instant::now(), fastrand::f64());
    if let Err(error) = &result {
        tracing::warn!(%identity, error = error as &dyn std::error::Error, "no certificate this time");
    }
    let landing = match result {
        Ok(credential) => {
            let (refresh_at, expires_at) = plan_new(credential.validity(), wall, now, chance);
            Landing::Issued(Lease { credential: Arc::new(credential), refresh_at, expires_at })
        }
        Err(error) => Landing::Failed { why: Arc::new(error), chance },
    };
    schedule.landed(&identity, flight, landing, now);
}

/// When the clock was set, what is held ends at other moments than was thought. True when that was so.
fn follow_clock(calendar: &mut Calendar, schedule: &mut Schedule<Arc<Credential>>, wall: SystemTime) -> bool {
    let now = Instant::now();
    let Some(by) = calendar.set_by(wall, now) else { return false };
    tracing::info!(?by, "the clock was set, looking at all certificates anew");
    schedule.replan(now, |credential| plan(credential.validity(), wall, now, fastrand::f64()));
    true
}

async fn call<I: Issuer>(
    issuer: &I,
    identity: Identity,
    flight: schedule::Flight,
) -> (Identity, schedule::Flight, Result<Credential, IssueError>) {
    let result = match timeout(CALL_WAIT, issuer.issue(&identity)).await {
        Ok(result) => result,
        Err(_) => Err(IssueError::Silent { limit: CALL_WAIT }),
    };
    (identity, flight, result)
}

/// One that has ended is a failure, to be tried again later and later: it would be asked for every second else.
fn still_valid(credential: Credential, wall: SystemTime) -> Result<Credential, IssueError> {
    match credential.validity().not_after {
        not_after if not_after > wall => Ok(credential),
        not_after => Err(IssueError::Ended { not_after }),
    }
}

fn post(schedule: &Schedule<Arc<Credential>>) -> Board {
    schedule
        .iter()
        .map(|(identity, view)| {
            let seat = match view {
                schedule::View::Asked => Seat::Asked,
                schedule::View::Held(lease) => {
                    Seat::Held { credential: Arc::clone(&lease.credential), expires_at: lease.expires_at }
                }
                schedule::View::Lapsed { why, retry_from } => {
                    Seat::Lapsed { why: Arc::clone(why), retry_from }
                }
            };
            (identity.clone(), seat)
        })
        .collect()
}

fn show(identity: &Identity, seat: &Seat) -> Shown {
    let (state, credential) = match seat {
        Seat::Asked => (ShownState::Initializing, None),
        Seat::Held { credential, .. } => (ShownState::Available, Some(credential)),
        Seat::Lapsed { why, .. } => (ShownState::Unavailable(Arc::clone(why)), None),
    };
    Shown {
        identity: identity.clone(),
        state,
        chain: credential.map(|c| c.chain()).unwrap_or_default(),
        roots: credential.map(|c| c.roots()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
