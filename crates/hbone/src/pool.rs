//! Shared tunnels by (source identity, hop, expected identities). One pool serves one workload on one thread.
//! Owns which tunnel carries a stream and when a tunnel is dialled or closed. `table` decides, `tunnel` keeps
//! one going, `dial` makes one; `relay` puts a tunnel inside a stream of another.

mod relay;
mod seat;
mod table;
mod tunnel;

pub use relay::{RelayError, Through};
pub use seat::Seat;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambit_model::address::HopAddr;
use ambit_model::name::Identity;
use ambit_process::net::TcpStream;
use ambit_process::stop::Stop;
use ambit_process::tasks::{Drained, Tasks};
use ambit_tls::credential::Credential;
use ambit_tls::vault::Vault;
use bytes::Bytes;
use h2::client::SendRequest;
use http::StatusCode;
use tokio::time::{Instant, timeout};

use crate::dial::{self, DialError, Stage};
use crate::head::{Connect, HeadError, Opened};
use crate::settings::{STREAMS_USED, Windows};
use crate::stream::Stream;
use table::{Look, Table, Taken};
use tunnel::Attempt;

/// How long the CA may keep a dial waiting.
const CERTIFICATE_WAIT: Duration = Duration::from_secs(10);
/// How long a stream may wait for its tunnel: a certificate, the dial, and its turn after others.
const TURN_WAIT: Duration = Duration::from_secs(30);
/// How long the far end may take to answer: it looks up its workload and connects to the application.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Tunnels that may turn a request away unseen (RFC 9113, 8.7) before we give up.
const TRIES: u32 = 3;

/// At some 40 KiB for each end, a few MiB in all. A tunnel that is missed costs a handshake, a millisecond of work.
pub const IDLE_TUNNELS: usize = 64;

/// Whose tunnel, to whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// As whom we speak.
    pub source: Identity,
    /// The address we dial from, when it matters.
    pub source_ip: Option<IpAddr>,
    /// Whom we dial.
    pub hop: HopAddr,
    /// Who may answer.
    pub expect: Arc<[Identity]>,
}

/// Limits of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// Streams used of one tunnel, if the peer allows as many.
    pub streams_per_tunnel: usize,
    /// Tunnels kept. At the limit an idle one makes room.
    pub tunnels: usize,
    /// A tunnel without streams for this long is closed.
    pub idle: Duration,
    /// Tunnels without streams that all pools of the process together keep for that long; beyond it those go that
    /// are idle for longest.
    pub idle_tunnels: usize,
    /// After a failed dial, others are told the same for this long at most: less, if it took no time to fail.
    pub remember_failure: Duration,
    /// What may be under way to us, as long as nothing else is said ([`Pool::use_windows`]).
    pub windows: Windows,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            streams_per_tunnel: STREAMS_USED,
            tunnels: 500,
            idle: Duration::from_secs(300),
            idle_tunnels: IDLE_TUNNELS,
            remember_failure: Duration::from_millis(500),
            windows: Windows::default(),
        }
    }
}

/// Why there is no stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// There is no tunnel. The error is shared with all who waited for it.
    #[error("no tunnel")]
    Dial(#[source] Arc<DialError>),
    /// The request cannot be written.
    #[error("the request cannot be written")]
    Head(#[source] HeadError),
    /// The far end said no.
    #[error("the far end answered {status}")]
    Refused {
        /// Its answer.
        status: StatusCode,
    },
    /// The far end did not answer.
    #[error("the far end did not answer within {limit:?}")]
    Silent {
        /// How long was waited.
        limit: Duration,
    },
    /// The stream or its tunnel broke before an answer came.
    #[error("the stream broke before it was answered")]
    Broken(#[source] Arc<h2::Error>),
}

impl OpenError {
    /// Whether nobody listens at the far end, or has just ceased to, while its machine is there: its kernel says so.
    /// That may change in a moment. What is refused for a reason, or not answered at all, is not expected to.
    #[must_use]
    pub fn is_of_absence(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_of_absence(),
            Self::Broken(error) => dial::is_lost(error),
            Self::Head(_) | Self::Refused { .. } | Self::Silent { .. } => false,
        }
    }
}

/// An open stream, and what was said when it opened.
pub struct Carried {
    /// The stream.
    pub stream: Stream,
    /// The far end's answer.
    pub answer: Opened,
    /// Who the tunnel's other end is.
    pub peer: Identity,
}

/// The tunnels of one workload on one thread. Dropping it ends them all at once; see [`Pool::drain`].
pub struct Pool {
    shared: Arc<Shared>,
    tasks: Mutex<Tasks>,
}

/// What the pool and its tunnels share.
struct Shared {
    table: Mutex<Table>,
    settings: PoolSettings,
    windows: Mutex<Windows>,
    vault: Vault,
}

impl Shared {
    /// Runs `f` on the table. Short, and never across an await.
    fn with<T>(&self, f: impl FnOnce(&mut Table) -> T) -> T {
        f(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What may be under way to us in a new tunnel.
    fn windows(&self) -> Windows {
        *self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a tunnel's source shows of itself.
    async fn credential(&self, key: &Key) -> Result<Arc<Credential>, DialError> {
        let fetched = self.vault.fetch(&key.source, CERTIFICATE_WAIT).await;
        fetched.map_err(|source| DialError::Certificate { hop: key.hop, source })
    }
}

impl Pool {
    /// An empty pool, whose tunnels end in peace when `stop` is pulled.
    #[must_use]
    pub fn new(vault: Vault, settings: PoolSettings, stop: &Stop) -> Self {
        let (table, windows) = (Mutex::new(Table::new(settings)), Mutex::new(settings.windows));
        let shared = Arc::new(Shared { table, settings, windows, vault });
        Self { shared, tasks: Mutex::new(Tasks::new(stop)) }
    }

    /// From now on tunnels are opened with these windows; those that are open keep theirs.
    pub fn use_windows(&self, windows: Windows) {
        *self.shared.windows.lock().unwrap_or_else(PoisonError::into_inner) = windows;
    }

    /// Opens a stream to `head.authority` over a tunnel of `key`; `connect` makes the TCP connection
    /// should one have to be dialled.
    ///
    /// # Errors
    /// [`OpenError`] when there is no tunnel, or the far end does not open the stream.
    pub async fn open<C, F>(&self, key: &Key, head: &Connect, connect: C) -> Result<Carried, OpenError>
    where
        C: Fn() -> F,
        F: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        let mut tries = 0;
        loop {
            let taken = self.take(key, &connect).await.map_err(OpenError::Dial)?;
            let request = head.request().map_err(OpenError::Head)?;
            tries += 1;
            match ask(taken, request).await {
                Err(OpenError::Broken(error)) if tries < TRIES && unseen(&error) => {}
                outcome => return outcome,
            }
        }
    }

    /// Tunnels that are open.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.shared.with(|table| table.tunnels())
    }

    /// Tells all peers goodbye, lets open streams end for at most `limit`, then ends the rest.
    pub async fn drain(self, limit: Duration) -> Drained {
        let tasks = self.tasks.into_inner().unwrap_or_else(PoisonError::into_inner);
        tasks.drain(limit).await
    }

    /// A seat on a tunnel, which is dialled if need be. One dial serves all who wait for it.
    async fn take<C, F>(&self, key: &Key, connect: &C) -> Result<Taken, Arc<DialError>>
    where
        C: Fn() -> F,
        F: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        let waiting = async {
            let mut waited = None;
            loop {
                let look = self.shared.with(|table| table.look(key, waited, Instant::now()));
                let mut changed = match look {
                    Look::Taken(taken) => return Ok(taken),
                    Look::Failed(error) => return Err(error),
                    Look::Wait { attempt, changed } => {
                        waited = attempt.or(waited);
                        changed
                    }
                    Look::Dial { attempt, changed } => {
                        waited = Some(attempt);
                        self.begin(key.clone(), attempt, connect());
                        changed
                    }
                };
                // A sender that is gone means that the entry is: look again.
                let _ = changed.changed().await;
            }
        };
        match timeout(TURN_WAIT, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Arc::new(DialError::Silent { hop: key.hop, stage: Stage::Turn, limit: TURN_WAIT })),
        }
    }

    /// Dials in a task of its own: whoever asked first may leave, the others still wait.
    fn begin(
        &self,
        key: Key,
        attempt: u64,
        connect: impl Future<Output = io::Result<TcpStream>> + Send + 'static,
    ) {
        let attempt = Attempt::new(Arc::clone(&self.shared), key, attempt);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn("tunnel", move |stop| attempt.run(connect, stop));
    }
}

/// Sends the request and waits for the answer.
async fn ask(taken: Taken, request: http::Request<()>) -> Result<Carried, OpenError> {
    let Taken { send, seat, peer, stalls } = taken;
    let broken = |error| OpenError::Broken(Arc::new(error));
    let mut send: SendRequest<Bytes> = send;
    let (answer, body) = send.send_request(request, false).map_err(broken)?;
    drop(send); // the tunnel may end when its last stream does
    let answer = timeout(ANSWER_WAIT, answer).await;
    let answer = answer.map_err(|_| OpenError::Silent { limit: ANSWER_WAIT })?.map_err(broken)?;
    if answer.status() != StatusCode::OK {
        return Err(OpenError::Refused { status: answer.status() });
    }
    let opened = Opened::read(&answer);
    let stream = Stream { send: body, recv: answer.into_body(), seat: Some(seat), stalls };
    Ok(Carried { stream, answer: opened, peer })
}

/// True when the peer has certainly not acted on the request, so that it may be sent again.
fn unseen(error: &h2::Error) -> bool {
    error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
        || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

#[cfg(test)]
mod tests;
