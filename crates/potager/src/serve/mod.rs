//! `potager serve`: opens the node, binds the doors, runs until told to stop, closes in order.
//!
//! Lives here: assembling. Not here: settings (`config`), HTTP routes (`crate::http`), protocols.

mod authority;
mod backup;
mod beanstalk;
mod desk;
mod doors;
mod figures;
mod hall;
mod offline;
mod random;
mod reload;
mod server;
mod stop;
mod tls;
mod watch;

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use config::{Durability, Resolved, Settings};
use model::{Admin, Permission, Reply, Request};
use replica::{Actor, Node};
use tokio::sync::Notify;
use tokio::task::LocalSet;

pub(crate) use authority::AUTHORITY;
pub(crate) use backup::{offline_backup, restore};
pub(crate) use desk::Desk;
pub(crate) use doors::CannotListen;
pub(crate) use offline::offline;
use server::Server;
pub(crate) use stop::GOODBYE_MAX;

use doors::Doors;
use tls::Tls;

/// The password hash of `guest`, whose password is no secret: it may log in from loopback only.
const GUEST_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$cG90YWdlci1ndWVzdC0x$\
                          REe6OZbEw1KDv/wrPOE/oQX13Ugfr5E6c5q4hWxUo1g";

/// Room in a segment for what surrounds the bodies of a transaction.
const GROUP_OVERHEAD: u64 = 8 << 20;

/// What the server begins with, and how it hears of changes.
pub(crate) struct Start {
    /// The settings in force.
    pub(crate) resolved: Resolved,
    /// Reads them again, from the same places.
    pub(crate) reread: Box<dyn Fn() -> anyhow::Result<Resolved>>,
    /// Changes the log's levels.
    pub(crate) set_levels: crate::logging::SetLevels,
    /// The first screen is not shown.
    pub(crate) is_quiet: bool,
    /// How long clients get to say goodbye.
    pub(crate) goodbye_max: Duration,
}

/// Runs the server until it is told to stop or its storage fails.
///
/// # Errors
/// When it cannot start: the directory, an address, a certificate, the ready file.
pub(crate) fn run(start: Start) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        // A password check needs 20 MB of memory, given back when its thread ends.
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .context("could not start the runtime")?;
    let code = LocalSet::new().block_on(&runtime, serve(start, started));
    runtime.shutdown_background();
    code
}

async fn serve(start: Start, started: Instant) -> anyhow::Result<ExitCode> {
    let settings = start.resolved.settings.clone();
    let is_quiet = start.is_quiet;
    let is_kept = settings.durability != Durability::Memory;
    let manner = stop::Manner { goodbye_max: start.goodbye_max, is_kept };
    check_sizes(&settings)?;
    let tls = Tls::prepare(&settings)?;
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
    let tls = tls.map(|keys| Rc::new(Tls::new(&settings, &keys, &server)));
    let doors = Doors::open(&settings, &desk, tls.as_ref(), files_max)?;
    let memory = watch::resources(&settings, &desk);
    reload::run(start, doors.terms(), tls, memory)?;
    beanstalk::drain_on_signal(Rc::clone(&server))?;
    // The file comes last: who waits for it may rely on everything else.
    if !is_quiet {
        crate::banner::print(&settings, &doors.addresses, started.elapsed());
    }
    doors.announce(&settings)?;
    stop::run(server, turns, doors.leaving, manner).await
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
    if settings.beanstalk.job_bytes_max > settings.limits.message_bytes_max {
        return Err(crate::exit::Usage(format!(
            "beanstalk.job_bytes_max is {}, more than limits.message_bytes_max ({}) allows; raise \
             that or lower this",
            settings.beanstalk.job_bytes_max, settings.limits.message_bytes_max
        ))
        .into());
    }
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
