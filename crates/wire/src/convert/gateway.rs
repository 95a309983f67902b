//! References to waypoints and network gateways. One without a destination is refused, never ignored: traffic
//! that should pass a waypoint must not go past it.

use ambit_model::name::ServiceKey;
use ambit_model::workload::{GatewayDestination, GatewayRef};

use super::address::{Place, address_to_pb, place_from_pb};
use super::{ConvertError, name, port};
use crate::pb::workload as pb;
use crate::pb::workload::gateway_address::Destination;

pub(super) fn from_pb(field: &'static str, raw: pb::GatewayAddress) -> Result<GatewayRef, ConvertError> {
    let pb::GatewayAddress { hbone_mtls_port, destination } = raw;
    let destination = match destination {
        None => return Err(ConvertError::NoAlternative { field }),
        Some(Destination::Hostname(pb::NamespacedHostname { namespace, hostname })) => {
            let key = ServiceKey { namespace: name(field, &namespace)?, hostname: name(field, &hostname)? };
            GatewayDestination::Host(key)
        }
        Some(Destination::Address(raw)) => match place_from_pb(field, raw)? {
            Place::Address(address) => GatewayDestination::Address(address),
            // A range is no place to dial.
            Place::Range(_) => return Err(ConvertError::NoAlternative { field }),
        },
    };
    Ok(GatewayRef { destination, hbone_port: port(field, hbone_mtls_port)? })
}

/// As [`from_pb`], where a reference may be absent.
pub(super) fn maybe_from_pb(
    field: &'static str,
    raw: Option<pb::GatewayAddress>,
) -> Result<Option<GatewayRef>, ConvertError> {
    raw.map(|raw| from_pb(field, raw)).transpose()
}

pub(super) fn to_pb(gateway: &GatewayRef) -> pb::GatewayAddress {
    let GatewayRef { destination, hbone_port } = gateway;
    let destination = match destination {
        GatewayDestination::Host(ServiceKey { namespace, hostname }) => {
            Destination::Hostname(pb::NamespacedHostname {
                namespace: namespace.to_string(),
                hostname: hostname.to_string(),
            })
        }
        GatewayDestination::Address(address) => Destination::Address(address_to_pb(address)),
    };
    pb::GatewayAddress { hbone_mtls_port: (*hbone_port).into(), destination: Some(destination) }
}
