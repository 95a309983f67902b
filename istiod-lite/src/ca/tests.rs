//! The authority from the outside: who is believed, who may speak for whom, what is signed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use prost_types::{Struct, Value};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::json;
use tempfile::TempDir;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::keeper::{Keeper, Place};
use super::root::{self, Recipe, RootError};
use super::rotation::Rotation;
use super::signer::MaterialError;
use super::state::State;
use super::token::Tokens;
use super::*;

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// 2026-01-01.
fn start() -> SystemTime {
    at(1_767_225_600)
}

fn domain() -> TrustDomain {
    TrustDomain::default()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &Path, now: SystemTime) -> Result<Rotation, RootError> {
    root::open(&State::open(folder).unwrap(), &Recipe::new(domain()), now)
}

fn csr(key: &KeyPair, names: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// A token's claims: everything as it must be, to be spoilt.
fn claims() -> serde_json::Value {
    json!({
        "iss": "ambit-local",
        "aud": ["istio-ca"],
        "sub": "system:serviceaccount:istio-system:ztunnel",
        "exp": 4_000_000_000_u64,
        "kubernetes.io": {
            "namespace": "istio-system",
            "node": {"name": "n1"},
            "pod": {"name": "ztunnel-n1", "uid": "u"},
            "serviceaccount": {"name": "ztunnel"},
        },
    })
}

struct Signer(KeyPair);

impl Signer {
    fn new() -> Self {
        Self(KeyPair::generate().unwrap())
    }

    fn tokens(&self, folder: &Path) -> Tokens {
        let path = folder.join("token.pem");
        std::fs::write(&path, self.0.public_key_pem()).unwrap();
        Tokens::open(&path, domain()).unwrap()
    }

    fn sign(&self, claims: &serde_json::Value) -> String {
        let key = EncodingKey::from_ec_pem(self.0.serialize_pem().as_bytes()).unwrap();
        encode(&Header::new(Algorithm::ES256), claims, &key).unwrap()
    }
}

#[test]
fn a_root_is_made_once_and_its_key_is_for_nobody_else() {
    let folder = folder();
    let first = open(folder.path(), start()).unwrap();
    let key = folder.path().join("ca-key.pem");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let again = open(folder.path(), start()).unwrap();
    assert_eq!(first.current().certificate(), again.current().certificate());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = open(folder.path(), start()).unwrap_err();
    assert!(exposed.to_string().contains("run chmod 600"), "{exposed}");
    std::fs::remove_file(&key).unwrap();
    let half = open(folder.path(), start()).unwrap_err();
    assert!(matches!(half, RootError::Half { .. }), "{half}");
}

#[test]
fn files_that_are_no_pair_are_refused() {
    let (one, other) = (folder(), folder());
    open(one.path(), start()).unwrap();
    open(other.path(), start()).unwrap();
    std::fs::copy(other.path().join("ca-key.pem"), one.path().join("ca-key.pem")).unwrap();
    let wrong = |folder: &Path| match open(folder, start()) {
        Err(RootError::Unusable { wrong, .. }) => wrong,
        other => panic!("{other:?}"),
    };
    assert!(matches!(wrong(one.path()), MaterialError::Mismatch { .. }));
    std::fs::write(one.path().join("ca-key.pem"), "no key").unwrap();
    assert_eq!(wrong(one.path()), MaterialError::Key("ca-key.pem"));
}

#[test]
fn a_folder_from_before_there_were_successions_is_taken_as_it_is() {
    let folder = folder();
    let first = open(folder.path(), start()).unwrap();
    std::fs::remove_file(folder.path().join("ca-cert.pem")).unwrap();
    std::fs::remove_file(folder.path().join("rotation.json")).unwrap();
    let again = open(folder.path(), start()).unwrap();
    assert_eq!(first.current().certificate(), again.current().certificate());
    assert!(folder.path().join("ca-cert.pem").exists());
}

#[test]
fn a_root_whose_time_was_over_while_nothing_ran_is_made_anew() {
    let folder = folder();
    let first = open(folder.path(), start()).unwrap();
    let late = start() + Duration::from_secs(4000 * 24 * 3600);
    let next = open(folder.path(), late).unwrap();
    assert_ne!(first.current().certificate(), next.current().certificate());
    assert_eq!(next.believed().len(), 1, "nobody believes what has ended");
}

#[test]
fn what_is_signed_is_for_the_identity_alone_whatever_the_request_says() {
    let folder = folder();
    let root = Arc::clone(open(folder.path(), start()).unwrap().current());
    let request = csr(&KeyPair::generate().unwrap(), &["spiffe://cluster.local/ns/bank/sa/thief"]);
    let who = WEB.parse().unwrap();
    let pem = root.sign(&request, &who, 0, start()).unwrap();
    assert!(pem.ends_with('\n'));
    let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
    let leaf = block.parse_x509().unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical);
    assert!(matches!(names.value.general_names.as_slice(), [GeneralName::URI(uri)] if *uri == WEB));
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth);
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert_eq!(life, 24 * 3600 + 120);
    let root_pem = root.certificate().pem();
    let (_, block) = parse_x509_pem(root_pem.as_bytes()).unwrap();
    leaf.verify_signature(Some(block.parse_x509().unwrap().public_key())).unwrap();
    let again = root.sign(&request, &who, 60, start()).unwrap();
    let (_, block) = parse_x509_pem(again.as_bytes()).unwrap();
    assert_ne!(block.parse_x509().unwrap().raw_serial(), leaf.raw_serial());
}

#[test]
fn a_leaf_does_not_outlive_its_root() {
    let folder = folder();
    let root = Arc::clone(open(folder.path(), start()).unwrap().current());
    let late = root.not_after() - Duration::from_secs(60);
    let request = csr(&KeyPair::generate().unwrap(), &[]);
    let pem = root.sign(&request, &WEB.parse().unwrap(), 3600, late).unwrap();
    let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
    let end = block.parse_x509().unwrap().validity().not_after.timestamp();
    assert_eq!(at(end.try_into().unwrap()), root.not_after());
}

#[test]
fn requests_that_are_none_are_not_signed() {
    let folder = folder();
    let root = Arc::clone(open(folder.path(), start()).unwrap().current());
    let good = csr(&KeyPair::generate().unwrap(), &[WEB]);
    let root_pem = root.certificate().pem();
    let sign = |request: &str, seconds| root.sign(request, &WEB.parse().unwrap(), seconds, start());
    assert!(sign(&good, 3600).is_ok());
    for (request, seconds) in [("", 0), ("no pem", 0), (&root_pem, 0), (&good[..good.len() / 2], 0)] {
        assert!(matches!(sign(request, seconds), Err(SignError::Request(_))), "{request:?}");
    }
    // One bit of the signature turned.
    let (_, block) = parse_x509_pem(good.as_bytes()).unwrap();
    let mut der = block.contents.clone();
    *der.last_mut().unwrap() ^= 1;
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
    let turned = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    assert!(matches!(sign(&turned, 0), Err(SignError::Signature)), "{:?}", sign(&turned, 0));
    for seconds in [-1, 90 * 24 * 3600 + 1, i64::MAX, i64::MIN] {
        assert!(matches!(sign(&good, seconds), Err(SignError::Lifetime { .. })), "{seconds}");
    }
}

#[test]
fn tokens_are_believed_only_as_they_must_be() {
    let folder = folder();
    let signer = Signer::new();
    let tokens = signer.tokens(folder.path());
    let good = tokens.verify(&signer.sign(&claims()), start()).unwrap();
    assert_eq!(good.identity.to_string(), "spiffe://cluster.local/ns/istio-system/sa/ztunnel");
    assert_eq!(good.bound, Bound::Node("n1".into()));
    for (field, value) in [
        ("/iss", json!("somebody")),
        ("/aud", json!(["another"])),
        ("/exp", json!(1_000_000_000)),
        ("/sub", json!("system:serviceaccount:istio-system:other")),
        ("/sub", json!("ztunnel")),
        ("/kubernetes.io/namespace", json!("kube-system")),
        ("/kubernetes.io/serviceaccount/name", json!("")),
        ("/kubernetes.io", json!(null)),
    ] {
        let mut spoilt = claims();
        *spoilt.pointer_mut(field).unwrap() = value.clone();
        assert!(tokens.verify(&signer.sign(&spoilt), start()).is_err(), "{field} {value}");
    }
    for gone in ["iss", "aud", "sub", "exp"] {
        let mut spoilt = claims();
        spoilt.as_object_mut().unwrap().remove(gone);
        assert!(tokens.verify(&signer.sign(&spoilt), start()).is_err(), "without {gone}");
    }
    assert!(tokens.verify(&Signer::new().sign(&claims()), start()).is_err(), "another's signature");
    // "none", and the public key taken for a shared secret.
    let secret = EncodingKey::from_secret(signer.0.public_key_pem().as_bytes());
    let forged = encode(&Header::new(Algorithm::HS256), &claims(), &secret).unwrap();
    assert!(tokens.verify(&forged, start()).is_err());
    let body = signer.sign(&claims()).split('.').nth(1).unwrap().to_owned();
    assert!(tokens.verify(&format!("eyJhbGciOiJub25lIn0.{body}."), start()).is_err());
}

struct Bench {
    folder: TempDir,
    signer: Signer,
    authority: Authority,
    asks: mpsc::Receiver<Ask>,
}

fn bench() -> Bench {
    let folder = folder();
    let signer = Signer::new();
    let place = Place { state: folder.path().join("state"), plugged: None, recipe: Recipe::new(domain()) };
    let keeper = Keeper::open(place, Metrics::default(), clock::now_system()).unwrap();
    let callers = Arc::new(Callers::Key(signer.tokens(folder.path())));
    let (asks_in, asks) = mpsc::channel(1);
    let settings = Settings { trust_domain: domain(), trusted: vec!["istio-system/ztunnel".into()] };
    let authority = Authority::new(settings, keeper.newest(), callers, asks_in, Metrics::default());
    Bench { folder, signer, authority, asks }
}

fn request(token: &str, wanted: Option<&str>) -> Request<IstioCertificateRequest> {
    let text = |it: &str| Value { kind: Some(Kind::StringValue(it.into())) };
    let fields = wanted.map(|it| ("ImpersonatedIdentity".to_owned(), text(it))).into_iter().collect();
    let csr = csr(&KeyPair::generate().unwrap(), &[]);
    let message = IstioCertificateRequest { csr, validity_duration: 0, metadata: Some(Struct { fields }) };
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[tokio::test(start_paused = true)]
async fn a_node_may_speak_for_pods_on_it_and_for_nobody_else() {
    let Bench { folder: _folder, signer, authority, mut asks } = bench();
    let node = signer.sign(&claims());
    let (asked, answer) = tokio::join!(asks.recv(), authority.create_certificate(request(&node, Some(WEB))));
    let asked = asked.unwrap();
    assert_eq!((&asked.caller.bound, asked.who.to_string().as_str()), (&Bound::Node("n1".into()), WEB));
    drop(asked);
    assert_eq!(answer.unwrap_err().code(), tonic::Code::Unauthenticated, "nobody said yes");
    for wanted in ["spiffe://other.example/ns/shop/sa/web", "spiffe://cluster.local/ns/shop", "web", ""] {
        let refused = authority.create_certificate(request(&node, Some(wanted))).await.unwrap_err();
        assert_eq!(refused.message(), "request impersonation authentication failure", "{wanted}");
    }
    let mut spoilt = claims();
    spoilt["kubernetes.io"]["node"] = json!({"name": ""});
    assert!(
        authority.create_certificate(request(&signer.sign(&spoilt), Some(WEB))).await.is_err(),
        "no node"
    );
    let mut other = claims();
    other["sub"] = json!("system:serviceaccount:shop:web");
    other["kubernetes.io"]["namespace"] = json!("shop");
    other["kubernetes.io"]["serviceaccount"] = json!({"name": "web"});
    let other = signer.sign(&other);
    assert!(
        authority.create_certificate(request(&other, Some(WEB))).await.is_err(),
        "not trusted to impersonate"
    );
    let own = authority.create_certificate(request(&other, None)).await.unwrap().into_inner();
    let (_, block) = parse_x509_pem(own.cert_chain[0].as_bytes()).unwrap();
    let leaf = block.parse_x509().unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value;
    assert!(matches!(names.general_names.as_slice(), [GeneralName::URI(uri)] if *uri == WEB));
    assert_eq!(own.cert_chain.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_appears_while_the_request_waits_gets_its_certificate() {
    let Bench { folder: _folder, signer, authority, mut asks } = bench();
    let token = signer.sign(&claims());
    let seen_later = async {
        let ask = asks.recv().await.unwrap();
        tokio::time::sleep(POD_WAIT / 2).await;
        ask.yes.send(()).unwrap();
    };
    let ((), answer) = tokio::join!(seen_later, authority.create_certificate(request(&token, Some(WEB))));
    assert_eq!(answer.unwrap().into_inner().cert_chain.len(), 2);
    let never = async { asks.recv().await.unwrap() };
    let before = tokio::time::Instant::now();
    let (ask, answer) = tokio::join!(never, authority.create_certificate(request(&token, Some(WEB))));
    assert!(answer.is_err() && ask.yes.is_closed());
    assert_eq!(before.elapsed(), POD_WAIT);
}

#[tokio::test]
async fn without_a_token_nothing_is_signed() {
    let Bench { folder: _folder, authority, .. } = bench();
    for header in ["", "Bearer", "Bearer x.y.z", "Basic dXNlcg=="] {
        let mut request = request("", None);
        request.metadata_mut().insert("authorization", header.parse().unwrap());
        let refused = authority.create_certificate(request).await.unwrap_err();
        assert_eq!(refused.message(), "request authenticate failure", "{header:?}");
    }
}
