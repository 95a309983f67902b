//! A signing request to a certificate (`control-plane.md` 6.1). Of the request only the key is used: names, usages
//! and lifetime are ours to say.

use std::time::{Duration, SystemTime};

use ambit_model::name::Identity;
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::signer::Signer;

/// The lifetime when none is asked for.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The longest lifetime that is given: 90 days.
const LONGEST_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// Clocks of nodes may be behind.
pub(super) const SKEW: Duration = Duration::from_secs(120);

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It is no signing request.
    #[error("the signing request cannot be read: {0}")]
    Request(&'static str),
    /// It is not signed by the key in it.
    #[error("the signing request is not signed by its own key")]
    Signature,
    /// The lifetime is negative or too long.
    #[error("a lifetime of {asked} s is asked for; at most {} s are given", LONGEST_LIFETIME.as_secs())]
    Lifetime {
        /// What was asked for.
        asked: i64,
    },
    /// The system gives no randomness.
    #[error("no randomness for a serial number")]
    Chance,
    /// Making the certificate failed.
    #[error("the certificate could not be made")]
    Sign(#[source] rcgen::Error),
}

impl Signer {
    /// Signs the key of a request for an identity, as PEM.
    ///
    /// # Errors
    /// When the request or the lifetime is not acceptable.
    pub fn sign(
        &self,
        csr: &str,
        who: &Identity,
        seconds: i64,
        now: SystemTime,
    ) -> Result<String, SignError> {
        let lifetime = lifetime(seconds)?;
        let key = key_of(csr)?;
        let uri = Ia5String::try_from(who.to_string()).map_err(SignError::Sign)?;
        self.issue(&key, vec![SanType::URI(uri)], lifetime, now)
    }

    /// A certificate for the control plane's own names, with its key, both as PEM.
    ///
    /// # Errors
    /// When a name is none, or making it fails.
    pub fn serving(
        &self,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(String, String), SignError> {
        let key = KeyPair::generate().map_err(SignError::Sign)?;
        let name = |name: &String| match name.parse() {
            Ok(ip) => Ok(SanType::IpAddress(ip)),
            Err(_) => Ia5String::try_from(name.as_str()).map(SanType::DnsName).map_err(SignError::Sign),
        };
        let names = names.iter().map(name).collect::<Result<_, _>>()?;
        let chain = self.issue(&key, names, lifetime, now)?;
        Ok((chain, key.serialize_pem()))
    }

    fn issue(
        &self,
        key: &impl PublicKeyData,
        names: Vec<SanType>,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<String, SignError> {
        let mut params = CertificateParams::default();
        // Without a subject the names are critical, as they must be: they are all there is.
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before = (now - SKEW).into();
        params.not_after = (now + lifetime).min(self.not_after()).into();
        Ok(params.signed_by(key, self.issuer()).map_err(SignError::Sign)?.pem())
    }
}

/// 128 bits of chance; positive, and not empty, as RFC 5280 4.1.2.2 asks.
fn serial() -> Result<SerialNumber, SignError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SignError::Chance)?;
    let [first, ..] = &mut bytes;
    *first = (*first & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// What a request for so many seconds is given; 0 asks for the default.
///
/// # Errors
/// When it is negative or too long.
pub fn lifetime(seconds: i64) -> Result<Duration, SignError> {
    let asked = u64::try_from(seconds).map_err(|_| SignError::Lifetime { asked: seconds })?;
    match Duration::from_secs(asked) {
        Duration::ZERO => Ok(DEFAULT_LIFETIME),
        long if long > LONGEST_LIFETIME => Err(SignError::Lifetime { asked: seconds }),
        good => Ok(good),
    }
}

/// The key of a request, once the request is proven to be signed by it.
fn key_of(csr: &str) -> Result<SubjectPublicKeyInfo, SignError> {
    let (_, block) = parse_x509_pem(csr.as_bytes()).map_err(|_| SignError::Request("it is not PEM"))?;
    if !block.label.ends_with("CERTIFICATE REQUEST") {
        return Err(SignError::Request("it is PEM of something else"));
    }
    let (rest, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|_| SignError::Request("it is not PKCS#10"))?;
    if !rest.is_empty() {
        return Err(SignError::Request("something follows it"));
    }
    request.verify_signature().map_err(|_| SignError::Signature)?;
    SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| SignError::Request("its key is of a kind that is not accepted"))
}
