//! [`listen`], [`listen_at_file`], [`run`]: from an address or a socket file to accepted streams,
//! one task each. What happens on a stream is `drive`'s business. Called by the binary, once per
//! door.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

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
pub struct Door<L = TcpListener> {
    listener: L,
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

/// Listens at a socket file, with the rights that the process's mask leaves. A file that a dead
/// server left is replaced; the new one is removed with its listener.
///
/// # Errors
/// What the system says; `AddrInUse` when a server answers there, `AlreadyExists` when the file is
/// no socket.
pub fn listen_at_file(path: &Path) -> io::Result<Door<SocketFile>> {
    let address = SockAddr::unix(path)?;
    remove_stale(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address)?;
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from_std(socket.into())?;
    let listener = SocketFile { listener, path: path.to_owned(), mark: mark(path) };
    Ok(Door { listener, open: Rc::default() })
}

/// Nobody answers at a file whose server is gone.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        // It answers, or is too busy to.
        Ok(()) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Which file stands at a path now.
fn mark(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// A listener at a socket file, which goes with it.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number: a file that another server put there since is not ours.
    mark: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.mark.is_some() && mark(&self.path) == self.mark {
            // Somebody else may have been quicker.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Where connections come from.
#[expect(async_fn_in_trait, reason = "one thread runs everything")]
pub trait Listener {
    /// What they are.
    type Stream;

    /// The next one, ready for use, and who is at the other end.
    ///
    /// # Errors
    /// What the system says.
    async fn accept(&self) -> io::Result<(Self::Stream, SocketAddr)>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        prepare(&stream);
        Ok((stream, peer))
    }
}

impl Listener for SocketFile {
    type Stream = UnixStream;

    /// Who comes through a file is on this machine.
    async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, _) = self.listener.accept().await?;
        Ok((stream, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
    }
}

impl Door {
    /// The address that was really bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl<L> Door<L> {
    /// A live count of open connections.
    #[must_use]
    pub fn open_count(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.open)
    }
}

/// Accepts for ever; at most `connections_max` at a time, further ones wait in the backlog.
/// `serve` must keep the [`Open`] as long as the connection lives.
/// Cancel-safe: dropping the future stops accepting, open connections go on.
pub async fn run<L, F, T>(door: Door<L>, connections_max: usize, serve: F)
where
    L: Listener,
    F: Fn(L::Stream, SocketAddr, Open) -> T,
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
    pub(crate) fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
