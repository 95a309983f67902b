//! Brings a pod to what is wanted of it: in, out, or gone. Owns where the pod's sandbox is looked for, and when it is
//! believed lost. The steps are `enrol`'s.

use std::sync::Arc;

use tracing::{info, warn};

use super::{Keeper, Seat, Wanted};
use crate::apply::Change;
use crate::metrics::Reconciled;
use crate::node::enrol::{self, EnrolError, Joined};
use crate::node::link::chain;
use crate::node::notes::Word;
use crate::node::sandbox::{Mark, Sandbox};
use crate::node::subject::Subject;

impl Keeper {
    /// Brings the pod to what is wanted. Where it is already there, this only looks.
    pub(super) async fn settle(&mut self) -> Result<Change, EnrolError> {
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
        let Joined { change, unsaid, proven, standing } =
            enrol::join(&self.ground, &subject, netns, sandbox).await?;
        if self.seat == Seat::In && change == Change::Made {
            self.ground.metrics.repairs.inc();
            warn!(pod = %subject.object, "the pod's redirection was changed by somebody and is repaired");
        }
        if self.seat != Seat::In {
            info!(pod = %subject.object, ?change, "the pod is in the mesh");
        }
        if change == Change::Made {
            let netns = Arc::clone(netns);
            self.say_older(&subject, &netns).await;
        }
        // Who does not answer is asked again at the next look, like all that joining asks for.
        let is_time_to_tell = self.proof.note(proven.unwrap_or(true));
        if unsaid.is_none() {
            self.remember(Word::Enabled, standing);
        }
        if is_time_to_tell {
            self.say_unproven(&subject).await;
        }
        (self.seat, self.told) = (Seat::In, None);
        unsaid.map_or(Ok(change), |error| Err(error.into()))
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
        let Some(subject) = self.subject.clone().filter(|it| self.seat != Seat::Out || it.is_written_on())
        else {
            return Ok(Change::None);
        };
        self.drop_lost(&subject).await?;
        if subject.is_written_on() {
            // Somebody took it in, and we do not know where it is.
            self.search(&subject).await;
        }
        let subject = &subject;
        let if_said = self.seat == Seat::In || subject.is_written_on();
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
