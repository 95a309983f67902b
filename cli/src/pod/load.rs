//! `ambit pod load`: requests again and again, and what became of them. Over new connections, one after the other; or so
//! many a second over connections that are kept (`steady`). Owns the account of what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Answer, Family, Wanted, fetch, report};
use super::url::Url;

/// A request that takes longer has failed.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(3);

/// One that takes longer than this is told of by itself: with how long it waited for the server's address.
const SLOW: Duration = Duration::from_secs(1);

/// Servers that are told apart by their names; the others count together.
const NAMES: usize = 16;

/// When a load ends.
#[derive(Debug, Clone)]
pub(super) struct End {
    over: Arc<AtomicBool>,
    times: Option<u64>,
}

impl End {
    /// After so many `times`, or when standard input ends.
    pub(super) fn after(times: Option<u64>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        if times.is_none() {
            std::thread::spawn(move || {
                // Whatever ends the input ends the load.
                let _ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                seen.store(true, Ordering::Relaxed);
            });
        }
        Self { over, times }
    }

    /// Whether that is now, when so many have begun.
    pub(super) fn is_now(&self, begun: u64) -> bool {
        self.over.load(Ordering::Relaxed) || self.times.is_some_and(|most| begun >= most)
    }
}

/// What became of a request.
pub(super) struct Done {
    /// From when it counts.
    pub(super) took: Duration,
    /// How long the server's address was waited for, and the name of the pod that answered, if it said one.
    pub(super) became: Result<(Duration, String), String>,
}

/// What became of all.
#[derive(Debug, Default)]
pub(super) struct Account {
    sent: u64,
    failed: u64,
    longest: Duration,
    naming: Duration,
    passing: Option<bool>,
    first_failure: Option<Value>,
    answered: BTreeMap<String, u64>,
}

impl Account {
    /// One more. Prints a line when requests begin to fail or to succeed, and of one that was slow.
    pub(super) fn add(&mut self, done: Done) {
        let Done { took, became } = done;
        self.sent += 1;
        self.longest = self.longest.max(took);
        if let Ok((named, server)) = &became {
            self.naming = self.naming.max(*named);
            count(&mut self.answered, server);
        }
        if took > SLOW {
            let named = became.as_ref().ok().map(|(it, _)| millis(*it));
            report(&json!({ "request": self.sent, "slow_ms": millis(took), "naming_ms": named }));
        }
        if self.passing != Some(became.is_ok()) {
            self.passing = Some(became.is_ok());
            report(&json!({ "request": self.sent, "passes": became.is_ok(), "why": became.as_ref().err() }));
        }
        if let Err(why) = became {
            self.failed += 1;
            self.first_failure.get_or_insert_with(|| json!({ "request": self.sent, "why": why }));
        }
    }

    /// Prints it, with `more`. Fails when a request failed.
    pub(super) fn close(self, more: Value) -> Result<(), String> {
        let mut told = json!({
            "sent": self.sent, "failed": self.failed, "longest_ms": millis(self.longest),
            "longest_naming_ms": millis(self.naming), "first_failure": self.first_failure,
            "answered": self.answered,
        });
        if let (Some(told), Value::Object(more)) = (told.as_object_mut(), more) {
            told.extend(more);
        }
        report(&told);
        if self.failed == 0 {
            Ok(())
        } else {
            Err(format!("{} of {} requests failed", self.failed, self.sent))
        }
    }
}

/// Asks over new connections until the end, one after the other.
pub(super) fn load(url: &Url, every: Duration, end: &End) -> Result<(), String> {
    let wanted = Wanted { url, headers: &[] };
    let (mut account, mut begun) = (Account::default(), 0);
    while !end.is_now(begun) {
        let since = Instant::now();
        begun += 1;
        let became =
            fetch(wanted, Family::Any, REQUEST_LIMIT).map_err(|e| e.to_string()).and_then(|it| judged(&it));
        account.add(Done { took: since.elapsed(), became });
        std::thread::park_timeout(every.saturating_sub(since.elapsed()));
    }
    account.close(json!({}))
}

/// What an answer means.
pub(super) fn judged(answer: &Answer) -> Result<(Duration, String), String> {
    if answer.status < 400 {
        Ok((answer.naming, named(&answer.body)))
    } else {
        Err(format!("status {}", answer.status))
    }
}

fn named(body: &str) -> String {
    let answer: Option<Value> = serde_json::from_str(body).ok();
    answer.and_then(|it| Some(it.get("pod")?.as_str()?.to_owned())).unwrap_or_default()
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One more answer of this server.
fn count(answered: &mut BTreeMap<String, u64>, server: &str) {
    let is_room = answered.len() < NAMES || answered.contains_key(server);
    let name = if is_room { server } else { "others" };
    *answered.entry(name.to_owned()).or_default() += 1;
}
