//! A subscriber told arbitrary things: it answers every response once it is in force, and never panics.
#![no_main]

use ambit_wire::pb::discovery::DeltaDiscoveryResponse;
use ambit_xds::loopback::node;
use ambit_xds::subscriber::{Action, Mode, Subscriber};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(response) = DeltaDiscoveryResponse::decode(data) else { return };
    let mut subscriber = Subscriber::new(node("ztunnel", "n"), Mode::OnDemand);
    let _ = subscriber.start();
    let _ = subscriber.on_opened();
    for _ in 0..2 {
        let nonce = response.nonce.clone();
        let mut actions = subscriber.on_response(response.clone());
        if let [Action::Apply(_)] = actions.as_slice() {
            actions = subscriber.on_applied();
        }
        let [Action::Send(answer)] = actions.as_slice() else { panic!("one answer") };
        assert_eq!(answer.response_nonce, nonce);
    }
});
