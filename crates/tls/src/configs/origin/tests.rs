//! Whom TLS that is begun to endpoints believes, tried with both ends.

use std::time::Duration;

use rcgen::SanType;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::testing::{Authority, Pem, uri};

const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

fn server(pem: &Pem, alpn: &[&[u8]]) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(pem.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(provider::control_plane(Algorithms::Usual));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// The name that the server was asked for and the protocol that was agreed on, or why there is no connection.
async fn meet(
    origin: &Origin,
    asked: (&str, Spoken),
    server: &TlsAcceptor,
) -> Result<(Option<String>, Option<Vec<u8>>), String> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (near, far) = tokio::join!(origin.prove(asked.0, asked.1, near), server.accept(far));
    near.map_err(|error| error.to_string())?;
    let far = far.map_err(|error| error.to_string())?;
    let (_, told) = far.get_ref();
    Ok((told.server_name().map(str::to_owned), told.alpn_protocol().map(<[u8]>::to_vec)))
}

fn names(authority: &Authority) -> Pem {
    let names = vec![
        SanType::DnsName("api.example.com".try_into().unwrap()),
        SanType::DnsName("*.wild.example.com".try_into().unwrap()),
        uri("spiffe://elsewhere/ns/a/sa/b"),
    ];
    authority.leaf(names, CENTURY)
}

#[tokio::test]
async fn a_server_proves_the_name_that_is_asked_for_or_one_of_those_that_count() {
    let authority = Authority::new();
    let there = server(&names(&authority), &[]);
    let roots = RootSource::Pem(authority.root());
    let host = |name: &str| SubjectName::Host(name.into());
    for (count, asked, holds) in [
        (vec![], "api.example.com", true),
        (vec![], "a.wild.example.com", true),
        (vec![], "a.b.wild.example.com", false),
        (vec![], "other.example.com", false),
        (vec![], "192.0.2.1", false),
        // With names that count, what is asked for is asked for and nothing more.
        (vec![host("api.example.com")], "other.example.com", true),
        (vec![host("other.example.com")], "api.example.com", false),
        (vec![SubjectName::Uri("spiffe://elsewhere/ns/a/sa/b".into())], "x.example.com", true),
        (vec![SubjectName::Uri("spiffe://elsewhere/ns/a/sa".into())], "x.example.com", false),
        (vec![SubjectName::Uri("api.example.com".into())], "api.example.com", false),
        (vec![host("no.example"), SubjectName::Any("a.wild.example.com".into())], "x.example.com", true),
        (vec![SubjectName::Any("spiffe://elsewhere/ns/a/sa/b".into())], "x.example.com", true),
    ] {
        let origin = Origin::new(Some(&roots), count.clone(), None).unwrap();
        let met = meet(&origin, (asked, Spoken::Http1), &there).await;
        assert_eq!(met.is_ok(), holds, "{count:?} {asked}: {met:?}");
        if let Ok((sni, _)) = met {
            assert_eq!(sni.as_deref(), Some(asked));
        }
    }
}

#[tokio::test]
async fn who_is_vouched_for_by_nobody_is_believed_only_where_nobody_has_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let there = server(&names(&stranger), &[]);
    let asked = ("api.example.com", Spoken::Http1);
    let strict = Origin::new(Some(&RootSource::Pem(authority.root())), Vec::new(), None).unwrap();
    assert!(meet(&strict, asked, &there).await.is_err());
    let lax = Origin::new(None, Vec::new(), None).unwrap();
    assert!(meet(&lax, ("anything.example", Spoken::Http1), &there).await.is_ok());
    // What ended long ago is not believed, whoever vouches for it.
    let old =
        authority.leaf(vec![SanType::DnsName("api.example.com".try_into().unwrap())], Duration::from_secs(1));
    assert!(meet(&strict, asked, &server(&old, &[])).await.is_err());
    for empty in ["", "no certificate"] {
        assert!(Origin::new(Some(&RootSource::Pem(empty.into())), Vec::new(), None).is_err(), "{empty:?}");
    }
    assert!(meet(&lax, ("a b", Spoken::Http1), &there).await.is_err());
}

#[tokio::test]
async fn what_will_be_spoken_is_offered_and_nothing_else() {
    let authority = Authority::new();
    let origin = Origin::new(Some(&RootSource::Pem(authority.root())), Vec::new(), None).unwrap();
    let leaf = names(&authority);
    for (spoken, speaks, agreed) in [
        (Spoken::Http1, &[&b"h2"[..], b"http/1.1"][..], Some(&b"http/1.1"[..])),
        (Spoken::Http2, &[b"http/1.1", b"h2"], Some(b"h2")),
        (Spoken::Opaque, &[b"h2"], None),
        (Spoken::Http2, &[], None),
    ] {
        let met = meet(&origin, ("api.example.com", spoken), &server(&leaf, speaks)).await.unwrap();
        assert_eq!(met.1.as_deref(), agreed, "{spoken:?}");
    }
    let only_one = server(&leaf, &[b"http/1.1"]);
    assert!(meet(&origin, ("api.example.com", Spoken::Http2), &only_one).await.is_err());
}

#[test]
fn no_two_are_taken_for_each_other() {
    let one = || Origin::new(None, Vec::new(), None).unwrap().number();
    assert_ne!(one(), one());
}

#[tokio::test]
async fn a_certificate_is_shown_to_a_server_that_asks_for_one_and_one_that_is_unusable_begins_nothing() {
    let authority = Authority::new();
    let server = names(&authority);
    let client = authority.leaf(vec![SanType::DnsName("gate.example.com".try_into().unwrap())], CENTURY);
    let roots =
        CertificateDer::pem_slice_iter(authority.root().as_bytes()).map(Result::unwrap).collect::<Vec<_>>();
    let mut anchors = RootCertStore::empty();
    anchors.add_parsable_certificates(roots);
    let provider = provider::control_plane(Algorithms::Usual);
    let asks =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(&provider));
    let chain = CertificateDer::pem_slice_iter(server.chain.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes()).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.unwrap().with_client_cert_verifier(asks.build().unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let roots = RootSource::Pem(authority.root());
    let asked = ("api.example.com", Spoken::Opaque);
    let shown = Some((client.chain.as_str(), client.key.as_str()));
    let origin = Origin::new(Some(&roots), Vec::new(), shown).unwrap();
    assert!(meet(&origin, asked, &acceptor).await.is_ok());
    let without = Origin::new(Some(&roots), Vec::new(), None).unwrap();
    assert!(meet(&without, asked, &acceptor).await.is_err());
    let other = authority.leaf(vec![SanType::DnsName("b.example.com".try_into().unwrap())], CENTURY);
    for (chain, key) in
        [(&client.chain, &other.key), (&client.chain, &"none".to_owned()), (&"none".to_owned(), &client.key)]
    {
        let Err(error) = Origin::new(Some(&roots), Vec::new(), Some((chain.as_str(), key.as_str()))) else {
            panic!("it begins")
        };
        assert!(matches!(error, ConnectError::Shown), "{error:?}");
        assert!(!credential::is_pair(chain, key));
    }
    assert!(credential::is_pair(&client.chain, &client.key));
}
