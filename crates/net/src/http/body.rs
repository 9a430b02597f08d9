//! [`Body`]: what a response carries: bytes that are there, or a stream that is made while the
//! client takes it. The client's speed is the maker's: a few pieces wait at most. Used by whoever
//! passes a handler to [`super::serve`].

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Pieces of a stream that wait for the client.
const PIECES_MAX: usize = 2;

/// See the module's head.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Full<Bytes>),
    /// What a [`BodySender`] sends.
    Stream(Stream),
}

/// The receiving end of a stream.
#[derive(Debug)]
pub struct Stream {
    pieces: Receiver<Piece>,
    is_ended: bool,
}

/// The sending end of a stream. Dropping it without [`BodySender::finish`] breaks the response
/// off, so that the client cannot take a part for the whole.
#[derive(Debug)]
pub struct BodySender {
    pieces: Sender<Piece>,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
}

/// A stream ended before it was finished, or its reader is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response was broken off")]
pub struct Broken;

/// A response body that is sent while it is made.
pub fn stream() -> (BodySender, Body) {
    let (sender, receiver) = channel(PIECES_MAX);
    let stream = Stream { pieces: receiver, is_ended: false };
    (BodySender { pieces: sender }, Body::Stream(stream))
}

impl BodySender {
    /// Sends a piece; waits while the client is behind.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Broken> {
        self.pieces.send(Piece::Bytes(bytes)).await.map_err(|_| Broken)
    }

    /// Nothing follows: the response is whole.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn finish(self) -> Result<(), Broken> {
        self.pieces.send(Piece::End).await.map_err(|_| Broken)
    }
}

impl Body {
    /// The bytes, when all of them are there.
    pub async fn whole(self) -> Option<Bytes> {
        match self {
            Self::Whole(body) => {
                let collected: Result<_, Infallible> = http_body_util::BodyExt::collect(body).await;
                collected.ok().map(http_body_util::Collected::to_bytes)
            }
            Self::Stream(_) => None,
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(body) => {
                Pin::new(body).poll_frame(context).map_err(|never: Infallible| match never {})
            }
            Self::Stream(stream) => stream.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Stream(stream) => stream.is_ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

impl Stream {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|piece| match piece {
            Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Piece::End) => {
                self.is_ended = true;
                None
            }
            None => {
                self.is_ended = true;
                Some(Err(Broken))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn next(body: &mut Body) -> Option<Result<Bytes, Broken>> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    #[tokio::test]
    async fn a_stream_is_whole_only_when_it_was_finished() {
        let (sender, mut body) = stream();
        sender.send("one".into()).await.unwrap();
        sender.finish().await.unwrap();
        assert_eq!(next(&mut body).await, Some(Ok("one".into())));
        assert_eq!(next(&mut body).await, None);
        assert!(body.is_end_stream());
        let (sender, mut body) = stream();
        sender.send("one".into()).await.unwrap();
        drop(sender);
        assert_eq!(next(&mut body).await, Some(Ok("one".into())));
        assert_eq!(next(&mut body).await, Some(Err(Broken)));
        assert_eq!(next(&mut body).await, None);
    }

    #[tokio::test]
    async fn the_maker_waits_for_the_client_and_notices_when_it_is_gone() {
        let (sender, mut body) = stream();
        for _ in 0..PIECES_MAX {
            sender.send("piece".into()).await.unwrap();
        }
        let mut third = Box::pin(sender.send("third".into()));
        let is_waiting = poll_fn(|context| Poll::Ready(third.as_mut().poll(context).is_pending()));
        assert!(is_waiting.await);
        assert!(next(&mut body).await.is_some());
        third.await.unwrap();
        drop(body);
        assert_eq!(sender.send("gone".into()).await, Err(Broken));
    }

    #[tokio::test]
    async fn bytes_that_are_there_are_whole() {
        assert_eq!(Body::from(Bytes::from_static(b"all")).whole().await, Some("all".into()));
        assert_eq!(stream().1.whole().await, None);
    }
}
