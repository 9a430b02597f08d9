//! `potager serve`: opens the node, binds the doors, runs until told to stop, closes in order.
//!
//! Lives here: assembling. Not here: settings (`config`), HTTP routes (`crate::http`), protocols.

mod desk;
mod figures;
mod offline;
mod random;
mod server;
mod stop;
mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use config::{Durability, Identity, Settings};
use model::{Admin, Permission, Reply, Request};
use net::{Door, Drive};
use replica::{Actor, Node};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use wire::Peer;

pub(crate) use desk::Desk;
pub(crate) use offline::offline;
use server::Server;

use crate::http::{self, HttpState};

/// The password hash of `guest`, whose password is no secret: it may log in from loopback only.
const GUEST_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$cG90YWdlci1ndWVzdC0x$\
                          REe6OZbEw1KDv/wrPOE/oQX13Ugfr5E6c5q4hWxUo1g";

/// Room in a segment for what surrounds the bodies of a transaction.
const GROUP_OVERHEAD: u64 = 8 << 20;

/// Runs the server until it is told to stop or its storage fails.
///
/// # Errors
/// When it cannot start: the directory, an address, the ready file.
pub(crate) fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        // A password check needs 20 MB of memory, given back when its thread ends.
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .context("could not start the runtime")?;
    let code = LocalSet::new().block_on(&runtime, serve(settings, started));
    runtime.shutdown_background();
    code
}

async fn serve(settings: Settings, started: Instant) -> anyhow::Result<ExitCode> {
    check_sizes(&settings)?;
    let files_max = watch::raise_file_limit();
    let bell = Arc::new(Notify::new());
    let (node, recovered) = open(&settings, &bell)?;
    tracing::info!(
        durability = settings.durability.word(),
        checkpoint = recovered.checkpoint.0,
        records = recovered.records,
        milliseconds = started.elapsed().as_millis(),
        "log open"
    );
    let server = Server::new(node, bell);
    let desk = Desk::new(Rc::clone(&server));
    let turns = tokio::task::spawn_local({
        let server = Rc::clone(&server);
        async move { server.turns().await }
    });
    if recovered.is_new && settings.guest.is_enabled {
        make_guest(&desk).await;
    }
    let doors = Doors::open(&settings, &desk, files_max)?;
    watch::resources(&settings, &desk);
    // The file comes last: who waits for it may rely on everything else.
    crate::banner::print(&settings, &doors.addresses, started.elapsed());
    doors.announce(&settings)?;
    stop::run(server, turns, doors.open_counts).await
}

/// The user of unmodified clients, with every right in `/`. Both are asked in one turn, so that
/// they are one write.
async fn make_guest(desk: &Desk) {
    let name = Bytes::from_static(b"guest");
    let user = Admin::PutUser {
        name: name.clone(),
        password_hash: Bytes::from_static(GUEST_HASH.as_bytes()),
        tags: Bytes::from_static(b"administrator"),
    };
    let (vhost, permission) = (Bytes::from_static(b"/"), Permission::full());
    let right = Admin::SetPermission { user: name, vhost, permission };
    let ask = |admin| desk.ask(Actor::System, None, Request::Admin(Box::new(admin)));
    let (made, allowed) = tokio::join!(ask(user), ask(right));
    for reply in [made, allowed] {
        if let Reply::Refused(refusal) = reply {
            tracing::error!(?refusal, "could not make the user guest");
        }
    }
}

/// A transaction is one block of the log, and a block stands in one segment.
fn check_sizes(settings: &Settings) -> anyhow::Result<()> {
    let largest = settings.limits.commit_bytes_max.max(settings.limits.message_bytes_max);
    let needed = u64::from(largest) + GROUP_OVERHEAD;
    if settings.durability != Durability::Memory && settings.log.segment_bytes < needed {
        return Err(crate::exit::Usage(format!(
            "log.segment_bytes is {}, but a transaction of limits.commit_bytes_max ({largest}) \
             bytes must fit into a segment; set log.segment_bytes to at least {needed} or lower \
             the limit",
            settings.log.segment_bytes
        ))
        .into());
    }
    Ok(())
}

/// Opens the log in the way the settings ask for.
fn open(settings: &Settings, bell: &Arc<Notify>) -> anyhow::Result<(Node, replica::Recovered)> {
    let wake = Arc::clone(bell);
    let workers = journal::Workers::Threads { wake: Arc::new(move || wake.notify_one()) };
    let disk = Arc::new(journal::RealDisk);
    let entropy = random::source().context("the system has no random numbers to give")?;
    let options = replica::Options { journal: journal_options(settings), limits: settings.limits };
    Ok(Node::open(disk, options, workers, server::now(), entropy)?)
}

fn journal_options(settings: &Settings) -> journal::Options {
    journal::Options {
        dir: settings.data_dir.clone(),
        durability: match settings.durability {
            Durability::Fsync => journal::Durability::Fsync,
            Durability::Os => journal::Durability::Os,
            Durability::Memory => journal::Durability::Memory,
        },
        segment_bytes: settings.log.segment_bytes,
        segments_max: settings.log.segments_max,
        cache_bytes: usize::try_from(settings.log.cache_bytes).unwrap_or(usize::MAX),
        checkpoint_bytes: settings.log.checkpoint_bytes,
        free_bytes_min: settings.alarm.disk_free_bytes_min,
        ..journal::Options::default()
    }
}

/// The doors that listen.
struct Doors {
    /// Door name and bound address.
    addresses: Vec<(&'static str, SocketAddr)>,
    /// Open connections of each door that has to say goodbye.
    open_counts: Vec<Rc<std::cell::Cell<usize>>>,
}

impl Doors {
    fn open(settings: &Settings, desk: &Desk, files_max: usize) -> anyhow::Result<Self> {
        let mut doors = Self { addresses: Vec::new(), open_counts: Vec::new() };
        let connections_max = files_max.saturating_mul(8) / 10;
        if let Some(address) = settings.amqp.listen {
            let door = bind("amqp", "--amqp", address)?;
            doors.addresses.push(("amqp", door.address()?));
            doors.open_counts.push(door.open_count());
            serve_amqp(settings, desk, door, connections_max)?;
        }
        if let Some(address) = settings.http.listen {
            let door = bind("http", "--http", address)?;
            doors.addresses.push(("http", door.address()?));
            serve_http(settings, desk, door, connections_max);
        }
        Ok(doors)
    }

    /// Writes the ready file, whole or not at all.
    fn announce(&self, settings: &Settings) -> anyhow::Result<()> {
        let Some(path) = &settings.ready_file else { return Ok(()) };
        let json: serde_json::Map<String, serde_json::Value> = self
            .addresses
            .iter()
            .map(|(door, address)| ((*door).to_owned(), address.to_string().into()))
            .collect();
        write_whole(path, &serde_json::to_vec(&json)?)
            .with_context(|| format!("could not write the ready file {}", path.display()))
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}

fn bind(door: &str, flag: &str, address: SocketAddr) -> anyhow::Result<Door> {
    net::listen(address).with_context(|| {
        format!(
            "could not listen on {address} for {door}; another server may use the port: stop it, \
             or choose another address with {flag}"
        )
    })
}

fn serve_amqp(
    settings: &Settings,
    desk: &Desk,
    door: Door,
    connections_max: usize,
) -> anyhow::Result<()> {
    let options = Arc::new(proto_amqp::Options {
        identity: match settings.amqp.identity {
            Identity::Potager => proto_amqp::Identity::Potager,
            Identity::RabbitMq => proto_amqp::Identity::RabbitMq,
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        channel_max: settings.amqp.channels_max,
        frame_max: settings.amqp.frame_bytes_max,
        heartbeat_s: settings.amqp.heartbeat_s,
        limits: settings.limits,
        ..proto_amqp::Options::default()
    });
    let service = desk.server_rc();
    let shared = Drive { buffers: Rc::clone(&service.buffers), service };
    let nonce = std::cell::RefCell::new(random::source()?);
    tokio::task::spawn_local(net::run(door, connections_max, move |stream, address, open| {
        let is_loopback = address.ip().to_canonical().is_loopback();
        let nonce = (*nonce.borrow_mut())();
        let connection =
            proto_amqp::Connection::new(Arc::clone(&options), is_loopback, nonce, Instant::now());
        let peer = Peer { address, door: "amqp" };
        net::drive(stream, connection, shared.clone(), (peer, open))
    }));
    Ok(())
}

fn serve_http(settings: &Settings, desk: &Desk, door: Door, connections_max: usize) {
    let state = Rc::new(HttpState::new(desk.clone(), settings));
    let handler = Rc::new(move |request, peer| http::handle(Rc::clone(&state), request, peer));
    tokio::task::spawn_local(net::run(door, connections_max, move |stream, address, open| {
        let work = net::http::serve(stream, address, Rc::clone(&handler));
        async move {
            let _open = open;
            work.await;
        }
    }));
}
