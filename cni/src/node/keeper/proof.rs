//! Whether a pod's certificate was there when it was last asked for. Pure; asking is `enrol`'s.

use std::time::Duration;

/// How soon one that is missing is asked for again: at the beginning of each pod it is, for a moment.
pub(super) const PROOF_PAUSE: Duration = Duration::from_millis(500);

/// Asked so often without success, it is time to tell people; 10 s.
const TOLD_AFTER: u32 = 20;

/// What is known of a certificate.
#[derive(Debug, Default)]
pub(super) struct Proof {
    missed: u32,
}

impl Proof {
    /// It was looked for; whether it is time to tell people that it is missing.
    pub(super) fn note(&mut self, is_there: bool) -> bool {
        self.missed = if is_there { 0 } else { self.missed.saturating_add(1) };
        self.missed == TOLD_AFTER
    }

    pub(super) fn is_there(&self) -> bool {
        self.missed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_certificate_is_told_of_once_until_it_came() {
        let mut proof = Proof::default();
        let told: Vec<_> = (0..100).map(|_| proof.note(false)).collect();
        assert_eq!(told.iter().filter(|it| **it).count(), 1);
        assert!(!told[0] && !proof.is_there());
        assert!(!proof.note(true) && proof.is_there());
        assert!(!proof.note(false), "a moment without is nothing to tell");
    }
}
