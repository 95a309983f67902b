//! The driver with an issuer that answers as told, on a paused clock.

use std::collections::VecDeque;
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
}

impl Issuer for Told {
    async fn issue(&self, identity: &Identity) -> Result<Credential, IssueError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        if self.answers.lock().unwrap().pop_front().unwrap_or(true) {
            return Ok(self
                .authority
                .leaf(vec![uri(&identity.to_string())], self.life)
                .credential(&Terms::default()));
        }
        Err(IssueError::Silent { limit: self.takes })
    }
    async fn changed(&self) {
        std::future::pending().await
    }
}

fn start(answers: &[bool], takes: Duration, life: Duration) -> (Vault, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let answers = Mutex::new(answers.iter().copied().collect());
    let told = Told { authority: Authority::new(), answers, calls: Arc::clone(&calls), takes, life };
    let (vault, driver) = Vault::new(told, wall);
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
