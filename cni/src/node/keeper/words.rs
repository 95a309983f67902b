//! What people are told of a pod: in the log, by an event, on the pod. Owns what is worth a word, and how often.

use std::sync::Arc;

use ambit_process::clock;
use ambit_sys::netns::Netns;
use tracing::{info, warn};

use super::{Keeper, Wanted};
use crate::node::enrol::{self, EnrolError};
use crate::node::link::chain;
use crate::node::notes::Word;
use crate::node::standing::Standing;
use crate::node::subject::Subject;

/// A pod that is not found is looked for this often again before it is called missing; 1.5 s.
const SEARCHES: u32 = 4;

/// Failed so often, 11 s, what was proven is not known any more: a ztunnel that is replaced is back long before.
const LASTING: u32 = 8;

impl Keeper {
    pub(super) async fn settle_and_tell(&mut self) {
        match self.settle().await {
            Ok(_) => self.failures = 0,
            Err(error) => {
                // Once a failure is enough; the metric says that it goes on. An object may tell of addresses a
                // moment before its processes run.
                if self.failures == if matches!(error, EnrolError::NoSandbox) { SEARCHES } else { 0 } {
                    self.say(&error).await;
                }
                if self.failures == LASTING {
                    self.say_unattended(&error).await;
                }
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    pub(super) async fn say(&mut self, error: &EnrolError) {
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

    pub(super) async fn say_pending(&mut self, error: &EnrolError) {
        let why = chain(error);
        warn!(pod = %self.uid, wanted = ?self.wanted, error = why, "the pod is not where it should be");
        let Some(subject) = self.subject.as_ref().filter(|_| self.wanted == Wanted::In) else { return };
        if self.told.as_ref() != Some(&why) {
            self.ground.notes.warn(subject, &format!("not in the mesh: {why}"));
            self.told = Some(why);
        }
        let standing = Standing::of(error);
        match enrol::say(&self.ground, subject, Word::Pending, Some(&standing)).await {
            Ok(()) => self.remember(Word::Pending, Some(standing)),
            Err(error) => warn!(pod = %subject.object, error = %chain(&error), "cannot annotate the pod"),
        }
    }

    /// What its object says from now on, until the next is heard of. It is not to be written again meanwhile.
    pub(super) fn remember(&mut self, word: Word, standing: Option<Standing>) {
        let Some(subject) = &mut self.subject else { return };
        subject.redirection = word.text().map(str::to_owned);
        if let Some(standing) = standing.filter(|_| self.ground.notes.tells_standing()) {
            let told = standing.told(subject.enrolled.as_deref(), clock::now_system());
            subject.enrolled = Some(Box::new(told));
        }
    }

    /// Of a pod that stays in: its word stays, too.
    async fn stand(&mut self, standing: Standing) {
        let Some(subject) = self.subject.as_ref().filter(|_| self.wanted == Wanted::In) else { return };
        match enrol::say(&self.ground, subject, Word::Enabled, Some(&standing)).await {
            Ok(()) => self.remember(Word::Enabled, Some(standing)),
            Err(error) => {
                info!(pod = %subject.object, error = %chain(&error), "the pod's condition is out of date")
            }
        }
    }

    /// It was in, and its redirection stands; who should carry it has not been there for a while.
    async fn say_unattended(&mut self, error: &EnrolError) {
        let was_in = self.subject.as_ref().is_some_and(Subject::is_said_in);
        if was_in && error.passes() && !error.is_only_unsaid() {
            self.stand(Standing::Unattended(chain(error))).await;
        }
    }

    /// The pod stays in: without a certificate nothing of it can be read, for nothing gets through.
    pub(super) async fn say_unproven(&mut self, subject: &Subject) {
        warn!(pod = %subject.object, "the pod has no certificate; nobody gets in or out");
        self.ground.notes.warn(subject, "in the mesh, but without a certificate: nobody gets in or out");
        self.stand(Standing::NoCertificate).await;
    }

    /// Rules in there may be another agent's, of which none of ours knows: they stay when the pod leaves, too.
    pub(super) async fn say_older(&self, subject: &Subject, netns: &Arc<Netns>) {
        let tables = match enrol::older_tables(&self.ground, netns).await {
            Ok(tables) if tables.is_empty() => return,
            Ok(tables) => tables.join(", "),
            Err(error) => {
                return info!(pod = %subject.object, error = %chain(&error), "older rules are not looked for");
            }
        };
        let why = format!(
            "in the mesh, beside rules of iptables-legacy, which are left as they are, in table {tables}: if another \
             agent redirected the pod by them, restart the pod"
        );
        warn!(pod = %subject.object, "{why}");
        self.ground.notes.warn(subject, &why);
    }
}
