//! The objects that are read, typed. One list: `read` is the only way in, and what it returns is valid.
//! Owns the rules of single objects; what they mean together is left to the programs.

pub mod admit;
pub mod authentication;
pub mod backend_tls;
pub mod collector;
pub mod core;
pub mod definition;
pub mod destination_rule;
pub mod duration;
pub mod entry;
pub mod ext_proc;
pub mod gateway;
pub mod line;
pub mod mesh;
pub mod meta;
pub mod pem;
pub mod policy;
pub(crate) mod pool;
pub mod provider;
pub mod proxy_headers;
pub mod rate_limit;
pub mod route;
pub mod scalar;
pub mod schema;
pub mod secret;
pub mod service;
pub mod telemetry;
pub mod text;
pub mod texts;
pub mod virtual_service;
pub mod waypoint;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fault::Wrong;
use crate::object::{Body, Kind};

/// Reads an object of a kind from JSON, nulls and all.
pub(crate) fn read_text(kind: Kind, text: &str) -> Result<Body, Wrong> {
    if let Some(body) = straight(kind, text) {
        return Ok(body);
    }
    let mut value: Value = serde_json::from_str(text).map_err(|error| Wrong::unreadable(&error))?;
    without_nulls(&mut value);
    read(kind, &value)
}

/// Without a detour over a value, for the kinds that there are many of. What does not read this way holds a null
/// or is at fault, which is seen on the detour.
fn straight(kind: Kind, text: &str) -> Option<Body> {
    Some(match kind {
        Kind::Node => Body::Node(from_text(text)?),
        Kind::Namespace => Body::Namespace(from_text(text)?),
        Kind::ServiceAccount => Body::ServiceAccount(from_text(text)?),
        Kind::Pod => Body::Pod(from_text(text)?),
        Kind::Service => Body::Service(from_text(text)?),
        Kind::EndpointSlice => Body::EndpointSlice(from_text(text)?),
        Kind::Gateway
        | Kind::GatewayClass
        | Kind::HttpRoute
        | Kind::GrpcRoute
        | Kind::TlsRoute
        | Kind::TcpRoute
        | Kind::BackendTlsPolicy
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::AuthorizationPolicy
        | Kind::PeerAuthentication
        | Kind::RequestAuthentication
        | Kind::RateLimitPolicy
        | Kind::ExtProcPolicy
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::VirtualService
        | Kind::DestinationRule
        | Kind::Telemetry => return None,
    })
}

fn from_text<T: DeserializeOwned>(text: &str) -> Option<Arc<T>> {
    serde_json::from_str(text).ok().map(Arc::new)
}

/// Reads an object of a kind. Nulls must have been dropped (`without_nulls`).
pub(crate) fn read(kind: Kind, value: &Value) -> Result<Body, Wrong> {
    Ok(match kind {
        Kind::Node => Body::Node(typed(value)?),
        Kind::Namespace => Body::Namespace(typed(value)?),
        Kind::ServiceAccount => Body::ServiceAccount(typed(value)?),
        Kind::Pod => Body::Pod(typed(value)?),
        Kind::Service => Body::Service(typed(value)?),
        Kind::EndpointSlice => Body::EndpointSlice(typed(value)?),
        Kind::Gateway => Body::Gateway(checked(value, gateway::Gateway::check)?),
        Kind::GatewayClass => Body::GatewayClass(typed(value)?),
        Kind::HttpRoute => Body::HttpRoute(checked(value, route::HttpRoute::check)?),
        Kind::GrpcRoute => Body::GrpcRoute(checked(value, route::GrpcRoute::check)?),
        Kind::TlsRoute => {
            Body::TlsRoute(checked(value, |it: &route::connection::ConnectionRoute| it.check(true))?)
        }
        Kind::TcpRoute => {
            Body::TcpRoute(checked(value, |it: &route::connection::ConnectionRoute| it.check(false))?)
        }
        Kind::BackendTlsPolicy => {
            Body::BackendTlsPolicy(checked(value, backend_tls::BackendTlsPolicy::check)?)
        }
        Kind::AuthorizationPolicy => {
            Body::AuthorizationPolicy(checked(value, policy::AuthorizationPolicy::check)?)
        }
        Kind::PeerAuthentication => {
            Body::PeerAuthentication(checked(value, policy::PeerAuthentication::check)?)
        }
        Kind::RequestAuthentication => {
            Body::RequestAuthentication(checked(value, authentication::RequestAuthentication::check)?)
        }
        Kind::RateLimitPolicy => Body::RateLimitPolicy(checked(value, rate_limit::RateLimitPolicy::check)?),
        Kind::ExtProcPolicy => Body::ExtProcPolicy(checked(value, ext_proc::ExtProcPolicy::check)?),
        Kind::ConfigMap => Body::ConfigMap(checked(value, mesh::ConfigMap::check)?),
        Kind::Secret => Body::Secret(typed(value).map_err(without_value)?),
        Kind::ServiceEntry => Body::ServiceEntry(checked(value, entry::ServiceEntry::check)?),
        Kind::WorkloadEntry => Body::WorkloadEntry(checked(value, entry::WorkloadEntry::check)?),
        Kind::DestinationRule => {
            Body::DestinationRule(checked(value, destination_rule::DestinationRule::check)?)
        }
        Kind::Telemetry => Body::Telemetry(checked(value, telemetry::Telemetry::check)?),
        Kind::VirtualService => Body::VirtualService(checked(value, virtual_service::VirtualService::check)?),
    })
}

/// The same, where what several fields say has to go together.
fn checked<T: DeserializeOwned>(
    value: &Value,
    check: impl FnOnce(&T) -> Result<(), Wrong>,
) -> Result<Arc<T>, Wrong> {
    let object: Arc<T> = typed(value)?;
    check(&object)?;
    Ok(object)
}

fn typed<T: DeserializeOwned>(value: &Value) -> Result<Arc<T>, Wrong> {
    serde_path_to_error::deserialize(value).map(Arc::new).map_err(|error| {
        let field = error.path().to_string();
        let inner = error.into_inner().to_string();
        let found = at(value, &field).filter(|found| !found.is_object() && !found.is_array());
        let shown = found.map(Value::to_string).unwrap_or_default();
        let (problem, remedy) =
            inner.split_once("; ").unwrap_or((&inner, "see the field's description in the API"));
        Wrong::field(if field == "." { String::new() } else { field }, &shown, problem, remedy)
    })
}

/// Nothing of what is in a secret is repeated.
fn without_value(wrong: Wrong) -> Wrong {
    let remedy = "write it as the API has it: texts in base64 below data, or as they are below stringData";
    Wrong::field(wrong.field, "", "not a secret's shape", remedy)
}

/// The value at a path like `spec.ports[0].port`; keys with dots in them are not found, which only costs the display.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, part| {
        let (key, rest) = part.split_once('[').unwrap_or((part, ""));
        let value = if key.is_empty() { value } else { value.get(key)? };
        rest.split('[')
            .filter(|index| !index.is_empty())
            .try_fold(value, |value, index| value.get(index.trim_end_matches(']').parse::<usize>().ok()?))
    })
}

/// Drops members that are null: to Kubernetes they are absent.
pub(crate) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
