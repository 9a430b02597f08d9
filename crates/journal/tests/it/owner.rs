//! A small owner of a journal: publishes, settles, checkpoints, and knows what must be there.
//!
//! Lives here: the model that recovery is compared with. Not here: faults (`crashes.rs` and
//! `space.rs` bring them about). State is the set of records that are still needed.

use std::collections::BTreeMap;

use journal::{Fault, Journal, Options, Recovery};
use model::Lsn;

use crate::rig::{Needed, fetch, open_with, options, payload, record};
use journal::disk::FaultyDisk;

/// A record that says "keep me".
const PUBLISH: u8 = 1;
/// A record that says "forget the one at this position".
const SETTLE: u8 = 2;

/// What was appended.
#[derive(Clone, Debug)]
struct Done {
    kind: u8,
    payload: Vec<u8>,
    /// Position after it, if a crash may leave the log there.
    ends_at: Option<Lsn>,
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owner {
    done: BTreeMap<Lsn, Done>,
    pub(crate) needed: Needed,
    /// What the journal said is durable.
    pub(crate) promised: Lsn,
    count: usize,
    turns: usize,
}

fn apply(needed: &mut Needed, lsn: Lsn, kind: u8, payload: &[u8]) {
    if kind == PUBLISH {
        needed.0.insert(lsn, payload.len() as u64 + 10);
    } else {
        let settled = u64::from_le_bytes(payload.try_into().expect("a position"));
        needed.0.remove(&Lsn(settled));
    }
}

impl Owner {
    fn append(
        &mut self,
        journal: &mut Journal,
        kind: u8,
        more: bool,
        bytes: &[u8],
    ) -> Result<Lsn, Fault> {
        let lsn = record(kind, more, bytes, journal)?;
        let ends_at = (!more).then(|| journal.next_lsn());
        self.done.insert(lsn, Done { kind, payload: bytes.to_vec(), ends_at });
        apply(&mut self.needed, lsn, kind, bytes);
        Ok(lsn)
    }

    pub(crate) fn publish(&mut self, journal: &mut Journal, bytes: usize) -> Result<Lsn, Fault> {
        self.count += 1;
        self.append(journal, PUBLISH, false, &payload(self.count, bytes))
    }

    pub(crate) fn settle(&mut self, journal: &mut Journal, lsn: Lsn) -> Result<(), Fault> {
        self.append(journal, SETTLE, false, &lsn.0.to_le_bytes()).map(|_| ())
    }

    /// Settles one and publishes another, both or neither.
    pub(crate) fn exchange(
        &mut self,
        journal: &mut Journal,
        lsn: Lsn,
        bytes: usize,
    ) -> Result<Lsn, Fault> {
        self.count += 1;
        self.append(journal, SETTLE, true, &lsn.0.to_le_bytes())?;
        self.append(journal, PUBLISH, false, &payload(self.count, bytes))
    }

    /// Compares a payload with what was appended there.
    pub(crate) fn assert_same(&self, lsn: Lsn, bytes: &[u8]) {
        assert_eq!(self.done[&lsn].payload, bytes, "at {lsn}");
    }

    /// The oldest record that is needed.
    pub(crate) fn oldest(&self) -> Option<Lsn> {
        self.needed.0.keys().next().copied()
    }

    /// One turn: commit, checkpoint when due, a step of maintenance.
    pub(crate) fn turn(&mut self, journal: &mut Journal) -> Result<(), Fault> {
        self.turns += 1;
        if self.turns.is_multiple_of(3) {
            // The background gets ahead of the commit: what it does must not rely on it.
            journal.maintain(&self.needed)?;
            journal.run_pending();
            self.promised = journal.poll()?.durable;
        }
        journal.flush()?;
        if journal.checkpoint_due() {
            self.checkpoint(journal)?;
        }
        journal.maintain(&self.needed)?;
        journal.run_pending();
        self.promised = journal.poll()?.durable;
        Ok(())
    }

    /// The state as of everything appended.
    pub(crate) fn checkpoint(&self, journal: &mut Journal) -> Result<(), Fault> {
        let mut state = Vec::new();
        for (lsn, bytes) in &self.needed.0 {
            state.extend_from_slice(&lsn.0.to_le_bytes());
            state.extend_from_slice(&bytes.to_le_bytes());
        }
        journal.checkpoint(journal.next_lsn(), Box::new(move |out| out.write_all(&state)))
    }

    /// Turns until nothing is left to do.
    pub(crate) fn settle_down(&mut self, journal: &mut Journal) -> Result<(), Fault> {
        for _ in 0..60 {
            self.turn(journal)?;
        }
        Ok(())
    }

    /// What was needed when the log ended at `end`.
    fn needed_at(&self, end: Lsn) -> Needed {
        let mut needed = Needed::default();
        for (lsn, done) in self.done.range(..end) {
            apply(&mut needed, *lsn, done.kind, &done.payload);
        }
        needed
    }

    /// Opens the disk, compares everything with what was done, and forgets what was not durable.
    pub(crate) fn recover(&mut self, disk: &FaultyDisk) -> Journal {
        self.recover_with(disk, options())
    }

    /// As [`Owner::recover`], with other options.
    pub(crate) fn recover_with(&mut self, disk: &FaultyDisk, options: Options) -> Journal {
        let opened = open_with(disk, options);
        let (mut journal, mut recovery) = opened.expect("a crash is not damage");
        let end = journal.next_lsn();
        assert!(end >= self.promised, "{end} was recovered, {} was promised", self.promised);
        let is_boundary = |done: &Done| done.ends_at == Some(end);
        assert!(
            end == Lsn::ZERO || self.done.values().any(is_boundary),
            "the log ends in the middle of a group, at {end}"
        );
        let state = self.rebuild(&mut recovery);
        self.done.split_off(&end);
        self.needed = self.needed_at(end);
        self.promised = end;
        assert_eq!(state.0, self.needed.0, "the rebuilt state is another one");
        journal.check_needed(&self.needed).expect("every needed record has a file");
        let wanted: Vec<Lsn> = self.needed.0.keys().copied().collect();
        for (lsn, found) in fetch(&mut journal, &wanted).expect("read what is needed") {
            let done = &self.done[&lsn];
            let (kind, bytes) = found.unwrap_or_else(|| panic!("{lsn} is needed and gone"));
            assert_eq!((kind, &bytes), (done.kind, &done.payload), "at {lsn}");
        }
        journal
    }

    fn rebuild(&self, recovery: &mut Recovery) -> Needed {
        let mut needed = Needed::default();
        if let Some(mut checkpoint) = recovery.take_checkpoint() {
            let mut state = Vec::new();
            std::io::Read::read_to_end(&mut checkpoint, &mut state).expect("read the checkpoint");
            for entry in state.chunks_exact(16) {
                let (lsn, bytes) = entry.split_at(8);
                let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight"));
                needed.0.insert(Lsn(number(lsn)), number(bytes));
            }
        }
        let replayed: Result<(), Fault> = recovery.replay(|record| {
            let done = self.done.get(&record.lsn).expect("only what was appended comes back");
            assert_eq!((record.kind, record.payload), (done.kind, done.payload.as_slice()));
            assert_eq!(record.more, done.ends_at.is_none());
            apply(&mut needed, record.lsn, record.kind, record.payload);
            Ok(())
        });
        replayed.expect("replay what open verified");
        needed
    }
}
