//! Settings of upstream's that this version does not have. Owns refusing them, with what to do instead: a setting
//! that is ignored in silence, such as one that asks for more protection, is worse than a program that does not
//! start.

use ambit_process::config::{Faults, Source};

/// What would have to be set for upstream to behave differently from us.
#[derive(Clone, Copy)]
enum Asks {
    /// Any value.
    Anything,
    /// This flag; the other one is what we do anyway.
    For(bool),
}

const NO_DNS: &str = "names are not answered in pods by this version";

const ALL: [(&str, Asks, &str); 7] = [
    ("XDS_ON_DEMAND", Asks::For(true), "everything is subscribed to in this version"),
    (
        "UNSTABLE_ENABLE_SOCKS5",
        Asks::For(true),
        "there is no SOCKS5 front end in this version; use redirection",
    ),
    ("FAKE_CA", Asks::For(true), "set IDENTITY_DIR to a directory with certificates instead"),
    (
        "ENABLE_PROXY",
        Asks::For(false),
        "names are not answered in pods either, so nothing would be left to do",
    ),
    ("ISTIO_META_DNS_CAPTURE", Asks::For(true), NO_DNS),
    ("ISTIO_META_DNS_PROXY_ADDR", Asks::Anything, NO_DNS),
    ("PREFERED_SERVICE_NAMESPACE", Asks::Anything, NO_DNS),
];

pub(super) fn refuse(source: &dyn Source, faults: &mut Faults) {
    for (name, asks, why) in ALL {
        let Some(value) = source.value(name).filter(|value| !value.is_empty()) else { continue };
        match (asks, value.parse::<bool>()) {
            (Asks::For(asked), Ok(given)) if given != asked => {}
            (Asks::For(_), Err(_)) => faults.add(name, value, "write true or false"),
            (Asks::For(_), Ok(_)) | (Asks::Anything, _) => {
                faults.add(name, value, format!("{why}; leave it out"));
            }
        }
    }
}
