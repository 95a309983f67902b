//! Handshakes between both ends, in memory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::name::Identity;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Algorithms, Mismatch, provider, server_name};
use crate::credential::{Credential, Terms};
use crate::peer::{self, PeerError};
use crate::testing::{Authority, Pem, identity, uri};

struct Met {
    /// Who the server took the client for, and the other way round.
    client: Result<Identity, io::Error>,
    server: Result<Identity, io::Error>,
    group: Option<rustls::NamedGroup>,
}

async fn meet(server: &Credential, client: Arc<ClientConfig>) -> Met {
    let (near, far) = duplex(64 * 1024);
    let accept = TlsAcceptor::from(server.server()).accept(far);
    let connect = TlsConnector::from(client).connect(server_name(), near);
    let (accepted, connected) = tokio::join!(accept, connect);
    let of = |chain: Option<&[CertificateDer<'_>]>| peer::of_chain(chain).unwrap();
    let group =
        connected.as_ref().ok().and_then(|c| Some(c.get_ref().1.negotiated_key_exchange_group()?.name()));
    Met {
        client: accepted.map(|stream| of(stream.get_ref().1.peer_certificates())),
        server: connected.map(|stream| of(stream.get_ref().1.peer_certificates())),
        group,
    }
}

fn expect(accounts: &[&str]) -> Arc<[Identity]> {
    accounts.iter().map(|account| identity(account)).collect()
}

fn mismatch<T: std::fmt::Debug>(result: &Result<T, io::Error>) -> Mismatch {
    Mismatch::behind(result.as_ref().unwrap_err()).cloned().unwrap()
}

#[tokio::test]
async fn both_ends_learn_who_the_other_is_over_a_hybrid_key_exchange() {
    let ca = Authority::new();
    let (web, db) =
        (ca.credential("spiffe://cluster.local/ns/shop/sa/web"), ca.credential(&identity("db").to_string()));
    let met = meet(&db, web.client(expect(&["other", "db"]))).await;
    assert_eq!((met.client.unwrap(), met.server.unwrap()), (identity("web"), identity("db")));
    assert_eq!(met.group, Some(rustls::NamedGroup::X25519MLKEM768));
}

#[tokio::test]
async fn a_server_that_is_not_expected_is_refused() {
    let ca = Authority::new();
    let (web, db) = (ca.credential(&identity("web").to_string()), ca.credential(&identity("db").to_string()));
    for wanted in [expect(&["web"]), expect(&[])] {
        let met = meet(&db, web.client(Arc::clone(&wanted))).await;
        assert_eq!(mismatch(&met.server), Mismatch::Unexpected { found: identity("db"), wanted });
    }
}

#[tokio::test]
async fn a_client_of_a_foreign_trust_domain_is_refused_unless_it_is_an_alias() {
    let ca = Authority::new();
    let stranger = "spiffe://elsewhere/ns/shop/sa/web";
    let pem = ca.workload(&identity("db").to_string());
    let met = meet(&pem.credential(&Terms::default()), ca.credential(stranger).client(expect(&["db"]))).await;
    assert_eq!(mismatch(&met.client), Mismatch::Foreign { found: stranger.parse().unwrap() });
    let aliases = Terms { aliases: Arc::from(["elsewhere".parse().unwrap()]), ..Terms::default() };
    let met = meet(&pem.credential(&aliases), ca.credential(stranger).client(expect(&["db"]))).await;
    assert_eq!(met.client.unwrap().to_string(), stranger);
}

#[tokio::test]
async fn a_server_may_be_of_an_alias_of_our_trust_domain_but_never_another_account() {
    let ca = Authority::new();
    let db = ca.credential("spiffe://elsewhere/ns/shop/sa/db");
    let web = ca.workload(&identity("web").to_string());
    let aliases = Terms { aliases: Arc::from(["elsewhere".parse().unwrap()]), ..Terms::default() };
    for (terms, wanted, accepted) in [
        (&Terms::default(), identity("db"), false),
        (&aliases, identity("db"), true),
        (&aliases, identity("web"), false),
        // Expected under a trust domain that has nothing to do with ours.
        (&aliases, "spiffe://other/ns/shop/sa/db".parse().unwrap(), false),
    ] {
        let client = web.credential(terms).client(Arc::from([wanted.clone()]));
        let met = meet(&db, client).await;
        assert_eq!(met.server.is_ok(), accepted, "{wanted} {:?}", met.server);
    }
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused_by_both_ends() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let db = ours.credential(&identity("db").to_string());
    let met = meet(&db, theirs.credential(&identity("web").to_string()).client(expect(&["db"]))).await;
    assert!(met.server.is_err() && met.client.is_err());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let ca = Authority::new();
    let db = ca.credential(&identity("db").to_string());
    let mut bare = ClientConfig::clone(&ca.credential(&identity("web").to_string()).client(expect(&["db"])));
    bare.client_auth_cert_resolver = Arc::new(Nothing);
    let met = meet(&db, Arc::new(bare)).await;
    let error = met.client.unwrap_err();
    let reason = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    assert_eq!(reason, Some(&rustls::Error::NoCertificatesPresented));
}

#[tokio::test]
async fn a_client_with_two_identities_is_refused() {
    let ca = Authority::new();
    let (a, b) = (identity("a").to_string(), identity("b").to_string());
    let db = ca.credential(&identity("db").to_string());
    // A credential of ours cannot hold two names, so the leaf is smuggled in.
    let pem = ca.leaf(vec![uri(&a), uri(&b)], Duration::from_secs(100 * 365 * 86_400));
    let chain = crate::credential::certificates("chain", pem.chain.as_bytes()).unwrap();
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(pem.key.as_bytes()).unwrap();
    let certified =
        rustls::sign::CertifiedKey::from_der(chain, key, &provider::hbone(Algorithms::default())).unwrap();
    let mut config = ClientConfig::clone(&ca.credential(&a).client(expect(&["db"])));
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let met = meet(&db, Arc::new(config)).await;
    assert_eq!(mismatch(&met.client), Mismatch::Nobody(PeerError::Ambiguous { first: a, second: b }));
}

#[tokio::test]
async fn the_protocol_is_h2_and_a_client_that_names_none_is_taken_for_one() {
    let ca = Authority::new();
    let (web, db) = (ca.credential(&identity("web").to_string()), ca.credential(&identity("db").to_string()));
    for (protocols, accepted) in [(vec![], true), (vec![b"http/1.1".to_vec()], false)] {
        let mut config = ClientConfig::clone(&web.client(expect(&["db"])));
        config.alpn_protocols = protocols.clone();
        let met = meet(&db, Arc::new(config)).await;
        assert_eq!(met.client.is_ok(), accepted, "{protocols:?}");
    }
}

#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn post_quantum_only_leaves_no_classical_key_exchange_on_either_end() {
    let ca = Authority::new();
    let strict = Terms { algorithms: Algorithms::PostQuantumOnly, ..Terms::default() };
    let (web, db) = (ca.workload(&identity("web").to_string()), ca.workload(&identity("db").to_string()));
    let (server, client) = (db.credential(&strict), web.credential(&strict).client(expect(&["db"])));
    let offered: Vec<_> = client.crypto_provider().kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(offered, [rustls::NamedGroup::X25519MLKEM768]);
    let met = meet(&server, client).await;
    assert_eq!((met.client.unwrap(), met.server.unwrap()), (identity("web"), identity("db")));
    let met = meet(&server, classical(&web.credential(&Terms::default()))).await;
    assert!(met.client.is_err() && met.server.is_err(), "{:?}", met.group);
}

/// A client that has not heard of the hybrid exchange.
fn classical(of: &Credential) -> Arc<ClientConfig> {
    let usual = of.client(expect(&["db"]));
    let mut provider = rustls::crypto::CryptoProvider::clone(usual.crypto_provider());
    provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519);
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_cert_resolver(Arc::clone(&usual.client_auth_cert_resolver));
    config.alpn_protocols.clone_from(&usual.alpn_protocols);
    Arc::new(config)
}

#[tokio::test]
async fn a_server_of_tls_1_2_is_spoken_to_only_where_that_was_asked_for() {
    let ca = Authority::new();
    let (web, db) = (ca.workload(&identity("web").to_string()), ca.workload(&identity("db").to_string()));
    for (algorithms, works) in [(Algorithms::WithTls12, true), (Algorithms::Usual, false)] {
        let terms = Terms { algorithms, ..Terms::default() };
        let (near, far) = duplex(64 * 1024);
        let client = TlsConnector::from(web.credential(&terms).client(expect(&["db"])));
        let server = TlsAcceptor::from(older(&db)).accept(far);
        let (accepted, connected) = tokio::join!(server, client.connect(server_name(), near));
        assert_eq!((accepted.is_ok(), connected.is_ok()), (works, works), "{algorithms:?}");
        let Ok(connected) = connected else { continue };
        let (_, session) = connected.get_ref();
        assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
        assert_eq!(peer::of_chain(session.peer_certificates()).unwrap(), identity("db"));
    }
}

/// A server that has nothing newer than TLS 1.2.
fn older(pem: &Pem) -> Arc<rustls::ServerConfig> {
    let chain = crate::credential::certificates("chain", pem.chain.as_bytes()).unwrap();
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(pem.key.as_bytes()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider::hbone(Algorithms::WithTls12))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
