//! The queue of spans: bounded, and emptied in batches.

use std::time::SystemTime;

use ambit_model::trace::{SpanId, TraceId};

use super::super::{Side, Span};
use super::*;
use crate::upstream::Chance;

fn spans(count: usize) -> Vec<Piece> {
    let one = || Span {
        trace: TraceId::make(&mut Chance),
        id: SpanId::make(&mut Chance),
        parent: None,
        side: Side::Server,
        name: "web".into(),
        began: SystemTime::UNIX_EPOCH,
        took: Duration::ZERO,
        facts: Vec::new(),
        failed: None,
    };
    std::iter::repeat_with(one).take(count).map(Piece::Span).collect()
}

#[tokio::test(start_paused = true)]
async fn few_are_told_after_a_while_many_at_once_and_what_does_not_fit_is_counted() {
    let queue = Spans::default();
    let both: [Label; 2] = ["a".into(), "b".into()];
    let began = tokio::time::Instant::now();
    assert_eq!(queue.offer(&both, spans(3)), 0);
    let batches = queue.next().await.unwrap();
    assert_eq!(batches.values().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(began.elapsed(), GATHER);
    assert_eq!(queue.offer(&both[..1], spans(WAITING + 7)), 7);
    let began = tokio::time::Instant::now();
    for _ in 0..WAITING / BATCH {
        assert_eq!(queue.next().await.unwrap()[&both[0]].len(), BATCH);
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "a batch that is full waits for nothing");
}

#[tokio::test(start_paused = true)]
async fn when_nothing_comes_any_more_what_waits_is_told_and_then_it_is_over() {
    let queue = Spans::default();
    assert_eq!(queue.offer(&["a".into()], spans(1)), 0);
    queue.close();
    let began = tokio::time::Instant::now();
    assert!(queue.next().await.is_some());
    assert!(queue.next().await.is_none());
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(queue.offer(&["a".into()], spans(2)), 2, "it is closed");
}

#[test]
fn a_collector_that_does_not_answer_is_not_told_more_and_others_are() {
    let queue = Spans::default();
    let (slow, other): (Label, Label) = ("slow".into(), "other".into());
    assert!((0..UNANSWERED).all(|_| queue.enter(&slow)));
    assert!(!queue.enter(&slow) && queue.enter(&other));
    queue.leave(&slow);
    assert!(queue.enter(&slow) && !queue.enter(&slow));
}
