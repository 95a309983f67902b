//! CONNECT authorities from arbitrary text: read or refused; what is read is written and read back the same, and is
//! one that HTTP can carry.
#![no_main]

use ambit_hbone::head::{Baggage, Connect};
use ambit_model::address::Authority;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(authority) = text.parse::<Authority>() else { return };
    assert_ne!(authority.port(), 0);
    assert_eq!(authority.to_string().parse().as_ref(), Ok(&authority));
    let baggage = Baggage::default();
    let asked = Connect { authority, baggage, forwarded: None, trace: None, network: None, for_stranger: false };
    let request = asked.request().expect("HTTP carries every authority");
    assert_eq!(Connect::read(&request), Ok(asked));
});
