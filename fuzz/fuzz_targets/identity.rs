//! Names from arbitrary text: refused, or read and shown as they were.
#![no_main]

use ambit_model::name::{Identity, PolicyKey, ServiceKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(identity) = text.parse::<Identity>() {
        assert_eq!(identity.to_string(), text);
    }
    if let Ok(key) = text.parse::<ServiceKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<PolicyKey>() {
        assert_eq!(key.to_string(), text);
    }
});
