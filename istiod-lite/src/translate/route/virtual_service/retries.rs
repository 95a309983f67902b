//! When requests of a rule are tried again (`waypoint.md` 4.2): Envoy's words for it, and status codes among them.

use ambit_cluster::kinds::duration::span;
use ambit_cluster::kinds::virtual_service::Retries;
use ambit_model::http_route::{Retry, RetryOn};

use super::super::{MOST, RETRIED};

/// After what is tried again where nobody says.
const UNSAID: [RetryOn; 4] =
    [RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Unavailable, RetryOn::Cancelled];

/// How a rule's requests are tried again.
pub(super) fn retry(it: &Retries) -> Retry {
    let words = it.retry_on.split(',').map(str::trim).filter(|it| !it.is_empty());
    let mut on: Vec<RetryOn> = words.clone().flat_map(events).copied().collect();
    let codes: Vec<u16> = words.clone().filter_map(|it| it.parse().ok()).collect();
    if words.count() == 0 {
        on = UNSAID.to_vec();
    }
    on.sort_unstable();
    on.dedup();
    Retry {
        attempts: it.attempts.min(MOST),
        codes,
        on,
        backoff: None,
        base: it.backoff.as_deref().and_then(span),
        same_again: it.retry_ignore_previous_hosts == Some(false),
        moves_on: it.retry_remote_localities == Some(true),
    }
}

/// What a word means. Those that mean nothing here are accepted, as Envoy's configuration may hold them.
fn events(word: &str) -> &'static [RetryOn] {
    match word {
        "5xx" => &[RetryOn::Any5xx],
        "gateway-error" => {
            // That there was no answer, Envoy counts as a gateway's error as well.
            const ALL: [RetryOn; 5] = [RetryOn::GatewayError, RETRIED[0], RETRIED[1], RETRIED[2], RETRIED[3]];
            &ALL
        }
        "reset" => &RETRIED,
        "reset-before-request" => &[RetryOn::ResetBeforeRequest],
        "connect-failure" => &[RetryOn::ConnectFailure],
        "envoy-ratelimited" => &[RetryOn::RateLimited],
        "retriable-4xx" => &[RetryOn::Conflict],
        "refused-stream" => &[RetryOn::RefusedStream],
        "cancelled" => &[RetryOn::Cancelled],
        "deadline-exceeded" => &[RetryOn::DeadlineExceeded],
        "internal" => &[RetryOn::Internal],
        "resource-exhausted" => &[RetryOn::ResourceExhausted],
        "unavailable" => &[RetryOn::Unavailable],
        _ => &[],
    }
}
