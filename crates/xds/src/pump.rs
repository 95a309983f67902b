//! Drives a subscriber over gRPC: opens streams, carries messages, hands batches to the world's writer and waits
//! until they are in force. Owns waits and their limits. Decides nothing (`subscriber`); channels, tokens and TLS
//! are handed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ambit_process::stop::Stop;
use ambit_wire::convert::ResourceType;
use ambit_wire::limits;
use ambit_wire::pb::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_wire::pb::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tracing::{debug, info, warn};

use crate::backoff::Ending;
use crate::lookup::{Lookup, Lookups, Waiters};
use crate::subscriber::{Action, Batch, Mode, Subscriber};

/// Any error; its chain is shown to people.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Makes a channel to the control plane; called for each attempt, so that addresses and roots are looked up anew.
pub type Dial = Box<dyn Fn() -> BoxFuture<'static, Result<Channel, AnyError>> + Send + Sync>;

/// Makes the headers of a stream (`authorization`, `clusterid`); called for each, so that tokens are read anew.
pub type Headers = Box<dyn Fn() -> Result<MetadataMap, AnyError> + Send + Sync>;

/// Connection and handshake. Above TCP's third retransmission, below a person's patience.
const DIAL_WAIT: Duration = Duration::from_secs(10);
/// Until the server's first byte: upstream's says nothing before its first response, which it builds for a while.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Until a request of ours is taken by the transport; one that does not take acknowledgements is dead.
const SEND_WAIT: Duration = Duration::from_secs(30);
/// Requests between us and the transport.
const REQUESTS: usize = 64;

/// One batch for the world's writer.
#[derive(Debug)]
pub struct Apply {
    /// What changes.
    pub batch: Batch,
    /// To be told once it is in force; only then it is acknowledged.
    pub done: oneshot::Sender<()>,
}

/// How the subscription goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// A stream is open and the server has answered on it.
    pub connected: bool,
    /// The first batch of every type is in force; never taken back.
    pub in_step: bool,
    /// Streams attempted.
    pub attempts: u64,
    /// Resources held.
    pub retained: usize,
    /// Resources refused so far.
    pub refused: u64,
    /// How the latest stream ended.
    pub last_ending: Option<Ending>,
}

/// What a subscription needs from its owner.
pub struct Settings {
    /// Who subscribes.
    pub node: Node,
    /// How addresses are subscribed to.
    pub mode: Mode,
    /// Makes a channel.
    pub dial: Dial,
    /// Makes the headers of a stream.
    pub headers: Headers,
}

/// What the owner keeps of a running subscription.
#[derive(Debug, Clone)]
pub struct Handle {
    /// How it goes.
    pub progress: watch::Receiver<Progress>,
    /// Where to ask for names; on demand only.
    pub lookups: Lookups,
}

/// A subscription about to run.
pub struct Pump {
    subscriber: Subscriber,
    mode: Mode,
    dial: Dial,
    headers: Headers,
    world: mpsc::Sender<Apply>,
    progress: watch::Sender<Progress>,
    waiters: Waiters,
}

/// The world's writer is gone; there is nobody to subscribe for.
struct WorldGone;

impl Pump {
    /// A subscription that hands its batches to `world`.
    #[must_use]
    pub fn new(settings: Settings, world: mpsc::Sender<Apply>) -> (Self, Handle) {
        let Settings { node, mode, dial, headers } = settings;
        let (progress, progress_view) = watch::channel(Progress::default());
        let (lookups, waiters) = Waiters::new();
        let subscriber = Subscriber::new(node, mode);
        let pump = Self { subscriber, mode, dial, headers, world, progress, waiters };
        (pump, Handle { progress: progress_view, lookups })
    }

    /// The same to these types, which are asked for in this order.
    #[must_use]
    pub fn asking(mut self, kinds: &'static [ResourceType]) -> Self {
        self.subscriber = self.subscriber.asking(kinds);
        self
    }

    /// Subscribes until stopped, or until the world's writer is gone.
    pub async fn run(mut self, stop: Stop) {
        let mut actions = self.subscriber.start();
        loop {
            let waits = actions.iter().find_map(|action| match action {
                Action::WakeAt(until) => Some(*until),
                Action::Open | Action::Send(_) | Action::Apply(_) => None,
            });
            let step = self.wait_or_stream(waits);
            actions = tokio::select! {
                // Dropping a stream in the middle loses nothing that the next one would not ask for again.
                () = stop.stopped() => return,
                next = step => match next {
                    Ok(actions) => actions,
                    Err(WorldGone) => return,
                },
            };
        }
    }

    async fn wait_or_stream(&mut self, waits: Option<Instant>) -> Result<Vec<Action>, WorldGone> {
        if let Some(until) = waits {
            tokio::time::sleep_until(until.into()).await;
            return Ok(self.subscriber.on_time(now()));
        }
        self.progress.send_modify(|progress| progress.attempts += 1);
        let ending = self.one_stream().await?;
        info!(target: "xds", %ending, "discovery stream ended");
        let actions = self.subscriber.on_closed(&ending, now(), fastrand::u32(..));
        self.progress.send_modify(|progress| {
            progress.connected = false;
            progress.last_ending = Some(ending);
        });
        Ok(actions)
    }

    async fn one_stream(&mut self) -> Result<Ending, WorldGone> {
        let (requests, outgoing) = mpsc::channel(REQUESTS);
        let mut responses = match self.open(&requests, outgoing).await {
            Ok(responses) => responses,
            Err(ending) => return Ok(ending),
        };
        debug!(target: "xds", "discovery stream open");
        self.progress.send_modify(|progress| progress.connected = true);
        loop {
            // Both are cancel-safe: a message or name not taken stays where it is.
            let actions = tokio::select! {
                message = responses.message() => match message {
                    Ok(Some(response)) => self.subscriber.on_response(response),
                    Ok(None) => return Ok(Ending::Closed),
                    Err(status) => return Ok(ending_of(&status)),
                },
                Some(name) = self.waiters.next() => self.ask(&name),
            };
            if let Some(ending) = self.obey(actions, &requests).await? {
                return Ok(ending);
            }
        }
    }

    fn ask(&mut self, name: &str) -> Vec<Action> {
        if self.mode == Mode::Wildcard {
            // Everything was asked for: what is not in force by now does not exist.
            self.waiters.settle(name, Lookup::InForce);
        }
        self.subscriber.on_demand(name)
    }

    async fn open(
        &mut self,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
        outgoing: mpsc::Receiver<DeltaDiscoveryRequest>,
    ) -> Result<Streaming<DeltaDiscoveryResponse>, Ending> {
        let channel = match timeout(DIAL_WAIT, (self.dial)()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(Ending::Unreachable(in_full(&*error))),
            Err(_) => return Err(Ending::Unreachable(format!("no connection within {DIAL_WAIT:?}"))),
        };
        let headers = (self.headers)().map_err(|error| Ending::Unreachable(in_full(&*error)))?;
        let mut request = Request::new(ReceiverStream::new(outgoing));
        *request.metadata_mut() = headers;
        // Before the call: a server may say nothing, not even headers, until it was asked something.
        for action in self.subscriber.on_opened() {
            if let Action::Send(first) = action {
                let lost = |_| Ending::Lost("the transport takes no request".into());
                requests.try_send(*first).map_err(lost)?;
            }
        }
        let mut client = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(limits::DISCOVERY_RESPONSE);
        match timeout(ANSWER_WAIT, client.delta_aggregated_resources(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if status.code() == Code::Unavailable => {
                Err(Ending::Unreachable(in_full(&status)))
            }
            Ok(Err(status)) => Err(ending_of(&status)),
            Err(_) => Err(Ending::Unreachable(format!("no answer within {ANSWER_WAIT:?}"))),
        }
    }

    /// Does what the subscriber asks. An ending: the stream is of no more use.
    async fn obey(
        &mut self,
        actions: Vec<Action>,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    ) -> Result<Option<Ending>, WorldGone> {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(request) => {
                    if timeout(SEND_WAIT, requests.send(*request)).await.is_err() {
                        let why = format!("the transport took no request within {SEND_WAIT:?}");
                        return Ok(Some(Ending::Lost(why)));
                    }
                }
                Action::Apply(batch) => actions.extend(self.apply(batch).await?),
                Action::Open | Action::WakeAt(_) => {}
            }
        }
        Ok(None)
    }

    /// Hands a batch on and waits until it is in force. Meanwhile nothing is read: what changes in that time comes
    /// as one response afterwards.
    async fn apply(&mut self, batch: Batch) -> Result<Vec<Action>, WorldGone> {
        for refused in &batch.refused {
            warn!(target: "xds", resource = refused.name, reason = refused.reason, "resource refused");
        }
        let refused = u64::try_from(batch.refused.len()).unwrap_or(u64::MAX);
        let (found, missing) = (batch.found.clone(), batch.missing.clone());
        let (done, in_force) = oneshot::channel();
        self.world.send(Apply { batch, done }).await.map_err(|_| WorldGone)?;
        in_force.await.map_err(|_| WorldGone)?;
        found.iter().for_each(|name| self.waiters.settle(name, Lookup::InForce));
        missing.iter().for_each(|name| self.waiters.settle(name, Lookup::Missing));
        let answers = self.subscriber.on_applied();
        let (in_step, retained) = (self.subscriber.is_in_step(), self.subscriber.retained());
        self.progress.send_modify(|progress| {
            progress.in_step = in_step;
            progress.retained = retained;
            progress.refused += refused;
        });
        Ok(answers)
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Which ending a status is: a lost transport shows as one of four codes, everything else is the server's word.
fn ending_of(status: &Status) -> Ending {
    match status.code() {
        Code::Ok => Ending::Closed,
        Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable => {
            Ending::Lost(in_full(status))
        }
        _ => Ending::Refused(in_full(status)),
    }
}

/// An error and what lies behind it in one line.
fn in_full(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
