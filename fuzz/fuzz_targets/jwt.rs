//! Tokens and key sets from anybody: read, judged by time, audience and keys, and found in requests.
#![no_main]

use std::time::SystemTime;

use ambit_jwt::{KeySet, Signed};
use ambit_model::authentication::{ClaimPath, Place, carry_on, found, header_of, spread};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The keys and the token are divided by the first line's end.
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (keys, token) = data.split_at(end);
    let keys = KeySet::read(keys);
    let token = String::from_utf8_lossy(token.get(1..).unwrap_or_default());
    if let Ok(mut signed) = Signed::read(&token) {
        let _ = signed.timely(SystemTime::UNIX_EPOCH);
        let _ = signed.ends();
        let _ = signed.meant_for(&["a".into()]);
        if let Ok(keys) = &keys {
            let _ = keys.verify(&signed);
        }
        spread(&mut signed.token, &["scope".into(), "groups".into()]);
        let names: Vec<String> = signed.token.claims.keys().map(ToString::to_string).collect();
        for name in names {
            let _ = header_of(&signed.token, &ClaimPath::from(name.as_str()));
        }
    }
    let mut headers = HeaderMap::new();
    for name in ["authorization", "cookie", "x-token"] {
        if let Ok(value) = HeaderValue::from_bytes(token.as_bytes()) {
            headers.append(name, value);
        }
    }
    let places: Vec<Place> = Place::usual()
        .into_iter()
        .chain([
            Place::Cookie("a".into()),
            Place::Header { name: http::HeaderName::from_static("x-token"), prefix: "".into() },
        ])
        .collect();
    let mut query = Some(token.into_owned());
    for place in &places {
        let _ = found(place, &headers, query.as_deref());
        carry_on(place, &mut headers, &mut query);
        assert!(found(place, &headers, query.as_deref()).is_empty(), "what is taken out is gone: {place:?}");
    }
});
