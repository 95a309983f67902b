//! Where the API server keeps each kind, and what of it is asked for.

use crate::object::{Kind, ObjectRef};

/// Which objects of a kind are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The kind.
    pub kind: Kind,
    /// A namespace; empty: all.
    pub namespace: String,
    /// A field selector; empty: all.
    pub fields: String,
}

impl From<Kind> for Wanted {
    fn from(kind: Kind) -> Self {
        Self { kind, namespace: String::new(), fields: String::new() }
    }
}

impl Wanted {
    /// The pods of one node.
    #[must_use]
    pub fn pods_of(node: &str) -> Self {
        Self { fields: format!("spec.nodeName={node}"), ..Self::from(Kind::Pod) }
    }

    /// Objects of this name, in one namespace, or in all when that is empty.
    #[must_use]
    pub fn named(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), fields: format!("metadata.name={name}") }
    }
}

/// The word in the path.
pub(crate) fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Node => "nodes",
        Kind::Namespace => "namespaces",
        Kind::ServiceAccount => "serviceaccounts",
        Kind::Pod => "pods",
        Kind::Service => "services",
        Kind::EndpointSlice => "endpointslices",
        Kind::Gateway => "gateways",
        Kind::GatewayClass => "gatewayclasses",
        Kind::HttpRoute => "httproutes",
        Kind::GrpcRoute => "grpcroutes",
        Kind::TlsRoute => "tlsroutes",
        Kind::TcpRoute => "tcproutes",
        Kind::BackendTlsPolicy => "backendtlspolicies",
        Kind::AuthorizationPolicy => "authorizationpolicies",
        Kind::PeerAuthentication => "peerauthentications",
        Kind::RequestAuthentication => "requestauthentications",
        Kind::RateLimitPolicy => "ratelimitpolicies",
        Kind::ExtProcPolicy => "extprocpolicies",
        Kind::ServiceEntry => "serviceentries",
        Kind::WorkloadEntry => "workloadentries",
        Kind::VirtualService => "virtualservices",
        Kind::DestinationRule => "destinationrules",
        Kind::Telemetry => "telemetries",
        Kind::ConfigMap => "configmaps",
        Kind::Secret => "secrets",
    }
}

/// The name of the resource definition that has to be installed for this kind; none: it is always there.
pub(crate) fn definition(kind: Kind) -> Option<String> {
    match kind {
        Kind::Node
        | Kind::Namespace
        | Kind::ServiceAccount
        | Kind::Pod
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::ConfigMap
        | Kind::Secret => None,
        Kind::Gateway
        | Kind::GatewayClass
        | Kind::HttpRoute
        | Kind::GrpcRoute
        | Kind::TlsRoute
        | Kind::TcpRoute
        | Kind::BackendTlsPolicy
        | Kind::AuthorizationPolicy
        | Kind::PeerAuthentication
        | Kind::RequestAuthentication
        | Kind::RateLimitPolicy
        | Kind::ExtProcPolicy
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::VirtualService
        | Kind::DestinationRule
        | Kind::Telemetry => Some(format!("{}.{}", plural(kind), kind.group())),
    }
}

/// What the API server is asked for: only metadata where nothing else is read.
pub(crate) fn accept(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Namespace | Kind::ServiceAccount => (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        ),
        Kind::Node
        | Kind::Pod
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Gateway
        | Kind::GatewayClass
        | Kind::HttpRoute
        | Kind::GrpcRoute
        | Kind::TlsRoute
        | Kind::TcpRoute
        | Kind::BackendTlsPolicy
        | Kind::AuthorizationPolicy
        | Kind::PeerAuthentication
        | Kind::RequestAuthentication
        | Kind::RateLimitPolicy
        | Kind::ExtProcPolicy
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::VirtualService
        | Kind::DestinationRule
        | Kind::Telemetry
        | Kind::ConfigMap
        | Kind::Secret => ("application/json", "application/json"),
    }
}

/// Where the objects are.
pub(crate) fn collection(wanted: &Wanted) -> String {
    let (root, plural) = (root(wanted.kind), plural(wanted.kind));
    if wanted.namespace.is_empty() {
        return format!("{root}/{plural}");
    }
    format!("{root}/namespaces/{}/{plural}", wanted.namespace)
}

/// Where one object is.
pub(crate) fn object(object: &ObjectRef) -> String {
    let (root, plural) = (root(object.kind), plural(object.kind));
    if object.kind.namespaced() {
        return format!("{root}/namespaces/{}/{plural}/{}", object.namespace, object.name);
    }
    format!("{root}/{plural}/{}", object.name)
}

fn root(kind: Kind) -> String {
    let (group, version) = (kind.group(), kind.version());
    if group.is_empty() { "/api/v1".into() } else { format!("/apis/{group}/{version}") }
}

/// A path with a query. Values are escaped.
pub(crate) fn with_query(path: &str, query: &[(&str, &str)]) -> String {
    let mut text = path.to_owned();
    for (at, (key, value)) in query.iter().filter(|(_, value)| !value.is_empty()).enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_and_queries_are_escaped() {
        let policy = ObjectRef::new(Kind::AuthorizationPolicy, "shop", "deny");
        assert_eq!(object(&policy), "/apis/security.istio.io/v1/namespaces/shop/authorizationpolicies/deny");
        assert_eq!(object(&ObjectRef::new(Kind::Node, "", "n1")), "/api/v1/nodes/n1");
        assert_eq!(definition(Kind::Gateway).as_deref(), Some("gateways.gateway.networking.k8s.io"));
        let wanted = Wanted::pods_of("n1");
        assert_eq!(
            with_query(&collection(&wanted), &[("fieldSelector", &wanted.fields), ("continue", "")]),
            "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1"
        );
        let wanted = Wanted::named(Kind::Service, "shop", "web");
        assert_eq!(collection(&wanted), "/api/v1/namespaces/shop/services");
    }
}
