//! How much the endpoints have to do that one thread sends requests to. Owns the counts; who is chosen by them is
//! decided by `model::balance`, where nothing was said of how a service's traffic is spread.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ambit_model::balance::Pick;
use ambit_model::name::WorkloadUid;

use super::Chance;
use crate::room::count::{Count, One};

/// Endpoints before those that have nothing to do are forgotten.
const SWEEP_AT: usize = 64;

/// Requests under way, by endpoint. Only one thread comes here, so nobody waits.
#[derive(Default)]
pub(crate) struct Busy(Mutex<HashMap<WorkloadUid, Count>>);

impl Busy {
    fn lock(&self) -> MutexGuard<'_, HashMap<WorkloadUid, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more request is under way to an endpoint.
    pub(crate) fn begin(&self, endpoint: &WorkloadUid) -> One {
        let mut all = self.lock();
        if let Some(count) = all.get(endpoint) {
            return count.add();
        }
        if all.len() >= SWEEP_AT && all.len() == all.capacity() {
            all.retain(|_, count| count.now() > 0);
        }
        all.entry(endpoint.clone()).or_default().add()
    }
}

/// Chance that knows how busy endpoints are.
pub(super) struct Known<'a>(pub(super) &'a Busy);

impl Pick for Known<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        Chance.below(limit)
    }

    fn busy(&self, endpoint: &WorkloadUid) -> Option<u32> {
        let count = self.0.lock().get(endpoint).map_or(0, Count::now);
        Some(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_as_busy_as_requests_are_under_way_to_it_and_who_has_none_is_forgotten() {
        let busy = Busy::default();
        let one: WorkloadUid = "one".into();
        assert_eq!(Known(&busy).busy(&one), Some(0));
        let mut all = vec![busy.begin(&one), busy.begin(&one)];
        assert_eq!(Known(&busy).busy(&one), Some(2));
        for number in 0..10_000 {
            drop(busy.begin(&format!("pod-{number}").into()));
        }
        assert!(busy.lock().len() <= 4 * SWEEP_AT, "{}", busy.lock().len());
        assert_eq!(Known(&busy).busy(&one), Some(2), "what is under way was forgotten");
        all.pop();
        assert_eq!(Known(&busy).busy(&one), Some(1));
    }
}
