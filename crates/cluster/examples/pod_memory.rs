//! How much memory a pod takes that is followed through the Kubernetes API: 10,000 of them, as a cluster has them,
//! from a fake API server in a process of its own. Prints bytes per pod; fails above the mark.

#[expect(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the same file is a public module of the kit"
)]
#[path = "../src/api/tests/fake/mod.rs"]
mod fake_api;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use ambit_cluster::api::{self, Client};
use ambit_cluster::files::{Event, Keep};
use ambit_cluster::{Kind, ObjectRef};
use fake_api::FakeApi;
use serde_json::{Value, json};

/// Pods.
const PODS: usize = 10_000;

/// Bytes of resident memory per pod that are not to be exceeded.
const MARK: usize = 2048;

/// A pod as a deployment's controller makes it and a kubelet reports it: some 6 kB of JSON.
fn pod(number: usize) -> Value {
    let (app, node) = (number / 10, number % 100);
    let name = format!("application-{app}-7d9c6b8f5d-{number:05}");
    let port = json!({"containerPort": 8080, "name": "http", "protocol": "TCP"});
    let probe =
        json!({"httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP"}, "periodSeconds": 10});
    let container = json!({
        "name": "application", "image": "registry.example.com/team/application:1.2.3", "ports": [port],
        "readinessProbe": probe, "livenessProbe": probe,
        "env": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}],
    });
    let time = "2026-01-01T00:00:00Z";
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": time});
    let kinds = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let fields: HashMap<_, _> =
        (0..40).map(|field| (format!("f:field{field}"), json!({"f:name": {}, "f:value": {}}))).collect();
    json!({
        "metadata": {
            "name": name, "generateName": format!("application-{app}-7d9c6b8f5d-"), "namespace": format!("team-{}", app % 50),
            "uid": format!("00000000-0000-4000-8000-{number:012}"), "creationTimestamp": time,
            "labels": {
                "app": format!("application-{app}"), "version": "v1", "pod-template-hash": "7d9c6b8f5d",
                "app.kubernetes.io/part-of": "shop", "team": "checkout",
            },
            "annotations": {"ambient.istio.io/redirection": "enabled", "example.com/checksum": "0123456789abcdef".repeat(4)},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("application-{app}-7d9c6b8f5d"),
                "uid": "u", "controller": true, "blockOwnerDeletion": true,
            }],
            "managedFields": [{"manager": "kubelet", "operation": "Update", "time": time, "fieldsV1": fields}],
        },
        "spec": {
            "nodeName": format!("node-{node}"), "serviceAccountName": format!("application-{app}"),
            "containers": [container], "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
        },
        "status": {
            "phase": "Running", "podIP": format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255),
            "podIPs": [{"ip": format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255)}],
            "hostIP": format!("192.168.0.{node}"), "conditions": kinds.map(condition), "startTime": time,
        },
    })
}

#[expect(clippy::unwrap_used, reason = "a measurement that cannot be made has nobody to tell")]
async fn serve() {
    let fake = FakeApi::start().await;
    for number in 0..PODS {
        fake.put("/api/v1/pods", pod(number));
    }
    println!("{}", fake.kubeconfig());
    let parent = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    parent.await.unwrap().unwrap();
}

#[expect(clippy::unwrap_used, clippy::panic, reason = "a measurement that cannot be made has nobody to tell")]
async fn follow(kubeconfig: &std::path::Path) {
    let client = Client::from_kubeconfig(kubeconfig).await.unwrap();
    // What the first questions cost whatever is followed is not a pod's.
    let mut idle = api::watch(&client, &[Kind::Namespace.into()], Keep::Slim);
    assert!(matches!(idle.next().await, Event::Complete));
    let (before, begun) = (resident(), std::time::Instant::now());
    let mut watch = api::watch(&client, &[Kind::Pod.into()], Keep::Slim);
    // As the control plane holds them.
    let mut held: HashMap<ObjectRef, ambit_cluster::Body> = HashMap::new();
    loop {
        match watch.next().await {
            Event::Applied(object) => drop(held.insert(object.reference, object.body)),
            Event::Complete => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(held.len(), PODS);
    let took = begun.elapsed();
    let per_pod = (resident() - before) / PODS;
    println!("{PODS} pods listed in {took:.1?}: {per_pod} bytes of resident memory per pod (mark {MARK})");
    assert!(per_pod <= MARK, "above the mark");
}

#[expect(clippy::unwrap_used, reason = "a measurement that cannot be made has nobody to tell")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[expect(clippy::unwrap_used, reason = "a measurement that cannot be made has nobody to tell")]
fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return runtime.block_on(serve());
    }
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kubeconfig"), line).unwrap();
    runtime.block_on(follow(&folder.path().join("kubeconfig")));
    drop(server.stdin.take());
    server.wait().unwrap();
}
