//! Who goes through the waypoint of a service account, what stands above it, and what moves when an endpoint does.

use ambit_cluster::object::Object;
use ambit_cluster::{Kind, ObjectRef};

use crate::conditions;
use crate::index::World;
use crate::index::unit::{Unit, UnitKind};
use crate::status;
use crate::testing;
use crate::translate::waypoint::{Asker, Attachment, attach};

fn objects(manifests: &[String]) -> Vec<Object> {
    testing::objects(&manifests.join("\n---\n"))
}

fn world(manifests: &[String]) -> World {
    testing::world_of(objects(manifests))
}

fn gateway(name: &str, meta: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: {name}, namespace: shop, {meta}}}, \
         spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}, \
         status: {{addresses: [{{type: Hostname, value: {name}.shop.svc.cluster.local}}]}}}}"
    )
}

const CART: &str = "annotations: {istio.io/for-service-account: cart}";

fn pod(name: &str, account: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{app: cart{more}}}}}, \
         spec: {{serviceAccountName: {account}, nodeName: n, containers: [{{name: c}}]}}, status: {{podIP: 10.0.0.1, phase: Running}}}}"
    )
}

fn service(meta: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: cart, namespace: shop, {meta}}}, \
         spec: {{selector: {{app: cart}}, ports: [{{port: 80}}]}}}}"
    )
}

fn namespace(labels: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {{{labels}}}}}}}")
}

/// The waypoint of the service, and what holds if it is not attached.
fn of_service(world: &World) -> String {
    let service = &world.space("shop").unwrap().services["cart"];
    shown(&attach(world, Asker::Service(service)))
}

fn of_pod(world: &World, name: &str) -> String {
    let pod = &world.space("shop").unwrap().pods[name];
    let (labels, account) = (&pod.metadata.labels, pod.service_account());
    shown(&attach(world, Asker::Workload { namespace: "shop", labels, account }))
}

fn shown(attachment: &Attachment<'_>) -> String {
    match attachment {
        Attachment::Unasked => String::new(),
        Attachment::Bound(it) => it.waypoint.name.to_owned(),
        Attachment::Unbound(it) => {
            let closed = if it.closed.is_some() { ", closed" } else { "" };
            format!("{:?}{closed}", it.fault)
        }
    }
}

fn said(world: &World) -> Vec<(&'static str, &'static str)> {
    let said = conditions::of(world, &ObjectRef::new(Kind::Service, "shop", "cart"));
    said.iter().map(|it| (it.status, it.reason)).collect()
}

#[test]
fn what_runs_as_the_account_goes_through_its_waypoint_and_nothing_else_does() {
    let world =
        world(&[gateway("way", CART), pod("a", "cart", ""), pod("b", "web", ""), pod("c", "default", "")]);
    assert_eq!(of_pod(&world, "a"), "way");
    assert_eq!(of_pod(&world, "b"), "");
    assert_eq!(of_pod(&world, "c"), "");
}

#[test]
fn a_service_goes_through_it_while_all_of_its_endpoints_run_as_the_account() {
    let (way, service) = (gateway("way", CART), service(""));
    let entry = |account: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: vm, namespace: shop}}, \
             spec: {{address: 10.0.0.7, labels: {{app: cart}}, serviceAccount: {account}}}}}"
        )
    };
    let over = pod("b", "web", "").replace("Running", "Succeeded");
    for (endpoints, wanted) in [
        (vec![pod("a", "cart", "")], "way"),
        (vec![pod("a", "cart", ""), pod("b", "cart", "")], "way"),
        (vec![pod("a", "cart", ""), pod("b", "web", "")], "Accounts"),
        (vec![pod("a", "cart", ""), over], "way"),
        (vec![pod("a", "cart", ""), entry("cart")], "way"),
        (vec![pod("a", "cart", ""), entry("web")], "Accounts"),
        (vec![pod("b", "web", "")], ""),
        (vec![], ""),
    ] {
        let world = world(&[vec![way.clone(), service.clone()], endpoints.clone()].concat());
        assert_eq!(of_service(&world), wanted, "{endpoints:?}");
        let reasons = match wanted {
            "way" => vec![("True", "WaypointAccepted")],
            "Accounts" => vec![("False", "MixedServiceAccounts")],
            _ => vec![],
        };
        assert_eq!(said(&world), reasons, "{endpoints:?}");
    }
}

#[test]
fn a_service_without_a_selector_has_the_endpoints_that_its_slices_name() {
    let own = "{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {ports: [{port: 80}]}}";
    let slice = |targets: &str| {
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
             metadata: {{name: s, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}, endpoints: [{targets}]}}"
        )
    };
    let pod_a = "{addresses: [10.0.0.1], targetRef: {kind: Pod, name: a, namespace: shop}}";
    let outside = "{addresses: [192.0.2.1]}";
    for (targets, wanted) in
        [(pod_a.to_owned(), "way"), (format!("{pod_a}, {outside}"), "Accounts"), (outside.to_owned(), "")]
    {
        let world = world(&[gateway("way", CART), own.to_owned(), pod("a", "cart", ""), slice(&targets)]);
        assert_eq!(of_service(&world), wanted, "{targets}");
    }
}

#[test]
fn an_own_label_stands_above_the_account_and_the_namespaces_below_it() {
    let by_namespace = namespace("istio.io/use-waypoint: main");
    let all = || vec![gateway("way", CART), gateway("main", ""), gateway("own", ""), pod("a", "cart", "")];
    for (meta, wanted) in [
        ("", "way"),
        ("labels: {istio.io/use-waypoint: own}", "own"),
        ("labels: {istio.io/use-waypoint: none}", ""),
    ] {
        let world = world(&[all(), vec![by_namespace.clone(), service(meta)]].concat());
        assert_eq!(of_service(&world), wanted, "{meta}");
    }
    let opted_out = pod("b", "cart", ", istio.io/use-waypoint: none");
    let mixed = [all(), vec![by_namespace, service(""), pod("c", "web", ""), opted_out]].concat();
    let world = world(&mixed);
    assert_eq!(of_service(&world), "main", "where the account's cannot be, its namespace's is");
    assert_eq!(of_pod(&world, "a"), "way");
    assert_eq!(of_pod(&world, "b"), "");
    assert_eq!(of_pod(&world, "c"), "", "a namespace's waypoint is for services");
}

#[test]
fn the_namespaces_waypoint_goes_on_until_the_accounts_is_there_unless_more_is_demanded_of_that_one() {
    let unready = |name: &str, meta: &str| gateway(name, meta).replace("addresses: [", "none: [");
    let policy = |kind: &str, name: &str, namespace: &str| {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: {namespace}}}, \
             spec: {{targetRefs: [{{kind: {kind}, name: {name}}}], action: DENY, rules: [{{}}]}}}}"
        )
    };
    let of_service_itself = || policy("Service", "cart", "shop");
    let of_account = || policy("Gateway, group: gateway.networking.k8s.io", "way", "shop");
    let of_class = || {
        let class = "GatewayClass, group: gateway.networking.k8s.io";
        policy(class, "istio-waypoint", "istio-system")
    };
    let of = |class: &str| gateway("main", "").replace("istio-waypoint", class);
    for (account, around, policies, wanted) in [
        (gateway("way", CART), gateway("main", ""), vec![], "way"),
        (unready("way", CART), gateway("main", ""), vec![], "main"),
        (unready("way", CART), gateway("main", ""), vec![of_service_itself()], "main"),
        (unready("way", CART), gateway("main", ""), vec![of_account()], "NotReady, closed"),
        (unready("way", CART), gateway("main", ""), vec![of_class()], "main"),
        // What is for all waypoints of ours is in force at one of our other class, and not at somebody else's.
        (unready("way", CART), of("ambit-waypoint"), vec![of_class()], "main"),
        (unready("way", CART), of("istio-agentgateway-waypoint"), vec![of_class()], "NotReady, closed"),
        (unready("way", CART), unready("main", ""), vec![], "NotReady"),
        (unready("way", CART), unready("main", ""), vec![of_service_itself()], "NotReady, closed"),
    ] {
        let fixed = [namespace("istio.io/use-waypoint: main"), service(""), pod("a", "cart", "")];
        let world =
            world(&[fixed.to_vec(), vec![account.clone(), around.clone()], policies.clone()].concat());
        assert_eq!(of_service(&world), wanted, "{account} {around} {policies:?}");
    }
}

#[test]
fn a_label_of_the_namespace_that_wants_no_waypoint_does_not_speak_for_the_account() {
    let world = world(&[
        namespace("istio.io/use-waypoint: none"),
        gateway("way", CART),
        pod("a", "cart", ""),
        service(""),
    ]);
    assert_eq!(of_service(&world), "way");
}

#[test]
fn what_is_demanded_at_the_waypoint_is_demanded_of_all_endpoints_of_a_mixed_service() {
    let policy = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop}, \
                  spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: way}], action: DENY, rules: [{}]}}";
    let mixed = || vec![gateway("way", CART), service(""), pod("a", "cart", ""), pod("b", "web", "")];
    let strict = world(&[mixed(), vec![policy.to_owned()]].concat());
    assert_eq!(of_service(&strict), "Accounts, closed");
    let permissive = service("annotations: {ambit.io/waypoint-policy: permissive}");
    let mut all = mixed();
    all[1] = permissive;
    let world = world(&[all, vec![policy.to_owned()]].concat());
    assert_eq!(of_service(&world), "Accounts");
}

#[test]
fn a_waypoint_that_is_for_services_alone_is_not_for_the_workloads_of_its_account() {
    let only = "labels: {istio.io/waypoint-for: service}, annotations: {istio.io/for-service-account: cart}";
    let world = world(&[gateway("way", only), pod("a", "cart", ""), service("")]);
    assert_eq!(of_service(&world), "way");
    assert_eq!(of_pod(&world, "a"), "");
}

#[test]
fn of_two_waypoints_for_an_account_the_older_one_is_it_and_the_other_says_so() {
    let aged = |name: &str, year: u16| {
        gateway(name, &format!("creationTimestamp: '{year}-01-01T00:00:00Z', {CART}"))
    };
    let mut world = world(&[aged("young", 2026), aged("old", 2025), pod("a", "cart", ""), service("")]);
    assert_eq!(of_service(&world), "old");
    let told = |world: &World, name: &str| {
        let said = conditions::gateway::gateway(world, &ObjectRef::new(Kind::Gateway, "shop", name)).unwrap();
        let said = said.conditions.into_iter().find(|it| it.kind == "ambit.io/ForServiceAccount");
        said.map(|it| (it.status, it.reason)).unwrap()
    };
    assert_eq!(told(&world, "old"), ("True", "Serves"));
    assert_eq!(told(&world, "young"), ("False", "AccountServedByAnother"));
    let old = ObjectRef::new(Kind::Gateway, "shop", "old");
    assert!(status::affected(&world, &old).contains(&ObjectRef::new(Kind::Gateway, "shop", "young")));
    world.remove(&old);
    assert_eq!(of_service(&world), "young");
    assert_eq!(told(&world, "young"), ("True", "Serves"));
}

#[test]
fn an_endpoint_that_comes_goes_or_changes_its_account_moves_its_services_along() {
    let mut world = world(&[gateway("way", CART), service(""), pod("a", "cart", "")]);
    let cart = Unit { kind: UnitKind::Service, namespace: "shop".into(), name: "cart".into() };
    let reported = ObjectRef::new(Kind::Service, "shop", "cart");
    for (pod, wanted) in [
        (pod("b", "web", ""), "Accounts"),
        (pod("b", "cart", ""), "way"),
        (pod("b", "web", ""), "Accounts"),
        // It is selected no more.
        (pod("b", "web", "").replace("app: cart", "app: other"), "way"),
    ] {
        let object = objects(&[pod]).remove(0);
        let at = object.reference.clone();
        let before = status::affected(&world, &at);
        let touched = world.apply(object);
        assert!(touched.contains(&cart), "{wanted}");
        let after = status::affected(&world, &at);
        assert!(before.contains(&reported) || after.contains(&reported), "{wanted}");
        assert_eq!(of_service(&world), wanted);
    }
    let touched = world.remove(&ObjectRef::new(Kind::Pod, "shop", "a"));
    assert!(touched.contains(&cart));
    assert_eq!(of_service(&world), "");
}

#[test]
fn a_gateway_that_comes_or_goes_moves_all_that_runs_as_its_account() {
    let mut world = world(&[service(""), pod("a", "cart", "")]);
    let units = [(UnitKind::Service, "cart"), (UnitKind::Pod, "a")];
    let units = units.map(|(kind, name)| Unit { kind, namespace: "shop".into(), name: name.into() });
    let object = objects(&[gateway("way", CART)]).remove(0);
    let at = object.reference.clone();
    let touched = world.apply(object);
    assert!(units.iter().all(|unit| touched.contains(unit)), "{touched:?}");
    assert_eq!(of_service(&world), "way");
    let touched = world.remove(&at);
    assert!(units.iter().all(|unit| touched.contains(unit)), "{touched:?}");
    assert_eq!((of_service(&world), of_pod(&world, "a")), (String::new(), String::new()));
}
