//! Gateways and the pods made for them, step by step, without a mesh: the overlay's files are what the watch would tell.

use std::time::Duration;

use ambit_cluster::files::{Event, Keep, load_once};
use tempfile::TempDir;

use super::*;
use crate::local::layout::Node;
use crate::local::spec::Spec;

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: way, namespace: shop, annotations: { ambit.io/replicas: '2' } }
spec:
  gatewayClassName: istio-waypoint
  listeners: [{ name: mesh, port: 15008, protocol: HBONE }]
";

struct Scene {
    dir: TempDir,
    ground: Ground,
    issuer: Issuer,
    waypoints: Waypoints,
    world: World,
    now: Instant,
}

impl Scene {
    fn new(manifests: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mesh = Mesh::new(&dir.path().join("run"), "m".parse().unwrap());
        let source = dir.path().join("source");
        for path in mesh.skeleton().iter().chain([&source]) {
            fs::create_dir_all(path).unwrap();
        }
        let nodes = (1..=2).map(|number| Node { name: format!("n{number}"), number }).collect();
        let spec = Spec { source, nodes: 2, bin_dir: dir.path().to_owned(), bare: false, owner: None };
        let issuer = Issuer::make(&mesh.control_plane()).unwrap();
        let waypoints = Waypoints::new(&mesh);
        let overlay = Overlay::new(mesh.overlay(), "local");
        let ground = Ground { mesh, spec, nodes, overlay };
        let mut scene = Self { dir, ground, issuer, waypoints, world: World::default(), now: Instant::now() };
        scene.write(manifests);
        scene
    }

    fn write(&mut self, manifests: &str) {
        fs::write(self.dir.path().join("source/all.yaml"), manifests).unwrap();
        self.read();
    }

    fn read(&mut self) {
        let loaded =
            load_once(&self.ground.spec.source, Some(&self.ground.mesh.overlay()), Keep::Whole).unwrap();
        assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
        self.world = World::default();
        loaded.objects.into_iter().for_each(|object| self.world.take(Event::Applied(object)));
    }

    /// Looks once; no pod of these is anybody's yet, or they all are.
    fn tend(&mut self) {
        let Self { ground, issuer, waypoints, world, now, .. } = self;
        let pods = Pods::default();
        waypoints.tend(&Look { ground, world, pods: &pods, issuer, now: *now });
        self.read();
    }

    fn pods(&self) -> Vec<ObjectRef> {
        self.world.pods().map(|(at, _)| at.clone()).collect()
    }

    fn say_ready(&mut self, pod: &ObjectRef) {
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        self.ground.overlay.patch(pod, ready).unwrap();
        self.read();
    }

    fn is_leaving(&self, pod: &ObjectRef) -> bool {
        self.world.pod(pod).is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
    }
}

#[test]
fn a_gateway_has_a_service_and_its_pods_on_different_nodes_each_with_a_token_of_its_own() {
    let mut scene = Scene::new(GATEWAY);
    for _ in 0..3 {
        scene.tend();
    }
    let pods: Vec<_> = scene.world.pods().map(|(_, pod)| pod.clone()).collect();
    let mut nodes: Vec<_> = pods.iter().map(|pod| pod.spec.node_name.to_string()).collect();
    nodes.sort();
    assert_eq!(nodes, ["n1", "n2"]);
    for pod in &pods {
        assert_eq!(pod.service_account(), "way");
        assert_eq!(pod.metadata.label("gateway.networking.k8s.io/gateway-name"), Some("way"));
        assert_eq!(pod.metadata.label("istio.io/dataplane-mode"), Some("none"));
        assert!(scene.ground.mesh.pod(&pod.metadata.uid).join("token").exists());
    }
    let service = ObjectRef::new(Kind::Service, "shop", "way");
    let found = scene.world.service(&service).unwrap();
    assert!(found.spec.ports.iter().any(|port| port.port.0 == 15008));
    assert_eq!(scene.world.plan(&scene.pods()[0]).unwrap().containers[0].command, ["ambit-waypoint"]);
}

#[test]
fn a_changed_gateway_keeps_its_pods_until_those_in_their_place_are_ready() {
    let mut scene = Scene::new(GATEWAY);
    scene.tend();
    let before = scene.pods();
    before.iter().for_each(|pod| scene.say_ready(pod));
    scene.tend();
    assert_eq!(scene.pods(), before, "nothing has changed");
    scene.write(&GATEWAY.replace("'2'", "'2', ambit.io/restarted-at: now"));
    scene.tend();
    let fresh: Vec<_> = scene.pods().into_iter().filter(|pod| !before.contains(pod)).collect();
    assert_eq!(fresh.len(), 2);
    scene.say_ready(&fresh[0]);
    scene.tend();
    assert!(before.iter().all(|pod| !scene.is_leaving(pod)), "only one is ready");
    scene.say_ready(&fresh[1]);
    scene.tend();
    assert!(before.iter().all(|pod| scene.is_leaving(pod)));
    scene.tend();
    assert!(fresh.iter().all(|pod| !scene.is_leaving(pod)));
}

#[test]
fn a_pod_that_somebody_deletes_comes_back_under_another_name() {
    let mut scene = Scene::new(&GATEWAY.replace("'2'", "'1'"));
    scene.tend();
    scene.tend();
    let before = scene.pods();
    Overlay::new(scene.ground.mesh.overlay(), "user").tombstone(&before[0]).unwrap();
    scene.read();
    scene.tend();
    let after = scene.pods();
    assert_eq!(after.len(), 1);
    assert_ne!(after, before);
}

#[test]
fn fewer_pods_are_fewer_and_a_gateway_that_goes_takes_all_of_them_and_its_service_along() {
    let mut scene = Scene::new(GATEWAY);
    scene.tend();
    scene.pods().iter().for_each(|pod| scene.say_ready(pod));
    scene.write(&GATEWAY.replace("'2'", "'1'"));
    scene.tend();
    scene.tend();
    assert_eq!(scene.pods().len(), 1);
    scene.write("");
    scene.tend();
    scene.tend();
    assert!(scene.pods().is_empty());
    assert!(scene.world.service(&ObjectRef::new(Kind::Service, "shop", "way")).is_none());
}

#[test]
fn somebody_elses_service_of_that_name_stays_as_it_is_and_the_gateway_says_so() {
    let service = "
---
apiVersion: v1
kind: Service
metadata: { name: way, namespace: shop }
spec: { selector: { app: mine }, ports: [{ port: 80 }] }
";
    let mut scene = Scene::new(&format!("{GATEWAY}{service}"));
    scene.tend();
    let found = scene.world.service(&ObjectRef::new(Kind::Service, "shop", "way")).unwrap();
    assert_eq!(found.spec.ports[0].port.0, 80);
    assert!(scene.pods().is_empty());
    let status = scene.waypoints.status(&scene.world);
    assert!(status[0].why.contains("somebody else") && !status[0].programmed, "{status:?}");
}

#[test]
fn gateways_of_other_classes_and_those_whose_pods_somebody_else_runs_are_left_alone() {
    for (from, to) in [
        ("istio-waypoint", "nginx"),
        ("  listeners", "  addresses: [{ type: Hostname, value: a.b }]\n  listeners"),
        (
            "  listeners",
            "  infrastructure: { parametersRef: { group: '', kind: ConfigMap, name: c } }\n  listeners",
        ),
        ("'2'", "'2', gateway.istio.io/controller-version: '5'"),
    ] {
        let mut scene = Scene::new(&GATEWAY.replace(from, to));
        scene.tend();
        assert!(scene.pods().is_empty(), "{to}");
    }
}

#[test]
fn a_class_that_somebody_made_is_what_its_controller_says() {
    let class = |controller: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{ name: mine }}\n\
             spec: {{ controllerName: {controller} }}\n"
        )
    };
    let gateway = GATEWAY.replace("istio-waypoint", "mine");
    for (controller, pods) in [("ambit.io/waypoint-controller", 2), ("example.com/other", 0)] {
        let mut scene = Scene::new(&format!("{gateway}{}", class(controller)));
        scene.tend();
        assert_eq!(scene.pods().len(), pods, "{controller}");
    }
}

#[test]
fn a_token_is_renewed_at_half_of_its_life() {
    let mut scene = Scene::new(GATEWAY);
    scene.tend();
    let uid = scene.world.pods().next().unwrap().1.metadata.uid.clone();
    let token = scene.ground.mesh.pod(&uid).join("token");
    fs::write(&token, "old").unwrap();
    scene.now += TOKEN_LIFE / 2 - Duration::from_secs(1);
    scene.tend();
    assert_eq!(fs::read_to_string(&token).unwrap(), "old");
    scene.now += Duration::from_secs(2);
    scene.tend();
    assert_ne!(fs::read_to_string(&token).unwrap(), "old");
}
