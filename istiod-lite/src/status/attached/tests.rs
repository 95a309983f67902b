//! What authors of gateways and routes read, and that it is written once and takes nothing from others.

use std::path::Path;
use std::time::Duration;

use ambit_cluster::{Overlay, Writer};

use super::super::{News, affected, all, report};
use super::*;
use crate::testing::{objects_in, world_of};

const GATEWAY: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: main, namespace: shop, generation: 2}, spec: {gatewayClassName: istio-waypoint, listeners: [LISTENERS]}}
---
{apiVersion: v1, kind: Service, metadata: {name: main, namespace: shop}, spec: {clusterIP: 10.9.0.1, selector: {gateway.networking.k8s.io/gateway-name: main}, ports: [{port: 15008}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: main-1, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: main}}, status: {phase: Running, podIP: 10.1.0.9, conditions: [{type: Ready, status: 'READY'}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: ambit-waypoint, generation: 1}, spec: {controllerName: ambit.io/waypoint-controller}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: another, generation: 1}, spec: {controllerName: example.com/it}}
";

const USUAL: &str = "{name: mesh, port: 15008, protocol: HBONE}";

const ROUTES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop, labels: {LABELS}}, spec: {ports: [{port: 80}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: buy, namespace: shop, generation: 4}, spec: {parentRefs: [{name: front}, {group: '', kind: Service, name: cart, port: 80}], rules: [RULES]}, status: {parents: [{parentRef: {name: front}, controllerName: example.com/it, conditions: [{type: Accepted, status: 'True', reason: Accepted, message: yes it is, lastTransitionTime: '2026-01-01T00:00:00Z', observedGeneration: 4}]}]}}
";

fn load(folder: &Path) -> World {
    world_of(objects_in(&folder.join("mesh"), Some(&folder.join("overlay"))))
}

/// The manifests after everything was said; that saying it again says nothing new is looked at on the way.
fn told(folder: &Path, manifests: &str) -> World {
    std::fs::create_dir_all(folder.join("mesh")).unwrap();
    std::fs::write(folder.join("mesh/all.yaml"), manifests).unwrap();
    let writer = Writer::Overlay(Overlay::new(folder.join("overlay"), "istiod"));
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let world = load(folder);
    for object in all(&world) {
        report(&world, &object, News::default(), &writer, now).unwrap();
    }
    let world = load(folder);
    for object in all(&world) {
        assert_eq!(patch(&world, &object, now), None, "{object} is told the same once more");
    }
    world
}

fn shown(conditions: &[PolicyCondition]) -> Vec<String> {
    conditions
        .iter()
        .map(|it| format!("{}={} {} {}", it.kind, it.status, it.reason, it.observed_generation))
        .collect()
}

#[test]
fn a_gateway_reads_whether_it_is_there_and_keeps_the_address_that_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let ready = GATEWAY.replace("READY", "True").replace("LISTENERS", USUAL);
    let gone = GATEWAY.replace("READY", "False").replace("LISTENERS", USUAL);
    let status = |manifests: &str| {
        let world = told(folder.path(), manifests);
        let status = world.space("shop").unwrap().gateways["main"].status.clone();
        let addresses: Vec<String> =
            status.addresses.iter().map(|it| format!("{} {}", it.kind, it.value)).collect();
        (addresses, shown(&status.conditions), shown(&status.listeners[0].conditions))
    };
    let waiting = [
        "Accepted=True Accepted 2",
        "Programmed=False AddressNotAssigned 2",
        "ResolvedRefs=True ResolvedRefs 2",
    ];
    let (addresses, conditions, _) = status(&gone);
    assert_eq!((addresses.len(), conditions), (0, waiting.map(String::from).to_vec()));
    let there = ["IPAddress 10.9.0.1", "Hostname main.shop.svc.cluster.local"];
    let (addresses, conditions, listener) = status(&ready);
    assert_eq!(addresses, there);
    assert_eq!(conditions[1], "Programmed=True Programmed 2");
    assert_eq!(listener[0], "Accepted=True Accepted 2");
    assert_eq!(listener[1], "Conflicted=False NoConflicts 2");
    let (addresses, conditions, _) = status(&gone);
    assert_eq!(
        (addresses, conditions),
        (there.map(String::from).to_vec(), waiting.map(String::from).to_vec())
    );
}

#[test]
fn listeners_that_no_waypoint_has_are_named_and_classes_of_ours_are_accepted() {
    for (listeners, accepted, first) in [
        (
            "{name: web, port: 80, protocol: HTTP}",
            "Accepted=False ListenersNotValid 2",
            "Accepted=False UnsupportedProtocol 2",
        ),
        (
            "{name: mesh, port: 15009, protocol: HBONE}",
            "Accepted=False ListenersNotValid 2",
            "Accepted=False UnsupportedProtocol 2",
        ),
        (
            "{name: web, port: 80, protocol: HTTP}, {name: mesh, port: 15008, protocol: HBONE}",
            "Accepted=True ListenersNotValid 2",
            "Accepted=False UnsupportedProtocol 2",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let world = told(folder.path(), &GATEWAY.replace("READY", "True").replace("LISTENERS", listeners));
        let status = &world.space("shop").unwrap().gateways["main"].status;
        assert_eq!(shown(&status.conditions)[0], accepted, "{listeners}");
        assert_eq!(shown(&status.listeners[0].conditions)[0], first, "{listeners}");
        assert_eq!(
            shown(&world.class("ambit-waypoint").unwrap().status.conditions),
            ["Accepted=True Accepted 1"]
        );
        assert_eq!(world.class("another").unwrap().status.conditions, []);
    }
}

const GOOD: &str = "{backendRefs: [{name: cart, port: 80}]}";
const THROUGH: &str = "istio.io/use-waypoint: main";
const CALL: &str = "---\n{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: call, namespace: shop}, spec: {parentRefs: [{group: '', kind: Service, name: cart}], rules: [{}]}}";

/// Labels of the service, rules, what else is there, and what is told.
const TOLD_OF_ROUTES: &[(&str, &str, &str, &[&str])] = &[
    (
        THROUGH,
        GOOD,
        "",
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "ResolvedWaypoints=True ResolvedWaypoints",
        ],
    ),
    (
        "",
        GOOD,
        "",
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "ResolvedWaypoints=False MissingUseWaypointLabel",
        ],
    ),
    (
        "istio.io/use-waypoint: other",
        GOOD,
        "",
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "ResolvedWaypoints=False WaypointIsNotReady",
        ],
    ),
    (
        THROUGH,
        "{backendRefs: [{name: nobody, port: 80}]}",
        "",
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=False BackendNotFound",
            "ResolvedWaypoints=True ResolvedWaypoints",
        ],
    ),
    (
        THROUGH,
        "{filters: [{type: Magic}], backendRefs: [{name: cart, port: 80}]}, {backendRefs: [{name: cart, port: 80}]}",
        "",
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "PartiallyInvalid=True UnsupportedValue",
            "ResolvedWaypoints=True ResolvedWaypoints",
        ],
    ),
    (
        THROUGH,
        "{filters: [{type: Magic}]}",
        "",
        &["Accepted=False UnsupportedValue", "ResolvedRefs=True ResolvedRefs"],
    ),
    (THROUGH, GOOD, CALL, &["Accepted=False Conflicted", "ResolvedRefs=True ResolvedRefs"]),
];

#[test]
fn a_route_reads_what_became_of_it_at_each_service_and_what_others_say_stays() {
    let ready = GATEWAY.replace("READY", "True").replace("LISTENERS", USUAL);
    for &(labels, rules, more, wanted) in TOLD_OF_ROUTES {
        let folder = tempfile::tempdir().unwrap();
        let routes = ROUTES.replace("LABELS", labels).replace("RULES", rules);
        // The gateway has to say where it is before anybody goes through it.
        drop(told_once(folder.path(), &format!("{ready}---{routes}{more}")));
        let world = told(folder.path(), &format!("{ready}---{routes}{more}"));
        let parents = &world.space("shop").unwrap().http_routes["buy"].status.parents;
        let [theirs, ours] = parents.as_slice() else { panic!("{parents:#?}") };
        assert_eq!(
            (theirs.controller_name.as_str(), theirs.conditions[0].message.as_str()),
            ("example.com/it", "yes it is")
        );
        assert_eq!((ours.controller_name.as_str(), ours.parent_ref.port.unwrap().0), (CONTROLLER, 80));
        let wanted: Vec<String> = wanted.iter().map(|it| format!("{it} 4")).collect();
        assert_eq!(shown(&ours.conditions), wanted, "{labels} {rules} {more}");
    }
}

#[test]
fn what_upstreams_control_plane_says_of_gateways_stays() {
    let upstreams = "{parentRef: {name: front}, controllerName: istio.io/gateway-controller, conditions: [";
    let routes = ROUTES.replace("LABELS", "").replace("RULES", "{}");
    let routes =
        routes.replace("{parentRef: {name: front}, controllerName: example.com/it, conditions: [", upstreams);
    for (refs, wanted) in [
        (routes.clone(), &["front", "cart"][..]),
        (routes.replace(", {group: '', kind: Service, name: cart, port: 80}", ""), &["front"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let world = told(folder.path(), &refs);
        let parents = &world.space("shop").unwrap().http_routes["buy"].status.parents;
        let names: Vec<_> = parents.iter().map(|it| it.parent_ref.name.as_str()).collect();
        assert_eq!(names, wanted, "{refs}");
        assert_eq!(parents[0].conditions[0].message, "yes it is");
    }
}

fn told_once(folder: &Path, manifests: &str) -> World {
    std::fs::create_dir_all(folder.join("mesh")).unwrap();
    std::fs::write(folder.join("mesh/all.yaml"), manifests).unwrap();
    let writer = Writer::Overlay(Overlay::new(folder.join("overlay"), "istiod"));
    let world = load(folder);
    for object in all(&world) {
        report(&world, &object, News::default(), &writer, SystemTime::UNIX_EPOCH).unwrap();
    }
    load(folder)
}

#[test]
fn whoever_has_to_be_told_something_else_is_looked_at_when_something_changes() {
    let folder = tempfile::tempdir().unwrap();
    let routes = ROUTES.replace("LABELS", "istio.io/use-waypoint: main").replace("RULES", "{}");
    let grpc = "---\n{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: call, namespace: shop}, spec: {parentRefs: [{group: '', kind: Service, name: cart}], rules: [{}]}}";
    let manifests =
        format!("{}---{routes}{grpc}", GATEWAY.replace("READY", "True").replace("LISTENERS", USUAL));
    let world = told_once(folder.path(), &manifests);
    let at = |kind, name: &str| ObjectRef::new(kind, "shop", name);
    for (changed, told) in [
        (at(Kind::Pod, "main-1"), at(Kind::Gateway, "main")),
        (at(Kind::Service, "main"), at(Kind::Gateway, "main")),
        (at(Kind::Gateway, "main"), at(Kind::Gateway, "main")),
        (at(Kind::Gateway, "main"), at(Kind::Service, "cart")),
        (at(Kind::Gateway, "main"), at(Kind::HttpRoute, "buy")),
        (at(Kind::Service, "cart"), at(Kind::HttpRoute, "buy")),
        (at(Kind::GrpcRoute, "call"), at(Kind::HttpRoute, "buy")),
        (at(Kind::HttpRoute, "buy"), at(Kind::HttpRoute, "buy")),
        (at(Kind::Namespace, "shop"), at(Kind::HttpRoute, "buy")),
    ] {
        let changed = if changed.kind == Kind::Namespace {
            ObjectRef::new(Kind::Namespace, "", "shop")
        } else {
            changed
        };
        assert!(affected(&world, &changed).contains(&told), "{changed}: {told}");
    }
    assert_eq!(affected(&world, &at(Kind::Pod, "nobody")), []);
}
