//! Asks others what we do not know (`ztunnel.md` 10.5), from sockets in the pod's namespace, so that what a network
//! allows the pod holds here too. Owns whom to ask when, and what is believed.
//!
//! Every question goes out from a port of chance under a number of chance, and only an answer to that very question
//! from the very server counts: others would have to guess both to be believed. Nothing is kept, so a lie that was
//! believed would not last.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ambit_process::net::UdpSocket;
use ambit_wire::dns::{Carrier, Heard, Question, heard};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::time::{Instant, sleep_until};

use super::resolvers::Told;
use crate::sockets::Sockets;

/// Questions to others for one of the pod's.
const TRIES: usize = 6;
/// Datagrams that are no answer to our question, before we give up on a port: somebody is guessing.
const NOISE: usize = 32;
/// The largest datagram that we say we take, and a bit, so that a longer one shows.
const DATAGRAM: usize = 4096 + 16;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("nobody answered within {limit:?}")]
    Silent { limit: Duration },
    #[error("nobody could be asked: {0}")]
    Unreachable(#[source] io::Error),
}

/// What others say to a question. One that refuses counts only when nobody answers.
pub(crate) async fn forward(
    sockets: &dyn Sockets,
    told: &Told,
    question: &Question,
    carrier: Carrier,
) -> Result<Vec<u8>, Unanswered> {
    let limit = tokio::time::sleep(told.limit);
    tokio::pin!(limit);
    let tries = (told.servers.len() * told.attempts).min(TRIES);
    let mut servers = told.servers.iter().cycle().take(tries);
    let (mut asking, mut refusal, mut failure) = (FuturesUnordered::new(), None, None);
    let mut next_at = Instant::now();
    let mut more = true;
    loop {
        tokio::select! {
            biased;
            Some(said) = asking.next() => match said {
                Ok((Heard::Answer | Heard::Cut, bytes)) => return Ok(bytes),
                Ok((_, bytes)) => {
                    refusal = Some(bytes);
                    next_at = Instant::now();
                }
                Err(error) => {
                    failure = Some(error);
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if more => match servers.next() {
                Some(server) => {
                    asking.push(ask(sockets, *server, question, carrier));
                    next_at = Instant::now() + told.patience;
                }
                None => more = false,
            },
            () = &mut limit => break,
        }
        if !more && asking.is_empty() {
            break;
        }
    }
    match (refusal, failure) {
        (Some(bytes), _) => Ok(bytes),
        (None, Some(error)) if asking.is_empty() => Err(Unanswered::Unreachable(error)),
        (None, _) => Err(Unanswered::Silent { limit: told.limit }),
    }
}

/// Asks one server: over UDP, and over TCP for the rest of an answer, if whoever asked us can take all of it.
async fn ask(
    sockets: &dyn Sockets,
    server: SocketAddr,
    question: &Question,
    carrier: Carrier,
) -> io::Result<(Heard, Vec<u8>)> {
    let said = Box::pin(ask_udp(sockets, server, question)).await?;
    match (said.0, carrier) {
        (Heard::Cut, Carrier::Tcp) => Box::pin(ask_tcp(sockets, server, question)).await,
        _ => Ok(said),
    }
}

async fn ask_udp(
    sockets: &dyn Sockets,
    server: SocketAddr,
    question: &Question,
) -> io::Result<(Heard, Vec<u8>)> {
    let socket = UdpSocket::from_std(sockets.ask(server).map_err(io::Error::other)?)?;
    // From here on the kernel takes packets of this server alone.
    socket.connect(server).await?;
    let id = number()?;
    socket.send(&question.forwarded(id)).await?;
    let mut noise = 0;
    while noise < NOISE {
        // Errors are asked for, too: a refusal by the server's machine makes nothing readable.
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if let Some(error) = ready.is_error().then(|| socket.take_error()).transpose()?.flatten() {
            return Err(error);
        }
        let Some(bytes) = receive(&socket)? else {
            // An error that somebody else has taken stays ready for ever.
            noise += usize::from(ready.is_error());
            continue;
        };
        match heard(question, id, &bytes) {
            Heard::Noise => noise += 1,
            heard => return Ok((heard, bytes)),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "too many answers to questions that were not asked"))
}

/// One datagram, if there is one. The buffer is gone before anybody waits.
fn receive(socket: &UdpSocket) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = [0; DATAGRAM];
    match socket.try_recv(&mut buffer) {
        Ok(length) => Ok(Some(buffer.get(..length).unwrap_or_default().to_vec())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

async fn ask_tcp(
    sockets: &dyn Sockets,
    server: SocketAddr,
    question: &Question,
) -> io::Result<(Heard, Vec<u8>)> {
    let mut stream = sockets.connect(server, None).await?;
    let id = number()?;
    stream.write_all(&framed(&question.forwarded(id))).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    match heard(question, id, &bytes) {
        Heard::Noise => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question")),
        heard => Ok((heard, bytes)),
    }
}

/// A message as streams carry it. None is longer than its length can say.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let body = message.get(..usize::from(length)).unwrap_or(message);
    [&length.to_be_bytes(), body].concat()
}

/// A number that nobody can guess.
fn number() -> io::Result<u16> {
    let mut bytes = [0; 2];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no chance to be had"))?;
    Ok(u16::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests;
