//! Whatever a ztunnel sends, in whatever packets: its connection ends, and nothing else does.
//! The first byte of a packet in the input is its length.
#![no_main]

use std::os::fd::{AsFd, AsRawFd};

use ambit_cni::node::face;
use ambit_process::stop::Stop;
use ambit_sys::pass::SeqPacket;
use ambit_wire::node_link::{PodInfo, PodUid, encode_hello};
use libfuzzer_sys::fuzz_target;

/// Packets that fit into the socket while nobody reads; more would be lost, not refused.
const PACKETS: usize = 8;

fuzz_target!(|data: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, theirs) = SeqPacket::pair().unwrap();
        let (greets, passes) = data.first().map_or((true, false), |flags| (flags & 1 == 0, flags & 2 != 0));
        if greets {
            let _ = theirs.try_send(&encode_hello(), None);
        }
        let mut rest = data.get(1..).unwrap_or_default();
        for _ in 0..PACKETS {
            let Some((length, after)) = rest.split_first() else { break };
            let (packet, after) = after.split_at(after.len().min(usize::from(*length)));
            let descriptor = passes.then(|| theirs.as_fd());
            assert!(descriptor.is_none_or(|it| it.as_raw_fd() >= 0));
            let _ = theirs.try_send(packet, descriptor);
            rest = after;
        }
        drop(theirs);
        let info = PodInfo {
            name: "web".into(),
            namespace: "shop".parse().unwrap(),
            service_account: "web".parse().unwrap(),
        };
        let facing = face(ours, PodUid::new("u-1").unwrap(), info, Stop::new());
        let ended = tokio::time::timeout(std::time::Duration::from_secs(1), facing).await;
        assert!(ended.is_ok(), "the connection outlives its other end");
    });
});
