//! Policies from arbitrary bytes: read or refused; what is read is written and read back the same.
#![no_main]

use ambit_wire::convert::{policy_from_pb, policy_to_pb};
use ambit_wire::pb::security::Authorization;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(raw) = Authorization::decode(data) else { return };
    let Ok(policy) = policy_from_pb(raw) else { return };
    assert_eq!(policy_from_pb(policy_to_pb(&policy)), Ok(policy));
});
