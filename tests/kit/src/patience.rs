//! Waiting for something that happens soon.

use std::time::{Duration, Instant};

/// Tries until `attempt` succeeds, at most for `limit`; returns the last failure after that.
pub fn eventually<T, E>(limit: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let until = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(why) if Instant::now() >= until => return Err(why),
            Err(_) => pause(Duration::from_millis(10)),
        }
    }
}

/// Lets time pass, for tests of what must not happen in it.
pub fn pause(length: Duration) {
    let until = Instant::now() + length;
    // A parked thread may be woken early.
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
