//! Messages to the model and back, a file per noun. Here raw messages die: what comes out is valid, what is not
//! valid is an error that names field and value. Messages are taken apart completely, so that a field added to a
//! schema does not compile until somebody has said what it means.

mod address;
mod authentication;
mod collector;
mod credential;
mod ext_proc;
mod gateway;
mod line;
mod policy;
mod provider;
mod rate_limit;
mod request_policy;
mod resource;
mod route;
mod service;
mod telemetry;
mod traffic;
mod workload;

pub use authentication::{authentication_from_pb, authentication_to_pb};
pub use credential::{credential_from_pb, credential_to_pb};
pub use ext_proc::{ext_proc_from_pb, ext_proc_to_pb};
pub use policy::{policy_from_pb, policy_to_pb};
pub use provider::{provider_from_pb, provider_to_pb};
pub use rate_limit::{rate_limit_from_pb, rate_limit_to_pb};
pub use request_policy::{request_policy_from_pb, request_policy_to_pb};
pub use resource::{Decoded, Encoded, ResourceKey, ResourceType, decode, encode};
pub use route::{route_from_pb, route_to_pb};
pub use service::{service_from_pb, service_to_pb};
pub use telemetry::{telemetry_from_pb, telemetry_to_pb};
pub use traffic::{traffic_from_pb, traffic_to_pb};
pub use workload::{workload_from_pb, workload_to_pb};

use ambit_model::http_route::{
    OriginError, PathTextError, PatternError, Protected, ServerNameError, SubstitutionError,
};
use ambit_model::name::NameError;
use ambit_model::rate_limit::RateError;
use ambit_model::request_policy::TemplateError;

/// Why a message is no noun of the model. Every variant but the first names the field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConvertError {
    /// Bytes that are no such message.
    #[error("the resource does not decode")]
    Undecodable(#[from] prost::DecodeError),
    /// A resource without a payload, or of another type than its response says.
    #[error("the resource is of type {found:?}, wanted {wanted:?}")]
    WrongType {
        /// The type found.
        found: String,
        /// The type of the response.
        wanted: &'static str,
    },
    /// A resource larger than is accepted.
    #[error("the resource has {found} bytes, more than {limit}")]
    TooLarge {
        /// Its size.
        found: usize,
        /// What is accepted.
        limit: usize,
    },
    /// A resource that is named otherwise than what it holds: it could not be removed again.
    #[error("the resource is named {name:?} and holds {key}")]
    Misnamed {
        /// The resource's name.
        name: String,
        /// What its content is called.
        key: ResourceKey,
    },
    /// A choice of which nothing was chosen, or something newer than this program.
    #[error("{field} holds none of the known alternatives")]
    NoAlternative {
        /// The field.
        field: &'static str,
    },
    /// A name that is none.
    #[error("{field} is refused")]
    Name {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        source: NameError,
    },
    /// An address that has neither 4 nor 16 bytes.
    #[error("{field} has {found} bytes; an address has 4 or 16")]
    AddressLength {
        /// The field.
        field: &'static str,
        /// How many it has.
        found: usize,
    },
    /// A prefix that is longer than its address.
    #[error("{field} is {found}, longer than the address ({limit} bits)")]
    PrefixLength {
        /// The field.
        field: &'static str,
        /// The length.
        found: u32,
        /// The address's.
        limit: u8,
    },
    /// A value that an enumeration does not have.
    #[error("{field} is {value}, which is unknown here")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// The number.
        value: i32,
    },
    /// Mutual TLS between sidecars, which node proxies do not speak.
    #[error("tunnel_protocol is LEGACY_ISTIO_MTLS, which a node proxy does not speak; use HBONE")]
    LegacyMtls,
    /// A number that is no port.
    #[error("{field} is {value}; a port is at most 65535")]
    Port {
        /// The field.
        field: &'static str,
        /// The number.
        value: u32,
    },
    /// More of something than is accepted.
    #[error("{field}: {found} is more than {limit}")]
    TooMany {
        /// The field.
        field: &'static str,
        /// How many.
        found: usize,
        /// What is accepted.
        limit: usize,
    },
    /// A text that is longer than is accepted.
    #[error("{field} has {found} bytes, more than {limit}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// How many.
        found: usize,
        /// What is accepted.
        limit: usize,
    },
    /// A text that is not what it should be.
    #[error("{field} is {value:?}, wanted {wanted}")]
    Value {
        /// The field.
        field: &'static str,
        /// The text.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Numbers that are no rate.
    #[error("{field} is refused")]
    Rate {
        /// The field.
        field: &'static str,
        /// What is wrong with them.
        source: RateError,
    },
    /// A regular expression that is none.
    #[error("{field} is refused")]
    Pattern {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        source: PatternError,
    },
    /// A header that nobody may change.
    #[error("a header is refused")]
    Header(#[from] Protected),
    /// A path that is none.
    #[error("a path is refused")]
    Path(#[from] PathTextError),
    /// An origin that is none.
    #[error("cors.origins is refused")]
    Origin(#[from] OriginError),
    /// A name of a server that is none.
    #[error("matches.servers is refused")]
    Server(#[from] ServerNameError),
    /// Parts of a path cannot be replaced so.
    #[error("a replacement in paths is refused")]
    Substitution(#[from] SubstitutionError),
    /// A template of a path that is none.
    #[error("paths is refused")]
    Template(#[from] TemplateError),
    /// A change of a path's prefix where something else than a prefix is matched.
    #[error("a prefix is replaced, but not every match is of a prefix")]
    NoPrefix,
}

impl ConvertError {
    /// The error and what lies behind it in one line, as a NACK or a log line needs it.
    #[must_use]
    pub fn in_full(&self) -> String {
        use std::error::Error;
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

/// Parses a name, or says which field holds a bad one.
fn name<T: std::str::FromStr<Err = NameError>>(field: &'static str, text: &str) -> Result<T, ConvertError> {
    text.parse().map_err(|source| ConvertError::Name { field, source })
}

/// As [`name`], with a default for the empty text.
fn name_or_default<T>(field: &'static str, text: &str) -> Result<T, ConvertError>
where
    T: std::str::FromStr<Err = NameError> + Default,
{
    if text.is_empty() { Ok(T::default()) } else { name(field, text) }
}

fn port(field: &'static str, value: u32) -> Result<u16, ConvertError> {
    u16::try_from(value).map_err(|_| ConvertError::Port { field, value })
}

/// Refuses more of something than is accepted.
fn check_count(field: &'static str, limit: usize, found: usize) -> Result<(), ConvertError> {
    if found > limit { Err(ConvertError::TooMany { field, found, limit }) } else { Ok(()) }
}

/// A text of at most so many bytes.
fn text(field: &'static str, limit: usize, text: String) -> Result<String, ConvertError> {
    let found = text.len();
    if found > limit { Err(ConvertError::TooLong { field, found, limit }) } else { Ok(text) }
}

/// A known value of an enumeration, or an error that says which field holds which number.
fn known<T: TryFrom<i32>>(field: &'static str, value: i32) -> Result<T, ConvertError> {
    T::try_from(value).map_err(|_| ConvertError::UnknownValue { field, value })
}

#[cfg(test)]
mod tests;
