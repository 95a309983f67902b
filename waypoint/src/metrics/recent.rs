//! Counters of the requests that one client sends again and again: found by what they are called once, and kept for the
//! next. Owns how many of them are kept, for each of many clients.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::{Metrics, RequestLabels};

/// Kinds of requests of one client whose counters are kept: most have one, some fail.
const MOST: usize = 2;

/// What is counted of every request.
pub(crate) struct Counts {
    pub(crate) requests: Counter,
    pub(crate) duration: Histogram,
    pub(crate) request_bytes: Histogram,
    pub(crate) response_bytes: Histogram,
}

/// The last ones of a client. To look for them among all takes longer than to tell that they are the same.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Vec<(RequestLabels, Arc<Counts>)>>);

impl Recent {
    /// Those of a request.
    pub(crate) fn of(&self, metrics: &Metrics, labels: &RequestLabels) -> Arc<Counts> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counts)) = kept.iter().find(|(known, _)| known == labels) {
            return Arc::clone(counts);
        }
        let counts = Arc::new(metrics.counts(labels));
        kept.truncate(MOST - 1);
        kept.insert(0, (labels.clone(), Arc::clone(&counts)));
        counts
    }
}

impl Metrics {
    fn counts(&self, labels: &RequestLabels) -> Counts {
        Counts {
            requests: self.requests.get_or_create(labels).clone(),
            duration: self.duration.get_or_create(labels).clone(),
            request_bytes: self.request_bytes.get_or_create(labels).clone(),
            response_bytes: self.response_bytes.get_or_create(labels).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_kept_each_request_is_counted_where_it_belongs() {
        let (metrics, recent) = (Metrics::default(), Recent::default());
        let labels = |code| RequestLabels { ends: Default::default(), code, grpc: None };
        for code in [200, 200, 503, 404, 200, 404, 200] {
            recent.of(&metrics, &labels(code)).requests.inc();
        }
        let counted = [200, 404, 503].map(|code| metrics.requests.get_or_create(&labels(code)).get());
        assert_eq!(counted, [4, 2, 1]);
        assert_eq!(recent.0.lock().unwrap().len(), MOST);
    }
}
