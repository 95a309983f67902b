//! Questions to rate limit services, and what they answer (`waypoint.md` 4.10), as Envoy and those who work with it
//! write them. Owns both messages; who is asked, and what follows, is a waypoint's.

use std::time::Duration;

use ambit_model::provider::{HeaderChange, HeaderChanges, How};
use ambit_model::rate_limit::{Described, Left, Ruling};
use bytes::Bytes;
use http::header::{InvalidHeaderName, InvalidHeaderValue};
use http::{HeaderName, HeaderValue};
use prost::Message;

use crate::pb::ratelimit as pb;
use crate::pb::ratelimit::rate_limit_response::{Code, DescriptorStatus};

/// The method that is called.
pub const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// It does not read.
    #[error("the answer does not read")]
    Unread(#[from] prost::DecodeError),
    /// It does not say whether there are too many.
    #[error("the answer has the code {0}, which is neither OK nor OVER_LIMIT")]
    Undecided(i32),
    /// A name in it is none of a header.
    #[error("{0:?} is no header")]
    Name(String, #[source] InvalidHeaderName),
    /// No header has such a value.
    #[error("the value of {0:?} is none")]
    Value(String, #[source] InvalidHeaderValue),
}

/// A question as it is sent.
#[must_use]
pub fn question(domain: &str, descriptors: Vec<Described>, hits: u32) -> Bytes {
    let entry = |(key, value)| pb::rate_limit_descriptor::Entry { key, value };
    let descriptor = |it: Described| pb::RateLimitDescriptor { entries: it.into_iter().map(entry).collect() };
    let descriptors = descriptors.into_iter().map(descriptor).collect();
    pb::RateLimitRequest { domain: domain.into(), descriptors, hits_addend: hits }.encode_to_vec().into()
}

/// What an answer says.
///
/// # Errors
/// When it is none.
pub fn answer(bytes: Bytes) -> Result<Ruling, QuotaError> {
    let pb::RateLimitResponse {
        overall_code,
        statuses,
        response_headers_to_add,
        request_headers_to_add,
        raw_body,
    } = pb::RateLimitResponse::decode(bytes)?;
    let is_over = match Code::try_from(overall_code) {
        Ok(Code::Ok) => false,
        Ok(Code::OverLimit) => true,
        Ok(Code::Unknown) | Err(_) => return Err(QuotaError::Undecided(overall_code)),
    };
    Ok(Ruling {
        is_over,
        request: added(request_headers_to_add)?,
        back: added(response_headers_to_add)?,
        body: raw_body.into(),
        left: statuses.into_iter().filter_map(left).reduce(Left::scarcer),
    })
}

/// What is left of a descriptor's limit, if it has one.
fn left(status: DescriptorStatus) -> Option<Left> {
    let DescriptorStatus { code: _, current_limit, limit_remaining, duration_until_reset } = status;
    let most = current_limit?.requests_per_unit;
    let reset = duration_until_reset.and_then(|it| Duration::try_from(it).ok()).unwrap_or_default();
    Some(Left { most, left: limit_remaining, reset })
}

fn added(raw: Vec<pb::HeaderValue>) -> Result<HeaderChanges, QuotaError> {
    let mut changes = HeaderChanges::default();
    for pb::HeaderValue { key, value, raw_value } in raw {
        let name: HeaderName = key.parse().map_err(|error| QuotaError::Name(key.clone(), error))?;
        let bytes = if value.is_empty() { raw_value } else { value.into() };
        let value = HeaderValue::from_maybe_shared(bytes).map_err(|error| QuotaError::Value(key, error))?;
        // What belongs to the connection stays as it is, whatever is said of it.
        let _ = changes.push(HeaderChange { name, value, how: How::Append });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests;
