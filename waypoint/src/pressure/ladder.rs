//! How many rungs are in force, by what is seen. Owns where each begins, and that none comes and goes with every breath:
//! a rung is taken at once, and left once things have been better by a margin for a while, one after the other.

use std::time::Duration;

/// The highest rung.
pub(super) const LAST: u8 = 5;

/// Where each rung begins, in thousandths of the memory that we may have. Below three quarters nothing is short. What
/// costs nobody an answer comes well before what does, and the last while there is room for what is open to go on.
const MEMORY: [u32; LAST as usize] = [750, 820, 880, 930, 970];
/// A rung is left so much below.
const MEMORY_MARGIN: u32 = 30;

/// Where each begins by how late a thread is. Requests wait that long at each of their steps: a tenth of a second is felt,
/// half of one is worse than to be refused and asked to come again, and after two most clients have given up.
const DELAY: [Duration; LAST as usize] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// A rung is left where it is less late by this factor.
const DELAY_MARGIN: u32 = 2;

/// Looks in a row that must be better before a rung is left: about a second.
const CALM: u32 = 10;

/// What is seen of one thread and its process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Memory in use, in thousandths of what may be.
    pub(super) memory: u32,
    /// How late the thread is.
    pub(super) delay: Duration,
}

impl Seen {
    /// Rungs that begin by now.
    fn begins(self) -> u8 {
        reached(&MEMORY, &self.memory).max(reached(&DELAY, &self.delay))
    }

    /// Rungs that are not left.
    fn keeps(self) -> u8 {
        let memory = self.memory.saturating_add(MEMORY_MARGIN);
        let delay = self.delay.saturating_mul(DELAY_MARGIN);
        Self { memory, delay }.begins()
    }
}

/// Whether this much memory in use is any rung's.
pub(super) fn is_short(memory: u32) -> bool {
    reached(&MEMORY, &memory) > 0
}

fn reached<T: PartialOrd>(rungs: &[T], seen: &T) -> u8 {
    rungs.iter().zip(1..).take_while(|(begins, _)| *begins <= seen).last().map_or(0, |(_, rung)| rung)
}

/// The rungs in force.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    rungs: u8,
    /// Looks in a row that were better.
    calm: u32,
}

impl Ladder {
    /// How many.
    pub(super) fn rungs(&self) -> u8 {
        self.rungs
    }

    /// How many from now on.
    pub(super) fn step(&mut self, seen: Seen) -> u8 {
        let begins = seen.begins();
        self.calm = if begins < self.rungs && seen.keeps() < self.rungs { self.calm + 1 } else { 0 };
        if begins > self.rungs {
            self.rungs = begins;
        } else if self.calm >= CALM {
            (self.rungs, self.calm) = (self.rungs - 1, 0);
        }
        self.rungs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(memory: u32) -> Seen {
        Seen { memory, delay: Duration::ZERO }
    }

    fn delay(ms: u64) -> Seen {
        Seen { memory: 0, delay: Duration::from_millis(ms) }
    }

    #[test]
    fn rungs_begin_where_they_should_by_whatever_is_worse() {
        for (seen, wanted) in [
            (memory(0), 0),
            (memory(749), 0),
            (memory(750), 1),
            (memory(820), 2),
            (memory(880), 3),
            (memory(930), 4),
            (memory(970), 5),
            (memory(u32::MAX), 5),
            (delay(99), 0),
            (delay(100), 1),
            (delay(499), 2),
            (delay(500), 3),
            (delay(1000), 4),
            (delay(60_000), 5),
            (Seen { memory: 900, ..delay(100) }, 3),
            (Seen { memory: 760, ..delay(1500) }, 4),
        ] {
            assert_eq!(Ladder::default().step(seen), wanted, "{seen:?}");
        }
    }

    #[test]
    fn rungs_are_left_one_by_one_and_only_when_it_is_better_for_a_while() {
        let mut ladder = Ladder::default();
        assert_eq!(ladder.step(memory(940)), 4);
        // Right below where it began it is not better.
        for _ in 0..100 {
            assert_eq!(ladder.step(memory(901)), 4);
        }
        let steps: Vec<u8> = (0..40).map(|_| ladder.step(memory(100))).collect();
        let wanted: Vec<u8> = (1..=40).map(|look| 4 - look / 10).collect();
        assert_eq!(steps, wanted);
        // What goes up and down around where a rung begins leaves it where it is.
        assert_eq!(ladder.step(delay(260)), 2);
        for look in 0..100 {
            assert_eq!(ladder.step(delay(if look % 9 == 0 { 200 } else { 90 })), 2, "{look}");
        }
    }

    #[test]
    fn with_more_pressure_there_are_never_fewer_rungs() {
        for seed in 0..200 {
            let mut chance = fastrand::Rng::with_seed(seed);
            let (mut less, mut more) = (Ladder::default(), Ladder::default());
            for look in 0..500 {
                // Mostly quiet, so that rungs are left, too.
                let (memory, ms) = if chance.u8(..20) == 0 {
                    (chance.u32(..1100), chance.u64(..2500))
                } else {
                    (chance.u32(..800), chance.u64(..80))
                };
                let seen = Seen { memory, ..delay(ms) };
                let worse = Seen { memory: memory + chance.u32(..100), ..delay(ms + chance.u64(..100)) };
                let (less, more) = (less.step(seen), more.step(worse));
                assert!(less <= more, "seed {seed}, look {look}: {less} for {seen:?}, {more} for {worse:?}");
            }
        }
    }
}
