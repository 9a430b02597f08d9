//! [`Stream`]: what `drive` needs of a socket, so that plain and encrypted ones go through the same
//! loop; [`Socket`]: what it runs over, to the other machine (TCP) or to the same one (a socket
//! file). Here: the plain streams, which add nothing to the system's calls. The encrypted one is
//! `tls::TlsStream`.

use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

use crate::Buffers;

/// Bytes thrown away at a time while a peer comes to its end.
const REST_BYTES: usize = 4096;

/// A system socket: to wait for, to read from, to write to. The methods are tokio's own.
#[expect(async_fn_in_trait, reason = "one thread runs everything")]
pub trait Socket: AsyncRead + AsFd + Unpin {
    /// Waits until it is ready in one of these ways.
    ///
    /// # Errors
    /// What the system says.
    async fn ready(&self, interest: Interest) -> io::Result<Ready>;

    /// Whether something can be written.
    ///
    /// # Errors
    /// What the system says.
    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is, else what the system says.
    fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is none, else what the system says.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

macro_rules! socket {
    ($kind:ty) => {
        impl Socket for $kind {
            async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                Self::ready(self, interest).await
            }

            fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                Self::poll_write_ready(self, context)
            }

            fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
                Self::try_read(self, bytes)
            }

            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                Self::try_write(self, bytes)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// A connection as `drive` sees it.
pub trait Stream {
    /// What it runs over.
    type Socket: Socket;

    /// That, to wait for.
    fn socket(&self) -> &Self::Socket;

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

impl<S: Socket> Stream for S {
    type Socket = S;

    fn socket(&self) -> &S {
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
        Socket::try_write(self, bytes)
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
    socket: &mut impl Socket,
    context: &mut Context<'_>,
    input: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    pin!(socket.read_buf(input)).poll(context)
}

/// Says that no more will come and takes what the peer still sends, until it ends too.
pub(crate) async fn linger(socket: &impl Socket) -> io::Result<()> {
    SockRef::from(socket).shutdown(Shutdown::Write)?;
    let mut rest = [0; REST_BYTES];
    loop {
        socket.ready(Interest::READABLE).await?;
        match socket.try_read(&mut rest) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
