//! Which key signs, which roots are believed, and when that changes: pure, with time as an argument.
//!
//! A new root is announced first: it is believed by whoever gets an answer from then on, while the former key still
//! signs. Only when everybody who holds a certificate has had to fetch an answer since does the new key sign. The
//! former root stays believed until the last certificate that it signed has ended.
//! Owns that order. Where keys come from is `root`'s and `plugged`'s, when time is looked at is `keeper`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ambit_model::name::Identity;

use super::cert::{Cert, bundle};
use super::sign::{DEFAULT_LIFETIME, SignError, lifetime};
use super::signer::Signer;

/// The longest lifetime that was ever given: whoever asked before an announcement renews within it.
#[derive(Debug, Clone)]
pub struct Longest(Arc<AtomicU64>);

impl Longest {
    /// At least the default.
    #[must_use]
    pub fn new(seconds: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seconds.max(DEFAULT_LIFETIME.as_secs()))))
    }

    /// The longest so far.
    #[must_use]
    pub fn get(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn given(&self, lifetime: Duration) {
        self.0.fetch_max(lifetime.as_secs(), Ordering::Relaxed);
    }
}

/// A root that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// The root.
    pub cert: Cert,
    /// Since when answers hold it.
    pub since: SystemTime,
    /// When it is dropped; none while something signs under it.
    pub until: Option<SystemTime>,
}

/// Material that waits to take over.
#[derive(Debug, Clone)]
pub struct Next {
    /// The material.
    pub signer: Arc<Signer>,
    /// When it takes over.
    pub at: SystemTime,
    /// Its certificate signed by the key before it, and what proves that one: who believes only the former root
    /// believes it by these.
    pub bridges: Vec<Cert>,
}

/// The state of rotation.
#[derive(Debug, Clone)]
pub struct Rotation {
    overlap: Duration,
    longest: Longest,
    current: Arc<Signer>,
    next: Option<Next>,
    believed: Vec<Believed>,
    bridges: Vec<Cert>,
}

/// What certificates are signed with at one moment, and what they are sent with.
#[derive(Debug, Clone)]
pub struct Signing {
    signer: Arc<Signer>,
    longest: Longest,
    bridges: Vec<Cert>,
    roots: String,
}

impl Rotation {
    /// Rotation that begins with `current`, knowing which roots were believed before and by which bridges.
    #[must_use]
    pub fn new(
        current: Arc<Signer>,
        (believed, bridges): (Vec<Believed>, Vec<Cert>),
        (overlap, longest): (Duration, Longest),
        now: SystemTime,
    ) -> Self {
        let mut this = Self { overlap, longest, current, next: None, believed, bridges };
        if this.believed.is_empty() {
            // Nothing was told to anybody before: nobody believes anything else.
            let cert =
                |cert: &Cert| Believed { cert: cert.clone(), since: SystemTime::UNIX_EPOCH, until: None };
            this.believed = this.current.roots().iter().map(cert).collect();
        }
        this.settle(now);
        this
    }

    /// What signs now.
    #[must_use]
    pub fn current(&self) -> &Arc<Signer> {
        &self.current
    }

    /// What waits.
    #[must_use]
    pub fn next(&self) -> Option<&Next> {
        self.next.as_ref()
    }

    /// The roots, with since and until when.
    #[must_use]
    pub fn believed(&self) -> &[Believed] {
        &self.believed
    }

    /// Former keys' signatures on the present one.
    #[must_use]
    pub fn bridges(&self) -> &[Cert] {
        &self.bridges
    }

    /// The longest lifetime given.
    #[must_use]
    pub fn longest(&self) -> &Longest {
        &self.longest
    }

    /// The moment as it is for those who sign.
    #[must_use]
    pub fn signing(&self) -> Signing {
        Signing {
            signer: Arc::clone(&self.current),
            longest: self.longest.clone(),
            bridges: self.bridges.clone(),
            roots: bundle(self.believed.iter().map(|it| &it.cert)),
        }
    }

    /// Takes new material: at once when everybody believes its root already, else after the overlap. What is the
    /// same as before changes nothing.
    pub fn offer(&mut self, signer: Arc<Signer>, bridges: Vec<Cert>, now: SystemTime) {
        if self.current.is_same(&signer) {
            self.next = None;
        } else if self.next.as_ref().is_none_or(|next| !next.signer.is_same(&signer)) {
            let root = signer.anchor();
            let since = self.believed.iter().find(|it| it.cert == *root).map_or(now, |it| it.since);
            let all_told = since + self.overlap.max(self.longest.get());
            // What ends soon must hand over while what it signs still lives for a while.
            let left = self.current.not_after().duration_since(now).unwrap_or_default();
            self.next = Some(Next { signer, at: all_told.min(now + left / 2), bridges });
        }
        self.settle(now);
        self.step(now);
    }

    /// Takes back what waits.
    pub fn withdraw(&mut self, now: SystemTime) {
        self.next = None;
        self.settle(now);
    }

    /// Takes up material that waited already when the program ended.
    pub fn resume(&mut self, next: Next, now: SystemTime) {
        self.next = Some(next);
        self.settle(now);
        self.step(now);
    }

    /// What time alone brings: the next key takes over, a former root is dropped. True when something changed.
    pub fn step(&mut self, now: SystemTime) -> bool {
        let takes_over = self.next.take_if(|next| now >= next.at);
        let changed = takes_over.is_some();
        if let Some(next) = takes_over {
            if next.signer.anchor() != self.current.anchor() {
                self.bridges = next.bridges;
            }
            self.current = next.signer;
        }
        self.settle(now) || changed
    }

    /// Brings the roots into line with what signs now and next. True when that changed them.
    fn settle(&mut self, now: SystemTime) -> bool {
        let before = (self.believed.clone(), self.bridges.len());
        let wanted: Vec<Cert> = {
            let next = self.next.iter().flat_map(|next| next.signer.roots());
            self.current.roots().iter().chain(next).cloned().collect()
        };
        for cert in &wanted {
            match self.believed.iter_mut().find(|it| it.cert == *cert) {
                Some(known) => known.until = None,
                None => self.believed.push(Believed { cert: cert.clone(), since: now, until: None }),
            }
        }
        for former in self.believed.iter_mut().filter(|it| !wanted.contains(&it.cert)) {
            let until = (now + self.longest.get()).min(former.cert.validity().1);
            former.until.get_or_insert(until);
        }
        self.believed.retain(|it| it.until.is_none_or(|until| now < until));
        self.bridges = of_use(&self.bridges, &self.believed);
        (&before.0, before.1) != (&self.believed, self.bridges.len())
    }
}

impl Signing {
    /// Signs the key of a request for an identity: the leaf, what proves it, and all roots that are believed.
    ///
    /// # Errors
    /// When the request or the lifetime is not acceptable.
    pub fn answer(
        &self,
        csr: &str,
        who: &Identity,
        seconds: i64,
        now: SystemTime,
    ) -> Result<Vec<String>, SignError> {
        let leaf = self.signer.sign(csr, who, seconds, now)?;
        self.longest.given(lifetime(seconds)?);
        let mut answer = vec![leaf];
        answer.extend(self.above().map(Cert::pem));
        answer.push(self.roots.clone());
        Ok(answer)
    }

    /// The chain and key of a certificate for the control plane's own names.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn serving(
        &self,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(String, String), SignError> {
        let (leaf, key) = self.signer.serving(names, lifetime, now)?;
        Ok((leaf + &bundle(self.above()), key))
    }

    /// All roots that are believed, as PEM.
    #[must_use]
    pub fn roots_pem(&self) -> &str {
        &self.roots
    }

    /// Who signs.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    fn above(&self) -> impl Iterator<Item = &Cert> {
        self.signer.above().iter().chain(&self.bridges)
    }
}

/// A bridge is of use to those who believe who signed it, be it by another bridge.
fn of_use(bridges: &[Cert], believed: &[Believed]) -> Vec<Cert> {
    let mut proved: Vec<Cert> = believed.iter().map(|it| it.cert.clone()).collect();
    for _ in bridges {
        let more = bridges.iter().filter(|bridge| !proved.contains(bridge));
        let more: Vec<_> = more.filter(|it| proved.iter().any(|by| it.is_signed_by(by))).cloned().collect();
        proved.extend(more);
    }
    bridges.iter().filter(|bridge| proved.contains(bridge)).cloned().collect()
}

#[cfg(test)]
pub(crate) mod tests;
