//! Reading a backup back: checking that it is whole and that its state and records belong
//! together, and making a data directory of it. Called by the binary for a file, and by tests.

use std::io::{self, Read};
use std::sync::Arc;

use engine::Engine;
use journal::backup::{Head, Part, Reader, Rebuild, Summary, Unsound};
use journal::{Disk, Fault, Workers};
use model::{Limits, Lsn, Millis};

use crate::checkpoint::{self, BadState};
use crate::clock::Entropy;
use crate::node::Node;
use crate::recovery::{Options, Startup};

/// Why a backup cannot be used, or was not restored.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The file is not whole.
    #[error(transparent)]
    File(#[from] Unsound),
    /// Its state does not read.
    #[error("the state in the backup is unusable: {0}")]
    State(#[from] BadState),
    /// A message that the state refers to is not in the file, or does not read.
    #[error("the backup lacks the message at log position {0} that its state refers to")]
    Message(Lsn),
    /// A record is in the file that its state does not know.
    #[error("the backup has a record at log position {0} that its state does not refer to")]
    Stray(Lsn),
    /// The data directory could not be written.
    #[error(transparent)]
    Disk(#[from] Fault),
    /// What was written does not open.
    #[error("the restored directory does not open: {0}")]
    Startup(#[from] Startup),
    /// What was written opens with another state.
    #[error("the restored directory has state hash {found:016x} instead of {wanted:016x}")]
    Different {
        /// The backup's.
        wanted: u64,
        /// The directory's.
        found: u64,
    },
}

/// What a sound backup holds.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Position and time.
    pub head: Head,
    /// Counts, hash and digest.
    pub summary: Summary,
    /// Durable queues.
    pub queues: u64,
    /// Hash of the state in this release's layout; another release's may differ.
    pub state_hash: u64,
}

/// Reads a backup to its end and checks everything: every byte, that the state reads back with
/// the hash it was written with, and that exactly the messages it refers to are there.
///
/// # Errors
/// [`Unfit`]: do not use it.
pub fn verify_backup(from: impl Read, limits: Limits) -> Result<Restored, Unfit> {
    check(from, limits).map(|(restored, _)| restored)
}

/// Verifies, and keeps the state's bytes.
fn check(from: impl Read, limits: Limits) -> Result<(Restored, Vec<u8>), Unfit> {
    let mut reader = Reader::open(from)?;
    let head = reader.head();
    let mut state = Vec::new();
    let mut known: Option<Known> = None;
    loop {
        match reader.next_part()? {
            Part::State(bytes) => state.extend_from_slice(bytes),
            Part::Record(record) => {
                let before = match known.take() {
                    Some(known) => known,
                    None => Known::read(&state, head.lsn, limits)?,
                };
                known.insert(before).meet(record.lsn)?;
                if !engine::is_readable(record.kind, record.payload) {
                    return Err(Unfit::Message(record.lsn));
                }
            }
            Part::End(summary) => {
                let mut known = match known {
                    Some(known) => known,
                    None => Known::read(&state, head.lsn, limits)?,
                };
                known.end()?;
                let found = known.engine.state_hash();
                let queues = known.engine.counters().queues;
                let written = summary.state_hash;
                if checkpoint::sealed_hash(&state).is_some_and(|sealed| sealed != written) {
                    return Err(BadState::Hash { written, found }.into());
                }
                return Ok((Restored { head, summary, queues, state_hash: found }, state));
            }
        }
    }
}

/// The state, read when the last of it was there, and what it refers to.
struct Known {
    engine: Engine,
    /// Positions that were not met yet, last first.
    left: Vec<Lsn>,
}

impl Known {
    fn read(state: &[u8], lsn: Lsn, limits: Limits) -> Result<Self, Unfit> {
        let engine = checkpoint::read(state, limits)?;
        let mut left = Vec::new();
        engine.live(Lsn::ZERO..Lsn(u64::MAX), &mut left);
        if let Some(late) = left.last().filter(|last| **last >= lsn) {
            return Err(Unfit::Message(*late));
        }
        left.reverse();
        Ok(Self { engine, left })
    }

    fn meet(&mut self, lsn: Lsn) -> Result<(), Unfit> {
        match self.left.pop() {
            Some(next) if next == lsn => Ok(()),
            Some(next) if next < lsn => Err(Unfit::Message(next)),
            Some(_) | None => Err(Unfit::Stray(lsn)),
        }
    }

    fn end(&mut self) -> Result<(), Unfit> {
        self.left.pop().map_or(Ok(()), |next| Err(Unfit::Message(next)))
    }
}

/// Makes a data directory of a backup and opens it once. `open` gives the file from its start;
/// it is read twice, so that nothing is written for a backup that is not sound.
///
/// # Errors
/// [`Unfit`]; the directory is then as empty as before.
pub fn restore_backup<R: Read>(
    mut open: impl FnMut() -> io::Result<R>,
    disk: &Arc<dyn Disk>,
    options: &Options,
    (now, entropy): (Millis, Entropy),
) -> Result<Restored, Unfit> {
    let again = |error| Unfit::File(Unsound::Read(error));
    let (restored, state) = check(open().map_err(again)?, options.limits)?;
    let journal = options.journal.clone();
    let mut rebuild = Rebuild::begin(Arc::clone(disk), journal, restored.head.lsn)?;
    let copied = open().map_err(again).and_then(|from| copy(from, &mut rebuild, restored.summary));
    let write = move |out: &mut dyn io::Write| out.write_all(&state);
    let made = copied.and_then(|()| rebuild.finish(Box::new(write)).map_err(Unfit::Disk));
    if let Err(unfit) = made {
        rebuild.abandon();
        return Err(unfit);
    }
    drop(rebuild);
    let options = Options { journal: options.journal.clone(), limits: options.limits };
    let (node, _) = Node::open(Arc::clone(disk), options, Workers::Inline, now, entropy)?;
    let (wanted, found) = (restored.state_hash, node.engine().state_hash());
    if found != wanted {
        return Err(Unfit::Different { wanted, found });
    }
    node.close()?;
    Ok(restored)
}

/// Copies the records; the file must still be the one that was checked.
fn copy(from: impl Read, rebuild: &mut Rebuild, checked: Summary) -> Result<(), Unfit> {
    let mut reader = Reader::open(from)?;
    loop {
        match reader.next_part()? {
            Part::State(_) => {}
            Part::Record(record) => rebuild.record(record)?,
            Part::End(summary) if summary == checked => return Ok(()),
            Part::End(_) => {
                let detail = "it changed while it was read";
                return Err(Unsound::Damaged { offset: 0, detail }.into());
            }
        }
    }
}
