//! A key that signs, its certificate, and what proves it: intermediates and roots.
//! Owns checking that these belong together. What is signed is `sign`'s, when another takes over is `rotation`'s.

use std::time::SystemTime;

use rcgen::{Issuer, KeyPair};
use serde::{Deserialize, Serialize};

use super::bridge;
use super::cert::Cert;

/// Certificates between a leaf and its root, the signing one included.
const DEEPEST: usize = 8;

/// What is wrong with signing material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// A text that should hold certificates does not.
    #[error("{0} holds no readable certificates; give PEM blocks of certificates and nothing else")]
    Certificates(&'static str),
    /// The key does not read.
    #[error("{0} holds no usable private key; give one PEM block with a PKCS#8, PKCS#1 or SEC1 key")]
    Key(&'static str),
    /// The key does not belong to the certificate.
    #[error("{key} is not the key of the first certificate in {certificate}; give the pair")]
    Mismatch {
        /// The key's file.
        key: &'static str,
        /// The certificate's file.
        certificate: &'static str,
    },
    /// The certificate may not sign.
    #[error("{0} is not a certificate authority's; give one with CA:TRUE and the usage keyCertSign")]
    NoAuthority(&'static str),
    /// It is not valid at this time.
    #[error("{0} is not valid at this time; renew it, or correct the clock")]
    Time(&'static str),
    /// No root proves it.
    #[error("{0} is proved by no root given; add the intermediates between them, or the right root")]
    Unproved(&'static str),
}

/// Whose material it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// A root of our own.
    Own,
    /// Somebody else, who keeps it in a folder.
    Given,
}

/// The names of the files that material comes from, to say what is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// The signing certificate.
    pub certificate: &'static str,
    /// Its key.
    pub key: &'static str,
    /// The roots.
    pub roots: &'static str,
    /// The intermediates.
    pub chain: &'static str,
    /// Who made them.
    pub maker: Maker,
}

/// Signing material as PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pems {
    /// The signing certificate; what follows it are intermediates.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The roots.
    pub roots: String,
    /// Intermediates; may be empty, may hold the signing certificate as well.
    pub chain: String,
}

/// No key in a log.
impl std::fmt::Debug for Pems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pems").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A key that signs.
pub struct Signer {
    maker: Maker,
    pems: Pems,
    issuer: Issuer<'static, KeyPair>,
    certificate: Cert,
    /// What a leaf is sent with: the signing certificate and those above it, without the root.
    above: Vec<Cert>,
    /// The root that proves it.
    anchor: Cert,
    roots: Vec<Cert>,
    not_after: SystemTime,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Signer {
    /// Checks material.
    ///
    /// # Errors
    /// When its parts do not read, do not belong together, or are not valid now.
    pub fn new(pems: &Pems, names: Names, now: SystemTime) -> Result<Self, MaterialError> {
        let read = |pem: &str, name| Cert::all(pem).ok_or(MaterialError::Certificates(name));
        let mut given = read(&pems.certificate, names.certificate)?;
        let roots = read(&pems.roots, names.roots)?;
        let missing = |name| MaterialError::Certificates(name);
        let certificate = given.first().cloned().ok_or_else(|| missing(names.certificate))?;
        if roots.is_empty() {
            return Err(missing(names.roots));
        }
        given.extend(read(&pems.chain, names.chain)?);
        let key = KeyPair::from_pem(&pems.key).map_err(|_| MaterialError::Key(names.key))?;
        if !certificate.is_of(&key) {
            return Err(MaterialError::Mismatch { key: names.key, certificate: names.certificate });
        }
        if !certificate.is_authority() {
            return Err(MaterialError::NoAuthority(names.certificate));
        }
        let (above, anchor) =
            proof(&certificate, &given, &roots).ok_or(MaterialError::Unproved(names.certificate))?;
        let mut not_after = anchor.validity().1;
        for each in above.iter().chain([&anchor]) {
            let (from, until) = each.validity();
            if now < from || now >= until {
                return Err(MaterialError::Time(names.certificate));
            }
            not_after = not_after.min(until);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate.der().into(), key)
            .map_err(|_| MaterialError::NoAuthority(names.certificate))?;
        let (maker, pems) = (names.maker, pems.clone());
        Ok(Self { maker, pems, issuer, certificate, above, anchor, roots, not_after })
    }

    /// The signing certificate.
    #[must_use]
    pub fn certificate(&self) -> &Cert {
        &self.certificate
    }

    /// What a leaf is sent with.
    #[must_use]
    pub fn above(&self) -> &[Cert] {
        &self.above
    }

    /// The root that proves it.
    #[must_use]
    pub fn anchor(&self) -> &Cert {
        &self.anchor
    }

    /// All roots it was given with.
    #[must_use]
    pub fn roots(&self) -> &[Cert] {
        &self.roots
    }

    /// The end of the first of its certificates to end; nothing that is signed outlives it.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whose material it is.
    #[must_use]
    pub fn maker(&self) -> Maker {
        self.maker
    }

    /// The material as it was given.
    #[must_use]
    pub fn pems(&self) -> &Pems {
        &self.pems
    }

    /// Another's key and name, signed by this key, with what proves this one: who believes only in the root of this
    /// one believes in the other by them. Empty where that cannot be said in a certificate: then the other has to be
    /// announced for the whole time.
    #[must_use]
    pub fn vouch(&self, other: &Self, now: SystemTime) -> Vec<Cert> {
        let until = self.not_after.min(other.not_after);
        let Some(bridge) = bridge::signed(&other.certificate, &self.issuer, (now, until)) else {
            return Vec::new();
        };
        let mut bridges = vec![bridge];
        bridges.extend(self.above.iter().cloned());
        bridges
    }

    /// Who signs, for rcgen.
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Whether the other is the same material.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.above == other.above && self.roots == other.roots
    }
}

/// The certificates from the signing one up to just below a root, and that root.
fn proof(signing: &Cert, given: &[Cert], roots: &[Cert]) -> Option<(Vec<Cert>, Cert)> {
    let mut above = Vec::new();
    let mut last = signing;
    while above.len() < DEEPEST {
        if let Some(root) = roots.iter().find(|root| *root == last) {
            return Some((above, root.clone()));
        }
        above.push(last.clone());
        if let Some(root) = roots.iter().find(|root| last.is_signed_by(root)) {
            return Some((above, root.clone()));
        }
        last = given.iter().find(|it| !above.contains(it) && last.is_signed_by(it))?;
    }
    None
}
