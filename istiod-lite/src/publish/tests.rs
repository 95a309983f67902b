//! The loop against a desk that is slower than what there is to write.

use std::fmt::Write as _;

use ambit_cluster::api::{Client, Duty, Hand, Orders, Share};
use ambit_process::observe::Registry;
use ambit_process::ready::Readiness;
use ambit_process::tasks::Tasks;

use super::*;
use crate::mesh::Mesh;
use crate::testing::objects_in;

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
    let (library, _view) = watch::channel(Arc::new(Library::default()));
    let (faults, _faults) = watch::channel(Arc::default());
    let metrics = Metrics::registered(&mut Registry::default());
    let (waypoints, _) = watch::channel(Waypoints::default());
    let told = Told { library, faults, gate: Readiness::new().gate("publish"), waypoints, metrics };
    let mut feed = Feed::new(Catalog::new(World::new(Mesh::default())), told, Writer::Api(orders), None);
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
