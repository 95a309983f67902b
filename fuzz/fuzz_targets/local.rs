//! Local files and dumps from arbitrary text: read or refused; what is read is written and read back the same.
#![no_main]

use ambit_model::snapshot::Snapshot;
use ambit_wire::local::{dump, parse, read_dump};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = read_dump(text);
    let Ok(delta) = parse(text) else { return };
    let world = Snapshot::default().with(&delta);
    let dumped = format!("{:#}", serde_json::to_value(dump(&world)).expect("text keys only"));
    let again = Snapshot::default().with(&read_dump(&dumped).expect("our own dump"));
    assert!(again == world, "{dumped}");
});
