//! One pod's task: brings what is to what is wanted, again and again, and answers for it.
//! Owns the pod's state and its rhythm. One pod's trouble is its own: nobody waits behind it. What the plugin asks is
//! answered by `orders`, what is wanted done by `settle`, what people are told `words`'.

mod counted;
mod orders;
mod proof;
mod settle;
mod words;

use std::sync::Arc;
use std::time::Duration;

use ambit_process::stop::Stop;
use ambit_sys::netns::Netns;
use ambit_wire::node_link::PodUid;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use counted::{Counted, Counts};
use proof::{PROOF_PAUSE, Proof};

use crate::node::enrol::{self, EnrolError, Ground};
use crate::node::link::chain;
use crate::node::sandbox::Sandbox;
use crate::node::subject::Subject;

/// First and longest wait after a failure; doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A pod that the runtime began to start while the plugin was not in its list, or its program missing, is looked for
/// among processes this long and this often: it is to be in before its first container starts.
const SUSPICION: Duration = Duration::from_secs(15);
const SUSPICION_PAUSE: Duration = Duration::from_millis(25);

/// What the cluster wants of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// In the mesh.
    In(Subject),
    /// Out of it, but alive.
    Out(Subject),
    /// There is no such pod any more.
    Gone,
}

/// What the plugin asks.
#[derive(Debug)]
pub(crate) enum Order {
    /// The pod has this sandbox; with a subject, take it in before the answer.
    Adopt { sandbox: Sandbox, subject: Option<Box<Subject>>, reply: Reply },
    /// This sandbox is to go, whoever's it is. Of another sandbox than the pod's: nothing to do.
    Release { container_id: String, reply: Reply },
    /// Out of the mesh, whatever else is wanted.
    Leave { reply: Reply },
    /// Is all as it should be?
    Check { reply: Reply },
}

pub(crate) type Reply = oneshot::Sender<Result<(), EnrolError>>;

/// A pod's state.
pub(crate) struct Keeper {
    ground: Arc<Ground>,
    uid: PodUid,
    sandbox: Option<(Sandbox, Arc<Netns>)>,
    subject: Option<Subject>,
    wanted: Wanted,
    seat: Seat,
    failures: u32,
    /// What people were last told is wrong.
    told: Option<String>,
    counted: Counted,
    proof: Proof,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    In,
    Out,
    Gone,
}

/// Where the pod is, as far as this task has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    /// Not looked yet.
    Unknown,
    In,
    Out,
}

impl Keeper {
    pub(crate) fn new(ground: Arc<Ground>, uid: PodUid, sandbox: Option<Sandbox>) -> Self {
        let sandbox = sandbox.and_then(|sandbox| match enrol::open(&ground, &sandbox) {
            Ok(netns) => Some((sandbox, netns)),
            Err(error) => {
                warn!(pod = %uid, error = %chain(&error), "the recorded sandbox is not believed");
                ground.records.remove(&uid);
                None
            }
        });
        let counted = Counted::new(Arc::clone(&ground));
        let (subject, wanted, seat) = (None, Wanted::Gone, Seat::Unknown);
        Self {
            ground,
            uid,
            sandbox,
            subject,
            wanted,
            seat,
            failures: 0,
            told: None,
            counted,
            proof: Proof::default(),
        }
    }

    /// Keeps the pod until nothing of it is left, or `stop`.
    pub(crate) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut wishes: watch::Receiver<Option<Wish>>,
        stop: Stop,
    ) {
        let mut news = self.ground.link.news();
        let mut repaired = self.ground.installed.repaired();
        let mut told = true;
        loop {
            if std::mem::take(&mut told) {
                let wish = wishes.borrow_and_update().clone();
                self.hear(wish).await;
            }
            if self.wanted == Wanted::Gone && self.sandbox.is_none() && self.seat == Seat::Out {
                return;
            }
            let enrolled = self.seat == Seat::In;
            let pending = self.wanted == Wanted::In && !enrolled && self.is_running();
            self.counted.set(Counts { enrolled, pending, unproven: enrolled && !self.proof.is_there() });
            let pause = self.pause();
            // Every arm is cancel-safe; what was not taken is there the next time.
            tokio::select! {
                () = stop.stopped() => return,
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                changed = wishes.changed() => match changed {
                    Ok(()) => told = true,
                    Err(_) => return,
                },
                _ = news.changed() => self.settle_and_tell().await,
                // Its sender is part of the ground, which we hold.
                _ = repaired.changed() => {}
                () = tokio::time::sleep(pause) => self.settle_and_tell().await,
            }
        }
    }

    /// Whether the pod has a sandbox, as far as we or its object know.
    fn is_running(&self) -> bool {
        self.sandbox.is_some() || self.subject.as_ref().is_some_and(|it| !it.ips.is_empty())
    }

    /// The plugin was missing a moment ago: the runtime may be starting this pod without having asked for it.
    fn may_be_missed(&self) -> bool {
        let repaired = *self.ground.installed.repaired().borrow();
        let lately = repaired.is_some_and(|at| at.elapsed() < SUSPICION);
        lately && self.wanted == Wanted::In && self.sandbox.is_none()
    }

    fn pause(&self) -> Duration {
        if self.may_be_missed() {
            return SUSPICION_PAUSE;
        }
        if self.failures == 0 && self.seat == Seat::In && !self.proof.is_there() {
            return PROOF_PAUSE.min(self.ground.audit);
        }
        if self.failures == 0 {
            return self.ground.audit;
        }
        FIRST_PAUSE.saturating_mul(1 << self.failures.min(10).saturating_sub(1)).min(LONGEST_PAUSE)
    }

    async fn hear(&mut self, wish: Option<Wish>) {
        match wish {
            None => return,
            // Our own word has come back: all is as it was when we wrote it.
            Some(Wish::In(subject)) if self.is_echo(&subject) => return self.subject = Some(subject),
            Some(Wish::In(subject)) => (self.subject, self.wanted) = (Some(subject), Wanted::In),
            Some(Wish::Out(subject)) => (self.subject, self.wanted) = (Some(subject), Wanted::Out),
            Some(Wish::Gone) => self.wanted = Wanted::Gone,
        }
        self.settle_and_tell().await;
    }

    fn is_echo(&self, subject: &Subject) -> bool {
        let same = self.subject.as_ref().is_some_and(|known| subject.differs_only_in_word(known));
        (self.wanted, self.seat, self.failures) == (Wanted::In, Seat::In, 0) && same && subject.is_said_in()
    }
}
