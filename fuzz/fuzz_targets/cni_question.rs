//! Bodies as the event socket gets them: a question or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    assert!(!ambit_cni::node::is_question(data) || std::str::from_utf8(data).is_ok());
});
