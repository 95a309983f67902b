//! The API server: its version, and what it lets this account do.

use super::facts::Facts;
use super::{Finding, few};

/// The oldest minor version of Kubernetes 1 that the charts are for.
const OLDEST: u32 = 29;

pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    vec![version(&facts.version), rights(facts)]
}

fn version(said: &str) -> Finding {
    let check = "Kubernetes";
    match numbers(said) {
        Some((major, minor)) if (major, minor) < (1, OLDEST) => {
            Finding::failed(check, said, format!("upgrade the cluster to 1.{OLDEST} or newer"))
        }
        Some(_) => Finding::ok(check, said),
        None => {
            Finding::warning(check, format!("version {said:?} does not read"), "see that it is 1.29 or newer")
        }
    }
}

/// The first two numbers of a version such as `v1.34.4` or `6.18.5-amd64`.
pub(crate) fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn rights(facts: &Facts) -> Finding {
    let check = "rights to install";
    if facts.missing_rights.is_empty() {
        return Finding::ok(check, "all that an installation needs");
    }
    let found = format!("this account may not: {}", few(&facts.missing_rights));
    Finding::failed(
        check,
        found,
        "use an account with the role cluster-admin, or have these rights granted to it",
    )
}
