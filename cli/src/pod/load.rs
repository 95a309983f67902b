//! `ambit pod load`: requests over new connections, one after the other, and what became of them.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::client::{Family, fetch, report};
use super::url::Url;

/// A request that takes longer has failed.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);
/// Failures printed one by one; more are only counted.
const FAILURES_SHOWN: u64 = 20;

/// Asks until standard input ends, then prints a summary. Fails when a request failed.
pub(crate) fn load(url: &Url, every: Duration) -> Result<(), String> {
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    std::thread::spawn(move || {
        // Whatever ends the input ends the load.
        let _ended = std::io::stdin().read_to_end(&mut Vec::new());
        seen.store(true, Ordering::Relaxed);
    });
    let (mut sent, mut failed, mut longest) = (0_u64, 0_u64, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        sent += 1;
        let why = match fetch(url, Family::Any, REQUEST_LIMIT) {
            Ok(answer) if answer.status < 400 => None,
            Ok(answer) => Some(format!("status {}", answer.status)),
            Err(e) => Some(e.to_string()),
        };
        longest = longest.max(begun.elapsed());
        if let Some(why) = why {
            failed += 1;
            if failed <= FAILURES_SHOWN {
                report(&serde_json::json!({ "request": sent, "failed": why }));
            }
        }
        if sent == 1 {
            report(&serde_json::json!({ "started": true }));
        }
        std::thread::park_timeout(every.saturating_sub(begun.elapsed()));
    }
    let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    report(&serde_json::json!({ "sent": sent, "failed": failed, "longest_ms": longest_ms }));
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {sent} requests failed")) }
}
