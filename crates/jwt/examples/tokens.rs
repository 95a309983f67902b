//! What it costs to believe a token: `cargo run --release -p ambit-jwt --example tokens`.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use ambit_jwt::{KeySet, Signed};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

const ROUNDS: u32 = 5_000;

fn main() -> Result<(), Box<dyn Error>> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let point = pair.public_key().as_ref();
    let (x, y) = point.get(1..).unwrap_or_default().split_at(32);
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": b64(x), "y": b64(y)}]});
    let keys = KeySet::read(keys.to_string().as_bytes())?;
    let claims = json!({
        "iss": "https://issuer.example", "sub": "jane", "aud": ["shop"], "exp": 4_000_000_000_u64,
        "scope": "read write", "realm": {"roles": ["admin", "user"]}, "email": "jane@shop.example",
    });
    let header = json!({"alg": "ES256", "kid": "k", "typ": "JWT"});
    let signed = format!("{}.{}", b64(header.to_string().as_bytes()), b64(claims.to_string().as_bytes()));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes())?;
    let token = format!("{signed}.{}", b64(signature.as_ref()));
    let read = each(|| black_box(Signed::read(black_box(&token)).is_ok()));
    let whole = each(|| {
        let read = Signed::read(black_box(&token));
        read.is_ok_and(|it| it.timely(SystemTime::UNIX_EPOCH).and_then(|()| keys.verify(&it)).is_ok())
    });
    println!("a token of {} bytes: read in {read:.1?}, read and checked (ES256) in {whole:.1?}", token.len());
    Ok(())
}

/// How long one of many takes.
fn each(mut one: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    for _ in 0..ROUNDS {
        assert!(one(), "the token is good");
    }
    began.elapsed() / ROUNDS
}
