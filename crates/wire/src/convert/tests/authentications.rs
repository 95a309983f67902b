//! Authentications on the wire and back.

use prost::Message;

use crate::convert::{
    ConvertError, ResourceKey, ResourceType, authentication_from_pb, authentication_to_pb, decode, encode,
};
use crate::pb::discovery::Payload;
use crate::pb::waypoint as pb;

fn rule() -> pb::TokenRule {
    pb::TokenRule {
        issuer: "https://issuer".into(),
        audiences: vec!["shop".into()],
        keys: Some(pb::token_rule::Keys::Uri("https://issuer/keys".into())),
        places: vec![
            pb::TokenPlace {
                kind: Some(pb::token_place::Kind::Header(pb::TokenHeader {
                    name: "authorization".into(),
                    prefix: "Bearer ".into(),
                })),
            },
            pb::TokenPlace { kind: Some(pb::token_place::Kind::Query("t".into())) },
            pb::TokenPlace { kind: Some(pb::token_place::Kind::Cookie("c".into())) },
        ],
        forward: true,
        payload_header: "x-payload".into(),
        claim_headers: vec![pb::ClaimHeader {
            header: "x-user".into(),
            path: vec!["a.b".into(), "c".into()],
        }],
        words: vec!["groups".into()],
        patience_ms: 1500,
    }
}

fn whole() -> pb::Authentication {
    use pb::token_rule::Keys;
    let with = |keys| pb::TokenRule { keys: Some(keys), ..rule() };
    pb::Authentication {
        namespace: "shop".into(),
        name: "issuers".into(),
        targets: vec![pb::PolicyTarget {
            kind: Some(pb::policy_target::Kind::Service("shop/web.shop.svc".into())),
        }],
        rules: vec![
            rule(),
            with(Keys::Inline("{}".into())),
            with(Keys::Discovered(true)),
            with(Keys::Nowhere("it is broken".into())),
        ],
    }
}

#[test]
fn everything_in_an_authentication_is_read_and_written_back() {
    let read = authentication_from_pb(whole()).unwrap();
    assert_eq!(authentication_to_pb(&read), whole());
    let change = ambit_model::delta::Change::Authentication(read.into());
    let (key, encoded) = encode(&change);
    assert_eq!((key.to_string().as_str(), key.kind()), ("shop/issuers", ResourceType::Authentication));
    let payload =
        Payload { type_url: ResourceType::Authentication.url().into(), value: encoded.unwrap().body };
    let decoded = decode(ResourceType::Authentication, "shop/issuers", Some(payload)).unwrap();
    assert!(matches!(decoded.key, ResourceKey::Authentication(_)));
    assert_eq!(decoded.change, change);
    assert!(pb::Authentication::decode(&b"\xff"[..]).is_err());
}

#[test]
fn what_cannot_be_honoured_is_refused_whole() {
    let with = |edit: &dyn Fn(&mut pb::TokenRule)| {
        let mut raw = whole();
        edit(&mut raw.rules[1]);
        authentication_from_pb(raw).unwrap_err()
    };
    let value = |error: ConvertError| match error {
        ConvertError::Value { field, .. } | ConvertError::NoAlternative { field } => field,
        other => panic!("{other}"),
    };
    assert_eq!(value(with(&|it| it.issuer.clear())), "issuer");
    assert_eq!(value(with(&|it| it.keys = None)), "keys");
    assert_eq!(value(with(&|it| it.places[0].kind = None)), "places");
    assert_eq!(value(with(&|it| it.payload_header = "host".into())), "payload_header");
    assert_eq!(value(with(&|it| it.payload_header = "a b".into())), "payload_header");
    assert_eq!(value(with(&|it| it.claim_headers[0].header = "Authorization".into())), "claim_headers");
}
