//! How many requests each may still send, counted by all threads together (`waypoint.md` 4.10). Owns the buckets and how
//! many there may be; what a bucket is, and which of them is forgotten, is `model::rate_limit`'s.
//!
//! All threads count in the same place, for a share of a limit on each thread would refuse whoever keeps to one of them.
//! A lock is held for a look-up, and there are several, so that threads seldom meet.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, PoisonError};

use ambit_model::name::PolicyKey;
use ambit_model::rate_limit::{Buckets, LocalLimit, Taken};
use ambit_model::request_policy::Facts;
use ambit_process::clock::{Instant, now};

/// Locks that threads share.
const SHARDS: u64 = 16;
/// Buckets behind each lock. Of all of them a waypoint keeps 65,536, in less than 3 MiB; beyond that the fullest are
/// forgotten, whose clients may then send as many at once as they could at first.
const BUCKETS: usize = 4096;

/// The buckets of all limits.
pub(crate) struct Limits {
    shards: Vec<Mutex<Buckets>>,
    /// With keys that nobody knows, so that nobody can aim at the bucket of somebody else.
    names: RandomState,
    began: Instant,
}

impl Default for Limits {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Buckets::new(BUCKETS))).collect();
        Self { shards, names: RandomState::new(), began: now() }
    }
}

impl Limits {
    /// Takes a token from the bucket that a request is of.
    pub(crate) fn take(&self, at: (&PolicyKey, usize), limit: &LocalLimit, facts: &Facts<'_>) -> Taken {
        let mut hasher = self.names.build_hasher();
        limit.name(at, facts, &mut hasher);
        let name = hasher.finish();
        let since = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let shard = usize::try_from(name % SHARDS).ok().and_then(|at| self.shards.get(at));
        match shard {
            Some(shard) => {
                let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
                buckets.take(name, &limit.rate, since)
            }
            // There are as many as there are names for.
            None => Taken::No { wait: limit.rate.per() },
        }
    }
}
