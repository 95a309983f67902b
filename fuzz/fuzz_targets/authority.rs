//! CONNECT authorities from arbitrary text: read or refused; what is read is written and read back the same.
#![no_main]

use ambit_model::address::Authority;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(authority) = text.parse::<Authority>() else { return };
    assert_eq!(authority.to_string().parse(), Ok(authority));
});
