//! Which kinds of objects there are, how an object is named, and an object as handed to the programs.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::kinds::authentication::RequestAuthentication;
use crate::kinds::backend_tls::BackendTlsPolicy;
use crate::kinds::core::{Namespace, Node, Pod, ServiceAccount};
use crate::kinds::destination_rule::DestinationRule;
use crate::kinds::entry::{ServiceEntry, WorkloadEntry};
use crate::kinds::ext_proc::ExtProcPolicy;
use crate::kinds::gateway::{Gateway, GatewayClass};
use crate::kinds::mesh::ConfigMap;
use crate::kinds::meta::Meta;
use crate::kinds::policy::{AuthorizationPolicy, PeerAuthentication};
use crate::kinds::rate_limit::RateLimitPolicy;
use crate::kinds::route::connection::ConnectionRoute;
use crate::kinds::route::{GrpcRoute, HttpRoute};
use crate::kinds::secret::Secret;
use crate::kinds::service::{EndpointSlice, Service};
use crate::kinds::telemetry::Telemetry;
use crate::kinds::virtual_service::VirtualService;

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A machine.
    Node,
    /// A namespace.
    Namespace,
    /// A service account.
    ServiceAccount,
    /// A pod.
    Pod,
    /// A Kubernetes service.
    Service,
    /// Endpoints of a service.
    EndpointSlice,
    /// A Gateway API gateway.
    Gateway,
    /// A Gateway API class.
    GatewayClass,
    /// A Gateway API route of HTTP requests.
    HttpRoute,
    /// A Gateway API route of gRPC calls.
    GrpcRoute,
    /// A Gateway API route of connections, by the server that is asked for with TLS.
    TlsRoute,
    /// A Gateway API route of connections.
    TcpRoute,
    /// A Gateway API policy of TLS that is begun to services.
    BackendTlsPolicy,
    /// Who may talk to whom.
    AuthorizationPolicy,
    /// Whether peers must prove who they are.
    PeerAuthentication,
    /// Whose tokens are believed.
    RequestAuthentication,
    /// How many requests may come.
    RateLimitPolicy,
    /// By which processor requests go.
    ExtProcPolicy,
    /// A service outside of Kubernetes.
    ServiceEntry,
    /// A workload outside of Kubernetes.
    WorkloadEntry,
    /// Which requests go where, in Istio's words.
    VirtualService,
    /// How traffic to a host is handled.
    DestinationRule,
    /// What is told of requests.
    Telemetry,
    /// Texts by name, of which one is the mesh's configuration.
    ConfigMap,
    /// What is for few eyes: of it, what waypoints prove themselves by outside of the mesh.
    Secret,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::Node,
        Self::Namespace,
        Self::ServiceAccount,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::Gateway,
        Self::GatewayClass,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TlsRoute,
        Self::TcpRoute,
        Self::BackendTlsPolicy,
        Self::AuthorizationPolicy,
        Self::PeerAuthentication,
        Self::RequestAuthentication,
        Self::RateLimitPolicy,
        Self::ExtProcPolicy,
        Self::ServiceEntry,
        Self::WorkloadEntry,
        Self::VirtualService,
        Self::DestinationRule,
        Self::Telemetry,
        Self::ConfigMap,
        Self::Secret,
    ];

    /// As written in `kind:`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::ServiceAccount => "ServiceAccount",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Gateway => "Gateway",
            Self::GatewayClass => "GatewayClass",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TlsRoute => "TLSRoute",
            Self::TcpRoute => "TCPRoute",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::RequestAuthentication => "RequestAuthentication",
            Self::RateLimitPolicy => "RateLimitPolicy",
            Self::ExtProcPolicy => "ExtProcPolicy",
            Self::ServiceEntry => "ServiceEntry",
            Self::WorkloadEntry => "WorkloadEntry",
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::Telemetry => "Telemetry",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    /// The API group; empty for the core group.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::Node
            | Self::Namespace
            | Self::ServiceAccount
            | Self::Pod
            | Self::Service
            | Self::ConfigMap
            | Self::Secret => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Gateway
            | Self::GatewayClass
            | Self::HttpRoute
            | Self::GrpcRoute
            | Self::TlsRoute
            | Self::TcpRoute
            | Self::BackendTlsPolicy => "gateway.networking.k8s.io",
            Self::RateLimitPolicy | Self::ExtProcPolicy => "ambit.io",
            Self::AuthorizationPolicy | Self::PeerAuthentication | Self::RequestAuthentication => {
                "security.istio.io"
            }
            Self::ServiceEntry | Self::WorkloadEntry | Self::VirtualService | Self::DestinationRule => {
                "networking.istio.io"
            }
            Self::Telemetry => "telemetry.istio.io",
        }
    }

    /// Whether it is a kind of our own.
    #[must_use]
    pub fn is_own(self) -> bool {
        matches!(self, Self::RateLimitPolicy | Self::ExtProcPolicy)
    }

    /// The version of its group: what is our own may still change.
    #[must_use]
    pub fn version(self) -> &'static str {
        if self.is_own() { "v1alpha1" } else { "v1" }
    }

    /// The `apiVersion` that is written.
    #[must_use]
    pub fn api_version(self) -> String {
        let (group, version) = (self.group(), self.version());
        if group.is_empty() { version.into() } else { format!("{group}/{version}") }
    }

    /// Whether its objects live in a namespace.
    #[must_use]
    pub fn namespaced(self) -> bool {
        !matches!(self, Self::Node | Self::Namespace | Self::GatewayClass)
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which object: its kind, namespace (empty for kinds without) and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for kinds that have none.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// Names an object. The namespace is dropped for kinds that have none.
    #[must_use]
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: if kind.namespaced() { namespace } else { "" }.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return write!(f, "{} {}", self.kind, self.name);
        }
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// One object as it is now: the source merged with what the overlay says.
#[derive(Debug, Clone)]
pub struct Object {
    /// Which object.
    pub reference: ObjectRef,
    /// What is read of it.
    pub body: Body,
    /// All of it, when the watch was told to keep that.
    pub raw: Option<Arc<Value>>,
}

impl Object {
    /// Its metadata.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        self.body.meta()
    }
}

/// What is read of an object, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// A machine.
    Node(Arc<Node>),
    /// A namespace.
    Namespace(Arc<Namespace>),
    /// A service account.
    ServiceAccount(Arc<ServiceAccount>),
    /// A pod.
    Pod(Arc<Pod>),
    /// A Kubernetes service.
    Service(Arc<Service>),
    /// Endpoints of a service.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Gateway API gateway.
    Gateway(Arc<Gateway>),
    /// A Gateway API class.
    GatewayClass(Arc<GatewayClass>),
    /// A Gateway API route of HTTP requests.
    HttpRoute(Arc<HttpRoute>),
    /// A Gateway API route of gRPC calls.
    GrpcRoute(Arc<GrpcRoute>),
    /// A Gateway API route of connections, by the server that is asked for with TLS.
    TlsRoute(Arc<ConnectionRoute>),
    /// A Gateway API route of connections.
    TcpRoute(Arc<ConnectionRoute>),
    /// A Gateway API policy of TLS that is begun to services.
    BackendTlsPolicy(Arc<BackendTlsPolicy>),
    /// Who may talk to whom.
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
    /// Whether peers must prove who they are.
    PeerAuthentication(Arc<PeerAuthentication>),
    /// Whose tokens are believed.
    RequestAuthentication(Arc<RequestAuthentication>),
    /// How many requests may come.
    RateLimitPolicy(Arc<RateLimitPolicy>),
    /// By which processor requests go.
    ExtProcPolicy(Arc<ExtProcPolicy>),
    /// A service outside of Kubernetes.
    ServiceEntry(Arc<ServiceEntry>),
    /// A workload outside of Kubernetes.
    WorkloadEntry(Arc<WorkloadEntry>),
    /// Which requests go where, in Istio's words.
    VirtualService(Arc<VirtualService>),
    /// How traffic to a host is handled.
    DestinationRule(Arc<DestinationRule>),
    /// What is told of requests.
    Telemetry(Arc<Telemetry>),
    /// Texts by name.
    ConfigMap(Arc<ConfigMap>),
    /// What waypoints prove themselves by outside of the mesh.
    Secret(Arc<Secret>),
}

impl Body {
    /// Its metadata.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Node(it) => &it.metadata,
            Self::Namespace(it) => &it.metadata,
            Self::ServiceAccount(it) => &it.metadata,
            Self::Pod(it) => &it.metadata,
            Self::Service(it) => &it.metadata,
            Self::EndpointSlice(it) => &it.metadata,
            Self::Gateway(it) => &it.metadata,
            Self::GatewayClass(it) => &it.metadata,
            Self::HttpRoute(it) => &it.metadata,
            Self::GrpcRoute(it) => &it.metadata,
            Self::TlsRoute(it) | Self::TcpRoute(it) => &it.metadata,
            Self::BackendTlsPolicy(it) => &it.metadata,
            Self::AuthorizationPolicy(it) => &it.metadata,
            Self::PeerAuthentication(it) => &it.metadata,
            Self::RequestAuthentication(it) => &it.metadata,
            Self::RateLimitPolicy(it) => &it.metadata,
            Self::ExtProcPolicy(it) => &it.metadata,
            Self::ServiceEntry(it) => &it.metadata,
            Self::WorkloadEntry(it) => &it.metadata,
            Self::VirtualService(it) => &it.metadata,
            Self::DestinationRule(it) => &it.metadata,
            Self::Telemetry(it) => &it.metadata,
            Self::ConfigMap(it) => &it.metadata,
            Self::Secret(it) => &it.metadata,
        }
    }
}
