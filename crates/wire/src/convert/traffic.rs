//! How services' traffic is handled. Owns that message, which is of our own schema: what cannot be read is refused whole,
//! and the former version stays in force.

mod origination;
mod place;
mod probe;
mod rules;

use std::collections::BTreeMap;
use std::time::Duration;

use ambit_model::http_route::Broken;
use ambit_model::name::WorkloadUid;
use ambit_model::traffic::{Adaptive, Handling, Proxied, Subset, Traffic};

use self::origination::{origination_from_pb, origination_to_pb};
use self::place::{near_from_pb, near_to_pb};
use self::probe::{probe_from_pb, probe_to_pb};
use self::rules::{
    balance_from_pb, balance_to_pb, budget_from_pb, budget_to_pb, limits_from_pb, limits_to_pb,
    outlier_from_pb, outlier_to_pb, warmup_from_pb, warmup_to_pb,
};
use super::{ConvertError, check_count, name, port, text};
use crate::limits;
use crate::pb::waypoint as pb;

/// How a service's traffic is handled, from its message.
pub fn traffic_from_pb(raw: pb::Traffic) -> Result<Traffic, ConvertError> {
    let pb::Traffic { service, handling, ports, subsets } = raw;
    check_count("subsets", limits::TRAFFIC_SUBSETS, subsets.len())?;
    Ok(Traffic {
        service: name("service", &service)?,
        handling: given(handling)?,
        ports: ports_from_pb(ports)?,
        subsets: subsets
            .into_iter()
            .map(|raw| Ok((text("subsets.name", limits::ROUTE_TEXT, raw.name.clone())?.into(), subset(raw)?)))
            .collect::<Result<_, ConvertError>>()?,
    })
}

fn subset(raw: pb::Subset) -> Result<Subset, ConvertError> {
    let pb::Subset { name: _, members, handling, ports } = raw;
    check_count("subsets.members", limits::TRAFFIC_MEMBERS, members.len())?;
    Ok(Subset {
        members: members.into_iter().map(WorkloadUid::from).collect(),
        handling: given(handling)?,
        ports: ports_from_pb(ports)?,
    })
}

fn ports_from_pb(raw: Vec<pb::PortHandling>) -> Result<BTreeMap<u16, Handling>, ConvertError> {
    check_count("ports", limits::TRAFFIC_PORTS, raw.len())?;
    let one = |raw: pb::PortHandling| {
        let pb::PortHandling { port: number, handling } = raw;
        Ok((port("ports.port", number)?, given(handling)?))
    };
    raw.into_iter().map(one).collect()
}

fn given(raw: Option<pb::Handling>) -> Result<Handling, ConvertError> {
    let pb::Handling {
        balance,
        near,
        warmup,
        limits,
        outlier,
        retry_budget,
        closed,
        tls,
        probe,
        hedge_after_ms,
        adaptive,
        proxied,
    } = raw.unwrap_or_default();
    Ok(Handling {
        balance: balance_from_pb(balance)?,
        near: near_from_pb(near)?,
        warmup: warmup.map(warmup_from_pb),
        limits: limits_from_pb(limits.unwrap_or_default())?,
        outlier: outlier.map(outlier_from_pb),
        retry_budget: retry_budget.map(budget_from_pb),
        tls: tls.map(origination_from_pb).transpose()?,
        probe: probe.map(probe_from_pb).transpose()?,
        hedge_after: hedge_after_ms.map(after),
        adaptive: adaptive.map(|pb::Adaptive { least, most }| Adaptive { least, most }),
        proxied: match proxied {
            0 => None,
            1 => Some(Proxied::V1),
            2 => Some(Proxied::V2),
            other => {
                let wanted = "a version of the PROXY header, 1 or 2";
                return Err(ConvertError::Value { field: "proxied", value: other.to_string(), wanted });
            }
        },
        closed: match closed.as_str() {
            "" => None,
            why => Some(Broken::because(limits::shortened(why, limits::ROUTE_TEXT))),
        },
    })
}

/// Its message.
#[must_use]
pub fn traffic_to_pb(traffic: &Traffic) -> pb::Traffic {
    let Traffic { service, handling, ports, subsets } = traffic;
    let subset = |(name, subset): (&ambit_model::name::Label, &Subset)| {
        let Subset { members, handling, ports } = subset;
        pb::Subset {
            name: name.to_string(),
            members: members.iter().map(ToString::to_string).collect(),
            handling: Some(handling_to_pb(handling)),
            ports: ports_to_pb(ports),
        }
    };
    pb::Traffic {
        service: service.to_string(),
        handling: Some(handling_to_pb(handling)),
        ports: ports_to_pb(ports),
        subsets: subsets.iter().map(subset).collect(),
    }
}

fn ports_to_pb(ports: &BTreeMap<u16, Handling>) -> Vec<pb::PortHandling> {
    let one = |(port, handling): (&u16, &Handling)| pb::PortHandling {
        port: (*port).into(),
        handling: Some(handling_to_pb(handling)),
    };
    ports.iter().map(one).collect()
}

fn handling_to_pb(handling: &Handling) -> pb::Handling {
    let Handling {
        balance,
        near,
        warmup,
        limits,
        outlier,
        probe,
        hedge_after,
        adaptive,
        retry_budget,
        tls,
        proxied,
        closed,
    } = handling;
    pb::Handling {
        balance: balance_to_pb(balance),
        near: near_to_pb(near),
        warmup: warmup.map(warmup_to_pb),
        limits: Some(limits_to_pb(limits)),
        outlier: outlier.as_ref().map(outlier_to_pb),
        retry_budget: retry_budget.map(budget_to_pb),
        closed: closed.as_ref().map(ToString::to_string).unwrap_or_default(),
        tls: tls.as_ref().map(origination_to_pb),
        probe: probe.as_ref().map(probe_to_pb),
        hedge_after_ms: hedge_after.map(ms),
        adaptive: adaptive.map(|Adaptive { least, most }| pb::Adaptive { least, most }),
        proxied: match proxied {
            None => 0,
            Some(Proxied::V1) => 1,
            Some(Proxied::V2) => 2,
        },
    }
}

fn after(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Whole milliseconds; nothing is made none by being short.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
