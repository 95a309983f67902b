//! Numbers of several rounds: their median and range, printed beside their mark.

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
}
