//! Tokens as clients send them: which are read, and which are refused unread.

use serde_json::json;

use super::*;
use crate::testing::{Pair, b64};

/// A token that nobody signed.
fn token(header: &str, payload: &str) -> String {
    format!("{}.{}.{}", b64(header), b64(payload), b64("signature"))
}

fn claims(payload: &str) -> Result<Token, Fault> {
    Signed::read(&token(r#"{"alg":"ES256"}"#, payload)).map(|it| it.token)
}

#[test]
fn what_is_no_token_is_told_by_what_is_wrong_with_it() {
    use Part::{Header, Payload, Signature};
    let good = b64(r#"{"alg":"ES256"}"#);
    for (text, wanted) in [
        (String::new(), Fault::Form),
        ("a.b".into(), Fault::Form),
        ("a.b.c.d".into(), Fault::Form),
        ("..".into(), Fault::Form),
        ("a..c".into(), Fault::Form),
        // RFC 7515, A.5: without a signature.
        (format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64("{}")), Fault::Form),
        ("a*.e30.e30".into(), Fault::Encoding(Header)),
        ("e30=.e30.e30".into(), Fault::Encoding(Header)),
        (format!("{good}.\u{e9}.e30"), Fault::Encoding(Payload)),
        // The last two bits are left over: another way to write the same.
        (format!("{good}.e31.e30"), Fault::Encoding(Payload)),
        (format!("{good}.e30.+"), Fault::Encoding(Signature)),
        (token("[]", "{}"), Fault::Json(Header)),
        (token("{}", "{}"), Fault::Json(Header)),
        (token(r#"{"alg":"ES256","alg":"RS256"}"#, "{}"), Fault::Json(Header)),
        (token(r#"{"alg":1}"#, "{}"), Fault::Json(Header)),
        (token(r#"{"alg":"ES256"}"#, "[]"), Fault::Json(Payload)),
        (token(r#"{"alg":"ES256"}"#, "{} x"), Fault::Json(Payload)),
        (token(r#"{"alg":"ES256"}"#, r#"{"sub":"a","sub":"b"}"#), Fault::Json(Payload)),
        (token(r#"{"alg":"ES256"}"#, r#"{"a":{"b":1,"b":1}}"#), Fault::Json(Payload)),
        (token(r#"{"alg":"ES256"}"#, &"[".repeat(5000)), Fault::Json(Payload)),
        (token(r#"{"alg":"ES256"}"#, &format!("{{\"a\":{}}}", "[".repeat(5000))), Fault::Json(Payload)),
        (token(r#"{"alg":"none"}"#, "{}"), Fault::Algorithm),
        (token(r#"{"alg":"HS256"}"#, "{}"), Fault::Algorithm),
        (token(r#"{"alg":"es256"}"#, "{}"), Fault::Algorithm),
        (token(r#"{"alg":"ES256","crit":["exp"]}"#, "{}"), Fault::Critical),
        (token(r#"{"alg":"ES256","b64":false}"#, "{}"), Fault::Critical),
        (token(r#"{"alg":"ES256"}"#, r#"{"exp":"soon"}"#), Fault::Time),
        (token(r#"{"alg":"ES256"}"#, r#"{"exp":-1}"#), Fault::Time),
        (token(r#"{"alg":"ES256"}"#, r#"{"exp":1e400}"#), Fault::Json(Payload)),
        (token(r#"{"alg":"ES256"}"#, r#"{"exp":18446744073709551616}"#), Fault::Time),
        (token(r#"{"alg":"ES256"}"#, r#"{"nbf":1.5}"#), Fault::Time),
        (token(r#"{"alg":"ES256"}"#, &format!("{{\"a\":\"{}\"}}", "x".repeat(LONGEST))), Fault::TooLong),
    ] {
        let shown: String = text.chars().take(100).collect();
        assert_eq!(Signed::read(&text).unwrap_err(), wanted, "{shown}");
    }
}

#[test]
fn claims_keep_their_kinds() {
    let token =
        claims(r#"{"iss":"i","sub":"s","n":3,"t":true,"f":1.5,"z":null,"l":["a",{"b":"c"}]}"#).unwrap();
    assert_eq!((&*token.issuer, &*token.subject), ("i", "s"));
    let text = |text: &str| Claim::Text(text.into());
    for (name, wanted) in [
        ("n", Claim::Whole(3)),
        ("t", Claim::Truth(true)),
        ("f", Claim::Other),
        ("z", Claim::Other),
        ("l", Claim::List(vec![text("a"), Claim::Object([("b".into(), text("c"))].into())])),
    ] {
        assert_eq!(token.claims[name], wanted, "{name}");
    }
    // Neither a number nor a list names anybody.
    let token = claims(r#"{"iss":1,"sub":["s"]}"#).unwrap();
    assert_eq!((&*token.issuer, &*token.subject), ("", ""));
}

#[test]
fn a_token_is_of_its_time_give_or_take_a_minute() {
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    for (payload, now, wanted) in [
        ("{}", 0, Ok(())),
        (r#"{"exp":1000}"#, 1060, Ok(())),
        (r#"{"exp":1000}"#, 1061, Err(Fault::Expired)),
        (r#"{"nbf":1000}"#, 940, Ok(())),
        (r#"{"nbf":1000}"#, 939, Err(Fault::Early)),
        (r#"{"exp":9223372036854775807}"#, 5, Ok(())),
        (r#"{"exp":0}"#, 61, Err(Fault::Expired)),
        (r#"{"nbf":9000,"exp":1000}"#, 5000, Err(Fault::Early)),
    ] {
        let text = token(r#"{"alg":"ES256"}"#, payload);
        let read = Signed::read(&text).unwrap();
        assert_eq!(read.timely(at(now)), wanted, "{payload} at {now}");
        if let Some(end) = read.ends() {
            assert_eq!(read.timely(end), read.timely(end).and(Err(Fault::Expired)), "{payload}");
        }
    }
    let text = token(r#"{"alg":"ES256"}"#, r#"{"exp":1000}"#);
    assert_eq!(Signed::read(&text).unwrap().ends(), Some(at(1061)));
}

#[test]
fn a_token_for_others_is_for_others() {
    let fits = |payload: &str, audiences: &[&str]| {
        let audiences: Vec<Box<str>> = audiences.iter().map(|it| (*it).into()).collect();
        let text = token(r#"{"alg":"ES256"}"#, payload);
        Signed::read(&text).unwrap().meant_for(&audiences).is_ok()
    };
    for (payload, audiences, wanted) in [
        ("{}", &[][..], true),
        (r#"{"aud":"a"}"#, &[], true),
        ("{}", &["a"], false),
        (r#"{"aud":"a"}"#, &["b", "a"], true),
        (r#"{"aud":["c","b"]}"#, &["b"], true),
        (r#"{"aud":["c"]}"#, &["b"], false),
        (r#"{"aud":"a b"}"#, &["a"], false),
        (r#"{"aud":""}"#, &["a"], false),
    ] {
        assert_eq!(fits(payload, audiences), wanted, "{payload} {audiences:?}");
    }
}

#[test]
fn what_is_signed_is_what_was_sent() {
    let pair = Pair::new(Algorithm::Es256);
    let text = pair.sign(Algorithm::Es256, "k", &json!({"sub": "a"}));
    let read = Signed::read(&text).unwrap();
    assert!(text.starts_with(read.signed) && read.signed.ends_with(read.payload));
    assert_eq!((read.algorithm, read.key_id.as_deref()), (Algorithm::Es256, Some("k")));
}
