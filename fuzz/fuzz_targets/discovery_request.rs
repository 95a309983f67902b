//! A publisher asked arbitrary things, several in a row: it answers or refuses, and never panics.
//! Input: requests, each after its length as two bytes.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ambit_model::delta::{Change, Delta};
use ambit_wire::convert::{policy_from_pb, service_from_pb, workload_from_pb};
use ambit_wire::pb::{security, workload};
use ambit_xds::library::Library;
use ambit_xds::publisher::{Asked, Publisher};
use libfuzzer_sys::fuzz_target;

static WORLD: LazyLock<Arc<Library>> = LazyLock::new(|| {
    let pod = workload::Workload {
        uid: "u".into(),
        namespace: "n".into(),
        addresses: vec![vec![10, 0, 0, 1].into()],
        services: [("n/h".to_owned(), workload::PortList::default())].into(),
        ..Default::default()
    };
    let service = workload::Service { namespace: "n".into(), hostname: "h".into(), ..Default::default() };
    let policy = security::Authorization { namespace: "n".into(), name: "p".into(), ..Default::default() };
    let changes = vec![
        Change::Workload(Arc::new(workload_from_pb(pod).unwrap())),
        Change::Service(Arc::new(service_from_pb(service).unwrap())),
        Change::Policy(Arc::new(policy_from_pb(policy).unwrap())),
    ];
    Arc::new(Library::default().with(&Delta { changes }))
});

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let mut publisher = Publisher::new(1, Arc::clone(&WORLD));
    let mut rest = data;
    while let [high, low, tail @ ..] = rest {
        let size = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (packet, next) = tail.split_at(size);
        rest = next;
        let Ok(request) = Asked::read(packet.to_vec().into()) else { continue };
        if publisher.on_request(request, now).is_err() {
            return;
        }
        now += Duration::from_millis(60);
        let _ = publisher.on_time(now);
    }
    let _ = publisher.on_library(Arc::new(Library::default()));
});
