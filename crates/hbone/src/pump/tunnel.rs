//! Between the application's socket and a tunnel's stream (`ztunnel.md` 2.7; RFC 9113, 8.5 for resets).

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use ambit_process::net::TcpStream;
use bytes::{Buf, Bytes};
use futures_util::future::{Either, select, try_join};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::buffer::Buffer;
use super::{Broken, Meter, Outcome, reset_on_drop};
use crate::cut::Why;
use crate::stall::Stalls;
use crate::stream::{Stream, is_over, reserve};

/// Copies until both halves have ended, one side breaks, or `cut` resolves.
/// A reset on one side becomes a reset on the other: nobody takes a part for the whole.
pub async fn tunnel(
    mut app: TcpStream,
    stream: Stream,
    meter: &impl Meter,
    cut: impl Future<Output = Why>,
) -> Outcome {
    let Stream { mut send, mut recv, seat, stalls } = stream;
    let outcome = {
        let (read, write) = app.split();
        let up = std::pin::pin!(up(read, &mut send, meter));
        let down = std::pin::pin!(down(&mut recv, write, (meter, &stalls)));
        let cut = std::pin::pin!(cut);
        match select(try_join(up, down), cut).await {
            Either::Left((Ok(_), _)) => Outcome::Closed,
            Either::Left((Err(broken), _)) => broken.into(),
            Either::Right((why, _)) => Outcome::Cut(why),
        }
    };
    match &outcome {
        Outcome::Closed => {}
        Outcome::App(_) | Outcome::Destination(_) => send.send_reset(Reason::CONNECT_ERROR),
        Outcome::Peer(_) | Outcome::Tunnel(_) => reset_on_drop(&app),
        Outcome::Cut(_) => {
            send.send_reset(Reason::CANCEL);
            reset_on_drop(&app);
        }
    }
    drop((send, recv)); // before the seat: it counts until the stream is gone
    drop(seat);
    outcome
}

/// From the application into the tunnel.
async fn up<R: AsyncRead + AsRef<TcpStream> + Unpin>(
    mut app: R,
    send: &mut SendStream<Bytes>,
    meter: &impl Meter,
) -> Result<(), Broken> {
    let mut buffer = Buffer::new();
    loop {
        match heard(&mut app, send, &mut buffer).await? {
            Heard::Bytes(bytes) => meter.app_sent(bytes),
            Heard::End => return send.send_data(Bytes::new(), true).map_err(broken),
            Heard::Enough => return Ok(()),
        }
        if !forward(buffer.take(), send).await? {
            return Ok(());
        }
    }
}

enum Heard {
    /// So many were read.
    Bytes(usize),
    /// The application has said all.
    End,
    /// The peer has all it wants, and said so in good order.
    Enough,
}

/// What the application says next, unless nobody listens any more.
async fn heard<R: AsyncRead + AsRef<TcpStream> + Unpin>(
    app: &mut R,
    send: &mut SendStream<Bytes>,
    buffer: &mut Buffer,
) -> Result<Heard, Broken> {
    poll_fn(|cx| {
        if let Poll::Ready(read) = buffer.poll_read(app, cx) {
            let heard = |bytes| if bytes == 0 { Heard::End } else { Heard::Bytes(bytes) };
            return Poll::Ready(read.map(heard).map_err(Broken::App));
        }
        send.poll_reset(cx).map(|reset| match reset {
            Ok(Reason::NO_ERROR) => Ok(Heard::Enough),
            Ok(reason) => Err(Broken::Peer(reason)),
            Err(error) => Err(broken(error)),
        })
    })
    .await
}

/// Sends all of `data`, as fast as the peer gives room. False when the peer wants no more.
async fn forward(mut data: Bytes, send: &mut SendStream<Bytes>) -> Result<bool, Broken> {
    while !data.is_empty() {
        reserve(send, data.len());
        let room = match poll_fn(|cx| send.poll_capacity(cx)).await {
            Some(Ok(room)) => room.min(data.len()),
            Some(Err(error)) if is_over(&error) => return Ok(false),
            Some(Err(error)) => return Err(broken(error)),
            None => return closed(send).await,
        };
        let piece = data.split_to(room);
        send.send_data(piece, false).map_err(broken)?;
    }
    Ok(true)
}

/// The stream takes nothing more: because the peer reset it, which is known at once.
async fn closed(send: &mut SendStream<Bytes>) -> Result<bool, Broken> {
    match poll_fn(|cx| send.poll_reset(cx)).await {
        Ok(Reason::NO_ERROR) => Ok(false),
        Ok(reason) => Err(Broken::Peer(reason)),
        Err(error) => Err(broken(error)),
    }
}

/// From the tunnel to the application. Room is given back to the peer only for what the application took,
/// so a slow application holds no more than one stream's window here.
async fn down<W: AsyncWrite + Unpin>(
    recv: &mut RecvStream,
    mut app: W,
    (meter, stalls): (&impl Meter, &Stalls),
) -> Result<(), Broken> {
    loop {
        let mut data = match poll_fn(|cx| recv.poll_data(cx)).await {
            Some(Ok(data)) => data,
            Some(Err(error)) if !is_over(&error) => return Err(broken(error)),
            None | Some(Err(_)) => break,
        };
        let bytes = data.len();
        while data.has_remaining() {
            let written = write(&mut app, &data, stalls).await.map_err(Broken::App)?;
            data.advance(written);
            meter.app_received(written);
        }
        // Fails only when the stream is gone, which the next read tells better.
        let _ = recv.flow_control().release_capacity(bytes);
    }
    // An application that has closed already needs no FIN.
    let _ = app.shutdown().await;
    Ok(())
}

/// Writes some of `data`. While the application takes nothing, the stream counts as stalled.
async fn write<W: AsyncWrite + Unpin>(app: &mut W, data: &[u8], stalls: &Stalls) -> io::Result<usize> {
    let (mut stalled, mut written) = (None, std::pin::pin!(app.write(data)));
    poll_fn(|cx| {
        let polled = written.as_mut().poll(cx);
        if polled.is_pending() {
            stalled.get_or_insert_with(|| stalls.enter());
        }
        polled
    })
    .await
}

fn broken(error: h2::Error) -> Broken {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => Broken::Peer(reason),
        _ => Broken::Tunnel(error),
    }
}
