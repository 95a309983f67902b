//! Where objects come from: a directory of manifests, or the Kubernetes API. Those who read need not know which.

use crate::fault::Fault;
use crate::files::Event;
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
