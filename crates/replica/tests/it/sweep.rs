//! [`Sweep`]: the power fails in every single disk operation of a story; each time the node is
//! recovered, compared with the ledger and with the log, and goes on working.
//!
//! Lives here: the cutting and the comparisons that hold for every story. Not here: the stories
//! (`one_commit.rs`, `boundaries.rs`, `recovery.rs`).
//!
//! What the recovered state must be is known in two ways that do not depend on each other: from
//! what clients were told ([`Ledger`]), and from replaying the records of the same story, read
//! from a log that never crashed, up to where the recovered log ends ([`Reference`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use engine::Engine;
use journal::disk::FaultyDisk;
use journal::{Fault, Journal, Workers};
use model::{Limits, Lsn, Millis, Stamp};

use crate::rig::journal_options;
use crate::run::{Contents, Ledger, Run, START, body, number};

/// Queue of what is published after a recovery.
const AFTERWARDS: &str = "afterwards";

/// The smallest log there can be: everything happens often.
pub(crate) fn small() -> journal::Options {
    journal::Options {
        segment_bytes: 64 * 1024,
        segments_max: 5,
        cache_bytes: 64 * 1024,
        checkpoint_bytes: 96 * 1024,
        pace_bytes: 32 * 1024,
        ..journal_options()
    }
}

/// A story and what must hold whenever it is cut.
pub(crate) struct Sweep {
    pub(crate) name: &'static str,
    pub(crate) options: journal::Options,
    /// Stops at the first fault, which is the power failing.
    pub(crate) story: fn(&mut Run) -> Result<(), Fault>,
    /// The durable queues of the story.
    pub(crate) queues: &'static [&'static str],
    /// How long after the crash the node is started again.
    pub(crate) pause_ms: u64,
    /// What the story demands besides.
    pub(crate) check: fn(&Contents, &Ledger, &str),
    /// Looks at the story's end whether it contained what it is meant to.
    pub(crate) finished: fn(&Run),
    /// Every write takes half of what it is given, so that there are cuts inside each of them.
    pub(crate) writes_short: bool,
    /// A sweep that cuts less often than this tests something else than it says.
    pub(crate) cuts_min: usize,
}

/// The records of a story, from a log that kept them all.
pub(crate) struct Reference {
    records: Vec<(Lsn, u8, Vec<u8>)>,
    /// Where a group ends, and the state there once it was asked for.
    ends: RefCell<BTreeMap<Lsn, Option<u64>>>,
}

impl Reference {
    fn read(disk: FaultyDisk, options: journal::Options) -> Self {
        let (_, recovery) =
            Journal::open(Arc::new(disk), options, Workers::Inline).expect("no fault was planned");
        assert_eq!(recovery.from(), Lsn::ZERO, "the reference keeps everything");
        let (mut records, mut ends) = (Vec::new(), BTreeMap::from([(Lsn::ZERO, None)]));
        let mut is_end = false;
        let replayed: Result<(), Fault> = recovery.replay(|record| {
            if is_end {
                ends.insert(record.lsn, None);
            }
            is_end = !record.more;
            records.push((record.lsn, record.kind, record.payload.to_vec()));
            Ok(())
        });
        replayed.expect("replay");
        ends.insert(recovery.end(), None);
        Self { records, ends: RefCell::new(ends) }
    }

    /// The state after all groups before `end`.
    fn hash_at(&self, end: Lsn, context: &str) -> u64 {
        let mut ends = self.ends.borrow_mut();
        let known = ends.get_mut(&end);
        let known = known.unwrap_or_else(|| panic!("{context}: the log ends inside a group"));
        *known.get_or_insert_with(|| {
            let mut engine = Engine::new(Limits::default());
            for (lsn, kind, payload) in self.records.iter().take_while(|(lsn, ..)| *lsn < end) {
                engine.replay(*lsn, *kind, payload).expect("a record of the story");
            }
            engine.recovered(Stamp { now: START, nonce: 0 });
            engine.state_hash()
        })
    }
}

impl Sweep {
    /// Runs the story on a disk until it ends or the power fails; the ledger stays.
    pub(crate) fn run(&self, disk: &FaultyDisk) -> (Ledger, Millis, Result<(), ()>) {
        match Run::open(disk.clone(), self.options.clone(), START) {
            Ok(mut run) => {
                let ended = (self.story)(&mut run);
                (run.ledger, run.rig.now, ended.map_err(|_| ()))
            }
            Err(_) => (Ledger::default(), START, Err(())),
        }
    }

    /// The story without any fault, in a log that forgets nothing.
    pub(crate) fn reference(&self) -> Reference {
        let disk = FaultyDisk::new();
        let options = journal::Options {
            segments_max: 1000,
            checkpoint_bytes: u64::MAX,
            ..self.options.clone()
        };
        let mut run = Run::open(disk.clone(), options.clone(), START).expect("open");
        run.keeps_all = true;
        (self.story)(&mut run).expect("no fault was planned");
        drop(run);
        Reference::read(disk, options)
    }

    /// A disk with nothing on it.
    pub(crate) fn disk(&self) -> FaultyDisk {
        let disk = FaultyDisk::new();
        disk.write_short(self.writes_short);
        disk
    }

    /// How many disk operations the story makes when nothing goes wrong.
    pub(crate) fn operations(&self) -> u64 {
        let disk = self.disk();
        let mut run = Run::open(disk.clone(), self.options.clone(), START).expect("open");
        (self.story)(&mut run).expect("no fault was planned");
        (self.finished)(&run);
        disk.operations()
    }

    /// Opens what the power failure left and compares it with the log of the story.
    pub(crate) fn recover(
        &self,
        disk: FaultyDisk,
        (ledger, now): (&Ledger, Millis),
        reference: &Reference,
        context: &str,
    ) -> Run {
        let run = self.open_again(disk, (ledger, now), context);
        let end = run.rig.node.journal().durable();
        let hash = run.rig.node.engine().state_hash();
        assert_eq!(hash, reference.hash_at(end, context), "{context}: another state");
        run
    }

    /// Opens what is left; nothing that was promised may be missing from the log.
    pub(crate) fn open_again(
        &self,
        disk: FaultyDisk,
        (ledger, now): (&Ledger, Millis),
        context: &str,
    ) -> Run {
        let later = now.plus(self.pause_ms);
        let run = match Run::open(disk, self.options.clone(), later) {
            Ok(run) => run,
            Err(error) => panic!("{context}: a power cut is no damage: {error}"),
        };
        let end = run.rig.node.journal().durable();
        assert!(end >= ledger.promised, "{context}: the log ends before what was promised");
        run
    }

    /// Compares the queues with the ledger, publishes more, and recovers once more.
    pub(crate) fn go_on(&self, mut run: Run, ledger: &Ledger, context: &str) {
        let contents = run.contents(self.queues);
        ledger.check(&contents, context);
        (self.check)(&contents, ledger, context);
        run.declare(AFTERWARDS, model::QueueOptions::default());
        for number in 0..3 {
            run.publish(AFTERWARDS, body("after", number, 700));
        }
        run.turns(4).unwrap_or_else(|fault| panic!("{context}: it does not go on: {fault}"));
        let confirmed = run.ledger.published.values().all(|fate| fate.is_confirmed);
        assert!(confirmed, "{context}: nothing was confirmed afterwards");
        let now = run.rig.now.plus(self.pause_ms);
        let disk = run.rig.crash(0);
        let mut again = Run::open(disk, self.options.clone(), now).expect("the second start");
        let mut left = again.contents(self.queues);
        left.retain(|_, bodies| !bodies.is_empty());
        assert!(left.is_empty(), "{context}: settled messages are back: {:?}", left.keys());
        let after = again.contents(&[AFTERWARDS]);
        let numbers: Vec<u64> = after[AFTERWARDS].iter().map(|body| number(body)).collect();
        assert_eq!(numbers, [0, 1, 2], "{context}: what was published after the recovery");
    }

    /// Cuts after every operation, with everything unsynced lost, kept, and torn at random.
    pub(crate) fn every_cut(&self) {
        let reference = self.reference();
        let operations = self.operations();
        let mut cuts = 0;
        for at in 1..=operations {
            let disk = self.disk();
            disk.crash_at(at);
            let (ledger, now, ended) = self.run(&disk);
            assert!(ended.is_err() || at == operations, "operation {at} was not noticed");
            for (seed, goes_on) in [(0, true), (1, false), (at + 7000, true), (at + 9000, false)] {
                let context = format!("{}, operation {at}, seed {seed}", self.name);
                let after = disk.after_power_loss(seed);
                let run = self.recover(after, (&ledger, now), &reference, &context);
                cuts += 1;
                if goes_on {
                    self.go_on(run, &ledger, &context);
                } else {
                    drop(run);
                }
            }
        }
        eprintln!("{}: {operations} operations, {cuts} power cuts", self.name);
        assert!(cuts >= self.cuts_min, "{}: only {cuts} cuts", self.name);
    }
}
