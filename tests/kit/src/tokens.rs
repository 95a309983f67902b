//! Service account tokens for one test, signed by a key of its own.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// A token issuer as a local mesh has one.
pub struct Tokens {
    key: EncodingKey,
    public_pem: String,
}

impl Tokens {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let encoding = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a signing key");
        Self { key: encoding, public_pem: key.public_key_pem() }
    }

    /// What verifies its tokens.
    #[must_use]
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// A token for `<namespace>/<account>` of a pod on a node, good for an hour.
    #[must_use]
    pub fn sign(&self, account: &str, node: &str) -> String {
        let (namespace, account) = account.split_once('/').expect("<namespace>/<account>");
        self.sign_claims(&json!({
            "iss": "ambit-local",
            "aud": ["istio-ca"],
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "iat": get_current_timestamp(),
            "exp": get_current_timestamp() + 3600,
            "kubernetes.io": {
                "namespace": namespace,
                "node": { "name": node },
                "pod": { "name": format!("{account}-1"), "uid": format!("{account}-1") },
                "serviceaccount": { "name": account },
            },
        }))
    }

    /// The public key as issuers publish it, under this name.
    ///
    /// # Panics
    /// Never: the key is one that can be published.
    #[must_use]
    pub fn jwk(&self, id: &str) -> Value {
        let key = Jwk::from_encoding_key(&self.key, Algorithm::ES256).expect("a public key");
        let mut key = serde_json::to_value(key).expect("a key");
        key["kid"] = id.into();
        key
    }

    /// A token with just these claims, signed with the key of this name.
    ///
    /// # Panics
    /// Never: the key can sign.
    #[must_use]
    pub fn sign_named(&self, id: &str, claims: &Value) -> String {
        let header = Header { kid: Some(id.into()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &self.key).expect("a token")
    }

    /// A token with just these claims.
    #[must_use]
    pub fn sign_claims(&self, claims: &Value) -> String {
        encode(&Header::new(Algorithm::ES256), claims, &self.key).expect("a token")
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self::new()
    }
}
