//! Labels of counters that somebody wants otherwise (`waypoint.md` 4.6). Owns that no two series are written alike, and how
//! many of them there may be that are not of our making. Which labels, and what they say, is `ambit_model::telemetry`'s.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use ambit_model::name::Label;
use ambit_model::telemetry::{OTHER, UNKNOWN};

use super::{ConnectionLabels, RequestLabels};

/// How many different values are kept apart: each may be a series of each counter, and some may be of clients' making.
const MOST: usize = 1_000;

/// A label that is otherwise: what it says, or nothing where there is to be none.
pub(crate) type Change = (Label, Option<Label>);

/// Values of labels that are kept apart, of all threads. Asked only where somebody wants labels otherwise.
#[derive(Clone, Default)]
pub(crate) struct Apart(Arc<Mutex<HashSet<Box<[Change]>>>>);

impl Apart {
    /// Makes the values of these the same as those of others, once there have been too many.
    pub(crate) fn limit(&self, changes: &mut [Change]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&*changes) {
            return;
        }
        if known.len() < MOST {
            known.insert((&*changes).into());
            return;
        }
        for (_, value) in changes {
            *value = value.is_some().then(|| OTHER.into());
        }
    }
}

/// Labels of a counter, some of which may be otherwise.
pub(crate) trait Labelled: Clone {
    /// The usual ones, and what they say.
    fn listed(&self) -> BTreeMap<Label, Label>;

    /// These instead of all of its own.
    fn instead(others: Arc<[(Label, Label)]>) -> Self;

    /// The same with these labels otherwise. What would be written as it is without them is the same series.
    fn with(&self, changes: &[Change]) -> Self {
        let usual = self.listed();
        let mut all = usual.clone();
        for (name, value) in changes {
            match value {
                Some(value) => all.insert(name.clone(), value.clone()),
                None => all.remove(name),
            };
        }
        // To whoever reads them, an empty label is none.
        all.retain(|_, value| !value.is_empty());
        if usual.iter().filter(|(_, value)| !value.is_empty()).eq(all.iter()) {
            return self.clone();
        }
        Self::instead(all.into_iter().collect())
    }
}

impl Labelled for ConnectionLabels {
    fn listed(&self) -> BTreeMap<Label, Label> {
        let shown = |value: &str| Label::from(if value.is_empty() { UNKNOWN } else { value });
        self.all().map(|(name, value)| (name.into(), shown(value))).collect()
    }

    fn instead(others: Arc<[(Label, Label)]>) -> Self {
        Self { others: Some(others), ..Self::default() }
    }
}

impl Labelled for RequestLabels {
    fn listed(&self) -> BTreeMap<Label, Label> {
        let mut all = self.ends.listed();
        let grpc = self.grpc.map(|status| status.to_string()).unwrap_or_default();
        for (name, value) in [("response_code", self.code.to_string()), ("grpc_response_status", grpc)] {
            all.insert(name.into(), value.into());
        }
        all
    }

    fn instead(others: Arc<[(Label, Label)]>) -> Self {
        Self { ends: ConnectionLabels::instead(others), code: 0, grpc: None }
    }
}

#[cfg(test)]
mod tests {
    use ambit_process::observe::{Registry, encode};
    use ambit_proxy::side::Side;

    use super::super::Metrics;
    use super::*;

    fn usual() -> RequestLabels {
        let source = Side { workload: "web".into(), ..Side::default() };
        let ends = ConnectionLabels {
            source,
            destination: Side::default(),
            service: ["cart.shop.svc".into(), "shop".into(), "cart".into()],
            protocol: "http",
            flags: "-",
            others: None,
        };
        RequestLabels { ends, code: 200, grpc: None }
    }

    fn set(name: &str, value: &str) -> Change {
        (name.into(), Some(value.into()))
    }

    #[test]
    fn labels_are_added_replaced_and_left_out_and_values_cannot_break_out_of_their_quotes() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry, &"1.0".into());
        let changes = [set("host", "a\"} 1\nb{"), set("source_workload", "other"), ("reporter".into(), None)];
        metrics.requests.get_or_create(&usual().with(&changes)).inc();
        let text = encode(&registry);
        let all: Vec<_> = text.lines().filter(|line| line.starts_with("istio_requests_total{")).collect();
        let [line] = all.as_slice() else { panic!("{text}") };
        for part in ["host=\"a\\\"} 1\\nb{\"", "source_workload=\"other\"", "response_code=\"200\""] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("reporter") && !line.contains("\"web\""), "{line}");
        assert!(line.contains("destination_workload=\"unknown\"") && line.ends_with("} 1"), "{line}");
    }

    #[test]
    fn no_two_series_are_written_alike_however_they_came_about() {
        let usual = usual();
        assert_eq!(usual.with(&[set("source_workload", "web"), ("none".into(), None)]), usual);
        // A reader takes an empty label for none.
        assert_eq!(usual.with(&[("grpc_response_status".into(), None)]), usual);
        let (one, two) = (set("a", "1"), set("b", "2"));
        assert_eq!(usual.with(&[one.clone(), two.clone()]), usual.with(&[two, one]));
        let without = [("response_code".into(), None)];
        let other = RequestLabels { code: 503, ..usual.clone() };
        assert_eq!(usual.with(&without), other.with(&without), "what told them apart is gone");
    }

    #[test]
    fn those_of_connections_are_otherwise_alone() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry, &"1.0".into());
        let ends = ConnectionLabels { protocol: "tcp", ..usual().ends };
        assert_eq!(ends.with(&[set("request_protocol", "tcp")]), ends);
        metrics.opened.get_or_create(&ends.with(&[set("port", "5432"), ("reporter".into(), None)])).inc();
        let text = encode(&registry);
        let line = text.lines().find(|line| line.starts_with("istio_tcp_connections_opened_total{")).unwrap();
        assert!(line.contains("port=\"5432\"") && line.contains("request_protocol=\"tcp\""), "{line}");
        assert!(!line.contains("reporter") && !line.contains("response_code"), "{line}");
    }

    #[test]
    fn once_there_are_too_many_values_the_rest_are_one_and_those_that_there_are_stay() {
        let apart = Apart::default();
        let limited = |value: &str| {
            let mut changes = [set("user", value), ("reporter".into(), None)];
            apart.limit(&mut changes);
            assert_eq!(changes[1].1, None);
            changes[0].1.as_ref().unwrap().to_string()
        };
        for at in 0..MOST {
            assert_eq!(limited(&at.to_string()), at.to_string());
        }
        assert_eq!((limited("one more").as_str(), limited("and one").as_str()), (OTHER, OTHER));
        assert_eq!(limited("7"), "7");
    }
}
