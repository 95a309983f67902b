//! Service account tokens of a local mesh: a key that never leaves its run directory, and the tokens it signs.
//! Plays the part of the API server's token issuer; istiod-lite is given the public half.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

/// How long a token is good; it is renewed at half of that.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(3600);
const ISSUER: &str = "ambit-local";
const AUDIENCE: &str = "istio-ca";

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) node: String,
}

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot make a signing key")]
    Key(#[source] rcgen::Error),
    #[error("cannot sign a token")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// The signing key.
pub(crate) struct Issuer {
    key: EncodingKey,
}

impl Issuer {
    /// Makes a new key; keeps it in `dir`, for its owner only, and its public half beside it.
    pub(crate) fn make(dir: &Path) -> Result<Self, TokenError> {
        let key = rcgen::KeyPair::generate().map_err(TokenError::Key)?;
        write_private(&dir.join("token-key.pem"), key.serialize_pem().as_bytes())?;
        let path = public_key(dir);
        fs::write(&path, key.public_key_pem()).map_err(|source| TokenError::Write { path, source })?;
        Ok(Self { key: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes())? })
    }

    /// Signs a token for `subject`, good from `now` (seconds since 1970) for [`TOKEN_LIFE`].
    pub(crate) fn sign(&self, subject: &Subject, now: u64) -> Result<String, TokenError> {
        let Subject { namespace, service_account, pod, uid, node } = subject;
        let claims = json!({
            "iss": ISSUER,
            "aud": [AUDIENCE],
            "sub": format!("system:serviceaccount:{namespace}:{service_account}"),
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_LIFE.as_secs(),
            "kubernetes.io": {
                "namespace": namespace,
                "node": { "name": node },
                "pod": { "name": pod, "uid": uid },
                "serviceaccount": { "name": service_account },
            },
        });
        Ok(encode(&Header::new(Algorithm::ES256), &claims, &self.key)?)
    }
}

/// Where the public half is, for istiod-lite's `--token-key`.
pub(crate) fn public_key(dir: &Path) -> PathBuf {
    dir.join("token-key.pub.pem")
}

/// Replaces a file that only its owner may read; a reader sees the old text or the new, never half of one.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), TokenError> {
    let failed = |source| TokenError::Write { path: path.to_owned(), source };
    let next = path.with_extension("next");
    let mut file: File =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&next).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&next, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn a_token_verifies_against_the_public_half_and_names_pod_and_node() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = Issuer::make(dir.path()).unwrap();
        let subject = Subject {
            namespace: "istio-system".into(),
            service_account: "ztunnel".into(),
            pod: "ztunnel-1".into(),
            uid: "u".into(),
            node: "node-1".into(),
        };
        let token = issuer.sign(&subject, jsonwebtoken::get_current_timestamp()).unwrap();
        let public = fs::read(public_key(dir.path())).unwrap();
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[ISSUER]);
        let claims = decode::<serde_json::Value>(&token, &DecodingKey::from_ec_pem(&public).unwrap(), &rules)
            .unwrap()
            .claims;
        assert_eq!(claims["sub"], "system:serviceaccount:istio-system:ztunnel");
        assert_eq!(claims["kubernetes.io"]["node"]["name"], "node-1");
    }

    #[test]
    fn the_signing_key_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        Issuer::make(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join("token-key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
