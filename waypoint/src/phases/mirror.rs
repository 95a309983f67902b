//! Copies of requests (`waypoint.md` 2.8): sent beside the request itself, which never waits for them. Owns how many
//! there may be at a time, and that nobody hears of their answers.

use std::sync::Arc;
use std::time::Duration;

use ambit_model::route::{Bound, Hints};
use http::uri::Authority;
use http_body::Body as _;
use tokio::time::timeout;
use tracing::debug;

use super::record::Record;
use super::rewrite::Outgoing;
use super::route::Route;
use crate::body::{Source, Upload};
use crate::lane::Lane;
use crate::pressure::{self, Measure};
use crate::upstream::{Lines, look_up, plan};

/// Copies under way from one thread; more are not made.
const COPIES: usize = 256;
/// A copy is given up after this, with its answer.
const WAIT: Duration = Duration::from_secs(60);

/// Sends the copies that a route asks for. Before the first attempt: they see the body from its beginning.
pub(crate) fn mirror(record: &Record, outgoing: &Outgoing, source: &Source, route: &Route) {
    for to in &route.mirrors {
        let lane = record.lane();
        if pressure::takes(&lane, Measure::NoMirror) {
            continue;
        }
        let Some(seat) = lane.copies.add_below(COPIES) else {
            debug!("too many copies of requests at a time, this one is not made");
            continue;
        };
        let (copy, upload, to) = (outgoing.copy(route, to), source.copy(), to.clone());
        let crew = lane.crew.clone();
        crew.add("mirror", async move {
            if timeout(WAIT, Box::pin(send(&lane, copy, upload, to))).await.is_err() {
                debug!("a copy of a request took too long");
            }
            drop(seat);
        });
    }
}

/// Sends one copy, and reads its answer to nobody.
async fn send(lane: &Arc<Lane>, copy: Outgoing, upload: Upload, to: Bound) {
    let mut hints = Hints::default();
    let asked = copy.authority.as_ref().map(Authority::as_str);
    if look_up(lane, &to, asked, &mut hints).await.is_err() {
        return;
    }
    let Ok(plan) = plan(lane, &to, &mut hints).await else { return };
    let sent =
        Box::pin(Lines::send(lane, (&to, &plan), copy.http2, copy.request(1, copy.http2, upload))).await;
    let Ok(got) = sent else { return };
    let mut body = got.response.into_body();
    while let Some(Ok(_)) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {}
    drop(got.lease);
}
