//! What requests meet in the place of a backend.

use std::time::Duration;

use ambit_model::http_route::{Abort, AbortWith, Delay, Direct, Fault, Share};

use super::ms;
use crate::convert::ConvertError;
use crate::limits;
use crate::pb::waypoint as pb;

pub(super) fn direct_from_pb(raw: pb::Direct) -> Result<Direct, ConvertError> {
    const FIELD: &str = "direct.body";
    let pb::Direct { status, body } = raw;
    let (found, limit) = (body.len(), limits::DIRECT_BODY);
    if found > limit {
        return Err(ConvertError::TooLong { field: FIELD, found, limit });
    }
    Ok(Direct { status: answer("direct.status", status)?, body: body.as_ref().into() })
}

pub(super) fn fault_from_pb(raw: pb::Fault) -> Result<Fault, ConvertError> {
    let pb::Fault { delay, abort } = raw;
    Ok(Fault { delay: delay.map(wait).transpose()?, abort: abort.map(end).transpose()? })
}

fn wait(raw: pb::Delay) -> Result<Delay, ConvertError> {
    let pb::Delay { time_ms, parts, whole } = raw;
    let time = Duration::from_millis(time_ms);
    if time > limits::FAULT_DELAY {
        let wanted = "at most ten minutes";
        return Err(ConvertError::Value { field: "fault.delay", value: format!("{time_ms} ms"), wanted });
    }
    Ok(Delay { time, share: share("fault.delay.parts", parts, whole)? })
}

fn end(raw: pb::Abort) -> Result<Abort, ConvertError> {
    const FIELD: &str = "fault.abort";
    let pb::Abort { with, parts, whole } = raw;
    let with = match with.ok_or(ConvertError::NoAlternative { field: FIELD })? {
        pb::abort::With::Http(status) => AbortWith::Http(answer(FIELD, status)?),
        pb::abort::With::Grpc(status) => {
            let refused = || ConvertError::Value {
                field: FIELD,
                value: status.to_string(),
                wanted: "a status of gRPC",
            };
            let known = u16::try_from(status).ok().filter(|status| *status <= 16);
            AbortWith::Grpc(known.ok_or_else(refused)?)
        }
    };
    Ok(Abort { with, share: share("fault.abort.parts", parts, whole)? })
}

/// The status of an answer that is final.
fn answer(field: &'static str, status: u32) -> Result<u16, ConvertError> {
    let refused =
        || ConvertError::Value { field, value: status.to_string(), wanted: "a status from 200 to 599" };
    u16::try_from(status).ok().filter(|status| (200..600).contains(status)).ok_or_else(refused)
}

fn share(field: &'static str, parts: u32, whole: u32) -> Result<Share, ConvertError> {
    let refused =
        || ConvertError::Value { field, value: format!("{parts}/{whole}"), wanted: "a share of at most all" };
    Share::new(parts, whole).ok_or_else(refused)
}

pub(super) fn direct_to_pb(direct: &Direct) -> pb::Direct {
    let Direct { status, body } = direct;
    pb::Direct { status: (*status).into(), body: body.to_vec().into() }
}

pub(super) fn fault_to_pb(fault: &Fault) -> pb::Fault {
    let Fault { delay, abort } = fault;
    let delay = delay.map(|Delay { time, share }| pb::Delay {
        time_ms: ms(time),
        parts: share.parts(),
        whole: share.whole(),
    });
    let abort = abort.map(|Abort { with, share }| pb::Abort {
        with: Some(match with {
            AbortWith::Http(status) => pb::abort::With::Http(status.into()),
            AbortWith::Grpc(status) => pb::abort::With::Grpc(status.into()),
        }),
        parts: share.parts(),
        whole: share.whole(),
    });
    pb::Fault { delay, abort }
}
