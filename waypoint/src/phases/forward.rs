//! The tries (`waypoint.md` 2.12, 4.2, 1.8): an endpoint, the request, an answer or another endpoint. Owns when a
//! request may be sent once more: never when an endpoint may have acted on it, unless a route says that it does not
//! matter, and never when some of its body is gone.

use std::time::Duration;

use ambit_model::http_route::{Retry, RetryOn};
use ambit_model::route::{Hints, Plan};
use http::{Method, StatusCode};
use tokio::time::{sleep, timeout, timeout_at};

use super::record::Record;
use super::rewrite::Outgoing;
use super::route::Route;
use crate::body::Source;
use crate::refused::Refused;
use crate::upstream::{Failure, Got, Lines, endpoint, plan};

/// The first wait before another try, if no route says one.
const BACKOFF: Duration = Duration::from_millis(25);
/// Waits grow up to so many times the first.
const BACKOFF_MOST: u32 = 10;

/// What came of one attempt.
enum Came {
    Answer(Box<Got>),
    Nothing(Failure),
}

/// Sends a request on until it is answered, or may not be tried again, or its time is over.
pub(crate) async fn forward(
    record: &mut Record,
    outgoing: &Outgoing,
    source: &Source,
    route: &Route,
) -> Result<Got, Refused> {
    match record.deadline() {
        None => Box::pin(tries(record, outgoing, source, route)).await,
        Some(deadline) => {
            match timeout_at(deadline, Box::pin(tries(record, outgoing, source, route))).await {
                Ok(came) => came,
                Err(_) => Err(Refused::TimedOut),
            }
        }
    }
}

async fn tries(
    record: &mut Record,
    outgoing: &Outgoing,
    source: &Source,
    route: &Route,
) -> Result<Got, Refused> {
    let lane = record.lane();
    let mut hints = Hints::default();
    let mut failed: Option<Failure> = None;
    for attempt in 1.. {
        let plan = match next(record, route, &mut hints).await {
            Ok(plan) => plan,
            Err(refused) => return Err(failed.map_or(refused, Refused::Upstream)),
        };
        // Only the first attempt finds the body whole for certain, and each further one has asked.
        let Some(upload) = source.lend() else { break };
        record.tried(&plan, attempt);
        let request = outgoing.request(attempt, upload);
        let sent = Box::pin(Lines::send(&lane, &plan, outgoing.http2, request));
        let came = match within(route.timeouts().backend_request.after(), sent).await {
            Ok(got) => Came::Answer(Box::new(got)),
            Err(failure) => Came::Nothing(failure),
        };
        let retry = route.retry();
        let again = attempt <= retry.attempts && source.is_whole() && may_again(&came, outgoing, retry);
        match came {
            Came::Answer(got) if !again => return Ok(*got),
            Came::Nothing(failure) if !again => return Err(failure.into()),
            Came::Answer(_) => {}
            Came::Nothing(failure) => failed = Some(failure),
        }
        hints.avoid.extend(endpoint(&plan).map(|workload| workload.uid.clone()));
        sleep(pause(retry, attempt, fastrand::f64())).await;
    }
    Err(failed.map_or(Refused::TimedOut, Refused::Upstream))
}

/// One attempt, in the time that it has.
async fn within(
    limit: Option<Duration>,
    sent: impl Future<Output = Result<Got, Failure>>,
) -> Result<Got, Failure> {
    let Some(limit) = limit else { return sent.await };
    match timeout(limit, sent).await {
        Ok(came) => came,
        Err(_) => Err(Failure::Slow { limit }),
    }
}

/// The way to an endpoint that has not failed, or to any when all have.
async fn next(record: &Record, route: &Route, hints: &mut Hints) -> Result<Plan, Refused> {
    let lane = record.lane();
    match plan(&lane, &route.to, hints).await {
        Err(_) if !hints.avoid.is_empty() => {
            hints.avoid.clear();
            plan(&lane, &route.to, hints).await.map_err(Refused::NoEndpoint)
        }
        planned => planned.map_err(Refused::NoEndpoint),
    }
}

fn may_again(came: &Came, outgoing: &Outgoing, retry: &Retry) -> bool {
    let on = |event| retry.on.contains(&event);
    match came {
        Came::Answer(got) => answer_says_again(got, retry),
        Came::Nothing(Failure::Slow { .. }) => on(RetryOn::AttemptTimeout) || on(RetryOn::Any5xx),
        Came::Nothing(failure) if failure.is_unseen() => {
            on(RetryOn::ConnectFailure) || on(RetryOn::RefusedStream) || on(RetryOn::Any5xx)
        }
        // RFC 9110, 9.2.2: the connection was closed for being idle, most likely, and doing it twice does no harm.
        Came::Nothing(failure) if failure.is_of_idleness() && idempotent(&outgoing.method) => true,
        Came::Nothing(_) => on(RetryOn::Reset) || on(RetryOn::Any5xx),
    }
}

fn answer_says_again(got: &Got, retry: &Retry) -> bool {
    let on = |event| retry.on.contains(&event);
    let status = got.response.status();
    let gateway = matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    );
    if retry.codes.contains(&status.as_u16())
        || on(RetryOn::Any5xx) && status.is_server_error()
        || on(RetryOn::GatewayError) && gateway
        || on(RetryOn::Conflict) && status == StatusCode::CONFLICT
        || on(RetryOn::RateLimited) && got.response.headers().contains_key("x-envoy-ratelimited")
    {
        return true;
    }
    let code = got.response.headers().get("grpc-status").and_then(|code| code.to_str().ok());
    on(match code {
        Some("1") => RetryOn::Cancelled,
        Some("4") => RetryOn::DeadlineExceeded,
        Some("8") => RetryOn::ResourceExhausted,
        Some("13") => RetryOn::Internal,
        Some("14") => RetryOn::Unavailable,
        _ => return false,
    })
}

fn idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method)
}

/// The wait after the `attempt`th: longer after each, of chance, and never shorter than a route says.
fn pause(retry: &Retry, attempt: u32, chance: f64) -> Duration {
    let base = retry.backoff.unwrap_or(BACKOFF);
    let grown = base.saturating_mul(2_u32.saturating_pow(attempt).saturating_sub(1));
    let spread = grown.min(base * BACKOFF_MOST).mul_f64(chance);
    spread.max(retry.backoff.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_are_never_shorter_than_a_route_says() {
        let unasked = Retry::unasked();
        let said = Retry { backoff: Some(Duration::from_millis(100)), ..Retry::unasked() };
        for (attempt, chance, wanted, floored) in [
            (1, 0.0, 0, 100),
            (1, 1.0, 25, 100),
            (2, 1.0, 75, 300),
            (9, 1.0, 250, 1000),
            (40, 1.0, 250, 1000),
        ] {
            assert_eq!(pause(&unasked, attempt, chance), Duration::from_millis(wanted), "{attempt}");
            assert_eq!(pause(&said, attempt, chance), Duration::from_millis(floored), "{attempt}");
        }
    }

    #[test]
    fn what_may_be_done_twice_is_known_by_its_method() {
        for (method, wanted) in
            [("GET", true), ("PUT", true), ("POST", false), ("PATCH", false), ("X", false)]
        {
            assert_eq!(idempotent(&method.parse().unwrap()), wanted, "{method}");
        }
    }
}
