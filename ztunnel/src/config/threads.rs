//! How many traffic threads. Owns that choice only.

use std::num::NonZeroUsize;

use ambit_process::config::{Faults, Key, Source, number};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Default,
    Count(usize),
    Percent(usize),
}

const THREADS: Key<Wanted> = Key::new(
    "ZTUNNEL_WORKER_THREADS",
    "traffic threads: a number, 0 for one per core, or a percentage of the cores",
    wanted,
    || Wanted::Default,
);
const CORES: Key<usize> =
    Key::new("ZTUNNEL_CPU_LIMIT", "cores to count on; 0 for those of the machine", number, || 0);

/// A node proxy is one of many programs on its node; more threads cost memory before they help.
const DEFAULT_MOST: usize = 4;

pub(super) fn read(source: &dyn Source, faults: &mut Faults) -> usize {
    let wanted = THREADS.read(source, faults);
    let cores = match CORES.read(source, faults) {
        0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        limit => limit,
    };
    count(wanted, cores)
}

fn count(wanted: Wanted, cores: usize) -> usize {
    let count = match wanted {
        Wanted::Default => cores.min(DEFAULT_MOST),
        Wanted::Count(0) => cores,
        Wanted::Count(count) => count,
        Wanted::Percent(percent) => cores.saturating_mul(percent).div_ceil(100),
    };
    count.max(1)
}

fn wanted(given: &str) -> Result<Wanted, String> {
    let refuse = || "write a number up to 1024, 0 for one per core, or 1% to 100%".to_owned();
    match given.strip_suffix('%') {
        Some(percent) => match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Wanted::Percent(percent)),
            _ => Err(refuse()),
        },
        None => match given.parse() {
            Ok(count @ 0..=1024) => Ok(Wanted::Count(count)),
            _ => Err(refuse()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_follow_the_request_and_the_cores() {
        for (given, cores, threads) in [("0", 8, 8), ("3", 8, 3), ("25%", 8, 2), ("1%", 2, 1), ("100%", 6, 6)]
        {
            assert_eq!(count(wanted(given).unwrap(), cores), threads, "{given} of {cores}");
        }
        assert_eq!(count(Wanted::Default, 64), 4);
        assert_eq!(count(Wanted::Default, 2), 2);
    }

    #[test]
    fn other_requests_are_refused() {
        for given in ["", "-1", "0%", "101%", "two", "9999"] {
            assert!(wanted(given).is_err(), "{given}");
        }
    }
}
