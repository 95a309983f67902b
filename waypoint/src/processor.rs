//! A conversation with a processor about one request and its answer (`waypoint.md` 9.1). Owns that there is one message
//! under way at a time, each answered within its time, and what becomes of the request when there is no answer. What is
//! told, and what is done with the answers, is `phases::process`'; what an answer is, the model's. Conversations in which
//! nobody waits for the other are `duplex`'s.

mod duplex;

use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};

use ambit_model::ext_proc::{ExtProc, Heard, Immediate, Modes, Mutation, Onward, OutOfOrder, Step, TooMuch};
use ambit_model::name::Label;
use ambit_wire::process::{self, First, ProcessError};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use crate::call::{CallError, Stream, framed, pour};
use crate::lane::Lane;
use crate::metrics::Processed;
use crate::refused::Refused;
use duplex::Duplex;
pub(crate) use duplex::Word;

/// What an answer may hold beside a body.
const BESIDE: usize = 256 << 10;

/// Messages on their way to who only watches.
const TO_WATCHERS: usize = 4;

/// Why a processor has not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoReply {
    /// There was no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It is none.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It is one to something else.
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
    /// It makes a message larger than any may be.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// It makes a request none.
    #[error("the request would be malformed: {0}")]
    Malformed(&'static str),
    /// Where it is could not be read.
    #[error("its service could not be read")]
    Unreadable,
}

/// Nothing goes on; why, the processor's conversation keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopped;

/// The conversation.
pub(crate) struct Processor {
    pub(crate) policy: Arc<ExtProc>,
    pub(crate) name: Label,
    pub(crate) lane: Arc<Lane>,
    /// Headers of requests that are judged, or that only the mesh sets.
    apart: Vec<HeaderName>,
    talk: Mutex<Talk>,
    /// The conversation, where nobody waits for the other.
    duplex: Option<Duplex>,
    state: Arc<StdMutex<State>>,
}

enum Talk {
    /// Nothing was said yet; this goes with the first message.
    Unopened(Box<First>),
    Open(Box<Stream>),
    /// It is told, and not listened to, for as long as there is more to tell.
    Watched {
        to: mpsc::Sender<Bytes>,
        /// Dropped when there is nothing more to tell.
        _alive: oneshot::Sender<()>,
    },
    Over,
}

struct State {
    name: Label,
    modes: Modes,
    outcome: Processed,
    /// Why nothing goes on, until somebody says so to the client.
    refused: Option<Refused>,
    is_stopped: bool,
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Processor").field(&self.name).finish()
    }
}

impl Processor {
    pub(crate) fn new(
        lane: Arc<Lane>,
        policy: Arc<ExtProc>,
        apart: Vec<HeaderName>,
        attributes: Vec<(String, String)>,
    ) -> Self {
        let modes = policy.modes;
        let name = Label::from(policy.key.to_string());
        let outcome = Processed::Processed;
        let state = State { name: name.clone(), modes, outcome, refused: None, is_stopped: false };
        let state = Arc::new(StdMutex::new(state));
        let first = Box::new(First { modes, attributes });
        let (talk, duplex) = if modes.is_duplex() {
            (Talk::Over, Some(Duplex::begin(&lane, &policy, (first, Arc::clone(&state)))))
        } else {
            (Talk::Unopened(first), None)
        };
        Self { policy, name, lane, apart, talk: Mutex::new(talk), duplex, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it is told of.
    pub(crate) fn modes(&self) -> Modes {
        self.state().modes
    }

    /// What came of it.
    pub(crate) fn outcome(&self) -> Processed {
        self.state().outcome
    }

    /// Why nothing goes on; said once.
    pub(crate) fn refusal(&self) -> Option<Refused> {
        self.state().refused.take()
    }

    /// Why nothing goes on.
    pub(crate) fn stopped(&self) -> Refused {
        self.refusal().unwrap_or_else(|| Refused::Stopped(self.name.clone()))
    }

    /// Nothing more is told.
    pub(crate) async fn over(&self) {
        if let Some(duplex) = &self.duplex {
            duplex.end();
        }
        self.close(&mut *self.talk.lock().await);
    }

    /// Tells it of something. How that goes on; none: nobody is there who would say, and it goes on as it is.
    pub(crate) async fn tell(
        &self,
        step: Step,
        message: impl FnOnce(Option<&First>) -> Bytes,
    ) -> Result<Option<Box<Onward>>, Stopped> {
        if self.duplex.is_some() {
            return self.ask(step, message).await;
        }
        let mut talk = self.talk.lock().await;
        if self.state().is_stopped {
            return Err(Stopped);
        }
        if let Talk::Over = *talk {
            return Ok(None);
        }
        let patience = self.policy.patience;
        if self.policy.watches {
            self.show(&mut talk, message).await;
            return Ok(None);
        }
        let heard = match timeout(patience, Box::pin(self.exchange(&mut talk, step, message))).await {
            Ok(heard) => heard,
            Err(_) => Err(CallError::Silent(patience).into()),
        };
        match heard {
            Ok(Some(Heard::Onward(onward, choice))) => {
                if let Some(choice) = choice {
                    let mut state = self.state();
                    state.modes = state.modes.chosen(choice);
                }
                Ok(Some(onward))
            }
            // It has ended the conversation well, which is its word that it wants nothing more.
            Ok(None | Some(Heard::Wait)) => {
                self.close(&mut talk);
                Ok(None)
            }
            Ok(Some(Heard::Answer(answer))) => {
                self.close(&mut talk);
                self.state().answered(answer);
                Err(Stopped)
            }
            Err(error) => {
                self.close(&mut talk);
                self.fail(error).map(|()| None)
            }
        }
    }

    /// One message, and its answer; none: the conversation is over.
    async fn exchange(
        &self,
        talk: &mut Talk,
        step: Step,
        message: impl FnOnce(Option<&First>) -> Bytes,
    ) -> Result<Option<Heard>, NoReply> {
        let largest = self.policy.body_most.saturating_add(BESIDE);
        match talk {
            Talk::Unopened(first) => {
                let at = self.policy.at.as_ref().ok_or(NoReply::Unreadable)?;
                let message = message(Some(first));
                let stream = Stream::open(&self.lane, at, (process::METHOD, &message), largest).await?;
                *talk = Talk::Open(Box::new(stream));
            }
            Talk::Open(stream) => stream.send(&message(None)).await?,
            Talk::Watched { .. } | Talk::Over => return Ok(None),
        }
        let Talk::Open(stream) = talk else { return Ok(None) };
        while let Some(bytes) = stream.next().await? {
            match self.policy.hear(step, process::reply(bytes)?)? {
                // It asks for time, of which there is as much as its policy says.
                Heard::Wait => {}
                heard => return Ok(Some(heard)),
            }
        }
        Ok(None)
    }

    /// Tells one that only watches. What there is no room for in time, and all that follows, it is not told.
    async fn show(&self, talk: &mut Talk, message: impl FnOnce(Option<&First>) -> Bytes) {
        let message = match talk {
            Talk::Unopened(first) => {
                let message = message(Some(first));
                *talk = self.watch();
                message
            }
            _ => message(None),
        };
        let Talk::Watched { to, .. } = talk else { return };
        let Ok(message) = framed(&process::watched(&message)) else { return };
        if !matches!(timeout(self.policy.patience, to.send(message)).await, Ok(Ok(()))) {
            *talk = Talk::Over;
            self.state().outcome = Processed::FailedOpen;
        }
    }

    fn watch(&self) -> Talk {
        let (to, told) = mpsc::channel(TO_WATCHERS);
        let (alive, ends) = oneshot::channel();
        let (lane, at, state) = (Arc::clone(&self.lane), self.policy.at.clone(), Arc::clone(&self.state));
        let name = self.name.clone();
        self.lane.crew.add("watcher", async move {
            let shown = match &at {
                Some(at) => {
                    Box::pin(pour(&lane, at, (process::METHOD, told), ends)).await.map_err(NoReply::from)
                }
                None => Err(NoReply::Unreadable),
            };
            if let Err(error) = shown {
                tracing::debug!(policy = %name, error = ambit_proxy::fault::chain(&error), "nobody watches");
                state.lock().unwrap_or_else(PoisonError::into_inner).outcome = Processed::FailedOpen;
            }
        });
        Talk::Watched { to, _alive: alive }
    }

    /// There is no answer, or none that can be followed: the request goes on, or it does not.
    pub(crate) fn fail(&self, error: NoReply) -> Result<(), Stopped> {
        self.state().fail(&self.policy, error)
    }

    /// Fails, and says nothing more.
    pub(crate) async fn break_off(&self, error: NoReply) -> Result<(), Stopped> {
        self.over().await;
        self.fail(error)
    }

    /// Changes a request's headers as it may; of an answer's, none is set apart.
    pub(crate) async fn change(
        &self,
        mutation: &Mutation,
        headers: &mut HeaderMap,
        is_request: bool,
    ) -> Result<(), Stopped> {
        let apart = if is_request { self.apart.as_slice() } else { &[] };
        let before = headers.clone();
        match mutation.apply(headers, &self.policy.changes, apart) {
            Ok(changed) if changed.passed_over == 0 => Ok(()),
            Ok(changed) => {
                let count = changed.passed_over;
                tracing::debug!(policy = %self.name, count, "changes that are not allowed were passed over");
                Ok(())
            }
            Err(error) => {
                // Nothing of it is done, rather than half.
                *headers = before;
                self.break_off(error.into()).await
            }
        }
    }

    fn close(&self, talk: &mut Talk) {
        if let Talk::Open(stream) = std::mem::replace(talk, Talk::Over) {
            self.lane.crew.add("processor", stream.end());
        }
    }
}

impl State {
    fn answered(&mut self, answer: Box<Immediate>) {
        self.outcome = Processed::Answered;
        self.is_stopped = true;
        self.refused = Some(Refused::Processed { by: self.name.clone(), answer });
    }

    fn fail(&mut self, policy: &ExtProc, error: NoReply) -> Result<(), Stopped> {
        if policy.fail_open {
            self.outcome = Processed::FailedOpen;
            tracing::debug!(policy = %self.name, error = ambit_proxy::fault::chain(&error), "goes on unprocessed");
            return Ok(());
        }
        // What was said first is why.
        if !self.is_stopped {
            self.outcome = Processed::Failed;
            self.is_stopped = true;
            self.refused = Some(Refused::Unprocessed { by: self.name.clone(), error: Box::new(error) });
        }
        Err(Stopped)
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        if let Talk::Open(stream) = std::mem::replace(self.talk.get_mut(), Talk::Over) {
            self.lane.crew.add("processor", stream.end());
        }
    }
}
