//! What a program says of itself: log lines and a metrics registry.
//! Owns format, level and queue of lines; which metrics exist is each program's.

mod line;
mod queue;

use std::fmt::Write as _;
use std::sync::Arc;

pub use prometheus_client::registry::Registry;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry as Spans, reload};

use crate::config::{Faults, Key, Source, text};
use line::Lines;
use queue::Queue;

/// The name of an event whose message is a whole line, which is written as it is in either format.
pub const AS_IT_IS: &str = "as it is";

const RUST_LOG: Key<String> =
    Key::new("RUST_LOG", "log levels: a level, or target=level, comma-separated", text, || "info".into());
const LOG_FORMAT: Key<bool> = Key::new(
    "LOG_FORMAT",
    "plain (default) or json",
    |given| match given {
        "json" => Ok(true),
        "plain" | "" => Ok(false),
        _ => Err("write plain or json".into()),
    },
    || false,
);

/// How lines are written.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Directives, as in `RUST_LOG`.
    pub filter: String,
    /// One JSON object a line instead of tab-separated text.
    pub json: bool,
    /// Left out of targets in plain lines, for example `ambit_ztunnel::`.
    pub own_prefix: &'static str,
}

impl LogConfig {
    /// From `RUST_LOG` and `LOG_FORMAT`.
    #[must_use]
    pub fn read(source: &dyn Source, faults: &mut Faults, own_prefix: &'static str) -> Self {
        let filter = RUST_LOG.read(source, faults);
        if filter.parse::<Targets>().is_err() {
            faults.add(RUST_LOG.name, filter.clone(), "write a level, or target=level, comma-separated");
        }
        Self { filter, json: LOG_FORMAT.read(source, faults), own_prefix }
    }
}

/// The running log: its level can be changed. Dropping the last clone writes out what is queued.
#[derive(Debug, Clone)]
pub struct Logs {
    level: reload::Handle<Targets, Spans>,
    default: Arc<str>,
    queue: Queue,
}

/// Why a level was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// The text is no directive.
    #[error("{given:?} is no log level or target=level list")]
    Unreadable {
        /// The text.
        given: String,
    },
    /// Nobody is logging any more.
    #[error("the log has ended")]
    Ended,
}

/// Starts logging to standard output. A second call in one process leaves the first log in place.
#[must_use]
pub fn init_logs(config: &LogConfig) -> Logs {
    let filter = config.filter.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let (filter, level) = reload::Layer::new(filter);
    let queue = Queue::start(Box::new(std::io::stdout()));
    let lines = Lines { json: config.json, own_prefix: config.own_prefix };
    let layer = tracing_subscriber::fmt::layer()
        .event_format(lines.clone())
        .fmt_fields(lines)
        .with_writer(queue.clone());
    // Tests of one process may try twice; the first log stays.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Logs { level, default: config.filter.as_str().into(), queue }
}

impl Logs {
    /// The directives in force.
    #[must_use]
    pub fn level(&self) -> String {
        self.level.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Adds directives to those in force, or to the initial ones when `reset`.
    ///
    /// # Errors
    /// When a directive cannot be read; then nothing changes.
    pub fn set_level(&self, directives: &str, reset: bool) -> Result<(), LevelError> {
        let mut all = if reset { self.default.to_string() } else { self.level() };
        if !directives.is_empty() {
            let _ = write!(all, ",{directives}");
        }
        let unreadable = || LevelError::Unreadable { given: directives.to_owned() };
        if directives.split(',').any(|one| !one.is_empty() && !names_a_level(one)) {
            return Err(unreadable());
        }
        let filter: Targets = all.parse().map_err(|_| unreadable())?;
        self.level.reload(filter).map_err(|_| LevelError::Ended)
    }

    /// Lines that were dropped because standard output did not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Writes out what is queued; for the end of a program.
    pub fn flush(&self) {
        self.queue.flush();
    }
}

/// The registry as OpenMetrics text.
#[must_use]
pub fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, registry);
    text
}

/// A filter takes any word for a target; at run time a bare word must be a level.
fn names_a_level(directive: &str) -> bool {
    let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
    // The empty text parses, too.
    !level.is_empty() && level.parse::<LevelFilter>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_change_at_run_time_and_words_that_are_none_are_refused() {
        let config = LogConfig { filter: "info".into(), json: false, own_prefix: "ambit_process::" };
        let logs = init_logs(&config);
        logs.set_level("hyper=debug", false).unwrap();
        assert_eq!(logs.level(), "hyper=debug,info");
        for wrong in ["loud", "hyper=loud", "=", "a=b=c"] {
            assert!(logs.set_level(wrong, false).is_err(), "{wrong}");
        }
        assert_eq!(logs.level(), "hyper=debug,info");
        logs.set_level("", true).unwrap();
        assert_eq!(logs.level(), "info");
    }
}
