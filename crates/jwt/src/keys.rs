//! An issuer's keys (JWKS, RFC 7517): which of them a token may be signed with, and whether it is. Owns that a key
//! is used in the one way that its kind, its curve and what it says of itself allow - never as the token would like.

use std::fmt;

use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::algorithm::{Algorithm, curve};
use crate::fault::Fault;
use crate::token::Signed;

/// Keys of one issuer that are kept. Real ones have two or three.
const KEYS: usize = 64;

/// Why keys are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is no JSON of that shape.
    #[error("not a key set in JSON; it holds {{\"keys\": [...]}}")]
    Json,
    /// More keys than are taken.
    #[error("{found} keys are more than {KEYS}")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// None that a token could be checked with.
    #[error("no key in it can check a signature of RSA (2048 bits or more), ECDSA or Ed25519")]
    Useless,
}

/// Keys of one issuer.
pub struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    way: Way,
}

enum Way {
    /// RSA can be used in several ways, unless it says in which.
    Rsa(Vec<(Algorithm, ParsedPublicKey)>),
    Curve(Algorithm, ParsedPublicKey),
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Raw {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl KeySet {
    /// Reads keys. Those of kinds that are not known, or that are not for checking signatures, are left out.
    ///
    /// # Errors
    /// When it is no key set, or none of its keys is of any use.
    pub fn read(text: &[u8]) -> Result<Self, KeySetError> {
        let raw: RawSet = serde_json::from_slice(text).map_err(|_| KeySetError::Json)?;
        if raw.keys.len() > KEYS {
            return Err(KeySetError::TooMany { found: raw.keys.len() });
        }
        let each = raw.keys.into_iter().filter_map(|one| serde_json::from_value::<Raw>(one).ok());
        let keys: Vec<Key> = each.filter_map(Key::read).collect();
        if keys.is_empty() { Err(KeySetError::Useless) } else { Ok(Self(keys)) }
    }

    /// How many are of use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: such a set is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the keys signed a token.
    ///
    /// # Errors
    /// [`Fault::NoKey`] when none fits it, [`Fault::Signature`] when those that fit did not sign it.
    pub fn verify(&self, token: &Signed<'_>) -> Result<(), Fault> {
        let mut fault = Fault::NoKey;
        for key in &self.0 {
            // A key without a name may be meant by any, and a token without one may mean any.
            if let (Some(has), Some(wants)) = (&key.id, &token.key_id)
                && has != wants
            {
                continue;
            }
            let Some(checker) = key.way.fits(token.algorithm) else { continue };
            if checker.verify_sig(token.signed.as_bytes(), &token.signature).is_ok() {
                return Ok(());
            }
            fault = Fault::Signature;
        }
        Err(fault)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

impl Key {
    fn read(raw: Raw) -> Option<Self> {
        let Raw { kty, kid, alg, usage, key_ops, crv, n, e, x, y } = raw;
        let signs = usage.is_none_or(|it| it == "sig")
            && key_ops.is_none_or(|all| all.iter().any(|one| one == "verify"));
        if !signs {
            return None;
        }
        // A key for a way that is not known is not used in another.
        let only = match alg {
            None => None,
            Some(name) => Some(Algorithm::named(&name)?),
        };
        let way = match kty.as_str() {
            "RSA" => rsa(only, &n, &e)?,
            _ => on_curve(only, (&kty, &crv), (&x, &y))?,
        };
        Some(Self { id: kid.filter(|id| !id.is_empty()), way })
    }
}

impl Way {
    fn fits(&self, wanted: Algorithm) -> Option<&ParsedPublicKey> {
        match self {
            Self::Rsa(ways) => ways.iter().find(|(way, _)| *way == wanted).map(|(_, key)| key),
            Self::Curve(way, key) => (*way == wanted).then_some(key),
        }
    }
}

fn rsa(only: Option<Algorithm>, n: &str, e: &str) -> Option<Way> {
    let number = |text: &str| -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes.get(zeros..)?.to_vec())
    };
    let (n, e) = (number(n)?, number(e)?);
    // From 2048 to 8192 bits; a longer one would cost whoever checks with it too much.
    if !(256..=1024).contains(&n.len()) || e.is_empty() || e.len() > 8 {
        return None;
    }
    let parts = RsaPublicKeyComponents { n, e };
    let ways = Algorithm::ALL.into_iter().filter(|way| only.is_none_or(|only| only == *way));
    let parsed = ways.filter_map(|way| Some((way, parts.to_parsed_public_key(way.rsa()?).ok()?)));
    let ways: Vec<_> = parsed.collect();
    (!ways.is_empty()).then_some(Way::Rsa(ways))
}

fn on_curve(only: Option<Algorithm>, (kty, crv): (&str, &str), (x, y): (&str, &str)) -> Option<Way> {
    let (way, size, checker) = curve(kty, crv)?;
    if only.is_some_and(|only| only != way) {
        return None;
    }
    let coordinate = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == size);
    let mut point = Vec::with_capacity(2 * size + 1);
    if kty == "EC" {
        // SEC 1, 2.3.3: a point without compression.
        point.push(4);
        point.extend(coordinate(x)?);
        point.extend(coordinate(y)?);
    } else {
        point = coordinate(x)?;
    }
    Some(Way::Curve(way, ParsedPublicKey::new(checker, &point).ok()?))
}

#[cfg(test)]
mod tests;
