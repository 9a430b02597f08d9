//! Opening a node: newest checkpoint, replay, ready; and closing it so that the next start is
//! short. What a damaged directory means is the journal's to say. Called by the binary.

use std::sync::Arc;

use engine::Engine;
use journal::{Checkpoint, Disk, Fault, Journal, Workers};
use model::{Limits, Lsn, Millis};

use crate::checkpoint::{self, BadState};
use crate::clock::Entropy;
use crate::log::CommitLog;
use crate::node::Node;

/// How a node is opened.
#[derive(Debug)]
pub struct Options {
    /// The log.
    pub journal: journal::Options,
    /// Limits of the engine.
    pub limits: Limits,
}

/// Why a node could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Startup {
    /// The log cannot be read or written.
    #[error(transparent)]
    Journal(#[from] Fault),
    /// The checkpoint cannot be read from the disk.
    #[error("could not read the checkpoint at log position {lsn}: {source}; check the disk")]
    Read {
        /// Its position.
        lsn: Lsn,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log is sound, but what is in it does not read.
    #[error("{0}; start the release that wrote it, or restore the directory from a backup")]
    Engine(#[from] BadState),
}

/// What recovery found, for the log line and the first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The directory held nothing.
    pub is_new: bool,
    /// Position of the checkpoint that was loaded.
    pub checkpoint: Lsn,
    /// Records replayed behind it.
    pub records: u64,
}

impl Node {
    /// Opens the log, rebuilds the state and is ready for sessions.
    ///
    /// # Errors
    /// [`Startup`], with what to do about it.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        workers: Workers,
        now: Millis,
        entropy: Entropy,
    ) -> Result<(Self, Recovered), Startup> {
        let (journal, mut recovery) = Journal::open(disk, options.journal, workers)?;
        let mut recovered = Recovered::default();
        let mut engine = Engine::new(options.limits);
        if let Some(mut checkpoint) = recovery.take_checkpoint() {
            recovered.checkpoint = checkpoint.lsn();
            engine = restore(&mut checkpoint, options.limits)?;
        }
        recovery.replay(|record| {
            recovered.records = recovered.records.saturating_add(1);
            let replayed = engine.replay(record.lsn, record.kind, record.payload);
            replayed.map_err(|damage| Startup::Engine(damage.into()))
        })?;
        recovered.is_new = recovered.records == 0 && recovered.checkpoint == Lsn::ZERO;
        let mut node = Self::new(engine, CommitLog::new(journal), entropy);
        node.check_needed()?;
        node.begin(now);
        Ok((node, recovered))
    }

    /// Whether everything appended is durable and nothing runs in the background.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.log.journal.durable() == self.log.journal.next_lsn() && self.upkeep.is_idle()
    }

    /// Starts a last checkpoint; call [`Node::commit`] until [`Node::is_quiet`], then
    /// [`Node::close`].
    ///
    /// # Errors
    /// The first storage fault.
    pub fn prepare_close(&mut self) -> Result<(), Fault> {
        if self.log.journal.next_lsn() > self.log.journal.stats().checkpoint {
            self.begin_checkpoint()?;
        }
        Ok(())
    }

    /// Ends the log's threads and releases the directory.
    ///
    /// # Errors
    /// The first storage fault.
    pub fn close(self) -> Result<(), Fault> {
        self.log.check()?;
        self.log.journal.close()
    }
}

/// Rebuilds the state of a checkpoint.
fn restore(checkpoint: &mut Checkpoint, limits: Limits) -> Result<Engine, Startup> {
    let mut bytes = Vec::with_capacity(usize::try_from(checkpoint.body_bytes()).unwrap_or(0));
    let read = std::io::Read::read_to_end(checkpoint, &mut bytes);
    read.map_err(|source| Startup::Read { lsn: checkpoint.lsn(), source })?;
    Ok(checkpoint::read(&bytes, limits)?)
}
