//! Bodies as they come over a connection, of either version of HTTP, and what breaks there. Owns that whoever sends gets
//! room for as much as was taken, and when a body of HTTP/2 is whole: one that its sender has taken back is not.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ambit_hbone::stream::is_over;
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

/// What breaks on a connection of HTTP.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Of HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// Of HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl HttpError {
    /// Whether a request was not looked at, as HTTP/2 says it (RFC 9113, 8.7).
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Http2(error) if error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM))
    }

    /// Whether what came was no message of HTTP. What breaks a whole connection says nothing of one message.
    pub(crate) fn is_malformed(&self) -> bool {
        match self {
            Self::Http1(error) => error.is_parse(),
            Self::Http2(error) => error.is_library() && error.is_reset(),
        }
    }
}

/// A body as it comes.
pub(crate) enum Arriving {
    /// None at all.
    Nothing,
    /// In HTTP/1.1.
    Http1(Incoming),
    /// In HTTP/2.
    Http2(Flow),
}

/// A body of HTTP/2.
pub(crate) struct Flow {
    stream: RecvStream,
    /// What is still to come of a body whose length was told.
    left: Option<u64>,
    /// Whether nothing but trailers may follow.
    data_over: bool,
    /// Dropped with the body, it ends what is still sent the other way.
    _other_way: Option<oneshot::Sender<()>>,
}

impl Flow {
    /// What follows such a head. `other_way` is dropped when the body is.
    pub(crate) fn new(
        stream: RecvStream,
        headers: &HeaderMap,
        other_way: Option<oneshot::Sender<()>>,
    ) -> Self {
        let told = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        // Of an answer to HEAD the length is told, and nothing follows.
        let left = told.filter(|_| !stream.is_end_stream());
        Self { stream, left, data_over: false, _other_way: other_way }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only when the stream is gone, which the next look at it tells better.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    self.left = self.left.map(|left| left.saturating_sub(length));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(self.ended_by(error)),
                None => self.data_over = true,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => self.ended_by(error),
        })
    }

    /// Whoever has said all may say that it needs no more of us (RFC 9113, 8.1). Any other end is none, and neither is
    /// one before the length that was told.
    fn ended_by(&self, error: h2::Error) -> Option<Result<Frame<Bytes>, h2::Error>> {
        let in_order = error.is_remote() && is_over(&error);
        (!in_order || self.left.is_some_and(|left| left > 0)).then_some(Err(error))
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match self.get_mut() {
            Self::Nothing => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(HttpError::Http1),
            Self::Http2(body) => body.poll(cx).map_err(HttpError::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) if body.stream.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2(body) => body.left.map(SizeHint::with_exact).unwrap_or_default(),
        }
    }
}
