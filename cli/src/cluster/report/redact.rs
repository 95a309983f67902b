//! What must not leave a cluster in a report: keys, tokens, passwords. Every text goes through here, every object
//! first as an object. Knows what secrets look like, not where they come from: what looks like one is taken out.

use serde_json::{Map, Value};

/// Put in place of what was taken out.
pub(super) const REDACTED: &str = "[redacted]";

/// Words that name something secret, in any spelling.
const NAMES: [&str; 8] =
    ["password", "passwd", "secret", "token", "apikey", "credential", "privatekey", "authorization"];
/// What `-----BEGIN ` is in base64, and how it goes on where a certificate follows, which is no secret.
const CODED: &str = "LS0tLS1CRUdJTi";
const CODED_CERTIFICATE: &str = "BDRVJU";

/// A text without secrets.
pub(super) fn text(text: &str) -> String {
    let without_keys = private_keys(text);
    without_keys.split_inclusive('\n').map(line).collect()
}

/// Blocks of private keys; one that does not end takes the rest with it.
fn private_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN ";
    const HEAD_LENGTH: usize = 40;
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        clean.push_str(before);
        let head: String = after.chars().take(HEAD_LENGTH).collect();
        let is_key = head.split("-----").next().is_some_and(|head| head.ends_with("PRIVATE KEY"));
        if !is_key {
            clean.push_str(BEGIN);
            rest = after;
            continue;
        }
        clean.push_str(REDACTED);
        rest = after
            .split_once("-----END ")
            .map_or("", |(_, end)| end.split_once("PRIVATE KEY-----").map_or("", |(_, rest)| rest));
    }
    clean.push_str(rest);
    clean
}

/// Word by word: what a word is, and what the word before it was.
fn line(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut expects = Expects::Nothing;
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, more) = rest.split_at(end);
        let gap_end = more.find(is_part).unwrap_or(more.len());
        let (gap, next) = more.split_at(gap_end);
        if word.is_empty() {
            clean.push_str(gap);
        } else {
            clean.push_str(&said(word, expects));
            clean.push_str(gap);
            expects = Expects::after(word, gap);
        }
        rest = next;
    }
    clean
}

/// Of words that are one: of tokens, of base64, of names.
fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '=' | '+' | '/' | '~')
}

/// What the next word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    Nothing,
    Secret,
}

impl Expects {
    fn after(word: &str, gap: &str) -> Self {
        let is_bearer = ["bearer", "basic"].iter().any(|it| word.eq_ignore_ascii_case(it));
        let is_given = gap.contains(':') && !gap.contains(['{', '[', ',', '}']);
        if is_bearer || (is_given && is_secret_name(word)) { Self::Secret } else { Self::Nothing }
    }
}

fn said(word: &str, expects: Expects) -> String {
    // The scheme of a header's value is no secret; what follows it is.
    let is_scheme = ["bearer", "basic"].iter().any(|it| word.eq_ignore_ascii_case(it));
    if (expects == Expects::Secret && !is_scheme) || is_token(word) || is_coded_key(word) {
        return REDACTED.into();
    }
    match word.split_once('=') {
        Some((name, value)) if !value.is_empty() && is_secret_name(name) => format!("{name}={REDACTED}"),
        _ => word.into(),
    }
}

/// A JSON web token, or the larger part of one.
fn is_token(word: &str) -> bool {
    word.split(['=', '/']).any(|part| part.starts_with("eyJ") && part.len() > 40 && part.contains('.'))
}

fn is_coded_key(word: &str) -> bool {
    word.split(CODED).skip(1).any(|after| !after.starts_with(CODED_CERTIFICATE))
}

fn is_secret_name(name: &str) -> bool {
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    // `tokens: 3` and `secretName: x` say what there is, not what it is.
    !plain.ends_with("name") && NAMES.iter().any(|it| plain.ends_with(it))
}

/// An object without secrets, and without what only the API server needs.
pub(super) fn object(mut value: Value) -> Value {
    clean(&mut value);
    value
}

fn clean(value: &mut Value) {
    match value {
        Value::Object(members) => clean_members(members),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn clean_members(members: &mut Map<String, Value>) {
    members.remove("managedFields");
    members.remove("kubectl.kubernetes.io/last-applied-configuration");
    if members.get("kind").and_then(Value::as_str) == Some("Secret") {
        members.remove("data");
        members.remove("stringData");
    }
    let named = members.get("name").and_then(Value::as_str).is_some_and(is_secret_name);
    for (key, member) in members.iter_mut() {
        let is_secret = (named && key == "value") || is_secret_name(key);
        match member {
            Value::String(text) if is_secret => *text = REDACTED.into(),
            Value::Object(_) | Value::Array(_) => clean(member),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlc2lnbmF0dXJl";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIHunter2\n-----END EC PRIVATE KEY-----";
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";

    #[test]
    fn what_looks_like_a_secret_is_taken_out_of_texts_wherever_it_stands() {
        let coded = format!("{CODED}BFQyBQUklWQVRFIEtFWS0tLS0t");
        let one_line = KEY.replace('\n', "\\n");
        for secret in [
            TOKEN.to_owned(),
            format!("Authorization: Bearer hunter2-{TOKEN}"),
            "authorization: Basic aHVudGVyMg==".into(),
            format!("{{\"error\": \"token {TOKEN} expired\"}}"),
            format!("a\n{KEY}\nb"),
            format!("{{\"key\": \"{one_line}\"}}"),
            "-----BEGIN PRIVATE KEY-----\nMHcCAQEEIHunter2".into(),
            format!("ca-key.pem: {coded}"),
            "--password=hunter2".into(),
            "password: hunter2".into(),
            "DB_PASSWORD: 'hunter2'".into(),
            "\"api_key\": \"hunter2\"".into(),
            "clientSecret=hunter2&x=y".into(),
            format!("url?access_token={TOKEN}"),
        ] {
            let clean = text(&secret).to_lowercase();
            assert!(clean.contains(REDACTED), "{secret}: {clean}");
            for part in ["hunter2", "eyj", "mhccaqeei", "ahvudgvymg", "bfqybquklw"] {
                assert!(!clean.contains(part), "{secret}: {clean}");
            }
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        let coded = format!("\"pem\": \"{CODED}{CODED_CERTIFICATE}abc\"");
        for plain in [
            CERTIFICATE,
            &coded,
            "spiffe://cluster.local/ns/shop/sa/web",
            "secretName: cacerts",
            "the token was refused by the API server",
            "10.0.0.1:15008 -> [fd00::1]:80",
            "",
            "\"secretTtl\": {\n  \"secs\": 5\n}\n",
        ] {
            assert_eq!(text(plain), plain);
        }
    }

    #[test]
    fn objects_lose_their_secrets_by_name_and_keep_what_else_there_is() {
        let clean = object(json!({
            "kind": "List",
            "metadata": {"managedFields": [1], "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "hunter2", "kept": "yes"}},
            "items": [
                {"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "hunter2"}, "stringData": {"b": "hunter2"}},
                {"env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"name": "LEVEL", "value": "info"}]},
                {"clientSecret": "hunter2", "automountServiceAccountToken": false, "secretName": "cacerts"},
            ],
        }));
        let said = clean.to_string();
        assert!(!said.contains("hunter2"), "{said}");
        for kept in
            ["\"kept\":\"yes\"", "\"value\":\"info\"", "cacerts", "\"automountServiceAccountToken\":false"]
        {
            assert!(said.contains(kept), "{kept}: {said}");
        }
    }
}
