//! What the process takes of the machine, as metrics under the names that dashboards everywhere know.
//! Owns reading it from the kernel, at the moment of a scrape or when somebody asks.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::observe::Registry;

/// Ticks in a second as proc(5) counts them: the same on every architecture that we are built for.
const TICKS: f64 = 100.0;

/// Makes them known to a registry.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Usage));
}

/// Memory that is the process's alone, in bytes: nobody gets it back but from the process, or by ending it. What it has
/// of files is not among it.
#[must_use]
pub fn own_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    u64::try_from(memory(&status, "RssAnon:")?).ok()
}

#[derive(Debug)]
struct Usage;

impl Collector for Usage {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(bytes) =
            fs::read_to_string("/proc/self/status").ok().and_then(|text| memory(&text, "VmRSS:"))
        {
            let (name, help) = ("process_resident_memory_bytes", "Memory that is resident");
            ConstGauge::new(bytes).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?)?;
        }
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|text| busy(&text)) {
            let (name, help) = ("process_cpu_seconds", "Time on processors, for programs and kernel");
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(family)?;
        }
        Ok(())
    }
}

/// Bytes, from `/proc/self/status`.
fn memory(status: &str, sort: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(sort))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Seconds, from `/proc/self/stat`: fields 14 and 15, counted behind the name, which may hold anything.
fn busy(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok().map(f64::from);
    Some((ticks()? + ticks()?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::encode;

    #[test]
    fn the_kernels_texts_are_read_whatever_the_program_is_called() {
        assert_eq!(memory("VmSize:\t 20 kB\nVmRSS:\t    12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(memory("VmSize:\t 20 kB\n", "VmRSS:"), None);
        let stat = "7 (a) b 1) S 1 7 7 0 -1 4194560 1000 0 0 0 250 50 0 0 20 0 4 0 9 9 9";
        assert_eq!(busy(stat), Some(3.0));
    }

    #[test]
    fn memory_of_its_own_grows_with_what_is_written_to() {
        let before = own_memory().unwrap();
        let held = vec![1_u8; 32 << 20];
        assert!(own_memory().unwrap() >= before + (16 << 20), "{before}, then {}", own_memory().unwrap());
        drop(held);
    }

    #[test]
    fn a_scrape_shows_memory_and_time() {
        let mut registry = Registry::default();
        register(&mut registry);
        let text = encode(&registry);
        let value = |name: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
            line.trim().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 100_000.0, "{text}");
        assert!(value("process_cpu_seconds_total ") >= 0.0, "{text}");
    }
}
