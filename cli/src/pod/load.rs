//! `ambit pod load`: requests over new connections, one after the other, and what became of them.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Family, fetch, report};
use super::url::Url;

/// A request that takes longer has failed.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);

/// One that takes longer than this is told of by itself: with how long it waited for the server's address.
const SLOW: Duration = Duration::from_secs(1);

/// Asks until standard input ends. Prints a line when requests begin to fail or to succeed, and a summary.
/// Fails when a request failed.
pub(crate) fn load(url: &Url, every: Duration) -> Result<(), String> {
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    std::thread::spawn(move || {
        // Whatever ends the input ends the load.
        let _ended = std::io::stdin().read_to_end(&mut Vec::new());
        seen.store(true, Ordering::Relaxed);
    });
    let (mut sent, mut failed, mut longest, mut naming) = (0_u64, 0_u64, Duration::ZERO, Duration::ZERO);
    let (mut passing, mut first_failure) = (None, None);
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let result = ask(url);
        sent += 1;
        let took = begun.elapsed();
        longest = longest.max(took);
        naming = naming.max(result.as_ref().copied().unwrap_or_default());
        if took > SLOW {
            let named = result.as_ref().ok().map(|it| millis(*it));
            report(&json!({ "request": sent, "slow_ms": millis(took), "naming_ms": named }));
        }
        if passing != Some(result.is_ok()) {
            passing = Some(result.is_ok());
            report(&json!({ "request": sent, "passes": result.is_ok(), "why": result.as_ref().err() }));
        }
        if let Err(why) = result {
            failed += 1;
            first_failure.get_or_insert_with(|| json!({ "request": sent, "why": why }));
        }
        std::thread::park_timeout(every.saturating_sub(begun.elapsed()));
    }
    report(&json!({
        "sent": sent, "failed": failed, "longest_ms": millis(longest), "longest_naming_ms": millis(naming),
        "first_failure": first_failure,
    }));
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {sent} requests failed")) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long the server's address was waited for.
fn ask(url: &Url) -> Result<Duration, String> {
    match fetch(url, Family::Any, REQUEST_LIMIT) {
        Ok(answer) if answer.status < 400 => Ok(answer.naming),
        Ok(answer) => Err(format!("status {}", answer.status)),
        Err(e) => Err(e.to_string()),
    }
}
