//! One stream: what goes in is told to its publisher, and what that says goes out, piece by piece as the transport
//! takes it. Owns the turn at the door, and where those begin who have nothing yet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use ambit_wire::limits;
use ambit_wire::pb::discovery::Node;
use bytes::Bytes;
use tokio::sync::watch;
use tonic::{Code, Status};
use tracing::{debug, info};

use super::answers::{Answers, begin};
use super::codec::Requests;
use super::door::{Door, Pass};
use super::notes::{Notes, Times};
use super::streams::Registration;
use super::{Caller, now};
use crate::content::Content;
use crate::library::Library;
use crate::publisher::{Action, Asked, Publisher, Refusal, Response, metadata};

/// What is handed to the transport at once of a large response: it comes back for more when that is on its way, so
/// that "sent" means something.
const PIECE: usize = 256 << 10;

/// What is copied rather than sent as a piece of its own, which costs a frame.
const COPIED: usize = 8 << 10;

/// So many changes may have been made since a beginning that is shared; they follow it at once.
const STALE: u64 = 128;

/// Where those begin who have nothing: all that come within the same moments with the same library, so that it is
/// encoded once for all of them, however fast it changes meanwhile.
#[derive(Debug, Default)]
pub(super) struct Starts(Mutex<Weak<Library>>);

impl Starts {
    fn pick(&self, newest: &Arc<Library>) -> Arc<Library> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |start: &Arc<Library>| newest.generation().saturating_sub(start.generation()) <= STALE;
        shared.upgrade().filter(recent).unwrap_or_else(|| {
            *shared = Arc::downgrade(newest);
            Arc::clone(newest)
        })
    }
}

/// One stream.
pub(super) struct Talk {
    publisher: Publisher,
    requests: Requests,
    library: watch::Receiver<Arc<Library>>,
    queue: VecDeque<Response>,
    sending: Option<Sending>,
    wake: Option<Instant>,
    registration: Registration,
    caller: Caller,
    door: Arc<Door>,
    starts: Arc<Starts>,
    turn: Turn,
    times: Times,
}

/// A response whose shared part is on its way.
struct Sending {
    content: Arc<Content>,
    at: usize,
}

/// Whose turn it is at the door.
enum Turn {
    Before,
    Inside(#[expect(dead_code, reason = "given back when dropped")] Pass),
    Over,
}

impl Talk {
    pub(super) fn new(
        publisher: Publisher,
        requests: Requests,
        library: watch::Receiver<Arc<Library>>,
        registration: Registration,
        caller: Caller,
    ) -> Self {
        Self {
            publisher,
            requests,
            library,
            queue: VecDeque::new(),
            sending: None,
            wake: None,
            registration,
            caller,
            door: Arc::default(),
            starts: Arc::default(),
            turn: Turn::Before,
            times: Times::new(Notes::default(), now()),
        }
    }

    /// Told of what happens.
    pub(super) fn noting(self, notes: Notes) -> Self {
        Self { times: Times::new(notes, now()), ..self }
    }

    /// Through a door and from a beginning that it shares with others.
    pub(super) fn through(self, door: Arc<Door>, starts: Arc<Starts>) -> Self {
        Self { door, starts, ..self }
    }

    fn on_library(&mut self, newest: &Arc<Library>) -> Vec<Action> {
        let (told, begun) = (self.publisher.generation(), now());
        let actions = self.publisher.on_library(Arc::clone(newest));
        self.times.taken(newest, told, (begun, &actions));
        actions
    }

    /// What is to be sent next of what is due.
    fn piece(&mut self) -> Option<Bytes> {
        if self.sending.is_none() {
            self.times.gone(now());
        }
        if let Some(Sending { content, at }) = &mut self.sending {
            let end = content.bytes().len().min(*at + PIECE);
            let piece = content.bytes().slice(*at..end);
            *at = end;
            if end == content.bytes().len() {
                self.sending = None;
            }
            return Some(piece);
        }
        let response = self.queue.pop_front()?;
        let (own, shared) = response.bytes();
        self.times.handed(&response, own.len() + shared.len(), now());
        let mut piece = begin(own.len() + shared.len(), own.len() + shared.len().min(COPIED));
        piece.extend_from_slice(&own);
        if shared.len() <= COPIED {
            piece.extend_from_slice(&shared);
        } else {
            self.sending = Some(Sending { content: Arc::clone(response.content()), at: 0 });
        }
        Some(piece.freeze())
    }

    fn on_request(&mut self, asked: Asked) -> Result<Vec<Action>, Status> {
        if self.publisher.node().is_none() && !asked.reports_something() {
            let newest = Arc::clone(&self.library.borrow());
            self.publisher.begin(self.starts.pick(&newest));
            self.library.mark_changed();
        }
        let request = asked.request();
        if self.publisher.node().is_none()
            && let Some(node) = &request.node
        {
            vouch(&self.caller, node)?;
            info!(target: "xds", node = node.id, peer = ?self.caller.peer, "subscriber");
        }
        if let Some(error) = &request.error_detail {
            let text = limits::shortened(&error.message, limits::NACK_TEXT);
            info!(target: "xds", kind = request.type_url, nonce = request.response_nonce, text, "refused by subscriber");
        }
        self.publisher.on_request(asked, now()).map_err(|refusal| match refusal {
            Refusal::NoNode | Refusal::NodeId { .. } => Status::invalid_argument(refusal.to_string()),
            Refusal::TooManyNames { .. } => Status::resource_exhausted(refusal.to_string()),
        })
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(response) => self.queue.push_back(response),
                Action::WakeAt(until) => self.wake = Some(until),
            }
        }
    }
}

impl Answers for Talk {
    /// A newer library is looked at only when everything due was sent.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if matches!(self.turn, Turn::Before) {
            self.turn = Turn::Inside(self.door.enter().await?);
        }
        loop {
            if let Some(piece) = self.piece() {
                return Ok(Some(piece));
            }
            self.times.all_gone(now());
            if self.publisher.has_answered() {
                self.turn = Turn::Over;
            }
            // All arms are cancel-safe: what was not taken stays.
            let actions = tokio::select! {
                request = self.requests.next() => match request {
                    Ok(Some((request, size))) => {
                        self.times.asked(&request, size, now());
                        self.on_request(request)?
                    }
                    Ok(None) => return Ok(None),
                    Err(status) => {
                        debug!(target: "xds", %status, "stream lost");
                        return Ok(None);
                    }
                },
                // A first answer under way is from one library, which others are told as well.
                changed = self.library.changed(), if !self.publisher.is_waiting() => {
                    changed.map_err(|_| Status::unavailable("the control plane stops"))?;
                    let newest = Arc::clone(&self.library.borrow_and_update());
                    self.on_library(&newest)
                }
                () = sleep_until(self.wake) => {
                    self.wake = None;
                    self.publisher.on_time(now())
                }
            };
            self.obey(actions);
            self.registration.update(&self.publisher);
        }
    }

    fn ended(&self, how: &Status) {
        if how.code() == Code::Internal {
            self.times.failed();
        }
    }
}

/// A caller speaks for itself only: its namespace, and its account where given, are those it proved.
fn vouch(caller: &Caller, node: &Node) -> Result<(), Status> {
    let Some(identity) = &caller.identity else { return Ok(()) };
    let from_domain = node.id.split('~').nth(3).and_then(|domain| domain.split('.').next());
    let namespace = metadata(node, "NAMESPACE").or(from_domain).unwrap_or_default();
    if namespace != identity.namespace.as_str() {
        let text = format!("node is of namespace {namespace:?}, the caller is {identity}");
        return Err(Status::permission_denied(text));
    }
    match metadata(node, "SERVICE_ACCOUNT") {
        Some(account) if account != identity.service_account.as_str() => Err(Status::permission_denied(
            format!("node is of account {account:?}, the caller is {identity}"),
        )),
        _ => Ok(()),
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}
