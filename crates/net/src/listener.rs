//! [`listen`] and [`run`]: from an address to accepted streams, one task each. What happens on a
//! stream is `drive`'s business. Called by the binary, once per door.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections waiting to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Pause after an accept failed for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A peer that vanished without a word is noticed after about a minute and a half.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_mins(1))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// One door's listener and how many of its connections are open.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    open: Rc<Cell<usize>>,
}

/// Binds an address. Port 0 picks a free one, see [`Door::address`].
///
/// # Errors
/// What the system says, e.g. `AddrInUse`.
pub fn listen(address: SocketAddr) -> io::Result<Door> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    Ok(Door { listener, open: Rc::default() })
}

impl Door {
    /// The address that was really bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A live count of open connections.
    #[must_use]
    pub fn open_count(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.open)
    }
}

/// Accepts for ever; at most `connections_max` at a time, further ones wait in the backlog.
/// `serve` must keep the [`Open`] as long as the connection lives.
/// Cancel-safe: dropping the future stops accepting, open connections go on.
pub async fn run<F, T>(door: Door, connections_max: usize, serve: F)
where
    F: Fn(TcpStream, SocketAddr, Open) -> T,
    T: Future + 'static,
    T::Output: 'static,
{
    loop {
        if door.open.get() >= connections_max {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        }
        match door.listener.accept().await {
            Ok((stream, peer)) => {
                prepare(&stream);
                let guard = Open::new(&door.open);
                // Spawned as it is: wrapped in another future it would lie in memory twice.
                tokio::task::spawn_local(serve(stream, peer, guard));
            }
            Err(error) => {
                tracing::debug!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// No delay (output is gathered per turn), keep-alive (producers often have no heartbeat).
fn prepare(stream: &TcpStream) {
    let outcome =
        stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE));
    if let Err(error) = outcome {
        tracing::debug!(%error, "could not set socket options");
    }
}

/// Counts a connection while it lives.
#[derive(Debug)]
pub struct Open(Rc<Cell<usize>>);

impl Open {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
