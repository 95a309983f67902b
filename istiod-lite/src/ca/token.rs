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
    /// The API server refuses it.
    #[error("{0}")]
    Denied(String),
    /// The API server could not be asked.
    #[error("the API server does not say whose token it is: {0}")]
    Unreviewed(#[source] ambit_cluster::api::ApiError),
    /// Too many callers are asked about.
    #[error("too many callers wait to be authenticated")]
    Busy,
}

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The proven identity.
    pub identity: Identity,
    /// Where the caller runs.
    pub bound: Bound,
}

/// What a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// A node.
    Node(String),
    /// A pod in the account's namespace; it is on the node that the cluster says.
    Pod {
        /// Its name.
        name: String,
        /// Its id.
        uid: String,
    },
    /// Nothing that says where.
    Nowhere,
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
    bound: Claimed,
}

#[derive(Deserialize)]
struct Claimed {
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
        self.verify(bearer_of(headers)?, now)
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
        let Claimed { namespace, serviceaccount: Named { name: account }, node } = claims.bound;
        let refuse = || TokenError::Subject(claims.sub.clone());
        if claims.sub != format!("system:serviceaccount:{namespace}:{account}") {
            return Err(refuse());
        }
        let identity = Identity {
            trust_domain: self.domain.clone(),
            namespace: namespace.parse().map_err(|_| refuse())?,
            service_account: account.parse().map_err(|_| refuse())?,
        };
        let node = node.map(|node| node.name).filter(|node| !node.is_empty());
        Ok(Bearer { identity, bound: node.map_or(Bound::Nowhere, Bound::Node) })
    }
}

/// The bearer token in a call's headers.
///
/// # Errors
/// When there is none, or none that is looked at.
pub(crate) fn bearer_of(headers: &MetadataMap) -> Result<&str, TokenError> {
    let text = headers.get("authorization").and_then(|it| it.to_str().ok()).ok_or(TokenError::Missing)?;
    let (scheme, token) = text.split_once(' ').ok_or(TokenError::Missing)?;
    let fits = scheme.eq_ignore_ascii_case("bearer") && token.len() <= LONGEST;
    fits.then(|| token.trim()).filter(|token| !token.is_empty()).ok_or(TokenError::Missing)
}
