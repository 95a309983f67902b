//! RequestAuthentications become what waypoints are told.

use ambit_model::request_policy::Target;
use http::header::AUTHORIZATION;

use super::*;
use crate::testing::world;

const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fn read(namespace: &str, spec: &str) -> Reading {
    let text = format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: bank, namespace: shop}}, spec: {{hosts: [bank.example, pay.example], resolution: DNS}}}}
---
{{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{name: r, namespace: {namespace}}}, spec: {{{spec}}}}}\n"
    );
    let world = world(&text);
    authentication(&world, &world.space(namespace).unwrap().authentications["r"])
}

fn rule(rule: &str) -> (TokenRule, Vec<String>) {
    let spec =
        format!("targetRefs: [{{kind: Service, name: web}}], jwtRules: [{{issuer: 'https://i', {rule}}}]");
    let Reading { authentication, notes } = read("shop", &spec);
    (authentication.unwrap().rules[0].as_ref().clone(), notes)
}

#[test]
fn waypoints_are_told_of_what_is_attached_to_theirs_and_of_nothing_else() {
    let rules = format!("jwtRules: [{{issuer: i, jwks: '{KEYS}'}}]");
    let found = read("shop", &format!("targetRefs: [{{kind: Service, name: web}}], {rules}")).authentication;
    let service = Target::Service("shop/web.shop.svc.cluster.local".parse().unwrap());
    assert_eq!(found.unwrap().targets, [service]);
    let odd = read("shop", &format!("targetRefs: [{{group: example.com, kind: Odd, name: web}}], {rules}"));
    assert_eq!(odd.authentication, None);
    // By its author's choice it is for sidecars.
    assert_eq!(
        read("shop", "selector: {matchLabels: {app: web}}, jwtRules: [{issuer: i}]").authentication,
        None
    );
}

#[test]
fn keys_are_here_or_there_or_nowhere_and_then_its_author_learns_why() {
    let nowhere = |why: &str| KeySource::Nowhere(why.into());
    for (given, wanted) in [
        (format!("jwks: '{KEYS}'"), KeySource::Inline(KEYS.into())),
        ("jwksUri: 'http://keys.shop:8000/jwks'".into(), KeySource::At("http://keys.shop:8000/jwks".into())),
        ("audiences: []".into(), KeySource::OfIssuer("https://i".into())),
        ("jwksUri: 'file:///keys'".into(), nowhere("jwksUri is no address of the web")),
        ("jwks: '{}'".into(), nowhere("not a key set in JSON; it holds {\"keys\": [...]}")),
    ] {
        let (read, notes) = rule(&given);
        assert_eq!(read.keys, wanted, "{given}");
        let is_nowhere = matches!(read.keys, KeySource::Nowhere(_));
        assert_eq!(notes.len(), usize::from(is_nowhere), "{given}: {notes:?}");
        assert!(notes.iter().all(|it| it.starts_with("jwtRules[0].jwks: ")), "{notes:?}");
    }
}

#[test]
fn every_field_of_a_rule_is_carried_over() {
    let (read, notes) = rule(
        "jwksUri: 'https://i/k', audiences: [a, b], fromHeaders: [{name: X-Token, prefix: 'JWT '}], fromParams: [t], \
         fromCookies: [c], forwardOriginalToken: true, outputPayloadToHeader: X-Payload, timeout: 1500ms, \
         outputClaimToHeaders: [{header: X-User, claim: realm.name}], spaceDelimitedClaims: [groups]",
    );
    assert_eq!(notes, Vec::<String>::new());
    let name = |text: &str| text.parse::<HeaderName>().unwrap();
    assert_eq!(
        read,
        TokenRule {
            issuer: "https://i".into(),
            audiences: vec!["a".into(), "b".into()],
            keys: KeySource::At("https://i/k".into()),
            places: vec![
                Place::Header { name: name("x-token"), prefix: "JWT ".into() },
                Place::Query("t".into()),
                Place::Cookie("c".into()),
            ],
            forward: true,
            payload_header: Some(name("x-payload")),
            claim_headers: vec![(name("x-user"), "realm.name".into())],
            words: vec!["groups".into()],
            patience: std::time::Duration::from_millis(1500),
        }
    );
    let (usual, _) = rule("jwksUri: 'https://i/k'");
    assert_eq!(usual.places, Place::usual());
    assert_eq!(usual.patience, PATIENCE);
    assert!(matches!(&usual.places[0], Place::Header { name, .. } if *name == AUTHORIZATION));
}

#[test]
fn a_place_that_cannot_be_is_left_out_and_does_not_bring_back_the_usual_ones() {
    let (read, notes) = rule(
        "jwksUri: 'https://i/k', fromHeaders: [{name: 'a b'}], outputPayloadToHeader: Host, \
         outputClaimToHeaders: [{header: cookie, claim: a}]",
    );
    assert_eq!((read.places, read.payload_header, read.claim_headers), (vec![], None, vec![]));
    assert_eq!(notes.len(), 3, "{notes:?}");
}
