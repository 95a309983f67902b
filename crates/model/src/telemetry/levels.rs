//! Which of several says counts: from the least to the most special, the last that says anything of it.

use std::sync::Arc;

use super::filter::{Facts, Filter};
use super::label::MOST;
use super::{Formula, LogWord, Metric, ProxyHeader, Relabel, Server, Sink, Telemetry};
use crate::name::Label;
use crate::provider::{Tag, Traced};
use crate::trace::Sampling;

/// Levels at which something may be said of one request.
pub(crate) const LEVELS: usize = 7;

/// All that is said of one request, the least special first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels(pub(crate) [Option<Arc<Telemetry>>; LEVELS]);

/// What is said of a request's spans.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TracingSaid<'a> {
    /// Who is told; nothing: those that the mesh names.
    pub providers: Option<&'a [Label]>,
    /// How many of those of which nobody has decided.
    pub sampling: Option<Sampling>,
    /// Nobody is told.
    pub disabled: bool,
    /// Further attributes.
    pub tags: Option<&'a [(Label, Tag)]>,
    /// Attributes that only meshes know are left out.
    pub plain: bool,
    /// What the mesh wants where nobody says anything.
    pub usual: Option<&'a Traced>,
}

impl Levels {
    /// Those that say something, the most special first.
    fn all(&self) -> impl Iterator<Item = &Telemetry> {
        self.0.iter().rev().flatten().map(AsRef::as_ref)
    }

    /// Whether nobody says anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Of spans.
    #[must_use]
    pub fn tracing(&self) -> TracingSaid<'_> {
        let said = || self.all().filter_map(|it| it.tracing.as_ref());
        TracingSaid {
            providers: said().find_map(|it| it.providers.as_deref()),
            sampling: said().find_map(|it| it.sampling),
            disabled: said().find_map(|it| it.disabled).unwrap_or_default(),
            tags: said().find_map(|it| it.tags.as_deref()),
            plain: said().find_map(|it| it.istio_tags).is_some_and(|it| !it),
            usual: said().next().map(|it| &it.usual),
        }
    }

    /// Where lines of the access log go, each once: where the most special one says that names any; else to the log.
    pub fn sinks(&self) -> impl Iterator<Item = &Sink> {
        let names = |it: &&Telemetry| it.logging.iter().any(|word| !word.to.is_empty());
        let named = self.all().find(names);
        let usual = named.is_none().then_some(&Sink::Log);
        named.into_iter().flat_map(|it| &it.logging).flat_map(|word| &word.to).chain(usual)
    }

    /// Whether a request's line goes there. What is no answer to the question is a no.
    pub fn is_logged(&self, to: &Sink, facts: &impl Facts) -> bool {
        let words = || self.all().filter_map(|it| word(&it.logging, to));
        let disabled = words().find_map(|it| it.disabled).unwrap_or_default();
        !disabled && words().find_map(|it| it.filter.as_ref()).is_none_or(|it| it.is_true(facts))
    }

    /// The conditions of lines.
    pub fn filters(&self) -> impl Iterator<Item = &Filter> {
        self.all().flat_map(|it| &it.logging).filter_map(|it| it.filter.as_deref())
    }

    /// Whether it is counted.
    #[must_use]
    pub fn counts(&self, metric: Metric) -> bool {
        self.all().find_map(|it| super::said_of(&it.uncounted, &it.counted, &metric)).unwrap_or(true)
    }

    /// Whether it is told in headers; nothing: as usual.
    #[must_use]
    pub fn tells(&self, what: ProxyHeader) -> Option<bool> {
        self.all().find_map(|it| it.headers.of(what))
    }

    /// What answers say in `server`; nothing: as usual.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        self.all().find_map(|it| it.headers.server.as_ref())
    }

    /// Whether any counter is otherwise than usual.
    #[must_use]
    pub fn changes_counters(&self) -> bool {
        self.all().any(|it| !(it.labels.is_empty() && it.uncounted.is_empty()))
    }

    /// Whether any label of any counter is otherwise than usual.
    #[must_use]
    pub fn relabels(&self) -> bool {
        self.all().any(|it| !it.labels.is_empty())
    }

    /// The labels of a counter that are otherwise than usual, each once.
    #[must_use]
    pub fn labels(&self, metric: Metric) -> Vec<(&Label, &Relabel)> {
        let words = self.all().flat_map(|it| it.labels.iter().rev());
        let mut all: Vec<(&Label, &Relabel)> = Vec::new();
        for word in words.filter(|it| it.of.contains(&metric)) {
            if all.len() < MOST && all.iter().all(|(name, _)| **name != word.name) {
                all.push((&word.name, &word.to));
            }
        }
        all
    }

    /// The values of labels.
    pub fn formulas(&self) -> impl Iterator<Item = &Formula> {
        self.all().flat_map(|it| &it.labels).filter_map(|it| match &it.to {
            Relabel::Set(formula) => Some(formula.as_ref()),
            Relabel::Removed => None,
        })
    }
}

/// What is said of where a line goes: by its name before what is said of all.
fn word<'a>(words: &'a [LogWord], to: &Sink) -> Option<&'a LogWord> {
    let named = words.iter().find(|it| it.to.contains(to));
    named.or_else(|| words.iter().find(|it| it.to.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::super::filter::{Attribute, Value};
    use super::*;
    use crate::name::PolicyKey;
    use crate::telemetry::{HeaderWords, LabelWord, Tracing};

    struct Code(i64);

    impl Facts for Code {
        fn value(&self, of: &Attribute) -> Option<Value<'_>> {
            (*of == Attribute::ResponseCode).then_some(Value::Number(self.0))
        }
    }

    fn said(name: &str) -> Telemetry {
        let key = PolicyKey { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() };
        Telemetry {
            key,
            scopes: vec![],
            tracing: None,
            logging: vec![],
            uncounted: vec![],
            counted: vec![],
            labels: vec![],
            headers: HeaderWords::default(),
        }
    }

    fn levels(all: impl IntoIterator<Item = Telemetry>) -> Levels {
        let mut levels = Levels::default();
        for (level, it) in levels.0.iter_mut().zip(all) {
            *level = Some(Arc::new(it));
        }
        levels
    }

    fn tracing() -> Tracing {
        let usual = Traced { sampling: Sampling::USUAL, tags: vec![] };
        Tracing { providers: None, sampling: None, disabled: None, tags: None, istio_tags: None, usual }
    }

    #[test]
    fn of_spans_each_thing_is_as_the_most_special_one_says_that_says_anything_of_it() {
        let mesh = Tracing {
            providers: Some(vec!["otel".into()]),
            sampling: Some(Sampling::ALL),
            disabled: Some(true),
            istio_tags: Some(false),
            ..tracing()
        };
        let own = Tracing { sampling: Sampling::of(1), disabled: Some(false), ..tracing() };
        let (mesh, own) =
            (Telemetry { tracing: Some(mesh), ..said("a") }, Telemetry { tracing: Some(own), ..said("b") });
        let alone = levels([mesh.clone()]);
        let alone = alone.tracing();
        assert_eq!((alone.disabled, alone.plain, alone.sampling), (true, true, Some(Sampling::ALL)));
        let both = levels([mesh, own]);
        let both = both.tracing();
        assert_eq!(both.providers, Some(&["otel".into()][..]));
        assert_eq!((both.disabled, both.plain, both.sampling), (false, true, Sampling::of(1)));
        assert_eq!(Levels::default().tracing(), TracingSaid::default());
        assert!(Levels::default().is_empty());
    }

    #[test]
    fn lines_go_where_the_most_special_one_says_that_names_any_and_else_to_the_log() {
        let word = |to: &[Sink], disabled: Option<bool>, filter: &str| LogWord {
            to: to.to_vec(),
            disabled,
            filter: (!filter.is_empty()).then(|| Arc::new(filter.parse().unwrap())),
        };
        let collector = Sink::Collector("otel".into());
        let with = |name: &str, logging: Vec<LogWord>| Telemetry { logging, ..said(name) };
        for (all, code, wanted) in [
            (vec![], 200, vec![Sink::Log]),
            (vec![with("a", vec![word(&[], Some(true), "")])], 200, vec![]),
            (vec![with("a", vec![word(&[], None, "response.code >= 400")])], 200, vec![]),
            (vec![with("a", vec![word(&[], None, "response.code >= 400")])], 500, vec![Sink::Log]),
            (
                vec![with("a", vec![word(std::slice::from_ref(&collector), None, "")])],
                200,
                vec![collector.clone()],
            ),
            // What is said below holds until somebody says otherwise of the same thing.
            (
                vec![
                    with("a", vec![word(&[Sink::Log, collector.clone()], None, "response.code >= 400")]),
                    with("b", vec![word(&[], Some(false), "")]),
                ],
                404,
                vec![Sink::Log, collector.clone()],
            ),
            (
                vec![
                    with("a", vec![word(&[Sink::Log], Some(true), "")]),
                    with("b", vec![word(&[], Some(false), "response.code == 200")]),
                ],
                200,
                vec![Sink::Log],
            ),
            (
                vec![with(
                    "a",
                    vec![
                        word(&[Sink::Log], Some(true), ""),
                        word(std::slice::from_ref(&collector), None, ""),
                    ],
                )],
                200,
                vec![collector.clone()],
            ),
        ] {
            let levels = levels(all);
            let found = levels.sinks().filter(|it| levels.is_logged(it, &Code(code))).cloned();
            assert_eq!(found.collect::<Vec<_>>(), wanted, "{code} {levels:?}");
        }
    }

    #[test]
    fn a_label_is_as_the_most_special_one_says_that_names_it_and_of_one_object_the_later_word_counts() {
        let set = |text: &str| Relabel::Set(Arc::new(text.parse().unwrap()));
        let word =
            |of: &[Metric], name: &str, to: Relabel| LabelWord { of: of.to_vec(), name: name.into(), to };
        let mesh = vec![
            word(&Metric::ALL, "host", set("request.host")),
            word(&Metric::ALL, "user", set("'a'")),
            word(&[Metric::Requests], "user", set("'b'")),
        ];
        let own = vec![word(&[Metric::Duration], "host", Relabel::Removed)];
        let mesh = Telemetry { labels: mesh, ..said("a") };
        let both = levels([mesh, Telemetry { labels: own, ..said("b") }]);
        let found = |metric: Metric| {
            let shown = |(name, to): (&Label, &Relabel)| match to {
                Relabel::Removed => format!("-{name}"),
                Relabel::Set(formula) => format!("{name}={formula}"),
            };
            both.labels(metric).into_iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(found(Metric::Requests), ["user='b'", "host=request.host"]);
        assert_eq!(found(Metric::Duration), ["-host", "user='a'"]);
        assert!(both.relabels() && !Levels::default().relabels());
        assert_eq!(both.formulas().count(), 3);
        let many = (0..40).map(|at| word(&Metric::ALL, &format!("l{at}"), Relabel::Removed)).collect();
        let many = levels([Telemetry { labels: many, ..said("a") }]);
        assert_eq!(many.labels(Metric::Requests).len(), MOST);
    }

    #[test]
    fn of_headers_each_is_as_the_most_special_one_says_that_names_it() {
        let words = |told: &[ProxyHeader], untold: &[ProxyHeader], server: Option<Server>| HeaderWords {
            told: told.to_vec(),
            untold: untold.to_vec(),
            server,
        };
        let shop = Server::Is("shop".parse().unwrap());
        let mesh =
            words(&[ProxyHeader::Host], &[ProxyHeader::Details, ProxyHeader::Attempts], Some(shop.clone()));
        let own = words(&[ProxyHeader::Details], &[], None);
        assert!(!own.is_empty() && HeaderWords::default().is_empty());
        let with = |name: &str, headers: HeaderWords| Telemetry { headers, ..said(name) };
        let both = levels([with("a", mesh), with("b", own)]);
        let told = ProxyHeader::ALL.map(|it| both.tells(it));
        assert_eq!(told, [None, Some(false), Some(true), Some(true), None, None]);
        assert_eq!(both.server(), Some(&shop));
        let last = levels([
            with("a", words(&[], &[], Some(shop))),
            with("b", words(&[], &[], Some(Server::Untold))),
        ]);
        assert_eq!(last.server(), Some(&Server::Untold));
        assert_eq!(
            (Levels::default().tells(ProxyHeader::RequestId), Levels::default().server()),
            (None, None)
        );
        for it in ProxyHeader::ALL {
            assert_eq!(ProxyHeader::named(it.name()), Some(it));
        }
    }

    #[test]
    fn a_counter_is_kept_unless_the_most_special_one_that_names_it_says_otherwise() {
        let none = Telemetry { uncounted: Metric::ALL.to_vec(), ..said("a") };
        let some = Telemetry { counted: vec![Metric::Requests], ..said("b") };
        let both = levels([none, some]);
        assert!(both.counts(Metric::Requests) && !both.counts(Metric::Duration));
        assert!(Levels::default().counts(Metric::Duration));
        for metric in Metric::ALL {
            assert_eq!(Metric::named(metric.name()), Some(metric));
        }
    }
}
