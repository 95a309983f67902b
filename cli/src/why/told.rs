//! What a waypoint knows, as it tells it: its dump, and the resources that only waypoints are told. Owns making one
//! world of both, and who the waypoint is in it.

use ambit_model::address::NetworkAddress;
use ambit_model::name::{NameError, ServiceKey};
use ambit_model::route::Waypoint;
use ambit_model::snapshot::Snapshot;
use ambit_wire::local::{LinesError, LocalError, read_dump, read_lines};
use serde_json::Value;

use super::find::{self, Unclear};

/// Where a waypoint's dump is.
pub(crate) const DUMP: &str = "/config_dump";
/// And the resources.
pub(crate) const RESOURCES: &str = "/resources";

/// What a waypoint said.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// Of [`DUMP`].
    pub(crate) dump: String,
    /// Of [`RESOURCES`].
    pub(crate) resources: String,
}

/// What a waypoint said cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToldError {
    /// Its dump.
    #[error("the waypoint's dump cannot be read")]
    Dump(#[from] LocalError),
    /// Its resources.
    #[error("the waypoint's resources cannot be read")]
    Resources(#[from] LinesError),
    /// Whose it is.
    #[error("the waypoint does not say which Gateway it is of; use the version of ambit that it is of")]
    Gateway,
    /// That is no name.
    #[error("the waypoint's Gateway is refused")]
    Name(#[from] NameError),
    /// It does not know itself.
    #[error(transparent)]
    Unclear(#[from] Unclear),
}

impl Told {
    /// The world that the waypoint `<namespace>/<pod>` decides by, and what it is called in there.
    pub(super) fn read(&self, pod: &str) -> Result<(Snapshot, Waypoint), ToldError> {
        let world = Snapshot::default().with(&read_dump(&self.dump)?).with(&read_lines(&self.resources)?);
        let whole: Value = serde_json::from_str(&self.dump).map_err(|_| ToldError::Gateway)?;
        let gateway = whole.get("gateway").and_then(Value::as_str).ok_or(ToldError::Gateway)?;
        let service: ServiceKey = gateway.parse()?;
        // One that does not say is called as its service.
        let called = service.hostname.as_str().split('.').next().unwrap_or_default();
        let named = whole.get("gatewayName").and_then(Value::as_str).unwrap_or(called).into();
        let itself = find::source(&world, pod)?;
        let network = itself.network.clone();
        let own = itself.addresses.iter().map(|ip| NetworkAddress::new(network.clone(), *ip)).collect();
        Ok((world, Waypoint { gateway: named, service, network, addresses: own }))
    }
}
