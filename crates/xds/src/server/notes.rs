//! What is noted of streams for whoever counts and measures: requests, responses, and how long each took.
//! Owns when a stream's times begin and end. Counts nothing itself: what is noted goes to a function that its owner
//! gave.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_wire::convert::ResourceType;

use crate::library::Library;
use crate::publisher::{Action, Asked, Response};

/// Responses about policies whose answers are awaited; of older ones it is not noted when they were in force.
const AWAITED: usize = 64;

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// A request of this size came, in bytes.
    Asked(usize),
    /// What was ready to be told waited so long for the stream to take it up.
    Queued(Duration),
    /// A response went out.
    Sent {
        /// Its type.
        kind: ResourceType,
        /// Its size in bytes.
        size: usize,
        /// From when it was begun to be made until the transport had it.
        pushed: Duration,
        /// From when it was made.
        sent: Duration,
    },
    /// All there was to say of a change was sent, so long after it was heard of.
    Told(Duration),
    /// A change of policies was acknowledged, which is when it is in force, so long after it was heard of.
    InForce(Duration),
    /// The stream was ended by a fault of ours.
    Failed,
}

/// Where notes go.
#[derive(Clone)]
pub struct Notes(Arc<dyn Fn(Note) + Send + Sync>);

impl Notes {
    /// Notes go to this function. It is called while others wait, so it has to be quick.
    pub fn to(take: impl Fn(Note) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(super) fn take(&self, note: Note) {
        (self.0)(note);
    }
}

impl Default for Notes {
    fn default() -> Self {
        Self::to(|_| ())
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notes")
    }
}

/// The times of one stream.
#[derive(Debug)]
pub(super) struct Times {
    notes: Notes,
    /// When what is due now was begun.
    begun: Instant,
    /// When the oldest change that is due now was heard of.
    heard: Option<Instant>,
    /// The response that the transport has not taken yet.
    out: Option<Out>,
    awaited: VecDeque<(String, Instant)>,
}

#[derive(Debug)]
struct Out {
    kind: ResourceType,
    size: usize,
    handed: Instant,
}

impl Times {
    pub(super) fn new(notes: Notes, now: Instant) -> Self {
        Self { notes, begun: now, heard: None, out: None, awaited: VecDeque::new() }
    }

    /// A request came.
    pub(super) fn asked(&mut self, asked: &Asked, size: usize, now: Instant) {
        self.begun = now;
        self.notes.take(Note::Asked(size));
        let request = asked.request();
        let is_answer = |(nonce, _): &(String, Instant)| *nonce == request.response_nonce;
        let Some(at) = self.awaited.iter().position(is_answer) else { return };
        // Earlier ones are not answered any more.
        let Some((_, heard)) = self.awaited.drain(..=at).next_back() else { return };
        if request.error_detail.is_none() {
            self.notes.take(Note::InForce(now.saturating_duration_since(heard)));
        }
    }

    /// A newer library was taken up, after that of a generation; what it gives to say is `due`.
    pub(super) fn taken(&mut self, library: &Library, told: u64, (begun, due): (Instant, &[Action])) {
        self.begun = begun;
        if let Some(ready) = library.ready_at() {
            self.notes.take(Note::Queued(begun.saturating_duration_since(ready)));
        }
        let mut policies = due.iter().filter_map(|action| match action {
            Action::Send(response) if response.kind() == ResourceType::Authorization => {
                Some(response.nonce())
            }
            _ => None,
        });
        self.heard = (!due.is_empty()).then(|| library.heard_since(told, None)).flatten();
        let heard = library.heard_since(told, Some(ResourceType::Authorization));
        // Of several responses the last is the one by which all is in force.
        if let (Some(heard), Some(nonce)) = (heard, policies.next_back()) {
            if self.awaited.len() == AWAITED {
                self.awaited.pop_front();
            }
            self.awaited.push_back((nonce.to_owned(), heard));
        }
    }

    /// A response is handed to the transport.
    pub(super) fn handed(&mut self, response: &Response, size: usize, now: Instant) {
        self.out = Some(Out { kind: response.kind(), size, handed: now });
    }

    /// The transport has taken the whole of it.
    pub(super) fn gone(&mut self, now: Instant) {
        let Some(Out { kind, size, handed }) = self.out.take() else { return };
        let pushed = now.saturating_duration_since(self.begun);
        self.notes.take(Note::Sent { kind, size, pushed, sent: now.saturating_duration_since(handed) });
    }

    /// The transport has taken all that was due.
    pub(super) fn all_gone(&mut self, now: Instant) {
        if let Some(heard) = self.heard.take() {
            self.notes.take(Note::Told(now.saturating_duration_since(heard)));
        }
    }

    /// The stream ends by a fault of ours.
    pub(super) fn failed(&self) {
        self.notes.take(Note::Failed);
    }
}

#[cfg(test)]
mod tests;
