//! Between two sockets, for what is passed through without a tunnel.

use std::io;

use ambit_process::net::TcpStream;
use bytes::Buf;
use futures_util::future::{Either, select, try_join};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::buffer::Buffer;
use super::{Broken, Meter, Outcome, reset_on_drop};
use crate::cut::Why;

/// Copies until both halves have ended, one side breaks, or `cut` resolves. A reset goes through as one.
pub async fn plain(
    mut app: TcpStream,
    mut destination: TcpStream,
    meter: &impl Meter,
    cut: impl Future<Output = Why>,
) -> Outcome {
    let outcome = {
        let ((app_read, app_write), (far_read, far_write)) = (app.split(), destination.split());
        let up = Way { count: |bytes| meter.app_sent(bytes), from: Broken::App, to: Broken::Destination };
        let down =
            Way { count: |bytes| meter.app_received(bytes), from: Broken::Destination, to: Broken::App };
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
struct Way<C> {
    count: C,
    from: fn(io::Error) -> Broken,
    to: fn(io::Error) -> Broken,
}

async fn copy<C: Fn(usize)>(from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: Way<C>) -> Result<(), Broken> {
    let mut buffer = Buffer::new();
    loop {
        from.readable().await.map_err(way.from)?;
        match from.try_read_buf(buffer.room()) {
            Ok(0) => break,
            Ok(bytes) => (way.count)(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err((way.from)(error)),
        }
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
