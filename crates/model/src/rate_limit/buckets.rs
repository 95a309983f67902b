//! Buckets by what they are of, as many as there is room for. Owns which of them is forgotten: one that is full says
//! nothing that a new one would not, and of the others the fullest go first, so that nobody gets rid of an empty one by
//! making many new ones.

use std::collections::HashMap;

use super::{Level, Rate, Taken};

/// Buckets that are not full, or were not when they were last looked at.
#[derive(Debug)]
pub struct Buckets {
    levels: HashMap<u64, Level>,
    most: usize,
}

impl Buckets {
    /// At most so many, and at least one.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { levels: HashMap::new(), most: most.max(1) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Takes a token from the bucket of this name. Time is in nanoseconds, and never goes back.
    pub fn take(&mut self, name: u64, rate: &Rate, now: u64) -> Taken {
        let known = self.levels.get(&name).copied();
        let taken = rate.take(known.unwrap_or_default(), now);
        if let Taken::Yes { level, .. } = taken {
            if known.is_none() && self.levels.len() >= self.most {
                self.forget(now);
            }
            self.levels.insert(name, level);
        }
        taken
    }

    /// Makes room for a quarter of all: what that costs is shared by as many new ones.
    pub(super) fn forget(&mut self, now: u64) {
        self.levels.retain(|_, level| level.0 > now);
        let keep = self.most - self.most.div_ceil(4);
        let Some(over) = self.levels.len().checked_sub(keep).filter(|over| *over > 0) else { return };
        let mut all: Vec<Level> = self.levels.values().copied().collect();
        let (_, last, _) = all.select_nth_unstable(over - 1);
        let last = *last;
        // Of those that are as full as the last one that goes, not more than have to.
        let mut alike = over.saturating_sub(all.iter().filter(|level| **level < last).count());
        self.levels.retain(|_, level| {
            if *level == last && alike > 0 {
                alike -= 1;
                return false;
            }
            *level >= last
        });
    }
}
