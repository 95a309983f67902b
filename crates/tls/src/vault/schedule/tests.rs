//! The machine under a clock that is a number.

use super::*;
use crate::testing::identity;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn lease(now: Instant, refresh: u64, expire: u64) -> Landing<&'static str> {
    Landing::Issued(Lease {
        credential: "held",
        refresh_at: now + secs(refresh),
        expires_at: now + secs(expire),
    })
}

fn failure() -> Landing<&'static str> {
    // chance 0.5: the backoff is exactly the doubled one
    Landing::Failed { why: Arc::new(IssueError::Silent { limit: secs(1) }), chance: 0.5 }
}

fn seen(schedule: &Schedule<&'static str>, account: &str) -> &'static str {
    match schedule.iter().find(|(id, _)| **id == identity(account)) {
        None => "none",
        Some((_, View::Asked)) => "asked",
        Some((_, View::Held(_))) => "held",
        Some((_, View::Lapsed { .. })) => "lapsed",
    }
}

#[test]
fn waiting_traffic_is_served_before_arrivals_and_refreshes() {
    let now = Instant::now();
    let mut schedule = Schedule::<&str>::new();
    for (account, priority) in [
        ("a", Priority::Background),
        ("b", Priority::Warmup),
        ("c", Priority::Traffic),
        ("d", Priority::Warmup),
    ] {
        schedule.want(&identity(account), priority, now);
    }
    schedule.want(&identity("d"), Priority::Traffic, now + secs(1));
    schedule.want(&identity("c"), Priority::Background, now);
    let order: Vec<_> = std::iter::from_fn(|| schedule.begin(now + secs(1))).map(|(id, _)| id).collect();
    assert_eq!(order, ["c", "d", "b", "a"].map(identity));
}

#[test]
fn no_more_than_eight_calls_are_under_way() {
    let now = Instant::now();
    let mut schedule = Schedule::new();
    for n in 0..20 {
        schedule.want(&identity(&format!("w{n}")), Priority::Warmup, now);
    }
    let flights: Vec<_> = std::iter::from_fn(|| schedule.begin(now)).collect();
    assert_eq!(flights.len(), CALLS_MAX);
    assert_eq!(schedule.next_wake(), None);
    let (first, flight) = &flights[0];
    schedule.landed(first, *flight, lease(now, 10, 20), now);
    assert!(schedule.begin(now).is_some());
    assert!(schedule.begin(now).is_none());
}

#[test]
fn a_failed_refresh_keeps_serving_until_the_certificate_ends() {
    let start = Instant::now();
    let mut schedule = Schedule::new();
    schedule.want(&identity("a"), Priority::Traffic, start);
    let (id, flight) = schedule.begin(start).unwrap();
    schedule.landed(&id, flight, lease(start, 10, 13), start);
    assert_eq!(schedule.next_wake(), Some(start + secs(10)));
    // fails at 10, again at 11 (backoff 1), then at 13 (backoff 2, and the end)
    for (at, next, view) in [(10, 11, "held"), (11, 13, "held"), (13, 17, "lapsed")] {
        let now = start + secs(at);
        let (id, flight) = schedule.begin(now).unwrap();
        assert_eq!(seen(&schedule, "a"), "held");
        schedule.landed(&id, flight, failure(), now);
        assert_eq!((seen(&schedule, "a"), schedule.next_wake()), (view, Some(start + secs(next))));
    }
}

#[test]
fn backoff_doubles_up_to_its_limit() {
    let start = Instant::now();
    let mut schedule = Schedule::new();
    schedule.want(&identity("a"), Priority::Warmup, start);
    let mut now = start;
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 150, 150] {
        let (id, flight) = schedule.begin(now).unwrap();
        schedule.landed(&id, flight, failure(), now);
        assert_eq!(schedule.next_wake(), Some(now + secs(wait)));
        now += secs(wait);
    }
    let (id, flight) = schedule.begin(now).unwrap();
    schedule.landed(&id, flight, lease(now, 10, 20), now);
    assert_eq!(seen(&schedule, "a"), "held");
}

#[test]
fn an_authority_that_signs_again_is_asked_for_all_that_it_did_not_sign() {
    let start = Instant::now();
    let mut schedule = Schedule::new();
    let (mut now, ids) = (start, ["a", "b"].map(identity));
    ids.iter().for_each(|id| assert!(schedule.want(id, Priority::Warmup, start)));
    for _ in 0..14 {
        now = schedule.next_wake().unwrap();
        let (id, flight) = schedule.begin(now).unwrap();
        schedule.landed(&id, flight, failure(), now);
    }
    // Both wait for most of a minute now; traffic for one finds that the authority is back.
    let retry = schedule.next_wake().unwrap();
    assert!(retry > now + secs(20), "{:?}", retry - now);
    now += secs(5);
    schedule.want(&ids[0], Priority::Traffic, now);
    let (id, flight) = schedule.begin(now).unwrap();
    assert!(schedule.begin(now).is_none(), "the other waits");
    schedule.landed(&id, flight, lease(now, 1000, 2000), now);
    let (other, flight) = schedule.begin(now).expect("at once");
    assert_ne!(other, id);
    // One that is refused all the same goes on waiting, and longer.
    schedule.landed(&other, flight, failure(), now);
    schedule.again(now);
    assert_eq!(schedule.next_wake(), Some(now + secs(1)));
}

#[test]
fn traffic_retries_a_failed_identity_at_most_once_a_second() {
    let now = Instant::now();
    let mut schedule = Schedule::new();
    schedule.want(&identity("a"), Priority::Traffic, now);
    let (id, flight) = schedule.begin(now).unwrap();
    schedule.landed(&id, flight, failure(), now);
    let cases = [
        (999, Priority::Traffic, "lapsed"),
        (1000, Priority::Warmup, "lapsed"),
        (1000, Priority::Traffic, "asked"),
    ];
    for (at, priority, view) in cases {
        schedule.want(&id, priority, now + Duration::from_millis(at));
        assert_eq!(seen(&schedule, "a"), view, "{at} {priority:?}");
    }
}

#[test]
fn a_forgotten_identitys_answer_is_not_taken_for_a_later_wish() {
    let now = Instant::now();
    let mut schedule = Schedule::new();
    schedule.want(&identity("a"), Priority::Traffic, now);
    let (id, old) = schedule.begin(now).unwrap();
    schedule.forget(&id);
    schedule.want(&id, Priority::Traffic, now);
    let (_, new) = schedule.begin(now).unwrap();
    schedule.landed(&id, old, lease(now, 10, 20), now);
    assert_eq!(seen(&schedule, "a"), "asked");
    schedule.landed(&id, new, lease(now, 10, 20), now);
    assert_eq!(seen(&schedule, "a"), "held");
}
