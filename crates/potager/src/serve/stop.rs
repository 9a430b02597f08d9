//! Stopping: a signal drains and exits 0 within 10 s, a second one exits at once, a storage fault
//! exits 3. Called once the doors are open.

use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use journal::Fault;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::doors::Leaving;
use super::server::{Server, now};

/// How long clients get to say goodbye.
pub(crate) const GOODBYE_MAX: Duration = Duration::from_secs(4);
/// How long the last checkpoint may take; without it the next start replays the log.
const CHECKPOINT_MAX: Duration = Duration::from_secs(4);
/// How often progress is looked at while stopping.
const GLANCE: Duration = Duration::from_millis(5);
/// Exit code of a storage fault.
const EXIT_STORAGE: u8 = 3;

/// How to end.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// How long clients get to say goodbye.
    pub(super) goodbye_max: Duration,
    /// There is something to start from again, so a checkpoint is worth its time.
    pub(super) is_kept: bool,
}

/// Waits for a signal or a fault, then ends in order.
pub(super) async fn run(
    server: Rc<Server>,
    mut turns: JoinHandle<Fault>,
    doors: Vec<Leaving>,
    manner: Manner,
) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        fault = &mut turns => return Ok(storage_fault(fault.ok())),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        fault = &mut turns => Ok(storage_fault(fault.ok())),
        _ = terminate.recv() => Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
        () = drain(&server, &doors, manner) => {
            turns.abort();
            if let Some(Err(fault)) = server.take().map(replica::Node::close) {
                return Ok(storage_fault(Some(fault)));
            }
            tracing::info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Lets nobody in, says goodbye to clients, then writes a last checkpoint so that the next start
/// is short.
async fn drain(server: &Rc<Server>, doors: &[Leaving], manner: Manner) {
    // Whoever reconnects is better refused: they would be told to go again and again.
    for door in doors {
        door.accepting.abort();
    }
    server.begin_stop();
    wait(manner.goodbye_max, || doors.iter().all(|door| door.open_count.get() == 0)).await;
    if !manner.is_kept {
        return;
    }
    if let Some(Err(fault)) = server.with(replica::Node::prepare_close) {
        tracing::error!(%fault, "the last checkpoint could not be started");
        return;
    }
    // Asking through `with` also lets a turn follow, which moves things on.
    wait(CHECKPOINT_MAX, || server.with(|node| node.is_quiet()).unwrap_or(true)).await;
    tracing::debug!(at = now().0, "drained");
}

async fn wait(longest: Duration, is_over: impl Fn() -> bool) {
    let deadline = Instant::now() + longest;
    while !is_over() && Instant::now() < deadline {
        tokio::time::sleep(GLANCE).await;
    }
}

fn storage_fault(fault: Option<Fault>) -> ExitCode {
    if let Some(fault) = fault {
        tracing::error!(%fault, "storage fault: nothing is acknowledged any more");
    } else {
        tracing::error!("the turn task ended: nothing is acknowledged any more");
    }
    ExitCode::from(EXIT_STORAGE)
}
