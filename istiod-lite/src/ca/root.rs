//! The self-signed root on disk: made once, kept, renewed with the same key when most of its life is over.
//! Owns the two files and their modes. What is signed with the key is `sign`'s.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ambit_model::name::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use x509_parser::pem::parse_x509_pem;

/// As upstream's: ten years.
const LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);

/// A root with less than a fifth of its life left is made anew.
const LEFT_AT_RENEWAL: u32 = 5;

/// Clocks of nodes may be behind.
const SKEW: Duration = Duration::from_secs(120);

const CERTIFICATE: &str = "root-cert.pem";
const KEY: &str = "ca-key.pem";

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The file system refused.
    #[error("cannot use {}; make the state folder writable for this program", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// One file of the two is missing.
    #[error("{} is there but {} is not; restore it, or remove the other to start a new mesh", there.display(), missing.display())]
    Half {
        /// The file that is there.
        there: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// Others may read the key.
    #[error("{} may be read by others (mode {mode:o}); run chmod 600 on it, or replace the key", path.display())]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file is not what it should be.
    #[error("{} cannot be used as {what}; restore it, or remove both files to start a new mesh", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// The key does not belong to the certificate.
    #[error("{} is not the key of the certificate beside it; restore the pair", path.display())]
    Mismatch {
        /// The key's file.
        path: PathBuf,
    },
    /// Making it failed.
    #[error("the root certificate could not be made")]
    Make(#[source] rcgen::Error),
}

/// The root: its certificate and its key.
pub struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    not_after: SystemTime,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Root").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Root {
    /// Opens the root in a folder, or makes one there.
    ///
    /// # Errors
    /// When the files cannot be read or written, are not a pair, or others may read the key.
    pub fn open(folder: &Path, domain: &TrustDomain, now: SystemTime) -> Result<Self, RootError> {
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        match (certificate.exists(), key.exists()) {
            (false, false) => {
                fs::create_dir_all(folder).map_err(|source| RootError::Io { path: folder.into(), source })?;
                let pair = KeyPair::generate().map_err(RootError::Make)?;
                write(&key, &pair.serialize_pem(), 0o600)?;
                make(pair, domain, now, &certificate)
            }
            (true, true) => load(&certificate, &key, domain, now),
            (true, false) => Err(RootError::Half { there: certificate, missing: key }),
            (false, true) => Err(RootError::Half { there: key, missing: certificate }),
        }
    }

    /// The certificate, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Until when it vouches.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

fn make(key: KeyPair, domain: &TrustDomain, now: SystemTime, path: &Path) -> Result<Root, RootError> {
    let not_after = now + LIFETIME;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, domain.as_str());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = (now - SKEW).into();
    params.not_after = not_after.into();
    let made = params.self_signed(&key).map_err(RootError::Make)?;
    let certificate = made.pem();
    write(path, &certificate, 0o644)?;
    Ok(Root { issuer: Issuer::new(params, key), certificate, not_after })
}

fn load(certificate: &Path, key: &Path, domain: &TrustDomain, now: SystemTime) -> Result<Root, RootError> {
    let mode = fs::metadata(key).map_err(refused(key))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(RootError::Exposed { path: key.into(), mode });
    }
    let unusable = |path: &Path, what| RootError::Unusable { path: path.into(), what };
    let text = fs::read_to_string(key).map_err(refused(key))?;
    let pair = KeyPair::from_pem(&text).map_err(|_| unusable(key, "a private key"))?;
    let pem = fs::read_to_string(certificate).map_err(refused(certificate))?;
    let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|_| unusable(certificate, "a certificate"))?;
    let parsed = block.parse_x509().map_err(|_| unusable(certificate, "a certificate"))?;
    if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
        return Err(RootError::Mismatch { path: key.into() });
    }
    let seconds =
        |time: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time).unwrap_or_default());
    let not_before = seconds(parsed.validity().not_before.timestamp());
    let not_after = seconds(parsed.validity().not_after.timestamp());
    let whole = not_after.duration_since(not_before).unwrap_or_default();
    if not_after.duration_since(now).unwrap_or_default() < whole / LEFT_AT_RENEWAL {
        // The same key: those who hold the former certificate still accept what is signed.
        return make(pair, domain, now, certificate);
    }
    let issuer = Issuer::from_ca_cert_der(&block.contents.as_slice().into(), pair);
    let issuer = issuer.map_err(|_| unusable(certificate, "a certificate authority"))?;
    Ok(Root { issuer, certificate: pem, not_after })
}

fn refused(path: &Path) -> impl FnOnce(io::Error) -> RootError {
    let path = path.to_owned();
    |source| RootError::Io { path, source }
}

/// Writes a file beside, with its mode from the first byte on, and moves it in place.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), RootError> {
    let beside = path.with_extension(format!("new.{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(mode).open(&beside).map_err(refused(path))?;
    file.write_all(text.as_bytes()).map_err(refused(path))?;
    file.sync_all().map_err(refused(path))?;
    fs::rename(&beside, path).map_err(refused(path))
}
