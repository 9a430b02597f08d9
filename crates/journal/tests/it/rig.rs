//! The rig the tests share: a small journal over a simulated disk, without threads.
//!
//! Lives here: opening, turning the crank, reading everything back. Not here: any assertion about
//! behaviour. Every file of this test uses it.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use journal::disk::FaultyDisk;
use journal::{
    Disk, Durability, Fault, Journal, Liveness, Options, Progress, Record, Recovery, Usage, Workers,
};
use model::Lsn;

pub(crate) const SEGMENT: u64 = 64 * 1024;

pub(crate) fn options() -> Options {
    Options {
        dir: PathBuf::from("/data"),
        durability: Durability::Fsync,
        segment_bytes: SEGMENT,
        segments_max: 5,
        cache_bytes: 64 * 1024,
        checkpoint_bytes: 100 * 1024,
        free_bytes_min: 1024 * 1024,
        pace_bytes: 16 * 1024,
        seed: Some(7),
        ..Options::default()
    }
}

pub(crate) fn open(disk: &FaultyDisk) -> Result<(Journal, Recovery), Fault> {
    open_with(disk, options())
}

pub(crate) fn open_with(disk: &FaultyDisk, options: Options) -> Result<(Journal, Recovery), Fault> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Journal::open(disk, options, Workers::Inline)
}

/// A record with one part.
pub(crate) fn record(
    kind: u8,
    more: bool,
    payload: &[u8],
    journal: &mut Journal,
) -> Result<Lsn, Fault> {
    journal.append(Record { kind, more, parts: &[payload] })
}

/// One commit, all the way.
pub(crate) fn commit(journal: &mut Journal) -> Result<Progress, Fault> {
    journal.flush()?;
    journal.run_pending();
    journal.poll()
}

/// Maintains until nothing is left to do; answers checkpoints with the given bytes.
pub(crate) fn settle(
    journal: &mut Journal,
    live: &dyn Liveness,
    state: &[u8],
) -> Result<(), Fault> {
    for _ in 0..40 {
        if journal.checkpoint_due() {
            let state = state.to_vec();
            let lsn = journal.durable();
            journal.checkpoint(lsn, Box::new(move |out| out.write_all(&state)))?;
        }
        journal.maintain(live)?;
        journal.run_pending();
        let progress = journal.poll()?;
        if !progress.maintained && journal.is_idle() && !journal.checkpoint_due() {
            break;
        }
    }
    Ok(())
}

/// What the owner still needs: a set of positions with their frame bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needed(pub(crate) std::collections::BTreeMap<Lsn, u64>);

impl Liveness for Needed {
    fn usage(&self, range: Range<Lsn>) -> Usage {
        let within = self.0.range(range);
        within.fold(Usage::default(), |sum, (_, bytes)| Usage {
            records: sum.records + 1,
            bytes: sum.bytes + bytes,
        })
    }

    fn live(&self, range: Range<Lsn>, out: &mut Vec<Lsn>) {
        out.extend(self.0.range(range).map(|(lsn, _)| *lsn));
    }
}

/// A record as replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) lsn: Lsn,
    pub(crate) kind: u8,
    pub(crate) more: bool,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn replay(recovery: &Recovery) -> Vec<Seen> {
    let mut seen = Vec::new();
    let visited: Result<(), Fault> = recovery.replay(|record| {
        seen.push(Seen {
            lsn: record.lsn,
            kind: record.kind,
            more: record.more,
            payload: record.payload.to_vec(),
        });
        Ok(())
    });
    visited.expect("replay what open verified");
    seen
}

/// A position and the kind and payload found there.
pub(crate) type Cold = (Lsn, Option<(u8, Vec<u8>)>);

/// Reads records through the cold path.
pub(crate) fn fetch(journal: &mut Journal, wanted: &[Lsn]) -> Result<Vec<Cold>, Fault> {
    let mut found = Vec::new();
    let mut left = wanted.to_vec();
    while !left.is_empty() {
        journal.fetch(left, 1)?;
        journal.run_pending();
        let mut progress = journal.poll()?;
        assert_eq!(progress.fetched.len(), 1, "one answer per fetch");
        let fetched = progress.fetched.remove(0);
        for (lsn, record) in fetched.records?.iter() {
            found.push((lsn, record.map(|record| (record.kind, record.payload.to_vec()))));
        }
        left = fetched.unread;
    }
    Ok(found)
}

/// A payload that says who it is.
pub(crate) fn payload(number: usize, bytes: usize) -> Vec<u8> {
    let mut out = number.to_le_bytes().to_vec();
    out.resize(bytes.max(8), u8::try_from(number % 251).expect("below 251"));
    out
}
