//! What is tried again after what, how long is waited, and how many may.

use super::*;
use crate::sample::Always;

const POST: Sent = Sent { begun: true, idempotent: false };
const GET: Sent = Sent { begun: true, idempotent: true };
const UNSENT: Sent = Sent { begun: false, idempotent: false };

fn retry(attempts: u32, codes: &[u16], on: &[RetryOn]) -> Retry {
    Retry { attempts, codes: codes.to_vec(), on: on.to_vec(), ..Retry::unasked() }
}

fn answered(status: u16) -> Ended {
    Ended::Answered(Answer { status, ..Answer::default() })
}

fn of_grpc(grpc: u16) -> Ended {
    Ended::Answered(Answer { status: 200, grpc: Some(grpc), rate_limited: false })
}

#[test]
fn only_what_is_listed_is_tried_again_and_only_so_often() {
    let listed = retry(3, &[500, 503], &[]);
    for (tries, ended, wanted) in [
        (1, answered(500), true),
        (3, answered(503), true),
        (4, answered(500), false),
        (1, answered(502), false),
        (1, answered(200), false),
        (1, Ended::Lost, false),
        (1, Ended::TimedOut, false),
    ] {
        assert_eq!(listed.again(tries, &ended, GET), wanted, "{tries} {ended:?}");
    }
    assert!(!retry(0, &[500], &[]).again(1, &answered(500), GET));
}

#[test]
fn each_event_is_what_its_name_says() {
    use RetryOn::*;
    let limited = Ended::Answered(Answer { status: 429, grpc: None, rate_limited: true });
    let ends = [
        ("502", answered(502)),
        ("500", answered(500)),
        ("409", answered(409)),
        ("limited", limited),
        ("grpc 1", of_grpc(1)),
        ("grpc 4", of_grpc(4)),
        ("grpc 8", of_grpc(8)),
        ("grpc 13", of_grpc(13)),
        ("grpc 14", of_grpc(14)),
        ("none", Ended::NoConnection),
        ("lost", Ended::Lost),
        ("refused", Ended::Refused),
        ("late", Ended::TimedOut),
    ];
    for (on, wanted) in [
        (Any5xx, vec!["502", "500", "none", "lost", "refused", "late"]),
        (GatewayError, vec!["502"]),
        (Conflict, vec!["409"]),
        (RateLimited, vec!["limited"]),
        (Reset, vec!["lost", "refused"]),
        (ResetBeforeRequest, vec![]),
        (ConnectFailure, vec!["none"]),
        (RefusedStream, vec!["refused"]),
        (AttemptTimeout, vec!["late"]),
        (Cancelled, vec!["grpc 1"]),
        (DeadlineExceeded, vec!["grpc 4"]),
        (ResourceExhausted, vec!["grpc 8"]),
        (Internal, vec!["grpc 13"]),
        (Unavailable, vec!["grpc 14"]),
    ] {
        let found = ends.iter().filter(|(_, ended)| retry(1, &[], &[on]).again(1, ended, POST));
        assert_eq!(found.map(|(name, _)| *name).collect::<Vec<_>>(), wanted, "{on:?}");
    }
}

#[test]
fn unasked_nothing_is_sent_twice_that_may_have_been_acted_on() {
    let unasked = Retry::unasked();
    for (ended, sent, wanted) in [
        (Ended::NoConnection, UNSENT, true),
        (Ended::Refused, POST, true),
        (Ended::Lost, UNSENT, true),
        (Ended::Lost, GET, true),
        (Ended::Lost, POST, false),
        (Ended::TimedOut, GET, false),
        (answered(503), GET, false),
        (of_grpc(14), POST, false),
    ] {
        assert_eq!(unasked.again(1, &ended, sent), wanted, "{ended:?} {sent:?}");
        assert!(!unasked.again(3, &ended, sent));
    }
}

#[test]
fn waits_grow_up_to_a_limit_and_are_never_shorter_than_asked_for() {
    let unasked = Retry::unasked();
    let longest = |tries| unasked.wait(tries, &mut Always(u64::MAX)).as_millis();
    assert_eq!([longest(1), longest(2), longest(3), longest(4), longest(40)], [24, 74, 174, 249, 249]);
    assert_eq!(unasked.wait(1, &mut Always(0)), Duration::ZERO);
    let based = Retry { base: Some(Duration::from_millis(100)), ..Retry::unasked() };
    let between = |tries| [0, u64::MAX].map(|chance| based.wait(tries, &mut Always(chance)).as_millis());
    assert_eq!([between(1), between(2), between(9)], [[0, 99], [0, 299], [0, 999]]);
    let asked = Retry { backoff: Some(Duration::from_millis(100)), ..Retry::unasked() };
    for tries in [1, 2, 5, u32::MAX] {
        for chance in [0, 50_000, u64::MAX] {
            let wait = asked.wait(tries, &mut Always(chance)).as_millis();
            assert!((100..=1000).contains(&wait), "{tries} {chance}: {wait}");
        }
    }
}

#[test]
fn a_budget_is_a_share_of_all_and_always_a_few() {
    let budget = RetryBudget::default();
    for (retrying, under_way, wanted) in [
        (0, 1, true),
        (2, 1, true),
        (3, 1, false),
        (19, 100, true),
        (20, 100, false),
        (u32::MAX, u32::MAX, false),
    ] {
        assert_eq!(budget.allows(retrying, under_way), wanted, "{retrying} of {under_way}");
    }
}
