//! What destination rules say in annotations of our own, for Istio's has no fields for it: how endpoints are asked how they
//! are, requests given to a second endpoint, and how much at a time is found out. Each is a list of `name=value` with
//! commas between. One that cannot be read is none, and its author is told.

use std::time::Duration;

use ambit_model::traffic::{Adaptive, Ask, Probe, is_host};

use super::DestinationRule;
use crate::kinds::duration::span;

/// How endpoints are asked how they are.
pub(super) const HEALTH_CHECK: &str = "ambit.io/health-check";
/// When a request is given to a second endpoint.
pub(super) const HEDGING: &str = "ambit.io/hedging";
/// Bounds within which it is found how many requests there may be at a time.
pub(super) const ADAPTIVE: &str = "ambit.io/adaptive-concurrency";

/// Nobody is asked more often, and nobody waits longer for an answer.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3_600));
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));
/// Answers in a row.
const IN_A_ROW: u32 = 100;
/// Requests at a time.
const AT_A_TIME: u32 = 1_000_000;
/// Where nothing was said of them.
const USUAL: Adaptive = Adaptive { least: 8, most: 1_000 };

/// What is wrong with one of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {problem}")]
pub struct Unread {
    /// The part that is wrong, as it is written.
    pub part: String,
    /// Why.
    pub problem: &'static str,
    /// What to write.
    pub remedy: &'static str,
}

/// What a rule says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resilience {
    /// How endpoints are asked how they are.
    pub probe: Option<Probe>,
    /// After how long a request is given to a second endpoint.
    pub hedge_after: Option<Duration>,
    /// Bounds of how many requests there may be at a time.
    pub adaptive: Option<Adaptive>,
}

impl DestinationRule {
    /// What its annotations say, and what is wrong with which of them.
    #[must_use]
    pub fn resilience(&self) -> (Resilience, Vec<(&'static str, Unread)>) {
        let mut wrong = Vec::new();
        let resilience = Resilience {
            probe: read(self, HEALTH_CHECK, health_check, &mut wrong),
            hedge_after: read(self, HEDGING, hedging, &mut wrong),
            adaptive: read(self, ADAPTIVE, adaptive, &mut wrong),
        };
        (resilience, wrong)
    }
}

fn read<T>(
    rule: &DestinationRule,
    key: &'static str,
    with: fn(&str) -> Result<T, Unread>,
    wrong: &mut Vec<(&'static str, Unread)>,
) -> Option<T> {
    let read = with(rule.metadata.annotation(key)?);
    read.map_err(|unread| wrong.push((key, unread))).ok()
}

fn health_check(text: &str) -> Result<Probe, Unread> {
    let (mut probe, mut ask) = (Probe::default(), None);
    let (mut host, mut good) = (None, None);
    for part in parts(text) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let asks = match name {
            "tcp" if value.is_empty() => Some(Ask::Tcp),
            "http" if value.starts_with('/') && value.bytes().all(|it| it.is_ascii_graphic()) => {
                Some(Ask::Http { path: value.into(), host: None, good: 200..=299 })
            }
            "grpc" => Some(Ask::Grpc { service: value.into() }),
            "tcp" | "http" => return Err(unread(part, "not understood", "write tcp, or http=/<path>")),
            _ => None,
        };
        if asks.is_some() {
            if ask.is_some() {
                return Err(unread(part, "asks a second thing", "keep one of tcp, http and grpc"));
            }
            ask = asks;
            continue;
        }
        match name {
            "host" if is_host(value) => host = Some(value.into()),
            "statuses" => good = Some(statuses(part, value)?),
            "interval" => probe.interval = time(part, value, INTERVAL)?,
            "timeout" => probe.timeout = time(part, value, TIMEOUT)?,
            "unhealthy" => probe.unhealthy = count(part, value, IN_A_ROW)?,
            "healthy" => probe.healthy = count(part, value, IN_A_ROW)?,
            _ => {
                let remedy = "use tcp, http=/<path> or grpc=<service>, and host, statuses, interval, timeout, \
                              unhealthy, healthy";
                return Err(unread(part, "not understood", remedy));
            }
        }
    }
    probe.ask =
        ask.ok_or_else(|| unread(text, "asks nothing", "write tcp, http=/<path> or grpc=<service>"))?;
    match &mut probe.ask {
        Ask::Http { host: asked, good: taken, .. } => {
            *asked = host;
            *taken = good.unwrap_or_else(|| taken.clone());
        }
        Ask::Tcp | Ask::Grpc { .. } if host.is_some() || good.is_some() => {
            return Err(unread(
                text,
                "host and statuses are of http",
                "leave them out, or ask by http=/<path>",
            ));
        }
        Ask::Tcp | Ask::Grpc { .. } => {}
    }
    Ok(probe)
}

fn hedging(text: &str) -> Result<Duration, Unread> {
    let mut after = None;
    for part in parts(text) {
        match part.split_once('=') {
            Some(("after", value)) => after = Some(time(part, value, TIMEOUT)?),
            _ => return Err(unread(part, "not understood", "write after=<time>, like after=100ms")),
        }
    }
    after.ok_or_else(|| unread(text, "says nothing", "write after=<time>, like after=100ms"))
}

fn adaptive(text: &str) -> Result<Adaptive, Unread> {
    let mut bounds = USUAL;
    for part in parts(text) {
        match part.split_once('=') {
            Some(("min", value)) => bounds.least = count(part, value, AT_A_TIME)?,
            Some(("max", value)) => bounds.most = count(part, value, AT_A_TIME)?,
            _ => return Err(unread(part, "not understood", "write min=<number>,max=<number>")),
        }
    }
    if bounds.least > bounds.most {
        return Err(unread(text, "min is more than max", "give a max that is no less than min, which is 8"));
    }
    Ok(bounds)
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn statuses(part: &str, value: &str) -> Result<std::ops::RangeInclusive<u16>, Unread> {
    let wrong = || unread(part, "not a range of statuses", "write it like 200-299");
    let (from, to) = value.split_once('-').unwrap_or((value, value));
    let status = |text: &str| text.parse().ok().filter(|it| (100..600).contains(it));
    let (from, to): (u16, u16) = status(from).zip(status(to)).ok_or_else(wrong)?;
    if from <= to { Ok(from..=to) } else { Err(wrong()) }
}

fn time(part: &str, value: &str, (least, most): (Duration, Duration)) -> Result<Duration, Unread> {
    let found = span(value).filter(|it| (least..=most).contains(it));
    let remedy = if least == INTERVAL.0 { "give from 100ms to 1h" } else { "give from 1ms to 60s" };
    found.ok_or_else(|| unread(part, "not such a time", remedy))
}

fn count(part: &str, value: &str, most: u32) -> Result<u32, Unread> {
    let found = value.parse().ok().filter(|it| (1..=most).contains(it));
    let remedy = if most == IN_A_ROW { "give 1 to 100" } else { "give 1 to 1000000" };
    found.ok_or_else(|| unread(part, "not such a number", remedy))
}

fn unread(part: &str, problem: &'static str, remedy: &'static str) -> Unread {
    Unread { part: part.into(), problem, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_it_usually_is() {
        let probe = health_check("http=/healthz").unwrap();
        let ask = Ask::Http { path: "/healthz".into(), host: None, good: 200..=299 };
        assert_eq!(probe, Probe { ask, ..Probe::default() });
        let text = "http=/ready?full=1, host=web.example, statuses=200-399, interval=500ms, timeout=100ms, \
                    unhealthy=2, healthy=1";
        let ask =
            Ask::Http { path: "/ready?full=1".into(), host: Some("web.example".into()), good: 200..=399 };
        let (interval, timeout) = (Duration::from_millis(500), Duration::from_millis(100));
        assert_eq!(health_check(text), Ok(Probe { ask, interval, timeout, unhealthy: 2, healthy: 1 }));
        assert_eq!(health_check("tcp").map(|it| it.ask), Ok(Ask::Tcp));
        let grpc = |name: &str| Ok(Ask::Grpc { service: name.into() });
        assert_eq!(health_check("grpc").map(|it| it.ask), grpc(""));
        assert_eq!(health_check("grpc=shop.Cart, interval=1s").map(|it| it.ask), grpc("shop.Cart"));
        assert_eq!(hedging("after=50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(adaptive(""), Ok(USUAL));
        assert_eq!(adaptive("min=2,max=20"), Ok(Adaptive { least: 2, most: 20 }));
    }

    #[test]
    fn what_cannot_be_meant_is_told_by_its_part() {
        for (text, part) in [
            ("", ""),
            ("interval=1s", "interval=1s"),
            ("http=healthz", "http=healthz"),
            ("tcp=1", "tcp=1"),
            ("tcp,grpc", "grpc"),
            ("http=/x,statuses=2xx", "statuses=2xx"),
            ("http=/x,statuses=299-200", "statuses=299-200"),
            ("http=/x,interval=1ms", "interval=1ms"),
            ("http=/x,timeout=2m", "timeout=2m"),
            ("http=/x,unhealthy=0", "unhealthy=0"),
            ("http=/x,host=a b", "host=a b"),
            ("http=/x,port=80", "port=80"),
            ("tcp,host=a.example", "tcp,host=a.example"),
        ] {
            assert_eq!(health_check(text).unwrap_err().part, part, "{text}");
        }
        for text in ["", "after", "after=0s", "after=1h", "after=1s,most=2"] {
            assert!(hedging(text).is_err(), "{text}");
        }
        for text in ["min=0", "max=", "min=9,max=8", "max=7", "on"] {
            assert!(adaptive(text).is_err(), "{text}");
        }
    }
}
