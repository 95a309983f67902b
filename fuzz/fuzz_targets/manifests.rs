//! Manifests from arbitrary text: objects or faults; the same text has the same of both.
#![no_main]

use std::path::Path;

use ambit_cluster::files::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let name = Path::new("a.yaml");
    let (objects, faults) = parse(name, text);
    let again = parse(name, text);
    assert_eq!(objects, again.0);
    let lines = |faults: &[ambit_cluster::Fault]| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(lines(&faults), lines(&again.1));
});
