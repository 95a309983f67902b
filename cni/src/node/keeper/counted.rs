//! One pod's share of the gauges, taken back when its keeper ends.

use std::sync::Arc;

use crate::node::enrol::Ground;

/// What of a pod is in the gauges now.
pub(super) struct Counted {
    ground: Arc<Ground>,
    enrolled: bool,
    pending: bool,
}

impl Counted {
    pub(super) fn new(ground: Arc<Ground>) -> Self {
        Self { ground, enrolled: false, pending: false }
    }

    pub(super) fn set(&mut self, enrolled: bool, pending: bool) {
        let metrics = &self.ground.metrics;
        for (gauge, was, is) in
            [(&metrics.enrolled, self.enrolled, enrolled), (&metrics.pending, self.pending, pending)]
        {
            gauge.inc_by(i64::from(is) - i64::from(was));
        }
        (self.enrolled, self.pending) = (enrolled, pending);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(false, false);
    }
}
