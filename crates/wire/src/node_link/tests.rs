//! Frames of the node link: golden bytes, limits, and that no bytes make the decoders panic.

use proptest::prelude::*;

use super::*;

fn uid(text: &str) -> PodUid {
    PodUid::new(text).unwrap()
}

fn add() -> Request {
    let info = PodInfo {
        name: "p".into(),
        namespace: "ns".parse().unwrap(),
        service_account: "sa".parse().unwrap(),
    };
    Request::Add { uid: uid("u1"), info }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn requests_have_the_bytes_of_the_specification() {
    for (request, hex) in [
        (Request::SnapshotSent, "1a00"),
        (add(), "0a110a027531120b0a017012026e731a027361"),
        (Request::Keep { uid: uid("u1") }, "2a040a027531"),
        (Request::Del { uid: uid("u1") }, "120412027531"),
    ] {
        assert_eq!(encode_request(&request).unwrap(), bytes(hex), "{request:?}");
        assert_eq!(decode_request(&bytes(hex)).unwrap(), request, "{hex}");
    }
}

#[test]
fn hello_and_answers_have_the_bytes_of_the_specification() {
    assert_eq!(encode_hello(), bytes("0801"));
    decode_hello(&bytes("0801")).unwrap();
    for (response, hex) in [(Response::Done, "0a00"), (Response::Failed("x".into()), "0a030a0178")] {
        assert_eq!(encode_response(&response), bytes(hex));
        assert_eq!(decode_response(&bytes(hex)).unwrap(), response);
    }
}

#[test]
fn a_word_on_certificates_is_read_where_it_is_known_and_is_a_plain_yes_otherwise() {
    for (certificate, hex) in [(Certificate::Awaited, "0a03c83e01"), (Certificate::Held, "0a03c83e02")] {
        assert_eq!(encode_response(&Response::Carried(certificate)), bytes(hex));
        assert_eq!(decode_response(&bytes(hex)).unwrap(), Response::Carried(certificate));
    }
    assert_eq!(decode_response(&bytes("0a03c83e07")).unwrap(), Response::Done, "newer than this end");
    assert_eq!(decode_response(&bytes("0a060a0178c83e02")).unwrap(), Response::Failed("x".into()));
}

#[test]
fn a_failure_always_fits_and_never_reads_as_success() {
    let long = Response::Failed("é".repeat(5000));
    let packet = encode_response(&long);
    assert!(packet.len() <= NODE_LINK_PACKET, "{}", packet.len());
    let Response::Failed(text) = decode_response(&packet).unwrap() else { panic!("a failure stays one") };
    assert_eq!(text, "é".repeat(NODE_LINK_ERROR / 2));
    assert!(matches!(
        decode_response(&encode_response(&Response::Failed(String::new()))).unwrap(),
        Response::Failed(_)
    ));
}

#[test]
fn packets_that_are_no_message_are_refused_with_the_reason() {
    assert_eq!(decode_request(&[]), Err(LinkError::NoPayload));
    assert_eq!(
        decode_request(&bytes("120412")).map_err(|e| e.to_string()),
        Err("the packet does not decode".into())
    );
    assert_eq!(decode_request(&bytes("0a040a027531")), Err(LinkError::NoInfo { uid: uid("u1") }));
    assert_eq!(decode_request(&bytes("1200")), Err(LinkError::NoUid));
    assert_eq!(
        decode_request(&[0; NODE_LINK_PACKET + 1]),
        Err(LinkError::TooLong { found: NODE_LINK_PACKET + 1 })
    );
    assert_eq!(decode_hello(&[]), Err(LinkError::Version { found: 0 }));
    assert!(matches!(decode_request(&bytes("0a080a02753112020a00")), Err(LinkError::Name { .. })));
}

#[test]
fn a_request_that_would_be_cut_off_is_not_encoded() {
    let request = Request::Keep { uid: uid(&"u".repeat(NODE_LINK_PACKET)) };
    assert!(matches!(encode_request(&request), Err(LinkError::TooLong { .. })));
}

#[test]
fn only_an_added_pod_brings_a_descriptor() {
    assert_eq!(add().descriptors(), 1);
    for request in [Request::SnapshotSent, Request::Keep { uid: uid("u") }, Request::Del { uid: uid("u") }] {
        assert_eq!(request.descriptors(), 0);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(packet: Vec<u8>) {
        let _ = decode_hello(&packet);
        let _ = decode_request(&packet);
        let _ = decode_response(&packet);
    }

    #[test]
    fn requests_read_back_as_they_were_written(name in ".{0,60}", pod in ".{1,36}", ns in "[a-z-]{1,63}") {
        let info = PodInfo {
            name: name.as_str().into(),
            namespace: ns.parse().unwrap(),
            service_account: ServiceAccount::default(),
        };
        for request in [
            Request::Add { uid: uid(&pod), info },
            Request::Keep { uid: uid(&pod) },
            Request::Del { uid: uid(&pod) },
            Request::SnapshotSent,
        ] {
            prop_assert_eq!(decode_request(&encode_request(&request).unwrap()).unwrap(), request);
        }
    }
}
