//! One bucket of tokens: a request takes one, and they come back one by one. Owns the arithmetic, in whole nanoseconds,
//! rounded so that never more is let through than was said.
//!
//! A bucket is kept as the one number that says when it will be full again: no task fills it, and one that is full is
//! like one that was never used.

use std::time::Duration;

/// The shortest time that a rate is said for; as Envoy's.
pub const PER_LEAST: Duration = Duration::from_millis(50);
/// The longest.
pub const PER_MOST: Duration = Duration::from_secs(86_400);
/// The most requests of a rate; beyond that nobody counts any more, but measures.
pub const REQUESTS_MOST: u32 = 1_000_000;
/// The most requests at once.
pub const BURST_MOST: u32 = 1_000_000;
/// No bucket takes longer to fill, so that numbers stay small.
const FILL_MOST: u64 = 366 * 86_400 * 1_000_000_000;

/// How many requests, how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    requests: u32,
    per: Duration,
    burst: u32,
    /// Nanoseconds until one more may come.
    each: u64,
}

/// Why numbers are no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// None at all, or too many.
    #[error("{0} is no number of requests from 1 to {REQUESTS_MOST}")]
    Requests(u32),
    /// Too short or too long.
    #[error("{0:?} is no time from {PER_LEAST:?} to {PER_MOST:?}")]
    Per(Duration),
    /// None at all, or too many.
    #[error("{0} is no number of requests at once from 1 to {BURST_MOST}")]
    Burst(u32),
    /// It would not be full again within a year.
    #[error("{0} requests at once would take longer than a year to come back")]
    Fill(u32),
}

/// When a bucket will be full again, in nanoseconds since some beginning. In the past: it is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(pub u64);

/// What came of taking a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// There was one.
    Yes {
        /// How the bucket is now.
        level: Level,
        /// How many are left in it.
        left: u32,
    },
    /// There was none.
    No {
        /// Until there will be one.
        wait: Duration,
    },
}

impl Rate {
    /// So many requests in so much time, and so many at once.
    ///
    /// # Errors
    /// When a number is out of range.
    pub fn new(requests: u32, per: Duration, burst: u32) -> Result<Self, RateError> {
        if !(1..=REQUESTS_MOST).contains(&requests) {
            return Err(RateError::Requests(requests));
        }
        if !(PER_LEAST..=PER_MOST).contains(&per) {
            return Err(RateError::Per(per));
        }
        if !(1..=BURST_MOST).contains(&burst) {
            return Err(RateError::Burst(burst));
        }
        // Upwards: slower than was said by less than a nanosecond for each, never faster.
        let nanos = u64::try_from(per.as_nanos()).map_err(|_| RateError::Per(per))?;
        let each = nanos.div_ceil(u64::from(requests));
        let fill = each.checked_mul(u64::from(burst)).filter(|fill| *fill <= FILL_MOST);
        fill.ok_or(RateError::Fill(burst))?;
        Ok(Self { requests, per, burst, each })
    }

    /// How many requests in its time.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Its time.
    #[must_use]
    pub fn per(&self) -> Duration {
        self.per
    }

    /// How many at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Takes a token from a bucket.
    #[must_use]
    pub fn take(&self, level: Level, now: u64) -> Taken {
        let fill = self.each.saturating_mul(u64::from(self.burst));
        let after = level.0.max(now).saturating_add(self.each);
        let full = now.saturating_add(fill);
        if after > full {
            return Taken::No { wait: Duration::from_nanos(after - full) };
        }
        let left = (full - after).checked_div(self.each).unwrap_or_default();
        Taken::Yes { level: Level(after), left: u32::try_from(left).unwrap_or(u32::MAX) }
    }
}
