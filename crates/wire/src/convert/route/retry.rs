//! What is tried again.

use std::time::Duration;

use ambit_model::http_route::{Retry, RetryOn};

use super::{at_most, check_count, ms};
use crate::convert::{ConvertError, known};
use crate::limits;
use crate::pb::waypoint as pb;

pub(super) fn retry_from_pb(raw: pb::Retry) -> Result<Retry, ConvertError> {
    let pb::Retry { attempts, codes, on, backoff_ms, base_ms, same_again, moves_on } = raw;
    check_count("retry.attempts", limits::RETRIES, usize::try_from(attempts).unwrap_or(usize::MAX))?;
    let codes = at_most("retry.codes", limits::RETRY_CODES, codes)?;
    let on = at_most("retry.on", limits::RETRY_CODES, on)?;
    Ok(Retry {
        attempts,
        codes: codes.into_iter().map(code).collect::<Result<_, _>>()?,
        on: on.into_iter().map(event).collect::<Result<_, _>>()?,
        backoff: backoff_ms.map(Duration::from_millis),
        base: base_ms.map(Duration::from_millis),
        same_again,
        moves_on,
    })
}

fn code(raw: u32) -> Result<u16, ConvertError> {
    let refused = || ConvertError::Value {
        field: "retry.codes",
        value: raw.to_string(),
        wanted: "a status code of at least 400",
    };
    u16::try_from(raw).ok().filter(|code| (400..600).contains(code)).ok_or_else(refused)
}

fn event(raw: i32) -> Result<RetryOn, ConvertError> {
    const FIELD: &str = "retry.on";
    Ok(match known(FIELD, raw)? {
        pb::RetryOn::Unspecified => return Err(ConvertError::UnknownValue { field: FIELD, value: raw }),
        pb::RetryOn::Any5xx => RetryOn::Any5xx,
        pb::RetryOn::GatewayError => RetryOn::GatewayError,
        pb::RetryOn::Conflict => RetryOn::Conflict,
        pb::RetryOn::RateLimited => RetryOn::RateLimited,
        pb::RetryOn::Reset => RetryOn::Reset,
        pb::RetryOn::ResetBeforeRequest => RetryOn::ResetBeforeRequest,
        pb::RetryOn::ConnectFailure => RetryOn::ConnectFailure,
        pb::RetryOn::RefusedStream => RetryOn::RefusedStream,
        pb::RetryOn::AttemptTimeout => RetryOn::AttemptTimeout,
        pb::RetryOn::Cancelled => RetryOn::Cancelled,
        pb::RetryOn::DeadlineExceeded => RetryOn::DeadlineExceeded,
        pb::RetryOn::Internal => RetryOn::Internal,
        pb::RetryOn::ResourceExhausted => RetryOn::ResourceExhausted,
        pb::RetryOn::Unavailable => RetryOn::Unavailable,
    })
}

pub(super) fn retry_to_pb(retry: &Retry) -> pb::Retry {
    let Retry { attempts, codes, on, backoff, base, same_again, moves_on } = retry;
    pb::Retry {
        attempts: *attempts,
        codes: codes.iter().copied().map(u32::from).collect(),
        on: on.iter().map(|event| event_to_pb(*event).into()).collect(),
        backoff_ms: backoff.map(ms),
        base_ms: base.map(ms),
        same_again: *same_again,
        moves_on: *moves_on,
    }
}

fn event_to_pb(event: RetryOn) -> pb::RetryOn {
    match event {
        RetryOn::Any5xx => pb::RetryOn::Any5xx,
        RetryOn::GatewayError => pb::RetryOn::GatewayError,
        RetryOn::Conflict => pb::RetryOn::Conflict,
        RetryOn::RateLimited => pb::RetryOn::RateLimited,
        RetryOn::Reset => pb::RetryOn::Reset,
        RetryOn::ResetBeforeRequest => pb::RetryOn::ResetBeforeRequest,
        RetryOn::ConnectFailure => pb::RetryOn::ConnectFailure,
        RetryOn::RefusedStream => pb::RetryOn::RefusedStream,
        RetryOn::AttemptTimeout => pb::RetryOn::AttemptTimeout,
        RetryOn::Cancelled => pb::RetryOn::Cancelled,
        RetryOn::DeadlineExceeded => pb::RetryOn::DeadlineExceeded,
        RetryOn::Internal => pb::RetryOn::Internal,
        RetryOn::ResourceExhausted => pb::RetryOn::ResourceExhausted,
        RetryOn::Unavailable => pb::RetryOn::Unavailable,
    }
}
