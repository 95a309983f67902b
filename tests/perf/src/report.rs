//! Numbers of several rounds: their median and range; and the marks that they are held against.

/// The row of what tells a machine that was not ours alone: its host gave so much of its time to others.
pub const TAKEN: &str = "time its host took away, %";

/// One quantity over all rounds.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds one round.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle value; of an even number the lower one.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
    }

    /// Median and range, as text.
    #[must_use]
    pub fn shown(&self) -> String {
        match (self.0.first(), self.0.last()) {
            (Some(low), Some(high)) => format!("{:.1} ({low:.1}–{high:.1})", self.median()),
            _ => "-".to_owned(),
        }
    }
}

/// What a number shall not exceed.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Of what.
    pub name: &'static str,
    /// The mark.
    pub most: f64,
    /// The part of it by which a check lets a number exceed it, for machines that do other things meanwhile.
    pub tolerance: f64,
}

impl Mark {
    /// The number beside its mark, as text.
    #[must_use]
    pub fn shown(&self, have: f64) -> String {
        let word = if have <= self.most { "meets" } else { "misses" };
        format!("{}: {have:.1} {word} its mark of {}", self.name, self.most)
    }

    /// Why a check fails, if it does. What is no number fails.
    #[must_use]
    pub fn failure(&self, have: f64) -> Option<String> {
        let limit = self.most * (1.0 + self.tolerance);
        let fits = have <= limit;
        (!fits).then(|| {
            let part = self.tolerance * 100.0;
            format!("{}: {have:.1} is above {limit:.1}, the mark of {} and {part:.0} %", self.name, self.most)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_follow_one_bad_round() {
        let mut series = Series::default();
        [3.0, 900.0, 1.0].into_iter().for_each(|value| series.push(value));
        assert!((series.median() - 3.0).abs() < f64::EPSILON);
        assert_eq!(series.shown(), "3.0 (1.0–900.0)");
    }

    #[test]
    fn a_check_fails_beyond_the_mark_and_its_tolerance_and_for_what_is_no_number() {
        let mark = Mark { name: "CPU", most: 25.0, tolerance: 0.2 };
        for (have, word, fails) in [
            (25.0, "meets", false),
            (29.9, "misses", false),
            (30.1, "misses", true),
            (f64::NAN, "misses", true),
        ] {
            assert_eq!(mark.failure(have).is_some(), fails, "{have}");
            assert!(mark.shown(have).contains(word), "{have}");
        }
        let exact = Mark { tolerance: 0.0, ..mark };
        assert_eq!(exact.failure(25.1).unwrap(), "CPU: 25.1 is above 25.0, the mark of 25 and 0 %");
    }
}
