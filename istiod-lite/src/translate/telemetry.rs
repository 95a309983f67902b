//! What objects say of what is told of requests, to the mesh's nouns (`waypoint.md` 4.6): pure. Owns whose requests one is
//! about, which of several at one place counts, and reading each part. A part that cannot be read is as if it were not
//! there, which tells more rather than less; its author is told of it.

mod counters;

use std::sync::Arc;

use ambit_cluster::kinds::telemetry::{
    LoggingWord, ModeMatch, ProviderName, TagWord, Telemetry as Object, TracingWord,
};
use ambit_model::name::{Label, PolicyKey};
use ambit_model::provider::Tag;
use ambit_model::request_policy::Target;
use ambit_model::telemetry::{Filter, HeaderWords, LogWord, Scope, Telemetry, Tracing};
use ambit_model::trace::Sampling;

use self::counters::Counters;
use crate::index::World;
use crate::mesh::Mesh;
use crate::translate::target::targets;
use crate::translate::{collector, line, provider};

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What waypoints are told; nothing, if it is about nobody's requests.
    pub telemetry: Option<Telemetry>,
    /// What is not honoured, for its author.
    pub notes: Vec<String>,
    /// The older ones that go before it somewhere.
    pub outdone: Vec<String>,
}

/// Reads one.
#[must_use]
pub fn telemetry(world: &World, object: &Object) -> Reading {
    let mut notes = Vec::new();
    let mut outdone = Vec::new();
    let mut own = scopes(world, object);
    own.retain(|scope| {
        let older = older(world, object, scope);
        outdone.extend(older.map(|it| it.metadata.name.clone()));
        older.is_none()
    });
    outdone.sort_unstable();
    outdone.dedup();
    let spec = &object.spec;
    let tracing = tracing(world, &spec.tracing, &mut notes);
    let logging = logging(&world.mesh, &spec.access_logging, &mut notes);
    let Counters { uncounted, counted, labels } = counters::counters(&spec.metrics, &mut notes);
    let meta = &object.metadata;
    let key = || Some(PolicyKey { namespace: meta.namespace.parse().ok()?, name: meta.name.parse().ok()? });
    let telemetry = key().filter(|_| !own.is_empty()).map(|key| Telemetry {
        key,
        scopes: own,
        tracing,
        logging,
        uncounted,
        counted,
        labels,
        headers: HeaderWords::default(),
    });
    Reading { telemetry, notes, outdone }
}

/// Whose requests it would be about, were it alone.
fn scopes(world: &World, object: &Object) -> Vec<Scope> {
    let (namespace, spec) = (object.metadata.namespace.as_str(), &object.spec);
    if spec.selects() {
        return Vec::new();
    }
    if spec.targets().next().is_none() {
        let own = || namespace.parse().ok().map(Scope::Namespace);
        let of_mesh = namespace == world.mesh.root_namespace;
        return if of_mesh { vec![Scope::Mesh] } else { own().into_iter().collect() };
    }
    let scope = |target: Target| match target {
        Target::Service(key) => Scope::Service(key),
        Target::Waypoint { namespace, name } => Scope::Waypoint { namespace, name },
        Target::Mesh => Scope::Class,
    };
    let mut all: Vec<_> = spec.targets().flat_map(|it| targets(world, namespace, it)).map(scope).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The one that says something at the same place, and was there before: two at one place are always of one namespace.
fn older<'a>(world: &'a World, object: &Object, scope: &Scope) -> Option<&'a Object> {
    let space = world.space(&object.metadata.namespace)?;
    let before = space.telemetries.values().filter(|it| it.metadata.age() < object.metadata.age());
    let same = before.filter(|it| scopes(world, it).contains(scope));
    same.min_by_key(|it| it.metadata.age()).map(AsRef::as_ref)
}

/// The first word of each thing counts: words of one object are one.
fn tracing(world: &World, words: &[TracingWord], notes: &mut Vec<String>) -> Option<Tracing> {
    let mesh = &world.mesh;
    let of_waypoints = words.iter().enumerate().filter(|(at, it)| {
        let is = ModeMatch::is_for_waypoints(it.r#match.as_ref());
        if !is {
            notes.push(format!("tracing[{at}]: waypoints are on the side of SERVER"));
        }
        is
    });
    let words: Vec<_> = of_waypoints.collect();
    words.first()?;
    let mut said = Tracing {
        providers: None,
        sampling: None,
        disabled: None,
        tags: None,
        istio_tags: None,
        usual: collector::usual(mesh),
    };
    for (at, word) in words {
        let known = collectors(mesh, (at, &word.providers), notes);
        said.providers = said.providers.or(known);
        let share = word.random_sampling_percentage.and_then(|it| Sampling::of(it.parts));
        said.sampling = said.sampling.or(share);
        said.disabled = said.disabled.or(word.disable_span_reporting);
        said.istio_tags = said.istio_tags.or(word.enable_istio_tags);
        if said.tags.is_none() && !word.custom_tags.is_empty() {
            let tags = word.custom_tags.iter().filter_map(|(name, it)| tag(at, (name, it), notes));
            said.tags = Some(tags.collect());
        }
        for (name, given) in [
            ("useRequestIdForTraceSampling", word.use_request_id_for_trace_sampling),
            ("disableContextPropagation", word.disable_context_propagation),
        ] {
            if given == Some(true) {
                notes.push(format!("tracing[{at}].{name}: waypoints do not go by it"));
            }
        }
    }
    Some(said)
}

/// Those that collect spans. When of those that are named nobody does, it is as if nobody were named.
fn collectors(
    mesh: &Mesh,
    (at, names): (usize, &[ProviderName]),
    notes: &mut Vec<String>,
) -> Option<Vec<Label>> {
    let mut known = Vec::new();
    for ProviderName { name } in names {
        if provider::collects(mesh, name, provider::Of::Spans) {
            known.push(name.as_str().into());
        } else {
            notes.push(format!(
                "tracing[{at}].providers: the mesh's configuration has no {name:?} that collects spans"
            ));
        }
    }
    (!known.is_empty()).then_some(known)
}

fn tag(at: usize, (name, given): (&String, &TagWord), notes: &mut Vec<String>) -> Option<(Label, Tag)> {
    let mut note = |why: &str| notes.push(format!("tracing[{at}].customTags.{name}: {why}"));
    let TagWord { literal, environment, header, formatter: _ } = given;
    let tag = match (literal, header, environment) {
        (Some(literal), ..) => Tag::Literal(literal.value.as_str().into()),
        (_, Some(of), _) => match of.name.parse() {
            Ok(name) => Tag::Header { name, default: of.default_value.as_str().into() },
            Err(_) => {
                note("not a header's name");
                return None;
            }
        },
        // What else stands there may be a secret.
        (_, _, Some(of)) => {
            note("the environment of waypoints is told nobody; its default value is what is said");
            (!of.default_value.is_empty()).then(|| Tag::Literal(of.default_value.as_str().into()))?
        }
        (None, None, None) => {
            note("formatters are not known to waypoints");
            return None;
        }
    };
    Some((name.as_str().into(), tag))
}

fn logging(mesh: &Mesh, words: &[LoggingWord], notes: &mut Vec<String>) -> Vec<LogWord> {
    let mut all: Vec<LogWord> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if !ModeMatch::is_for_waypoints(word.r#match.as_ref()) {
            notes.push(format!("accessLogging[{at}]: waypoints are on the side of SERVER"));
            continue;
        }
        let mut to = Vec::new();
        for ProviderName { name } in &word.providers {
            for unknown in line::unknown(mesh, name) {
                notes.push(format!(
                    "accessLogging[{at}].providers: {name:?} has {unknown} in its lines, which waypoints do not know; - is written in its place"
                ));
            }
            match line::sink(mesh, name) {
                // What was said before of the same place counts.
                Some(sink) if to.contains(&sink) || all.iter().any(|it| it.to.contains(&sink)) => {}
                Some(sink) => to.push(sink),
                None => notes.push(format!(
                    "accessLogging[{at}].providers: the mesh's configuration has no {name:?} that takes lines"
                )),
            }
        }
        // Of nobody that is known it says nothing; not even of all.
        if to.is_empty() && !word.providers.is_empty() {
            continue;
        }
        let text = word.filter.as_ref().map(|it| it.expression.as_str()).filter(|it| !it.trim().is_empty());
        let filter = text.map(str::parse::<Filter>).transpose().unwrap_or_else(|error| {
            notes.push(format!("accessLogging[{at}].filter.expression: {error}; every line is written"));
            None
        });
        // Whoever names somebody where nobody is told wants them to be.
        let wanted = (line::is_silent(mesh) && !to.is_empty()).then_some(false);
        all.push(LogWord { to, disabled: word.disabled.or(wanted), filter: filter.map(Arc::new) });
    }
    all
}

#[cfg(test)]
mod tests;
