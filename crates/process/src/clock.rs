//! The edge where time enters. Owns the only reading of the wall clock; pure code takes time as an argument.

use std::time::SystemTime;

pub use tokio::time::Instant;

/// The monotonic time, which tests may pause.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the edge that every other place is sent to")]
pub fn now_system() -> SystemTime {
    SystemTime::now()
}
