//! Where the mesh writes what became of an object: the overlay beside a directory, or the object itself in the
//! Kubernetes API. Those who write need not know which.

use serde_json::{Value, json};

use crate::api::{Full, Orders};
use crate::object::ObjectRef;
use crate::overlay::{Overlay, OverlayError};

/// A hand that writes status.
#[derive(Debug, Clone)]
pub enum Writer {
    /// Into the overlay of a directory, at once.
    Overlay(Overlay),
    /// Onto the object, soon, and only while this replica leads.
    Api(Orders),
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The overlay.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The Kubernetes API.
    #[error(transparent)]
    Api(#[from] Full),
}

impl Writer {
    /// Says this of an object's status. What was said before and is left out now is taken back in the API; in an
    /// overlay it stays, unless it is null.
    ///
    /// # Errors
    /// When the overlay cannot be written, or too many writes wait for the API server.
    pub fn status(&self, object: &ObjectRef, status: Value) -> Result<(), WriteError> {
        match self {
            Self::Overlay(overlay) => overlay.patch(object, json!({ "status": status }))?,
            Self::Api(orders) => orders.status(object, status)?,
        }
        Ok(())
    }

    /// Takes back all that was said.
    ///
    /// # Errors
    /// As `status`.
    pub fn clear(&self, object: &ObjectRef) -> Result<(), WriteError> {
        match self {
            Self::Overlay(overlay) => overlay.clear(object)?,
            Self::Api(orders) => orders.clear(object)?,
        }
        Ok(())
    }

    /// Waits until everything has to be said again: this replica begins to lead. Cancel-safe.
    pub async fn promoted(&mut self) {
        match self {
            Self::Overlay(_) => std::future::pending().await,
            Self::Api(orders) => orders.promoted().await,
        }
    }
}
