//! What the place of an endpoint has to do with its choice. Owns those messages.

use ambit_model::service::Scope;
use ambit_model::traffic::{Near, Place, Shares, Wanted};

use super::super::{ConvertError, check_count};
use crate::limits;
use crate::pb::waypoint as pb;

const SCOPES: [(Scope, &str); 6] = [
    (Scope::Region, "region"),
    (Scope::Zone, "zone"),
    (Scope::Subzone, "subzone"),
    (Scope::Node, "node"),
    (Scope::Cluster, "cluster"),
    (Scope::Network, "network"),
];

pub(super) fn near_from_pb(raw: Option<pb::Near>) -> Result<Near, ConvertError> {
    use pb::near::Kind;
    let Some(pb::Near { kind }) = raw else { return Ok(Near::Unsaid) };
    let few = |field, count| check_count(field, limits::TRAFFIC_LIST, count);
    Ok(match kind.ok_or(ConvertError::NoAlternative { field: "near" })? {
        Kind::Ignored(_) => Near::Ignored,
        Kind::Failover(pb::Failovers { ways }) => {
            few("near.failover", ways.len())?;
            let way = |pb::Failover { from, to }: pb::Failover| (from.into(), to.into());
            Near::Failover(ways.into_iter().map(way).collect())
        }
        Kind::Priority(pb::Priorities { wanted }) => {
            few("near.priority", wanted.len())?;
            Near::Priority(wanted.into_iter().map(self::wanted).collect::<Result<_, _>>()?)
        }
        Kind::Shares(pb::Distribution { shares }) => {
            few("near.shares", shares.iter().map(|it| it.to.len()).sum::<usize>().max(shares.len()))?;
            Near::Shares(shares.into_iter().map(self::shares).collect())
        }
    })
}

fn wanted(raw: pb::Wanted) -> Result<Wanted, ConvertError> {
    let pb::Wanted { scope, value } = raw;
    let found = SCOPES.into_iter().find(|(_, name)| *name == scope);
    let (scope, _) = found.ok_or(ConvertError::Value {
        field: "near.priority.scope",
        value: scope,
        wanted: "region, zone, subzone, node, cluster or network",
    })?;
    Ok(Wanted { scope, value: value.map(Into::into) })
}

fn shares(raw: pb::Shares) -> Shares {
    let pb::Shares { from, to } = raw;
    let share = |pb::PlaceShare { place, share }: pb::PlaceShare| (Place::read(&place), share);
    Shares { from: Place::read(&from), to: to.into_iter().map(share).collect() }
}

pub(super) fn near_to_pb(near: &Near) -> Option<pb::Near> {
    use pb::near::Kind;
    let kind = match near {
        Near::Unsaid => return None,
        Near::Ignored => Kind::Ignored(true),
        Near::Failover(ways) => {
            let ways =
                ways.iter().map(|(from, to)| pb::Failover { from: from.to_string(), to: to.to_string() });
            Kind::Failover(pb::Failovers { ways: ways.collect() })
        }
        Near::Priority(all) => {
            let wanted = all.iter().map(|Wanted { scope, value }| pb::Wanted {
                scope: scope_name(*scope).into(),
                value: value.as_ref().map(ToString::to_string),
            });
            Kind::Priority(pb::Priorities { wanted: wanted.collect() })
        }
        Near::Shares(all) => {
            let place =
                |(place, share): &(Place, u32)| pb::PlaceShare { place: place.to_string(), share: *share };
            let shares = all.iter().map(|Shares { from, to }| pb::Shares {
                from: from.to_string(),
                to: to.iter().map(place).collect(),
            });
            Kind::Shares(pb::Distribution { shares: shares.collect() })
        }
    };
    Some(pb::Near { kind: Some(kind) })
}

fn scope_name(scope: Scope) -> &'static str {
    SCOPES.into_iter().find(|(it, _)| *it == scope).map_or("", |(_, name)| name)
}
