//! Bodies as the event socket gets them: a question or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if ambit_cni::node::is_question(data) {
        assert!(serde_json::from_slice::<serde_json::Value>(data).is_ok());
    }
});
