//! Traces of requests (`waypoint.md` 5.3): a span for each request that is kept, and one below it for each attempt, which
//! is what the endpoint is told as its parent. Owns what is remembered of them until the request is over; when that
//! is, and what is known of it then, is told by `phases::record`. Those who collect spans are told by `export`.
//!
//! Whoever asks decides whether a request is kept. Where nobody collects anything, headers of traces pass as they are.

mod export;
mod otlp;
mod zipkin;

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use ambit_model::name::Label;
use ambit_model::provider::{Collector, Takes};
use ambit_model::snapshot::Snapshot;
use ambit_model::telemetry::TracingSaid;
use ambit_model::trace::{Forms, Incoming, Outgoing, Sampling, SpanId, TraceId};
use ambit_process::clock::{Instant, now, now_system};
use http::HeaderMap;

use crate::upstream::Chance;
pub(crate) use export::{Sort, Spans, count, tell};

/// Attempts of one request that get a span of their own.
const ATTEMPTS_KEPT: usize = 16;

/// A piece of work that is over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    pub(crate) trace: TraceId,
    pub(crate) id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) side: Side,
    pub(crate) name: String,
    pub(crate) began: SystemTime,
    pub(crate) took: Duration,
    pub(crate) facts: Vec<(Cow<'static, str>, Fact)>,
    /// Why it failed, if it did.
    pub(crate) failed: Option<String>,
}

/// A line of the access log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) at: SystemTime,
    /// What has happened.
    pub(crate) what: &'static str,
    pub(crate) trace: Option<TraceId>,
    pub(crate) facts: Vec<(Cow<'static, str>, Fact)>,
}

/// What collectors are told of.
#[derive(Debug)]
pub(crate) enum Piece {
    Span(Span),
    Line(Line),
}

/// Whose side of a call a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Of who is asked.
    Server,
    /// Of who asks.
    Client,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    Text(String),
    Number(i64),
}

/// A request's place in its trace.
pub(crate) struct Traced {
    /// Who is told.
    to: Vec<Label>,
    came: Incoming,
    forms: Forms,
    trace: TraceId,
    own: SpanId,
    sampled: bool,
    began: SystemTime,
    since: Instant,
    tags: Vec<(Cow<'static, str>, Fact)>,
    /// Without what only meshes know.
    plain: bool,
    attempt: Option<Attempt>,
    over: Vec<Span>,
}

/// One that is under way.
struct Attempt {
    id: SpanId,
    began: SystemTime,
    since: Instant,
}

/// Begins a request's part of its trace; none where nobody collects any.
pub(crate) fn begin(world: &Snapshot, headers: &HeaderMap, said: TracingSaid<'_>) -> Option<Box<Traced>> {
    let all = collectors(world, said);
    // All of them want the same; in whatever order they come, the same one is asked.
    let usual = all.first()?.1.mesh.as_ref().or(said.usual);
    let sampling = said.sampling.or_else(|| usual.map(|it| it.sampling)).unwrap_or(Sampling::USUAL);
    let tags = said.tags.or_else(|| usual.map(|it| it.tags.as_slice())).unwrap_or_default();
    let came = Incoming::read(headers);
    let sampled = came.is_sampled(headers, sampling, &mut Chance);
    // What only its spans say is put together for those alone that are kept.
    let told = tags.iter().filter(|_| sampled).filter_map(|(name, tag)| {
        Some((Cow::from(name.to_string()), Fact::Text(tag.value(headers)?.to_string())))
    });
    let tags = told.collect();
    let to = all.iter().filter(|_| sampled).map(|(name, ..)| (*name).clone()).collect();
    let trace = came.parent.map_or_else(|| TraceId::make(&mut Chance), |(trace, _)| trace);
    Some(Box::new(Traced {
        forms: forms(&came, all.iter().map(|(_, it)| &it.takes)),
        sampled,
        to,
        came,
        trace,
        own: SpanId::make(&mut Chance),
        began: now_system(),
        since: now(),
        tags,
        plain: said.plain,
        attempt: None,
        over: Vec::new(),
    }))
}

/// Who is told, by name: those that somebody names for such requests, else those that the mesh does.
fn collectors<'a>(world: &'a Snapshot, said: TracingSaid<'a>) -> Vec<(&'a Label, &'a Collector)> {
    let known = |name: &'a Label| Some((name, world.provider(name.as_str())?.collector()?.as_ref()));
    let of_mesh = || {
        let told = world.providers().filter_map(|it| Some((&it.name, it.collector()?.as_ref())));
        told.filter(|(_, it)| it.mesh.is_some())
    };
    let mut all: Vec<_> = match said.providers {
        _ if said.disabled => Vec::new(),
        Some(names) => names.iter().filter_map(known).collect(),
        None => of_mesh().collect(),
    };
    all.sort_unstable_by_key(|(name, _)| *name);
    all
}

/// As it came; else as those understand it whom the collectors' makers wrote for.
fn forms<'a>(came: &Incoming, collectors: impl Iterator<Item = &'a Takes>) -> Forms {
    if came.forms != Forms::default() {
        return came.forms;
    }
    collectors.fold(Forms::default(), |forms, takes| match takes {
        Takes::Zipkin { .. } => Forms { b3: true, ..forms },
        Takes::OtlpGrpc { .. } | Takes::OtlpHttp { .. } => Forms { w3c: true, ..forms },
    })
}

impl Traced {
    /// What the trace is called.
    pub(crate) fn id(&self) -> TraceId {
        self.trace
    }

    /// An attempt begins: the endpoint is told that it is the parent of what follows there.
    pub(crate) fn attempt(&mut self, headers: &mut HeaderMap) {
        let attempt = Attempt { id: SpanId::make(&mut Chance), began: now_system(), since: now() };
        let outgoing = Outgoing {
            trace: self.trace,
            span: attempt.id,
            parent: self.own,
            sampled: self.sampled,
            debug: self.came.debug,
        };
        outgoing.write(headers, self.forms, &self.came);
        self.attempt = Some(attempt);
    }

    /// The attempt is over, as far as anybody waits for it.
    pub(crate) fn attempted(
        &mut self,
        name: impl FnOnce() -> String,
        facts: impl FnOnce() -> Vec<(Cow<'static, str>, Fact)>,
        failed: Option<String>,
    ) {
        let Some(Attempt { id, began, since }) = self.attempt.take() else { return };
        if !self.sampled || self.over.len() >= ATTEMPTS_KEPT {
            return;
        }
        self.over.push(Span {
            trace: self.trace,
            id,
            parent: Some(self.own),
            side: Side::Client,
            name: name(),
            began,
            took: since.elapsed(),
            facts: facts(),
            failed,
        });
    }

    /// The attempt is over, and nobody will be told of it.
    pub(crate) fn forget_attempt(&mut self) {
        self.attempt = None;
    }

    /// Whether what only meshes know is left out.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether anything has to be known of the request when it is over.
    pub(crate) fn is_kept(&self) -> bool {
        self.sampled
    }

    /// The request is over: its spans, and who is told of them.
    pub(crate) fn end(
        mut self,
        name: String,
        mut facts: Vec<(Cow<'static, str>, Fact)>,
        failed: Option<String>,
    ) -> (Vec<Label>, Vec<Span>) {
        self.attempted(|| name.clone(), Vec::new, Some("given up".into()));
        facts.append(&mut self.tags);
        let own = Span {
            trace: self.trace,
            id: self.own,
            parent: self.came.parent.map(|(_, span)| span),
            side: Side::Server,
            name,
            began: self.began,
            took: self.since.elapsed(),
            facts,
            failed,
        };
        self.over.push(own);
        (self.to, self.over)
    }
}

#[cfg(test)]
mod tests;
