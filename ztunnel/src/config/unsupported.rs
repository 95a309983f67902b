//! Settings of upstream's that this version does not have. Owns refusing them, with what to do instead: a setting
//! that is ignored in silence, such as one that asks for more protection, is worse than a program that does not
//! start.

use ambit_process::config::{Faults, Source};

/// Flags that may be false, which is what we do anyway.
const ALL: [(&str, &str); 3] = [
    ("XDS_ON_DEMAND", "everything is subscribed to in this version"),
    ("UNSTABLE_ENABLE_SOCKS5", "there is no SOCKS5 front end in this version; use redirection"),
    ("FAKE_CA", "set IDENTITY_DIR to a directory with certificates instead"),
];

pub(super) fn refuse(source: &dyn Source, faults: &mut Faults) {
    for (name, why) in ALL {
        let Some(value) = source.value(name).filter(|value| !value.is_empty()) else { continue };
        match value.parse() {
            Ok(false) => {}
            Ok(true) => faults.add(name, value, format!("{why}; leave it out")),
            Err(_) => faults.add(name, value, "write true or false"),
        }
    }
}
