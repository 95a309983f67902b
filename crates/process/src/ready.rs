//! Probes that tell the truth: ready when nothing that was announced is pending.
//! Owns the list; when a part is ready is that part's to say.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};

use crate::admin::{self, text};

/// What a program still waits for.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeSet<&'static str>>>);

/// One part's word on whether it is ready. Dropping it leaves its last word standing.
#[derive(Debug)]
pub struct Gate {
    name: &'static str,
    all: Readiness,
}

impl Readiness {
    /// Nothing pending yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces a part, which is pending from now on.
    #[must_use]
    pub fn gate(&self, name: &'static str) -> Gate {
        let gate = Gate { name, all: self.clone() };
        gate.set(false);
        gate
    }

    /// The pending parts, sorted.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Answers `GET /healthz/ready`.
    #[must_use]
    pub fn answer(&self, request: &Request<Bytes>) -> Response<admin::Body> {
        if request.uri().path() != "/healthz/ready" {
            return text(StatusCode::NOT_FOUND, "not found\n");
        }
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        }
        let pending = self.pending();
        if pending.is_empty() {
            return text(StatusCode::OK, "ready\n");
        }
        text(StatusCode::INTERNAL_SERVER_ERROR, format!("not ready, pending: {}\n", pending.join(", ")))
    }
}

impl Gate {
    /// Says whether the part is ready.
    pub fn set(&self, ready: bool) {
        let mut pending = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ready {
            pending.remove(self.name);
        } else {
            pending.insert(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(readiness: &Readiness, method: Method, path: &str) -> StatusCode {
        let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
        readiness.answer(&request).status()
    }

    #[test]
    fn a_program_is_ready_when_every_gate_is() {
        let readiness = Readiness::new();
        let (first, second) = (readiness.gate("state manager"), readiness.gate("proxy"));
        assert_eq!(readiness.pending(), ["proxy", "state manager"]);
        first.set(true);
        assert_eq!(status(&readiness, Method::GET, "/healthz/ready"), 500);
        second.set(true);
        assert_eq!(status(&readiness, Method::GET, "/healthz/ready"), 200);
        second.set(false);
        assert_eq!(status(&readiness, Method::GET, "/healthz/ready"), 500);
    }

    #[test]
    fn other_methods_and_paths_are_refused() {
        let readiness = Readiness::new();
        assert_eq!(status(&readiness, Method::POST, "/healthz/ready"), 405);
        assert_eq!(status(&readiness, Method::GET, "/"), 404);
    }
}
