//! Tokens that were checked and found good, so that the next request with one costs no signature. Owns how many are
//! remembered, and that none outlives its time, its issuer's keys or the rule that it was checked by.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use ambit_jwt::KeySet;
use ambit_model::authentication::TokenRule;
use ambit_model::request_policy::Token;

use crate::keys::Ring;

/// Tokens remembered by one thread, twice: those that are used stay.
const REMEMBERED: usize = 1024;
/// Bytes of them, likewise.
const BYTES: usize = 2 << 20;

/// Tokens of one thread.
#[derive(Default)]
pub(crate) struct Believed(Mutex<Shelves>);

/// What is remembered is put on the first; once that is full it becomes the second, whose place it takes.
#[derive(Default)]
struct Shelves {
    hash: RandomState,
    first: HashMap<u64, Remembered>,
    second: HashMap<u64, Remembered>,
    bytes: usize,
}

/// A token that was found good.
#[derive(Clone)]
pub(crate) struct Remembered {
    /// As it was sent: what is remembered is compared whole.
    pub(crate) text: Box<str>,
    pub(crate) rule: Weak<TokenRule>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) keys: Weak<KeySet>,
    /// When it is over; none: never.
    pub(crate) ends: Option<SystemTime>,
    pub(crate) token: Arc<Token>,
}

impl Remembered {
    /// Whether it is as good as it was.
    fn holds(&self, text: &str, rule: &Arc<TokenRule>, now: SystemTime) -> bool {
        let same = *self.text == *text && std::ptr::eq(self.rule.as_ptr(), Arc::as_ptr(rule));
        let timely = self.ends.is_none_or(|ends| now < ends);
        let keys =
            || self.ring.now().is_some_and(|keys| std::ptr::eq(Arc::as_ptr(&keys), self.keys.as_ptr()));
        same && timely && keys()
    }
}

impl Believed {
    /// A token that was found good by this very rule.
    pub(crate) fn find(&self, text: &str, rule: &Arc<TokenRule>, now: SystemTime) -> Option<Arc<Token>> {
        let mut shelves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = shelves.key(text, rule);
        if let Some(found) = shelves.first.get(&key) {
            return found.holds(text, rule, now).then(|| Arc::clone(&found.token));
        }
        let found = shelves.second.remove(&key).filter(|found| found.holds(text, rule, now))?;
        let token = Arc::clone(&found.token);
        shelves.put(key, found);
        Some(token)
    }

    /// Remembers one.
    pub(crate) fn put(&self, rule: &Arc<TokenRule>, remembered: Remembered) {
        let mut shelves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = shelves.key(&remembered.text, rule);
        shelves.put(key, remembered);
    }
}

impl Shelves {
    fn key(&self, text: &str, rule: &Arc<TokenRule>) -> u64 {
        self.hash.hash_one((text, Arc::as_ptr(rule)))
    }

    fn put(&mut self, key: u64, remembered: Remembered) {
        if self.first.len() >= REMEMBERED || self.bytes >= BYTES {
            self.second = std::mem::take(&mut self.first);
            self.bytes = 0;
        }
        // What it claims takes about as much as its text.
        self.bytes += 2 * remembered.text.len();
        self.first.insert(key, remembered);
    }
}

#[cfg(test)]
mod tests;
