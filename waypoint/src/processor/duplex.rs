//! A conversation in which neither side waits for the other (`FULL_DUPLEX_STREAMED`): what is told goes there as it comes,
//! and what comes back is sorted by which way of the exchange it is of. Owns the task that listens, and how long it is
//! waited for: as long as it takes something or says something, and not while nobody takes what it says. What is told, and what is done with what comes, is `phases::process::duplex`'s.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambit_model::ext_proc::{ExtProc, Onward, Part, Said, Step, Way};
use ambit_wire::process::{self, First};
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use super::{BESIDE, NoReply, Processor, State, Stopped};
use crate::call::{CallError, Stream, framed};
use crate::lane::Lane;

/// Messages on their way to the processor.
const TOLD: usize = 4;
/// What it has said of a way and nobody has taken yet.
const HEARD: usize = 4;

/// What it says of a way: of which part, and what.
pub(crate) type Word = (Part, Box<Onward>);

/// The conversation.
pub(super) struct Duplex {
    to: mpsc::Sender<Bytes>,
    /// This goes with the first message.
    first: StdMutex<Option<Box<First>>>,
    /// What comes of each way, for the one who follows that.
    heard: [Mutex<mpsc::Receiver<Word>>; 2],
    pace: Arc<Pace>,
    /// Dropped when there is nothing more to tell and to hear.
    alive: StdMutex<Option<oneshot::Sender<()>>>,
}

/// Whether it is the processor that is waited for, and not the one who takes what it says.
#[derive(Default)]
struct Pace {
    /// What it has said so far.
    words: AtomicU64,
    /// Whether it says something that nobody has taken yet.
    is_held: AtomicBool,
}

impl Pace {
    fn words(&self) -> u64 {
        self.words.load(Ordering::Relaxed)
    }

    /// Whether it was heard of since it had said so much.
    fn moves(&self, before: &mut u64) -> bool {
        let words = self.words();
        let has_spoken = std::mem::replace(before, words) != words;
        has_spoken || self.is_held.load(Ordering::Relaxed)
    }

    /// Waits for as long as the processor does something, and for so long when it does not.
    async fn within<T>(&self, patience: Duration, turn: impl Future<Output = T>) -> Result<T, NoReply> {
        let mut turn = pin!(turn);
        let mut before = self.words();
        loop {
            match timeout(patience, turn.as_mut()).await {
                Ok(done) => return Ok(done),
                Err(_) if self.moves(&mut before) => {}
                Err(_) => return Err(CallError::Silent(patience).into()),
            }
        }
    }
}

impl Duplex {
    /// Begins it.
    pub(super) fn begin(
        lane: &Arc<Lane>,
        policy: &Arc<ExtProc>,
        (first, state): (Box<First>, Arc<StdMutex<State>>),
    ) -> Self {
        let (to, told) = mpsc::channel(TOLD);
        let (of_request, request) = mpsc::channel(HEARD);
        let (of_response, response) = mpsc::channel(HEARD);
        let (alive, ends) = oneshot::channel();
        let ears = Ears { of: [of_request, of_response], pace: Arc::default(), state };
        let pace = Arc::clone(&ears.pace);
        lane.crew.add("processor", listen((Arc::clone(lane), Arc::clone(policy)), (told, ends), ears));
        let heard = [Mutex::new(request), Mutex::new(response)];
        Self { to, first: StdMutex::new(Some(first)), heard, pace, alive: StdMutex::new(Some(alive)) }
    }

    /// Nothing more is told, and nothing heard.
    pub(super) fn end(&self) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn heard(&self, way: Way) -> &Mutex<mpsc::Receiver<Word>> {
        let [request, response] = &self.heard;
        match way {
            Way::Request => request,
            Way::Response => response,
        }
    }
}

/// Where what it says is heard.
struct Ears {
    of: [mpsc::Sender<Word>; 2],
    pace: Arc<Pace>,
    state: Arc<StdMutex<State>>,
}

/// Hears what the processor says, until it ends the conversation or nobody listens any more.
async fn listen(
    (lane, policy): (Arc<Lane>, Arc<ExtProc>),
    (told, mut ends): (mpsc::Receiver<Bytes>, oneshot::Receiver<()>),
    ears: Ears,
) {
    let opened = async {
        let at = policy.at.as_ref().ok_or(NoReply::Unreadable)?;
        let largest = policy.body_most.saturating_add(BESIDE);
        Ok::<_, NoReply>(Box::pin(Stream::pour(&lane, at, (process::METHOD, told), largest)).await?)
    };
    let opened = tokio::select! {
        opened = opened => opened,
        _ = &mut ends => return,
    };
    let heard = match opened {
        Ok(mut stream) => {
            // What has come and was not taken when it ends is nobody's concern any more.
            tokio::select! {
                heard = ears.hear(&mut stream) => heard,
                _ = &mut ends => return stream.end().await,
            }
        }
        Err(error) => Err(error),
    };
    if let Err(error) = heard {
        // Whoever waits is told by the state why nothing comes; the ears are closed after that.
        let _ = ears.state().fail(&policy, error);
    }
}

impl Ears {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn hear(&self, stream: &mut Stream) -> Result<(), NoReply> {
        while let Some(bytes) = stream.next().await? {
            match process::reply(bytes)?.said {
                Said::Nothing => {}
                Said::Answer(answer) => {
                    self.state().answered(answer);
                    return Ok(());
                }
                Said::Onward(step, onward) => self.hand_over(step, onward).await,
            }
        }
        Ok(())
    }

    async fn hand_over(&self, Step { way, part }: Step, onward: Box<Onward>) {
        let [request, response] = &self.of;
        let to = if way == Way::Request { request } else { response };
        self.pace.is_held.store(true, Ordering::Relaxed);
        // Nobody follows a way that is over.
        let _ = to.send((part, onward)).await;
        self.pace.words.fetch_add(1, Ordering::Relaxed);
        self.pace.is_held.store(false, Ordering::Relaxed);
    }
}

impl Processor {
    /// Tells it of something, and does not wait for an answer. Whether it still listens.
    pub(crate) async fn say(&self, message: impl FnOnce(Option<&First>) -> Bytes) -> Result<bool, Stopped> {
        let Some(duplex) = &self.duplex else { return Ok(false) };
        if self.state().is_stopped {
            return Err(Stopped);
        }
        let first = duplex.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let message = match framed(&message(first.as_deref())) {
            Ok(message) => message,
            Err(error) => return self.fail(error.into()).map(|()| false),
        };
        match duplex.pace.within(self.policy.patience, duplex.to.reserve()).await {
            Ok(Ok(room)) => {
                room.send(message);
                Ok(true)
            }
            Ok(Err(_)) if self.state().is_stopped => Err(Stopped),
            Ok(Err(_)) => Ok(false),
            Err(error) => self.fail(error).map(|()| false),
        }
    }

    /// The next that it says of a way; none: it says nothing more. In time, where it is its turn.
    pub(crate) async fn word(&self, way: Way, is_its_turn: bool) -> Result<Option<Word>, Stopped> {
        let Some(duplex) = &self.duplex else { return Ok(None) };
        let mut heard = duplex.heard(way).lock().await;
        let word = if is_its_turn {
            match duplex.pace.within(self.policy.patience, heard.recv()).await {
                Ok(word) => word,
                Err(error) => return self.fail(error).map(|()| None),
            }
        } else {
            heard.recv().await
        };
        if word.is_none() && self.state().is_stopped { Err(Stopped) } else { Ok(word) }
    }

    /// One message and its answer, of a way on which it is waited for.
    pub(super) async fn ask(
        &self,
        step: Step,
        message: impl FnOnce(Option<&First>) -> Bytes,
    ) -> Result<Option<Box<Onward>>, Stopped> {
        // Where it no longer listens, what comes says whether that is as it should be.
        self.say(message).await?;
        match self.word(step.way, true).await? {
            Some((part, onward)) if part == step.part => Ok(Some(onward)),
            Some((part, _)) => self.misheard(step, part).map(|()| None),
            None => Ok(None),
        }
    }

    /// It speaks of something else than what it is its turn to speak of.
    pub(crate) fn misheard(&self, told: Step, part: Part) -> Result<(), Stopped> {
        let found = Step { way: told.way, part };
        self.fail(ambit_model::ext_proc::OutOfOrder { told, found }.into())
    }
}
