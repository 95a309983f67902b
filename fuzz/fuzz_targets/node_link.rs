//! Packets of the node link: read or refused; what is read is written and read back the same, and fits.
#![no_main]

use ambit_wire::limits::NODE_LINK_PACKET;
use ambit_wire::node_link::{
    LinkError, decode_hello, decode_request, decode_response, encode_request, encode_response,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = decode_hello(data);
    if let Ok(request) = decode_request(data) {
        match encode_request(&request) {
            Ok(packet) => assert_eq!(decode_request(&packet), Ok(request)),
            // An account left out is written out, which may no longer fit.
            Err(error) => assert!(matches!(error, LinkError::TooLong { .. })),
        }
    }
    if let Ok(response) = decode_response(data) {
        let packet = encode_response(&response);
        assert!(packet.len() <= NODE_LINK_PACKET);
        assert!(decode_response(&packet).is_ok());
    }
});
