//! What a policy is attached to, to those whose requests come under it: pure. Owns which references mean something.

use ambit_cluster::Kind;
use ambit_cluster::kinds::policy::PolicyTarget;
use ambit_cluster::kinds::waypoint::CLASSES;
use ambit_model::http_route::{RouteKey, RouteKind, RouteTarget};
use ambit_model::name::PolicyName;
use ambit_model::request_policy::Target;

use crate::index::World;
use crate::index::attached::route_kind;

/// What limits and processors are attached to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attached {
    /// Whose requests come under it.
    pub(super) targets: Vec<Target>,
    /// Of which routes they do.
    pub(super) routes: Vec<RouteTarget>,
}

/// What references name that may name routes as well; nothing, if none means anything.
pub(super) fn attached(world: &World, namespace: &str, refs: &[PolicyTarget]) -> Option<Attached> {
    let found = Attached {
        targets: refs.iter().flat_map(|it| targets(world, namespace, it)).collect(),
        routes: refs.iter().filter_map(|it| route(namespace, it)).collect(),
    };
    (found != Attached::default()).then_some(found)
}

/// A route's name is known whether it is there or not, as a service's is.
fn route(namespace: &str, target: &PolicyTarget) -> Option<RouteTarget> {
    let kind = match route_kind(target)? {
        Kind::GrpcRoute => RouteKind::Grpc,
        _ => RouteKind::Http,
    };
    let route = RouteKey { kind, namespace: namespace.parse().ok()?, name: target.name.parse().ok()? };
    let section = target.section_name.as_str();
    Some(RouteTarget { route, rule: (!section.is_empty()).then(|| section.into()) })
}

/// Whose requests come under what a reference names. A service's name is known whether it is there or not.
pub(super) fn targets(world: &World, namespace: &str, target: &PolicyTarget) -> Vec<Target> {
    let service = |host: &str| format!("{namespace}/{host}").parse().ok().map(Target::Service);
    let name = target.name.as_str();
    match (target.group.as_str(), target.kind.as_str()) {
        ("" | "core", "Service") => service(&world.hostname(namespace, name)).into_iter().collect(),
        ("networking.istio.io", "ServiceEntry") => {
            let entry = world.space(namespace).and_then(|space| space.entries.get(name));
            entry.iter().flat_map(|it| &it.spec.hosts).filter_map(|host| service(&host.0)).collect()
        }
        ("gateway.networking.k8s.io", "Gateway") => {
            // What is no name is nobody's, and a waypoint that was told of it would refuse all of the policy.
            let namespace = namespace.parse().ok().filter(|_| name.parse::<PolicyName>().is_ok());
            namespace.map(|namespace| Target::Waypoint { namespace, name: name.into() }).into_iter().collect()
        }
        ("gateway.networking.k8s.io", "GatewayClass") => {
            let is_for_all = is_of_all(name) && namespace == world.mesh.root_namespace;
            is_for_all.then_some(Target::Mesh).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Whether what is attached to a class is for all waypoints: which of the classes of ours it names makes no difference. One
/// that somebody made stands for nothing, whoever its controller is: waypoints do not know of which class they are.
pub(crate) fn is_of_all(class: &str) -> bool {
    CLASSES.iter().any(|it| it.is_ours && it.name == class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    #[test]
    fn a_reference_is_to_those_that_it_names_and_one_to_a_class_to_all_waypoints() {
        let world = world(
            "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: bank, namespace: shop}, \
             spec: {hosts: [bank.example, pay.example], resolution: DNS}}",
        );
        let gateway = "gateway.networking.k8s.io";
        let waypoint = Target::Waypoint { namespace: "shop".parse().unwrap(), name: "way".into() };
        let service = |key: &str| Target::Service(key.parse().unwrap());
        for (namespace, (group, kind, name), wanted) in [
            ("shop", ("", "Service", "web"), vec![service("shop/web.shop.svc.cluster.local")]),
            ("shop", ("core", "Service", "web"), vec![service("shop/web.shop.svc.cluster.local")]),
            ("shop", (gateway, "Gateway", "way"), vec![waypoint]),
            (
                "shop",
                ("networking.istio.io", "ServiceEntry", "bank"),
                vec![service("shop/bank.example"), service("shop/pay.example")],
            ),
            ("shop", ("networking.istio.io", "ServiceEntry", "nobody"), vec![]),
            ("shop", (gateway, "Gateway", ""), vec![]),
            ("shop", (gateway, "GatewayClass", "istio-waypoint"), vec![]),
            ("istio-system", (gateway, "GatewayClass", "istio-waypoint"), vec![Target::Mesh]),
            ("istio-system", (gateway, "GatewayClass", "ambit-waypoint"), vec![Target::Mesh]),
            ("istio-system", (gateway, "GatewayClass", "istio"), vec![]),
            ("shop", ("example.com", "Service", "web"), vec![]),
        ] {
            let (group, kind, name) = (group.into(), kind.into(), name.into());
            let target = PolicyTarget { group, kind, name, ..PolicyTarget::default() };
            assert_eq!(targets(&world, namespace, &target), wanted, "{namespace} {target:?}");
        }
    }

    #[test]
    fn limits_and_processors_are_attached_to_routes_as_well_or_to_rules_of_them() {
        let world = world("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}");
        let gateway = "gateway.networking.k8s.io";
        let target = |(group, kind, section): (&str, &str, &str)| PolicyTarget {
            group: group.into(),
            kind: kind.into(),
            name: "cart".into(),
            section_name: section.into(),
            ..PolicyTarget::default()
        };
        let found = |these: &[(&str, &str, &str)]| {
            let refs: Vec<_> = these.iter().copied().map(target).collect();
            let found = attached(&world, "shop", &refs).unwrap_or_default();
            let routes: Vec<_> = found.routes.iter().map(ToString::to_string).collect();
            (found.targets.len(), routes.join(", "))
        };
        for (refs, wanted) in [
            (&[(gateway, "HTTPRoute", "")][..], (0, "HTTPRoute/shop/cart")),
            (&[(gateway, "GRPCRoute", "pay")], (0, "GRPCRoute/shop/cart (pay)")),
            (
                &[("", "Service", ""), (gateway, "HTTPRoute", "pay"), (gateway, "HTTPRoute", "")],
                (1, "HTTPRoute/shop/cart (pay), HTTPRoute/shop/cart"),
            ),
            (&[("", "HTTPRoute", ""), (gateway, "TCPRoute", ""), (gateway, "Service", "")], (0, "")),
        ] {
            assert_eq!(found(refs), (wanted.0, wanted.1.to_owned()), "{refs:?}");
        }
        assert_eq!(attached(&world, "shop", &[target((gateway, "TLSRoute", ""))]), None);
    }
}
