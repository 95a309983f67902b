//! Are there too many requests (`waypoint.md` 4.10)? Owns what is known of a request when limits are looked at, who is
//! asked that counts elsewhere, and what clients are told. Which limits are a request's is decided by
//! `model::rate_limit`; what is counted here is in `limits`; the call is `call`'s.
//!
//! After policies have let a request in - who may not ask takes nothing from those who may - and before anything is done
//! for it. All limits that are counted here come before anybody is asked.

use std::sync::Arc;
use std::time::Duration;

use ambit_model::name::{Label, PolicyKey};
use ambit_model::provider::{HeaderChange, HeaderChanges, How, Reach};
use ambit_model::rate_limit::{GlobalLimit, Left, LocalLimit, RateLimit, Ruling, Taken};
use ambit_model::request_policy::{Facts, Http};
use ambit_wire::quota::{self, QuotaError};
use bytes::Bytes;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::authorize::{Seen, facts};
use super::record::Record;
use super::route::{self, By};
use crate::call::{self, CallError};
use crate::lane::Lane;
use crate::metrics::{LimitLabels, Metrics, Outcome};
use crate::refused::Refused;
use crate::stream::Inbound;

const LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
const MOST: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEFT: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// How records and metrics call who counts.
const LOCAL: &str = "local";
const GLOBAL: &str = "global";

/// What a service is asked, for one policy.
pub(crate) struct Question {
    by: Label,
    at: Option<Reach>,
    message: Bytes,
    patience: Duration,
    fail_closed: bool,
    tell: bool,
    exhausted: bool,
}

impl Question {
    async fn ruling(&self, lane: &Arc<Lane>) -> Result<Ruling, NoCount> {
        let at = self.at.as_ref().ok_or(NoCount::Unreadable)?;
        let said = call::grpc(lane, at, (quota::METHOD, &self.message), &[], self.patience).await?;
        Ok(quota::answer(said)?)
    }
}

/// There are too many.
#[derive(Debug)]
pub(crate) struct Limited {
    /// Whose limit it is.
    pub(crate) by: Label,
    /// Until there may be another; none: who counts does not say.
    pub(crate) wait: Option<Duration>,
    /// What is left, where clients are told.
    pub(crate) left: Option<Left>,
    /// Whether gRPC is told that something is exhausted.
    pub(crate) exhausted: bool,
    /// What the client is answered, where a service says so.
    pub(crate) ruled: Option<Ruled>,
}

/// What a service says a client is answered.
#[derive(Debug)]
pub(crate) struct Ruled {
    pub(crate) headers: HeaderChanges,
    pub(crate) body: Vec<u8>,
}

/// Why a service that counts has said nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoCount {
    /// There was no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It is none.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// Where it is could not be read.
    #[error("its service could not be read")]
    Unreadable,
}

impl Limited {
    /// The headers of the answer.
    pub(crate) fn say(&self, headers: &mut HeaderMap) {
        headers.insert(LIMITED, HeaderValue::from_static("true"));
        if let Some(wait) = self.wait {
            headers.insert(http::header::RETRY_AFTER, seconds(wait).max(1).into());
        }
        if let Some(left) = self.left {
            told(left).apply(headers);
        }
        if let Some(ruled) = &self.ruled {
            ruled.headers.apply(headers);
        }
    }
}

/// Counts a request here, and says who has to be asked about it; nobody, where no limit is. Limits are the last rule's,
/// but for those that were another's before.
pub(crate) fn count(
    record: &mut Record,
    seen: &Seen<'_>,
    rules: &[Option<By>],
) -> Result<Vec<Question>, Refused> {
    let (questions, left) = counted(record.inbound(), seen, rules)?;
    if let Some(left) = left {
        record.answer_with(told(left));
    }
    Ok(questions)
}

/// Who has to be asked, and what is left of the scarcest limit, where that is to be told.
fn counted(
    inbound: &Inbound,
    seen: &Seen<'_>,
    rules: &[Option<By>],
) -> Result<(Vec<Question>, Option<Left>), Refused> {
    let world = inbound.lane.shared.world.load();
    let policies = route::only_last(rules, |rule| world.rate_limits_of(&inbound.targets, rule));
    if policies.is_empty() {
        return Ok((Vec::new(), None));
    }
    let Seen { parts, asked, path, token } = *seen;
    let host = asked.authority.as_ref().map_or("", Authority::as_str);
    let facts =
        facts(inbound, Some(Http { host, method: &parts.method, path, headers: &parts.headers, token }));
    let shared = &inbound.lane.shared;
    let (mut questions, mut scarcest) = (Vec::new(), None);
    for policy in policies {
        let left = here(policy, &facts, &shared.metrics, |at, limit| shared.limits.take(at, limit, &facts))?;
        scarcest = [scarcest, left].into_iter().flatten().reduce(Left::scarcer);
        questions.extend(policy.global.as_ref().and_then(|it| question(policy, it, &facts)));
    }
    Ok((questions, scarcest))
}

/// Counts a request by the limits of one policy; what is left of the scarcest, if that is to be told.
fn here<'a>(
    policy: &'a RateLimit,
    facts: &'a Facts<'a>,
    metrics: &Metrics,
    take: impl Fn((&PolicyKey, usize), &LocalLimit) -> Taken,
) -> Result<Option<Left>, Refused> {
    let mut scarcest: Option<Left> = None;
    for (at, limit) in policy.counted(facts) {
        let rate = &limit.rate;
        match take((&policy.key, at), limit) {
            Taken::Yes { left, .. } => {
                metrics.limited(&name(policy), LOCAL, Outcome::Allowed);
                let used = rate.burst().saturating_sub(left);
                let reset = rate.per().saturating_mul(used) / rate.requests().max(1);
                let left = Left { most: rate.burst(), left, reset };
                scarcest = Some(scarcest.map_or(left, |it| it.scarcer(left)));
            }
            Taken::No { wait } => {
                metrics.limited(&name(policy), LOCAL, Outcome::Denied);
                let left = Left { most: rate.burst(), left: 0, reset: wait };
                return Err(Refused::Limited(Box::new(Limited {
                    by: name(policy),
                    wait: Some(wait),
                    left: policy.tell.then_some(left),
                    exhausted: policy.exhausted,
                    ruled: None,
                })));
            }
        }
    }
    Ok(scarcest.filter(|_| policy.tell))
}

/// What a service is asked about a request; nothing, where there is nothing to tell it.
fn question(policy: &RateLimit, limit: &GlobalLimit, facts: &Facts<'_>) -> Option<Question> {
    let described = limit.describe(facts);
    (!described.is_empty()).then(|| Question {
        by: name(policy),
        at: limit.at.clone(),
        message: quota::question(&limit.domain, described, limit.hits),
        patience: limit.patience,
        fail_closed: limit.fail_closed,
        tell: policy.tell,
        exhausted: policy.exhausted,
    })
}

/// Asks those who count elsewhere, one after the other, and does what they say.
pub(crate) async fn ask(
    record: &mut Record,
    parts: &mut Parts,
    questions: Vec<Question>,
) -> Result<(), Refused> {
    let lane = record.lane();
    let metrics = &lane.shared.metrics;
    for one in questions {
        match one.ruling(&lane).await {
            Ok(ruling) if ruling.is_over => {
                metrics.limited(&one.by, GLOBAL, Outcome::Denied);
                return Err(over(one, ruling));
            }
            Ok(Ruling { request, back, left, .. }) => {
                metrics.limited(&one.by, GLOBAL, Outcome::Allowed);
                request.apply(&mut parts.headers);
                record.answer_with(back);
                left.filter(|_| one.tell).into_iter().for_each(|left| record.answer_with(told(left)));
            }
            Err(error) if one.fail_closed => {
                metrics.limited(&one.by, GLOBAL, Outcome::Failed);
                return Err(Refused::Uncounted { by: one.by, error: Box::new(error) });
            }
            Err(error) => {
                metrics.limited(&one.by, GLOBAL, Outcome::FailedOpen);
                tracing::debug!(policy = %one.by, error = ambit_proxy::fault::chain(&error), "let in uncounted");
            }
        }
    }
    Ok(())
}

fn over(one: Question, ruling: Ruling) -> Refused {
    let Ruling { back: headers, body, left, .. } = ruling;
    Refused::Limited(Box::new(Limited {
        by: one.by,
        wait: None,
        left: left.filter(|_| one.tell),
        exhausted: one.exhausted,
        ruled: Some(Ruled { headers, body }),
    }))
}

/// What clients are told of what is left.
fn told(left: Left) -> HeaderChanges {
    let mut changes = HeaderChanges::default();
    let Left { most, left, reset } = left;
    for (name, value) in [(MOST, u64::from(most)), (LEFT, u64::from(left)), (RESET, seconds(reset))] {
        // None of them belongs to the connection.
        let _ = changes.push(HeaderChange { name, value: value.into(), how: How::Set });
    }
    changes
}

/// Whole seconds, upwards: whoever comes after them is not too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn name(policy: &RateLimit) -> Label {
    Label::from(policy.key.to_string())
}

impl Metrics {
    /// Counts what came of a limit.
    fn limited(&self, policy: &Label, counted: &'static str, outcome: Outcome) {
        self.limits.get_or_create(&LimitLabels { policy: policy.clone(), counted, outcome }).inc();
    }
}
