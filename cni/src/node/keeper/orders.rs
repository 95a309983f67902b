//! What the plugin asks of a pod's keeper: a sandbox taken in, let go, looked at. Owns the answers.

use tracing::warn;

use super::{Keeper, Order, Seat, Wanted};
use crate::node::enrol::{self, EnrolError};
use crate::node::link::CarryError;
use crate::node::sandbox::{Mark, Sandbox};
use crate::node::subject::Subject;

const CARRIED_BY_NOBODY: EnrolError = EnrolError::Carry(CarryError::NoProxy);

impl Keeper {
    pub(super) async fn obey(&mut self, order: Order) {
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
}
