//! Who goes through which waypoint, by labels, by what the waypoint allows, and while it is not there.

use ambit_cluster::{Kind, ObjectRef};
use ambit_model::delta::Change;
use ambit_model::workload::GatewayDestination;

use super::*;
use crate::index::unit::{Unit, UnitKind};
use crate::testing;
use crate::translate::unit;

fn world(manifests: &[String]) -> World {
    testing::world(&manifests.join("\n---\n"))
}

fn namespace(name: &str, meta: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, {meta}}}}}")
}

fn gateway(name: &str, (meta, from): (&str, &str), address: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: {name}, namespace: gw, {meta}}}, \
         spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {{namespaces: {from}}}}}]}}, \
         status: {{addresses: [{address}]}}}}"
    )
}

const ALL: &str = "{from: All}";
const THERE: &str = "{type: IPAddress, value: 10.0.0.9}, {type: Hostname, value: NAME.gw.svc.cluster.local}";

fn ready(name: &str, meta: &str) -> String {
    gateway(name, (meta, ALL), &THERE.replace("NAME", name))
}

fn service(meta: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: cart, namespace: shop, {meta}}}, spec: {{ports: [{{port: 80}}]}}}}"
    )
}

fn through(name: &str) -> String {
    format!("labels: {{istio.io/use-waypoint: {name}, istio.io/use-waypoint-namespace: gw}}")
}

fn translated(world: &World) -> Service {
    let at = Unit { kind: UnitKind::Service, namespace: "shop".into(), name: "cart".into() };
    let [Change::Service(service)] = &unit(world, &at)[..] else { panic!("no service") };
    service.as_ref().clone()
}

fn shown(by: Option<&GatewayRef>) -> String {
    match by.map(|it| &it.destination) {
        Some(GatewayDestination::Host(key)) => key.to_string(),
        Some(GatewayDestination::Address(address)) => address.to_string(),
        None => String::new(),
    }
}

fn sent(manifests: &[String]) -> String {
    shown(translated(&world(manifests)).waypoint.as_ref())
}

#[test]
fn the_nearest_label_decides_and_none_is_a_decision_too() {
    let main = || [ready("main", ""), ready("own", "")];
    let by_namespace = namespace("shop", &through("main"));
    for (meta, wanted) in [
        ("", "gw/main.gw.svc.cluster.local"),
        (through("own").as_str(), "gw/own.gw.svc.cluster.local"),
        ("labels: {istio.io/use-waypoint: none}", ""),
        // The namespace of a waypoint is read with its name only, and there is none of that name here.
        ("labels: {istio.io/use-waypoint: main}", ""),
        ("labels: {gateway.istio.io/managed: istio.io-mesh-controller}", ""),
        ("labels: {gateway.istio.io/managed: ambit.io-waypoint-controller}", ""),
    ] {
        let [a, b] = main();
        assert_eq!(sent(&[a, b, by_namespace.clone(), service(meta)]), wanted, "{meta}");
    }
    let without = namespace("shop", "labels: {istio.io/use-waypoint: none}");
    let [a, b] = main();
    assert_eq!(sent(&[a, b, without, service("")]), "");
}

#[test]
fn a_waypoint_lets_in_whom_its_listener_allows() {
    let shop = || namespace("shop", "labels: {team: a}");
    for (from, is_in) in [
        (ALL, true),
        ("{from: Same}", false),
        ("{}", false),
        ("{from: None}", false),
        ("{from: Everybody}", false),
        ("{from: Selector, selector: {matchLabels: {team: a}}}", true),
        ("{from: Selector, selector: {matchLabels: {team: b}}}", false),
        ("{from: Selector}", false),
    ] {
        let gateway = gateway("main", ("", from), &THERE.replace("NAME", "main"));
        let all = [gateway, shop(), service(&through("main"))];
        assert_eq!(!sent(&all).is_empty(), is_in, "{from}");
        let world = world(&all);
        let said = attach(&world, Asker::Service(&world.space("shop").unwrap().services["cart"]));
        let denied = matches!(said, Attachment::Unbound(Unbound { fault: Fault::Denied, closed: None, .. }));
        assert_eq!(denied, !is_in, "{from}");
    }
}

#[test]
fn a_gateway_that_is_no_waypoint_is_not_gone_through() {
    let plain = ready("main", "").replace("istio-waypoint", "istio");
    assert_eq!(sent(&[plain.clone(), service(&through("main"))]), "");
    let says_so = plain.replace("namespace: gw,", "namespace: gw, labels: {istio.io/waypoint-for: all},");
    assert_eq!(sent(&[says_so, service(&through("main"))]), "gw/main.gw.svc.cluster.local");
    let class = |controller: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {{name: istio}}, spec: {{controllerName: {controller}}}}}"
        )
    };
    let by_class = [plain.clone(), class("istio.io/mesh-controller"), service(&through("main"))];
    assert_eq!(sent(&by_class), "gw/main.gw.svc.cluster.local");
    assert_eq!(sent(&[plain, class("istio.io/gateway-controller"), service(&through("main"))]), "");
}

#[test]
fn an_address_stands_in_where_no_host_is_given() {
    let by_address = gateway("main", ("", ALL), "{value: 10.0.0.9}");
    assert_eq!(sent(&[by_address, service(&through("main"))]), "/10.0.0.9");
}

#[test]
fn what_is_not_there_is_gone_past_unless_something_is_demanded_of_it() {
    let closed = "gw/main.gw.svc.cluster.local";
    let policy = |namespace: &str, target: &str| {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: {namespace}}}, spec: {{targetRefs: [{target}], rules: [{{}}]}}}}"
        )
    };
    let tokens = |target: &str| {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{name: r, namespace: shop}}, spec: {{targetRefs: [{target}], jwtRules: [{{issuer: me}}]}}}}"
        )
    };
    let of_all = |class: &str| {
        let target = format!("{{group: gateway.networking.k8s.io, kind: GatewayClass, name: {class}}}");
        policy("istio-system", &target)
    };
    let waiting = || gateway("main", ("", ALL), "");
    let asks = || service(&through("main"));
    let annotated = |word: &str| {
        service(&format!("{}, annotations: {{ambit.io/waypoint-policy: {word}}}", through("main")))
    };
    let on_service = || policy("shop", "{kind: Service, name: cart}");
    for (manifests, wanted) in [
        (vec![asks()], ""),
        (vec![waiting(), asks()], ""),
        (vec![on_service(), asks()], closed),
        (vec![waiting(), on_service(), asks()], closed),
        (vec![tokens("{kind: Service, name: cart}"), asks()], closed),
        (vec![tokens("{kind: Service, name: other}"), asks()], ""),
        (vec![policy("shop", "{kind: Service, name: other}"), asks()], ""),
        (vec![policy("gw", "{group: gateway.networking.k8s.io, kind: Gateway, name: main}"), asks()], closed),
        (vec![waiting(), of_all("istio-waypoint"), asks()], closed),
        // A policy of either class of ours is for all waypoints, of whichever class, and those that are not there.
        (
            vec![waiting().replace("istio-waypoint", "ambit-waypoint"), of_all("istio-waypoint"), asks()],
            closed,
        ),
        (vec![of_all("istio-waypoint"), asks()], closed),
        (vec![of_all("ambit-waypoint"), asks()], closed),
        (vec![of_all("istio-agentgateway-waypoint"), asks()], ""),
        (vec![annotated("strict")], closed),
        (vec![on_service(), annotated("permissive")], ""),
        (vec![namespace("shop", "annotations: {ambit.io/waypoint-policy: strict}"), asks()], closed),
        (
            vec![
                namespace("shop", "annotations: {ambit.io/waypoint-policy: strict}"),
                annotated("permissive"),
            ],
            "",
        ),
        // Whoever would be turned away when it is there does not wait for it.
        (vec![gateway("main", ("", "{from: Same}"), ""), annotated("strict")], ""),
    ] {
        assert_eq!(sent(&manifests), wanted, "{manifests:#?}");
    }
}

#[test]
fn a_limit_of_a_route_is_demanded_of_the_services_of_its_namespace_that_the_route_is_attached_to() {
    let closed = "gw/main.gw.svc.cluster.local";
    let route = |namespace: &str, to: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: r, namespace: {namespace}}}, \
             spec: {{parentRefs: [{{group: '', kind: Service, name: {to}, namespace: shop}}], rules: [{{name: pay}}]}}}}"
        )
    };
    let attached = |kind: &str, namespace: &str, target: &str| {
        let (version, spec) = match kind {
            "RateLimitPolicy" => ("ambit.io/v1alpha1", "local: [{requests: 1, per: 1s}]"),
            "ExtProcPolicy" => ("ambit.io/v1alpha1", "service: guard, port: 1"),
            _ => ("security.istio.io/v1", "rules: [{}]"),
        };
        format!(
            "{{apiVersion: {version}, kind: {kind}, metadata: {{name: p, namespace: {namespace}}}, \
             spec: {{targetRefs: [{{group: gateway.networking.k8s.io, {target}}}], {spec}}}}}"
        )
    };
    let asks = || service(&through("main"));
    let to_rule = "kind: HTTPRoute, name: r, sectionName: pay";
    for (manifests, wanted) in [
        (vec![route("shop", "cart"), attached("RateLimitPolicy", "shop", to_rule)], closed),
        (vec![route("shop", "cart"), attached("ExtProcPolicy", "shop", "kind: HTTPRoute, name: r")], closed),
        // Without the route, with one that is attached elsewhere, or of another kind, nothing is demanded.
        (vec![attached("RateLimitPolicy", "shop", to_rule)], ""),
        (vec![route("shop", "other"), attached("RateLimitPolicy", "shop", to_rule)], ""),
        (vec![route("shop", "cart"), attached("RateLimitPolicy", "shop", "kind: GRPCRoute, name: r")], ""),
        // What another namespace wants of its own requests closes nobody else's way.
        (vec![route("other", "cart"), attached("RateLimitPolicy", "other", to_rule)], ""),
        // Other policies cannot be attached to a route.
        (vec![route("shop", "cart"), attached("AuthorizationPolicy", "shop", to_rule)], ""),
    ] {
        let all: Vec<_> = manifests.into_iter().chain([asks()]).collect();
        assert_eq!(sent(&all), wanted, "{all:#?}");
    }
    // When either comes or goes, the service is looked at again.
    let world = world(&[route("shop", "cart"), attached("RateLimitPolicy", "shop", to_rule), asks()]);
    let cart = Unit { kind: UnitKind::Service, namespace: "shop".into(), name: "cart".into() };
    for (kind, name) in [(Kind::HttpRoute, "r"), (Kind::RateLimitPolicy, "p")] {
        let touched = crate::index::touch::of(&world, &ObjectRef::new(kind, "shop", name));
        assert!(touched.contains(&cart), "{name}: {touched:?}");
    }
}

#[test]
fn a_part_of_all_connections_goes_through_a_second_waypoint() {
    let weighted = |manifests: &[String]| -> Vec<(String, u32)> {
        let service = translated(&world(manifests));
        service.weighted_waypoints.iter().map(|(by, weight)| (shown(Some(by)), *weight)).collect()
    };
    let labels = "istio.io/use-waypoint-canary: next, istio.io/use-waypoint-canary-namespace: gw";
    let own = |weight: &str| {
        let first = through("main").replace('}', &format!(", {labels}}}"));
        service(&format!("{first}, annotations: {{istio.io/use-waypoint-canary-weight: '{weight}'}}"))
    };
    let both = || (ready("main", ""), ready("next", ""));
    for (weight, parts) in [("10", [90, 10]), ("0", [100, 0]), ("100", [0, 100])] {
        let (a, b) = both();
        let found: Vec<u32> = weighted(&[a, b, own(weight)]).into_iter().map(|(_, part)| part).collect();
        assert_eq!(found, parts);
    }
    for weight in ["101", "-1", "many"] {
        let (a, b) = both();
        assert_eq!(weighted(&[a, b, own(weight)]), [], "{weight}");
    }
    assert_eq!(weighted(&[ready("main", ""), own("10")]), [], "the second is not there");
    let around = format!(
        "labels: {{istio.io/use-waypoint: main, istio.io/use-waypoint-namespace: gw, {labels}}}, annotations: {{istio.io/use-waypoint-canary-weight: '5'}}"
    );
    let (a, b) = both();
    assert_eq!(weighted(&[a, b, namespace("shop", &around), service("")]).len(), 2);
    let (a, b) = both();
    assert_eq!(
        weighted(&[a, b, namespace("shop", &around), service(&through("main"))]),
        [],
        "who chooses alone is alone"
    );
}

#[test]
fn a_change_of_a_waypoint_touches_those_who_go_through_it_and_nobody_else() {
    let pod = |name: &str, labels: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}, status: {{podIP: 10.1.0.1}}}}"
        )
    };
    let manifests = [
        gateway("main", ("", ALL), ""),
        gateway("other", ("", ALL), ""),
        service(&through("main")),
        service(&through("other")).replace("name: cart", "name: else"),
        service("").replace("name: cart", "name: plain"),
        namespace("far", &through("main")),
        service("").replace("namespace: shop", "namespace: far"),
        pod("own", "istio.io/use-waypoint: main, istio.io/use-waypoint-namespace: gw"),
        pod("plain", "app: a"),
    ];
    let mut world = world(&manifests);
    let object = testing::objects(&ready("main", "")).remove(0);
    assert_eq!(object.reference, ObjectRef::new(Kind::Gateway, "gw", "main"));
    let touched = world.apply(object);
    let touched: Vec<String> = touched.iter().map(ToString::to_string).collect();
    assert_eq!(touched, ["Pod shop/own", "Service far/cart", "Service shop/cart", "Gateway gw/main"]);
    assert_eq!(shown(translated(&world).waypoint.as_ref()), "gw/main.gw.svc.cluster.local");
}

#[test]
fn workloads_go_through_what_is_for_them_and_a_waypoints_own_pods_through_nothing() {
    let pod = |labels: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: gw, labels: {{{labels}}}}}, status: {{podIP: 10.1.0.1}}}}"
        )
    };
    let of = |manifests: &[String]| {
        let at = Unit { kind: UnitKind::Pod, namespace: "gw".into(), name: "web".into() };
        let [Change::Workload(workload)] = &unit(&world(manifests), &at)[..] else { panic!("no workload") };
        (shown(workload.waypoint.as_ref()), workload.application_tunnel)
    };
    let for_all = || ready("main", "labels: {istio.io/waypoint-for: all}");
    let around = || namespace("gw", "labels: {istio.io/use-waypoint: main}");
    assert_eq!(of(&[for_all(), around(), pod("app: web")]).0, "gw/main.gw.svc.cluster.local");
    assert_eq!(of(&[ready("main", ""), around(), pod("app: web")]).0, "", "it is for services");
    assert_eq!(
        of(&[for_all(), around(), pod("gateway.networking.k8s.io/gateway-name: main")]),
        (String::new(), None)
    );
    for (binding, handed) in [
        (
            "PROXY/15088",
            Some(ApplicationTunnel { protocol: ambit_model::workload::Handover::Proxy, port: Some(15088) }),
        ),
        ("NONE", Some(ApplicationTunnel { protocol: ambit_model::workload::Handover::Plain, port: None })),
        (
            "PROXY/many",
            Some(ApplicationTunnel { protocol: ambit_model::workload::Handover::Proxy, port: None }),
        ),
        ("HTTP", None),
    ] {
        let bound =
            ready("main", &format!("annotations: {{ambient.istio.io/waypoint-inbound-binding: {binding}}}"));
        let pod = pod("gateway.networking.k8s.io/gateway-name: main");
        assert_eq!(of(&[bound, around(), pod]), (String::new(), handed), "{binding}");
    }
}

#[test]
fn whoever_would_go_past_a_waypoint_that_is_there_does_not_wait_for_it() {
    let policy = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: gw}, spec: \
                  {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: main}], rules: [{}]}}";
    let pod = |labels: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: gw, labels: {{{labels}}}}}, status: {{podIP: 10.1.0.1}}}}"
        )
    };
    let waiting = |meta: &str| gateway("main", (meta, ALL), "");
    let (plain, own, closed) = ("app: web", "istio.io/use-waypoint: main", "gw/main.gw.svc.cluster.local");
    for (gateway, labels, wanted) in [
        (Some(waiting("")), plain, ""),
        (Some(waiting("")), own, ""),
        (Some(waiting("labels: {istio.io/waypoint-for: all}")), plain, closed),
        (Some(waiting("labels: {istio.io/waypoint-for: workload}")), plain, closed),
        // What one is for that is not there is not known: without a word for services.
        (None, plain, ""),
        (None, own, closed),
    ] {
        let around = namespace("gw", "labels: {istio.io/use-waypoint: main}");
        let all: Vec<_> = gateway.into_iter().chain([around, pod(labels), policy.to_owned()]).collect();
        let at = Unit { kind: UnitKind::Pod, namespace: "gw".into(), name: "web".into() };
        let [Change::Workload(workload)] = &unit(&world(&all), &at)[..] else { panic!("no workload") };
        assert_eq!(shown(workload.waypoint.as_ref()), wanted, "{all:#?}");
    }
}

#[test]
fn a_policy_for_all_waypoints_touches_all_that_go_through_one_that_is_not_there_as_well() {
    let policy = |class: &str| {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: istio-system}}, \
             spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: GatewayClass, name: {class}}}], rules: [{{}}]}}}}"
        )
    };
    let ambits = || gateway("main", ("", ALL), "").replace("istio-waypoint", "ambit-waypoint");
    for (manifests, class, wanted) in [
        (vec![ambits(), service(&through("main"))], "istio-waypoint", true),
        (vec![service(&through("gone"))], "istio-waypoint", true),
        (vec![service("")], "istio-waypoint", false),
        (vec![ambits(), service(&through("main"))], "another", false),
    ] {
        let mut world = world(&manifests);
        let touched = world.apply(testing::objects(&policy(class)).remove(0));
        let cart = Unit { kind: UnitKind::Service, namespace: "shop".into(), name: "cart".into() };
        assert_eq!(touched.contains(&cart), wanted, "{class} {manifests:?}: {touched:?}");
        let told =
            crate::status::affected(&world, &ObjectRef::new(Kind::AuthorizationPolicy, "istio-system", "p"));
        let cart = ObjectRef::new(Kind::Service, "shop", "cart");
        assert_eq!(told.contains(&cart), wanted, "{class} {manifests:?}: {told:?}");
    }
}
