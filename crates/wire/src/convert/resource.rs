//! Discovery resources: which type, under which name, with which content. Owns type URLs and names
//! (`wire.md` 2, 3;
//! what waypoints get beside is of our own schema). Leaves versions and subscriptions to `xds`.

use std::fmt;
use std::sync::Arc;

use ambit_model::authentication::Authentication;
use ambit_model::delta::Change;
use ambit_model::ext_proc::ExtProc;
use ambit_model::http_route::{Route, RouteKey};
use ambit_model::name::{Identity, Label, NodeName, PolicyKey, ServiceKey, WorkloadUid};
use ambit_model::policy::Policy;
use ambit_model::provider::Provider;
use ambit_model::rate_limit::RateLimit;
use ambit_model::request_policy::RequestPolicy;
use ambit_model::service::Service;
use ambit_model::traffic::Traffic;
use ambit_model::workload::Workload;
use bytes::Bytes;
use prost::Message;

use super::{
    ConvertError, authentication_from_pb, authentication_to_pb, credential_from_pb, credential_to_pb,
    ext_proc_from_pb, ext_proc_to_pb, policy_from_pb, policy_to_pb, provider_from_pb, provider_to_pb,
    rate_limit_from_pb, rate_limit_to_pb, request_policy_from_pb, request_policy_to_pb, route_from_pb,
    route_to_pb, service_from_pb, service_to_pb, telemetry_from_pb, telemetry_to_pb, traffic_from_pb,
    traffic_to_pb, workload_from_pb, workload_to_pb,
};
use crate::limits;
use crate::pb::discovery::Payload;
use crate::pb::security::Authorization;
use crate::pb::telemetry;
use crate::pb::waypoint;
use crate::pb::workload::{Address, address};

/// A type of resource that is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// Workloads and services.
    Address,
    /// Policies of connections.
    Authorization,
    /// Routes of requests; only waypoints ask for them.
    Route,
    /// Policies of requests; only waypoints ask for them.
    Policy,
    /// Whom to believe about who asks; only waypoints ask for it.
    Authentication,
    /// How many requests may come; only waypoints ask for it.
    RateLimit,
    /// By which processors requests go; only waypoints ask for it.
    ExtProc,
    /// Who else is asked or told about requests; only waypoints ask for it.
    Provider,
    /// How services' traffic is handled; only waypoints ask for it.
    Traffic,
    /// What a waypoint proves itself by outside of the mesh; told to its owners alone.
    Credential,
    /// What is told of requests; only waypoints ask for it.
    Telemetry,
}

impl ResourceType {
    /// All types, in the order a subscriber asks for them: what judges requests is known before what they are for.
    pub const ALL: [Self; 11] = [
        Self::Provider,
        Self::Policy,
        Self::RateLimit,
        Self::ExtProc,
        Self::Authentication,
        Self::Credential,
        Self::Traffic,
        Self::Telemetry,
        Self::Address,
        Self::Authorization,
        Self::Route,
    ];

    /// What a node's proxy asks for, in that order.
    pub const OF_NODES: [Self; 2] = [Self::Address, Self::Authorization];

    /// Its type URL.
    #[must_use]
    pub const fn url(self) -> &'static str {
        match self {
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Authorization => "type.googleapis.com/istio.security.Authorization",
            Self::Route => "type.googleapis.com/ambit.waypoint.v1.Route",
            Self::Policy => "type.googleapis.com/ambit.waypoint.v1.Policy",
            Self::RateLimit => "type.googleapis.com/ambit.waypoint.v1.RateLimit",
            Self::ExtProc => "type.googleapis.com/ambit.waypoint.v1.ExtProc",
            Self::Authentication => "type.googleapis.com/ambit.waypoint.v1.Authentication",
            Self::Provider => "type.googleapis.com/ambit.waypoint.v1.Provider",
            Self::Traffic => "type.googleapis.com/ambit.waypoint.v1.Traffic",
            Self::Credential => "type.googleapis.com/ambit.waypoint.v1.Credential",
            Self::Telemetry => "type.googleapis.com/ambit.telemetry.v1.Telemetry",
        }
    }

    /// The type of a type URL.
    #[must_use]
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.url() == url)
    }
}

/// What a resource is about. Its text is the resource's canonical name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKey {
    /// A workload.
    Workload(WorkloadUid),
    /// A service.
    Service(ServiceKey),
    /// A policy.
    Policy(PolicyKey),
    /// A route.
    Route(RouteKey),
    /// A policy of requests.
    RequestPolicy(PolicyKey),
    /// A policy of limits.
    RateLimit(PolicyKey),
    /// A policy of a processor.
    ExtProc(PolicyKey),
    /// An authentication of requests.
    Authentication(PolicyKey),
    /// A provider.
    Provider(Label),
    /// How a service's traffic is handled.
    Traffic(ServiceKey),
    /// A credential.
    Credential(Label),
    /// What an object says of what is told of requests.
    Telemetry(PolicyKey),
}

impl ResourceKey {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> ResourceType {
        match self {
            Self::Workload(_) | Self::Service(_) => ResourceType::Address,
            Self::Policy(_) => ResourceType::Authorization,
            Self::Route(_) => ResourceType::Route,
            Self::RequestPolicy(_) => ResourceType::Policy,
            Self::RateLimit(_) => ResourceType::RateLimit,
            Self::ExtProc(_) => ResourceType::ExtProc,
            Self::Authentication(_) => ResourceType::Authentication,
            Self::Provider(_) => ResourceType::Provider,
            Self::Traffic(_) => ResourceType::Traffic,
            Self::Credential(_) => ResourceType::Credential,
            Self::Telemetry(_) => ResourceType::Telemetry,
        }
    }

    /// The change that takes it out of the world.
    #[must_use]
    pub fn gone(self) -> Change {
        match self {
            Self::Workload(uid) => Change::WorkloadGone(uid),
            Self::Service(key) => Change::ServiceGone(key),
            Self::Policy(key) => Change::PolicyGone(key),
            Self::Route(key) => Change::RouteGone(key),
            Self::RequestPolicy(key) => Change::RequestPolicyGone(key),
            Self::RateLimit(key) => Change::RateLimitGone(key),
            Self::ExtProc(key) => Change::ExtProcGone(key),
            Self::Authentication(key) => Change::AuthenticationGone(key),
            Self::Provider(name) => Change::ProviderGone(name),
            Self::Traffic(key) => Change::TrafficGone(key),
            Self::Credential(name) => Change::CredentialGone(name),
            Self::Telemetry(key) => Change::TelemetryGone(key),
        }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(uid) => uid.fmt(f),
            Self::Service(key) | Self::Traffic(key) => key.fmt(f),
            Self::RateLimit(key) | Self::ExtProc(key) => key.fmt(f),
            Self::Policy(key) | Self::RequestPolicy(key) | Self::Authentication(key) => key.fmt(f),
            Self::Route(key) => key.fmt(f),
            Self::Provider(name) | Self::Credential(name) => name.fmt(f),
            Self::Telemetry(key) => key.fmt(f),
        }
    }
}

/// A resource that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// What it is about.
    pub key: ResourceKey,
    /// The change that brings it into the world.
    pub change: Change,
}

/// Reads one resource of a response of type `kind`, named `name`.
pub fn decode(kind: ResourceType, name: &str, payload: Option<Payload>) -> Result<Decoded, ConvertError> {
    let Payload { type_url, value } = payload.unwrap_or_default();
    if type_url != kind.url() {
        return Err(ConvertError::WrongType { found: type_url, wanted: kind.url() });
    }
    if value.len() > limits::RESOURCE {
        return Err(ConvertError::TooLarge { found: value.len(), limit: limits::RESOURCE });
    }
    let decoded = match kind {
        ResourceType::Address => address(value)?,
        ResourceType::Authorization => {
            let policy = policy_from_pb(Authorization::decode(value)?)?;
            Decoded { key: ResourceKey::Policy(policy.key.clone()), change: Change::Policy(Arc::new(policy)) }
        }
        ResourceType::Route => {
            let route = route_from_pb(waypoint::Route::decode(value)?)?;
            Decoded { key: ResourceKey::Route(route.key.clone()), change: Change::Route(Arc::new(route)) }
        }
        ResourceType::Policy => {
            let noun = request_policy_from_pb(waypoint::Policy::decode(value)?)?;
            let key = ResourceKey::RequestPolicy(noun.key.clone());
            Decoded { key, change: Change::RequestPolicy(Arc::new(noun)) }
        }
        ResourceType::RateLimit => {
            let noun = rate_limit_from_pb(waypoint::RateLimit::decode(value)?)?;
            let key = ResourceKey::RateLimit(noun.key.clone());
            Decoded { key, change: Change::RateLimit(Arc::new(noun)) }
        }
        ResourceType::ExtProc => processor(value)?,
        ResourceType::Authentication => {
            let noun = authentication_from_pb(waypoint::Authentication::decode(value)?)?;
            Decoded {
                key: ResourceKey::Authentication(noun.key.clone()),
                change: Change::Authentication(Arc::new(noun)),
            }
        }
        ResourceType::Provider => {
            let noun = provider_from_pb(waypoint::Provider::decode(value)?)?;
            let key = ResourceKey::Provider(noun.name.clone());
            Decoded { key, change: Change::Provider(Arc::new(noun)) }
        }
        ResourceType::Traffic => {
            let noun = traffic_from_pb(waypoint::Traffic::decode(value)?)?;
            let key = ResourceKey::Traffic(noun.service.clone());
            Decoded { key, change: Change::Traffic(Arc::new(noun)) }
        }
        ResourceType::Credential => credential(value)?,
        ResourceType::Telemetry => {
            let noun = telemetry_from_pb(telemetry::Telemetry::decode(value)?)?;
            let key = ResourceKey::Telemetry(noun.key.clone());
            Decoded { key, change: Change::Telemetry(Arc::new(noun)) }
        }
    };
    if decoded.key.to_string() != name {
        return Err(ConvertError::Misnamed { name: name.into(), key: decoded.key });
    }
    Ok(decoded)
}

fn credential(value: Bytes) -> Result<Decoded, ConvertError> {
    let noun = credential_from_pb(waypoint::Credential::decode(value)?)?;
    let key = ResourceKey::Credential(noun.name.clone());
    Ok(Decoded { key, change: Change::Credential(Arc::new(noun)) })
}

fn address(value: Bytes) -> Result<Decoded, ConvertError> {
    let Address { r#type } = Address::decode(value)?;
    match r#type.ok_or(ConvertError::NoAlternative { field: "type" })? {
        address::Type::Workload(raw) => {
            let workload = workload_from_pb(*raw)?;
            let key = ResourceKey::Workload(workload.uid.clone());
            Ok(Decoded { key, change: Change::Workload(Arc::new(workload)) })
        }
        address::Type::Service(raw) => {
            let service = service_from_pb(*raw)?;
            Ok(Decoded {
                key: ResourceKey::Service(service.key()),
                change: Change::Service(Arc::new(service)),
            })
        }
    }
}

/// A noun as it is published.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Other names an on-demand subscriber may ask for it by: `<network>/<ip>[/<prefix length>]`.
    pub aliases: Vec<String>,
    /// The node a workload runs on; empty: none.
    pub node: NodeName,
    /// The services a workload is an endpoint of.
    pub services: Vec<ServiceKey>,
    /// Whom it is told to alone; nobody in particular: all who ask.
    pub owners: Vec<Identity>,
    /// The content; the same noun always has the same bytes.
    pub body: Bytes,
}

/// Without the content, which may be a key.
impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (aliases, owners, bytes) = (&self.aliases, &self.owners, self.body.len());
        let mut shown = f.debug_struct("Encoded");
        shown.field("aliases", aliases).field("owners", owners).field("bytes", &bytes).finish_non_exhaustive()
    }
}

/// What a change publishes, and under which key. Nothing: the key is gone.
#[must_use]
pub fn encode(change: &Change) -> (ResourceKey, Option<Encoded>) {
    match change {
        Change::Workload(noun) => (ResourceKey::Workload(noun.uid.clone()), Some(encode_workload(noun))),
        Change::Service(noun) => (ResourceKey::Service(noun.key()), Some(encode_service(noun))),
        Change::Policy(noun) => (ResourceKey::Policy(noun.key.clone()), Some(encode_policy(noun))),
        Change::Route(noun) => (ResourceKey::Route(noun.key.clone()), Some(encode_route(noun))),
        Change::RequestPolicy(noun) => {
            (ResourceKey::RequestPolicy(noun.key.clone()), Some(encode_request_policy(noun)))
        }
        Change::RateLimit(noun) => (ResourceKey::RateLimit(noun.key.clone()), Some(encode_rate_limit(noun))),
        Change::ExtProc(noun) => (ResourceKey::ExtProc(noun.key.clone()), Some(encode_ext_proc(noun))),
        Change::Authentication(noun) => {
            (ResourceKey::Authentication(noun.key.clone()), Some(encode_authentication(noun)))
        }
        Change::Traffic(noun) => (ResourceKey::Traffic(noun.service.clone()), Some(encode_traffic(noun))),
        Change::Provider(noun) => (ResourceKey::Provider(noun.name.clone()), Some(encode_provider(noun))),
        Change::Credential(noun) => {
            let owners = noun.owners.clone();
            let encoded = Encoded { owners, ..plain(&credential_to_pb(noun)) };
            (ResourceKey::Credential(noun.name.clone()), Some(encoded))
        }
        Change::Telemetry(noun) => {
            (ResourceKey::Telemetry(noun.key.clone()), Some(plain(&telemetry_to_pb(noun))))
        }
        Change::WorkloadGone(uid) => (ResourceKey::Workload(uid.clone()), None),
        Change::ServiceGone(key) => (ResourceKey::Service(key.clone()), None),
        Change::PolicyGone(key) => (ResourceKey::Policy(key.clone()), None),
        Change::RouteGone(key) => (ResourceKey::Route(key.clone()), None),
        Change::RequestPolicyGone(key) => (ResourceKey::RequestPolicy(key.clone()), None),
        Change::RateLimitGone(key) => (ResourceKey::RateLimit(key.clone()), None),
        Change::ExtProcGone(key) => (ResourceKey::ExtProc(key.clone()), None),
        Change::AuthenticationGone(key) => (ResourceKey::Authentication(key.clone()), None),
        Change::TrafficGone(key) => (ResourceKey::Traffic(key.clone()), None),
        Change::CredentialGone(name) => (ResourceKey::Credential(name.clone()), None),
        Change::TelemetryGone(key) => (ResourceKey::Telemetry(key.clone()), None),
        Change::ProviderGone(name) => (ResourceKey::Provider(name.clone()), None),
    }
}

fn encode_workload(workload: &Workload) -> Encoded {
    let message = Address { r#type: Some(address::Type::Workload(Box::new(workload_to_pb(workload)))) };
    Encoded {
        aliases: workload.addresses.iter().map(|ip| format!("{}/{ip}", workload.network)).collect(),
        node: workload.node.clone(),
        services: workload.services.keys().cloned().collect(),
        owners: Vec::new(),
        body: message.encode_to_vec().into(),
    }
}

fn encode_service(service: &Service) -> Encoded {
    let message = Address { r#type: Some(address::Type::Service(Box::new(service_to_pb(service)))) };
    let vips = service.vips.iter().map(ToString::to_string);
    let ranges = service.ranges.iter().map(ToString::to_string);
    Encoded {
        aliases: vips.chain(ranges).collect(),
        node: NodeName::default(),
        services: Vec::new(),
        owners: Vec::new(),
        body: message.encode_to_vec().into(),
    }
}

fn encode_policy(policy: &Policy) -> Encoded {
    plain(&policy_to_pb(policy))
}

fn processor(value: Bytes) -> Result<Decoded, ConvertError> {
    let noun = ext_proc_from_pb(waypoint::ExtProc::decode(value)?)?;
    Ok(Decoded { key: ResourceKey::ExtProc(noun.key.clone()), change: Change::ExtProc(Arc::new(noun)) })
}

fn encode_route(route: &Route) -> Encoded {
    plain(&route_to_pb(route))
}

fn encode_request_policy(policy: &RequestPolicy) -> Encoded {
    plain(&request_policy_to_pb(policy))
}

fn encode_rate_limit(limit: &RateLimit) -> Encoded {
    plain(&rate_limit_to_pb(limit))
}

fn encode_ext_proc(policy: &ExtProc) -> Encoded {
    plain(&ext_proc_to_pb(policy))
}

fn encode_authentication(authentication: &Authentication) -> Encoded {
    plain(&authentication_to_pb(authentication))
}

fn encode_provider(provider: &Provider) -> Encoded {
    plain(&provider_to_pb(provider))
}

fn encode_traffic(traffic: &Traffic) -> Encoded {
    plain(&traffic_to_pb(traffic))
}

/// What is known by nothing but its own name.
fn plain(message: &impl Message) -> Encoded {
    Encoded {
        aliases: Vec::new(),
        node: NodeName::default(),
        services: Vec::new(),
        owners: Vec::new(),
        body: message.encode_to_vec().into(),
    }
}
