//! Labels of counters that objects want otherwise. Owns what may be a label's name, and which of several words about one
//! label counts; the labels that there are without a word are the waypoint's.

use std::sync::Arc;

use super::{Formula, Metric};
use crate::name::Label;

/// The value of a label of which nothing is known.
pub const UNKNOWN: &str = "unknown";

/// The value of labels once there have been too many others.
pub const OTHER: &str = "other";

/// Labels of one counter that may be otherwise.
pub(super) const MOST: usize = 16;

/// What is said of one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelWord {
    /// Of which counters.
    pub of: Vec<Metric>,
    /// Its name.
    pub name: Label,
    /// What becomes of it.
    pub to: Relabel,
}

/// What becomes of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relabel {
    /// It is left out.
    Removed,
    /// It says this.
    Set(Arc<Formula>),
}

/// Whether counters can have a label of this name. Names with two underscores in front are Prometheus' own, and `le` is
/// the bound of a bucket.
#[must_use]
pub fn is_label_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_free = !name.starts_with("__") && name != "le" && name.len() <= 128;
    is_free && name.starts_with(first) && name.chars().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_labels_name_is_one_that_prometheus_takes_and_has_no_use_for_itself() {
        let long = "a".repeat(129);
        for (name, wanted) in [
            ("request_host", true),
            ("_a1", true),
            ("", false),
            ("1a", false),
            ("a-b", false),
            ("a.b", false),
            ("ä", false),
            ("__name__", false),
            ("le", false),
            (long.as_str(), false),
        ] {
            assert_eq!(is_label_name(name), wanted, "{name}");
        }
    }
}
