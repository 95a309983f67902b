//! Key sets as issuers publish them, read and used.

use serde_json::{Value, json};

use super::*;
use crate::testing::{Pair, b64};

fn set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn verify(keys: &KeySet, token: &str) -> Result<(), Fault> {
    keys.verify(&Signed::read(token)?)
}

/// One pair of each kind that can sign in a way.
fn pairs() -> Vec<(Vec<Algorithm>, Pair)> {
    use Algorithm::{EdDsa, Es256, Es384, Es512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    let mut pairs = vec![(vec![Rs256, Rs384, Rs512, Ps256, Ps384, Ps512], Pair::new(Rs256))];
    pairs.extend([Es256, Es384, Es512, EdDsa].map(|way| (vec![way], Pair::new(way))));
    pairs
}

#[test]
fn every_way_to_sign_is_checked_with_its_key_and_with_no_other() {
    let pairs = pairs();
    let all: Vec<Value> =
        pairs.iter().enumerate().map(|(at, (_, pair))| pair.jwk(&format!("k{at}"))).collect();
    let keys = set(&all);
    assert_eq!(keys.len(), pairs.len());
    for (at, (ways, pair)) in pairs.iter().enumerate() {
        for way in ways {
            let token = pair.sign(*way, &format!("k{at}"), &json!({"sub": "a"}));
            assert_eq!(verify(&keys, &token), Ok(()), "{way:?}");
            // Without saying which key it was, all are tried.
            let nameless = pair.sign_as(*way, &json!({"alg": way.name()}), &json!({}));
            assert_eq!(verify(&keys, &nameless), Ok(()), "{way:?}");
            let other = pair.sign(*way, "k9", &json!({}));
            assert_eq!(verify(&keys, &other), Err(Fault::NoKey), "{way:?}");
            let stranger = Pair::new(*way).sign(*way, &format!("k{at}"), &json!({}));
            assert_eq!(verify(&keys, &stranger), Err(Fault::Signature), "{way:?}");
            let of_another_kind = format!("k{}", (at + 1) % pairs.len());
            let mistaken = pair.sign(*way, &of_another_kind, &json!({}));
            assert_eq!(verify(&keys, &mistaken), Err(Fault::NoKey), "{way:?}");
        }
    }
}

#[test]
fn no_byte_of_a_token_can_be_changed() {
    let pair = Pair::new(Algorithm::Es256);
    let keys = set(&[pair.jwk("k")]);
    let token = pair.sign(Algorithm::Es256, "k", &json!({"sub": "a", "admin": false}));
    assert_eq!(verify(&keys, &token), Ok(()));
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verify(&keys, &changed).is_err(), "{at}: {changed}");
    }
}

#[test]
fn a_key_is_used_as_it_says_and_not_as_a_token_would_like() {
    let rsa = Pair::new(Algorithm::Rs256);
    let with = |more: Value| {
        let mut key = rsa.jwk("k");
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    };
    let rs256 = rsa.sign(Algorithm::Rs256, "k", &json!({}));
    let ps256 = rsa.sign(Algorithm::Ps256, "k", &json!({}));
    for (key, first, second) in [
        (with(json!({})), Ok(()), Ok(())),
        (with(json!({"alg": "RS256"})), Ok(()), Err(Fault::NoKey)),
        (with(json!({"alg": "PS256", "use": "sig"})), Err(Fault::NoKey), Ok(())),
        (with(json!({"key_ops": ["verify"]})), Ok(()), Ok(())),
    ] {
        let keys = set(std::slice::from_ref(&key));
        assert_eq!((verify(&keys, &rs256), verify(&keys, &ps256)), (first, second), "{key}");
    }
    for key in [
        with(json!({"use": "enc"})),
        with(json!({"key_ops": ["sign"]})),
        with(json!({"alg": "RSA-OAEP"})),
        with(json!({"alg": "ES256"})),
        with(json!({"n": b64([0x80; 128])})),
        with(json!({"n": b64([0x80; 2000])})),
        with(json!({"e": ""})),
        with(json!({"kty": "EC"})),
        with(json!({"kty": "oct", "k": "AAAA"})),
    ] {
        let text = json!({"keys": [key]}).to_string();
        assert_eq!(KeySet::read(text.as_bytes()).unwrap_err(), KeySetError::Useless, "{text}");
    }
}

/// The public key's text as a shared secret: the oldest way to forge.
#[test]
fn a_public_key_is_no_shared_secret() {
    let pair = Pair::new(Algorithm::Rs256);
    let keys = set(&[pair.jwk("k")]);
    for way in ["HS256", "HS512", "none", "None", ""] {
        let token = pair.sign_as(Algorithm::Rs256, &json!({"alg": way, "kid": "k"}), &json!({}));
        assert_eq!(verify(&keys, &token), Err(Fault::Algorithm), "{way}");
    }
    // A key that comes with the token is not looked at.
    let stranger = Pair::new(Algorithm::Es256);
    let header =
        json!({"alg": "ES256", "jwk": stranger.jwk("k"), "jku": "http://evil/", "x5u": "http://evil/"});
    let token = stranger.sign_as(Algorithm::Es256, &header, &json!({}));
    assert_eq!(verify(&keys, &token), Err(Fault::NoKey));
}

#[test]
fn what_is_no_key_set_is_told_from_one_without_a_key_of_use() {
    let good = Pair::new(Algorithm::EdDsa).jwk("k");
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
        assert_eq!(KeySet::read(text.as_bytes()).unwrap_err(), KeySetError::Json, "{text}");
    }
    assert_eq!(KeySet::read(br#"{"keys":[]}"#).unwrap_err(), KeySetError::Useless);
    let many = json!({"keys": vec![good.clone(); 65]}).to_string();
    assert_eq!(KeySet::read(many.as_bytes()).unwrap_err(), KeySetError::TooMany { found: 65 });
    // What is broken or strange among them takes nothing away from the others.
    let strange = json!({"keys": [1, {"kty": 5}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, good]});
    assert_eq!(KeySet::read(strange.to_string().as_bytes()).unwrap().len(), 1);
}

/// A point beside its curve would tell about secrets elsewhere; here it is just no key.
#[test]
fn a_point_must_be_on_its_curve() {
    let mut key = Pair::new(Algorithm::Es256).jwk("k");
    key["y"] = b64([1; 32]).into();
    let text = json!({"keys": [key]}).to_string();
    assert_eq!(KeySet::read(text.as_bytes()).unwrap_err(), KeySetError::Useless);
}

/// RFC 7515, A.2 and A.3.
#[test]
fn the_examples_of_the_standard_are_believed() {
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rsa = json!({"kty": "RSA", "e": "AQAB", "n": concat!(
        "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL",
        "-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9",
        "e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAc",
        "o9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    )});
    let curve = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                       "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let keys = set(&[rsa, curve]);
    for (header, signature) in [
        (
            "eyJhbGciOiJSUzI1NiJ9",
            concat!(
                "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5ju",
                "jGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe",
                "7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8n",
                "p6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
            ),
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        assert_eq!(verify(&keys, &format!("{header}.{payload}.{signature}")), Ok(()), "{header}");
    }
}
