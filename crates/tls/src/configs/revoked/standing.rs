//! Chains that live tunnels' peers have shown: looked at again when lists change, as of the moment when they were shown.
//! Owns the table of them and the word that a tunnel waits for.

use std::sync::{Arc, Weak};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use tokio::sync::watch;

use super::{Chain, End, Revocations};

/// Fewer than these are not worth clearing up.
const FEW: usize = 64;

/// Whether a peer's certificate still counts, for as long as this is held.
#[derive(Clone, Default)]
pub struct Standing(Option<Arc<Shown>>);

impl Standing {
    pub(super) fn of(shown: Arc<Shown>) -> Self {
        Self(Some(shown))
    }

    /// Returns once the certificate, or one above it, is revoked. Cancel-safe.
    pub async fn revoked(&self) {
        match &self.0 {
            Some(shown) => {
                // The sender is held here: it is not gone before it has spoken.
                let _ = shown.revoked.subscribe().wait_for(|revoked| *revoked).await;
            }
            None => std::future::pending().await,
        }
    }
}

/// A chain, and all that is needed to look at it again.
pub(super) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    anchors: Arc<RootCertStore>,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    end: End,
    at: UnixTime,
    revoked: watch::Sender<bool>,
}

impl Shown {
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        (anchors, algorithms): (Arc<RootCertStore>, &'static [&'static dyn SignatureVerificationAlgorithm]),
        end: End,
    ) -> Self {
        Self { chain, anchors, algorithms, end, at: UnixTime::now(), revoked: watch::Sender::default() }
    }

    /// Whether it is revoked now and was not before.
    pub(super) fn check(&self, by: &Revocations) -> bool {
        let Some((leaf, intermediates)) = self.chain.split_first() else { return false };
        if *self.revoked.borrow() {
            return false;
        }
        let chain = Chain { leaf, intermediates, anchors: &self.anchors, algorithms: self.algorithms };
        // As of then: a certificate that has ended since is no reason to end what was begun in time.
        let revoked = by.check(&chain, self.end, self.at).is_err();
        if revoked {
            self.revoked.send_replace(true);
        }
        revoked
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Live {
    all: Vec<Weak<Shown>>,
    clear_at: usize,
}

impl Live {
    pub(super) fn enter(&mut self, shown: &Arc<Shown>) {
        if self.all.len() >= self.clear_at {
            self.all.retain(|it| it.strong_count() > 0);
            // Clearing costs no more than entering did.
            self.clear_at = (self.all.len() * 2).max(FEW);
        }
        self.all.push(Arc::downgrade(shown));
    }

    pub(super) fn all(&self) -> Vec<Weak<Shown>> {
        self.all.clone()
    }
}
