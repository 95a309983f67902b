//! The tries (`waypoint.md` 2.12, 4.2, 1.8): an endpoint, the request, an answer or another endpoint. Owns when a
//! request may be sent once more: never when an endpoint may have acted on it, unless a route says that it does not
//! matter, and never when some of its body is gone.

use std::time::Duration;

use ambit_model::http_route::{Answer, Ended, Sent};
use ambit_model::route::{Hints, Plan};
use ambit_model::traffic::{Came as Attempt, Given, affinity};
use ambit_process::clock::now;
use http::header::{HeaderValue, SET_COOKIE};
use http::uri::Authority;
use http::{Method, StatusCode};
use tokio::time::{sleep, timeout, timeout_at};

use super::hedge::{self, Second, Won};
use super::mirror::mirror;
use super::record::Record;
use super::rewrite::Outgoing;
use super::route::Route;
use crate::body::{Source, Upload};
use crate::lane::Lane;
use crate::refused::Refused;
use crate::upstream::{By, Chance, Counted, Failure, Got, Guide, Lines, endpoint, look_up, plan_by};

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
    let lane = record.lane();
    let Some(guide) = Guide::of(&lane, &route.to) else {
        return in_time(record, (outgoing, source, route), None).await;
    };
    if let Some(why) = guide.closed() {
        return Err(Refused::Broken(why.to_string()));
    }
    let seat = guide.enter(&lane).map_err(Failure::from)?;
    let client = record.inbound().client.from.ip();
    let given = Given { headers: &outgoing.headers, query: outgoing.target.query(), client };
    let affinity = guide.hash_by().map(|by| affinity(by, given, &mut Chance)).unwrap_or_default();
    let guided = Guided { guide: &guide, hash: affinity.hash };
    let began = guide.adaptive().map(|_| now());
    let came = in_time(record, (outgoing, source, route), Some(&guided)).await;
    if let Some(began) = began {
        guide.answered(came.is_ok().then(|| began.elapsed()));
    }
    let mut got = came?;
    got.lease.keep([seat]);
    if let Some(cookie) = affinity.cookie {
        got.response.headers_mut().append(SET_COOKIE, cookie.header());
    }
    Ok(got)
}

/// How its service's traffic is handled, and which endpoint a request belongs to.
struct Guided<'a> {
    guide: &'a Guide,
    hash: Option<u64>,
}

async fn in_time(
    record: &mut Record,
    (outgoing, source, route): (&Outgoing, &Source, &Route),
    guided: Option<&Guided<'_>>,
) -> Result<Got, Refused> {
    let Some(deadline) = record.deadline() else {
        return Box::pin(tries(record, outgoing, source, route, guided)).await;
    };
    let came = timeout_at(deadline, Box::pin(tries(record, outgoing, source, route, guided))).await;
    came.unwrap_or_else(|_| {
        if let Some(guided) = guided {
            guided.guide.came(&record.lane(), Attempt::Late);
        }
        Err(Refused::TimedOut)
    })
}

async fn tries(
    record: &mut Record,
    outgoing: &Outgoing,
    source: &Source,
    route: &Route,
    guided: Option<&Guided<'_>>,
) -> Result<Got, Refused> {
    let lane = record.lane();
    let guide = guided.map(|it| it.guide);
    let mut retrying = None;
    mirror(record, outgoing, source, route);
    let mut hints = Hints { stay: route.stays_with(), ..Hints::default() };
    look_up(&lane, &route.to, outgoing.authority.as_ref().map(Authority::as_str), &mut hints).await?;
    // Apart: most requests have no use for its room.
    let mut failed: Option<Box<Failure>> = None;
    for attempt in 1.. {
        let plan = match next(record, route, &mut hints, guided).await {
            Ok(plan) => plan,
            Err(refused) => return Err(failed.map_or(refused, |failure| Refused::Upstream(*failure))),
        };
        // Only the first attempt finds the body whole for certain, and each further one has asked.
        let Some(upload) = source.lend() else { break };
        let one = Try { lane: &lane, outgoing, source, route, guided, attempt };
        let (came, won) = one.send(record, &plan, upload).await;
        record.attempt_ends(|| told(&came));
        if let (Some(why), Came::Nothing(_)) = (source.broken(), &came) {
            return Err(record.stopped().unwrap_or_else(|| why.into()));
        }
        let by = won.as_ref().map(|won| &won.guide).or(guide);
        if let (Some(guide), Some(attempt)) = (by, attempt_of(&came)) {
            guide.came(&lane, attempt);
        }
        let retry = route.retry();
        let idempotent = is_idempotent(&outgoing.method);
        let allowed = ended(&came)
            .is_some_and(|(ended, begun)| retry.again(attempt, &ended, Sent { begun, idempotent }));
        let again = allowed && source.is_whole() && is_room_for_another(guide, &lane, &mut retrying);
        match came {
            Came::Answer(got) if !again => return Ok(*got),
            Came::Nothing(failure) if !again => return Err(failure.into()),
            Came::Answer(_) => {}
            Came::Nothing(failure) => failed = Some(Box::new(failure)),
        }
        if !retry.same_again {
            hints.avoid.extend(endpoint(&plan).map(|workload| workload.uid.clone()));
        }
        if retry.moves_on {
            hints.tried.extend(endpoint(&plan).cloned());
        }
        sleep(retry.wait(attempt, &mut Chance)).await;
    }
    Err(failed.map_or(Refused::TimedOut, |failure| Refused::Upstream(*failure)))
}

/// One try, and a second endpoint beside it where that is asked for.
struct Try<'a> {
    lane: &'a Lane,
    outgoing: &'a Outgoing,
    source: &'a Source,
    route: &'a Route,
    guided: Option<&'a Guided<'a>>,
    attempt: u32,
}

impl Try<'_> {
    /// Whether it is sent in HTTP/2. Another protocol begins there only where the endpoint has a word for it.
    async fn version(&self, plan: &Plan) -> Result<bool, Failure> {
        let Self { lane, outgoing, guided, .. } = self;
        if !(outgoing.http2 && outgoing.is_upgrade()) {
            return Ok(outgoing.http2);
        }
        let Some(authority) = &outgoing.authority else { return Ok(false) };
        let by = (guided.map(|it| it.guide), outgoing.ends);
        let asked = Box::pin(Lines::take_protocols(lane, plan, by, Some(authority.host())));
        within(self.route.timeouts().backend_request.after(), asked).await
    }

    async fn send(self, record: &mut Record, plan: &Plan, upload: Upload) -> (Came, Option<Won>) {
        let Self { lane, outgoing, source, route, guided, attempt } = self;
        let guide = guided.map(|it| it.guide);
        record.tried(plan, attempt);
        let by = (guide, outgoing.ends);
        let http2 = match self.version(plan).await {
            Ok(http2) => http2,
            Err(failure) => return (Came::Nothing(failure), None),
        };
        let mut request = Box::new(outgoing.request(attempt, http2, upload));
        record.attempt_begins(request.headers_mut());
        let begun = guide.and_then(Guide::begin);
        let sent = Box::pin(Lines::send_by(lane, plan, http2, request, by));
        let sent = within(route.timeouts().backend_request.after(), sent);
        let after = hedge::after(guide.filter(|_| attempt == 1), outgoing, source);
        let (sent, won) = match after {
            None => (sent.await, None),
            Some(after) => {
                let (hash, first) = (guided.and_then(|it| it.hash), endpoint(plan).map(|it| it.uid.clone()));
                let second = Second { lane, route, outgoing, source, hash, first, guide };
                // Apart: most requests have no use for its room.
                Box::pin(hedge::either(sent, after, second)).await
            }
        };
        if let Some(won) = &won {
            record.tried(&won.plan, 2);
        }
        let came = match sent {
            Ok(mut got) => {
                got.lease.keep(begun.filter(|_| won.is_none()));
                Came::Answer(Box::new(got))
            }
            Err(failure) => Came::Nothing(failure),
        };
        (came, won)
    }
}

/// Whether one more may be tried again, and that it is counted as long as it is.
fn is_room_for_another(guide: Option<&Guide>, lane: &Lane, retrying: &mut Option<Counted>) -> bool {
    let Some(guide) = guide else { return true };
    // What was tried again until now is so no longer.
    drop(retrying.take());
    *retrying = guide.retry(lane);
    retrying.is_some()
}

/// One attempt, in the time that it has.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    sent: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(limit) = limit else { return sent.await };
    match timeout(limit, sent).await {
        Ok(came) => came,
        Err(_) => Err(Failure::Slow { limit }),
    }
}

/// The way to an endpoint that has not failed, or to any when all have.
async fn next(
    record: &Record,
    route: &Route,
    hints: &mut Hints,
    guided: Option<&Guided<'_>>,
) -> Result<Plan, Refused> {
    let lane = record.lane();
    let asked = Some(record.inbound().dialled.ip());
    let by = By { guide: guided.map(|it| it.guide), hash: guided.and_then(|it| it.hash), asked };
    match plan_by(&lane, &route.to, hints, &by).await {
        Err(_) if !hints.avoid.is_empty() => {
            hints.avoid.clear();
            Box::pin(plan_by(&lane, &route.to, hints, &by)).await.map_err(Refused::NoEndpoint)
        }
        planned => planned.map_err(Refused::NoEndpoint),
    }
}

/// What an attempt says of its endpoint.
fn attempt_of(came: &Came) -> Option<Attempt> {
    match came {
        Came::Answer(got) => {
            let grpc = got.response.headers().get("grpc-status").map(HeaderValue::as_bytes);
            Some(Attempt::Status(match grpc {
                // What gRPC calls failing, as HTTP would (`waypoint.md` 7.3).
                Some(b"14" | b"8") => 503,
                Some(b"4") => 504,
                Some(b"2" | b"13" | b"15") => 500,
                _ => got.response.status().as_u16(),
            }))
        }
        Came::Nothing(failure) => failure.came(),
    }
}

/// What became of an attempt, for its span.
fn told(came: &Came) -> Result<StatusCode, String> {
    match came {
        Came::Answer(got) => Ok(got.response.status()),
        Came::Nothing(failure) => Err(ambit_proxy::fault::chain(failure)),
    }
}

/// What became of an attempt, as far as another one depends on it; none: another would fare no better.
fn ended(came: &Came) -> Option<(Ended, bool)> {
    Some(match came {
        Came::Answer(got) => {
            let headers = got.response.headers();
            let grpc = headers.get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok());
            let rate_limited = headers.contains_key("x-envoy-ratelimited");
            let status = got.response.status().as_u16();
            (Ended::Answered(Answer { status, grpc, rate_limited }), true)
        }
        Came::Nothing(Failure::Malformed(_) | Failure::Overflow(_)) => return None,
        Came::Nothing(Failure::Slow { .. }) => (Ended::TimedOut, true),
        Came::Nothing(Failure::Unsent(_)) => (Ended::Lost, false),
        Came::Nothing(failure @ Failure::Lost { .. }) if failure.is_unseen() => (Ended::Refused, true),
        Came::Nothing(Failure::Lost { .. }) => (Ended::Lost, true),
        Came::Nothing(failure) => return failure.is_unseen().then_some((Ended::NoConnection, false)),
    })
}

/// RFC 9110, 9.2.2.
pub(super) fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_done_twice_is_known_by_its_method() {
        for (method, wanted) in
            [("GET", true), ("PUT", true), ("POST", false), ("PATCH", false), ("X", false)]
        {
            assert_eq!(is_idempotent(&method.parse().unwrap()), wanted, "{method}");
        }
    }
}
