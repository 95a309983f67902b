//! Secrets with what a waypoint proves itself by outside of the mesh: a certificate, its key, and who vouches for servers,
//! under the names that Kubernetes gives them or those that Istio gave them. Nothing else of a secret is kept, and what is
//! wrong with one is said without a word of what is in it.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::Deserializer;

use crate::kinds::meta::Meta;
use crate::kinds::pem::Pem;

/// A secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    /// Metadata.
    pub metadata: Meta,
    /// Its texts, coded.
    data: Coded,
    /// The same, as people write them: they go before the others.
    string_data: Plain,
}

/// What is read of a secret's texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Coded(Parts);

/// The same of texts as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Plain(Parts);

/// The parts of a credential.
#[derive(Clone, Default, PartialEq, Eq)]
struct Parts(BTreeMap<Part, Pem>);

/// A part of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The certificate, with those between it and whoever vouches for it.
    Chain,
    /// Its key.
    Key,
    /// Who vouches for servers.
    Roots,
    /// Who does not any more.
    Revoked,
}

/// Parts by the names of a secret's texts: Kubernetes' before Istio's.
const NAMES: [(&str, Part); 8] = [
    ("tls.crt", Part::Chain),
    ("cert", Part::Chain),
    ("tls.key", Part::Key),
    ("key", Part::Key),
    ("ca.crt", Part::Roots),
    ("cacert", Part::Roots),
    ("ca.crl", Part::Revoked),
    ("crl", Part::Revoked),
];

impl Secret {
    /// A part, if it has one. What is no text is an empty one, which nobody takes for a part.
    #[must_use]
    pub fn part(&self, part: Part) -> Option<&Pem> {
        self.string_data.0.0.get(&part).or_else(|| self.data.0.0.get(&part))
    }
}

impl Parts {
    fn of(texts: &BTreeMap<String, String>, text: impl Fn(&str) -> Option<String>) -> Self {
        let mut parts = BTreeMap::new();
        for (name, part) in NAMES {
            if let Some(found) = texts.get(name) {
                let pem = || Pem::new(&text(found).unwrap_or_default());
                parts.entry(part).or_insert_with(pem);
            }
        }
        Self(parts)
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for Coded {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let plain = |coded: &str| String::from_utf8(STANDARD.decode(coded.trim()).ok()?).ok();
        BTreeMap::deserialize(input).map(|texts| Self(Parts::of(&texts, plain)))
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(input).map(|texts| Self(Parts::of(&texts, |text| Some(text.to_owned()))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::read;
    use crate::object::{Body, Kind};

    #[test]
    fn a_secret_has_its_parts_under_either_name_and_shows_none_of_them() {
        let coded = |text: &str| STANDARD.encode(text);
        let object = json!({
            "metadata": {"name": "c", "namespace": "shop"}, "type": "kubernetes.io/tls",
            "data": {"tls.crt": coded("the chain"), "cert": coded("not this"), "key": coded("the key"), "other": "!"},
            "stringData": {"cacert": "the roots"},
        });
        let Ok(Body::Secret(secret)) = read(Kind::Secret, &object) else { panic!("it does not read") };
        let text = |part| secret.part(part).and_then(Pem::text);
        assert_eq!(text(Part::Chain), Some("the chain"));
        assert_eq!(text(Part::Key), Some("the key"));
        assert_eq!((text(Part::Roots), text(Part::Revoked)), (Some("the roots"), None));
        let shown = format!("{secret:?}");
        assert!(shown.contains("Key") && !shown.contains("the "), "{shown}");
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_said_without_a_word_of_what_is_in_it() {
        let object =
            |data: serde_json::Value| json!({"metadata": {"name": "c", "namespace": "shop"}, "data": data});
        for data in [json!({"tls.key": 123_456_789}), json!({"tls.key": ["topsecret"]}), json!("topsecret")] {
            let wrong = read(Kind::Secret, &object(data)).unwrap_err();
            let shown = format!("{wrong:?}");
            assert!(!shown.contains("topsecret") && !shown.contains("123456789"), "{shown}");
        }
        let Ok(Body::Secret(secret)) = read(Kind::Secret, &object(json!({"tls.key": "!!"}))) else {
            panic!("it does not read")
        };
        assert_eq!(secret.part(Part::Key).and_then(Pem::text), Some(""));
    }
}
