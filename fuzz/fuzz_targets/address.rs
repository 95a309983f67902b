//! Workloads and services from arbitrary bytes: read or refused; what is read is written and read back the same.
#![no_main]

use ambit_wire::convert::{ResourceType, decode, encode, service_from_pb, workload_from_pb};
use ambit_wire::pb::discovery::Payload;
use ambit_wire::pb::workload::{Address, address};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(Address { r#type: Some(kind) }) = Address::decode(data) else { return };
    // The name is not the fuzzer's to guess.
    let name = match kind {
        address::Type::Workload(raw) => workload_from_pb(*raw).map(|noun| noun.uid.to_string()),
        address::Type::Service(raw) => service_from_pb(*raw).map(|noun| noun.key().to_string()),
    };
    let Ok(name) = name else { return };
    let read = |value: &[u8]| {
        let payload = Payload { type_url: ResourceType::Address.url().into(), value: value.to_vec().into() };
        decode(ResourceType::Address, &name, Some(payload)).expect("read before")
    };
    let first = read(data);
    let (key, encoded) = encode(&first.change);
    assert_eq!(key, first.key);
    assert_eq!(read(&encoded.expect("present").body), first);
});
