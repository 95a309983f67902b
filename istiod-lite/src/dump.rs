//! Everything the control plane would send, as JSON: `[{type, name, aliases, resource}]`.
//! Owns the order and the shape. What is sent is `xds::library`'s; how a message is written as JSON is `json`'s.

pub mod json;

use std::path::Path;

use ambit_cluster::Fault;
use ambit_cluster::files::{Event, Keep, WatchError, load_once};
use ambit_wire::convert::{
    ResourceKey, ResourceType, authentication_from_pb, credential_from_pb, ext_proc_from_pb,
    provider_from_pb, rate_limit_from_pb, request_policy_from_pb, route_from_pb, telemetry_from_pb,
    traffic_from_pb,
};
use ambit_wire::local;
use ambit_wire::pb::security::Authorization;
use ambit_wire::pb::telemetry::Telemetry;
use ambit_wire::pb::waypoint::{
    Authentication, Credential, ExtProc, Policy, Provider, RateLimit, Route, Traffic,
};
use ambit_wire::pb::workload::Address;
use ambit_xds::library::{Library, Record};
use prost::Message;
use serde_json::{Map, Value, json};

use crate::catalog::Catalog;
use crate::index::World;
use crate::mesh::Mesh;

/// A directory as the mesh sees it.
#[derive(Debug)]
pub struct Dump {
    /// What would be sent.
    pub resources: Vec<Value>,
    /// What is wrong with the files.
    pub faults: Vec<Fault>,
}

/// Reads a directory once and says what would be sent to a wildcard subscriber, or, with a node, what the tunnel of
/// that node needs at least: its workloads, all services, all policies.
///
/// # Errors
/// When the directory cannot be read.
pub fn dump(
    source: &Path,
    overlay: Option<&Path>,
    node: Option<&str>,
    mesh: Mesh,
) -> Result<Dump, WatchError> {
    let loaded = load_once(source, overlay, Keep::Slim)?;
    let mut catalog = Catalog::new(World::new(mesh));
    for object in loaded.objects {
        catalog.take(Event::Applied(object));
    }
    let library = Library::default().with(&catalog.settle());
    let faults = loaded.faults.into_iter().chain(catalog.world().fault()).collect();
    Ok(Dump { resources: resources(&library, node), faults })
}

/// What is in a library: policies first, what only waypoints get last, each sort by name.
#[must_use]
pub fn resources(library: &Library, node: Option<&str>) -> Vec<Value> {
    let mine = |record: &Record| match (&record.key, node) {
        (ResourceKey::Workload(_), Some(node)) => record.node.as_str() == node,
        _ => true,
    };
    let of =
        |kind| library.records(kind).filter(|record| mine(record)).map(move |record| resource(kind, record));
    let all = of(ResourceType::Authorization).chain(of(ResourceType::Address));
    let all = all.chain(of(ResourceType::Route)).chain(of(ResourceType::Policy));
    all.chain(of(ResourceType::RateLimit))
        .chain(of(ResourceType::ExtProc))
        .chain(of(ResourceType::Authentication))
        .chain(of(ResourceType::Provider))
        .chain(of(ResourceType::Traffic))
        .chain(of(ResourceType::Credential))
        .chain(of(ResourceType::Telemetry))
        .collect()
}

/// What is in a library, by what it is: `{workloads, services, policies}`.
#[must_use]
pub fn sorted(library: &Library) -> Value {
    let of = |kind: ResourceType, wanted: fn(&ResourceKey) -> bool| -> Vec<Value> {
        let records = library.records(kind).filter(|record| wanted(&record.key));
        records.map(|record| resource(kind, record)).collect()
    };
    json!({
        "workloads": of(ResourceType::Address, |key| matches!(key, ResourceKey::Workload(_))),
        "services": of(ResourceType::Address, |key| matches!(key, ResourceKey::Service(_))),
        "policies": of(ResourceType::Authorization, |_| true),
        "routes": of(ResourceType::Route, |_| true),
        "requestPolicies": of(ResourceType::Policy, |_| true),
        "rateLimits": of(ResourceType::RateLimit, |_| true),
        "extProcs": of(ResourceType::ExtProc, |_| true),
        "authentications": of(ResourceType::Authentication, |_| true),
        "providers": of(ResourceType::Provider, |_| true),
        "traffic": of(ResourceType::Traffic, |_| true),
        "credentials": of(ResourceType::Credential, |_| true),
        "telemetry": of(ResourceType::Telemetry, |_| true),
    })
}

/// How many services are in a library.
#[must_use]
pub fn services(library: &Library) -> usize {
    library.records(ResourceType::Address).filter(|it| matches!(it.key, ResourceKey::Service(_))).count()
}

/// One resource, with the names it may also be asked for by.
fn resource(kind: ResourceType, record: &Record) -> Value {
    let body = record.body.clone();
    let message = match kind {
        ResourceType::Address => Address::decode(body).map(json::address),
        ResourceType::Authorization => Authorization::decode(body).map(json::authorization),
        // Of our own schema: written as people read it.
        ResourceType::Route => Route::decode(body)
            .map(|it| route_from_pb(it).map(|route| local::route(&route)).unwrap_or_default()),
        ResourceType::Policy => Policy::decode(body)
            .map(|it| request_policy_from_pb(it).map(|it| local::request_policy(&it)).unwrap_or_default()),
        ResourceType::RateLimit => RateLimit::decode(body)
            .map(|it| rate_limit_from_pb(it).map(|it| local::rate_limit(&it)).unwrap_or_default()),
        ResourceType::ExtProc => ExtProc::decode(body)
            .map(|it| ext_proc_from_pb(it).map(|it| local::ext_proc(&it)).unwrap_or_default()),
        ResourceType::Authentication => Authentication::decode(body)
            .map(|it| authentication_from_pb(it).map(|it| local::authentication(&it)).unwrap_or_default()),
        ResourceType::Traffic => Traffic::decode(body)
            .map(|it| traffic_from_pb(it).map(|it| local::traffic(&it)).unwrap_or_default()),
        ResourceType::Credential => Credential::decode(body)
            .map(|it| credential_from_pb(it).map(|it| local::credential(&it)).unwrap_or_default()),
        ResourceType::Telemetry => Telemetry::decode(body)
            .map(|it| telemetry_from_pb(it).map(|it| local::telemetry(&it)).unwrap_or_default()),
        ResourceType::Provider => Provider::decode(body)
            .map(|it| provider_from_pb(it).map(|it| local::provider(&it)).unwrap_or_default()),
    };
    let mut members = Map::new();
    members.insert("type".into(), kind.url().into());
    members.insert("name".into(), record.name.as_ref().into());
    if !record.aliases.is_empty() {
        members.insert("aliases".into(), json!(record.aliases));
    }
    members.insert("resource".into(), message.unwrap_or_default());
    Value::Object(members)
}
