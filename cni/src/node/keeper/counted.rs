//! One pod's share of the gauges, taken back when its keeper ends.

use std::sync::Arc;

use crate::node::enrol::Ground;

/// What of a pod is in the gauges now.
pub(super) struct Counted {
    ground: Arc<Ground>,
    now: Counts,
}

/// Which gauges a pod is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// In the mesh.
    pub(super) enrolled: bool,
    /// It should be, and is not.
    pub(super) pending: bool,
    /// In the mesh without a certificate.
    pub(super) unproven: bool,
}

impl Counted {
    pub(super) fn new(ground: Arc<Ground>) -> Self {
        Self { ground, now: Counts::default() }
    }

    pub(super) fn set(&mut self, next: Counts) {
        let (metrics, now) = (&self.ground.metrics, self.now);
        for (gauge, was, is) in [
            (&metrics.enrolled, now.enrolled, next.enrolled),
            (&metrics.pending, now.pending, next.pending),
            (&metrics.unproven, now.unproven, next.unproven),
        ] {
            gauge.inc_by(i64::from(is) - i64::from(was));
        }
        self.now = next;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(Counts::default());
    }
}
