//! The self-signed root: made once, kept in the state folder, succeeded by another in time.
//! Owns how a root is made and which files hold it. The order of a succession is `rotation`'s.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_model::name::TrustDomain;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::cert::{Cert, bundle};
use super::rotation::{Next, Rotation};
use super::sign::SKEW;
use super::signer::{Maker, MaterialError, Names, Pems, Signer};
use super::state::{BRIDGE, CERTIFICATE, GIVEN, KEY, NEXT_CERTIFICATE, NEXT_KEY, ROOTS, State, StateError};

/// A root with less than a fifth of its life left is succeeded.
const LEFT_AT_SUCCESSION: u32 = 5;

const NAMES: Names =
    Names { certificate: CERTIFICATE, key: KEY, roots: CERTIFICATE, chain: CERTIFICATE, maker: Maker::Own };

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// One file of the two is missing.
    #[error("{} is there but {} is not; restore it, or remove the other to start a new mesh", there.display(), missing.display())]
    Half {
        /// The file that is there.
        there: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// The files are not what they should be.
    #[error("{}: {wrong}; restore the files, or remove them to start a new mesh", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What is wrong.
        wrong: MaterialError,
    },
    /// Making it failed.
    #[error("the root certificate could not be made")]
    Make(#[source] rcgen::Error),
}

/// How roots are made.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The trust domain, which is their name.
    pub domain: TrustDomain,
    /// How long they live.
    pub lifetime: Duration,
    /// How long a root is announced before its key signs, at least.
    pub overlap: Duration,
}

impl Recipe {
    /// As upstream's: ten years; and two days for everybody to hear of a new one.
    #[must_use]
    pub fn new(domain: TrustDomain) -> Self {
        let day = 24 * 3600;
        Self { domain, lifetime: Duration::from_secs(3650 * day), overlap: Duration::from_secs(2 * day) }
    }
}

/// Opens the root in a folder, or makes one there.
///
/// # Errors
/// When the files cannot be read or written, are not a pair, or others may read the key.
pub fn open(state: &State, recipe: &Recipe, now: SystemTime) -> Result<Rotation, RootError> {
    let rotation = resumed(state, recipe, current(state, recipe, now)?, now)?;
    save(state, &rotation)?;
    Ok(rotation)
}

/// Whether there is anything of a root of our own.
///
/// # Errors
/// When the file system refuses.
pub fn is_there(state: &State) -> Result<bool, RootError> {
    Ok(state.read(KEY)?.is_some() || state.read(CERTIFICATE)?.is_some())
}

/// The root of our own that signs; made if there is none.
fn current(state: &State, recipe: &Recipe, now: SystemTime) -> Result<Arc<Signer>, RootError> {
    let key = state.read(KEY)?;
    // Before there were successions the root was its own bundle.
    let certificate = match state.read(CERTIFICATE)? {
        None if !state.remembers()? => state.read(ROOTS)?,
        there => there,
    };
    let (key, certificate) = match (key, certificate) {
        (Some(key), Some(certificate)) => (key, certificate),
        (Some(_), None) => return Err(half(state, KEY, CERTIFICATE)),
        (None, Some(_)) => return Err(half(state, CERTIFICATE, KEY)),
        (None, None) => {
            let (pair, certificate) = make(recipe, now)?;
            state.write(KEY, &pair.serialize_pem())?;
            state.write(CERTIFICATE, &certificate.pem())?;
            (pair.serialize_pem(), certificate.pem())
        }
    };
    let waiting = state.read(NEXT_CERTIFICATE)?;
    // The key file is moved first: one that fits what waited tells of a succession that was cut short.
    let finished = waiting.as_ref().and_then(|next| read(next, &key, now).ok());
    if let (Some(_), Some(next)) = (&finished, &waiting) {
        state.write(CERTIFICATE, next)?;
    }
    let current = match finished {
        Some(current) => Ok(current),
        None => read(&certificate, &key, now),
    };
    let current = match current {
        Ok(current) => Arc::new(current),
        // Its time is over while nothing ran: nobody holds a certificate of it that is still good.
        Err(MaterialError::Time(_)) => afresh(state, recipe, now)?,
        Err(wrong) => return Err(RootError::Unusable { folder: state.path(""), wrong }),
    };
    if state.read(CERTIFICATE)?.is_none() {
        state.write(CERTIFICATE, &certificate)?;
    }
    Ok(current)
}

/// A rotation that goes on with what was remembered, and with the root of our own that waits.
///
/// # Errors
/// When the file system refuses.
pub fn resumed(
    state: &State,
    recipe: &Recipe,
    current: Arc<Signer>,
    now: SystemTime,
) -> Result<Rotation, RootError> {
    let remembered = state.recall()?;
    let terms = (recipe.overlap, remembered.longest);
    let mut rotation = Rotation::new(current, (remembered.believed, remembered.bridges), terms, now);
    if let Some((signer, bridges)) = awaited(state, &rotation, now)? {
        match remembered.next_at {
            Some(at) => rotation.resume(Next { signer, at, bridges }, now),
            // It was written but not told to anybody, or all but the last step of its taking over was made.
            None => rotation.offer(signer, bridges, now),
        }
    }
    Ok(rotation)
}

/// The succession that is due, announced and written down; nothing when none is.
///
/// # Errors
/// When it cannot be made or written down. Then nothing is announced.
pub fn succeed(
    state: &State,
    recipe: &Recipe,
    rotation: &Rotation,
    now: SystemTime,
) -> Result<Option<Rotation>, RootError> {
    let current = rotation.current();
    let (from, until) = current.certificate().validity();
    let whole = until.duration_since(from).unwrap_or_default();
    let left = until.duration_since(now).unwrap_or_default();
    let is_due = current.maker() == Maker::Given || left < whole / LEFT_AT_SUCCESSION;
    let waits = rotation.next().is_some_and(|next| next.signer.maker() == Maker::Own);
    if waits || !is_due {
        return Ok(None);
    }
    let (pair, certificate) = make(recipe, now)?;
    let (key, pem) = (pair.serialize_pem(), certificate.pem());
    let signer =
        read(&pem, &key, now).map_err(|wrong| RootError::Unusable { folder: state.path(""), wrong })?;
    let bridges = current.vouch(&signer, now);
    state.write(NEXT_KEY, &key)?;
    state.write(BRIDGE, &bundle(&bridges))?;
    state.write(NEXT_CERTIFICATE, &pem)?;
    let mut next = rotation.clone();
    next.offer(Arc::new(signer), bridges, now);
    Ok(Some(next))
}

/// Writes a rotation down, and moves files when a succession has taken place. Each step leaves what `open` reads
/// as the same or goes on with.
///
/// # Errors
/// When the file system refuses.
pub fn save(state: &State, rotation: &Rotation) -> Result<(), RootError> {
    state.remember(rotation)?;
    let waiting = state.read(NEXT_CERTIFICATE)?;
    let certificate = rotation.current().certificate().pem();
    if rotation.current().maker() == Maker::Own && waiting.as_deref() == Some(&certificate) {
        if let Some(key) = state.read(NEXT_KEY)? {
            state.write(KEY, &key)?;
        }
        state.write(CERTIFICATE, &certificate)?;
    }
    match rotation.current().maker() {
        Maker::Own => state.remove(GIVEN)?,
        Maker::Given => {
            let pems = serde_json::to_string(rotation.current().pems()).unwrap_or_default();
            if state.read(GIVEN)?.as_deref() != Some(&pems) {
                state.write(GIVEN, &pems)?;
            }
            state.remove(KEY)?;
            state.remove(CERTIFICATE)?;
        }
    }
    let still = rotation.next().map(|next| next.signer.certificate().pem());
    if waiting.is_some() && waiting != still {
        for name in [NEXT_CERTIFICATE, NEXT_KEY, BRIDGE] {
            state.remove(name)?;
        }
    }
    Ok(())
}

fn read(certificate: &str, key: &str, now: SystemTime) -> Result<Signer, MaterialError> {
    let first = Cert::all(certificate).and_then(|all| all.into_iter().next());
    let certificate = first.ok_or(MaterialError::Certificates(CERTIFICATE))?.pem();
    let roots = certificate.clone();
    Signer::new(&Pems { certificate, key: key.into(), roots, chain: String::new() }, NAMES, now)
}

/// A successor and the bridges to it.
type Waiting = (Arc<Signer>, Vec<Cert>);

/// What waited when the program ended; one that is not whole never waited.
fn awaited(state: &State, rotation: &Rotation, now: SystemTime) -> Result<Option<Waiting>, RootError> {
    let (Some(pem), Some(key)) = (state.read(NEXT_CERTIFICATE)?, state.read(NEXT_KEY)?) else {
        return Ok(None);
    };
    let signer = read(&pem, &key, now).ok();
    let other = signer.filter(|it| it.certificate() != rotation.current().certificate());
    let bridges = state.read(BRIDGE)?.and_then(|pem| Cert::all(&pem)).unwrap_or_default();
    Ok(other.map(|signer| (Arc::new(signer), bridges)))
}

fn afresh(state: &State, recipe: &Recipe, now: SystemTime) -> Result<Arc<Signer>, RootError> {
    let (pair, certificate) = make(recipe, now)?;
    let (key, pem) = (pair.serialize_pem(), certificate.pem());
    state.write(KEY, &key)?;
    state.write(CERTIFICATE, &pem)?;
    let signer = read(&pem, &key, now);
    signer.map(Arc::new).map_err(|wrong| RootError::Unusable { folder: state.path(""), wrong })
}

fn make(recipe: &Recipe, now: SystemTime) -> Result<(KeyPair, Cert), RootError> {
    let key = KeyPair::generate().map_err(RootError::Make)?;
    let made = params(&recipe.domain, now, now + recipe.lifetime).self_signed(&key);
    Ok((key, cert(&made.map_err(RootError::Make)?)?))
}

fn cert(made: &rcgen::Certificate) -> Result<Cert, RootError> {
    Cert::from_der(made.der()).ok_or(RootError::Make(rcgen::Error::CouldNotParseCertificate))
}

fn params(domain: &TrustDomain, now: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, domain.as_str());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = (now - SKEW).into();
    params.not_after = not_after.into();
    params
}

fn half(state: &State, there: &str, missing: &str) -> RootError {
    RootError::Half { there: state.path(there), missing: state.path(missing) }
}
