//! [`Acceptor`]: the server's side of the handshake, bounded in time and in bytes: whoever connects
//! is a stranger until it ends. The configuration can be replaced at any time; sessions that exist
//! keep theirs.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use rustls::{Connection as Session, ServerConfig, ServerConnection};
use tokio::net::TcpStream;

use super::TlsStream;
use crate::Buffers;
use crate::stream::{self, Stream, poll_socket};

/// How long a handshake may take in all.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Most bytes that a stranger may send before it ends.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// How long a refused peer may take to hear why.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// The first byte of every TLS connection. Source: RFC 8446 5.1, `handshake(22)`.
const HANDSHAKE_RECORD: u8 = 0x16;
/// Bytes of a stranger that the log shows.
const SHOWN_MAX: usize = 16;

/// Why a handshake did not end well.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeFault {
    /// It took too long.
    #[error("the TLS handshake took longer than {HANDSHAKE_MAX:?}")]
    Slow,
    /// It was too large.
    #[error("more than {HANDSHAKE_BYTES_MAX} bytes before the end of the TLS handshake")]
    TooLarge,
    /// The peer speaks something else.
    #[error("a client without TLS spoke to the TLS port; it began with \"{0}\"")]
    Stranger(String),
    /// The peer went away.
    #[error("the peer went away during the TLS handshake")]
    Gone,
    /// The peers did not agree, or the socket failed.
    #[error("the TLS handshake failed: {0}")]
    Failed(#[from] io::Error),
}

/// What a listener needs to make TLS sessions.
#[derive(Debug)]
pub struct Acceptor {
    config: RefCell<Arc<ServerConfig>>,
    buffers: Rc<Buffers>,
}

impl Acceptor {
    /// Sessions use the lent buffers of the thread.
    pub const fn new(config: Arc<ServerConfig>, buffers: Rc<Buffers>) -> Self {
        Self { config: RefCell::new(config), buffers }
    }

    /// For new sessions from now on.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.config.replace(config);
    }

    /// Shakes hands. Cancel-safe in that dropping it drops the socket.
    ///
    /// # Errors
    /// See [`HandshakeFault`]; the peer was told if there was something to tell.
    pub async fn accept(&self, socket: TcpStream) -> Result<TlsStream, HandshakeFault> {
        let config = Arc::clone(&self.config.borrow());
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        let session = Session::Server(session);
        let stream = TlsStream::new(socket, session, Rc::clone(&self.buffers));
        shake_hands(stream).await
    }
}

/// Either side's handshake, with its limits.
pub(super) async fn shake_hands(mut stream: TlsStream) -> Result<TlsStream, HandshakeFault> {
    match tokio::time::timeout(HANDSHAKE_MAX, stream.finish_handshake()).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(fault)) => {
            stream.flush_session().ok();
            let last_words = stream::linger(stream.socket());
            tokio::time::timeout(LAST_WORDS_MAX, last_words).await.ok();
            Err(fault)
        }
        Err(_) => Err(HandshakeFault::Slow),
    }
}

impl TlsStream {
    async fn finish_handshake(&mut self) -> Result<(), HandshakeFault> {
        let mut taken = 0;
        loop {
            // What remains at the end (tickets) leaves with the first output.
            while !self.flush_session()? && self.is_handshaking() {
                self.socket().writable().await?;
            }
            if !self.is_handshaking() {
                return Ok(());
            }
            poll_fn(|context| self.poll_handshake(context, &mut taken)).await?;
        }
    }

    /// Reads once.
    fn poll_handshake(
        &mut self,
        context: &mut Context<'_>,
        taken: &mut usize,
    ) -> Poll<Result<(), HandshakeFault>> {
        let buffers = Rc::clone(self.buffers());
        let mut sealed = buffers.take_sealed();
        let outcome = match poll_socket(self.socket_mut(), context, &mut sealed) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(HandshakeFault::Gone)),
            Poll::Ready(Ok(_)) => Poll::Ready(self.take_handshake(&sealed, taken)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        };
        buffers.give_sealed(sealed);
        outcome
    }

    fn take_handshake(&mut self, sealed: &[u8], taken: &mut usize) -> Result<(), HandshakeFault> {
        if *taken == 0 && sealed.first() != Some(&HANDSHAKE_RECORD) {
            let shown = sealed.get(..SHOWN_MAX).unwrap_or(sealed);
            return Err(HandshakeFault::Stranger(shown.escape_ascii().to_string()));
        }
        let mut opened = BytesMut::new();
        self.feed(sealed, &mut opened)?;
        self.keep(opened);
        *taken = taken.saturating_add(sealed.len());
        if self.is_handshaking() && *taken > HANDSHAKE_BYTES_MAX {
            return Err(HandshakeFault::TooLarge);
        }
        Ok(())
    }
}
