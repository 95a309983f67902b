//! Admission as an API server asks for it: HTTPS on a real socket, believed by the roots that the leader wrote into
//! the webhook's configuration; and what strangers send there.

#![cfg(test)]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use ambit_istiod_lite::config::{Cli, Command as Chosen};
use ambit_istiod_lite::run::{Addresses, ControlPlane};
use ambit_kit::fake_api::FakeApi;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Ample for loopback on a busy machine, and for configurations that are looked for every ten seconds.
const WAIT: Duration = Duration::from_secs(60);

const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

struct Scene {
    folder: TempDir,
    fake: FakeApi,
    addresses: Addresses,
    _tasks: Tasks,
}

impl Scene {
    async fn new() -> Self {
        let hooks = ["istio-validator-istio-system", "istiod-default-validator"];
        Box::pin(Self::with(FakeApi::start().await, hooks, &[])).await
    }

    /// In this cluster, with these webhooks installed and these flags given. The first is waited for.
    async fn with(fake: FakeApi, hooks: [&str; 2], more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fake.put("/api/v1/namespaces", json!({"metadata": {"name": "istio-system"}}));
        for name in hooks {
            let client =
                json!({"service": {"name": "istiod", "namespace": "istio-system", "path": "/validate"}});
            let hook =
                json!({"name": "rev.validation.istio.io", "clientConfig": client, "failurePolicy": "Fail"});
            fake.put(HOOKS, json!({"metadata": {"name": name}, "webhooks": [hook]}));
        }
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, fake.kubeconfig()).unwrap();
        let mut flags = vec!["istiod-lite".to_owned(), "run".into()];
        flags.push(format!("--kubeconfig={}", kubeconfig.display()));
        flags.push(format!("--state={}", folder.path().join("state").display()));
        for listener in ["grpc", "secure-grpc", "http", "https", "monitoring"] {
            flags.push(format!("--{listener}-addr=127.0.0.1:0"));
        }
        flags.extend(more.iter().map(|it| (*it).to_owned()));
        let Chosen::Run(config) = Cli::try_parse_from(flags).unwrap().command else { panic!("not run") };
        let plane = Box::pin(ControlPlane::open(*config)).await.unwrap();
        let (addresses, mut tasks) = (plane.addresses(), Tasks::new(&Stop::new()));
        tasks.spawn("control plane", |stop| plane.run(stop));
        let scene = Self { folder, fake, addresses, _tasks: tasks };
        std::fs::write(scene.folder.path().join("bundle.pem"), scene.bundle(hooks[0]).await).unwrap();
        scene
    }

    /// The roots in a configuration, as soon as they are there.
    async fn bundle(&self, name: &str) -> Vec<u8> {
        let read = || {
            let object = self.fake.object(HOOKS, "", name)?;
            object.pointer("/webhooks/0/clientConfig/caBundle")?.as_str().map(str::to_owned)
        };
        let found = async {
            loop {
                if let Some(found) = read() {
                    return STANDARD.decode(found).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(WAIT, found).await.expect("the roots are written")
    }

    fn https(&self) -> SocketAddr {
        self.addresses.https.unwrap()
    }

    /// Asks as the API server does: by the service's name, believing nothing but the bundle. Status and body.
    async fn ask(&self, path: &str, body: &[u8], more: &[&str]) -> (u16, String) {
        let file = self.folder.path().join(format!("body-{:x}", fastrand::u64(..)));
        std::fs::write(&file, body).unwrap();
        let host = "istiod.istio-system.svc";
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"]);
        curl.arg("--cacert").arg(self.folder.path().join("bundle.pem"));
        curl.args(["--connect-to", &format!("{host}:443:{}", self.https())]);
        // Curl says it is a form if nothing else is said.
        let says_type = more.iter().any(|flag| flag.starts_with("Content-Type"));
        if !says_type {
            curl.args(["--header", "Content-Type: application/json; charset=utf-8"]);
        }
        curl.args(["--header", "Expect:"]);
        curl.args(more).arg("--data-binary").arg(format!("@{}", file.display()));
        curl.arg(format!("https://{host}{path}"));
        let ran = tokio::task::spawn_blocking(move || curl.output()).await.unwrap();
        let output = ran.expect("curl is needed; install it: apt-get install curl");
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, code) = text.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), format!("{body}{}", String::from_utf8_lossy(&output.stderr)))
    }

    async fn metrics(&self) -> String {
        let mut stream = ambit_process::net::TcpStream::connect(self.addresses.monitoring).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn question(spec: &Value) -> Vec<u8> {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u1", "operation": "CREATE", "namespace": "shop",
            "kind": {"group": "security.istio.io", "version": "v1", "kind": "AuthorizationPolicy"},
            "object": {
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": "deny", "namespace": "shop"}, "spec": spec,
            },
        },
    })
    .to_string()
    .into_bytes()
}

/// One revision's control plane writes conditions. The webhook of another has that one's roots all the same: while it
/// is installed without, the API server refuses whatever the revision's users write.
#[tokio::test]
async fn a_revision_keeps_its_own_webhook_while_another_one_leads() {
    let fake = FakeApi::start().await;
    let led = json!({"holderIdentity": "istiod-other", "leaseDurationSeconds": 600});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases";
    fake.put(
        leases,
        json!({"metadata": {"name": "ambit-istiod-leader", "namespace": "istio-system"}, "spec": led}),
    );
    let hooks = ["istio-validator-canary-istio-system", "istio-validator-istio-system"];
    // Whose roots are not written has no scene: it waits for them.
    let scene = Box::pin(Scene::with(fake, hooks, &["--revision=canary"])).await;
    let other = scene.fake.object(HOOKS, "", hooks[1]).unwrap();
    assert_eq!(other.pointer("/webhooks/0/clientConfig/caBundle"), None, "the other revision's is not ours");
    let lease = scene.fake.object(leases, "istio-system", "ambit-istiod-leader");
    assert_eq!(lease.unwrap()["spec"]["holderIdentity"], "istiod-other");
}

#[tokio::test]
async fn an_api_server_that_believes_the_written_roots_is_told_field_value_and_remedy() {
    let scene = Box::pin(Scene::new()).await;
    assert!(scene.bundle("istiod-default-validator").await.starts_with(b"-----BEGIN CERTIFICATE"));
    let (code, good) = scene.ask("/validate", &question(&json!({"rules": [{}]})), &[]).await;
    assert_eq!(code, 200, "{good}");
    let good: Value = serde_json::from_str(&good).unwrap();
    assert_eq!(good["response"], json!({"uid": "u1", "allowed": true}));
    let spec = json!({"rules": [{"to": [{"operation": {"ports": ["99999"]}}]}]});
    let (code, bad) = scene.ask("/validate/any", &question(&spec), &[]).await;
    assert_eq!(code, 200, "a refusal is an answer: {bad}");
    let bad: Value = serde_json::from_str(&bad).unwrap();
    let message = bad["response"]["status"]["message"].as_str().unwrap();
    assert!(bad["response"]["allowed"] == false && message.contains("99999"), "{bad}");
    assert!(message.contains("spec.rules[0].to[0].operation.ports"), "{message}");
    let metrics = scene.metrics().await;
    for line in ["galley_validation_passed 1", "galley_validation_failed 1", "webhook_patch_attempts_total 2"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn what_strangers_send_is_refused_and_holds_up_nobody() {
    let scene = Box::pin(Scene::new()).await;
    let good = question(&json!({"rules": [{}]}));
    let deep = String::from_utf8(question(&json!("@"))).unwrap().replace("\"@\"", &"[".repeat(1 << 20));
    let huge = vec![b' '; 4 << 20];
    let chunked = ["--header", "Transfer-Encoding: chunked"];
    for (path, body, more, wanted) in [
        ("/validate", &huge[..], &[][..], 413),
        ("/validate", &huge[..], &chunked[..], 413),
        ("/validate", deep.as_bytes(), &[][..], 400),
        ("/validate", b"\xff\xfe{", &[][..], 400),
        ("/validate", b"", &[][..], 400),
        ("/validate", &good, &["--header", "Content-Type: text/plain"][..], 415),
        ("/validate", &good, &["--header", "Content-Type:"][..], 415),
        ("/validate", &good, &["--request", "GET"][..], 405),
        ("/inject", &good, &[][..], 404),
        ("/validated", &good, &[][..], 404),
    ] {
        let (code, text) = scene.ask(path, body, more).await;
        // A server that does not read on may close before the client has sent everything.
        assert!(code == wanted || (wanted == 413 && code == 0), "{path} {wanted}: {code} {:.200}", text);
    }
    // Connections that say nothing, and what is no TLS: as many as there are places, and more.
    let mut silent = Vec::new();
    for n in 0..40 {
        let mut tcp = ambit_process::net::TcpStream::connect(scene.https()).await.unwrap();
        if n % 2 == 0 {
            tcp.write_all(b"GET /validate HTTP/1.1\r\n\r\n").await.unwrap();
        }
        silent.push(tcp);
    }
    let (code, text) = scene.ask("/validate", &good, &[]).await;
    assert_eq!(code, 200, "{text}");
    assert!(scene.metrics().await.contains("galley_validation_http_error 5"), "{}", scene.metrics().await);
}
