//! What callers send to the authority: signing requests and tokens, believed only as they must be.
//! Input: a letter for what it is, then the thing itself.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use ambit_istiod_lite::ca::root::{self, Recipe};
use ambit_istiod_lite::ca::signer::Signer;
use ambit_istiod_lite::ca::state::State;
use ambit_istiod_lite::ca::token::Tokens;
use ambit_model::name::{Identity, TrustDomain};
use ambit_tls::peer::of_leaf;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

struct World {
    root: Arc<Signer>,
    tokens: Tokens,
    key: EncodingKey,
    who: Identity,
    now: SystemTime,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let state = State::open(folder.path()).unwrap();
    let opened = root::open(&state, &Recipe::new(TrustDomain::default()), now).unwrap();
    let root = Arc::clone(opened.current());
    let pair = KeyPair::generate().unwrap();
    let path = folder.path().join("token.pem");
    std::fs::write(&path, pair.public_key_pem()).unwrap();
    let tokens = Tokens::open(&path, TrustDomain::default()).unwrap();
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let who = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    World { root, tokens, key, who, now }
});

fn request(pem: &str) {
    let Ok(leaf) = WORLD.root.sign(pem, &WORLD.who, 0, WORLD.now) else { return };
    let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).expect("ours");
    assert_eq!(of_leaf(&leaf), Ok(WORLD.who.clone()));
}

/// Nobody here holds the key, so nothing may be believed.
fn foreign_token(text: &str) {
    assert!(WORLD.tokens.verify(text, WORLD.now).is_err());
}

/// Header and claims under a good signature: believed only when they say what they must.
fn signed_token(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (Some(header), Some(claims)) = (parts.next(), parts.next()) else { return };
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &WORLD.key, Algorithm::ES256).unwrap();
    let Ok(bearer) = WORLD.tokens.verify(&format!("{message}.{signature}"), WORLD.now) else { return };
    // In members that nobody reads the signer may write what is no text, or no number that fits.
    let whole = |json: &[u8]| serde_json::from_str::<Value>(&String::from_utf8_lossy(json));
    let (Ok(header), Ok(claims)) = (whole(header), whole(claims)) else { return };
    let says = |of: &Value, wanted: &str| match of {
        Value::Array(all) => all.iter().any(|it| it == wanted),
        one => one == wanted,
    };
    assert_eq!(header["alg"], "ES256");
    assert!(says(&claims["iss"], "ambit-local") && says(&claims["aud"], "istio-ca"), "{claims}");
    let Identity { namespace, service_account, .. } = bearer.identity;
    assert_eq!(claims["sub"], format!("system:serviceaccount:{namespace}:{service_account}"));
    assert!(claims["exp"].as_u64().expect("a number") > 1_767_225_600);
}

fuzz_target!(|data: &[u8]| {
    let Some((letter, rest)) = data.split_first() else { return };
    match letter {
        b'p' => request(&String::from_utf8_lossy(rest)),
        b'd' => {
            let body = STANDARD.encode(rest);
            request(&format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"
            ));
        }
        b't' => foreign_token(&String::from_utf8_lossy(rest)),
        _ => signed_token(rest),
    }
});
