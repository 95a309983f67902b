//! A real gRPC authority on loopback, over TLS, and a client that asks it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ambit_wire::pb::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use rcgen::CertificateSigningRequestParams;
use tokio::net::TcpListener;
use tonic::{Response, Status};
use x509_parser::prelude::{FromDer, ParsedExtension, X509CertificationRequest};

use super::*;
use crate::configs::Served;
use crate::configs::control_plane::{self, RootSource};
use crate::handshake;
use crate::testing::{Authority, Pem, identity, uri, wall};

/// What a caller showed.
#[derive(Debug, Default, Clone)]
struct Asked {
    impersonated: Option<String>,
    authorization: String,
    cluster: String,
    seconds: i64,
    names: Vec<String>,
    critical: bool,
}

struct Signer {
    authority: Arc<Authority>,
    /// Signs for this identity, whatever is asked.
    always: Option<Identity>,
    /// Roots that it hands out beside its own.
    also: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[tonic::async_trait]
impl IstioCertificateService for Signer {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let header =
            |name| request.metadata().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        let mut asked = Asked {
            authorization: header("authorization"),
            cluster: header("clusterid"),
            ..Asked::default()
        };
        let message = request.into_inner();
        asked.seconds = message.validity_duration;
        let metadata = message.metadata.unwrap_or_default();
        asked.impersonated = metadata.fields.get("ImpersonatedIdentity").map(|v| format!("{v:?}"));
        read_names(&message.csr, &mut asked);
        self.asked.lock().unwrap().push(asked.clone());
        if asked.authorization != "Bearer good" {
            return Err(Status::unauthenticated("no"));
        }
        let name = self.always.as_ref().map_or_else(|| asked.names[0].clone(), ToString::to_string);
        let mut params = CertificateSigningRequestParams::from_pem(&message.csr).unwrap();
        params.params.subject_alt_names = vec![uri(&name)];
        params.params.not_before = wall().into();
        let leaf = self.authority.sign(params);
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: vec![leaf, self.authority.root() + &self.also],
        }))
    }
}

fn read_names(csr: &str, asked: &mut Asked) {
    let (_, pem) = x509_parser::pem::parse_x509_pem(csr.as_bytes()).unwrap();
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).unwrap();
    assert_eq!(request.certification_request_info.subject.iter().count(), 0);
    for extension in request.requested_extensions().unwrap() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            asked.names = names.general_names.iter().map(|n| n.to_string()).collect();
        }
    }
    asked.names =
        asked.names.iter().map(|n| n.trim_start_matches("URI(").trim_end_matches(')').into()).collect();
    // 2.5.29.17 subjectAltName, then BOOLEAN TRUE
    let critical = [0x06, 0x03, 0x55, 0x1d, 0x11, 0x01, 0x01, 0xff];
    asked.critical = pem.contents.windows(critical.len()).any(|w| w == critical);
}

struct Bench {
    dir: tempfile::TempDir,
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _server: tokio::task::JoinSet<()>,
}

async fn bench(always: Option<Identity>) -> Bench {
    bench_with(always, String::new()).await
}

async fn bench_with(always: Option<Identity>, also: String) -> Bench {
    let authority = Arc::new(Authority::new());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("root.pem"), authority.root()).unwrap();
    std::fs::write(dir.path().join("token"), "good\n").unwrap();
    let name = SanType::DnsName("istiod.istio-system.svc".try_into().unwrap());
    let serving = authority.leaf(vec![name], Duration::from_secs(100 * 365 * 86_400));
    let tls = control_plane::server(serving.chain.as_bytes(), serving.key.as_bytes()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let service =
        IstioCertificateServiceServer::new(Signer { authority, always, also, asked: Arc::clone(&asked) });
    let incoming = futures_util::stream::unfold((listener, tls), |(listener, tls)| async {
        let (tcp, _) = listener.accept().await.unwrap();
        Some((Served::accept(Arc::clone(&tls), tcp).await, (listener, tls)))
    });
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move {
        let serve = tonic::transport::Server::builder().serve_with_incoming(service, incoming);
        let _ = Box::pin(serve).await;
    });
    Bench { dir, address, asked, _server: server }
}

impl Bench {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ca(&self, host: Option<&str>) -> Ca {
        let roots = RootSource::File(self.file("root.pem"));
        Ca::new(CaSettings {
            control_plane: ControlPlane::new(&self.address, roots, host).unwrap(),
            token: Token::File(self.file("token")),
            cluster: "Kubernetes".into(),
            headers: vec![("X-Extra".into(), "1".into())],
            ttl: Duration::from_secs(86_400),
            impersonate: true,
            terms: Terms::default(),
        })
    }
}

const NAME: Option<&str> = Some("istiod.istio-system.svc");

#[tokio::test]
async fn a_signed_request_becomes_a_credential_of_the_asked_identity() {
    let bench = bench(None).await;
    let credential = bench.ca(NAME).issue(&identity("web")).await.unwrap();
    assert_eq!(credential.identity(), &identity("web"));
    let asked = bench.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.names, ["spiffe://cluster.local/ns/shop/sa/web"]);
    assert!(asked.critical, "the only name of a nameless subject is critical");
    assert!(asked.impersonated.unwrap().contains("spiffe://cluster.local/ns/shop/sa/web"));
    assert_eq!(
        (asked.authorization.as_str(), asked.cluster.as_str(), asked.seconds),
        ("Bearer good", "Kubernetes", 86_400)
    );
}

#[tokio::test]
async fn a_credential_of_somebody_else_is_refused() {
    let bench = bench(Some(identity("db"))).await;
    let result = bench.ca(NAME).issue(&identity("web")).await;
    assert!(matches!(result, Err(IssueError::WrongIdentity { .. })), "{result:?}");
}

#[tokio::test]
async fn the_token_is_read_for_each_call() {
    let bench = bench(None).await;
    let ca = bench.ca(NAME);
    std::fs::write(bench.file("token"), "bad").unwrap();
    let refused = ca.issue(&identity("web")).await;
    assert!(
        matches!(&refused, Err(IssueError::Refused(s)) if s.code() == tonic::Code::Unauthenticated),
        "{refused:?}"
    );
    std::fs::write(bench.file("token"), " \n").unwrap();
    assert!(matches!(ca.issue(&identity("web")).await, Err(IssueError::Token(_))));
    std::fs::write(bench.file("token"), "good").unwrap();
    assert!(ca.issue(&identity("web")).await.is_ok());
}

#[tokio::test]
async fn a_server_of_another_name_or_root_is_not_asked() {
    let bench = bench(None).await;
    let result = bench.ca(None).issue(&identity("web")).await;
    assert!(matches!(result, Err(IssueError::Refused(_))), "{result:?}");
    let ca = bench.ca(NAME);
    std::fs::write(bench.file("root.pem"), Authority::new().root()).unwrap();
    assert!(matches!(ca.issue(&identity("web")).await, Err(IssueError::Refused(_))));
    assert!(bench.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn changed_roots_are_used_for_the_next_call() {
    let bench = bench(None).await;
    let good = std::fs::read(bench.file("root.pem")).unwrap();
    std::fs::write(bench.file("root.pem"), Authority::new().root()).unwrap();
    let ca = bench.ca(NAME);
    assert!(ca.issue(&identity("web")).await.is_err());
    std::fs::write(bench.file("root.pem"), good).unwrap();
    assert!(ca.issue(&identity("web")).await.is_ok());
}

#[tokio::test]
async fn roots_that_cannot_be_used_leave_those_before_them_in_use() {
    let bench = bench(None).await;
    let ca = bench.ca(NAME);
    assert!(ca.issue(&identity("web")).await.is_ok());
    for broken in ["", "no certificate"] {
        std::fs::write(bench.file("root.pem"), broken).unwrap();
        let issued = ca.issue(&identity("web")).await;
        assert!(issued.is_ok(), "{broken:?}: {issued:?}");
    }
    std::fs::remove_file(bench.file("root.pem")).unwrap();
    assert!(ca.issue(&identity("web")).await.is_ok());
    std::fs::write(bench.file("root.pem"), Authority::new().root()).unwrap();
    assert!(ca.issue(&identity("web")).await.is_err(), "roots that can be used are used");
}

#[tokio::test]
async fn a_new_root_that_comes_with_an_answer_is_believed_beside_the_old_one() {
    let old = Authority::new();
    let bench = bench_with(None, old.root()).await;
    let fresh = bench.ca(NAME).issue(&identity("web")).await.unwrap();
    assert_eq!(fresh.roots().len(), 2);
    let new_root = std::fs::read_to_string(bench.file("root.pem")).unwrap();
    let told = |roots: String| {
        let leaf = old.workload(&identity("db").to_string());
        Pem { roots, ..leaf }.credential(&Terms::default())
    };
    // A peer that still has its old leaf, once it was told of both roots and once before.
    for (roots, met) in [(old.root() + &new_root, true), (old.root(), false)] {
        let peer = told(roots);
        assert_eq!(meets(&fresh, &peer, "db").await, met);
        assert_eq!(meets(&peer, &fresh, "web").await, met);
    }
}

/// Whether two get to know each other.
async fn meets(client: &Credential, server: &Credential, name: &str) -> bool {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let accept = handshake::accept(server.accepting(), far);
    let connect = handshake::connect(client.dialling(Arc::new([identity(name)])), near);
    let (accepted, connected) = tokio::join!(accept, connect);
    accepted.is_ok() && connected.is_ok()
}

#[test]
fn an_answer_without_roots_is_refused() {
    let key = || PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(vec![1]));
    for answer in [vec![], vec!["leaf".to_owned()]] {
        let refused = material(&answer, key()).err();
        assert!(matches!(refused, Some(CredentialError::Missing { .. })), "{answer:?}");
    }
}
