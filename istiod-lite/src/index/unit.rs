//! What is translated as one: an object that becomes workloads, services or a policy.

use std::fmt;
use std::sync::Arc;

use ambit_cluster::{Kind, ObjectRef};

/// What kind of thing is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnitKind {
    /// A pod: a workload.
    Pod,
    /// A workload entry: a workload.
    WorkloadEntry,
    /// An endpoint slice: workloads for its endpoints that are no pods.
    EndpointSlice,
    /// A service entry: services for its hosts, workloads for its endpoints.
    ServiceEntry,
    /// A service: a service.
    Service,
    /// An authorization policy: a policy.
    Policy,
    /// A peer authentication: a policy of its own, if its ports need one.
    Peer,
    /// An authentication of requests: one.
    Authentication,
    /// A policy of limits: one.
    RateLimit,
    /// A policy of a processor: one.
    ExtProc,
    /// A gateway: workloads for its addresses, when it leads into another network.
    Gateway,
    /// A route of HTTP requests: a route.
    HttpRoute,
    /// A route of gRPC calls: a route.
    GrpcRoute,
    /// A route of connections by the server that is asked for: a route.
    TlsRoute,
    /// A route of connections: a route.
    TcpRoute,
    /// A secret: a credential.
    Credential,
    /// A virtual service: a route.
    VirtualService,
    /// What is told of requests: one.
    Telemetry,
    /// The one policy "peers must prove who they are".
    Strict,
    /// The providers of the mesh's configuration.
    Providers,
}

/// One thing that is translated.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit {
    /// Its kind.
    pub kind: UnitKind,
    /// The object's namespace.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl Unit {
    /// The unit of an object; none for objects that only others are translated with.
    #[must_use]
    pub fn new(object: &ObjectRef) -> Option<Self> {
        let kind = match object.kind {
            Kind::Pod => UnitKind::Pod,
            Kind::WorkloadEntry => UnitKind::WorkloadEntry,
            Kind::EndpointSlice => UnitKind::EndpointSlice,
            Kind::ServiceEntry => UnitKind::ServiceEntry,
            Kind::Service => UnitKind::Service,
            Kind::AuthorizationPolicy => UnitKind::Policy,
            Kind::PeerAuthentication => UnitKind::Peer,
            Kind::RequestAuthentication => UnitKind::Authentication,
            Kind::RateLimitPolicy => UnitKind::RateLimit,
            Kind::ExtProcPolicy => UnitKind::ExtProc,
            Kind::Gateway => UnitKind::Gateway,
            Kind::HttpRoute => UnitKind::HttpRoute,
            Kind::GrpcRoute => UnitKind::GrpcRoute,
            Kind::TlsRoute => UnitKind::TlsRoute,
            Kind::TcpRoute => UnitKind::TcpRoute,
            Kind::Secret => UnitKind::Credential,
            Kind::VirtualService => UnitKind::VirtualService,
            Kind::Telemetry => UnitKind::Telemetry,
            Kind::Node
            | Kind::Namespace
            | Kind::ServiceAccount
            | Kind::GatewayClass
            | Kind::DestinationRule
            | Kind::BackendTlsPolicy
            | Kind::ConfigMap => return None,
        };
        Some(Self { kind, namespace: object.namespace.clone(), name: object.name.clone() })
    }

    /// The service or service entry that it is of.
    #[must_use]
    pub fn object(&self) -> Option<ObjectRef> {
        let kind = match self.kind {
            UnitKind::Service => Kind::Service,
            UnitKind::ServiceEntry => Kind::ServiceEntry,
            _ => return None,
        };
        Some(ObjectRef::new(kind, &self.namespace, &self.name))
    }

    /// The unit of the strict policy.
    #[must_use]
    pub fn strict() -> Self {
        Self { kind: UnitKind::Strict, namespace: "".into(), name: "".into() }
    }

    /// The unit of all providers.
    #[must_use]
    pub fn providers() -> Self {
        Self { kind: UnitKind::Providers, namespace: "".into(), name: "".into() }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
    }
}
