//! `ambit pod load`: requests over new connections, one after the other, and what became of them.

use std::collections::BTreeMap;
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

/// Servers that are told apart by their names; the others count together.
const NAMES: usize = 16;

/// Asks so many `times`, or until standard input ends. Prints a line when requests begin to fail or to succeed, and a summary.
/// Fails when a request failed.
pub(crate) fn load(url: &Url, every: Duration, times: Option<u64>) -> Result<(), String> {
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    if times.is_none() {
        std::thread::spawn(move || {
            // Whatever ends the input ends the load.
            let _ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            seen.store(true, Ordering::Relaxed);
        });
    }
    let (mut sent, mut failed, mut longest, mut naming) = (0_u64, 0_u64, Duration::ZERO, Duration::ZERO);
    let (mut passing, mut first_failure) = (None, None);
    let mut answered = BTreeMap::<String, u64>::new();
    while !over.load(Ordering::Relaxed) && times.is_none_or(|most| sent < most) {
        let begun = Instant::now();
        let result = ask(url);
        sent += 1;
        let took = begun.elapsed();
        longest = longest.max(took);
        if let Ok((named, server)) = &result {
            naming = naming.max(*named);
            count(&mut answered, server);
        }
        if took > SLOW {
            let named = result.as_ref().ok().map(|(it, _)| millis(*it));
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
        "first_failure": first_failure, "answered": answered,
    }));
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {sent} requests failed")) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One more answer of this server.
fn count(answered: &mut BTreeMap<String, u64>, server: &str) {
    let is_room = answered.len() < NAMES || answered.contains_key(server);
    let name = if is_room { server } else { "others" };
    *answered.entry(name.to_owned()).or_default() += 1;
}

/// How long the server's address was waited for, and the name of the pod that answered, if it said one.
fn ask(url: &Url) -> Result<(Duration, String), String> {
    match fetch(url, Family::Any, REQUEST_LIMIT) {
        Ok(answer) if answer.status < 400 => Ok((answer.naming, named(&answer.body))),
        Ok(answer) => Err(format!("status {}", answer.status)),
        Err(e) => Err(e.to_string()),
    }
}

fn named(body: &str) -> String {
    let answer: Option<serde_json::Value> = serde_json::from_str(body).ok();
    answer.and_then(|it| Some(it.get("pod")?.as_str()?.to_owned())).unwrap_or_default()
}
