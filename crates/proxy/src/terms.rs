//! How peers must prove themselves: algorithms, revocation lists (`ztunnel.md` 2.1, 7.6), names of the trust domain.
//! Owns those settings only.

use std::path::PathBuf;
use std::sync::Arc;

use ambit_model::name::TrustDomain;
use ambit_process::config::{Faults, Key, Source, flag, path};
use ambit_process::tasks::Tasks;
use ambit_tls::configs::{Algorithms, Revocations};
use ambit_tls::credential::Terms;
use tracing::info;

use crate::fault::chain;

const POLICY: Key<bool> = Key::new(
    "COMPLIANCE_POLICY",
    "pqc: key exchange of tunnels and with the control plane withstands quantum computers, or does not happen",
    post_quantum,
    || false,
);
const TLS12: Key<bool> =
    Key::new("TLS12_ENABLED", "speak TLS 1.2 in tunnels with peers that have nothing newer", flag, || false);
const LISTS: Key<Option<PathBuf>> = Key::new(
    "CRL_PATH",
    "a file with revocation lists, re-read when it changes; open tunnels of the revoked end",
    |text| if text.is_empty() { Ok(None) } else { path(text).map(Some) },
    || None,
);
const ALIASES: Key<Arc<[TrustDomain]>> = Key::new(
    "TRUST_DOMAIN_ALIASES",
    "comma separated; peers of these trust domains count as those of our own, as in a mesh that changes its name",
    trust_domains,
    || Arc::from([]),
);

/// Reads them; what is wrong goes to `f`.
#[must_use]
pub fn read(source: &dyn Source, f: &mut Faults) -> Terms {
    let algorithms = match (POLICY.read(source, f), TLS12.read(source, f)) {
        (false, false) => Algorithms::Usual,
        (false, true) => Algorithms::WithTls12,
        (true, older) => {
            if older {
                f.add(
                    TLS12.name,
                    "true",
                    "TLS 1.2 knows no key exchange of COMPLIANCE_POLICY=pqc; leave one out",
                );
            }
            Algorithms::PostQuantumOnly
        }
    };
    let revoked = revocations(LISTS.read(source, f), f);
    Terms { aliases: ALIASES.read(source, f), algorithms, revoked }
}

fn revocations(path: Option<PathBuf>, f: &mut Faults) -> Option<Revocations> {
    let path = path?;
    match Revocations::open(path.clone()) {
        Ok(lists) => Some(lists),
        Err(error) => {
            f.add(LISTS.name, path.display().to_string(), chain(&error));
            None
        }
    }
}

fn trust_domains(given: &str) -> Result<Arc<[TrustDomain]>, String> {
    let names = given.split(',').map(str::trim).filter(|name| !name.is_empty());
    let read = |name: &str| name.parse().map_err(|_| format!("{name} is no trust domain"));
    names.map(read).collect()
}

fn post_quantum(given: &str) -> Result<bool, String> {
    match given {
        "" => Ok(false),
        "pqc" => Ok(true),
        _ => Err("this version knows pqc only; leave it out for the usual algorithms".into()),
    }
}

/// Re-reads the revocation lists as they change.
pub fn follow_revocations(terms: &Terms, tasks: &mut Tasks) {
    let Some(lists) = terms.revoked.clone() else { return };
    info!(lists = lists.lists(), path = %lists.path().display(), "certificates may be revoked");
    tasks.spawn("revocations", move |stop| async move {
        tokio::select! {
            () = stop.stopped() => {}
            () = lists.follow() => {}
        }
    });
}
