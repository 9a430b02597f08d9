//! [`Stream`]: what `drive` needs of a socket, so that plain and encrypted ones go through the same
//! loop. Here: the plain one, which adds nothing to the system's calls. The encrypted one is
//! `tls::TlsStream`.

use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::Buffers;

/// Bytes thrown away at a time while a peer comes to its end.
const REST_BYTES: usize = 4096;

/// A socket as `drive` sees it.
pub trait Stream {
    /// What it runs over, to wait for.
    fn socket(&self) -> &TcpStream;

    /// Adds what there is to read to `input`; ready with nothing added is the end.
    ///
    /// # Errors
    /// What the socket or the encryption says.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffers: &Buffers,
        input: &mut BytesMut,
    ) -> Poll<io::Result<()>>;

    /// Takes some of `bytes`, as `TcpStream::try_write`.
    ///
    /// # Errors
    /// `WouldBlock` when nothing can be taken now, else what the socket says.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether something that was taken is still here.
    fn holds_output(&self) -> bool;

    /// Sends what is still here; `false` when some of it stays.
    ///
    /// # Errors
    /// What the socket says.
    fn try_flush(&mut self) -> io::Result<bool>;

    /// Adds the protocol's own end mark, if it has one, to what is to be sent.
    fn close(&mut self);
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        _: &Buffers,
        input: &mut BytesMut,
    ) -> Poll<io::Result<()>> {
        poll_socket(self, context, input).map_ok(|_| ())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }

    fn holds_output(&self) -> bool {
        false
    }

    fn try_flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn close(&mut self) {}
}

/// Reads once, straight into the room that `input` has.
pub(crate) fn poll_socket(
    socket: &mut TcpStream,
    context: &mut Context<'_>,
    input: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    pin!(socket.read_buf(input)).poll(context)
}

/// Says that no more will come and takes what the peer still sends, until it ends too.
pub(crate) async fn linger(socket: &TcpStream) -> io::Result<()> {
    SockRef::from(socket).shutdown(Shutdown::Write)?;
    let mut rest = [0; REST_BYTES];
    loop {
        socket.readable().await?;
        match socket.try_read(&mut rest) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
