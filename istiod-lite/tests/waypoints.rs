//! Waypoints on a Kubernetes API, from a gateway to a route that is carried out: what is made for it, what everybody
//! reads on what he wrote, and who may read the mesh for it.

#![cfg(test)]

use std::time::Duration;

use ambit_istiod_lite::config::{Cli, Command};
use ambit_istiod_lite::run::ControlPlane;
use ambit_kit::fake_api::FakeApi;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Ample for loopback on a busy machine, and for kinds that are looked for every five seconds.
const WAIT: Duration = Duration::from_secs(60);

const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/gateways";
const CLASSES: &str = "/apis/gateway.networking.k8s.io/v1/gatewayclasses";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const ACCOUNTS: &str = "/api/v1/serviceaccounts";
const MAPS: &str = "/api/v1/configmaps";
const BUDGETS: &str = "/apis/policy/v1/poddisruptionbudgets";
const SCALERS: &str = "/apis/autoscaling/v2/horizontalpodautoscalers";
const SERVICES: &str = "/api/v1/services";
const PODS: &str = "/api/v1/pods";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

struct Scene {
    _folder: TempDir,
    fake: FakeApi,
    _tasks: Tasks,
}

impl Scene {
    async fn new() -> Self {
        let (folder, fake) = (tempfile::tempdir().unwrap(), FakeApi::start().await);
        for name in ["shop", "istio-system"] {
            fake.put("/api/v1/namespaces", json!({"metadata": {"name": name}}));
        }
        for plural in ["gateways", "gatewayclasses", "httproutes", "grpcroutes"] {
            let name = format!("{plural}.gateway.networking.k8s.io");
            let spec = json!({"versions": [{"name": "v1", "served": true}]});
            fake.put(DEFINITIONS, json!({"metadata": {"name": name}, "spec": spec}));
        }
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, fake.kubeconfig()).unwrap();
        let mut flags =
            vec!["istiod-lite".to_owned(), "run".into(), "--waypoint-image=hub/waypoint:1".into()];
        flags.push(format!("--kubeconfig={}", kubeconfig.display()));
        flags.push(format!("--state={}", folder.path().join("state").display()));
        for listener in ["grpc", "secure-grpc", "http", "https", "monitoring"] {
            flags.push(format!("--{listener}-addr=127.0.0.1:0"));
        }
        let Command::Run(config) = Cli::try_parse_from(flags).unwrap().command else { panic!("not run") };
        let plane = Box::pin(ControlPlane::open(*config)).await.unwrap();
        let mut tasks = Tasks::new(&Stop::new());
        tasks.spawn("control plane", |stop| plane.run(stop));
        Self { _folder: folder, fake, _tasks: tasks }
    }

    async fn condition(&self, (collection, name): (&str, &str), (at, kind, wanted): (&str, &str, &str)) {
        eventually(&format!("{name}: {kind} {wanted}"), || {
            let object = self.fake.object(collection, "shop", name)?;
            let list = object.pointer(at)?.as_array()?;
            let found = list.iter().find(|it| it["type"] == kind)?;
            (found["reason"] == wanted).then_some(())
        })
        .await;
    }
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, found).await.unwrap_or_else(|_| panic!("never: {what}"))
}

fn gateway() -> Value {
    let listener = json!({"name": "mesh", "port": 15008, "protocol": "HBONE"});
    json!({
        "metadata": {"name": "way", "namespace": "shop", "uid": "u-way", "generation": 1},
        "spec": {"gatewayClassName": "istio-waypoint", "listeners": [listener]},
    })
}

fn route() -> Value {
    let theirs =
        json!({"parentRef": {"name": "front"}, "controllerName": "example.com/it", "conditions": []});
    let parents = json!([{"name": "front"}, {"group": "", "kind": "Service", "name": "cart"}]);
    json!({
        "metadata": {"name": "buy", "namespace": "shop", "generation": 1},
        "spec": {"parentRefs": parents, "rules": [{"backendRefs": [{"name": "cart", "port": 80}]}]},
        "status": {"parents": [theirs]},
    })
}

#[tokio::test]
async fn from_a_gateway_to_a_route_in_force_everybody_reads_how_far_it_is() {
    let scene = Scene::new().await;
    let fake = &scene.fake;
    for class in ["istio-waypoint", "ambit-waypoint"] {
        eventually(class, || fake.object(CLASSES, "", class)).await;
    }
    let labels = json!({"istio.io/use-waypoint": "way"});
    let spec = json!({"clusterIP": "10.9.0.2", "ports": [{"port": 80}]});
    fake.put(
        SERVICES,
        json!({"metadata": {"name": "cart", "namespace": "shop", "labels": labels}, "spec": spec}),
    );
    fake.put(ROUTES, route());
    fake.put(GATEWAYS, gateway());
    let deployment = eventually("a deployment", || fake.object(DEPLOYMENTS, "shop", "way")).await;
    assert_eq!(deployment["metadata"]["ownerReferences"][0]["uid"], "u-way");
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "hub/waypoint:1");
    eventually("an account", || fake.object(ACCOUNTS, "shop", "way")).await;
    let service = eventually("a service", || fake.object(SERVICES, "shop", "way")).await;
    scene.condition((GATEWAYS, "way"), ("/status/conditions", "Programmed", "AddressNotAssigned")).await;
    scene
        .condition((SERVICES, "cart"), ("/status/conditions", "istio.io/WaypointBound", "WaypointIsNotReady"))
        .await;

    // What Kubernetes does: an address for the service, and a pod.
    let mut service = service;
    service["spec"]["clusterIP"] = "10.9.0.9".into();
    fake.put(SERVICES, service);
    let ready =
        json!({"phase": "Running", "podIP": "10.1.0.9", "conditions": [{"type": "Ready", "status": "True"}]});
    let labels = json!({"gateway.networking.k8s.io/gateway-name": "way"});
    let pod = json!({"metadata": {"name": "way-1", "namespace": "shop", "labels": labels},
                     "spec": {"nodeName": "n1", "serviceAccountName": "way"}, "status": ready});
    fake.put(PODS, pod);
    scene.condition((GATEWAYS, "way"), ("/status/conditions", "Programmed", "Programmed")).await;
    let addresses = eventually("addresses", || {
        let all = fake.object(GATEWAYS, "shop", "way")?["status"]["addresses"].as_array()?.clone();
        (all.len() == 2).then_some(all)
    });
    assert_eq!(addresses.await[1]["value"], "way.shop.svc.cluster.local");
    scene
        .condition((SERVICES, "cart"), ("/status/conditions", "istio.io/WaypointBound", "WaypointAccepted"))
        .await;
    scene
        .condition(
            (ROUTES, "buy"),
            ("/status/parents/1/conditions", "ResolvedWaypoints", "ResolvedWaypoints"),
        )
        .await;
    let parents = fake.object(ROUTES, "shop", "buy").unwrap()["status"]["parents"].clone();
    assert_eq!(parents.as_array().unwrap().len(), 2);
    assert_eq!(parents[0]["controllerName"], "example.com/it", "what others say stays");
}

#[tokio::test]
async fn what_nobody_made_for_a_gateway_is_left_alone() {
    let scene = Scene::new().await;
    let own = json!({"metadata": {"name": "way", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}});
    scene.fake.put(SERVICES, own.clone());
    scene.fake.put(GATEWAYS, gateway());
    // They are made in this order: account, service, deployment.
    eventually("a deployment", || scene.fake.object(DEPLOYMENTS, "shop", "way")).await;
    let service = scene.fake.object(SERVICES, "shop", "way").unwrap();
    assert_eq!(service["spec"], own["spec"]);
}

/// A gateway whose author says in a map of this name how what is made for it is to be.
fn gateway_with(map: &str, generation: u64) -> Value {
    let mut gateway = gateway();
    gateway["metadata"]["generation"] = generation.into();
    let parameters = json!({"group": "", "kind": "ConfigMap", "name": map});
    gateway["spec"]["infrastructure"] = json!({"parametersRef": parameters});
    gateway
}

#[tokio::test]
async fn what_is_made_because_a_map_says_so_goes_when_none_does_and_a_map_that_cannot_be_followed_changes_nothing()
 {
    let scene = Scene::new().await;
    let fake = &scene.fake;
    let map = |data: Value| json!({"metadata": {"name": "two", "namespace": "shop"}, "data": data});
    let (budget, scaler) = ("spec: {minAvailable: 1}", "spec: {maxReplicas: 3}");
    fake.put(MAPS, map(json!({"podDisruptionBudget": budget, "horizontalPodAutoscaler": scaler})));
    fake.put(GATEWAYS, gateway_with("two", 1));
    let made = eventually("a budget", || fake.object(BUDGETS, "shop", "way")).await;
    assert_eq!(made["spec"]["minAvailable"], 1);
    eventually("an autoscaler", || fake.object(SCALERS, "shop", "way")).await;

    // It names one that is not there: nothing of what was made is touched.
    fake.put(GATEWAYS, gateway_with("none", 2));
    scene.condition((GATEWAYS, "way"), ("/status/conditions", "Accepted", "InvalidParameters")).await;
    let said = fake.object(GATEWAYS, "shop", "way").unwrap()["status"]["conditions"].to_string();
    assert!(said.contains("there is no config map shop/none"), "{said}");
    assert!(fake.object(BUDGETS, "shop", "way").is_some() && fake.object(SCALERS, "shop", "way").is_some());

    // The map speaks of one of the two only.
    fake.put(MAPS, map(json!({"podDisruptionBudget": budget})));
    fake.put(GATEWAYS, gateway_with("two", 3));
    scene.condition((GATEWAYS, "way"), ("/status/conditions", "Accepted", "Accepted")).await;
    eventually("no autoscaler", || fake.object(SCALERS, "shop", "way").is_none().then_some(())).await;
    assert!(fake.object(BUDGETS, "shop", "way").is_some());

    // The gateway names no map any more. A budget that somebody else makes then is his.
    fake.put(GATEWAYS, gateway());
    eventually("no budget", || fake.object(BUDGETS, "shop", "way").is_none().then_some(())).await;
    fake.put(BUDGETS, json!({"metadata": {"name": "way", "namespace": "shop", "uid": "own"}, "spec": {}}));
    let mut labelled = gateway();
    labelled["metadata"]["labels"] = json!({"team": "shop"});
    fake.put(GATEWAYS, labelled);
    eventually("the label", || {
        fake.object(DEPLOYMENTS, "shop", "way")?["metadata"]["labels"].get("team").map(drop)
    })
    .await;
    assert!(fake.object(BUDGETS, "shop", "way").is_some());
}
