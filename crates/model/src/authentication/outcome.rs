//! What goes on of a token that is believed: headers made of what it claims. Owns how a claim is written there.

use std::fmt;

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue};

use crate::request_policy::{Claim, Token};

/// Which claim, by the names on the way to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimPath(pub Vec<Box<str>>);

impl From<&str> for ClaimPath {
    /// Written with dots between names.
    fn from(text: &str) -> Self {
        Self(text.split('.').map(Into::into).collect())
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// A claim as a header's value: a text, a whole number, yes or no, or a list of those. None: it is not there, or
/// is something else, or no header could hold it.
#[must_use]
pub fn header_of(token: &Token, path: &ClaimPath) -> Option<HeaderValue> {
    // As it was sent, a name may have dots in it.
    let whole = [path.to_string().into_boxed_str()];
    let claim = token.claim(&path.0).or_else(|| token.claim(&whole))?;
    let text = match claim {
        Claim::List(list) => {
            let all: Option<Vec<String>> = list.iter().map(written).collect();
            all.filter(|all| !all.is_empty())?.join(",")
        }
        Claim::Text(_) | Claim::Whole(_) | Claim::Truth(_) | Claim::Object(_) | Claim::Other => {
            written(claim)?
        }
    };
    HeaderValue::try_from(text).ok()
}

fn written(claim: &Claim) -> Option<String> {
    match claim {
        Claim::Text(text) => Some(text.to_string()),
        Claim::Whole(number) => Some(number.to_string()),
        Claim::Truth(truth) => Some(truth.to_string()),
        Claim::List(_) | Claim::Object(_) | Claim::Other => None,
    }
}

/// Makes lists of claims that are words in a row.
pub fn spread(token: &mut Token, words: &[Box<str>]) {
    for name in words {
        if let Some(claim) = token.claims.get_mut(name)
            && let Claim::Text(text) = claim
        {
            let words = text.split(' ').filter(|word| !word.is_empty());
            *claim = Claim::List(words.map(|word| Claim::Text(word.into())).collect());
        }
    }
}

/// Whether a header is one that no claim may be put in: it would change what the request is.
#[must_use]
pub fn reserved(name: &HeaderName) -> bool {
    [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE, TE, COOKIE, AUTHORIZATION].contains(name)
}
