//! The loop against a desk that is slower than what there is to write.

use std::fmt::Write as _;

use ambit_cluster::Overlay;
use ambit_cluster::api::{Client, Duty, Hand, Orders, Share};
use ambit_process::observe::Registry;
use ambit_process::ready::Readiness;
use ambit_process::tasks::Tasks;

use super::*;
use crate::mesh::Mesh;
use crate::testing::{objects, objects_in};

/// More than a desk takes that writes nothing.
const POLICIES: usize = 6000;

#[tokio::test]
async fn what_the_desk_has_no_room_for_is_written_when_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for number in 0..POLICIES {
        let head = "apiVersion: security.istio.io/v1, kind: AuthorizationPolicy";
        writeln!(
            text,
            "--- {{{head}, metadata: {{name: p{number}, namespace: a}}, spec: {{rules: [{{}}]}}}}"
        )
        .unwrap();
    }
    std::fs::write(folder.path().join("mesh.yaml"), text).unwrap();
    // Nobody listens there: the desk takes orders and never gets one done.
    let cluster = r#"{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}"#;
    let context = r#"{"name": "x", "context": {"cluster": "x", "user": "x"}}"#;
    let users = r#"{"name": "x", "user": {"token": "x"}}"#;
    let config = format!(
        r#"{{"current-context": "x", "clusters": [{cluster}], "contexts": [{context}], "users": [{users}]}}"#
    );
    std::fs::write(folder.path().join("kubeconfig"), config).unwrap();
    let client = Client::from_kubeconfig(&folder.path().join("kubeconfig")).await.unwrap();
    let (_lead, leading) = watch::channel(true);
    let (_give, share) = watch::channel(Share::new("a", ["a".to_owned()]));
    let (orders, desk) = Orders::new(Hand::new(client, "test"), Duty::new(leading, share));
    let mut feed = feed(Mesh::default(), Writer::Api(orders));
    for object in objects_in(folder.path(), None) {
        feed.take(Event::Applied(object));
    }
    feed.take(Event::Complete);
    feed.publish();
    feed.report();
    let waiting = feed.unreported.len();
    assert!(waiting > 0 && waiting < POLICIES, "{waiting}");
    let mut tasks = Tasks::new(&Stop::new());
    tasks.spawn("desk", |stop| desk.run(stop));
    for _ in 0..3000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        feed.report();
        if feed.unreported.is_empty() {
            return;
        }
    }
    panic!("{} are not told", feed.unreported.len());
}

fn feed(mesh: Mesh, writer: Writer) -> Feed {
    let (library, _) = watch::channel(Arc::new(Library::default()));
    let (faults, _) = watch::channel(Arc::default());
    let metrics = Metrics::registered(&mut Registry::default());
    let (waypoints, _) = watch::channel(Waypoints::default());
    let told = Told { library, faults, gate: Readiness::new().gate("publish"), waypoints, metrics };
    Feed::new(Catalog::new(World::new(mesh)), told, writer, None)
}

#[tokio::test]
async fn waypoints_are_known_anew_when_a_tag_or_the_meshs_configuration_changes() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::Overlay(Overlay::new(folder.path().to_owned(), "istiod"));
    let mut feed = feed(Mesh { revision: "canary".into(), ..Mesh::default() }, writer);
    let gateway = "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: way, namespace: shop, labels: {istio.io/rev: prod}}, \
                   spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}";
    let tag = "{apiVersion: v1, kind: Service, metadata: {name: tag, namespace: istio-system, labels: {istio.io/rev: canary, istio.io/tag: prod}}, spec: {ports: [{port: 1}]}}";
    let config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio-canary, namespace: istio-system}, data: {mesh: 'discoverySelectors: [{matchLabels: {mesh: a}}]'}}";
    for object in objects(gateway) {
        feed.take(Event::Applied(object));
    }
    feed.take(Event::Complete);
    for (text, wanted) in [("", 0), (tag, 1), (config, 0)] {
        for object in if text.is_empty() { Vec::new() } else { objects(text) } {
            feed.take(Event::Applied(object));
        }
        feed.publish();
        assert_eq!(feed.told.waypoints.borrow().gateways.len(), wanted, "{text}");
    }
}
