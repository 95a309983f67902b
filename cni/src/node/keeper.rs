//! One pod's task: brings what is to what is wanted, again and again, and answers for it.
//! Owns the pod's state. One pod's trouble is its own: nobody waits behind it. The steps are `enrol`'s.

mod counted;
mod proof;

use std::sync::Arc;
use std::time::Duration;

use ambit_process::stop::Stop;
use ambit_sys::netns::Netns;
use ambit_wire::node_link::PodUid;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use counted::{Counted, Counts};

use proof::{PROOF_PAUSE, Proof};

use crate::apply::Change;
use crate::metrics::Reconciled;
use crate::node::enrol::{self, EnrolError, Ground, Joined};
use crate::node::link::chain;
use crate::node::notes::Word;
use crate::node::sandbox::{Mark, Sandbox};
use crate::node::subject::Subject;

/// First and longest wait after a failure; doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A pod that is not found is looked for this often again before it is called missing; 1.5 s.
const SEARCHES: u32 = 4;

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

    async fn obey(&mut self, order: Order) {
        // Whoever asked may have gone; the work is done all the same.
        match order {
            Order::Adopt { sandbox, subject, reply } => {
                let _ = reply.send(self.adopt(sandbox, subject).await);
            }
            Order::Release { container_id, reply } => {
                let _ = reply.send(self.release(&container_id).await);
            }
            Order::Leave { reply } => {
                self.wanted = Wanted::Out;
                let _ = reply.send(self.settle().await.map(drop));
            }
            Order::Check { reply } => {
                let _ = reply.send(self.check().await);
            }
        }
    }

    /// The plugin's ADD. A sandbox that could not be taken in is forgotten: its runtime throws it away.
    async fn adopt(&mut self, sandbox: Sandbox, subject: Option<Box<Subject>>) -> Result<(), EnrolError> {
        let netns = enrol::open_told(&self.ground, &sandbox)?;
        let sandbox = Sandbox { mark: Some(Mark::new(&self.ground.boot, netns.id())), ..sandbox };
        if let Err(error) = self.ground.records.write(&self.uid, &sandbox) {
            warn!(pod = %self.uid, %error, "cannot record the sandbox; a new daemon will not find it");
        }
        self.sandbox = Some((sandbox, netns));
        let Some(subject) = subject else { return Ok(()) };
        (self.subject, self.wanted) = (Some(*subject), Wanted::In);
        let result = match self.settle().await {
            // In it is; that the API server learns it is seen to from now on.
            Err(error) if error.is_only_unsaid() => {
                self.say(&error).await;
                self.failures = 1;
                return Ok(());
            }
            result => result,
        };
        match &result {
            Ok(_) => self.failures = 0,
            Err(error) => {
                self.say_pending(error).await;
                self.sandbox = None;
                self.seat = Seat::Out;
                self.ground.records.remove(&self.uid);
            }
        }
        result.map(drop)
    }

    /// The plugin's DEL: the namespace is about to go, with the rules in it.
    async fn release(&mut self, container_id: &str) -> Result<(), EnrolError> {
        let ours = self.sandbox.as_ref().is_some_and(|(it, _)| it.container_id == container_id);
        if !ours {
            return Ok(());
        }
        if let Some(subject) = &self.subject {
            enrol::forget(&self.ground, subject).await?;
            if self.seat == Seat::In {
                self.ground.notes.forget(&subject.object)?;
            }
        }
        self.sandbox = None;
        self.seat = Seat::Out;
        self.failures = 0;
        self.ground.records.remove(&self.uid);
        Ok(())
    }

    async fn check(&mut self) -> Result<(), EnrolError> {
        if self.wanted != Wanted::In {
            return Ok(());
        }
        let (Some((_, netns)), Some(subject)) = (&self.sandbox, &self.subject) else {
            return Err(EnrolError::NoSandbox);
        };
        if !self.ground.link.carries(&subject.uid, netns.id()) {
            return Err(CARRIED_BY_NOBODY);
        }
        match enrol::drift(&self.ground, netns, &subject.rules).await? {
            None => Ok(()),
            Some(drift) => Err(EnrolError::Rules(crate::apply::ApplyError::NotAsInstalled(drift))),
        }
    }

    async fn settle_and_tell(&mut self) {
        match self.settle().await {
            Ok(_) => self.failures = 0,
            Err(error) => {
                // Once a failure is enough; the metric says that it goes on. An object may tell of addresses a
                // moment before its processes run.
                if self.failures == if matches!(error, EnrolError::NoSandbox) { SEARCHES } else { 0 } {
                    self.say(&error).await;
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    async fn say(&mut self, error: &EnrolError) {
        if error.is_only_unsaid() {
            info!(pod = %self.uid, error = %chain(error), "what became of the pod is written on it later");
            return;
        }
        // A daemon that has just started may be there before ztunnel is back. The pod is in all the same, and
        // still redirected: to say less would have its peers send plaintext to it.
        let was_in = self.subject.as_ref().is_some_and(Subject::is_said_in);
        if was_in && error.passes() {
            info!(pod = %self.uid, error = %chain(error), "the pod stays in the mesh, unattended for now");
            return;
        }
        self.say_pending(error).await;
    }

    async fn say_pending(&mut self, error: &EnrolError) {
        let why = chain(error);
        warn!(pod = %self.uid, wanted = ?self.wanted, error = why, "the pod is not where it should be");
        let Some(subject) = self.subject.as_ref().filter(|_| self.wanted == Wanted::In) else { return };
        if self.told.as_ref() != Some(&why) {
            self.ground.notes.warn(subject, &format!("not in the mesh: {why}"));
            self.told = Some(why);
        }
        if let Err(error) = enrol::say(&self.ground, subject, Word::Pending).await {
            warn!(pod = %subject.object, error = %chain(&error), "cannot annotate the pod");
        }
    }

    /// Brings the pod to what is wanted. Where it is already there, this only looks.
    async fn settle(&mut self) -> Result<Change, EnrolError> {
        let kind = match self.wanted {
            Wanted::In => "add",
            Wanted::Out | Wanted::Gone => "delete",
        };
        self.ground.metrics.reconciles.get_or_create(&Reconciled { r#type: kind }).inc();
        match self.wanted {
            Wanted::In => self.settle_in().await,
            Wanted::Out => self.settle_out().await,
            Wanted::Gone => self.settle_gone().await,
        }
    }

    async fn settle_in(&mut self) -> Result<Change, EnrolError> {
        let Some(subject) = self.subject.clone() else { return Ok(Change::None) };
        self.drop_lost(&subject).await?;
        self.search(&subject).await;
        let Some((sandbox, netns)) = &self.sandbox else {
            self.seat = Seat::Out;
            // Before the runtime has made a sandbox this is as it should be: the plugin will bring one.
            return if subject.ips.is_empty() { Ok(Change::None) } else { Err(EnrolError::NoSandbox) };
        };
        let Joined { change, unsaid } = enrol::join(&self.ground, &subject, netns, sandbox).await?;
        if self.seat == Seat::In && change == Change::Made {
            self.ground.metrics.repairs.inc();
            warn!(pod = %subject.object, "the pod's redirection was changed by somebody and is repaired");
        }
        if self.seat != Seat::In {
            info!(pod = %subject.object, ?change, "the pod is in the mesh");
        }
        let proven = enrol::proven(&self.ground, &subject, netns).await;
        // Who does not answer is asked again at the next look, like all that joining asks for.
        if self.proof.note(proven.unwrap_or(true)) {
            self.say_unproven(&subject);
        }
        (self.seat, self.told) = (Seat::In, None);
        unsaid.map_or(Ok(change), |error| Err(error.into()))
    }

    /// The pod stays in: without a certificate nothing of it can be read, for nothing gets through.
    fn say_unproven(&self, subject: &Subject) {
        warn!(pod = %subject.object, "the pod has no certificate; nobody gets in or out");
        self.ground.notes.warn(subject, "in the mesh, but without a certificate: nobody gets in or out");
    }

    /// The path leads to the pod's living namespace, or the pod is to be looked for. What is held open may be dead.
    async fn drop_lost(&mut self, subject: &Subject) -> Result<(), EnrolError> {
        let Some((sandbox, _)) = &self.sandbox else { return Ok(()) };
        match enrol::open(&self.ground, sandbox) {
            Ok(_) => Ok(()),
            Err(error) if error.is_lost() => {
                info!(pod = %subject.object, error = %chain(&error), "the pod's sandbox is gone");
                enrol::forget(&self.ground, subject).await?;
                self.sandbox = None;
                self.seat = Seat::Out;
                self.ground.records.remove(&self.uid);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Finds the sandbox of a pod that the runtime did not tell of. It is not recorded: the next daemon finds it too.
    async fn search(&mut self, subject: &Subject) {
        if self.sandbox.is_some() {
            return;
        }
        let finder = &self.ground.finder;
        let found = match subject.ips.is_empty() {
            true if self.may_be_missed() => finder.find_new(&subject.runtime_uid).await,
            _ => finder.find(&subject.runtime_uid, &subject.ips).await,
        };
        let Some(found) = found else { return };
        info!(pod = %subject.object, netns = %found.path.display(), "found the pod among the node's processes");
        let sandbox = Sandbox {
            uid: self.uid.to_string(),
            container_id: found.container_id,
            interface: String::new(),
            mark: Some(Mark::new(&self.ground.boot, found.netns.id())),
            netns: found.path,
            ips: Vec::new(),
        };
        self.sandbox = Some((sandbox, Arc::new(found.netns)));
    }

    async fn settle_out(&mut self) -> Result<Change, EnrolError> {
        let Some(subject) =
            self.subject.clone().filter(|it| self.seat != Seat::Out || it.redirection.is_some())
        else {
            return Ok(Change::None);
        };
        self.drop_lost(&subject).await?;
        if subject.redirection.is_some() {
            // Somebody took it in, and we do not know where it is.
            self.search(&subject).await;
        }
        let subject = &subject;
        let if_said = self.seat == Seat::In || subject.redirection.is_some();
        match &self.sandbox {
            Some((_, netns)) => enrol::leave(&self.ground, subject, netns, if_said).await?,
            None => {
                if if_said {
                    enrol::unsay(&self.ground, subject).await?;
                }
                enrol::forget(&self.ground, subject).await?;
            }
        }
        if self.seat == Seat::In {
            info!(pod = %subject.object, "the pod is out of the mesh");
        }
        self.seat = Seat::Out;
        Ok(Change::Made)
    }

    /// The object is gone. Its sandbox may live on until the runtime ends it; then it is refused, not in plain.
    async fn settle_gone(&mut self) -> Result<Change, EnrolError> {
        if let (Some(subject), false) = (&self.subject, self.seat == Seat::Out) {
            enrol::forget(&self.ground, subject).await?;
            self.ground.notes.forget(&subject.object)?;
            info!(pod = %subject.object, "the pod is gone");
        }
        self.seat = Seat::Out;
        let dead = self.sandbox.as_ref().is_some_and(|(sandbox, _)| !sandbox.netns.exists());
        if dead {
            self.sandbox = None;
            self.ground.records.remove(&self.uid);
        }
        Ok(Change::None)
    }
}

const CARRIED_BY_NOBODY: EnrolError = EnrolError::Carry(crate::node::link::CarryError::NoProxy);
