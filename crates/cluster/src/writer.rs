//! Where the mesh writes what became of an object: the overlay beside a directory, or the object itself in the
//! Kubernetes API. Those who write need not know which.

use serde_json::Value;

use crate::api::{Full, Orders};
use crate::object::ObjectRef;
use crate::overlay::{Overlay, OverlayError};

/// A hand that writes status.
#[derive(Debug, Clone)]
pub enum Writer {
    /// Into the overlay of a directory, at once.
    Overlay(Overlay),
    /// Onto the object, soon, and only as far as that is this replica's part.
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
    /// Says what a merge patch holds of an object's status. What was said before of one of its members and is left
    /// out now is taken back in the API; in an overlay it stays, unless it is null.
    ///
    /// # Errors
    /// When the overlay cannot be written, or too many writes wait for the API server.
    pub fn patch(&self, object: &ObjectRef, patch: Value) -> Result<(), WriteError> {
        match (self, patch) {
            (Self::Overlay(overlay), patch) => overlay.patch(object, patch)?,
            (Self::Api(orders), Value::Object(mut patch)) => {
                orders.status(object, patch.remove("status").unwrap_or_default())?;
            }
            (Self::Api(_), _) => {}
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

    /// Waits until everything has to be said again: this replica's part has grown. Cancel-safe.
    pub async fn promoted(&mut self) {
        match self {
            Self::Overlay(_) => std::future::pending().await,
            Self::Api(orders) => orders.promoted().await,
        }
    }
}
