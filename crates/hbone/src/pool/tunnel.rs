//! One tunnel's life in a pool: dialled, greeted, used, idle or told to stop, gone.
//! One task does it all, so that nothing of a tunnel outlives it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_process::net::TcpStream;
use ambit_process::stop::Stop;
use h2::Reason;
use tokio::time::{Instant, sleep};

use super::seat::{Rest, Seats};
use super::table::Held;
use super::{Key, Shared};
use crate::ahead::Ahead;
use crate::dial::{DialError, Dialled, Driven, dial, drive};
use crate::liveness::Liveness;
use crate::stall::{self, Growth};

/// How long the farewell of an idle tunnel may take.
const FAREWELL_WAIT: Duration = Duration::from_secs(5);

/// A dial under way. However it ends, the table hears of it: also when the task is aborted.
pub(super) struct Attempt {
    shared: Arc<Shared>,
    key: Key,
    attempt: u64,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Does nothing when the outcome was told before.
        self.shared.with(|table| table.failed(&self.key, self.attempt, DialError::Closed, Instant::now()));
    }
}

impl Attempt {
    pub(super) fn new(shared: Arc<Shared>, key: Key, attempt: u64) -> Self {
        Self { shared, key, attempt }
    }

    /// Dials, and if that succeeds keeps the tunnel going until it ends.
    pub(super) async fn run(self, connect: impl Future<Output = io::Result<TcpStream>>, stop: Stop) {
        // Boxed: a dial is large and short, and the tunnel's task should not keep room for it.
        let dialled = tokio::select! {
            dialled = Box::pin(self.dial(connect)) => dialled,
            () = stop.stopped() => Err(DialError::Closed),
        };
        let Dialled { send, conn, liveness, peer, windows } = match dialled {
            Ok(dialled) => dialled,
            Err(error) => {
                tracing::debug!(hop = %self.key.hop, error = &error as &dyn std::error::Error, "no tunnel");
                return self
                    .shared
                    .with(|table| table.failed(&self.key, self.attempt, error, Instant::now()));
            }
        };
        let (seats, (stalls, growth)) = (Seats::new(), stall::pair(windows));
        let live =
            Live { shared: Arc::clone(&self.shared), key: self.key.clone(), seats: Arc::clone(&seats) };
        let held = Held { send, seats, peer, stalls };
        self.shared.with(|table| table.arrived(&self.key, self.attempt, held));
        drop(self);
        live.keep((conn, growth), liveness, stop).await;
    }

    async fn dial(
        &self,
        connect: impl Future<Output = io::Result<TcpStream>>,
    ) -> Result<Dialled<Ahead>, DialError> {
        let credential = self.shared.credential(&self.key).await?;
        let tls = credential.dialling(Arc::clone(&self.key.expect));
        dial(self.key.hop, (tls, self.shared.windows()), connect).await
    }
}

/// A tunnel that is up. Dropped, it is no longer in the table.
struct Live {
    shared: Arc<Shared>,
    key: Key,
    seats: Arc<Seats>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.retire();
    }
}

impl Live {
    /// Gives no more seats, and lets go of our handle: the connection says goodbye after its last stream.
    fn retire(&self) {
        self.seats.close();
        self.shared.with(|table| table.remove(&self.key, &self.seats));
    }

    async fn keep(self, (mut conn, mut growth): (Driven<Ahead>, Growth), mut liveness: Liveness, stop: Stop) {
        let settings = &self.shared.settings;
        let rest = Rest::new(settings.idle, settings.idle_tunnels);
        let lapsed = liveness.lapsed();
        let mut watch = std::pin::pin!(self.watch(&mut liveness));
        // Cancel-safe: the connection and the seats keep their own state.
        tokio::select! {
            ended = drive(&mut conn, &mut growth) => return note(&self.key, ended),
            () = &mut watch => return,
            () = self.seats.rested(rest) => {}
            // Whoever opens a stream from now on shall see a proof that holds; who did is served to the end.
            () = lapsed => {}
            () = stop.stopped() => {}
        }
        self.retire();
        let streams = self.seats.streams_left();
        tokio::select! {
            ended = drive(&mut conn, &mut growth) => note(&self.key, ended),
            () = &mut watch => {}
            () = sleep(FAREWELL_WAIT), if !streams => {}
        }
    }

    /// Learns the peer's limit, then watches over its life. Returns when the peer is dead.
    async fn watch(&self, liveness: &mut Liveness) {
        if !liveness.greet().await {
            return;
        }
        self.shared.with(|table| table.settled(&self.key, &self.seats, Instant::now()));
        liveness.dead().await;
    }
}

pub(super) fn note(key: &Key, ended: Result<(), h2::Error>) {
    if let Err(error) = ended
        && error.reason() != Some(Reason::NO_ERROR)
    {
        tracing::debug!(hop = %key.hop, error = &error as &dyn std::error::Error, "a tunnel broke");
    }
}
