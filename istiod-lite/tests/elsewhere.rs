//! A control plane whose certificates are signed by somebody else: it serves under what it is given, signs nothing and
//! tells nobody whom to believe. And one that tells of revocation lists, and of roots for a whole cluster.

#![cfg(test)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_istiod_lite::config::{Cli, Command};
use ambit_istiod_lite::run::{Addresses, ControlPlane};
use ambit_kit::Authority;
use ambit_kit::fake_api::FakeApi;
use ambit_model::name::Identity;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::configs::control_plane::{ControlPlane as Remote, RootSource};
use ambit_tls::credential::Terms;
use ambit_tls::issue::{Ca, CaSettings, IssueError, Issuer, Token};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer as By, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Ample for loopback on a busy machine, and for what is looked for every ten seconds.
const WAIT: Duration = Duration::from_secs(60);

const CONFIG_MAPS: &str = "/api/v1/configmaps";
const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const BUNDLES: &str = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";

/// A company's authority: a root, and what it signs.
struct Company {
    issuer: By<'static, KeyPair>,
    root: String,
}

impl Company {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap().pem();
        Self { issuer: By::new(params, key), root }
    }

    /// As cert-manager fills the secret `istiod-tls`.
    fn serves(&self, folder: &Path) {
        let key = KeyPair::generate().unwrap();
        let names = ["istiod.istio-system.svc".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        std::fs::write(folder.join("tls.crt"), leaf.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
        std::fs::write(folder.join("root-cert.pem"), &self.root).unwrap();
    }
}

struct Scene {
    folder: TempDir,
    fake: FakeApi,
    addresses: Addresses,
    _tasks: Tasks,
}

impl Scene {
    async fn new(prepare: impl FnOnce(&Path), more: &[(&str, &str)]) -> Self {
        let (folder, fake) = (tempfile::tempdir().unwrap(), FakeApi::start().await);
        prepare(folder.path());
        for name in ["shop", "istio-system"] {
            fake.put("/api/v1/namespaces", json!({"metadata": {"name": name}}));
        }
        fake.serve_collection("/apis/certificates.k8s.io/v1/clustertrustbundles", false);
        let client = json!({"service": {"name": "istiod", "namespace": "istio-system", "path": "/validate"}});
        let hook = json!({"name": "rev.validation.istio.io", "clientConfig": client});
        let name = json!({"name": "istio-validator-istio-system"});
        fake.put(HOOKS, json!({"metadata": name, "webhooks": [hook]}));
        let token = json!({
            "authenticated": true, "audiences": ["istio-ca"],
            "user": {
                "username": "system:serviceaccount:istio-system:ztunnel", "groups": ["system:serviceaccounts"],
            },
        });
        fake.token("ztunnel", token);
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, fake.kubeconfig()).unwrap();
        let mut flags = vec!["istiod-lite".to_owned(), "run".into(), "--host=127.0.0.1".into()];
        flags.push(format!("--kubeconfig={}", kubeconfig.display()));
        flags.push(format!("--state={}", folder.path().join("state").display()));
        for listener in ["grpc", "secure-grpc", "http", "https", "monitoring"] {
            flags.push(format!("--{listener}-addr=127.0.0.1:0"));
        }
        let at = folder.path().display().to_string();
        flags.extend(more.iter().map(|(flag, value)| format!("--{flag}={}", value.replace("FOLDER", &at))));
        let Command::Run(config) = Cli::try_parse_from(flags).unwrap().command else { panic!("not run") };
        let plane = Box::pin(ControlPlane::open(*config)).await.unwrap();
        let (addresses, mut tasks) = (plane.addresses(), Tasks::new(&Stop::new()));
        tasks.spawn("control plane", |stop| plane.run(stop));
        Self { folder, fake, addresses, _tasks: tasks }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A tunnel's own client, believing this root.
    fn ca(&self, root: &str) -> Ca {
        let url = format!("https://{}", self.addresses.secure);
        Ca::new(CaSettings {
            control_plane: Remote::new(&url, RootSource::Pem(root.into()), None).unwrap(),
            token: Token::Static("ztunnel".into()),
            cluster: "Kubernetes".into(),
            headers: Vec::new(),
            ttl: Duration::from_secs(3600),
            impersonate: false,
            terms: Terms::default(),
        })
    }

    async fn ask(&self, root: &str) -> IssueError {
        let who: Identity = "spiffe://cluster.local/ns/istio-system/sa/ztunnel".parse().unwrap();
        self.ca(root).issue(&who).await.expect_err("nothing is signed here")
    }

    async fn metrics(&self) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = ambit_process::net::TcpStream::connect(self.addresses.monitoring).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn map(&self, namespace: &str, name: &str) -> Option<Value> {
        self.fake.object(CONFIG_MAPS, namespace, name)
    }

    fn hook(&self) -> Option<String> {
        let object = self.fake.object(HOOKS, "", "istio-validator-istio-system")?;
        let bundle = object.pointer("/webhooks/0/clientConfig/caBundle")?.as_str()?.to_owned();
        String::from_utf8(STANDARD.decode(bundle).unwrap()).ok()
    }
}

async fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let found = async {
        while !look() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, found).await.unwrap_or_else(|_| panic!("{what} does not come about"));
}

const ELSEWHERE: [(&str, &str); 4] = [
    ("ca", "false"),
    ("tlsCertFile", "FOLDER/tls.crt"),
    ("tlsKeyFile", "FOLDER/tls.key"),
    ("caCertFile", "FOLDER/root-cert.pem"),
];

#[tokio::test]
async fn with_an_authority_elsewhere_it_serves_under_what_it_is_given_signs_nothing_and_tells_no_roots() {
    let company = Company::new("company");
    let scene = Scene::new(|folder| company.serves(folder), &ELSEWHERE).await;
    eventually("the webhook's bundle", || scene.hook().as_deref() == Some(&*company.root)).await;
    let refused = scene.ask(&company.root).await;
    assert!(format!("{refused:?}").contains("Unimplemented"), "{refused:?}");
    let stranger = scene.ask(&Company::new("company").root).await;
    assert!(!format!("{stranger:?}").contains("Unimplemented"), "it is not believed: {stranger:?}");
    assert!(!scene.path("state").exists(), "there is no key of ours");
    assert_eq!(scene.fake.object("/api/v1/secrets", "istio-system", "istio-ca-secret"), None);
    assert_eq!(scene.map("shop", "istio-ca-root-cert"), None);
    assert!(scene.fake.object(BUNDLES, "", "istio.io:istiod-ca:root-cert").is_none());

    let metrics = scene.metrics().await;
    assert!(
        metrics.contains("pilot_xds ") && !metrics.contains("expiry"),
        "nothing of ours can end: {metrics}"
    );

    // The company's root is exchanged: both are read again.
    let next = Company::new("next");
    next.serves(scene.folder.path());
    eventually("the next bundle", || scene.hook().as_deref() == Some(&*next.root)).await;
    let served = async {
        while !format!("{:?}", scene.ask(&next.root).await).contains("Unimplemented") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WAIT, served).await.expect("served under the next certificate");
}

#[tokio::test]
async fn lists_beside_given_material_and_roots_for_the_whole_cluster_are_told_and_told_again() {
    let authority = Authority::new();
    let list = authority.revoke(&[authority.issue("spiffe://cluster.local/ns/shop/sa/web").serial]);
    let cacerts = |folder: &Path| {
        std::fs::create_dir(folder.join("cacerts")).unwrap();
        std::fs::write(folder.join("cacerts/ca-crl.pem"), &list).unwrap();
    };
    let scene = Scene::new(cacerts, &[("cacerts", "FOLDER/cacerts")]).await;
    let told = |text: &str| {
        let map = scene.map("shop", "istio-ca-crl");
        map.is_some_and(|map| map["data"]["ca-crl.pem"] == text)
    };
    eventually("the list", || told(&list)).await;
    let roots = || scene.map("shop", "istio-ca-root-cert");
    eventually("the roots", || roots().is_some()).await;
    let root = roots().unwrap()["data"]["root-cert.pem"].clone();
    let bundle = || scene.fake.object(BUNDLES, "", "istio.io:istiod-ca:root-cert");
    eventually("the bundle", || bundle().is_some_and(|it| it["spec"]["trustBundle"] == root)).await;
    assert!(scene.metrics().await.contains("citadel_server_root_cert_expiry_seconds "));
    let next = authority.revoke(&[]);
    std::fs::write(scene.path("cacerts/ca-crl.pem"), &next).unwrap();
    eventually("the next list", || told(&next)).await;
}
