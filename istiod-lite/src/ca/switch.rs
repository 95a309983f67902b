//! A root of our own, or material that somebody else gives, and the way from one to the other: whatever signed last
//! signs on until what follows was announced. Owns which of the two is followed. How a root of our own is made is
//! `root`'s, how a folder is read `plugged`'s, what is announced and for how long `rotation`'s.

use std::sync::Arc;
use std::time::SystemTime;

use super::root::{self, Recipe, RootError};
use super::rotation::Rotation;
use super::signer::{Maker, MaterialError, Names, Pems, Signer};
use super::state::{GIVEN, State};

/// What was given is kept in one file, so that it is whole or not there.
const NAMES: Names =
    Names { certificate: GIVEN, key: GIVEN, roots: GIVEN, chain: GIVEN, maker: Maker::Given };

/// Goes on with what signed before, and offers what is given now; begins with it where nothing signed before.
///
/// # Errors
/// When the folder's files cannot be read or written, or are not what they should be.
pub fn open(
    state: &State,
    recipe: &Recipe,
    given: Option<&Arc<Signer>>,
    now: SystemTime,
) -> Result<Rotation, RootError> {
    let first = match kept(state, now)? {
        Some(kept) => Some(kept),
        None if root::is_there(state)? => None,
        None => given.cloned(),
    };
    let mut rotation = match first {
        Some(first) => root::resumed(state, recipe, first, now)?,
        None => root::open(state, recipe, now)?,
    };
    match given {
        Some(given) => offer(&mut rotation, given, now),
        None => rotation = own(state, recipe, &rotation, now)?.unwrap_or(rotation),
    }
    root::save(state, &rotation)?;
    Ok(rotation)
}

/// Has what is given follow, if it is not what signs.
pub fn offer(rotation: &mut Rotation, given: &Arc<Signer>, now: SystemTime) {
    let bridges = rotation.current().vouch(given, now);
    rotation.offer(Arc::clone(given), bridges, now);
}

/// Has a root of our own follow where nothing is given any more, or where ours ends; none: nothing changes.
///
/// # Errors
/// When it cannot be made or written down. Then nothing is announced.
pub fn own(
    state: &State,
    recipe: &Recipe,
    rotation: &Rotation,
    now: SystemTime,
) -> Result<Option<Rotation>, RootError> {
    if let Some(announced) = root::succeed(state, recipe, rotation, now)? {
        return Ok(Some(announced));
    }
    let waits = rotation.next().map(|next| next.signer.maker());
    Ok((waits == Some(Maker::Given)).then(|| {
        let mut next = rotation.clone();
        next.withdraw(now);
        next
    }))
}

/// What was given and signed last.
fn kept(state: &State, now: SystemTime) -> Result<Option<Arc<Signer>>, RootError> {
    let Some(text) = state.read(GIVEN)? else { return Ok(None) };
    let unusable = |wrong| RootError::Unusable { folder: state.path(""), wrong };
    let pems: Pems = serde_json::from_str(&text).map_err(|_| unusable(MaterialError::Key(GIVEN)))?;
    match Signer::new(&pems, NAMES, now) {
        Ok(signer) => Ok(Some(Arc::new(signer))),
        // Nobody holds a certificate of it that is still good.
        Err(MaterialError::Time(_)) => {
            state.remove(GIVEN)?;
            Ok(None)
        }
        Err(wrong) => Err(unusable(wrong)),
    }
}

#[cfg(test)]
mod tests;
