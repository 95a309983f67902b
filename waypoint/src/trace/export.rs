//! Those who collect spans, or lines of access logs, are told of them: beside requests, which never wait for that. Owns the one queue of a thread,
//! which is bounded, and that each collector is told a few batches at a time at most; what does not fit is dropped and
//! counted. Nothing is sent twice: a span is worth less than the load that repeating it would be.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambit_model::name::Label;
use ambit_model::provider::{Collector, Takes};
use ambit_proxy::side::Reason;
use ambit_wire::spans::{LOGS_METHOD, METHOD};
use http::Uri;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::debug;

use super::{Piece, otlp, zipkin};
use crate::call::{CallError, call, grpc, post};
use crate::lane::Lane;

/// Spans of one thread that wait: a second of them at a thousand requests a second.
const WAITING: usize = 2_048;
/// Spans that are told together.
const BATCH: usize = 512;
/// How long fewer are waited for.
const GATHER: Duration = Duration::from_secs(1);
/// Batches that one collector has not answered yet.
const UNANSWERED: usize = 2;

/// Spans of one thread.
#[derive(Default)]
pub(crate) struct Spans {
    queue: Mutex<Queue>,
    /// Something came, or nothing will any more.
    more: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Label, Arc<Piece>)>,
    unanswered: HashMap<Label, usize>,
    closed: bool,
}

impl Spans {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts spans or lines into the queue; how many did not fit.
    pub(crate) fn offer(&self, to: &[Label], pieces: impl IntoIterator<Item = Piece>) -> usize {
        let mut queue = self.lock();
        let mut dropped = 0;
        for piece in pieces.into_iter().map(Arc::new) {
            for one in to {
                if queue.waiting.len() < WAITING && !queue.closed {
                    queue.waiting.push_back((one.clone(), Arc::clone(&piece)));
                } else {
                    dropped += 1;
                }
            }
        }
        drop(queue);
        self.more.notify_one();
        dropped
    }

    /// Nothing comes any more: what waits is told, and then it is over.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }

    /// The next batches, by whom they are for; none when it is over.
    async fn next(&self) -> Option<BTreeMap<Label, Vec<Arc<Piece>>>> {
        self.until(1).await;
        // Fewer than a batch are told all the same after a while.
        let _ = timeout(GATHER, self.until(BATCH)).await;
        let mut queue = self.lock();
        if queue.waiting.is_empty() {
            return None;
        }
        let count = queue.waiting.len().min(BATCH);
        let mut batches: BTreeMap<Label, Vec<Arc<Piece>>> = BTreeMap::new();
        for (to, piece) in queue.waiting.drain(..count) {
            batches.entry(to).or_default().push(piece);
        }
        Some(batches)
    }

    /// Until so many wait, or nothing comes any more.
    async fn until(&self, count: usize) {
        loop {
            {
                let queue = self.lock();
                if queue.closed || queue.waiting.len() >= count {
                    return;
                }
            }
            self.more.notified().await;
        }
    }

    /// A batch is about to be told, unless its collector has not answered others.
    fn enter(&self, to: &Label) -> bool {
        let mut queue = self.lock();
        let count = queue.unanswered.entry(to.clone()).or_default();
        let free = *count < UNANSWERED;
        *count += usize::from(free);
        free
    }

    fn leave(&self, to: &Label) {
        let mut queue = self.lock();
        match queue.unanswered.get_mut(to) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(queue.unanswered.remove(to)),
        }
    }
}

/// Tells collectors of a thread's spans until there will be none any more.
pub(crate) async fn tell(lane: Arc<Lane>) {
    while let Some(batches) = lane.spans.next().await {
        for (to, pieces) in batches {
            let sort = Sort::of(&pieces);
            if !lane.spans.enter(&to) {
                count(&lane, (sort, "collector_behind"), pieces.len());
                continue;
            }
            let (lane, crew) = (Arc::clone(&lane), lane.crew.clone());
            crew.add("collector", async move {
                let outcome = Box::pin(told(&lane, &to, &pieces)).await;
                lane.spans.leave(&to);
                count(&lane, (sort, outcome), pieces.len());
            });
        }
    }
}

/// Which of both something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Spans,
    Lines,
}

impl Sort {
    /// Of what one collector is told: it takes the one or the other.
    fn of(pieces: &[Arc<Piece>]) -> Self {
        let is_line = |piece: &Arc<Piece>| matches!(**piece, Piece::Line(_));
        if pieces.iter().any(is_line) { Self::Lines } else { Self::Spans }
    }
}

/// Counts what became of spans, or of lines.
pub(crate) fn count(lane: &Lane, (sort, outcome): (Sort, &'static str), number: usize) {
    let metrics = &lane.shared.metrics;
    let family = match sort {
        Sort::Spans => &metrics.spans,
        Sort::Lines => &metrics.lines_told,
    };
    if number > 0 {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        family.get_or_create(&Reason(outcome)).inc_by(number);
    }
}

/// Tells one collector, and what came of it.
async fn told(lane: &Arc<Lane>, to: &Label, pieces: &[Arc<Piece>]) -> &'static str {
    let world = lane.shared.world.load();
    let Some(collector) = world.provider(to.as_str()).and_then(|it| it.collector()) else {
        return "unknown_collector";
    };
    let outcome = Box::pin(send(lane, collector, pieces)).await;
    if let Err(error) = &outcome {
        debug!(provider = %to, error = ambit_proxy::fault::chain(error), "what a collector is told is lost");
    }
    match outcome {
        Ok(true) => "told",
        Ok(false) | Err(CallError::Status(_) | CallError::Grpc(_)) => "refused",
        Err(CallError::Silent(_)) => "no_answer",
        Err(CallError::Unknown(_) | CallError::NoEndpoint(..)) => "no_endpoint",
        Err(_) => "lost",
    }
}

/// Whether it takes them.
async fn send(lane: &Arc<Lane>, collector: &Collector, pieces: &[Arc<Piece>]) -> Result<bool, CallError> {
    let Collector { at, takes, patience, mesh: _ } = collector;
    let own = &lane.shared.waypoint;
    let service = format!("{}.{}", own.name(), own.service.namespace);
    let spans = pieces.iter().filter_map(|it| match &**it {
        Piece::Span(span) => Some(span),
        Piece::Line(_) => None,
    });
    let lines = pieces.iter().filter_map(|it| match &**it {
        Piece::Line(line) => Some(line),
        Piece::Span(_) => None,
    });
    let (path, kind, body, add) = match takes {
        Takes::OtlpGrpc { add } if Sort::of(pieces) == Sort::Lines => {
            let message = (LOGS_METHOD, &otlp::logs(&service, lines));
            return Box::pin(grpc(lane, at, message, add, *patience)).await.map(|_| true);
        }
        Takes::OtlpGrpc { add } => {
            let message = (METHOD, &otlp::message(&service, spans));
            return Box::pin(grpc(lane, at, message, add, *patience)).await.map(|_| true);
        }
        Takes::OtlpHttp { path, add } => {
            (path, "application/x-protobuf", otlp::message(&service, spans), add.as_slice())
        }
        Takes::Zipkin { path } => (path, "application/json", zipkin::message(&service, spans), &[][..]),
    };
    let target = Uri::try_from(&**path).map_err(|error| CallError::Target(error.into()))?;
    let request = post(at, target, (kind, body), add);
    Ok(Box::pin(call(lane, at, request, *patience)).await?.status.is_success())
}

#[cfg(test)]
mod tests;
