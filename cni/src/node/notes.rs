//! The word on a pod, for the control plane and for people: written into the overlay, or onto the very pod in the
//! Kubernetes API. Owns how it is written and how long that may take. Which word is `enrol`'s and `keeper`'s.

use std::time::Duration;

use ambit_cluster::api::{ApiError, Client, Hand, Warning};
use ambit_cluster::overlay::OverlayError;
use ambit_cluster::{ObjectRef, Overlay};
use ambit_process::clock;
use ambit_process::stop::Stop;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use crate::node::standing::{Standing, no_entry};
use crate::node::subject::{REDIRECTION, Subject};

/// The field manager of what is written onto pods.
const MANAGER: &str = "ambit-cni";

/// Shorter than the plugin's patience: a pod may start while the API server is away, and is annotated afterwards.
const WRITE_WAIT: Duration = Duration::from_secs(2);

/// Writes at once: each has a connection of its own, and a thousand nodes may have the same idea.
const WRITES: usize = 4;

/// Warnings that wait to be written; beyond these, newer ones are lost.
const WARNINGS: usize = 64;

/// The reason of events on pods that should be in the mesh and are not.
const NOT_ENROLLED: &str = "AmbientNotEnrolled";

/// The word on a pod's annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Traffic is redirected and carried.
    Enabled,
    /// It should be, but is not.
    Pending,
    /// Not in the mesh.
    Absent,
}

impl Word {
    pub(crate) fn text(self) -> Option<&'static str> {
        match self {
            Self::Enabled => Some("enabled"),
            Self::Pending => Some("pending"),
            Self::Absent => None,
        }
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoteError {
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the API server did not answer within {WRITE_WAIT:?}")]
    Late,
}

impl NoteError {
    /// Whether it may be written later without anybody doing something.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Late => true,
            Self::Api(error) => error.passes(),
            Self::Overlay(_) => false,
        }
    }

    /// Whether we are nobody to the API server any more, as when the mesh's rights were deleted before its pods.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api(ApiError::Forbidden { .. } | ApiError::Unknown))
    }
}

/// A hand that writes words.
#[derive(Debug)]
pub(crate) enum Notes {
    Overlay(Overlay),
    Api { hand: Box<Hand>, turns: Semaphore, warnings: mpsc::Sender<Warning> },
}

/// Writes warnings onto the API server, one after the other. One that cannot be written is lost: it is said in the log
/// and on the pod as well.
pub(crate) struct Herald {
    client: Client,
    node: String,
    warnings: mpsc::Receiver<Warning>,
}

impl Herald {
    /// Writes until stopped.
    pub(crate) async fn run(mut self, stop: Stop) {
        let mut told = false;
        loop {
            // Both arms are cancel-safe.
            let warning = tokio::select! {
                () = stop.stopped() => return,
                Some(warning) = self.warnings.recv() => warning,
            };
            let written = self.client.warn(&warning, (MANAGER, &self.node));
            match Box::pin(tokio::time::timeout(WRITE_WAIT, written)).await {
                Ok(Err(ApiError::Forbidden { message })) if !told => {
                    told = true;
                    warn!(message, "refused pods get no events");
                }
                Ok(Err(error)) => debug!(pod = %warning.object, %error, "an event is lost"),
                Ok(Ok(())) | Err(_) => {}
            }
        }
    }
}

impl Notes {
    pub(crate) fn overlay(overlay: Overlay) -> Self {
        Self::Overlay(overlay)
    }

    /// Onto pods; warnings by whoever runs the herald.
    pub(crate) fn api(client: Client, node: &str) -> (Self, Herald) {
        let (warnings, received) = mpsc::channel(WARNINGS);
        let herald = Herald { client: client.clone(), node: node.to_owned(), warnings: received };
        let hand = Box::new(Hand::new(client, MANAGER));
        (Self::Api { hand, turns: Semaphore::new(WRITES), warnings }, herald)
    }

    /// Tells people why a pod is not in the mesh. Nobody waits for it.
    pub(crate) fn warn(&self, subject: &Subject, message: &str) {
        let Self::Api { warnings, .. } = self else { return };
        let warning = Warning {
            object: subject.object.clone(),
            uid: subject.uid.to_string(),
            reason: NOT_ENROLLED,
            message: message.to_owned(),
        };
        // With so many waiting nobody misses one.
        drop(warnings.try_send(warning));
    }

    /// Whether conditions are written. A folder's manifests have none: an overlay replaces lists whole.
    pub(crate) fn tells_standing(&self) -> bool {
        matches!(self, Self::Api { .. })
    }

    /// Writes the word on a pod, and its standing if one is given; without a word neither stays. One that is gone, or
    /// was made again under its name, needs none.
    pub(crate) async fn write(
        &self,
        subject: &Subject,
        word: Word,
        standing: Option<&Standing>,
    ) -> Result<(), NoteError> {
        let annotations = json!({ REDIRECTION: word.text() });
        let (hand, turns) = match (self, word) {
            (Self::Overlay(overlay), Word::Absent) => return Ok(overlay.clear(&subject.object)?),
            (Self::Overlay(overlay), _) => {
                let patch = json!({ "metadata": { "annotations": annotations } });
                return Ok(overlay.patch(&subject.object, patch)?);
            }
            (Self::Api { hand, turns, .. }, _) => (hand, turns),
        };
        let entry = match word {
            Word::Absent => Some(no_entry()),
            _ => standing.map(|it| it.entry(subject.enrolled.as_deref(), clock::now_system())),
        };
        let written = async {
            let _turn = turns.acquire().await;
            let pod = (&subject.object, subject.uid.as_str());
            hand.annotate(pod, &annotations, entry.as_ref()).await
        };
        match Box::pin(tokio::time::timeout(WRITE_WAIT, written)).await {
            Ok(Ok(()) | Err(ApiError::NotFound { .. } | ApiError::Conflict)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(NoteError::Late),
        }
    }

    /// The pod's sandbox is gone. In the API its object goes, too, or is soon told what follows; the runtime must not
    /// wait for the API server to end a pod.
    pub(crate) fn forget(&self, object: &ObjectRef) -> Result<(), NoteError> {
        match self {
            Self::Overlay(overlay) => Ok(overlay.clear(object)?),
            Self::Api { .. } => Ok(()),
        }
    }
}
