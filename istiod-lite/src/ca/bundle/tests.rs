//! The config maps in a fake API server: written, kept right, and left alone.

use ambit_kit::fake_api::{FakeApi, Trick};
use ambit_model::name::TrustDomain;
use ambit_process::tasks::Tasks;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::ca::keeper::{Keeper, Place as Signing};
use crate::ca::review::tests::client;
use crate::ca::root::Recipe;
use crate::metrics::Metrics;

const NAMESPACES: &str = "/api/v1/namespaces";
const NAME: &str = ROOTS.name;
const KEY: &str = ROOTS.key;
const MAPS: &str = "/api/v1/configmaps";

struct Scene {
    fake: FakeApi,
    lead: watch::Sender<bool>,
    roots: String,
    lists: watch::Sender<Option<Arc<str>>>,
    _tasks: Tasks,
    _folder: TempDir,
}

impl Scene {
    async fn new(namespaces: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let day = Duration::from_secs(24 * 3600);
        let recipe = Recipe { domain, lifetime: day * 3650, overlap: day };
        let place = Signing { state: folder.path().join("state"), plugged: None, recipe };
        let keeper = Keeper::open(place, Metrics::default(), clock::now_system()).unwrap();
        let roots = keeper.newest().borrow().roots_pem().to_owned();
        let (lists, revoked) = watch::channel(None);
        let fake = FakeApi::start().await;
        for name in namespaces {
            fake.put(NAMESPACES, json!({"metadata": {"name": name}}));
        }
        let (lead, leading) = watch::channel(false);
        let client = client(&fake).await;
        let of_lists = (LISTS, revoked);
        let bundle = Bundle::new(client.clone(), (ROOTS, keeper.roots()), leading.clone(), "ambit-istiod");
        let second = Bundle::new(client, of_lists, leading, "ambit-istiod");
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("bundle", |stop| bundle.run(stop));
        tasks.spawn("lists", |stop| second.run(stop));
        Self { fake, lead, roots, lists, _tasks: tasks, _folder: folder }
    }

    fn map(&self, namespace: &str) -> Option<Value> {
        self.fake.object(MAPS, namespace, NAME)
    }

    fn is_right(&self, namespace: &str) -> bool {
        self.map(namespace).is_some_and(|map| {
            map["data"][KEY] == self.roots.as_str() && map["metadata"]["labels"]["istio.io/config"] == "true"
        })
    }

    async fn becomes_right(&self, namespace: &str) {
        for _ in 0..6_000 {
            if self.is_right(namespace) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{namespace}: {:#?} {:#?}", self.map(namespace), self.fake.asked());
    }
}

#[tokio::test]
async fn each_namespace_has_the_roots_but_those_without_pods_once_this_replica_leads() {
    let scene = Scene::new(&["shop", "kube-system", "kube-public", "kube-node-lease"]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(scene.fake.asked().is_empty(), "a follower asks nothing");
    scene.lead.send_replace(true);
    scene.becomes_right("shop").await;
    scene.becomes_right("kube-system").await;
    scene.fake.put(NAMESPACES, json!({"metadata": {"name": "new"}}));
    scene.becomes_right("new").await;
    assert_eq!((scene.map("kube-public"), scene.map("kube-node-lease")), (None, None));
}

#[tokio::test]
async fn what_others_change_or_delete_is_written_again() {
    let scene = Scene::new(&["shop", "bank"]).await;
    scene.lead.send_replace(true);
    scene.becomes_right("shop").await;
    scene.becomes_right("bank").await;
    let meta = |labels: Value| json!({"name": NAME, "namespace": "shop", "labels": labels, "uid": "made"});
    let label = json!({"istio.io/config": "true"});
    for wrong in [
        json!({"metadata": meta(label), "data": {KEY: "forged"}}),
        json!({"metadata": meta(json!({})), "data": {KEY: scene.roots}}),
    ] {
        scene.fake.put(MAPS, wrong);
        assert!(!scene.is_right("shop"));
        scene.becomes_right("shop").await;
    }
    scene.fake.remove(MAPS, "bank", NAME);
    scene.becomes_right("bank").await;
    let patches = scene.fake.asked().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(patches, 5, "nothing is written twice: {:#?}", scene.fake.asked());
}

#[tokio::test]
async fn a_namespace_that_refuses_does_not_keep_the_others_from_getting_theirs() {
    let scene = Scene::new(&["a", "b"]).await;
    scene.fake.trick("namespaces/a/configmaps", Trick::Refuse(403), 2);
    scene.fake.trick("namespaces/b/configmaps", Trick::Refuse(500), 1);
    scene.lead.send_replace(true);
    scene.becomes_right("b").await;
    scene.becomes_right("a").await;
}

#[tokio::test]
async fn a_namespace_on_its_way_out_is_left_alone_and_so_is_all_when_another_leads() {
    let scene = Scene::new(&["shop"]).await;
    let going = json!({"metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    scene.fake.put(NAMESPACES, going);
    scene.lead.send_replace(true);
    scene.becomes_right("shop").await;
    assert_eq!(scene.map("going"), None);
    scene.lead.send_replace(false);
    // Nothing shows that it has noticed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.fake.remove(MAPS, "shop", NAME);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.map("shop"), None);
}

#[tokio::test]
async fn revocation_lists_have_a_config_map_of_their_own_once_there_are_any() {
    let scene = Scene::new(&["shop"]).await;
    scene.lead.send_replace(true);
    scene.becomes_right("shop").await;
    let list = || scene.fake.object(MAPS, "shop", "istio-ca-crl");
    assert!(list().is_none() && !scene.fake.asked().iter().any(|line| line.contains("istio-ca-crl")));
    for text in ["one", "two", ""] {
        scene.lists.send_replace(Some(text.into()));
        let told = async {
            while list().is_none_or(|map| map["data"]["ca-crl.pem"] != text) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told)
            .await
            .unwrap_or_else(|_| panic!("{text}: {:?}", list()));
    }
    assert!(scene.is_right("shop"), "the roots are as they were");
}
