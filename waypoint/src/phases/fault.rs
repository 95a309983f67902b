//! Faults that a route puts in the way of requests (`waypoint.md` 1.5, 4.1): first the wait, then the end. Owns carrying
//! them out; which requests they take is chance's, as `model::http_route` asks it.

use ambit_model::http_route::Fault;
use tokio::time::sleep;

use super::record::Record;
use crate::refused::Refused;
use crate::upstream::Chance;

/// Holds a request up, or ends it. A client that leaves meanwhile is not waited for.
pub(crate) async fn inject(record: &mut Record, fault: &Fault) -> Result<(), Refused> {
    if let Some(time) = fault.waits(&mut Chance) {
        record.held(time);
        sleep(time).await;
    }
    match fault.ends(&mut Chance) {
        None => Ok(()),
        Some(with) => Err(Refused::Aborted(with)),
    }
}
