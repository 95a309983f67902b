//! The whole round: what is written comes back with the objects, and then there is nothing more to write.

use std::path::Path;
use std::time::Duration;

use ambit_cluster::overlay::Overlay;

use super::*;
use crate::testing::{objects_in, world_of};
use crate::vips::Ranges;

fn now(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + seconds)
}

fn world(folder: &Path) -> World {
    world_of(objects_in(&folder.join("mesh"), Some(&folder.join("overlay"))))
}

/// Says everything that is to be said; returns how many files of the overlay are others than before.
fn round(folder: &Path, seconds: u64) -> usize {
    let files = || {
        let list = std::fs::read_dir(folder.join("overlay/istiod")).into_iter().flatten().flatten();
        let read = list.map(|file| (file.file_name(), std::fs::read_to_string(file.path()).unwrap()));
        read.collect::<std::collections::BTreeMap<_, _>>()
    };
    let (before, world) = (files(), world(folder));
    let writer = Writer::Overlay(Overlay::new(folder.join("overlay"), "istiod"));
    let ranges = Ranges { v4: "240.240.0.0/16".parse().unwrap(), v6: "2001:2::/48".parse().unwrap() };
    let given: std::collections::BTreeMap<_, _> = vips::plan(&world, ranges).into_iter().collect();
    for object in all(&world) {
        let news = News { given: given.get(&object), fault: None };
        report(&world, &object, news, &writer, now(seconds)).unwrap();
    }
    let after = files();
    let changed = after.iter().filter(|(name, text)| before.get(*name) != Some(text)).count();
    changed + before.keys().filter(|name| !after.contains_key(*name)).count()
}

const ENTRY: &str = "
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: shop, generation: GENERATION, labels: {LABELS}}, spec: {hosts: [h.example], resolution: RESOLUTION, ports: [{number: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop, generation: 3, labels: {istio.io/use-waypoint: w}}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: quiet, namespace: shop}, spec: {ports: [{port: 80}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop, generation: 2}, spec: {rules: [{}]}}
";

fn write(folder: &Path, generation: u32, labels: &str, resolution: &str) {
    std::fs::create_dir_all(folder.join("mesh")).unwrap();
    let text = ENTRY.replace("GENERATION", &generation.to_string()).replace("LABELS", labels);
    std::fs::write(folder.join("mesh/all.yaml"), text.replace("RESOLUTION", resolution)).unwrap();
}

fn conditions(folder: &Path, kind: Kind, name: &str) -> Vec<(String, String, i64, String)> {
    let world = world(folder);
    let known = known(&world, &ObjectRef::new(kind, "shop", name)).unwrap();
    let told = |it: &PolicyCondition| {
        (it.kind.clone(), it.reason.clone(), it.observed_generation, it.last_transition_time.clone())
    };
    known.conditions.iter().map(told).collect()
}

#[test]
fn what_is_said_comes_back_and_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, 5, "istio.io/use-waypoint: w", "DNS");
    assert_eq!(round(at, 0), 3, "an entry, a service, a policy; of the quiet one there is nothing to say");
    assert_eq!(round(at, 10), 0, "a restart writes nothing anew");
    let since = "2026-01-01T00:00:00Z".to_owned();
    let bound = |generation| {
        ("istio.io/WaypointBound".into(), "WaypointIsNotReady".into(), generation, since.clone())
    };
    assert_eq!(conditions(at, Kind::ServiceEntry, "e"), [bound(5)]);
    assert_eq!(conditions(at, Kind::Service, "s"), [bound(3)]);
    let accepted = ("ZtunnelAccepted".into(), "Accepted".into(), 2, since.clone());
    assert_eq!(conditions(at, Kind::AuthorizationPolicy, "p"), [accepted]);
    assert_eq!(world(at).space("shop").unwrap().entries["e"].status.addresses.len(), 2);

    write(at, 6, "istio.io/use-waypoint: w", "DNS");
    assert_eq!(round(at, 20), 1, "another generation was looked at");
    assert_eq!(conditions(at, Kind::ServiceEntry, "e"), [bound(6)], "and holds since when it did");
    assert_eq!(world(at).space("shop").unwrap().entries["e"].status.addresses.len(), 2, "its addresses stay");
}

#[test]
fn what_holds_no_more_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, 1, "istio.io/use-waypoint: w", "DNS");
    round(at, 0);
    write(at, 2, "", "DNS");
    round(at, 1);
    assert_eq!(conditions(at, Kind::ServiceEntry, "e"), []);
    assert_eq!(world(at).space("shop").unwrap().entries["e"].status.addresses.len(), 2);
    write(at, 3, "", "NONE");
    round(at, 2);
    assert_eq!(world(at).space("shop").unwrap().entries["e"].status.addresses, []);
    assert!(!at.join("overlay/istiod/ServiceEntry_shop_e.json").exists(), "nothing is left to say");
    assert_eq!(round(at, 3), 0);
}

#[test]
fn policies_that_want_somebody_to_be_asked_are_looked_at_when_their_service_comes_or_goes() {
    let world = crate::testing::world(
        "
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: 'extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: ext/authz.ext.svc.cluster.local, port: 80}}, {name: b, envoyExtAuthzHttp: {service: bank.example, port: 80}}]'}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: bank, namespace: ext}, spec: {hosts: [bank.example], resolution: DNS}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: asks, namespace: shop}, spec: {targetRefs: [{kind: Service, name: web}], action: CUSTOM, provider: {name: a}, rules: [{}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: denies, namespace: shop}, spec: {targetRefs: [{kind: Service, name: web}], action: DENY, rules: [{}]}}
",
    );
    let asks = ObjectRef::new(Kind::AuthorizationPolicy, "shop", "asks");
    let denies = ObjectRef::new(Kind::AuthorizationPolicy, "shop", "denies");
    for (kind, name, wanted) in [
        (Kind::Service, "authz", true),
        (Kind::ServiceEntry, "bank", true),
        (Kind::Service, "other", false),
        (Kind::Pod, "authz", false),
    ] {
        let all = affected(&world, &ObjectRef::new(kind, "ext", name));
        assert_eq!((all.contains(&asks), all.contains(&denies)), (wanted, false), "{kind:?} {name}: {all:?}");
    }
}

#[test]
fn policies_of_routes_are_looked_at_when_the_route_or_what_it_is_attached_to_changes() {
    let world = crate::testing::world(
        "
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: own}, spec: {parentRefs: [{group: '', kind: Service, name: web, namespace: shop}], rules: [{}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop}, spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{}]}}
---
{apiVersion: ambit.io/v1alpha1, kind: RateLimitPolicy, metadata: {name: p, namespace: own}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}], local: [{requests: 1, per: 1s}]}}
---
{apiVersion: ambit.io/v1alpha1, kind: ExtProcPolicy, metadata: {name: p, namespace: shop}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}], service: guard, port: 1}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}
",
    );
    let (theirs, ours) =
        (ObjectRef::new(Kind::RateLimitPolicy, "own", "p"), ObjectRef::new(Kind::ExtProcPolicy, "shop", "p"));
    let web = ObjectRef::new(Kind::Service, "shop", "web");
    for (kind, namespace, name, wanted) in [
        (Kind::Service, "shop", "web", (true, true)),
        (Kind::HttpRoute, "own", "r", (true, false)),
        // With the service, all that is attached to it is looked at again.
        (Kind::HttpRoute, "shop", "r", (true, true)),
        (Kind::GrpcRoute, "own", "r", (false, false)),
    ] {
        let all = affected(&world, &ObjectRef::new(kind, namespace, name));
        assert_eq!((all.contains(&theirs), all.contains(&ours)), wanted, "{kind:?} {namespace}: {all:?}");
    }
    // While its waypoint is not there, what becomes of the service depends on whether something is attached.
    assert!(affected(&world, &ours).contains(&web) && !affected(&world, &theirs).contains(&web));
}

#[test]
fn limits_and_processors_are_looked_at_when_their_service_comes_or_goes_in_whichever_namespace() {
    let world = crate::testing::world(
        "
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: out, namespace: tools}, spec: {hosts: [limits.example], resolution: DNS}}
---
{apiVersion: ambit.io/v1alpha1, kind: RateLimitPolicy, metadata: {name: p, namespace: shop}, spec: {targetRefs: [{kind: Service, name: web}], global: {service: tools/limits.example, port: 80, domain: d, descriptors: [{entries: [{key: a, value: b}]}]}}}
---
{apiVersion: ambit.io/v1alpha1, kind: ExtProcPolicy, metadata: {name: p, namespace: shop}, spec: {targetRefs: [{kind: Service, name: web}], service: guard.tools.svc.cluster.local, port: 80}}
",
    );
    let limit = ObjectRef::new(Kind::RateLimitPolicy, "shop", "p");
    let processor = ObjectRef::new(Kind::ExtProcPolicy, "shop", "p");
    for (kind, name, wanted) in [
        (Kind::ServiceEntry, "out", (true, false)),
        (Kind::Service, "guard", (false, true)),
        (Kind::Service, "other", (false, false)),
        (Kind::Pod, "guard", (false, false)),
    ] {
        let all = affected(&world, &ObjectRef::new(kind, "tools", name));
        assert_eq!((all.contains(&limit), all.contains(&processor)), wanted, "{kind:?} {name}: {all:?}");
    }
}

#[test]
fn what_is_for_all_waypoints_is_looked_at_when_one_comes_or_goes_wherever_that_is() {
    let world = crate::testing::world(
        "
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: all, namespace: istio-system}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}], action: DENY, rules: [{}]}}
---
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: one, namespace: istio-system}, spec: {targetRefs: [{kind: Service, name: web}], action: DENY, rules: [{}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{port: 80}]}}
",
    );
    let policy = |name: &str| ObjectRef::new(Kind::AuthorizationPolicy, "istio-system", name);
    for (kind, namespace, wanted) in [
        (Kind::Gateway, "shop", true),
        // The last one of its namespace has gone.
        (Kind::Gateway, "gone", true),
        (Kind::GatewayClass, "", true),
        (Kind::Service, "shop", false),
    ] {
        let all = affected(&world, &ObjectRef::new(kind, namespace, "way"));
        let found = (all.contains(&policy("all")), all.contains(&policy("one")));
        assert_eq!(found, (wanted, false), "{kind:?} {namespace}: {all:?}");
    }
}

#[test]
fn what_delegates_is_looked_at_when_that_changes_or_where_it_leads() {
    let world = crate::testing::world(
        "
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: root, namespace: shop}, spec: {hosts: [web], http: [{delegate: {name: inner}}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: inner, namespace: shop}, spec: {http: [{route: [{destination: {host: late}}]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: late, namespace: shop}, spec: {ports: [{port: 80}]}}
",
    );
    let root = ObjectRef::new(Kind::VirtualService, "shop", "root");
    for (kind, name, wanted) in [
        (Kind::Service, "late", true),
        (Kind::VirtualService, "inner", true),
        (Kind::Service, "other", false),
    ] {
        let all = affected(&world, &ObjectRef::new(kind, "shop", name));
        assert_eq!(all.contains(&root), wanted, "{kind:?} {name}: {all:?}");
    }
}
