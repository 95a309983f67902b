//! A token as it was sent (RFC 7515, 7519): three parts, read and not yet believed. Owns how it is written, and its
//! times. Who may have signed it is `keys`.

use std::time::{Duration, SystemTime};

use ambit_model::request_policy::{Claim, Token};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::algorithm::Algorithm;
use crate::claims::Claims;
use crate::fault::{Fault, Part};

/// Longer tokens are not looked at. Real ones have one or two kilobytes, and servers take headers of 8.
pub const LONGEST: usize = 16 << 10;

/// How far apart clocks may be, in seconds.
pub const SKEW_S: u64 = 60;

/// A token that was read; that somebody signed it is still to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<'a> {
    /// How it says that it is signed.
    pub algorithm: Algorithm,
    /// With which of its issuer's keys, if it says so.
    pub key_id: Option<String>,
    /// What it claims.
    pub token: Token,
    /// The claims as they were sent.
    pub payload: &'a str,
    expires_s: Option<u64>,
    begins_s: Option<u64>,
    /// What the signature is over.
    pub(crate) signed: &'a str,
    pub(crate) signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
    /// Whether the payload is encoded; only `crit` could make it otherwise.
    #[serde(default)]
    b64: Option<IgnoredAny>,
}

impl<'a> Signed<'a> {
    /// Reads a token.
    ///
    /// # Errors
    /// When it is none, or of a kind that is never believed.
    pub fn read(text: &'a str) -> Result<Self, Fault> {
        if text.len() > LONGEST {
            return Err(Fault::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Fault::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(Fault::Form)?;
        if payload.contains('.') || header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(Fault::Form);
        }
        let head: Head = json(Part::Header, header)?;
        if head.crit.is_some() || head.b64.is_some() {
            return Err(Fault::Critical);
        }
        let algorithm = Algorithm::named(&head.alg).ok_or(Fault::Algorithm)?;
        let Claims(claims) = json(Part::Payload, payload)?;
        let text_of = |name: &str| match claims.get(name) {
            Some(Claim::Text(text)) => text.clone(),
            _ => Box::default(),
        };
        let (issuer, subject) = (text_of("iss"), text_of("sub"));
        let (expires_s, begins_s) = (time(claims.get("exp"))?, time(claims.get("nbf"))?);
        let token = Token { issuer, subject, claims };
        let key_id = head.kid;
        let signature = decode(Part::Signature, signature)?;
        Ok(Self { algorithm, key_id, token, payload, expires_s, begins_s, signed, signature })
    }

    /// Whether it is of this time.
    ///
    /// # Errors
    /// When it is over, or not yet begun.
    pub fn timely(&self, now: SystemTime) -> Result<(), Fault> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.begins_s.is_some_and(|begins| now.saturating_add(SKEW_S) < begins) {
            return Err(Fault::Early);
        }
        if self.expires_s.is_some_and(|expires| expires.saturating_add(SKEW_S) < now) {
            return Err(Fault::Expired);
        }
        Ok(())
    }

    /// Until when it is of its time; none: for ever.
    #[must_use]
    pub fn ends(&self) -> Option<SystemTime> {
        let end = Duration::from_secs(self.expires_s?.saturating_add(SKEW_S).saturating_add(1));
        SystemTime::UNIX_EPOCH.checked_add(end)
    }

    /// Whether it is for one of these; for none in particular, it may be for anybody.
    ///
    /// # Errors
    /// When it is for others.
    pub fn meant_for(&self, audiences: &[Box<str>]) -> Result<(), Fault> {
        let told = self.token.texts(&["aud".into()]);
        let fits = audiences.is_empty() || told.iter().any(|it| audiences.iter().any(|one| **one == **it));
        if fits { Ok(()) } else { Err(Fault::Audience) }
    }
}

fn decode(part: Part, text: &str) -> Result<Vec<u8>, Fault> {
    // Without padding, and no bits left over: one token is written in one way.
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Fault::Encoding(part))
}

fn json<T: for<'de> Deserialize<'de>>(part: Part, text: &str) -> Result<T, Fault> {
    serde_json::from_slice(&decode(part, text)?).map_err(|_| Fault::Json(part))
}

/// Whole seconds since 1970.
fn time(claim: Option<&Claim>) -> Result<Option<u64>, Fault> {
    match claim {
        None => Ok(None),
        Some(Claim::Whole(seconds)) => u64::try_from(*seconds).map(Some).map_err(|_| Fault::Time),
        Some(_) => Err(Fault::Time),
    }
}

#[cfg(test)]
mod tests;
