//! A tunnel inside a stream of another tunnel: how other networks are reached (`ztunnel.md` 2.9).
//! The outer tunnel is one of the pool's, shared like any. The inner one serves one stream and is not kept: it ends
//! with the application's connection, and the gateway between sees neither its bytes nor its peer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::name::Identity;
use ambit_process::net::TcpStream;
use tokio::time::sleep;

use super::seat::{Rest, Seats};
use super::table::Taken;
use super::tunnel::note;
use super::{Carried, Key, OpenError, PoisonError, Pool, ask};
use crate::dial::{DialError, Dialled, Driven, drive, over};
use crate::head::Connect;
use crate::liveness::Liveness;
use crate::nested::Nested;
use crate::stall::{self, Growth};
use crate::stream::Stream;

/// How long the last bytes and the farewell of an inner tunnel may take.
const FAREWELL_WAIT: Duration = Duration::from_secs(5);

/// A stream through a gateway: how to get there, and who must answer behind it.
#[derive(Debug, Clone)]
pub struct Through<'a> {
    /// The tunnel to the gateway.
    pub key: &'a Key,
    /// What the gateway is asked for.
    pub outer: &'a Connect,
    /// Who may answer inside. Empty: nobody can.
    pub expect: Arc<[Identity]>,
    /// What the far end is asked for.
    pub inner: &'a Connect,
}

/// Why there is no stream through a gateway.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RelayError {
    /// The gateway is not reached, or does not relay.
    #[error("the gateway")]
    Gateway(#[source] OpenError),
    /// The gateway relays, but the far end is not the one wanted, or does not open the stream.
    #[error("behind the gateway")]
    Behind(#[source] OpenError),
}

impl Pool {
    /// Opens a stream through a gateway; `connect` makes the TCP connection to it, should one be needed.
    /// [`Carried::peer`] and [`Carried::answer`] are the far end's, not the gateway's.
    ///
    /// # Errors
    /// [`RelayError`] tells the gateway's part from the far end's.
    pub async fn open_through<C, F>(&self, through: &Through<'_>, connect: C) -> Result<Carried, RelayError>
    where
        C: Fn() -> F,
        F: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        let gateway = Box::pin(self.open(through.key, through.outer, connect)).await;
        let outer = gateway.map_err(RelayError::Gateway)?.stream;
        Box::pin(self.open_inside(through, outer)).await.map_err(RelayError::Behind)
    }

    async fn open_inside(&self, through: &Through<'_>, outer: Stream) -> Result<Carried, OpenError> {
        let request = through.inner.request().map_err(OpenError::Head)?;
        let failed = |error| OpenError::Dial(Arc::new(error));
        let hop = through.key.hop;
        let credential = self.shared.credential(through.key).await.map_err(failed)?;
        let tls = credential.dialling(Arc::clone(&through.expect));
        let how = (tls, self.shared.windows());
        let Dialled { send, conn, liveness, peer, windows } =
            over(hop, how, Nested::new(outer)).await.map_err(failed)?;
        let (seats, (stalls, growth)) = (Seats::new(), stall::pair(windows));
        let seat = seats.take(1).ok_or_else(|| failed(DialError::Full { hop }))?;
        // A stop does not end it: what is open may go on, and it ends with its only stream.
        let life = keep(through.key.clone(), (conn, growth), liveness, seats);
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn("inner tunnel", move |_| life);
        ask(Taken { send, seat, peer, stalls }, request).await
    }
}

/// Keeps an inner tunnel going until its stream has ended, and all that was said is gone.
async fn keep(
    key: Key,
    (mut conn, mut growth): (Driven<Nested>, Growth),
    mut liveness: Liveness,
    seats: Arc<Seats>,
) {
    // Cancel-safe: the connection and the seats keep their own state.
    tokio::select! {
        ended = drive(&mut conn, &mut growth) => return note(&key, ended),
        () = liveness.dead() => return,
        () = seats.rested(Rest::new(Duration::ZERO, usize::MAX)) => {}
    }
    tokio::select! {
        ended = drive(&mut conn, &mut growth) => note(&key, ended),
        () = sleep(FAREWELL_WAIT) => {}
    }
}

#[cfg(test)]
mod tests;
