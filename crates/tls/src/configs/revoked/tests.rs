//! Lists from a file, and handshakes that they end.

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::configs::server_name;
use crate::credential::{Credential, Terms};
use crate::testing::{Authority, Pem, identity, wall};

/// A list of the authority's that revokes what these chains begin with.
fn revoking(ca: &Authority, leaves: &[&Pem]) -> String {
    let one = |pem: &&Pem| {
        let chain = crate::credential::certificates("chain", pem.chain.as_bytes()).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        RevokedCertParams {
            serial_number: SerialNumber::from_slice(leaf.raw_serial()),
            revocation_time: wall().into(),
            reason_code: None,
            invalidity_date: None,
        }
    };
    let params = CertificateRevocationListParams {
        this_update: wall().into(),
        // Long past: an old list counts until there is a newer one.
        next_update: (wall() + Duration::from_secs(1)).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: leaves.iter().map(one).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    ca.list(&params)
}

/// What each end makes of the other.
async fn meet(server: &Credential, client: &Credential, expect: &str) -> [Result<(), CertificateError>; 2] {
    let (near, far) = duplex(64 * 1024);
    let accept = TlsAcceptor::from(server.server()).accept(far);
    let client = TlsConnector::from(client.client(Arc::from([identity(expect)])));
    let (accepted, connected) = tokio::join!(accept, client.connect(server_name(), near));
    let why = |error: io::Error| match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(why)) => why.clone(),
        _ => CertificateError::BadEncoding,
    };
    [accepted.map(drop).map_err(why), connected.map(drop).map_err(why)]
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("crl.pem");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[tokio::test]
async fn a_revoked_client_and_a_revoked_server_are_refused_and_counted_others_are_not() {
    let ca = Authority::new();
    let [web, db, guest] = ["web", "db", "guest"].map(|name| ca.workload(&identity(name).to_string()));
    let (_dir, path) = file(&revoking(&ca, &[&web]));
    let revoked = Revocations::open(path).unwrap();
    let checks = Terms { revoked: Some(revoked.clone()), ..Terms::default() };
    let plain = Terms::default();
    let [server, _] = meet(&db.credential(&checks), &web.credential(&plain), "db").await;
    assert_eq!(server, Err(CertificateError::Revoked));
    let [_, client] = meet(&web.credential(&plain), &db.credential(&checks), "web").await;
    assert_eq!(client, Err(CertificateError::Revoked));
    assert_eq!(revoked.refused(), (1, 1));
    let both = meet(&db.credential(&checks), &guest.credential(&checks), "db").await;
    assert_eq!(both, [Ok(()), Ok(())]);
}

#[tokio::test(start_paused = true)]
async fn lists_are_read_again_when_they_change_and_a_broken_one_leaves_the_last_in_force() {
    let ca = Authority::new();
    let [web, db] = ["web", "db"].map(|name| ca.workload(&identity(name).to_string()));
    let (_dir, path) = file("");
    std::fs::remove_file(&path).unwrap();
    let revoked = Revocations::open(path.clone()).unwrap();
    let checks = Terms { revoked: Some(revoked.clone()), ..Terms::default() };
    // One configuration for all: lists are asked at each handshake.
    let (web, db, list) = (web.credential(&checks), db.credential(&checks), revoking(&ca, &[&web]));
    let met = async || {
        let _ = tokio::time::timeout(POLL_EVERY * 3, revoked.follow()).await;
        let [server, _] = meet(&db, &web, "db").await;
        server
    };
    assert_eq!(met().await, Ok(()), "no file yet");
    std::fs::write(&path, list).unwrap();
    assert_eq!(met().await, Err(CertificateError::Revoked));
    std::fs::write(&path, "-----BEGIN X509 CRL-----\nbroken\n-----END X509 CRL-----\n").unwrap();
    assert_eq!(met().await, Err(CertificateError::Revoked), "a broken list");
    std::fs::write(&path, "\n").unwrap();
    assert_eq!(met().await, Ok(()), "an empty file revokes nothing");
}

#[tokio::test]
async fn a_list_of_another_authority_says_nothing_and_a_forged_one_lets_nobody_pass() {
    let (ca, other) = (Authority::named("ours"), Authority::named("others"));
    let [web, db] = ["web", "db"].map(|name| ca.workload(&identity(name).to_string()));
    for (lists, outcome) in
        [(revoking(&other, &[&web]), true), (revoking(&Authority::named("ours"), &[]), false)]
    {
        let (_dir, path) = file(&lists);
        let checks = Terms { revoked: Some(Revocations::open(path).unwrap()), ..Terms::default() };
        let [server, _] = meet(&db.credential(&checks), &web.credential(&Terms::default()), "db").await;
        assert_eq!(server.is_ok(), outcome, "{server:?}");
    }
}

#[test]
fn files_that_are_no_lists_are_refused_with_their_fault() {
    let certificate = Authority::new().root();
    for (text, fault) in [
        ("no list", "holds PEM but no X509 CRL block"),
        (certificate.as_str(), "holds PEM but no X509 CRL block"),
        ("-----BEGIN X509 CRL-----\n", "no readable PEM"),
        ("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "cannot be understood"),
        ("0 is where a list in DER begins", "cannot be understood"),
    ] {
        let (_dir, path) = file(text);
        let error = Revocations::open(path).unwrap_err().to_string();
        assert!(error.contains(fault), "{text}: {error}");
    }
    assert!(Revocations::open("/".into()).is_err(), "a directory");
}

/// What each end knows of the other, once they have met.
async fn stand(server: &Credential, client: &Credential, expect: &str) -> [Standing; 2] {
    let (near, far) = duplex(64 * 1024);
    let accept = crate::handshake::accept(server.accepting(), far);
    let connect = crate::handshake::connect(client.dialling(Arc::from([identity(expect)])), near);
    let (accepted, connected) = tokio::join!(accept, connect);
    [accepted.unwrap().1.standing, connected.unwrap().1.standing]
}

async fn is_revoked(standing: &Standing) -> bool {
    tokio::time::timeout(POLL_EVERY, standing.revoked()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn who_is_revoked_later_is_told_of_at_each_live_end_and_nobody_else_is() {
    let ca = Authority::new();
    let [web, db, guest] = ["web", "db", "guest"].map(|name| ca.workload(&identity(name).to_string()));
    let (_dir, path) = file("");
    let revoked = Revocations::open(path.clone()).unwrap();
    let checks = Terms { revoked: Some(revoked.clone()), ..Terms::default() };
    let lists = [revoking(&ca, &[&web]), revoking(&ca, &[&web, &db])];
    let [server, client] = [&db, &guest].map(|pem| pem.credential(&Terms::default()));
    let [web, db, guest] = [web, db, guest].map(|pem| pem.credential(&checks));
    let [of_web, of_db] = stand(&db, &web, "db").await;
    let [of_guest, _] = stand(&db, &guest, "db").await;
    drop(stand(&db, &web, "db").await);
    let read = async || drop(tokio::time::timeout(POLL_EVERY * 3, revoked.follow()).await);
    read().await;
    assert!(!is_revoked(&of_web).await, "nobody is yet");
    std::fs::write(&path, &lists[0]).unwrap();
    read().await;
    assert!(is_revoked(&of_web).await && !is_revoked(&of_db).await && !is_revoked(&of_guest).await);
    assert_eq!(revoked.refused(), (0, 1), "who is gone is not counted");
    std::fs::write(&path, &lists[1]).unwrap();
    read().await;
    assert!(is_revoked(&of_db).await && !is_revoked(&of_guest).await);
    assert_eq!(revoked.refused(), (1, 1), "and nobody twice");
    let nobody = stand(&server, &client, "db").await;
    assert!(!is_revoked(&nobody[0]).await, "without lists nobody is ever revoked");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_comes_while_hands_are_shaken_is_not_missed() {
    let ca = Authority::new();
    let [web, db] = ["web", "db"].map(|name| ca.workload(&identity(name).to_string()));
    let (_dir, path) = file("");
    let revoked = Revocations::open(path.clone()).unwrap();
    let terms = Terms { revoked: Some(revoked.clone()), ..Terms::default() };
    let list = revoking(&ca, &[&web]);
    let db = db.credential(&terms);
    let checks = db.accepting().checks;
    let seen = checks.seen();
    let (_, chain) = (std::fs::write(&path, list).unwrap(), web.credential(&terms).chain());
    assert!(revoked.read_again());
    let chain: Vec<_> = chain.into_iter().map(|it| it.der).collect();
    assert!(is_revoked(&checks.standing(Some(&chain), End::Server, seen)).await);
    let late = checks.standing(Some(&chain), End::Server, checks.seen());
    assert!(!is_revoked(&late).await, "the handshake itself would have found it");
}

#[test]
fn those_that_are_gone_are_cleared_up() {
    let mut live = Live::default();
    let anchors = Arc::new(RootCertStore::empty());
    let shown = || Arc::new(Shown::new(Vec::new(), (Arc::clone(&anchors), &[]), End::Server));
    let kept: Vec<_> = (0..10).map(|_| shown()).collect();
    kept.iter().for_each(|it| live.enter(it));
    for _ in 0..10_000 {
        live.enter(&shown());
        assert!(live.all().len() <= 64 + 1);
    }
    assert_eq!(live.all().iter().filter_map(Weak::upgrade).count(), kept.len());
}
