//! What a waypoint proves itself by, as people see it in dumps: whose it is, and of what there is something. Written, never
//! read back, and never with what is in it.

use ambit_model::credential::Credential;
use serde_json::{Value, json};

/// One credential.
#[must_use]
pub fn credential(credential: &Credential) -> Value {
    let Credential { name, owners, shown, roots } = credential;
    json!({
        "name": name.to_string(),
        "owners": owners.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "certificate": if shown.is_some() { "there" } else { "none" },
        "roots": if roots.is_some() { "there" } else { "none" },
    })
}

#[cfg(test)]
mod tests {
    use ambit_model::credential::{Secret, Shown};

    use super::*;

    #[test]
    fn nothing_of_a_credential_is_shown_but_whose_it_is() {
        let shown = Shown { chain: "the chain".into(), key: Secret::new("the key") };
        let whole =
            Credential { name: "shop/c".into(), owners: vec![], shown: Some(shown), roots: Some("r".into()) };
        let text = credential(&whole).to_string();
        assert!(text.contains("shop/c") && !text.contains("the "), "{text}");
    }
}
