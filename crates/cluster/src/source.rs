//! Where objects come from: a directory of manifests, or the Kubernetes API. Those who read need not know which.

use std::collections::BTreeSet;

use crate::fault::Fault;
use crate::files::Event;
use crate::object::ObjectRef;
use crate::{api, files};

/// Objects and what happens to them.
pub enum Source {
    /// A directory of manifests and its overlay.
    Files(Box<files::Watch>),
    /// The Kubernetes API.
    Api(Box<api::Watch>),
}

impl Source {
    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        match self {
            Self::Files(watch) => watch.next().await,
            Self::Api(watch) => watch.next().await,
        }
    }

    /// The next event if there is one without waiting: for those who batch.
    pub fn ready(&mut self) -> Option<Event> {
        match self {
            Self::Files(watch) => watch.ready(),
            Self::Api(watch) => watch.ready(),
        }
    }

    /// Reads these objects, too, of kinds that are not followed as a whole. A directory has read everything.
    pub fn seek(&mut self, objects: BTreeSet<ObjectRef>) {
        match self {
            Self::Files(_) => {}
            Self::Api(watch) => watch.seek(objects),
        }
    }

    /// Whether it is known of all of those what they are, or that they are not there.
    #[must_use]
    pub fn found(&self) -> bool {
        match self {
            Self::Files(_) => true,
            Self::Api(watch) => watch.found(),
        }
    }

    /// All that is wrong now.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        match self {
            Self::Files(watch) => watch.faults(),
            Self::Api(watch) => watch.faults(),
        }
    }
}

impl From<files::Watch> for Source {
    fn from(watch: files::Watch) -> Self {
        Self::Files(Box::new(watch))
    }
}

impl From<api::Watch> for Source {
    fn from(watch: api::Watch) -> Self {
        Self::Api(Box::new(watch))
    }
}
