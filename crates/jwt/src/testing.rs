//! For tests: an issuer that signs.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::algorithm::Algorithm;

/// A key pair of any kind.
pub(crate) enum Pair {
    Curve(Algorithm, EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Pair {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let curve =
            |of: &'static EcdsaSigningAlgorithm| Self::Curve(algorithm, EcdsaKeyPair::generate(of).unwrap());
        match algorithm {
            Algorithm::Es256 => curve(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => curve(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => curve(&ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDsa => Self::Edwards(Ed25519KeyPair::generate().unwrap()),
            _ => Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        }
    }

    /// The public half.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Curve(algorithm, pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match algorithm {
                    Algorithm::Es256 => "P-256",
                    Algorithm::Es384 => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "kid": id, "crv": curve, "x": b64(x), "y": b64(y)})
            }
            Self::Edwards(pair) => {
                json!({"kty": "OKP", "kid": id, "crv": "Ed25519", "x": b64(pair.public_key().as_ref())})
            }
            Self::Rsa(pair) => {
                // DER of a key of 2048 bits: a head of 9 bytes, the modulus, and 65537.
                let der = pair.public_key().as_ref();
                json!({"kty": "RSA", "kid": id, "n": b64(&der[9..265]), "e": "AQAB"})
            }
        }
    }

    /// A token under this very header.
    pub(crate) fn sign_as(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let chance = SystemRandom::new();
        let signature = match self {
            Self::Curve(_, pair) => pair.sign(&chance, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Edwards(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let way: &dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
                    Algorithm::Rs256 => &RSA_PKCS1_SHA256,
                    Algorithm::Rs384 => &RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &RSA_PSS_SHA256,
                    Algorithm::Ps384 => &RSA_PSS_SHA384,
                    _ => &RSA_PSS_SHA512,
                };
                pair.sign(way, &chance, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{signed}.{}", b64(signature))
    }

    /// A token.
    pub(crate) fn sign(&self, algorithm: Algorithm, id: &str, claims: &Value) -> String {
        self.sign_as(algorithm, &json!({"alg": algorithm.name(), "kid": id}), claims)
    }
}
