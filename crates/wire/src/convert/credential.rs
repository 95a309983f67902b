//! What waypoints prove themselves by outside of the mesh. Owns that message. What is wrong with one is said without a
//! word of what is in it.

use ambit_model::credential::{Credential, Secret, Shown};
use ambit_model::name::Identity;

use super::{ConvertError, check_count};
use crate::limits;
use crate::pb::waypoint as pb;

/// A credential, from its message.
pub fn credential_from_pb(raw: pb::Credential) -> Result<Credential, ConvertError> {
    let pb::Credential { name, owners, chain, key, roots } = raw;
    check_count("owners", limits::CREDENTIAL_OWNERS, owners.len())?;
    for (field, text) in [("chain", &chain), ("key", &key), ("roots", &roots)] {
        check_count(field, limits::TRAFFIC_ROOTS, text.len())?;
    }
    let is_name = name.split_once('/').is_some_and(|(space, name)| !space.is_empty() && !name.is_empty());
    if !is_name || name.len() > limits::ROUTE_TEXT {
        return Err(ConvertError::Value { field: "name", value: name, wanted: "a namespace and a name" });
    }
    if chain.is_empty() != key.is_empty() {
        return Err(ConvertError::NoAlternative { field: "chain and key" });
    }
    let owner = |text: String| {
        text.parse::<Identity>().map_err(|_| ConvertError::Value {
            field: "owners",
            value: text,
            wanted: "an identity",
        })
    };
    Ok(Credential {
        name: name.into(),
        owners: owners.into_iter().map(owner).collect::<Result<_, _>>()?,
        shown: (!key.is_empty()).then(|| Shown { chain: chain.into(), key: Secret::new(&key) }),
        roots: (!roots.is_empty()).then(|| roots.into()),
    })
}

/// Its message.
#[must_use]
pub fn credential_to_pb(credential: &Credential) -> pb::Credential {
    let Credential { name, owners, shown, roots } = credential;
    let (chain, key) = shown.as_ref().map_or(("", ""), |it| (&*it.chain, it.key.exposed()));
    pb::Credential {
        name: name.to_string(),
        owners: owners.iter().map(ToString::to_string).collect(),
        chain: chain.into(),
        key: key.into(),
        roots: roots.as_deref().unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> Credential {
        Credential {
            name: "shop/c".into(),
            owners: vec!["spiffe://cluster.local/ns/shop/sa/way".parse().unwrap()],
            shown: Some(Shown { chain: "the chain".into(), key: Secret::new("the key") }),
            roots: Some("the roots".into()),
        }
    }

    #[test]
    fn a_credential_is_read_as_it_was_written_and_what_is_wrong_with_one_is_said_without_its_key() {
        for whole in [
            credential(),
            Credential { shown: None, ..credential() },
            Credential { roots: None, owners: Vec::new(), ..credential() },
        ] {
            assert_eq!(credential_from_pb(credential_to_pb(&whole)), Ok(whole));
        }
        let raw = || credential_to_pb(&credential());
        for wrong in [
            pb::Credential { name: "c".into(), ..raw() },
            pb::Credential { name: "/c".into(), ..raw() },
            pb::Credential { chain: String::new(), ..raw() },
            pb::Credential { key: String::new(), ..raw() },
            pb::Credential { owners: vec!["way".into()], ..raw() },
            pb::Credential { owners: vec!["way".into(); 257], ..raw() },
            pb::Credential { key: "the key".repeat(10_000), ..raw() },
        ] {
            let error = credential_from_pb(wrong).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("the key"), "{error:?}");
        }
    }
}
