//! Two replicas on one Kubernetes API: each writes onto its part of the objects, and takes over the other's when that
//! ends without a word.

#![cfg(test)]

use std::time::Duration;

use ambit_cluster::api::TAKEN_OVER;
use ambit_istiod_lite::config::{Cli, Command};
use ambit_istiod_lite::run::ControlPlane;
use ambit_kit::fake_api::FakeApi;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use clap::Parser;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

/// Ample on a busy machine, where leases lapse late.
const WAIT: Duration = Duration::from_secs(90);
/// Enough that each of two has some, by any chance.
const POLICIES: usize = 60;
const KIND: &str = "/apis/security.istio.io/v1/authorizationpolicies";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";

struct Replica {
    monitoring: std::net::SocketAddr,
    folder: TempDir,
    stop: Stop,
    tasks: Tasks,
}

impl Replica {
    async fn start(fake: &FakeApi, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, fake.kubeconfig()).unwrap();
        let mut flags = vec!["istiod-lite".to_owned(), "run".into(), "--host=127.0.0.1".into()];
        flags.push(format!("--kubeconfig={}", kubeconfig.display()));
        flags.push(format!("--state={}", folder.path().join("state").display()));
        flags.push(format!("--pod-name={name}"));
        for listener in ["grpc", "secure-grpc", "http", "https", "monitoring"] {
            flags.push(format!("--{listener}-addr=127.0.0.1:0"));
        }
        let Command::Run(config) = Cli::try_parse_from(flags).unwrap().command else { panic!("not run") };
        let plane = Box::pin(ControlPlane::open(*config)).await.unwrap();
        let (monitoring, stop) = (plane.addresses().monitoring, Stop::new());
        let mut tasks = Tasks::new(&stop);
        tasks.spawn("control plane", |stop| plane.run(stop));
        Self { monitoring, folder, stop, tasks }
    }

    async fn metric(&self, name: &str) -> usize {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = ambit_process::net::TcpStream::connect(self.monitoring).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        line.parse().unwrap()
    }

    async fn has(&self, name: &str, wanted: usize) {
        let begun = Instant::now();
        while self.metric(name).await != wanted {
            assert!(begun.elapsed() < WAIT, "{name} is {}", self.metric(name).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// As by SIGKILL: nothing is given back, and nothing answered.
    fn dies(self) -> TempDir {
        drop(self.tasks);
        self.folder
    }
}

/// Puts that many policies in, and waits until each says what became of it; how long that took.
async fn all_told(fake: &FakeApi, begin: usize) -> Duration {
    let begun = Instant::now();
    for number in begin..begin + POLICIES {
        let name = format!("p{number}");
        let metadata = json!({"name": name, "namespace": "shop", "generation": 1});
        fake.put(KIND, json!({"metadata": metadata, "spec": {"action": "DENY", "rules": [{}]}}));
    }
    for number in begin..begin + POLICIES {
        let name = format!("p{number}");
        let said = || fake.object(KIND, "shop", &name)?.pointer("/status/conditions/0").cloned();
        while said().is_none() {
            assert!(begun.elapsed() < WAIT, "{name} is told nothing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    begun.elapsed()
}

#[tokio::test]
async fn replicas_write_their_parts_and_the_part_of_one_that_dies_is_taken_over_within_its_lease() {
    let fake = FakeApi::start().await;
    for name in ["shop", "istio-system"] {
        fake.put("/api/v1/namespaces", json!({"metadata": {"name": name}}));
    }
    let name = "authorizationpolicies.security.istio.io";
    let version = json!({"name": "v1", "served": true});
    fake.put(DEFINITIONS, json!({"metadata": {"name": name}, "spec": {"versions": [version]}}));
    let first = Replica::start(&fake, "first").await;
    first.has("status_writers", 1).await;
    let second = Replica::start(&fake, "second").await;
    first.has("status_writers", 2).await;
    second.has("status_writers", 2).await;
    assert_eq!(
        fake.object(LEASES, "istio-system", "ambit-istiod-leader").unwrap()["spec"]["holderIdentity"],
        "first"
    );

    let took = all_told(&fake, 0).await;
    let (one, two) = (first.metric("status_writes_total").await, second.metric("status_writes_total").await);
    println!("{POLICIES} policies told by two in {took:?}: {one} and {two}");
    assert!(one > 0 && two > 0 && one + two >= POLICIES, "{one} and {two}");
    // Shared, not done twice. What was written before it was seen may be written again.
    assert!(one + two < POLICIES * 3 / 2, "{one} and {two}");

    let _folder = first.dies();
    let took = all_told(&fake, POLICIES).await;
    println!("taken over within {took:?}; promised: {TAKEN_OVER:?}");
    second.has("status_writers", 1).await;
    assert!(
        fake.object(LEASES, "istio-system", "ambit-istiod-replica-first").is_some(),
        "it gave nothing back"
    );

    let third = Replica::start(&fake, "third").await;
    third.has("status_writers", 2).await;
    second.stop.stop();
    third.has("status_writers", 1).await;
    assert_eq!(fake.object(LEASES, "istio-system", "ambit-istiod-replica-second"), None, "given back");
    drop(second.tasks);
}
