//! Callers by the API server's word (`control-plane.md` 6.3). Owns the cache of what it said, which is bounded by
//! time and by size, and how many questions are under way. Without an answer nobody is anybody.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ambit_cluster::api::{Client, ReviewError, Reviewed};
use ambit_model::name::{Identity, TrustDomain};
use ambit_process::clock::{self, Instant};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;

use super::token::{Bearer, Bound, TokenError, bearer_of};

/// How long the server's word is taken: a token lives on so long after its pod is deleted.
const TRUST: Duration = Duration::from_secs(60);

/// How long its refusal is taken: a caller that is refused tries again at once.
const DISTRUST: Duration = Duration::from_secs(5);

/// Words that are remembered: one or two for each node of a large cluster, and room for those who try.
const REMEMBERED: usize = 8192;

/// Questions under way; the next ones wait their turn.
const QUESTIONS: usize = 16;

/// How long a turn is waited for.
const TURN: Duration = Duration::from_secs(5);

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const ACCOUNTS: &str = "system:serviceaccounts";

/// Proves callers by the API server's word.
pub struct Reviewer {
    client: Client,
    domain: TrustDomain,
    audiences: Vec<String>,
    questions: Semaphore,
    /// By the hash of the token: tokens themselves are not kept.
    words: Mutex<HashMap<[u8; 32], Word>>,
}

/// What the server said of a token, and until when that is taken.
#[derive(Clone)]
struct Word {
    /// None: it is refused.
    bearer: Option<Bearer>,
    until: Instant,
}

impl Reviewer {
    /// Asks this server for tokens meant for one of the audiences.
    #[must_use]
    pub fn new(client: Client, domain: TrustDomain, audiences: Vec<String>) -> Self {
        let (questions, words) = (Semaphore::new(QUESTIONS), Mutex::default());
        Self { client, domain, audiences, questions, words }
    }

    /// Who a call's headers prove to be the caller.
    ///
    /// # Errors
    /// When they prove nobody, or nobody can be asked.
    pub async fn bearer(&self, headers: &MetadataMap, now: SystemTime) -> Result<Bearer, TokenError> {
        let token = bearer_of(headers)?;
        let key = hash(token);
        if let Some(word) = self.word(&key) {
            return word;
        }
        let turn = tokio::time::timeout(TURN, self.questions.acquire()).await;
        let _turn = turn.ok().and_then(Result::ok).ok_or(TokenError::Busy)?;
        // Whoever waited may have waited for another call of the same caller.
        if let Some(word) = self.word(&key) {
            return word;
        }
        match Box::pin(self.client.review(token, &self.audiences)).await {
            Ok(reviewed) => {
                let bearer = self.read(&reviewed)?;
                self.remember(key, Some(bearer.clone()), TRUST.min(left(token, now)));
                Ok(bearer)
            }
            Err(ReviewError::Api(error)) => Err(TokenError::Unreviewed(error)),
            Err(refused @ (ReviewError::Denied(_) | ReviewError::Audience(_))) => {
                self.remember(key, None, DISTRUST);
                Err(TokenError::Denied(refused.to_string()))
            }
        }
    }

    fn word(&self, key: &[u8; 32]) -> Option<Result<Bearer, TokenError>> {
        let word = self.words().get(key).filter(|word| word.until > clock::now()).cloned()?;
        Some(word.bearer.ok_or_else(|| TokenError::Denied("it was refused a moment ago".into())))
    }

    fn remember(&self, key: [u8; 32], bearer: Option<Bearer>, time: Duration) {
        let now = clock::now();
        let mut words = self.words();
        if words.len() >= REMEMBERED {
            words.retain(|_, word| word.until > now);
        }
        // Still full: whoever is not remembered is asked about again.
        if words.len() < REMEMBERED {
            words.insert(key, Word { bearer, until: now + time });
        }
    }

    /// A panic while the map was held leaves it whole: it is only ever inserted into and cleared out.
    fn words(&self) -> MutexGuard<'_, HashMap<[u8; 32], Word>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server's answer says of the caller.
    fn read(&self, reviewed: &Reviewed) -> Result<Bearer, TokenError> {
        let refuse = || TokenError::Subject(reviewed.username.clone());
        let account = reviewed.username.strip_prefix("system:serviceaccount:").ok_or_else(refuse)?;
        let (namespace, account) = account.split_once(':').ok_or_else(refuse)?;
        if !reviewed.groups.iter().any(|group| group == ACCOUNTS) {
            return Err(refuse());
        }
        let identity = Identity {
            trust_domain: self.domain.clone(),
            namespace: namespace.parse().map_err(|_| refuse())?,
            service_account: account.parse().map_err(|_| refuse())?,
        };
        let bound = match (reviewed.extra(POD_NAME), reviewed.extra(POD_UID)) {
            (Some(name), Some(uid)) => Bound::Pod { name: name.into(), uid: uid.into() },
            _ => Bound::Nowhere,
        };
        Ok(Bearer { identity, bound })
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

/// How long a token is valid by its own word, which can only shorten how long the server's is taken.
fn left(token: &str, now: SystemTime) -> Duration {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    unproven::<Claims>(token).map_or(TRUST, |claims| Duration::from_secs(claims.exp).saturating_sub(now))
}

/// What a token says of itself. Nobody has looked at its signature: nothing may be permitted by it.
pub(crate) fn unproven<T: DeserializeOwned>(token: &str) -> Option<T> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}

#[cfg(test)]
pub(crate) mod tests;
