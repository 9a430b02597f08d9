//! [`TlsStream`]: one TLS session over one socket, for `drive` ([`Stream`]) and for hyper (tokio's
//! `AsyncRead` and `AsyncWrite`). It reads as much as a plain socket would at once, decrypts on the
//! way into the door's buffer, and holds no buffer of its own while it is idle but rustls's 4 KiB.

use std::io::{self, BufRead, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::Connection as Session;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::Buffers;
use crate::stream::{Stream, poll_socket};

/// A TLS session whose handshake is over.
#[derive(Debug)]
pub struct TlsStream {
    socket: TcpStream,
    session: Box<Session>,
    buffers: Rc<Buffers>,
    /// Decrypted, not yet taken: what came with the end of the handshake, or hyper had no room for.
    opened: BytesMut,
    /// The peer ended the session, or the socket did.
    is_over: bool,
}

impl TlsStream {
    /// A session before its handshake; see `handshake`.
    pub(super) fn new(socket: TcpStream, session: Session, buffers: Rc<Buffers>) -> Self {
        let opened = BytesMut::new();
        Self { socket, session: Box::new(session), buffers, opened, is_over: false }
    }

    /// The peer's own certificate, if it showed one; the chain was verified.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.session.peer_certificates().and_then(<[_]>::first)
    }

    /// Whether the handshake still goes on.
    pub(super) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    pub(super) const fn socket_mut(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    pub(super) const fn buffers(&self) -> &Rc<Buffers> {
        &self.buffers
    }

    /// Keeps what was decrypted too early for the next read.
    pub(super) fn keep(&mut self, opened: BytesMut) {
        if !opened.is_empty() {
            self.opened = opened;
        }
    }

    /// Takes encrypted bytes; what becomes plain goes to `opened`.
    pub(super) fn feed(&mut self, mut sealed: &[u8], opened: &mut BytesMut) -> io::Result<()> {
        while !sealed.is_empty() {
            if self.session.read_tls(&mut sealed)? == 0 {
                // After the peer's end mark nothing counts.
                self.is_over = true;
                return Ok(());
            }
            let state = self.session.process_new_packets().map_err(invalid)?;
            self.is_over |= state.peer_has_closed();
            self.drain(opened)?;
        }
        Ok(())
    }

    /// Moves decrypted bytes out of the session.
    fn drain(&mut self, opened: &mut BytesMut) -> io::Result<()> {
        let mut reader = self.session.reader();
        loop {
            let length = match reader.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(chunk) => {
                    opened.extend_from_slice(chunk);
                    chunk.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            reader.consume(length);
        }
    }

    /// Sends what the session has to send; `false` when some of it stays.
    pub(super) fn flush_session(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket(&self.socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Adds decrypted bytes to `input`; ready with none added is the end.
    fn poll_opened(
        &mut self,
        context: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        let before = input.len();
        input.extend_from_slice(&std::mem::take(&mut self.opened));
        while input.len() == before && !self.is_over {
            let mut sealed = self.buffers.take_sealed();
            let read = poll_socket(&mut self.socket, context, &mut sealed);
            let fed = match read {
                Poll::Ready(Ok(0)) => {
                    // Many clients just hang up; the protocols above have their own farewell.
                    self.is_over = true;
                    Ok(())
                }
                Poll::Ready(Ok(_)) => self.feed(&sealed, input),
                Poll::Ready(Err(error)) => Err(error),
                Poll::Pending => {
                    self.buffers.give_sealed(sealed);
                    return Poll::Pending;
                }
            };
            self.buffers.give_sealed(sealed);
            // An alert, a ticket, a key update: as far as it goes now.
            let sent = self.flush_session();
            fed?;
            sent?;
        }
        Poll::Ready(Ok(()))
    }

    /// Until the session has sent everything.
    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.flush_session()? {
            ready!(self.socket.poll_write_ready(context))?;
        }
        Poll::Ready(Ok(()))
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Stream for TlsStream {
    type Socket = TcpStream;

    fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        _: &Buffers,
        input: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        self.poll_opened(context, input)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.flush_session()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.session.writer().write(bytes)?;
        self.flush_session()?;
        Ok(taken)
    }

    fn holds_output(&self) -> bool {
        self.session.wants_write()
    }

    fn try_flush(&mut self) -> io::Result<bool> {
        self.flush_session()
    }

    fn close(&mut self) {
        self.session.send_close_notify();
    }
}

/// For hyper.
impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.opened.is_empty() {
            let mut opened = BytesMut::new();
            let outcome = this.poll_opened(context, &mut opened);
            this.opened = opened;
            ready!(outcome)?;
        }
        let length = this.opened.len().min(room.remaining());
        room.put_slice(this.opened.get(..length).unwrap_or_default());
        this.opened.advance(length);
        if this.opened.is_empty() {
            this.opened = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// For hyper.
impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_sent(context))?;
        let taken = this.session.writer().write(bytes)?;
        this.flush_session()?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.session.send_close_notify();
        ready!(this.poll_sent(context))?;
        Pin::new(&mut this.socket).poll_shutdown(context)
    }
}

/// The socket as rustls writes to it.
struct Socket<'a>(&'a TcpStream);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
