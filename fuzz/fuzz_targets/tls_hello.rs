//! The beginning of a connection that may be TLS, from arbitrary bytes: a byte says how much of it comes first. What has been
//! read of the first part is not taken back by the rest, and who is asked for has a server's name in small letters.
#![no_main]

use ambit_model::tls_hello::{Hello, LONGEST, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((share, bytes)) = data.split_first() else { return };
    let first = &bytes[..bytes.len() * usize::from(*share) / 256];
    let (before, after) = (read(first), read(bytes));
    match &after {
        Hello::Partial => assert!(bytes.len() < LONGEST, "nothing is waited for without an end"),
        Hello::Tls(Some(name)) => {
            let is_fine = |it: u8| it.is_ascii_graphic() && !it.is_ascii_uppercase();
            assert!(!name.is_empty() && name.bytes().all(is_fine), "{name:?}");
        }
        Hello::Tls(None) | Hello::Other => {}
    }
    if before != Hello::Partial {
        assert_eq!(before, after, "no byte more takes it back");
    }
});
