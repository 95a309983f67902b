//! Step 7, tokens of requests: an issuer whose key is made for the demo, a waypoint that believes it, and who gets in with
//! what. Owns the issuer; whose service it is about is `waypoint`'s.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;

use super::enrolment::CART;
use super::report::Scene;
use super::stage::{SOON, Shown, Stage, eventually};

const TOKENS: &str = include_str!("../../../deploy/demo-steps/tokens.yaml");
const MANIFEST: &str = "tokens.yaml";
/// The name that the manifest gives the issuer.
const ISSUER: &str = "demo";
/// A demo takes seconds.
const LIFE_SECONDS: u64 = 600;

/// Whoever signs tokens, with a key that nobody else has.
struct Issuer(EncodingKey);

impl Issuer {
    fn make() -> Shown<Self> {
        let key = rcgen::KeyPair::generate().map_err(|e| e.to_string())?;
        let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).map_err(|e| e.to_string())?;
        Ok(Self(key))
    }

    /// The public half, as the manifest has it.
    fn keys(&self) -> Shown<String> {
        let key = Jwk::from_encoding_key(&self.0, Algorithm::ES256).map_err(|e| e.to_string())?;
        Ok(json!({ "keys": [key] }).to_string())
    }

    /// A header field with a token.
    fn field(&self, subject: &str) -> Shown<String> {
        let now = get_current_timestamp();
        let claims = json!({ "iss": ISSUER, "sub": subject, "iat": now, "exp": now + LIFE_SECONDS });
        let token = encode(&Header::new(Algorithm::ES256), &claims, &self.0).map_err(|e| e.to_string())?;
        Ok(format!("authorization: Bearer {token}"))
    }
}

/// Without a token nobody gets at accounts, with another issuer's nobody gets anywhere, with the issuer's own one does.
pub(super) fn believed(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    let (issuer, other) = (Issuer::make()?, Issuer::make()?);
    stage.write(MANIFEST, &TOKENS.replace("KEYS", &issuer.keys()?))?;
    let account = format!("{CART}/account/7");
    let (own, forged) = (issuer.field("ada")?, other.field("ada")?);
    let seen = eventually(SOON, || {
        answers(stage, &account, &[], "403")?;
        answers(stage, &account, &["-H", &forged], "401")?;
        stage.fetch_with("shop/web", &account, &["-H", &own])?;
        stage.fetch("shop/web", &format!("{CART}/keys"))
    });
    let told = "a policy wants a token for /account: 403 without one, 401 with one that another key signed, an answer with \
                one of the issuer's; other paths are answered without";
    scene.see("tokens", seen.map(|_| told));
    stage.remove(MANIFEST)
}

/// It is refused with this status.
fn answers(stage: &Stage, url: &str, options: &[&str], status: &str) -> Shown<()> {
    match stage.fetch_with("shop/web", url, options) {
        Err(why) if why.contains(status) => Ok(()),
        other => Err(format!("not {status}: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn tokens_are_those_of_the_key_that_the_manifest_shows() {
        let (issuer, other) = (Issuer::make().unwrap(), Issuer::make().unwrap());
        let keys: JwkSet = serde_json::from_str(&issuer.keys().unwrap()).unwrap();
        let key = DecodingKey::from_jwk(&keys.keys[0]).unwrap();
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[ISSUER]);
        let is_believed = |field: String| {
            let token = field.strip_prefix("authorization: Bearer ").unwrap().to_owned();
            decode::<serde_json::Value>(&token, &key, &rules).is_ok_and(|it| it.claims["sub"] == "ada")
        };
        assert!(is_believed(issuer.field("ada").unwrap()));
        assert!(!is_believed(other.field("ada").unwrap()));
        assert_eq!(TOKENS.matches("KEYS").count(), 1);
        assert!(TOKENS.contains(&format!("issuer: {ISSUER}\n")));
    }
}
