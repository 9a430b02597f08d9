//! Opening a journal: the directory, recovery, the threads, and the first state of everything.
//!
//! Lives here: how the parts are put together. Not here: reading the files (`recovery.rs`) and
//! what the parts do. The owner calls `Journal::open` once.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Mutex};

use model::Lsn;

use crate::background::{Background, Cold};
use crate::block::{Block, Pool};
use crate::commit::{Committer, End};
use crate::disk::{Disk, LockGuard, MemoryDisk, lock_holder};
use crate::fault::Fault;
use crate::files::{Directory, parent};
use crate::journal::{Fetches, Journal};
use crate::layout::size;
use crate::options::{Durability, Options, Workers};
use crate::pace::Pace;
use crate::reader::Reader;
use crate::recovery::{Found, Recovery, recover};
use crate::ring::Ring;
use crate::stats::Stats;
use crate::tail::Tail;
use crate::upkeep::Upkeep;
use crate::worker::Link;

/// A number that no earlier use of a segment had; from the seed it is repeatable.
pub(crate) fn salt(options: &Options, sequence: u64) -> u64 {
    let Some(seed) = options.seed else { return RandomState::new().hash_one(sequence) };
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write_u64(sequence);
    hasher.finish()
}

/// Takes the directory: creates it, locks it.
pub(crate) fn occupy(
    disk: Arc<dyn Disk>,
    dir: &Path,
) -> Result<(Directory, Box<dyn LockGuard>), Fault> {
    let is_new = disk.create_dir(dir).map_err(|error| Fault::io("create", dir, error))?;
    if is_new {
        let above = parent(dir);
        disk.sync_dir(above).map_err(|error| Fault::io("sync", above, error))?;
    }
    let path = dir.join("lock");
    let lock = disk.lock(&path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::WouldBlock {
            Fault::Locked { dir: dir.to_path_buf(), pid: lock_holder(&path) }
        } else {
            Fault::io("lock", &path, error)
        }
    })?;
    Ok((Directory { disk, dir: dir.to_path_buf() }, lock))
}

impl Journal {
    /// Opens the log in `options.dir`, creating it if there is none, and says what to replay. With
    /// [`Durability::Memory`] `disk` is not used.
    ///
    /// # Errors
    /// [`Fault::Locked`] when another process has it, [`Fault::Version`] and [`Fault::Damaged`]
    /// when its files cannot be trusted (nothing is changed then), [`Fault::Io`], and
    /// [`Fault::Setting`].
    #[expect(clippy::needless_pass_by_value, reason = "the journal keeps what is in it")]
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        workers: Workers,
    ) -> Result<(Self, Recovery), Fault> {
        options.check()?;
        let is_volatile = options.durability == Durability::Memory;
        let disk = if is_volatile { Arc::new(MemoryDisk::default()) } else { disk };
        let (dir, held) = occupy(disk, &options.dir)?;
        let found = recover(&dir, &options, |sequence| salt(&options, sequence))?;
        let Found { recovery, places, end, previous, incarnation, .. } = found;
        let places = Arc::new(Mutex::new(places));
        let stable = if is_volatile { Lsn::ZERO } else { end };
        let log_end = End { durability: options.durability, incarnation, previous, stable };
        // Without a disk a commit is a copy: faster done here than handed to a thread.
        let commits =
            if is_volatile { Link::inline(Committer) } else { Link::start(Committer, &workers)? };
        let cold = Cold { places: Arc::clone(&places), reader: Reader::default() };
        let background = Background { dir: dir.clone(), pace: options.pace_bytes, cold };
        let background = Link::start(background, &workers)?;
        let ring = Ring {
            full: found.full,
            active: found.active,
            used: found.used,
            ready: found.ready,
            spent: VecDeque::new(),
            segments_max: size(u64::from(options.segments_max)),
            segment_room: options.segment_room(),
        };
        let mut pool = Pool::default();
        let journal = Self {
            lock: held,
            open: Block::new(pool.take(), end),
            sealed: VecDeque::new(),
            sealed_bytes: 0,
            in_flight: None,
            end: log_end,
            pace: Pace::new(options.flush_wait_max, &workers),
            durable: end,
            fault: None,
            ring,
            places,
            tail: Tail::new(options.cache_bytes),
            pool,
            commits,
            background,
            batch: Vec::new(),
            fetches: Fetches::default(),
            upkeep: Upkeep::new(found.checkpoint, found.checkpoint_bytes, found.generation),
            stats: Stats::default(),
            incarnation,
            witnessed: Lsn::ZERO,
            options,
            dir,
        };
        Ok((journal, recovery))
    }
}
