//! `potager demo`: the product's promise shown on this machine, with real processes.
//!
//! A server and workers are started as child processes in a temporary folder, tasks flow over
//! real AMQP, a worker and then the server are killed with SIGKILL, and at the end a ledger says
//! what became of every single task. Lives here: the order of events. Not here: each actor
//! (`server`, `producer`, `collector`, `worker`, `celery`), adding up (`ledger`), the longer
//! proof under many kills (`crash`), prompts
//! over workers without ports (`batch`). Called by `commands::demo`.

mod batch;
mod books;
mod builtin;
mod celery;
mod collector;
mod conduct;
mod crash;
mod folder;
mod ledger;
mod producer;
mod progress;
mod server;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use batch::{BatchOptions, run as run_batch};
pub(crate) use crash::{CrashOptions, run as run_crash};
pub(crate) use ledger::Ledger;
pub(crate) use worker::run as run_worker;

use self::folder::Folder;

/// What one demonstration does.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How many tasks.
    pub(crate) tasks: u64,
    /// Publish for this long instead of a number of tasks.
    pub(crate) duration: Option<Duration>,
    /// Leave the temporary folder in place.
    pub(crate) is_kept: bool,
    /// Use Celery when it can be imported.
    pub(crate) may_use_celery: bool,
    /// The Python to ask for Celery.
    pub(crate) python: PathBuf,
}

/// Runs the demonstration to its ledger.
///
/// # Errors
/// When a process cannot be started or a client meets something else than a lost connection.
pub(crate) fn run(options: &Options) -> anyhow::Result<Ledger> {
    let folder = Folder::create(options.is_kept)?;
    let celery = if options.may_use_celery { celery::find(&options.python) } else { None };
    match celery {
        Some(version) => celery::run(options, &folder, &version),
        None => builtin::run(options, &folder),
    }
}
