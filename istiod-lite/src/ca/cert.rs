//! A certificate as the authority handles it: its bytes, and the questions asked of it.
//! Owns reading PEM and writing it. Whom to believe is `signer`'s and `rotation`'s.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

/// Certificates in one file; more is no bundle but a mistake.
const MOST: usize = 64;

/// Characters a line of PEM has (RFC 7468).
const LINE: usize = 64;

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cert {
    der: Vec<u8>,
}

impl Cert {
    /// All certificates of a PEM text; none when a block is something else or does not decode.
    #[must_use]
    pub fn all(pem: &str) -> Option<Vec<Self>> {
        let mut found = Vec::new();
        for block in Pem::iter_from_buffer(pem.as_bytes()) {
            let block = block.ok().filter(|it| it.label == "CERTIFICATE" && found.len() < MOST)?;
            found.push(Self::from_der(&block.contents)?);
        }
        Some(found)
    }

    /// A certificate of its bytes.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (rest, _) = X509Certificate::from_der(der).ok()?;
        rest.is_empty().then(|| Self { der: der.to_vec() })
    }

    /// Its bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// As PEM, with a newline at its end.
    #[must_use]
    pub fn pem(&self) -> String {
        let body = STANDARD.encode(&self.der);
        let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
        for (at, letter) in body.chars().enumerate() {
            if at > 0 && at % LINE == 0 {
                text.push('\n');
            }
            text.push(letter);
        }
        text + "\n-----END CERTIFICATE-----\n"
    }

    /// Whether it is about this key.
    #[must_use]
    pub fn is_of(&self, key: &KeyPair) -> bool {
        self.asked(|it| it.public_key().subject_public_key.data.as_ref() == key.public_key_raw())
    }

    /// Whether certificates may be signed with its key.
    #[must_use]
    pub fn is_authority(&self) -> bool {
        self.asked(|it| {
            let usage = it.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
            usage && it.basic_constraints().ok().flatten().is_some_and(|basic| basic.value.ca)
        })
    }

    /// Whether `issuer` signed it; a self-signed one is its own issuer.
    #[must_use]
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        self.asked(|it| {
            issuer.asked(|by| {
                it.issuer().as_raw() == by.subject().as_raw()
                    && it.verify_signature(Some(by.public_key())).is_ok()
            })
        })
    }

    /// Whether it is about the same name, written in the same way.
    #[must_use]
    pub fn is_named_as(&self, other: &Self) -> bool {
        self.asked(|it| other.asked(|by| it.subject().as_raw() == by.subject().as_raw()))
    }

    /// From when to when it is valid.
    #[must_use]
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        let parsed = X509Certificate::from_der(&self.der).ok();
        let Some((_, parsed)) = parsed else { return (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH) };
        let validity = parsed.validity();
        (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()))
    }

    fn asked(&self, question: impl Fn(&X509Certificate<'_>) -> bool) -> bool {
        X509Certificate::from_der(&self.der).is_ok_and(|(_, parsed)| question(&parsed))
    }
}

/// Several certificates as one PEM text.
#[must_use]
pub fn bundle<'a>(certs: impl IntoIterator<Item = &'a Cert>) -> String {
    certs.into_iter().map(Cert::pem).collect()
}

/// What is before 1970 is as old as it gets.
fn at(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
