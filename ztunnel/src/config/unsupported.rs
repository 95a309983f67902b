//! Settings of upstream's that this version does not have. Owns refusing them: a setting that is ignored in
//! silence, such as a revocation list, is worse than a program that does not start.

use ambit_process::config::{Faults, Source};

/// What would have to be set for upstream to behave differently from us.
enum Asks {
    /// Any value.
    Anything,
    /// This value; others are what we do anyway.
    For(&'static str),
}

const ALL: [(&str, Asks); 8] = [
    ("CRL_PATH", Asks::Anything),
    ("COMPLIANCE_POLICY", Asks::Anything),
    ("TLS12_ENABLED", Asks::For("true")),
    ("XDS_ON_DEMAND", Asks::For("true")),
    ("UNSTABLE_ENABLE_SOCKS5", Asks::For("true")),
    ("FAKE_CA", Asks::For("true")),
    ("ENABLE_PROXY", Asks::For("false")),
    ("PROXY_CONFIG", Asks::Anything),
];

pub(super) fn refuse(source: &dyn Source, faults: &mut Faults) {
    for (name, asks) in &ALL {
        let Some(value) = source.value(name).filter(|value| !value.is_empty()) else { continue };
        let asked = match asks {
            Asks::Anything => true,
            Asks::For(wanted) => value == *wanted,
        };
        if asked {
            faults.add(*name, value, "not supported by this version; leave it out");
        }
    }
}
