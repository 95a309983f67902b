//! What was encoded of one view and may be sent to many: everything, while somebody is still being sent it, and the
//! differences from recent views. Owns the memory of it; a view derived from this one begins with none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ambit_wire::convert::ResourceType;

use crate::content::{Content, Contents, Farewell, Told};

/// What a difference is of, and how it is told.
type Of = (u64, ResourceType, Farewell);

/// Differences that are remembered: most subscribers come from the view before, those who are behind from a few.
const DIFFERENCES: usize = 64;

#[derive(Debug, Default)]
struct Kept {
    everything: Vec<(ResourceType, Vec<Weak<Content>>)>,
    differences: Vec<(Of, Arc<Told>)>,
}

/// What may be shared.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Kept>);

/// Another view has other contents.
impl Clone for Shared {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Shared {
    /// Everything of a type, encoded by `make` unless somebody still holds it.
    pub(super) fn everything(&self, kind: ResourceType, make: impl FnOnce() -> Contents) -> Contents {
        let mut kept = self.kept();
        let known = kept.everything.iter().find(|(each, _)| *each == kind);
        let alive: Option<Contents> =
            known.and_then(|(_, contents)| contents.iter().map(Weak::upgrade).collect());
        if let Some(alive) = alive {
            return alive;
        }
        let made = make();
        kept.everything.retain(|(each, _)| *each != kind);
        kept.everything.push((kind, made.iter().map(Arc::downgrade).collect()));
        made
    }

    /// The difference from a generation, made by `make` unless it is remembered.
    pub(super) fn difference(&self, of: Of, make: impl FnOnce() -> Told) -> Arc<Told> {
        let mut kept = self.kept();
        if let Some((_, told)) = kept.differences.iter().find(|(each, _)| *each == of) {
            return Arc::clone(told);
        }
        let made = Arc::new(make());
        if kept.differences.len() == DIFFERENCES {
            kept.differences.remove(0);
        }
        kept.differences.push((of, Arc::clone(&made)));
        made
    }

    /// The lock is held while contents are encoded: whoever waits for it wants the same.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
