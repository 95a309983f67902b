//! The peer's identity, from the certificate it proved to hold.
//! Owns what counts as an identity in a certificate. Chains are checked elsewhere (`configs`).

use std::time::Duration;

use ambit_model::name::Identity;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a certificate names nobody. Such a certificate never matches anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The peer presented no certificate.
    #[error("the peer presented no certificate")]
    Absent,
    /// The certificate, or its alternative names, cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// No alternative name is a workload's identity.
    #[error("the certificate holds no SPIFFE identity")]
    Nobody,
    /// Two different identities in one certificate (the SPIFFE X.509 profile, 2, allows one).
    #[error("the certificate holds two different SPIFFE names, {first:?} and {second:?}")]
    Ambiguous {
        /// The name found first.
        first: String,
        /// A later one that differs.
        second: String,
    },
    /// A URI with bytes that others could read differently than we do.
    #[error("the certificate holds a URI with a byte that no SPIFFE name has")]
    Odd,
}

/// The identity in the first certificate of `chain`, the leaf.
///
/// # Errors
/// [`PeerError`] when the leaf names nobody, or more than one.
pub fn of_chain(chain: Option<&[CertificateDer<'_>]>) -> Result<Identity, PeerError> {
    let leaf = chain.and_then(<[_]>::first).ok_or(PeerError::Absent)?;
    of_leaf(leaf)
}

/// For how long from `now` a chain that holds will hold: until the first of its certificates ends.
pub(crate) fn lasts(chain: Option<&[CertificateDer<'_>]>, now: UnixTime) -> Duration {
    let ends = |der: &CertificateDer<'_>| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        u64::try_from(certificate.validity().not_after.timestamp()).ok()
    };
    // What does not read, or ended before 1970, holds no longer.
    let first = chain.unwrap_or_default().iter().map(|der| ends(der).unwrap_or(0)).min().unwrap_or(0);
    Duration::from_secs(first.saturating_sub(now.as_secs()))
}

/// The identity a leaf certificate holds: its one SPIFFE URI. Other URIs and names say nothing.
///
/// # Errors
/// [`PeerError`] when it names nobody, or more than one.
pub fn of_leaf(leaf: &CertificateDer<'_>) -> Result<Identity, PeerError> {
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| PeerError::Unreadable)?;
    if !rest.is_empty() {
        return Err(PeerError::Unreadable);
    }
    of_certificate(&certificate)
}

pub(crate) fn of_certificate(certificate: &X509Certificate<'_>) -> Result<Identity, PeerError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| PeerError::Unreadable)?
        .ok_or(PeerError::Nobody)?;
    of_names(&names.value.general_names)
}

fn of_names(names: &[GeneralName<'_>]) -> Result<Identity, PeerError> {
    let mut found: Option<&str> = None;
    for name in names {
        let GeneralName::URI(uri) = name else {
            refuse_undecodable(name)?;
            continue;
        };
        if !uri.bytes().all(plain) {
            return Err(PeerError::Odd);
        }
        if !is_spiffe(uri) {
            continue;
        }
        match found {
            Some(first) if first != *uri => {
                return Err(PeerError::Ambiguous { first: first.into(), second: (*uri).into() });
            }
            _ => found = Some(uri),
        }
    }
    // A SPIFFE name of another shape than ours (no workload's) is nobody, not a fault.
    found.and_then(|uri| uri.parse().ok()).ok_or(PeerError::Nobody)
}

/// Only visible ASCII, and no percent escapes: these are where two readers could disagree.
fn plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'%'
}

/// RFC 3986, 3.1: the scheme is compared without regard to case, so `SPIFFE://` counts as a second name.
fn is_spiffe(uri: &str) -> bool {
    uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

fn refuse_undecodable(name: &GeneralName<'_>) -> Result<(), PeerError> {
    match name {
        GeneralName::Invalid(..) => Err(PeerError::Odd),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uris(texts: &[&'static str]) -> Result<String, PeerError> {
        let names: Vec<_> = texts.iter().map(|t| GeneralName::URI(t)).collect();
        of_names(&names).map(|identity| identity.to_string())
    }

    #[test]
    fn a_chain_lasts_until_the_first_of_its_certificates_ends() {
        use rustls::pki_types::pem::PemObject;
        let authority = crate::testing::Authority::new();
        let leaf = |days: u64| {
            let life = Duration::from_secs(days * 86_400);
            let names = vec![crate::testing::uri("spiffe://td/ns/shop/sa/web")];
            CertificateDer::from_pem_slice(authority.leaf(names, life).chain.as_bytes()).unwrap()
        };
        let after = |days: u64| {
            let wall = crate::testing::wall().duration_since(std::time::UNIX_EPOCH).unwrap();
            UnixTime::since_unix_epoch(wall + Duration::from_secs(days * 86_400))
        };
        let chain = [leaf(5), leaf(3)];
        for (now, days) in [(0, 3), (2, 1), (3, 0), (9, 0)] {
            let lasts = lasts(Some(&chain), after(now));
            assert_eq!(lasts, Duration::from_secs(days * 86_400), "after {now} days");
        }
        assert_eq!(lasts(None, after(0)), Duration::ZERO);
    }

    #[test]
    fn the_one_spiffe_name_is_the_identity_and_other_names_say_nothing() {
        let web = "spiffe://td/ns/shop/sa/web";
        for texts in [&[web][..], &["https://example.com/x", web], &[web, web]] {
            assert_eq!(uris(texts), Ok(web.into()), "{texts:?}");
        }
    }

    #[test]
    fn a_certificate_with_two_different_spiffe_names_is_nobody() {
        let (a, b) = ("spiffe://td/ns/shop/sa/a", "spiffe://td/ns/shop/sa/b");
        let cases = [[a, b], [b, a], [a, "spiffe://td/other/shape"], [a, "SPIFFE://td/ns/shop/sa/a"]];
        for [first, second] in cases {
            let expected = PeerError::Ambiguous { first: first.into(), second: second.into() };
            assert_eq!(uris(&[first, second]), Err(expected));
        }
    }

    #[test]
    fn odd_bytes_make_a_certificate_nobodys() {
        for text in [
            "spiffe://td/ns/shop/sa/web\0",
            "spiffe://td/ns/shop/sa/w\u{e9}b",
            "spiffe://td/ns/shop/sa/w%65b",
            "spiffe://td/ns/shop/sa/web ",
        ] {
            assert_eq!(uris(&["spiffe://td/ns/shop/sa/web", text]), Err(PeerError::Odd), "{text:?}");
        }
        let invalid = GeneralName::Invalid(x509_parser::asn1_rs::Tag(6), &[0xff]);
        assert_eq!(of_names(&[invalid]), Err(PeerError::Odd));
    }

    #[test]
    fn names_that_are_no_workload_are_nobody() {
        for text in ["spiffe://td", "spiffe://td/ns/a/sa/b/", "https://td/ns/a/sa/b", "spiffe:///ns/a/sa/b"] {
            assert_eq!(uris(&[text]), Err(PeerError::Nobody), "{text}");
        }
        assert_eq!(of_chain(None), Err(PeerError::Absent));
        assert_eq!(of_leaf(&CertificateDer::from(vec![1, 2, 3])), Err(PeerError::Unreadable));
    }
}
