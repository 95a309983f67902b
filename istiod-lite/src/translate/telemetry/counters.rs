//! What is said of counters (`waypoint.md` 4.6): which are kept, and which of their labels are otherwise. What cannot be
//! read leaves a counter, or a label, as it is without a word; its author is told of it.

use ambit_cluster::kinds::telemetry::{MetricsOverride, MetricsWord, Mode, TagOverride};
use ambit_model::telemetry::{LabelWord, Metric, Relabel, is_label_name};
use ambit_wire::limits;

/// The provider of counters that there is without a word.
const OWN: &str = "prometheus";

/// What an object says of counters.
#[derive(Default)]
pub(super) struct Counters {
    /// Those that are not kept.
    pub(super) uncounted: Vec<Metric>,
    /// Those that are kept, whatever was said where it is less special.
    pub(super) counted: Vec<Metric>,
    /// Labels that are otherwise.
    pub(super) labels: Vec<LabelWord>,
}

/// Reads it.
pub(super) fn counters(words: &[MetricsWord], notes: &mut Vec<String>) -> Counters {
    let mut all = Counters::default();
    for (at, word) in words.iter().enumerate() {
        let mut note = |why: String| notes.push(format!("metrics[{at}].{why}"));
        for other in word.providers.iter().filter(|it| it.name != OWN) {
            note(format!("providers: {:?} is not told of counters", other.name));
        }
        if !word.providers.is_empty() && word.providers.iter().all(|it| it.name != OWN) {
            continue;
        }
        if !word.reporting_interval.is_empty() {
            note("reportingInterval: waypoints count as things happen".into());
        }
        for one in &word.overrides {
            all.add(one, &mut note);
        }
    }
    if all.labels.len() > limits::PROVIDER_LIST {
        let most = limits::PROVIDER_LIST;
        notes.push(format!("metrics: of its tagOverrides, only the last {most} count"));
        all.labels.drain(..all.labels.len() - most);
    }
    [&mut all.uncounted, &mut all.counted].into_iter().for_each(once);
    all
}

impl Counters {
    fn add(&mut self, one: &MetricsOverride, note: &mut impl FnMut(String)) {
        let of = match named(one) {
            Ok(of) => of,
            Err(why) => return note(why),
        };
        for (name, tag) in &one.tag_overrides {
            match relabel(name, tag) {
                Ok(to) => self.labels.push(LabelWord { of: of.clone(), name: name.as_str().into(), to }),
                Err(why) => note(format!("overrides.tagOverrides.{name}: {why}")),
            }
        }
        match one.disabled {
            Some(true) => self.uncounted.extend(of),
            Some(false) => self.counted.extend(of),
            None => {}
        }
    }
}

/// Those that it names, or why none.
fn named(given: &MetricsOverride) -> Result<Vec<Metric>, String> {
    let of = given.r#match.as_ref();
    if of.is_some_and(|it| it.mode == Mode::Client) {
        return Err("overrides: waypoints are on the side of SERVER".into());
    }
    match of.map(|it| (it.metric.as_str(), it.custom_metric.as_str())) {
        Some((_, custom)) if !custom.is_empty() => {
            Err(format!("overrides.match.customMetric: {custom:?} is not known"))
        }
        None | Some(("" | "ALL_METRICS", _)) => Ok(Metric::ALL.to_vec()),
        Some((name, _)) => {
            let metric = Metric::named(name).map(|it| vec![it]);
            metric.ok_or_else(|| format!("overrides.match.metric: {name:?} is not known"))
        }
    }
}

fn relabel(name: &str, given: &TagOverride) -> Result<Relabel, String> {
    if !is_label_name(name) {
        return Err("not a label's name, which has letters, digits and _; the label is left out".into());
    }
    match given.operation.as_str() {
        "REMOVE" => Ok(Relabel::Removed),
        "" | "UPSERT" => {
            let formula = given.value.parse();
            formula
                .map(|it| Relabel::Set(std::sync::Arc::new(it)))
                .map_err(|error| format!("value: {error}; the label stays as it is"))
        }
        other => Err(format!("operation: {other:?} is none; write UPSERT or REMOVE")),
    }
}

fn once(all: &mut Vec<Metric>) {
    *all = Metric::ALL.into_iter().filter(|it| all.contains(it)).collect();
}
