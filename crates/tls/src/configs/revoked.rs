//! Certificates that no longer count although they have not expired: revocation lists from a file, in force for
//! every handshake from the moment they were read (`ztunnel.md` 7.6), and for tunnels that are open then. Owns the
//! file, its re-reading and the check; the end of a tunnel is its owner's.
//! A list that cannot be understood ends the program at the start, and later leaves the last good one in force.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, UnixTime,
};
use rustls::{CertificateError, Error, OtherError, RootCertStore};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

mod standing;

pub use standing::Standing;
use standing::{Live, Shown};

/// How soon a change is seen.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// A million revoked certificates take about this much.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Chains that are looked at again before others have their turn.
const CHECKS_AT_ONCE: usize = 8;
/// One list for each authority that a mesh believes.
const LISTS_MAX: usize = 256;

/// Why lists do not count.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The file does not read.
    #[error("revocation lists do not read from {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than is accepted.
    #[error("{path} is larger than {FILE_BYTES_MAX} bytes")]
    Large {
        /// The file.
        path: PathBuf,
    },
    /// The text is no PEM.
    #[error("{path} is no readable PEM; give X509 CRL blocks, or one list in DER")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: rustls::pki_types::pem::Error,
    },
    /// PEM without a list in it.
    #[error("{path} holds PEM but no X509 CRL block; an empty file revokes nothing")]
    Nothing {
        /// The file.
        path: PathBuf,
    },
    /// More lists than are accepted.
    #[error("{path} holds more than {LISTS_MAX} lists")]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// A list that cannot be understood.
    #[error("a revocation list in {path} cannot be understood")]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: webpki::Error,
    },
}

/// Which end refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// We dialled, and the server's certificate was revoked.
    Client,
    /// We accepted, and the client's certificate was revoked.
    Server,
}

/// Lists as they are now. Clones share them.
#[derive(Clone)]
pub struct Revocations(Arc<Inner>);

struct Inner {
    path: PathBuf,
    lists: ArcSwap<Vec<CertRevocationList<'static>>>,
    refused_as_client: AtomicU64,
    refused_as_server: AtomicU64,
    /// Counted up with each change of the lists.
    changes: AtomicU64,
    live: Mutex<Live>,
}

/// Which lists a handshake was checked with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen(u64);

/// A file as a poll sees it: changed when any of these differs.
type Look = Option<(SystemTime, u64, u64)>;

impl Revocations {
    /// Reads the lists. A file that is not there yet may come: until then nothing is revoked.
    ///
    /// # Errors
    /// [`RevocationError`] when there is a file, but not one of lists.
    pub fn open(path: PathBuf) -> Result<Self, RevocationError> {
        let lists = ArcSwap::from_pointee(read(&path)?);
        let counts = || AtomicU64::new(0);
        let (refused_as_client, refused_as_server, changes) = (counts(), counts(), counts());
        let live = Mutex::default();
        Ok(Self(Arc::new(Inner { path, lists, refused_as_client, refused_as_server, changes, live })))
    }

    /// Reads the lists again whenever the file changes, for ever.
    pub async fn follow(&self) {
        // Whatever was there at the start is read once more: it may have changed since.
        let mut before: Look = None;
        loop {
            let now = look(&self.0.path);
            if now != before {
                before = now;
                if self.read_again() {
                    self.check_again().await;
                }
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Where the lists come from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// How many lists are in force.
    #[must_use]
    pub fn lists(&self) -> usize {
        self.0.lists.load().len()
    }

    /// Handshakes that a list ended: as the client, as the server.
    #[must_use]
    pub fn refused(&self) -> (u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.0.refused_as_client), of(&self.0.refused_as_server))
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen(self.0.changes.load(Ordering::Acquire))
    }

    /// Follows a chain that has just held, until what is returned is dropped.
    pub(crate) fn follow_chain(
        &self,
        chain: Vec<CertificateDer<'static>>,
        (anchors, algorithms): (Arc<RootCertStore>, &'static [&'static dyn SignatureVerificationAlgorithm]),
        (end, seen): (End, Seen),
    ) -> Standing {
        let shown = Arc::new(Shown::new(chain, (anchors, algorithms), end));
        self.live().enter(&shown);
        // From here on a change finds it; one that came while hands were shaken has not.
        if self.seen() != seen {
            shown.check(self);
        }
        Standing::of(shown)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what the lists of now no longer let be.
    async fn check_again(&self) {
        let all = self.live().all();
        let mut ended = 0_usize;
        for (at, shown) in all.iter().filter_map(Weak::upgrade).enumerate() {
            ended += usize::from(shown.check(self));
            // A check costs a few signatures: others on this thread have their turn in between.
            if at % CHECKS_AT_ONCE == CHECKS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        if ended > 0 {
            tracing::info!(tunnels = ended, "open tunnels end: their peers' certificates were revoked");
        }
    }

    /// Whether other lists are in force.
    fn read_again(&self) -> bool {
        match read(&self.0.path) {
            Ok(lists) => {
                tracing::info!(lists = lists.len(), path = %self.0.path.display(), "revocation lists are in force");
                self.0.lists.store(Arc::new(lists));
                self.0.changes.fetch_add(1, Ordering::AcqRel);
                true
            }
            Err(error) => {
                let why = &error as &dyn std::error::Error;
                tracing::error!(error = why, "new revocation lists do not count, the old ones stay in force");
                false
            }
        }
    }

    /// Whether a chain that holds otherwise is free of revoked certificates, the roots' own issuers included as far
    /// as lists know them.
    pub(crate) fn check(&self, chain: &Chain<'_>, end: End, now: UnixTime) -> Result<(), Error> {
        let lists = self.0.lists.load();
        let outcome = revoked(chain, end, now, &lists);
        if outcome.is_err() {
            let count = match end {
                End::Client => &self.0.refused_as_client,
                End::Server => &self.0.refused_as_server,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("path", &self.0.path).field("lists", &self.lists()).finish()
    }
}

/// What a peer showed, and whom we believe.
pub(crate) struct Chain<'a> {
    pub(crate) leaf: &'a CertificateDer<'a>,
    pub(crate) intermediates: &'a [CertificateDer<'a>],
    pub(crate) anchors: &'a RootCertStore,
    pub(crate) algorithms: &'a [&'a dyn SignatureVerificationAlgorithm],
}

fn revoked(
    chain: &Chain<'_>,
    end: End,
    now: UnixTime,
    lists: &[CertRevocationList<'static>],
) -> Result<(), Error> {
    let lists: Vec<_> = lists.iter().collect();
    // Fails for an empty list of lists only: nothing is revoked.
    let Ok(options) = RevocationOptionsBuilder::new(&lists) else { return Ok(()) };
    let options = options
        .with_depth(RevocationCheckDepth::Chain)
        // Lists of other authorities say nothing about this chain, and an authority may have none.
        .with_status_policy(UnknownStatusPolicy::Allow)
        // What was revoked stays revoked, also while a new list is late.
        .with_expiration_policy(ExpirationPolicy::Ignore)
        .build();
    let usage = match end {
        End::Client => KeyUsage::server_auth(),
        End::Server => KeyUsage::client_auth(),
    };
    let leaf = EndEntityCert::try_from(chain.leaf).map_err(refuse)?;
    let anchors = &chain.anchors.roots;
    leaf.verify_for_usage(chain.algorithms, anchors, chain.intermediates, now, usage, Some(options), None)
        .map(drop)
        .map_err(refuse)
}

/// The chain was found to hold before: what fails now is for the lists, and a list that cannot be applied to it is
/// no reason to let it pass.
fn refuse(error: webpki::Error) -> Error {
    match error {
        webpki::Error::CertRevoked => CertificateError::Revoked.into(),
        other => CertificateError::Other(OtherError(Arc::new(other))).into(),
    }
}

fn look(path: &Path) -> Look {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

fn read(path: &Path) -> Result<Vec<CertRevocationList<'static>>, RevocationError> {
    let mut bytes = Vec::new();
    let mut open = || -> io::Result<usize> {
        std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    };
    match open() {
        Ok(_) => parse(path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(RevocationError::File { path: path.into(), source }),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<CertRevocationList<'static>>, RevocationError> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(RevocationError::Large { path: path.into() });
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    // X.690, 8.9.1: a list is a sequence, and no text begins like one.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![list(path, bytes)?]);
    }
    let mut lists = Vec::new();
    for block in CertificateRevocationListDer::pem_slice_iter(bytes) {
        if lists.len() == LISTS_MAX {
            return Err(RevocationError::TooMany { path: path.into() });
        }
        let block = block.map_err(|source| RevocationError::Pem { path: path.into(), source })?;
        lists.push(list(path, &block)?);
    }
    if lists.is_empty() { Err(RevocationError::Nothing { path: path.into() }) } else { Ok(lists) }
}

fn list(path: &Path, der: &[u8]) -> Result<CertRevocationList<'static>, RevocationError> {
    let list = OwnedCertRevocationList::from_der(der);
    list.map(Into::into).map_err(|source| RevocationError::List { path: path.into(), source })
}

#[cfg(test)]
mod tests;
