//! The control plane on a Kubernetes API: read by watches, callers by review, roots into namespaces, conditions onto
//! objects, and what stays when the API server is away.

#![cfg(test)]

use std::path::PathBuf;
use std::time::Duration;

use ambit_istiod_lite::config::{Cli, Command};
use ambit_istiod_lite::origin::OriginError;
use ambit_istiod_lite::run::{Addresses, ControlPlane, StartError};
use ambit_istiod_lite::trust::TrustError;
use ambit_kit::fake_api::{FakeApi, Trick};
use ambit_model::name::Identity;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::configs::control_plane::{ControlPlane as Remote, RootSource};
use ambit_tls::credential::Terms;
use ambit_tls::issue::{Ca, CaSettings, IssueError, Issuer, Token};
use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Ample for loopback on a busy machine, and for kinds that are looked for every five seconds.
const WAIT: Duration = Duration::from_secs(60);

const PODS: &str = "/api/v1/pods";
const POLICIES: &str = "/apis/security.istio.io/v1/authorizationpolicies";
const CONFIG_MAPS: &str = "/api/v1/configmaps";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

struct Scene {
    folder: TempDir,
    fake: FakeApi,
    addresses: Addresses,
    _tasks: Tasks,
}

fn pod(namespace: &str, name: &str, account: &str, node: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}"), "labels": {"app": account}},
        "spec": {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    })
}

/// The token of a tunnel's pod, as the API server reviews it.
fn tunnel(name: &str, uid: &str) -> Value {
    json!({
        "authenticated": true, "audiences": ["istio-ca"],
        "user": {
            "username": "system:serviceaccount:istio-system:ztunnel", "groups": ["system:serviceaccounts"],
            "extra": {
                "authentication.kubernetes.io/pod-name": [name], "authentication.kubernetes.io/pod-uid": [uid],
            },
        },
    })
}

impl Scene {
    async fn new() -> Self {
        Self::with(None, &[]).await.unwrap()
    }

    /// With a mesh configuration, and more flags.
    async fn with(mesh: Option<&str>, more: &[&str]) -> Result<Self, StartError> {
        let (folder, fake) = (tempfile::tempdir().unwrap(), FakeApi::start().await);
        if let Some(mesh) = mesh {
            fake.put(CONFIG_MAPS, config_map(mesh));
        }
        for name in ["shop", "istio-system"] {
            fake.put("/api/v1/namespaces", json!({"metadata": {"name": name}}));
        }
        fake.put(PODS, pod("shop", "web-1", "web", "n1"));
        fake.put(PODS, pod("shop", "cart-1", "cart", "n2"));
        fake.put(PODS, pod("istio-system", "ztunnel-n1", "ztunnel", "n1"));
        fake.token("n1", tunnel("ztunnel-n1", "uid-ztunnel-n1"));
        fake.token("former", tunnel("ztunnel-n1", "uid-of-a-former-pod"));
        fake.token("unseen", tunnel("ztunnel-n9", "uid-ztunnel-n9"));
        fake.serve_collection(POLICIES, false);
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, fake.kubeconfig()).unwrap();
        let mut flags = vec!["istiod-lite".to_owned(), "run".into(), "--host=127.0.0.1".into()];
        flags.push(format!("--kubeconfig={}", kubeconfig.display()));
        flags.push(format!("--state={}", folder.path().join("state").display()));
        for listener in ["grpc", "secure-grpc", "http", "https", "monitoring"] {
            flags.push(format!("--{listener}-addr=127.0.0.1:0"));
        }
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let Command::Run(config) = Cli::try_parse_from(flags).unwrap().command else { panic!("not run") };
        let plane = Box::pin(ControlPlane::open(*config)).await?;
        let (addresses, mut tasks) = (plane.addresses(), Tasks::new(&Stop::new()));
        tasks.spawn("control plane", |stop| plane.run(stop));
        Ok(Self { folder, fake, addresses, _tasks: tasks })
    }

    /// The roots, as a pod of the namespace has them.
    async fn roots(&self) -> PathBuf {
        let map = || self.fake.object("/api/v1/configmaps", "shop", "istio-ca-root-cert");
        let text = eventually(|| map()?["data"]["root-cert.pem"].as_str().map(str::to_owned)).await;
        let path = self.folder.path().join("roots.pem");
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn ca(&self, token: &str) -> Ca {
        let roots = RootSource::File(self.roots().await);
        let url = format!("https://{}", self.addresses.secure);
        Ca::new(CaSettings {
            control_plane: Remote::new(&url, roots, None).unwrap(),
            token: Token::Static(token.into()),
            cluster: "Kubernetes".into(),
            headers: Vec::new(),
            ttl: Duration::from_secs(3600),
            impersonate: true,
            terms: Terms::default(),
        })
    }

    async fn dump(&self) -> String {
        self.http("/debug/ambientz").await
    }

    async fn http(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = ambit_process::net::TcpStream::connect(self.addresses.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, found).await.expect("it comes about")
}

fn config_map(mesh: &str) -> Value {
    json!({"metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": mesh}})
}

fn who(account: &str) -> Identity {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
}

#[tokio::test]
async fn a_tunnel_proven_by_review_gets_certificates_for_the_pods_of_its_node_and_for_no_others() {
    let scene = Scene::new().await;
    let ca = scene.ca("n1").await;
    assert_eq!(*ca.issue(&who("web")).await.unwrap().identity(), who("web"));
    assert!(matches!(ca.issue(&who("cart")).await, Err(IssueError::Refused(_))), "it runs on another node");
    for token in ["former", "unseen", "nobody's"] {
        let refused = scene.ca(token).await.issue(&who("web")).await;
        assert!(matches!(refused, Err(IssueError::Refused(_))), "{token}");
    }
    let reviews = scene.fake.asked().iter().filter(|line| line.contains("tokenreviews")).count();
    assert_eq!(reviews, 4, "once for each token");
}

#[tokio::test]
async fn a_policy_is_served_and_told_what_became_of_it_once_its_kind_is_installed() {
    let scene = Scene::new().await;
    scene.roots().await;
    let name = "authorizationpolicies.security.istio.io";
    let version = json!({"name": "v1", "served": true});
    scene.fake.put(DEFINITIONS, json!({"metadata": {"name": name}, "spec": {"versions": [version]}}));
    scene.fake.serve_collection(POLICIES, true);
    scene.fake.trick("/status?fieldManager", Trick::Refuse(503), 2);
    let policy = json!({
        "metadata": {"name": "deny", "namespace": "shop", "generation": 1},
        "spec": {"action": "DENY", "rules": [{}]},
    });
    scene.fake.put(POLICIES, policy);
    let object = || scene.fake.object(POLICIES, "shop", "deny");
    let condition = eventually(|| object()?.pointer("/status/conditions/0").cloned()).await;
    assert_eq!(
        (condition["type"].as_str(), condition["status"].as_str()),
        (Some("ZtunnelAccepted"), Some("True"))
    );
    assert!(scene.dump().await.contains("shop/deny"));
}

const TLS_POLICIES: &str = "/apis/gateway.networking.k8s.io/v1/backendtlspolicies";

/// The service `api`, which goes through a waypoint.
fn put_service_behind_waypoint(scene: &Scene) {
    let listener = json!({"name": "mesh", "port": 15008, "protocol": "HBONE"});
    scene.fake.put(
        "/apis/gateway.networking.k8s.io/v1/gateways",
        json!({
            "metadata": {"name": "way", "namespace": "shop"},
            "spec": {"gatewayClassName": "istio-waypoint", "listeners": [listener]},
            "status": {"addresses": [{"type": "IPAddress", "value": "10.0.0.9"}]},
        }),
    );
    scene.fake.put(
        "/api/v1/services",
        json!({
            "metadata": {"name": "api", "namespace": "shop", "labels": {"istio.io/use-waypoint": "way"}},
            "spec": {"clusterIP": "10.9.0.1", "ports": [{"name": "http", "port": 80}]},
        }),
    );
}

/// That service, and a policy by which its endpoints speak TLS, of which somebody else has said something.
fn put_policy_of_tls(scene: &Scene) {
    put_service_behind_waypoint(scene);
    let theirs =
        json!({"ancestorRef": {"name": "front"}, "controllerName": "example.com/it", "conditions": []});
    let validation = json!({
        "hostname": "api.example", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "roots"}],
    });
    scene.fake.put(TLS_POLICIES, json!({
        "metadata": {"name": "api", "namespace": "shop", "generation": 3},
        "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "api"}], "validation": validation},
        "status": {"ancestors": [theirs]},
    }));
}

/// Whoever vouches is in a config map, which is followed by its name: what is in there now is in force.
#[tokio::test]
async fn a_policy_of_tls_goes_by_the_config_map_that_it_names_and_says_so() {
    let scene = Scene::new().await;
    put_policy_of_tls(&scene);
    let said = |wanted: [&str; 2]| {
        let object = scene.fake.object(TLS_POLICIES, "shop", "api")?;
        let all = object.pointer("/status/ancestors")?.as_array()?.clone();
        assert_eq!(all[0]["controllerName"], "example.com/it", "{all:#?}");
        let ours = all.get(1)?;
        assert_eq!(
            (&ours["ancestorRef"]["kind"], &ours["ancestorRef"]["name"]),
            (&json!("Service"), &json!("api"))
        );
        let conditions = ours["conditions"].as_array()?;
        let word = |it: &Value| {
            format!("{} {} {}", it["type"], it["reason"], it["observedGeneration"]).replace('"', "")
        };
        let words: Vec<String> = conditions.iter().map(word).collect();
        (words == wanted.map(String::from)).then_some(())
    };
    eventually(|| said(["Accepted NoValidCACertificate 3", "ResolvedRefs InvalidCACertificateRef 3"])).await;
    let closed = async |is_closed: bool| {
        let found = async {
            while scene.dump().await.contains("caCertificateRefs[0]") != is_closed {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(WAIT, found).await.unwrap();
    };
    closed(true).await;
    let map = |name: &str, text: &str| {
        scene.fake.put(
            CONFIG_MAPS,
            json!({"metadata": {"name": name, "namespace": "shop"}, "data": {"ca.crt": text}}),
        );
    };
    let authority = ambit_kit::Authority::new();
    map("roots", authority.root_pem());
    map("others", "nobody reads it");
    eventually(|| said(["Accepted Accepted 3", "ResolvedRefs ResolvedRefs 3"])).await;
    closed(false).await;
    // What is there no more vouches for nobody.
    scene.fake.remove(CONFIG_MAPS, "shop", "roots");
    eventually(|| said(["Accepted NoValidCACertificate 3", "ResolvedRefs InvalidCACertificateRef 3"])).await;
    let asked = scene.fake.asked();
    assert!(!asked.iter().any(|line| line.contains("configmaps/others")), "nobody refers to it");
}

/// Secrets are read by their names, where that was switched on, and nothing of them is shown.
#[tokio::test]
async fn a_secret_that_a_rule_names_is_read_by_its_name_and_shown_to_nobody() {
    const RULES: &str = "/apis/networking.istio.io/v1/destinationrules";
    let leaf = ambit_kit::Authority::new().issue_host("gate.example");
    for (flag, outcome) in [("--read-secrets=true", "Accepted"), ("--read-secrets=false", "PartiallyInvalid")]
    {
        let scene = Scene::with(None, &[flag]).await.unwrap();
        put_service_behind_waypoint(&scene);
        let texts = json!({"tls.crt": leaf.chain_pem, "tls.key": leaf.key_pem});
        for name in ["gate", "other"] {
            let metadata = json!({"name": name, "namespace": "shop"});
            scene.fake.put("/api/v1/secrets", json!({"metadata": metadata, "stringData": texts}));
        }
        let tls = json!({"mode": "MUTUAL", "credentialName": "gate"});
        scene.fake.put(
            RULES,
            json!({
                "metadata": {"name": "api", "namespace": "shop", "generation": 1},
                "spec": {"host": "api", "trafficPolicy": {"tls": tls}},
            }),
        );
        let said = || {
            let object = scene.fake.object(RULES, "shop", "api")?;
            let condition = object.pointer("/status/conditions/0")?.clone();
            (condition["reason"] == outcome).then_some(condition)
        };
        let condition = eventually(said).await;
        let dump = scene.dump().await;
        let piece = leaf.key_pem.lines().nth(1).unwrap();
        assert_eq!(dump.contains("sa/way"), outcome == "Accepted", "{dump}");
        assert!(!dump.contains(piece) && !dump.contains("PRIVATE KEY"), "{dump}");
        assert!(!condition.to_string().contains(piece), "{condition}");
        let asked = scene.fake.asked();
        let secrets: Vec<&String> = asked.iter().filter(|line| line.contains("/secrets")).collect();
        let own = |line: &&&String| !line.contains("/istio-system/");
        let of_rules: Vec<_> = secrets.iter().filter(own).collect();
        assert_eq!(of_rules.is_empty(), outcome != "Accepted", "{of_rules:?}");
        let by_name = |line: &&&&String| line.ends_with("/api/v1/namespaces/shop/secrets/gate");
        assert!(of_rules.iter().all(|line| by_name(&line)), "{of_rules:?}");
    }
}

/// As it gets in where no webhook is asked.
#[tokio::test]
async fn a_policy_that_does_not_read_says_so_itself_until_it_does_and_its_last_good_version_stays() {
    let scene = Scene::new().await;
    let name = "authorizationpolicies.security.istio.io";
    let version = json!({"name": "v1", "served": true});
    scene.fake.put(DEFINITIONS, json!({"metadata": {"name": name}, "spec": {"versions": [version]}}));
    scene.fake.serve_collection(POLICIES, true);
    let write = |policy: &str, rule: Value| {
        let spec = json!({"action": "DENY", "rules": [rule]});
        let kept = scene.fake.object(POLICIES, "shop", policy).and_then(|it| it.get("status").cloned());
        let metadata = json!({"name": policy, "namespace": "shop", "generation": 1});
        scene.fake.put(POLICIES, json!({"metadata": metadata, "spec": spec, "status": kept}));
    };
    let said = |policy: &str, kind: &str| {
        let object = scene.fake.object(POLICIES, "shop", policy)?;
        let all = object.pointer("/status/conditions")?.as_array()?.clone();
        all.into_iter().find(|it| it["type"] == kind)
    };
    let mistyped = json!({"form": [{"source": {"namespaces": ["shop"]}}]});
    write("deny", json!({}));
    eventually(|| said("deny", "ZtunnelAccepted")).await;
    write("deny", mistyped.clone());
    write("never", mistyped);
    for (policy, outcome) in [("deny", "last good version stays in force"), ("never", "nothing of it is")] {
        let condition = eventually(|| said(policy, "istio.io/Accepted")).await;
        let message = condition["message"].as_str().unwrap();
        assert!(message.contains("form") && message.contains(outcome), "{message}");
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Invalid")));
    }
    assert_eq!(said("deny", "ZtunnelAccepted").unwrap()["status"], "True", "of what is in force");
    let dump = scene.dump().await;
    assert!(dump.contains("shop/deny") && !dump.contains("shop/never"), "{dump}");
    write("deny", json!({"from": [{"source": {"namespaces": ["shop"]}}]}));
    let gone = || said("deny", "istio.io/Accepted").is_none().then_some(());
    eventually(gone).await;
    assert!(said("never", "istio.io/Accepted").is_some(), "this one is as it was");
}

#[tokio::test]
async fn without_an_api_server_the_world_stays_and_known_callers_are_still_served() {
    let mut scene = Scene::new().await;
    let ca = scene.ca("n1").await;
    ca.issue(&who("web")).await.unwrap();
    let stranger = scene.ca("former").await;
    scene.fake.fall();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(scene.dump().await.contains("Kubernetes//Pod/shop/web-1"));
    ca.issue(&who("web")).await.unwrap();
    assert!(stranger.issue(&who("web")).await.is_err());
    scene.fake.rise().await;
    scene.fake.put(PODS, pod("shop", "late-1", "late", "n1"));
    let found = async {
        while !scene.dump().await.contains("late-1") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WAIT, found).await.unwrap();
}

#[tokio::test]
async fn the_trust_domain_of_the_mesh_configuration_rules_records_callers_and_certificates_until_a_restart() {
    let scene = Scene::with(Some("trustDomain: a.example"), &[]).await.unwrap();
    let ca = scene.ca("n1").await;
    let web: Identity = "spiffe://a.example/ns/shop/sa/web".parse().unwrap();
    assert_eq!(*ca.issue(&web).await.unwrap().identity(), web);
    assert!(matches!(ca.issue(&who("web")).await, Err(IssueError::Refused(_))), "of another trust domain");
    assert!(scene.dump().await.contains("\"trustDomain\": \"a.example\""));
    scene.fake.put(CONFIG_MAPS, config_map("trustDomain: b.example"));
    let told = async {
        while !scene.http("/debug/faults").await.contains("restart the control plane") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, told).await.expect("the change is told of");
    assert!(scene.dump().await.contains("\"trustDomain\": \"a.example\""));
    assert_eq!(*ca.issue(&web).await.unwrap().identity(), web);
}

#[tokio::test]
async fn a_flag_and_a_mesh_configuration_that_name_different_trust_domains_do_not_start() {
    let refused = Scene::with(Some("trustDomain: a.example"), &["--trust-domain=b.example"]).await.err();
    let text = refused.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(
        matches!(refused, Some(StartError::Origin(OriginError::Trust(TrustError::Differs { .. })))),
        "{text}"
    );
    assert!(text.contains("a.example") && text.contains("b.example"), "{text}");
    let unreadable = Scene::with(Some("trustDomain: [a]"), &[]).await.err();
    assert!(matches!(unreadable, Some(StartError::Origin(OriginError::Trust(TrustError::Unreadable(_))))));
    Scene::with(Some("trustDomain: a.example"), &["--trust-domain=a.example"]).await.unwrap();
}

/// As kubelet asks: one that is not answered is killed, and would be again and again while the API server is away.
#[tokio::test]
async fn a_control_plane_that_waits_for_the_api_server_says_that_it_lives_and_is_not_ready() {
    let (folder, fake) = (tempfile::tempdir().unwrap(), FakeApi::start().await);
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, fake.kubeconfig()).unwrap();
    drop(fake);
    // A port that is free now may be another's a moment later, but nobody else is at this address.
    let [a, b, c] = [16, 8, 0].map(|bits| u8::try_from((std::process::id() >> bits) & 255).unwrap());
    let own = std::net::Ipv4Addr::new(127, 64 | a, b, c);
    let free = std::net::TcpListener::bind((own, 0)).unwrap().local_addr().unwrap();
    let flags = [
        "istiod-lite".to_owned(),
        "run".into(),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--state={}", folder.path().join("state").display()),
        format!("--monitoring-addr={free}"),
    ];
    let Command::Run(config) = Cli::try_parse_from(flags).unwrap().command else { panic!("not run") };
    let asked = async {
        let version = get(free, "/version").await;
        (version, get(free, "/ready").await)
    };
    // The one never ends, so the other one does.
    let (version, ready) = tokio::select! {
        opened = Box::pin(ControlPlane::open(*config)) => panic!("opened: {:?}", opened.err()),
        asked = tokio::time::timeout(WAIT, asked) => asked.unwrap(),
    };
    assert!(version.starts_with("HTTP/1.1 200"), "{version}");
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
}

/// Asks until somebody listens.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    loop {
        if let Ok(mut stream) = ambit_process::net::TcpStream::connect(address).await {
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
