//! Certificates counted by state, as metrics show them. Owns the counting; states are the vault's.

use tokio::time::Instant;

use super::{Seat, Vault};

/// How certificates are, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Census {
    /// Asked for the first time, and not there yet.
    pub asked: usize,
    /// Served.
    pub held: usize,
    /// Not to be had, or ended before another was.
    pub lapsed: usize,
    /// What is left of the life of that of which least is left, from 1 down to 0; none where none is served.
    pub least_left: Option<f64>,
}

impl Vault {
    /// Counts them.
    #[must_use]
    pub fn census(&self) -> Census {
        let now = Instant::now();
        let mut census = Census::default();
        for seat in self.board.load().values() {
            match seat {
                Seat::Asked => census.asked += 1,
                Seat::Held { credential, expires_at } if *expires_at > now => {
                    census.held += 1;
                    let life = credential.validity();
                    let whole = life.not_after.duration_since(life.not_before).unwrap_or_default();
                    let left = expires_at.saturating_duration_since(now).as_secs_f64() / whole.as_secs_f64();
                    // A life of no length has nothing left of it.
                    let left = if left.is_finite() { left.min(1.0) } else { 0.0 };
                    census.least_left = Some(census.least_left.map_or(left, |least| least.min(left)));
                }
                Seat::Held { .. } | Seat::Lapsed { .. } => census.lapsed += 1,
            }
        }
        census
    }
}
