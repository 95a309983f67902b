//! Between two sockets, for what is passed through without a tunnel.

use std::future::poll_fn;
use std::io;

use ambit_process::net::TcpStream;
use bytes::Buf;
use futures_util::future::{Either, select, try_join};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::buffer::Buffer;
use super::{Broken, Meter, Outcome, reset_on_drop};
use crate::cut::Why;

/// Copies until both halves have ended, one side breaks, or `cut` resolves. A reset goes through as one.
pub async fn plain(
    mut app: TcpStream,
    mut destination: TcpStream,
    meter: &(impl Meter + Sync),
    cut: impl Future<Output = Why>,
) -> Outcome {
    let outcome = {
        let ((app_read, app_write), (far_read, far_write)) = (app.split(), destination.split());
        let (sent, received) = (|bytes| meter.app_sent(bytes), |bytes| meter.app_received(bytes));
        let up = Way { count: &sent, from: Broken::App, to: Broken::Destination };
        let down = Way { count: &received, from: Broken::Destination, to: Broken::App };
        let up = std::pin::pin!(copy(app_read, far_write, up));
        let down = std::pin::pin!(copy(far_read, app_write, down));
        let cut = std::pin::pin!(cut);
        match select(try_join(up, down), cut).await {
            Either::Left((Ok(_), _)) => Outcome::Closed,
            Either::Left((Err(broken), _)) => broken.into(),
            Either::Right((why, _)) => Outcome::Cut(why),
        }
    };
    if !matches!(outcome, Outcome::Closed) {
        reset_on_drop(&app);
        reset_on_drop(&destination);
    }
    outcome
}

/// What one direction does with its bytes and its faults.
struct Way<'a> {
    count: &'a (dyn Fn(usize) + Sync),
    from: fn(io::Error) -> Broken,
    to: fn(io::Error) -> Broken,
}

async fn copy<R, W>(mut from: R, mut to: W, way: Way<'_>) -> Result<(), Broken>
where
    R: AsyncRead + AsRef<TcpStream> + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = Buffer::new();
    loop {
        let bytes = poll_fn(|cx| buffer.poll_read(&mut from, cx)).await.map_err(way.from)?;
        if bytes == 0 {
            break;
        }
        (way.count)(bytes);
        let data = buffer.read();
        while data.has_remaining() {
            to.write_buf(data).await.map_err(way.to)?;
        }
        data.clear();
    }
    // A destination that has closed already needs no FIN.
    let _ = to.shutdown().await;
    Ok(())
}
