//! What is remembered of tokens, and for how long.

use std::time::Duration;

use ambit_model::authentication::{KeySource, PATIENCE, Place};

use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn rule() -> Arc<TokenRule> {
    Arc::new(TokenRule {
        issuer: "i".into(),
        audiences: vec![],
        keys: KeySource::Inline(KEYS.into()),
        places: Place::usual(),
        forward: false,
        payload_header: None,
        claim_headers: vec![],
        words: vec![],
        patience: PATIENCE,
    })
}

const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fn good(text: &str, rule: &Arc<TokenRule>, ends: Option<SystemTime>) -> Remembered {
    let ring = Arc::new(Ring::new(&rule.keys));
    let keys = ring.now().unwrap();
    let token = Arc::new(Token { subject: text.into(), ..Token::default() });
    let keys = Arc::downgrade(&keys);
    Remembered { text: text.into(), rule: Arc::downgrade(rule), ring, keys, ends, token }
}

#[test]
fn a_token_is_remembered_for_its_rule_and_its_time() {
    let (rule, other) = (rule(), rule());
    let believed = Believed::default();
    let end = NOW + Duration::from_secs(60);
    believed.put(&rule, good("t", &rule, Some(end)));
    assert_eq!(&*believed.find("t", &rule, NOW).unwrap().subject, "t");
    assert!(believed.find("u", &rule, NOW).is_none());
    // The same words in another object, or in the same one after a change, are another rule.
    assert!(believed.find("t", &other, NOW).is_none());
    assert!(believed.find("t", &rule, end).is_none());
}

#[test]
fn a_token_is_forgotten_with_the_keys_that_it_was_checked_with() {
    let rule = rule();
    let believed = Believed::default();
    let mut former = good("t", &rule, None);
    former.keys = Arc::downgrade(&Arc::new(KeySet::read(KEYS.as_bytes()).unwrap()));
    believed.put(&rule, former);
    assert!(believed.find("t", &rule, NOW).is_none());
    believed.put(&rule, good("t", &rule, None));
    assert!(believed.find("t", &rule, NOW).is_some());
}

#[test]
fn as_many_are_remembered_as_there_is_room_for_and_those_in_use_stay() {
    let rule = rule();
    let believed = Believed::default();
    believed.put(&rule, good("used", &rule, None));
    for number in 0..10 * REMEMBERED {
        believed.put(&rule, good(&number.to_string(), &rule, None));
        if number % 100 == 0 {
            assert!(believed.find("used", &rule, NOW).is_some(), "{number}");
        }
    }
    let shelves = believed.0.lock().unwrap();
    assert!(shelves.first.len() <= REMEMBERED && shelves.second.len() <= REMEMBERED);
    drop(shelves);
    let large = "x".repeat(BYTES / 4);
    for number in 0..10 {
        believed.put(&rule, good(&format!("{number}{large}"), &rule, None));
    }
    let shelves = believed.0.lock().unwrap();
    assert!(shelves.first.len() + shelves.second.len() <= 6, "{}", shelves.first.len());
}

#[test]
#[ignore = "prints numbers; run it by name on a quiet machine"]
fn numbers_of_a_remembered_token() {
    const FINDS: u32 = 200_000;
    let (rule, believed) = (rule(), Believed::default());
    // As long as those of identity providers are, among others, which are remembered as well.
    let texts: Vec<String> = (0..1_000).map(|number| format!("{number:>1000}")).collect();
    for text in &texts {
        believed.put(&rule, good(text, &rule, Some(NOW + Duration::from_secs(60))));
    }
    let begun = std::time::Instant::now();
    for (_, text) in (0..FINDS).zip(texts.iter().cycle()) {
        assert!(std::hint::black_box(believed.find(text, &rule, NOW)).is_some());
    }
    println!("a token of 1,000 bytes that was checked before: {:.2?}", begun.elapsed() / FINDS);
}
