//! Tokens there and back, and how long they count.

use proptest::prelude::*;

use super::*;

fn session(absolute_s: Option<u64>, idle_s: Option<u64>, permanent: bool) -> Session {
    let kept = Kept::Cookie { name: "stay".parse().unwrap(), path: None, permanent };
    Session { kept, absolute: absolute_s.map(Duration::from_secs), idle: idle_s.map(Duration::from_secs) }
}

fn token(begun_s: u32, seen_s: u32) -> Token {
    Token { begun_s, seen_s, chance: [7; 8], digest: [9; DIGEST] }
}

#[test]
fn a_token_counts_until_its_time_is_over() {
    let now = 10_000;
    for (absolute, idle, begun, seen, wanted) in [
        (None, None, 0, 0, true),
        (Some(60), None, now - 59, now - 59, true),
        (Some(60), None, now - 60, now, false),
        (None, Some(60), 0, now - 59, true),
        (None, Some(60), now - 60, now - 60, false),
        (Some(100), Some(10), now - 99, now - 9, true),
        (Some(100), Some(10), now - 99, now - 10, false),
        (None, None, now + CLOCKS, now + CLOCKS, true),
        (None, None, now + CLOCKS + 1, now, false),
        (None, None, now, now + CLOCKS + 1, false),
    ] {
        let session = session(absolute, idle, false);
        assert_eq!(
            session.is_alive(&token(begun, seen), now),
            wanted,
            "{absolute:?} {idle:?} {begun} {seen}"
        );
    }
}

#[test]
fn a_permanent_cookie_is_kept_for_what_is_left_and_any_other_for_as_long_as_its_browser_runs() {
    assert_eq!(session(Some(60), None, true).left_s(&token(100, 100), 130), Some(30));
    assert_eq!(session(Some(60), None, true).left_s(&token(100, 100), 190), Some(0));
    assert_eq!(session(Some(60), None, false).left_s(&token(100, 100), 130), None);
    assert_eq!(session(None, None, true).left_s(&token(100, 100), 130), None);
}

#[test]
fn the_digest_is_of_every_part_of_a_token_and_of_what_it_means() {
    let base = token(1, 2);
    let all = [
        base.text("r", "e"),
        base.text("r", "f"),
        base.text("s", "e"),
        base.text("re", ""),
        Token { begun_s: 9, ..base }.text("r", "e"),
        Token { seen_s: 9, ..base }.text("r", "e"),
        Token { chance: [1; 8], ..base }.text("r", "e"),
    ];
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
}

#[test]
fn a_cookie_has_a_name_that_cookies_may_have() {
    for (name, wanted) in [
        ("a", true),
        ("__Host-x", true),
        ("", false),
        ("a b", false),
        ("a=b", false),
        ("a;", false),
        ("\u{e9}", false),
    ] {
        assert_eq!(name.parse::<CookieName>().is_ok(), wanted, "{name}");
    }
    assert!("x".repeat(NAME + 1).parse::<CookieName>().is_err());
}

proptest! {
    #[test]
    fn what_is_written_is_read(begun_s: u32, seen_s: u32, chance: [u8; 8], digest: [u8; DIGEST]) {
        let token = Token { begun_s, seen_s, chance, digest };
        prop_assert_eq!(Token::read(&token.written()), Some(token));
    }

    #[test]
    fn any_bytes_are_a_token_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Some(token) = Token::read(&bytes) {
            prop_assert_eq!(token.written().to_vec(), bytes);
        }
    }
}
