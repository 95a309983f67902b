//! A second endpoint where the first takes long (`waypoint.md` 7.5): whoever answers first has answered. Owns when a
//! request is given to two: only where its author wants it, where doing it twice is as good as once, and where it has no
//! body; and that it is counted as one more try, so that budgets hold.

use std::time::Duration;

use ambit_model::name::WorkloadUid;
use ambit_model::route::{Hints, Plan};
use tokio::time::sleep;

use super::rewrite::Outgoing;
use super::route::Route;
use crate::body::Source;
use crate::lane::Lane;
use crate::metrics::{Governed, names};
use crate::phases::forward::{is_idempotent, within};
use crate::pressure::{self, Measure};
use crate::upstream::{By, Failure, Got, Guide, Lines, endpoint, plan_by};

/// What a second endpoint would be asked.
pub(super) struct Second<'a> {
    pub(super) lane: &'a Lane,
    pub(super) route: &'a Route,
    pub(super) outgoing: &'a Outgoing,
    pub(super) source: &'a Source,
    /// What the request says of the endpoint that it belongs to.
    pub(super) hash: Option<u64>,
    /// The first, and how its service's traffic is handled.
    pub(super) first: Option<WorkloadUid>,
    pub(super) guide: Option<&'a Guide>,
}

/// An answer of the second endpoint, and the way to it.
pub(super) struct Won {
    pub(super) plan: Plan,
    pub(super) guide: Guide,
}

/// After how long a request is given to a second endpoint; none: never.
pub(super) fn after(guide: Option<&Guide>, outgoing: &Outgoing, source: &Source) -> Option<Duration> {
    let after = guide.and_then(Guide::handling).and_then(|it| it.hedge_after)?;
    let may = is_idempotent(&outgoing.method) && source.is_over() && !outgoing.is_upgrade();
    may.then_some(after)
}

/// The first answer of the two, and who has given it, if it is the second. A failure is the first's.
pub(super) async fn either(
    first: impl Future<Output = Result<Got, Failure>>,
    after: Duration,
    second: Second<'_>,
) -> (Result<Got, Failure>, Option<Won>) {
    let mut first = std::pin::pin!(first);
    // Cancel-safe, both: the first goes on below.
    tokio::select! {
        came = first.as_mut() => return (came, None),
        () = sleep(after) => {}
    }
    let (lane, of_first) = (second.lane, second.guide);
    let mut other = Box::pin(second.send());
    // Cancel-safe: whoever is second is not needed any more, and its connection is closed.
    tokio::select! {
        came = first.as_mut() => match came {
            Ok(got) => (Ok(got), None),
            Err(failure) => match heard(lane, other.await) {
                Some((got, won)) => {
                    // Nobody else tells of it: what came of the two is an answer.
                    failed(lane, of_first, &failure);
                    (Ok(got), Some(won))
                }
                None => (Err(failure), None),
            },
        },
        came = other.as_mut() => match heard(lane, came) {
            Some((got, won)) => (Ok(got), Some(won)),
            None => (first.await, None),
        },
    }
}

/// The second's answer, if it is one; else it counts against that endpoint, and nothing is said of it.
fn heard(lane: &Lane, came: Option<(Result<Got, Failure>, Won)>) -> Option<(Got, Won)> {
    match came? {
        (Ok(got), won) => Some((got, won)),
        (Err(failure), won) => {
            failed(lane, Some(&won.guide), &failure);
            None
        }
    }
}

fn failed(lane: &Lane, guide: Option<&Guide>, failure: &Failure) {
    if let (Some(guide), Some(came)) = (guide, failure.came()) {
        guide.came(lane, came);
    }
}

impl Second<'_> {
    /// Sends the request to another endpoint; nothing, if there is none, as many are tried again as may be, or there is
    /// too much to do already.
    async fn send(self) -> Option<(Result<Got, Failure>, Won)> {
        let Self { lane, route, outgoing, source, hash, first, .. } = self;
        if pressure::takes(lane, Measure::NoHedge) {
            return None;
        }
        let guide = Guide::of(lane, &route.to)?;
        let _counted = guide.retry(lane)?;
        let mut hints = Hints { avoid: first.iter().cloned().collect(), ..Hints::default() };
        let by = By { guide: Some(&guide), hash, asked: None };
        let plan = plan_by(lane, &route.to, &mut hints, &by).await.ok()?;
        let other = endpoint(&plan).map(|it| &it.uid);
        if other.is_none() || other == first.as_ref() {
            return None;
        }
        let request = Box::new(outgoing.request(2, outgoing.http2, source.lend()?));
        let begun = guide.begin();
        count(lane, &guide, "sent");
        let by = (Some(&guide), outgoing.ends);
        let sent = Box::pin(Lines::send_by(lane, &plan, outgoing.http2, request, by));
        let came = within(route.timeouts().backend_request.after(), sent).await;
        let came = came.map(|mut got| {
            got.lease.keep(begun);
            count(lane, &guide, "answered");
            got
        });
        Some((came, Won { plan, guide }))
    }
}

fn count(lane: &Lane, guide: &Guide, reason: &'static str) {
    let labels = Governed { service: names(Some(guide.service())), reason };
    lane.shared.metrics.hedges.get_or_create(&labels).inc();
}
