//! Waiting for something that happens soon.

use std::time::{Duration, Instant};

/// Tries until `attempt` succeeds, at most for `limit`; returns the last failure after that.
pub fn eventually<T, E>(limit: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let until = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(why) if Instant::now() >= until => return Err(why),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
