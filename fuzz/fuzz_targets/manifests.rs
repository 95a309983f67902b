//! Manifests from arbitrary text: objects or faults; the same text has the same of both.
#![no_main]

use std::path::Path;

use ambit_cluster::files::parse;
use libfuzzer_sys::{Corpus, fuzz_target};

/// A manifest of each kind has under 1 KiB; longer texts find nothing that these do not, only slower.
const LONGEST: usize = 2048;

fuzz_target!(|text: &str| -> Corpus {
    if text.len() > LONGEST {
        return Corpus::Reject;
    }
    let name = Path::new("a.yaml");
    let (objects, faults) = parse(name, text);
    // Reading twice is half of the work: some texts are enough to see that no order is left to chance.
    if text.len().is_multiple_of(8) {
        let again = parse(name, text);
        assert_eq!(objects, again.0);
        let lines =
            |faults: &[ambit_cluster::Fault]| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(lines(&faults), lines(&again.1));
    }
    Corpus::Keep
});
