//! What the condition [`ENROLLED`] on a pod says: whether the pod is proven to be in the mesh. Pure; writing it is
//! `notes`', when it is written `enrol`'s and `keeper`'s.
//!
//! Beside the annotation, not in its place: peers and upstream's parts go by the annotation, which says whether tunnels
//! may be sent. The condition says why not, and since when.

use std::time::SystemTime;

use ambit_cluster::api::stamp;
use ambit_cluster::kinds::core::{ENROLLED, Enrolled};
use serde_json::{Value, json};

use crate::node::enrol::EnrolError;
use crate::node::link::{CarryError, chain};

/// What is known of a pod that should be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Listeners, certificate and rules were there when they were looked for.
    Proven,
    /// It is redirected and carried, and its certificate is about to come.
    Awaited,
    /// It is redirected and carried, and has no certificate.
    NoCertificate,
    /// It was in, and is redirected still; whether it is carried cannot be seen.
    Unattended(String),
    /// It is not in.
    Out(&'static str, String),
}

impl Standing {
    /// Of a pod that could not be taken in.
    pub(crate) fn of(error: &EnrolError) -> Self {
        let reason = match error {
            EnrolError::Carry(CarryError::NoProxy) => "ZtunnelNotConnected",
            EnrolError::Carry(CarryError::Refused(_)) => "ZtunnelRefused",
            EnrolError::Carry(_) => "ZtunnelSilent",
            EnrolError::NoCertificate => "CertificateMissing",
            EnrolError::Netns(_)
            | EnrolError::NodesOwn(_)
            | EnrolError::Replaced(_)
            | EnrolError::NoSandbox => "SandboxNotFound",
            EnrolError::Rules(_) | EnrolError::Probes(_) | EnrolError::Stuck => "RedirectionFailed",
            EnrolError::Annotation(_) => "NotAnnotated",
        };
        Self::Out(reason, chain(error))
    }

    fn status(&self) -> &'static str {
        match self {
            Self::Proven => "True",
            Self::NoCertificate | Self::Out(..) => "False",
            Self::Awaited | Self::Unattended(_) => "Unknown",
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Proven => "Enrolled",
            Self::Awaited => "CertificateAwaited",
            Self::NoCertificate => "CertificateMissing",
            Self::Unattended(_) => "ZtunnelNotConnected",
            Self::Out(reason, _) => reason,
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Proven => "listeners, certificate and rules are in place",
            Self::Awaited => "in the mesh, and its certificate is asked for",
            Self::NoCertificate => "in the mesh, but without a certificate: nobody gets in or out",
            Self::Unattended(why) | Self::Out(_, why) => why,
        }
    }

    /// Whether a pod's condition says this already, whatever its words.
    pub(crate) fn is_told_by(&self, told: Option<&Enrolled>) -> bool {
        told.is_some_and(|it| (&*it.status, &*it.reason) == (self.status(), self.reason()))
    }

    /// The condition, after the one that was told.
    pub(crate) fn told(&self, before: Option<&Enrolled>, now: SystemTime) -> Enrolled {
        let same = before.filter(|it| *it.status == *self.status() && !it.since.is_empty());
        let since = same.map_or_else(|| stamp(now).into(), |it| it.since.clone());
        Enrolled { status: self.status().into(), reason: self.reason().into(), since }
    }

    /// The same, as an entry of the pod's conditions.
    pub(crate) fn entry(&self, before: Option<&Enrolled>, now: SystemTime) -> Value {
        let Enrolled { status, reason, since } = self.told(before, now);
        json!({
            "type": ENROLLED, "status": status, "reason": reason, "message": self.message(),
            "lastTransitionTime": since,
        })
    }
}

/// The entry that takes the condition off a pod.
pub(crate) fn no_entry() -> Value {
    json!({ "$patch": "delete", "type": ENROLLED })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_time_of_a_condition_is_that_of_its_status_not_of_its_reason() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let out = Standing::of(&EnrolError::Carry(CarryError::NoProxy));
        let first = out.told(None, at(0));
        assert_eq!((&*first.status, &*first.reason), ("False", "ZtunnelNotConnected"));
        assert_eq!(&*first.since, "1970-01-01T00:00:00Z");
        assert!(out.is_told_by(Some(&first)) && !out.is_told_by(None));
        let other = Standing::of(&EnrolError::NoSandbox);
        assert!(!other.is_told_by(Some(&first)));
        let second = other.told(Some(&first), at(60));
        assert_eq!((&*second.reason, &second.since), ("SandboxNotFound", &first.since));
        let third = Standing::Proven.told(Some(&second), at(3600));
        assert_eq!((&*third.status, &*third.since), ("True", "1970-01-01T01:00:00Z"));
        let entry = Standing::Proven.entry(Some(&third), at(7200));
        assert_eq!(entry["lastTransitionTime"], "1970-01-01T01:00:00Z");
        assert_eq!(entry["type"], "ambit.io/Enrolled");
    }

    #[test]
    fn only_what_is_proven_is_true_and_what_cannot_be_seen_is_not_said_to_be_false() {
        for (standing, status) in [
            (Standing::Proven, "True"),
            (Standing::Awaited, "Unknown"),
            (Standing::NoCertificate, "False"),
            (Standing::Unattended("x".into()), "Unknown"),
            (Standing::of(&EnrolError::Stuck), "False"),
        ] {
            assert_eq!(standing.status(), status, "{standing:?}");
        }
    }
}
