//! Where a request goes (`waypoint.md` 2.1). Owns asking; the decision is the model's.

use ambit_model::http_route::Retry;
use ambit_model::route::Bound;
use http::request::Parts;

use crate::refused::Refused;
use crate::stream::Inbound;

/// Where a request goes, and how it is tried.
pub(crate) struct Route {
    pub(crate) to: Bound,
    pub(crate) retry: Retry,
}

/// Finds it.
#[expect(clippy::unnecessary_wraps, reason = "every other phase may refuse, too")]
pub(crate) fn route(inbound: &Inbound, _parts: &Parts) -> Result<Route, Refused> {
    Ok(Route { to: inbound.bound.clone(), retry: Retry::unasked() })
}
