//! The driver with an issuer that answers as told, on a paused clock.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::credential::Terms;
use crate::testing::{Authority, identity, uri, wall};

/// Says per call, in order: yes or no. Yes to all once the list is used up.
struct Told {
    authority: Authority,
    answers: Mutex<VecDeque<bool>>,
    calls: Arc<AtomicUsize>,
    takes: Duration,
    life: Duration,
    /// Not to be reached in this time, counted from the start.
    outage: Range<Duration>,
    began: Instant,
}

impl Issuer for Told {
    async fn issue(&self, identity: &Identity) -> Result<Credential, IssueError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        if self.outage.contains(&self.began.elapsed()) {
            return Err(IssueError::Silent { limit: self.takes });
        }
        if self.answers.lock().unwrap().pop_front().unwrap_or(true) {
            return Ok(self
                .authority
                .leaf_from(true_time(), vec![uri(&identity.to_string())], self.life)
                .credential(&Terms::default()));
        }
        Err(IssueError::Silent { limit: self.takes })
    }
    async fn changed(&self) {
        std::future::pending().await
    }
}

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static AHEAD: Cell<i64> = const { Cell::new(0) };
}

/// The time by a clock that nobody sets; it goes on with tokio's.
fn true_time() -> SystemTime {
    wall() + BEGAN.get().map(|began| began.elapsed()).unwrap_or_default()
}

/// The time by the machine's clock, as a test has set it.
fn calendar() -> SystemTime {
    let (ahead, by) = (AHEAD.get(), Duration::from_secs(AHEAD.get().unsigned_abs()));
    if ahead < 0 { true_time() - by } else { true_time() + by }
}

/// Sets the machine's clock: so many seconds ahead of the true time.
fn set_clock(ahead: i64) {
    AHEAD.set(ahead);
}

fn start(answers: &[bool], takes: Duration, life: Duration) -> (Vault, Arc<AtomicUsize>) {
    start_with_outage(answers, (takes, life), Duration::ZERO..Duration::ZERO)
}

fn start_with_outage(
    answers: &[bool],
    (takes, life): (Duration, Duration),
    outage: Range<Duration>,
) -> (Vault, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let answers = Mutex::new(answers.iter().copied().collect());
    let began = Instant::now();
    BEGAN.set(Some(began));
    set_clock(0);
    let (authority, counted) = (Authority::new(), Arc::clone(&calls));
    let told = Told { authority, answers, calls: counted, takes, life, outage, began };
    let (vault, driver) = Vault::new(told, calendar);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(driver.run(std::future::pending()));
    tasks.detach_all();
    (vault, calls)
}

const HOUR: Duration = Duration::from_secs(3600);
const LIMIT: Duration = Duration::from_secs(5);
const QUICK: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn many_who_want_one_identity_share_one_call() {
    let (vault, calls) = start(&[], QUICK, HOUR);
    let id = identity("web");
    let fetches = (0..50).map(|_| vault.fetch(&id, LIMIT));
    for fetched in futures_util::future::join_all(fetches).await {
        assert_eq!(fetched.unwrap().identity(), &id);
    }
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(matches!(vault.dump()[0].state, ShownState::Available));
    assert_eq!((vault.dump()[0].chain.len(), vault.dump()[0].roots.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_authority_costs_a_connection_its_limit_and_no_more() {
    let (vault, _) = start(&[], HOUR, HOUR);
    let before = Instant::now();
    let result = vault.fetch(&identity("web"), LIMIT).await;
    assert!(matches!(result, Err(FetchError::Silent { .. })), "{result:?}");
    assert_eq!(before.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_at_once_until_traffic_may_try_again() {
    let (vault, calls) = start(&[false, false], QUICK, HOUR);
    let id = identity("web");
    for (pause, expected) in [(0, 1), (10, 1), (700, 1)] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let result = vault.fetch(&id, LIMIT).await;
        assert!(matches!(result, Err(FetchError::Lapsed { .. })), "{result:?}");
        assert_eq!(calls.load(Ordering::Relaxed), expected, "{pause}");
    }
    tokio::time::sleep(HOUR).await;
    assert!(vault.fetch(&id, LIMIT).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_at_about_half_of_its_life() {
    let (vault, calls) = start(&[], QUICK, HOUR);
    let id = identity("web");
    let first = vault.fetch(&id, LIMIT).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1500)).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let second = vault.fetch(&id, LIMIT).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_identity_is_served_no_more() {
    let (vault, calls) = start(&[], QUICK, HOUR);
    let id = identity("web");
    vault.fetch(&id, LIMIT).await.unwrap();
    vault.forget(id.clone()).await;
    tokio::time::sleep(QUICK).await;
    assert!(vault.held(&id).is_none());
    assert!(vault.dump().is_empty());
    vault.fetch(&id, LIMIT).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn waiters_of_an_identity_that_leaves_are_told_so() {
    let (vault, _) = start(&[], Duration::from_secs(2), HOUR);
    let id = identity("web");
    let leave = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        vault.forget(id.clone()).await;
    };
    let (result, ()) = tokio::join!(vault.fetch(&id, LIMIT), leave);
    assert!(matches!(result, Err(FetchError::Forgotten { .. })), "{result:?}");
}

const DAY: i64 = 86_400;
const LIFE: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_away_for_half_of_a_life_costs_no_connection_anything() {
    // From before the earliest renewal, at 45 % of the life.
    let (start, end) = (HOUR * 10, HOUR * 22);
    let (vault, calls) = start_with_outage(&[], (QUICK, LIFE), start..end);
    let id = identity("web");
    let first = vault.fetch(&id, LIMIT).await.unwrap();
    for _ in 0..22 * 60 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(vault.held(&id).is_some());
        assert!(vault.fetch(&id, Duration::ZERO).await.is_ok(), "a connection had to wait");
    }
    // Retries run from the half of the life on: ten hours or more, with pauses of 150 s and a fifth more or less.
    let calls = calls.load(Ordering::Relaxed);
    assert!((200..=360).contains(&calls), "{calls} calls");
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(!Arc::ptr_eq(&first, &vault.held(&id).unwrap()), "not renewed though the authority is back");
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_away_for_longer_than_a_life_is_noticed_and_its_return_too() {
    let (vault, _) = start_with_outage(&[], (QUICK, HOUR), HOUR / 4..HOUR * 2);
    let id = identity("web");
    vault.fetch(&id, LIMIT).await.unwrap();
    tokio::time::sleep(HOUR + Duration::from_secs(60)).await;
    assert!(vault.held(&id).is_none(), "served after its end");
    let result = vault.fetch(&id, LIMIT).await;
    assert!(matches!(result, Err(FetchError::Lapsed { .. })), "{result:?}");
    tokio::time::sleep(HOUR).await;
    assert!(vault.fetch(&id, LIMIT).await.is_ok(), "traffic asks anew at once");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_a_day_ahead_ends_what_is_held_and_does_not_hammer_the_authority() {
    let (vault, calls) = start(&[], QUICK, LIFE / 2);
    let id = identity("web");
    vault.fetch(&id, LIMIT).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    set_clock(DAY);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(vault.held(&id).is_none(), "peers with the same clock refuse it");
    let result = vault.fetch(&id, LIMIT).await;
    assert!(
        matches!(&result, Err(FetchError::Lapsed { source, .. })
        if matches!(**source, IssueError::Ended { .. })),
        "{result:?}"
    );
    let before = calls.load(Ordering::Relaxed);
    tokio::time::sleep(HOUR).await;
    let asked = calls.load(Ordering::Relaxed) - before;
    assert!((10..=60).contains(&asked), "{asked} calls in an hour");
    set_clock(0);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(vault.held(&id).is_some(), "the clock is right again, and nothing was asked for");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_a_day_back_makes_no_certificate_last_longer_than_it_does() {
    let (vault, calls) = start(&[], QUICK, LIFE / 2);
    let id = identity("web");
    vault.fetch(&id, LIMIT).await.unwrap();
    set_clock(-DAY);
    tokio::time::sleep(HOUR * 5).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1, "it is as good as before");
    assert!(vault.held(&id).is_some());
    tokio::time::sleep(HOUR + Duration::from_secs(60)).await;
    let asked = || calls.load(Ordering::Relaxed);
    let before = asked();
    assert!(before >= 2, "half of its life has passed, whatever the clock says");
    // One that is issued while the clock is behind: by our clock its life has not begun. Which clock is wrong is not
    // known, and were it the authority's, nobody would believe what it has signed.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!((5..=10).contains(&(asked() - before)), "another is asked for each one to two minutes");
    assert!(vault.held(&id).is_some());
    set_clock(0);
    tokio::time::sleep(Duration::from_secs(121)).await;
    let before = asked();
    tokio::time::sleep(HOUR * 5).await;
    assert_eq!(asked(), before, "clocks agree");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_connection_is_served_before_hundreds_that_are_only_prepared() {
    let second = Duration::from_secs(1);
    let (vault, _) = start(&[], second, HOUR);
    for n in 0..200 {
        vault.prepare(identity(&format!("w{n}"))).await;
    }
    tokio::time::sleep(QUICK).await;
    let before = Instant::now();
    vault.fetch(&identity("w199"), LIMIT).await.unwrap();
    assert!(before.elapsed() <= second * 2 + QUICK * 10, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_life_that_is_left_is_counted_down_until_a_renewal_and_an_end_counts_as_lapsed() {
    let (vault, _) = start_with_outage(&[], (QUICK, LIFE), HOUR * 18..HOUR * 48);
    assert_eq!(vault.census(), Census::default());
    vault.fetch(&identity("web"), LIMIT).await.unwrap();
    vault.fetch(&identity("cart"), LIMIT).await.unwrap();
    let left = |hours: f64| {
        let census = vault.census();
        assert_eq!((census.asked, census.held, census.lapsed), (0, 2, 0));
        let left = census.least_left.unwrap() * 24.0;
        assert!((left - hours).abs() < 0.1, "{left} hours are left, not {hours}");
    };
    left(24.0);
    tokio::time::sleep(HOUR * 10).await;
    left(14.0);
    // Both have been renewed, at half of their lives or a little before or after.
    tokio::time::sleep(HOUR * 6).await;
    assert!(vault.census().least_left.unwrap() > 0.7);
    tokio::time::sleep(HOUR * 26).await;
    let census = vault.census();
    assert_eq!((census.held, census.lapsed, census.least_left), (0, 2, None));
}
