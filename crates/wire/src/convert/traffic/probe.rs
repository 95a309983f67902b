//! How endpoints are asked how they are. Owns that message.

use ambit_model::traffic::{Ask, Probe};

use super::super::ConvertError;
use super::{after, ms};
use crate::limits;
use crate::pb::waypoint as pb;

pub(super) fn probe_from_pb(raw: pb::Probe) -> Result<Probe, ConvertError> {
    use pb::probe::Ask as Raw;
    let pb::Probe { ask, interval_ms, timeout_ms, unhealthy, healthy } = raw;
    let text = |field, text: String| super::super::text(field, limits::ROUTE_TEXT, text).map(Into::into);
    let ask = match ask.ok_or(ConvertError::NoAlternative { field: "probe.ask" })? {
        Raw::Tcp(_) => Ask::Tcp,
        Raw::Http(pb::HttpProbe { path, host, good_from, good_to }) => Ask::Http {
            path: text("probe.http.path", path)?,
            host: (!host.is_empty()).then(|| text("probe.http.host", host)).transpose()?,
            good: status("probe.http.good_from", good_from)?..=status("probe.http.good_to", good_to)?,
        },
        Raw::Grpc(service) => Ask::Grpc { service: text("probe.grpc", service)? },
    };
    Ok(Probe { ask, interval: after(interval_ms), timeout: after(timeout_ms), unhealthy, healthy })
}

fn status(field: &'static str, raw: u32) -> Result<u16, ConvertError> {
    let value = || ConvertError::Value { field, value: raw.to_string(), wanted: "a status" };
    u16::try_from(raw).ok().filter(|it| (100..600).contains(it)).ok_or_else(value)
}

pub(super) fn probe_to_pb(probe: &Probe) -> pb::Probe {
    use pb::probe::Ask as Raw;
    let Probe { ask, interval, timeout, unhealthy, healthy } = probe;
    let ask = match ask {
        Ask::Tcp => Raw::Tcp(true),
        Ask::Http { path, host, good } => Raw::Http(pb::HttpProbe {
            path: path.to_string(),
            host: host.as_deref().unwrap_or_default().to_owned(),
            good_from: (*good.start()).into(),
            good_to: (*good.end()).into(),
        }),
        Ask::Grpc { service } => Raw::Grpc(service.to_string()),
    };
    pb::Probe {
        ask: Some(ask),
        interval_ms: ms(*interval),
        timeout_ms: ms(*timeout),
        unhealthy: *unhealthy,
        healthy: *healthy,
    }
}
