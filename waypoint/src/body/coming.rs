//! Where a body comes from: from whoever sends it, by way of somebody who may change it, or from what was kept of it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::{Arriving, BodyError};
use crate::grpc_web::{Decoder, NoText};

/// Pieces that may be under way from somebody who changes a body.
const UNDER_WAY: usize = 4;

/// A piece of a body that is sent twice, or changed.
#[derive(Clone)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// A body as it comes.
pub(crate) enum Coming {
    /// From whoever sends it.
    Wire(Arriving),
    /// By way of somebody else.
    Piped {
        /// What they send.
        pieces: mpsc::Receiver<Result<Piece, BodyError>>,
        /// Whether they have said that nothing follows.
        ended: bool,
    },
    /// What was kept of it, then the rest.
    Kept(Box<Rest>),
    /// Text that says what it is.
    Text(Box<Text>),
}

/// A body that comes as text.
pub(crate) struct Text {
    body: Coming,
    decoder: Decoder,
}

/// A body of which some was read.
pub(crate) struct Rest {
    frames: VecDeque<Frame<Bytes>>,
    after: Option<Coming>,
}

/// A body that somebody sends piece by piece. Without a last word it has broken off.
pub(crate) fn pipe() -> (mpsc::Sender<Result<Piece, BodyError>>, Coming) {
    let (to, pieces) = mpsc::channel(UNDER_WAY);
    (to, Coming::Piped { pieces, ended: false })
}

impl Coming {
    /// Nothing at all.
    pub(crate) fn nothing() -> Self {
        Self::Kept(Box::new(Rest { frames: VecDeque::new(), after: None }))
    }

    /// These bytes, then what follows.
    pub(crate) fn kept(bytes: Bytes, trailers: Option<HeaderMap>, after: Option<Self>) -> Self {
        let data = (!bytes.is_empty()).then(|| Frame::data(bytes));
        let frames = data.into_iter().chain(trailers.map(Frame::trailers)).collect();
        Self::Kept(Box::new(Rest { frames, after }))
    }

    /// What this text says.
    pub(crate) fn text(body: Self) -> Self {
        Self::Text(Box::new(Text { body, decoder: Decoder::default() }))
    }

    /// The next frame.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Wire(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|it| it.map_err(BodyError::Broken)))
            }
            Self::Piped { ended: true, .. } => Poll::Ready(None),
            Self::Piped { pieces, ended } => Poll::Ready(match ready!(pieces.poll_recv(cx)) {
                Some(Ok(Piece::Data(data))) => Some(Ok(Frame::data(data))),
                Some(Ok(Piece::Trailers(trailers))) => Some(Ok(Frame::trailers(trailers))),
                Some(Ok(Piece::End)) => {
                    *ended = true;
                    None
                }
                Some(Err(error)) => Some(Err(error)),
                None => Some(Err(BodyError::Unprocessed)),
            }),
            Self::Kept(rest) => rest.poll(cx),
            Self::Text(text) => text.poll(cx),
        }
    }

    /// Whether nothing follows, as far as that is known.
    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Wire(body) => body.is_end_stream(),
            Self::Piped { ended, .. } => *ended,
            Self::Kept(rest) => rest.is_end(),
            Self::Text(text) => text.body.is_end_stream() && text.decoder.is_whole(),
        }
    }

    /// How much of it there is to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Wire(body) => body.size_hint(),
            Self::Kept(rest) if rest.after.is_none() && !rest.frames.iter().any(Frame::is_trailers) => {
                let bytes = rest.frames.iter().filter_map(Frame::data_ref).map(Bytes::len).sum::<usize>();
                SizeHint::with_exact(u64::try_from(bytes).unwrap_or(u64::MAX))
            }
            Self::Piped { .. } | Self::Kept(_) | Self::Text(_) => SizeHint::default(),
        }
    }
}

impl Text {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let end = match ready!(self.body.poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => match self.decoder.read(&data) {
                        // Its end is still to come.
                        Ok(bytes) if bytes.is_empty() => continue,
                        Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                        Err(NoText) => return Poll::Ready(Some(Err(BodyError::NoText))),
                    },
                    Err(trailers) => Some(Ok(trailers)),
                },
                other => other,
            };
            let is_cut = matches!(end, None | Some(Ok(_))) && !self.decoder.is_whole();
            return Poll::Ready(if is_cut { Some(Err(BodyError::NoText)) } else { end });
        }
    }
}

impl Rest {
    pub(crate) fn new(frames: VecDeque<Frame<Bytes>>, after: Coming) -> Self {
        Self { frames, after: Some(after) }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.after {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    /// The next frame. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Whether nothing follows, as far as that is known.
    pub(crate) fn is_end(&self) -> bool {
        self.frames.is_empty() && self.after.as_ref().is_none_or(Coming::is_end_stream)
    }
}

impl From<Rest> for Coming {
    fn from(rest: Rest) -> Self {
        Self::Kept(Box::new(rest))
    }
}

impl From<Coming> for Rest {
    fn from(body: Coming) -> Self {
        Self::new(VecDeque::new(), body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn text_says_what_it_is_and_must_not_end_in_the_middle() {
        let trailers = || Some(HeaderMap::from_iter([(http::header::ETAG, "a".parse().unwrap())]));
        for (text, follows, wanted) in [
            ("YWI=", None, &["ab", "the end"][..]),
            ("YWI=", trailers(), &["ab", "trailers", "the end"]),
            ("YWI=YW", None, &["ab", "no base64"]),
            ("YW", trailers(), &["no base64"]),
            ("", None, &["the end"]),
        ] {
            let mut body = Coming::text(Coming::kept(Bytes::from_static(text.as_bytes()), follows, None));
            for wanted in wanted {
                let came = match poll_fn(|cx| body.poll_frame(cx)).await {
                    None => "the end".into(),
                    Some(Err(BodyError::NoText)) => "no base64".into(),
                    Some(Err(other)) => panic!("{other}"),
                    Some(Ok(frame)) if frame.is_trailers() => "trailers".into(),
                    Some(Ok(frame)) => String::from_utf8(frame.into_data().unwrap().into()).unwrap(),
                };
                assert_eq!(came, *wanted, "{text}");
            }
            assert_eq!(body.is_end_stream(), wanted.last() == Some(&"the end"), "{text}");
        }
    }
}
