//! The bundle in a fake API server, of both versions and of none.

use std::sync::Arc;

use ambit_kit::fake_api::FakeApi;
use ambit_process::tasks::Tasks;
use serde_json::{Value, json};

use super::*;
use crate::ca::review::tests::client;

const BETA: &str = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";
const ALPHA: &str = "/apis/certificates.k8s.io/v1alpha1/clustertrustbundles";

struct Scene {
    fake: FakeApi,
    lead: watch::Sender<bool>,
    roots: watch::Sender<Option<Arc<str>>>,
    _tasks: Tasks,
}

impl Scene {
    async fn new(served: &[&str]) -> Self {
        let fake = FakeApi::start().await;
        for collection in [BETA, ALPHA, "/apis/certificates.k8s.io/v1/clustertrustbundles"] {
            fake.serve_collection(collection, served.contains(&collection));
        }
        let (lead, leading) = watch::channel(false);
        let (roots, text) = watch::channel(Some(Arc::from("one")));
        let anchors = Anchors::new(client(&fake).await, text, leading);
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("anchors", |stop| anchors.run(stop));
        Self { fake, lead, roots, _tasks: tasks }
    }

    async fn becomes(&self, collection: &str, roots: &str) -> Value {
        for _ in 0..6_000 {
            let object = self.fake.object(collection, "", NAME);
            if let Some(object) = object.filter(|it| it["spec"]["trustBundle"] == roots) {
                return object;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:#?}", self.fake.asked());
    }
}

#[tokio::test]
async fn the_leader_keeps_the_roots_in_the_newest_version_that_is_served() {
    for (served, where_it_is) in [(&[BETA, ALPHA][..], BETA), (&[ALPHA], ALPHA)] {
        let scene = Scene::new(served).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(scene.fake.asked().is_empty(), "a follower asks nothing");
        scene.lead.send_replace(true);
        let object = scene.becomes(where_it_is, "one").await;
        assert_eq!(object["spec"]["signerName"], SIGNER);
        assert_eq!(object["metadata"]["labels"]["istio.io/config"], "true");
        scene.roots.send_replace(Some("two".into()));
        scene.becomes(where_it_is, "two").await;
        // Somebody else's hand; seen at the next look, which a change of leadership brings.
        let forged = json!({"metadata": {"name": NAME, "uid": "made"}, "spec": {"trustBundle": "forged"}});
        scene.fake.put(where_it_is, forged);
        scene.lead.send_replace(false);
        // Nothing shows that it has noticed.
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.lead.send_replace(true);
        scene.becomes(where_it_is, "two").await;
    }
}

#[tokio::test]
async fn a_cluster_without_such_objects_is_written_nothing() {
    let scene = Scene::new(&[]).await;
    scene.lead.send_replace(true);
    let looked = async {
        while scene.fake.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looked).await.expect("it looks what there is");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = scene.fake.asked();
    assert!(asked.iter().all(|line| line.starts_with("GET")), "{asked:#?}");
}
