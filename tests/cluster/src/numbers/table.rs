//! Numbers as people read them: beside their marks, as they come. Owns sorting and printing.

use std::fmt::Display;
use std::time::Duration;

/// Times that were measured, in order of size.
#[derive(Debug, Clone)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The one that `part` of a hundred are not longer than; nothing where nothing was measured.
    pub(super) fn percentile(&self, part: usize) -> Duration {
        let place = (self.0.len() * part).div_ceil(100).saturating_sub(1);
        self.0.get(place).copied().unwrap_or_default()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

impl Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, nearly, most] = [50, 99, 100].map(|part| ms(self.percentile(part)));
        write!(f, "p50 {half}, p99 {nearly}, most {most} ({} times)", self.count())
    }
}

pub(super) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// One line: what was measured, its mark, what was seen.
pub(super) fn row(what: &str, mark: &str, seen: &dyn Display) {
    println!("{what:<58} {mark:>16}   {seen}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = Times::new((1..=100).rev().map(Duration::from_millis).collect());
        for (part, wanted) in [(50, 50), (99, 99), (100, 100), (1, 1)] {
            assert_eq!(times.percentile(part), Duration::from_millis(wanted), "{part}");
        }
        let few = Times::new([30, 10, 20].map(Duration::from_millis).to_vec());
        assert_eq!(
            (few.percentile(50), few.percentile(99)),
            (Duration::from_millis(20), Duration::from_millis(30))
        );
        assert_eq!(Times::new(Vec::new()).percentile(99), Duration::ZERO);
    }
}
