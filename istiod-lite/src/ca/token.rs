//! Service account tokens: who calls, and on which node the caller runs.
//! In directory mode tokens are signed by a local key; its public half is all that is needed here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ambit_model::name::{Identity, TrustDomain};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use tonic::metadata::MetadataMap;

/// Who signs tokens in directory mode.
const ISSUER: &str = "ambit-local";

/// What tokens are for.
const AUDIENCE: &str = "istio-ca";

/// Longest token that is looked at; real ones are one to two kilobytes.
const LONGEST: usize = 16 << 10;

/// Why the key for tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file does not read.
    #[error("cannot read the token key {}; give the public key of whoever signs tokens (--token-key)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// It is no such key.
    #[error("{} is no P-256 public key in PEM; give the public key of whoever signs tokens (--token-key)", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

/// Why a caller is not believed. Said in the log only.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("no bearer token")]
    Missing,
    /// It is not valid.
    #[error("the token is not valid: {0}")]
    Invalid(#[source] jsonwebtoken::errors::Error),
    /// It is not valid at this time.
    #[error("the token has expired, or is not valid yet")]
    Time,
    /// It is not about a service account.
    #[error("the token's subject {0:?} is no service account, or not the one it is bound to")]
    Subject(String),
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The proven identity.
    pub identity: Identity,
    /// The node that the token is bound to.
    pub node: Option<String>,
}

/// Verifies tokens.
pub struct Tokens {
    key: DecodingKey,
    domain: TrustDomain,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
}

#[derive(Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Named,
    node: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Tokens {
    /// Reads the public key.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn open(path: &Path, domain: TrustDomain) -> Result<Self, KeyError> {
        let pem = fs::read(path).map_err(|source| KeyError::Read { path: path.into(), source })?;
        let key = DecodingKey::from_ec_pem(&pem).map_err(|_| KeyError::Unusable { path: path.into() })?;
        Ok(Self { key, domain })
    }

    /// Who a call's headers prove to be the caller.
    ///
    /// # Errors
    /// When they prove nobody.
    pub fn bearer(&self, headers: &MetadataMap, now: SystemTime) -> Result<Bearer, TokenError> {
        let text = headers.get("authorization").and_then(|it| it.to_str().ok()).ok_or(TokenError::Missing)?;
        let (scheme, token) = text.split_once(' ').ok_or(TokenError::Missing)?;
        let fits = scheme.eq_ignore_ascii_case("bearer") && token.len() <= LONGEST;
        let token = fits.then(|| token.trim());
        self.verify(token.ok_or(TokenError::Missing)?, now)
    }

    /// Who a token proves to be.
    ///
    /// # Errors
    /// When it proves nobody.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Bearer, TokenError> {
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Time is compared below, with the time that is given.
        rules.validate_exp = false;
        let claims =
            jsonwebtoken::decode::<Claims>(token, &self.key, &rules).map_err(TokenError::Invalid)?.claims;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if now >= claims.exp || now < claims.nbf {
            return Err(TokenError::Time);
        }
        let Bound { namespace, serviceaccount: Named { name: account }, node } = claims.bound;
        let refuse = || TokenError::Subject(claims.sub.clone());
        if claims.sub != format!("system:serviceaccount:{namespace}:{account}") {
            return Err(refuse());
        }
        let identity = Identity {
            trust_domain: self.domain.clone(),
            namespace: namespace.parse().map_err(|_| refuse())?,
            service_account: account.parse().map_err(|_| refuse())?,
        };
        Ok(Bearer { identity, node: node.map(|node| node.name) })
    }
}
