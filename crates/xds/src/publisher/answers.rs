//! What a subscriber was sent about one type, and what it answered.

use std::collections::VecDeque;

use ambit_wire::limits;
use ambit_wire::pb::discovery::Status;

/// Responses whose answers are awaited; older ones are forgotten, not waited for.
const AWAITED: usize = 1024;

/// A response that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The generation it was about.
    pub generation: u64,
    /// What the subscriber wrote, cut to a bound.
    pub text: String,
}

/// Responses and answers about one type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    awaited: VecDeque<(String, u64)>,
    /// The generation of the latest response.
    pub sent: Option<u64>,
    /// The generation of the latest response that was answered, well or not: what was not refused is in force.
    pub answered: Option<u64>,
    /// How many were acknowledged.
    pub acks: u64,
    /// How many were refused.
    pub nacks: u64,
    /// How many answers were about no response that is awaited.
    pub stale: u64,
    /// The latest refusal.
    pub refused: Option<Nack>,
}

impl Answers {
    /// How many responses are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.awaited.len()
    }

    pub(super) fn sent(&mut self, nonce: &str, generation: u64) {
        if self.awaited.len() == AWAITED {
            self.awaited.pop_front();
        }
        self.awaited.push_back((nonce.into(), generation));
        self.sent = Some(generation);
    }

    /// Records an answer. False: the request is about a response that is not awaited, and nothing in it counts.
    pub(super) fn take(&mut self, nonce: &str, error: Option<Status>) -> bool {
        if nonce.is_empty() {
            return true; // spontaneous
        }
        let Some(at) = self.awaited.iter().position(|(each, _)| each == nonce) else {
            self.stale += 1;
            return false;
        };
        // Answers come in the order of responses: earlier ones will not be answered any more.
        let Some((_, generation)) = self.awaited.drain(..=at).next_back() else { return false };
        self.answered = Some(generation);
        match error {
            None => self.acks += 1,
            Some(status) => {
                self.nacks += 1;
                let text = limits::shortened(&status.message, limits::NACK_TEXT).into();
                self.refused = Some(Nack { generation, text });
            }
        }
        true
    }
}
