//! The authority's folder, kept in a secret of the cluster: what outlives this program, and what its replicas share.
//! Owns the copying, and who wins when two write at once: the first. What the files mean is `root`'s.
//!
//! The secret is upstream's, with upstream's names: a mesh that changes over, in whichever direction, keeps its root.

use std::collections::BTreeMap;

use ambit_cluster::api::{ApiError, Client, Secret};

use super::state::{State, StateError};

/// The secret's name and type.
const NAME: &str = "istio-ca-secret";
const TYPE: &str = "istio.io/ca-root";

/// Why folder and secret are not the same.
#[derive(Debug, thiserror::Error)]
pub enum SafeError {
    /// The API server.
    #[error("the secret {NAME} with the mesh's root cannot be kept")]
    Api(#[from] ApiError),
    /// The folder.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What became of writing the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It holds what the folder holds.
    Yes,
    /// Somebody else wrote first: it has to be read.
    Lost,
}

/// The secret.
#[derive(Debug)]
pub struct Safe {
    client: Client,
    namespace: String,
    /// As it was read or written last.
    last: Option<Secret>,
}

impl Safe {
    /// The one of this namespace. Nothing is read yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.into(), last: None }
    }

    /// Brings the folder to what the secret holds; whether that was anything new. A secret that is not there says
    /// nothing.
    ///
    /// # Errors
    /// When the API server does not say, or the folder cannot be written.
    pub async fn fetch(&mut self, state: &State) -> Result<bool, SafeError> {
        let Some(read) = self.client.secret((&self.namespace, NAME)).await? else {
            // Deleted meanwhile: it is made again from the folder.
            self.last = None;
            return Ok(false);
        };
        if self.last.as_ref() == Some(&read) {
            return Ok(false);
        }
        let is_new = state.fill(&read.texts)?;
        self.last = Some(read);
        Ok(is_new)
    }

    /// Brings the secret to what the folder holds.
    ///
    /// # Errors
    /// When the API server refuses, or the folder does not read.
    pub async fn store(&mut self, state: &State) -> Result<Stored, SafeError> {
        let files = state.files()?;
        // What others keep in it stays.
        let mut texts: BTreeMap<_, _> = self.last.iter().flat_map(|it| it.texts.clone()).collect();
        texts.retain(|name, _| !State::owns(name));
        texts.extend(files);
        if self.last.as_ref().is_some_and(|it| it.texts == texts) {
            return Ok(Stored::Yes);
        }
        let at = (self.namespace.as_str(), NAME);
        match self.client.keep_secret(at, TYPE, self.last.as_ref(), &texts).await {
            Ok(kept) => {
                self.last = Some(kept);
                Ok(Stored::Yes)
            }
            Err(ApiError::Conflict | ApiError::NotFound { .. }) => Ok(Stored::Lost),
            Err(error) => Err(error.into()),
        }
    }
}
