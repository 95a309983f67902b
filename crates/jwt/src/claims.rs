//! JSON to claims. Owns that a name said twice is refused (RFC 7519, 4): two readers of such a token could disagree.
//! Depth is bounded by the reader of JSON, size by that of tokens.

use std::collections::BTreeMap;
use std::fmt;

use ambit_model::request_policy::Claim;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Claims by name.
pub(crate) struct Claims(pub(crate) BTreeMap<Box<str>, Claim>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Claims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Claims, A::Error> {
                read(members).map(Claims)
            }
        }
        input.deserialize_map(Members)
    }
}

fn read<'de, A: MapAccess<'de>>(mut members: A) -> Result<BTreeMap<Box<str>, Claim>, A::Error> {
    let mut read = BTreeMap::new();
    while let Some((name, One(claim))) = members.next_entry::<Box<str>, One>()? {
        if read.insert(name, claim).is_some() {
            return Err(A::Error::custom("a name is said twice"));
        }
    }
    Ok(read)
}

/// Any claim.
struct One(Claim);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Any).map(One)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Claim;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a claim")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Claim, E> {
        Ok(Claim::Truth(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Claim, E> {
        Ok(Claim::Whole(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Claim, E> {
        Ok(i64::try_from(number).map_or(Claim::Other, Claim::Whole))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Claim, E> {
        Ok(Claim::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Claim, E> {
        Ok(Claim::Text(text.into()))
    }

    fn visit_unit<E>(self) -> Result<Claim, E> {
        Ok(Claim::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Claim, A::Error> {
        let mut list = Vec::new();
        while let Some(One(claim)) = items.next_element()? {
            list.push(claim);
        }
        Ok(Claim::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Claim, A::Error> {
        read(members).map(Claim::Object)
    }
}
