//! How many traffic threads (`ztunnel.md` 1.2). Owns that choice only.

use std::num::NonZeroUsize;

use ambit_process::config::{Faults, Key, Source, number};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Default,
    Count(usize),
    Percent(usize),
}

/// What there is to run on. In cores, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Machine {
    cores: usize,
    limit: Option<usize>,
    request: usize,
}

const THREADS: Key<Wanted> = Key::new(
    "ZTUNNEL_WORKER_THREADS",
    "traffic threads: a number, 0 for one per core, or a percentage of the cores",
    wanted,
    || Wanted::Default,
);
const CORES: Key<usize> =
    Key::new("ZTUNNEL_CPU_LIMIT", "cores to count on; 0 for those of the machine", number, || 0);
const LIMIT: Key<Option<usize>> = Key::new(
    "ZTUNNEL_RESOURCE_CPU_LIMIT",
    "the container's CPU limit, such as 2, 1.5 or 500m",
    |text| quantity(text).map(Some),
    || None,
);
const REQUEST: Key<Option<usize>> = Key::new(
    "ZTUNNEL_RESOURCE_CPU_REQUEST",
    "the container's CPU request: no fewer threads than that",
    |text| quantity(text).map(Some),
    || None,
);

/// A node proxy is one of many programs on its node; more threads cost memory before they help.
const DEFAULT_MOST: usize = 4;
/// More threads than any machine is known to need.
const MOST: usize = 1024;

/// `concurrency` is what the proxy's configuration says beneath the environment.
pub(super) fn read(source: &dyn Source, faults: &mut Faults, concurrency: Option<u16>) -> usize {
    let wanted = match (THREADS.read(source, faults), concurrency) {
        (Wanted::Default, Some(count)) => Wanted::Count(count.into()),
        (wanted, _) => wanted,
    };
    let limit = LIMIT.read(source, faults);
    let cores = match (limit, CORES.read(source, faults)) {
        (Some(limit), _) => limit,
        (None, 0) => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        (None, cores) => cores,
    };
    count(wanted, Machine { cores, limit, request: REQUEST.read(source, faults).unwrap_or(0) })
}

fn count(wanted: Wanted, on: Machine) -> usize {
    let count = match wanted {
        Wanted::Default => on.limit.unwrap_or_else(|| on.cores.min(DEFAULT_MOST)).max(on.request),
        Wanted::Count(0) => on.cores,
        Wanted::Count(count) => count,
        Wanted::Percent(percent) => on.cores.saturating_mul(percent).div_ceil(100),
    };
    count.clamp(1, MOST)
}

fn wanted(given: &str) -> Result<Wanted, String> {
    let refuse = || "write a number up to 1024, 0 for one per core, or 1% to 100%".to_owned();
    match given.strip_suffix('%') {
        Some(percent) => match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Wanted::Percent(percent)),
            _ => Err(refuse()),
        },
        None => match given.parse() {
            Ok(count @ 0..=MOST) => Ok(Wanted::Count(count)),
            _ => Err(refuse()),
        },
    }
}

/// Kubernetes' way to write cores, in whole ones.
fn quantity(given: &str) -> Result<usize, String> {
    let refuse = || "write cores above 0, such as 2, 1.5 or 500m".to_owned();
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(thousandths) = given.strip_suffix('m') {
        let count: usize =
            Some(thousandths).filter(|t| plain(t)).and_then(|t| t.parse().ok()).ok_or_else(refuse)?;
        return if count == 0 { Err(refuse()) } else { Ok(count.div_ceil(1000)) };
    }
    let (whole, part) = given.split_once('.').unwrap_or((given, "0"));
    if !plain(whole) || !plain(part) {
        return Err(refuse());
    }
    let cores: usize = whole.parse().map_err(|_| refuse())?;
    match cores.saturating_add(usize::from(part.bytes().any(|digit| digit != b'0'))) {
        0 => Err(refuse()),
        cores => Ok(cores),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn on(cores: usize) -> Machine {
        Machine { cores, limit: None, request: 0 }
    }

    #[test]
    fn threads_follow_the_request_and_the_cores() {
        for (given, cores, threads) in [("0", 8, 8), ("3", 8, 3), ("25%", 8, 2), ("1%", 2, 1), ("100%", 6, 6)]
        {
            assert_eq!(count(wanted(given).unwrap(), on(cores)), threads, "{given} of {cores}");
        }
        assert_eq!(count(Wanted::Default, on(64)), 4);
        assert_eq!(count(Wanted::Default, on(2)), 2);
    }

    #[test]
    fn a_setting_wins_over_the_proxys_configuration_and_that_over_the_containers_resources() {
        let limit = ("ZTUNNEL_RESOURCE_CPU_LIMIT", "2500m");
        for (settings, concurrency, threads) in [
            (vec![limit], None, 3),
            (vec![limit, ("ZTUNNEL_RESOURCE_CPU_REQUEST", "6.5")], None, 7),
            (vec![limit], Some(5), 5),
            (vec![limit], Some(0), 3),
            (vec![limit, ("ZTUNNEL_WORKER_THREADS", "9")], Some(5), 9),
            (vec![("ZTUNNEL_CPU_LIMIT", "6"), ("ZTUNNEL_WORKER_THREADS", "0")], None, 6),
            (vec![limit, ("ZTUNNEL_CPU_LIMIT", "6"), ("ZTUNNEL_WORKER_THREADS", "100%")], None, 3),
        ] {
            let source: BTreeMap<String, String> =
                settings.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            let mut faults = Faults::new();
            assert_eq!(read(&source, &mut faults, concurrency), threads, "{settings:?} {concurrency:?}");
            assert_eq!(faults.all(), []);
        }
    }

    #[test]
    fn other_requests_are_refused() {
        for given in ["", "-1", "0%", "101%", "two", "9999"] {
            assert!(wanted(given).is_err(), "{given}");
        }
        for given in ["", "0", "0.0", "0m", "-1", "-500m", "1.5m", "inf", "1e3", ".5", "2 ", "1Ki"] {
            assert!(quantity(given).is_err(), "{given}");
        }
        for (given, cores) in [("2", 2), ("1.5", 2), ("500m", 1), ("1000m", 1), ("1001m", 2), ("3.00", 3)] {
            assert_eq!(quantity(given), Ok(cores), "{given}");
        }
    }
}
