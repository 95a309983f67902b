//! How many requests fit into the memory that we may have. Owns where that is said, and what a request is taken for.

use std::fs::read_to_string;

/// What a request holds with its streams, tunnel's and inner, when neither end is slow.
const EACH: u64 = 32 * 1024;
/// Of all memory, for requests under way.
const PART: u64 = 4;
/// However little memory there is; and however much.
const LEAST: usize = 1024;
const MOST: usize = 1 << 19;

/// Control groups, second version and first, as seen from inside.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// As many as the memory of this machine, or of our part of it, allows.
pub(crate) fn requests() -> usize {
    let machine = read_to_string("/proc/meminfo").unwrap_or_default();
    fit(limit().into_iter().chain(total(&machine)).min())
}

/// Our part of it, in bytes, as it is said now: it may change while we run. None where it is not said.
pub(crate) fn limit() -> Option<u64> {
    GROUPS.iter().filter_map(|path| read_to_string(path).ok()?.trim().parse().ok()).min()
}

/// The machine's memory, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn fit(memory: Option<u64>) -> usize {
    let fit = memory.map_or(0, |bytes| bytes / PART / EACH);
    usize::try_from(fit).unwrap_or(MOST).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_many_as_fit_into_a_quarter_of_memory() {
        for (memory, wanted) in
            [(None, LEAST), (Some(64 << 20), LEAST), (Some(1 << 30), 8192), (Some(u64::MAX), MOST)]
        {
            assert_eq!(fit(memory), wanted, "{memory:?}");
        }
    }

    #[test]
    fn the_machines_memory_is_known() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(total(""), None);
        assert!(total(&read_to_string("/proc/meminfo").unwrap()).is_some());
    }
}
