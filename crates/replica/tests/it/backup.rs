//! A backup equals the state at its position, however much happens while it is taken, and costs
//! the server nothing but disk space.
//!
//! Promise: P17.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use journal::backup::Unsound;
use journal::disk::FaultyDisk;
use journal::{Disk, Durability};
use model::{DeclareQueue, Limits, Millis, Op, QueueOptions, QueueSpec, Request, SessionId};
use replica::{Alarm, InlineBackup, NoBackup, Options, Step, Unfit, restore_backup, verify_backup};

use crate::rig::{Rig, Seen, message};

const QUEUES: [&str; 4] = ["plain", "levels", "dies", "graves"];
/// Less than what the random work leaves behind, so that bodies come from disk.
const CACHE_BYTES: usize = 64 * 1024;

/// A small generator (splitmix64): a seed is a story.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// The body with this number, of a size that the number decides.
fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_be_bytes().to_vec();
    let length = usize::try_from(Dice(number).next(6_000)).unwrap();
    body.resize(8 + length, number.to_le_bytes()[0]);
    body
}

fn number(body: &[u8]) -> u64 {
    u64::from_be_bytes(*body.first_chunk::<8>().expect("a body with a number"))
}

/// Random work over a node.
struct World {
    rig: Rig,
    dice: Dice,
    id: SessionId,
    sent: u64,
    /// Consumers and the tags they have not settled.
    readers: Vec<(SessionId, BTreeSet<u64>)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rig = Rig::open(FaultyDisk::default(), CACHE_BYTES);
        let id = rig.session();
        for (name, priority_max, letter) in [
            ("plain", 0, None),
            ("levels", 4, None),
            ("dies", 0, Some("graves")),
            ("graves", 0, None),
        ] {
            let options = QueueOptions {
                priority_max,
                dead_letter_exchange: letter.map(|_| Bytes::new()),
                dead_letter_routing_key: letter.map(|to| Bytes::from_static(to.as_bytes())),
                length_max: letter.map(|_| 400),
                ..QueueOptions::default()
            };
            let spec = QueueSpec { is_durable: true, options, ..QueueSpec::default() };
            let name = Bytes::from_static(name.as_bytes());
            rig.ask(id, Request::DeclareQueue(Box::new(DeclareQueue { name, spec })));
        }
        rig.declare(id, "volatile", false);
        let mut readers = Vec::new();
        for queue in ["plain", "dies", "levels"] {
            let id = rig.session();
            rig.consume(id, queue, 50);
            readers.push((id, BTreeSet::new()));
        }
        rig.settle();
        rig.see(id);
        Self { rig, dice: Dice(seed), id, sent: 0, readers }
    }

    fn publish(&mut self, count: u64) {
        for _ in 0..count {
            let queue = ["plain", "levels", "dies", "volatile"]
                [usize::try_from(self.dice.next(4)).unwrap()];
            let mut publish = message(queue, &body(self.sent));
            publish.options.priority = u8::try_from(self.dice.next(5)).unwrap();
            self.sent += 1;
            self.rig.ask(self.id, Request::Publish(publish));
        }
    }

    /// One act of many kinds, and usually a turn.
    fn act(&mut self) {
        match self.dice.next(12) {
            0..=5 => {
                let count = 1 + self.dice.next(30);
                self.publish(count);
            }
            6..=8 => self.settle_some(false),
            9 => self.settle_some(true),
            10 => {
                let mut ops: Vec<Op> = Vec::new();
                for _ in 0..3 {
                    ops.push(Op::Publish(message("levels", &body(self.sent))));
                    self.sent += 1;
                }
                self.rig.ask(self.id, Request::Commit(ops));
            }
            11 if self.dice.next(10) == 0 => {
                self.rig.ask(self.id, Request::PurgeQueue(Bytes::from_static(b"levels")));
            }
            _ => self.rig.now = self.rig.now.plus(7),
        }
        if self.dice.next(4) > 0 {
            self.rig.turn();
        }
        self.look();
    }

    /// Acknowledges up to a tag, or gives one delivery back or away.
    fn settle_some(&mut self, is_release: bool) {
        let reader = usize::try_from(self.dice.next(3)).unwrap();
        let (is_requeue, skip) = (self.dice.next(2) == 0, self.dice.next(20));
        let (id, open) = &mut self.readers[reader];
        let skip = usize::try_from(skip).unwrap().min(open.len().saturating_sub(1));
        let Some(tag) = open.iter().copied().nth(skip) else { return };
        let request = if is_release {
            open.remove(&tag);
            Request::Release { tag, is_multiple: false, is_requeue }
        } else {
            *open = open.split_off(&(tag + 1));
            Request::Ack { tag, is_multiple: true }
        };
        self.rig.ask(*id, request);
    }

    fn look(&mut self) {
        let refused = |seen: &Seen| matches!(seen, Seen::Refused(_));
        let seen = self.rig.see(self.id);
        assert!(!seen.iter().any(refused), "{seen:?}");
        for (id, open) in &mut self.readers {
            for seen in self.rig.see(*id) {
                assert!(!refused(&seen), "{seen:?}");
                if let Seen::Delivered { tag, .. } = seen {
                    open.insert(tag);
                }
            }
        }
    }
}

/// A backup on its way into a vector.
struct Taking {
    backup: InlineBackup,
    file: Vec<u8>,
}

impl Taking {
    fn begin(rig: &mut Rig) -> Self {
        let backup = InlineBackup::begin(&mut rig.node, rig.now, 8).expect("a backup begins");
        Self { backup, file: Vec::new() }
    }

    /// One step, unless it waits for the node. Whether it is done.
    fn step(&mut self, rig: &mut Rig) -> Result<bool, NoBackup> {
        let summary = self.backup.poll(&mut rig.node, &mut self.file)?;
        if let Some(summary) = &summary {
            assert_eq!(summary.file_bytes, self.file.len() as u64);
        }
        Ok(summary.is_some())
    }

    fn finish(mut self, rig: &mut Rig) -> Vec<u8> {
        while !self.step(rig).expect("the backup goes on") {
            rig.turn();
        }
        self.file
    }
}

fn options() -> Options {
    let journal = journal::Options {
        dir: "/data".into(),
        durability: Durability::Fsync,
        segment_bytes: 1024 * 1024,
        segments_max: 6,
        free_bytes_min: 0,
        seed: Some(11),
        ..journal::Options::default()
    };
    Options { journal, limits: Limits::default() }
}

fn restore(file: &[u8], disk: &FaultyDisk) -> Result<replica::Restored, Unfit> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    restore_backup(|| Ok(file), &disk, &options(), (Millis(5), Box::new(|| 4)))
}

/// Everything in a node, queue by queue, in order.
fn drain(rig: &mut Rig) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for queue in QUEUES {
        let id = rig.session();
        rig.consume(id, queue, 0);
        rig.settle();
        let seen = rig.see_all(id);
        all.extend(seen.into_iter().filter_map(|one| match one {
            Seen::Delivered { body, .. } => Some(body),
            _ => None,
        }));
        all.push(queue.as_bytes().to_vec());
    }
    all
}

/// What happened while backups were taken, over all seeds.
#[derive(Debug, Default)]
struct Happened {
    checkpoints: u64,
    rolled: u64,
    survivors: u64,
    messages: u64,
}

fn story(seed: u64, happened: &mut Happened) {
    let mut world = World::new(seed);
    for _ in 0..50 + world.dice.next(200) {
        world.act();
    }
    let is_settled = seed.is_multiple_of(2);
    if is_settled {
        world.rig.settle();
    }
    let before = world.rig.node.journal().stats();
    let hash = world.rig.node.engine().state_hash();
    let lsn = world.rig.node.journal().next_lsn();
    let copy = is_settled.then(|| world.rig.disk.fork());
    let mut taking = Taking::begin(&mut world.rig);
    assert_eq!(taking.backup.lsn(), lsn);
    let pace = 1 + world.dice.next(12);
    while !taking.step(&mut world.rig).expect("the backup goes on") {
        for _ in 0..pace {
            world.act();
        }
    }
    let after = world.rig.node.journal().stats();
    happened.checkpoints += u64::from(after.checkpoint > lsn);
    happened.rolled += (world.rig.node.journal().next_lsn().0 - lsn.0) >> 20;
    happened.survivors += u64::from(after.survivor_bytes != before.survivor_bytes);
    let checked = verify_backup(taking.file.as_slice(), Limits::default()).expect("it is sound");
    assert_eq!((checked.head.lsn, checked.summary.state_hash), (lsn, hash), "seed {seed}");
    happened.messages += checked.summary.records;
    let disk = FaultyDisk::default();
    let restored = restore(&taking.file, &disk).expect("it restores");
    assert_eq!(restored.state_hash, hash);
    let mut restored = Rig::open(disk.after_power_loss(seed), CACHE_BYTES);
    assert_eq!(restored.node.engine().state_hash(), hash, "seed {seed}");
    assert_eq!(restored.node.journal().next_lsn(), lsn);
    let found = drain(&mut restored);
    if let Some(copy) = copy {
        let mut copy = Rig::open(copy, CACHE_BYTES);
        assert_eq!(copy.node.engine().state_hash(), hash);
        assert!(drain(&mut copy) == found, "seed {seed}: other messages than the copy has");
    }
    for one in
        found.iter().filter(|one| one.len() >= 8 && !QUEUES.iter().any(|q| q.as_bytes() == *one))
    {
        assert!(*one == body(number(one)), "seed {seed}: a body is not the one that was sent");
    }
}

#[test]
fn a_backup_under_random_work_is_the_state_at_its_position() {
    let mut happened = Happened::default();
    for seed in 0..24 {
        story(seed, &mut happened);
    }
    let Happened { checkpoints, rolled, survivors, messages } = happened;
    assert!(checkpoints > 3 && rolled > 30 && survivors > 3 && messages > 3_000, "{happened:?}");
}

#[test]
fn what_is_acknowledged_while_the_backup_is_taken_is_still_in_it() {
    let mut rig = Rig::open(FaultyDisk::default(), CACHE_BYTES);
    let id = rig.session();
    rig.declare(id, "work", true);
    let sent: BTreeSet<u64> = (0..700).collect();
    for number in &sent {
        rig.publish(id, "work", &body(*number));
    }
    rig.settle();
    let mut taking = Taking::begin(&mut rig);
    while taking.file.is_empty() {
        taking.step(&mut rig).unwrap();
        rig.turn();
    }
    // Everything is settled and the log turns over several times before the rest is read.
    rig.ask(id, Request::PurgeQueue(Bytes::from_static(b"work")));
    rig.declare(id, "noise", true);
    for round in 0..4_000 {
        rig.publish(id, "noise", &body(1_000 + round));
        if round % 40 == 0 {
            rig.ask(id, Request::PurgeQueue(Bytes::from_static(b"noise")));
            rig.turn();
            rig.turn();
            rig.see(id);
        }
    }
    rig.settle();
    assert!(rig.node.journal().stats().survivor_bytes > 1 << 20, "kept for the backup");
    let file = taking.finish(&mut rig);
    let disk = FaultyDisk::default();
    assert_eq!(restore(&file, &disk).unwrap().summary.records, 700);
    let mut restored = Rig::open(disk, CACHE_BYTES);
    let id = restored.session();
    restored.consume(id, "work", 0);
    restored.settle();
    let bodies = restored.see_all(id).into_iter().filter_map(|seen| match seen {
        Seen::Delivered { body, .. } => Some(body),
        _ => None,
    });
    let found: Vec<Vec<u8>> = bodies.collect();
    assert!(found.iter().all(|one| *one == body(number(one))));
    assert_eq!(found.iter().map(|body| number(body)).collect::<BTreeSet<u64>>(), sent);
    // Nothing is kept any more: the space comes back.
    for round in 0..3_000 {
        rig.publish(id, "noise", &body(9_000 + round));
        if round % 40 == 0 {
            rig.ask(id, Request::PurgeQueue(Bytes::from_static(b"noise")));
            rig.turn();
            rig.turn();
        }
    }
    rig.settle();
    let left = rig.node.journal().stats().survivor_bytes;
    assert!(left < 1 << 20, "{left} bytes of survivors are left");
}

#[test]
fn a_crash_in_the_middle_leaves_the_server_as_it_was() {
    for seed in 0..12 {
        let mut world = World::new(100 + seed);
        for _ in 0..120 {
            world.act();
        }
        let mut taking = Taking::begin(&mut world.rig);
        for _ in 0..seed {
            taking.step(&mut world.rig).unwrap();
            world.act();
        }
        world.rig.settle();
        let hash = world.rig.node.engine().state_hash();
        let broken = taking.file;
        let mut after = Rig::open(world.rig.crash(seed), CACHE_BYTES);
        assert_eq!(after.node.engine().state_hash(), hash);
        for one in drain(&mut after).iter().filter(|one| one.len() > 8) {
            assert!(*one == body(number(one)));
        }
        let unsound = verify_backup(broken.as_slice(), Limits::default()).unwrap_err();
        assert!(matches!(unsound, Unfit::File(Unsound::Cut { .. })), "{unsound}");
        let again = Taking::begin(&mut after).finish(&mut after);
        assert!(verify_backup(again.as_slice(), Limits::default()).is_ok());
    }
}

fn small() -> Vec<u8> {
    let mut rig = Rig::new();
    let id = rig.session();
    rig.declare(id, "work", true);
    for text in ["one", "two", "three"] {
        rig.publish(id, "work", text.as_bytes());
    }
    rig.settle();
    Taking::begin(&mut rig).finish(&mut rig)
}

/// Promise: P11.
#[test]
fn a_damaged_or_cut_backup_is_refused_and_nothing_is_written() {
    let file = small();
    assert!(verify_backup(file.as_slice(), Limits::default()).is_ok());
    for at in 0..file.len() {
        let mut rotten = file.clone();
        rotten[at] ^= 1 << (at % 8);
        let error = verify_backup(rotten.as_slice(), Limits::default()).expect_err("unseen");
        assert!(!error.to_string().is_empty(), "byte {at}");
        let cut = verify_backup(&file[..at], Limits::default()).expect_err("unseen");
        assert!(matches!(cut, Unfit::File(Unsound::Cut { .. })), "{at} bytes: {cut}");
    }
    let mut rotten = file;
    let last = rotten.len() - 1;
    rotten[last] ^= 1;
    let disk = FaultyDisk::default();
    assert!(restore(&rotten, &disk).is_err());
    assert_eq!(disk.paths(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_empty_server_has_a_backup_too() {
    let mut rig = Rig::new();
    let file = Taking::begin(&mut rig).finish(&mut rig);
    let disk = FaultyDisk::default();
    let restored = restore(&file, &disk).unwrap();
    assert_eq!((restored.summary.records, restored.queues), (0, 0));
    let mut again = Rig::open(disk, CACHE_BYTES);
    let id = again.session();
    again.declare(id, "work", true);
    again.publish(id, "work", b"one");
    again.settle();
    assert!(again.see(id).contains(&Seen::Published(1)));
}

#[test]
fn a_restored_server_works_on_and_can_be_backed_up_again() {
    let file = small();
    let disk = FaultyDisk::default();
    restore(&file, &disk).unwrap();
    let error = restore(&file, &disk).unwrap_err();
    assert!(matches!(error, Unfit::Disk(journal::Fault::NotEmpty { .. })), "{error}");
    let mut rig = Rig::open(disk, CACHE_BYTES);
    let id = rig.session();
    for index in 0..2_000 {
        rig.publish(id, "work", &body(index));
        if index % 50 == 0 {
            rig.turn();
        }
    }
    rig.settle();
    let hash = rig.node.engine().state_hash();
    let file = Taking::begin(&mut rig).finish(&mut rig);
    let mut rig = Rig::open(rig.crash(3), CACHE_BYTES);
    assert_eq!(rig.node.engine().state_hash(), hash);
    let disk = FaultyDisk::default();
    assert_eq!(restore(&file, &disk).unwrap().state_hash, hash);
    let mut other = Rig::open(disk, CACHE_BYTES);
    let id = rig.session();
    rig.consume(id, "work", 0);
    let same = other.session();
    other.consume(same, "work", 0);
    rig.settle();
    other.settle();
    let (one, two) = (rig.see_all(id), other.see_all(same));
    assert!(one.len() >= 2_003 && one == two, "{} and {}", one.len(), two.len());
}

#[test]
fn nothing_is_written_before_it_is_durable_and_only_one_runs() {
    let mut rig = Rig::new();
    let id = rig.session();
    rig.declare(id, "work", true);
    rig.settle();
    rig.publish(id, "work", b"not durable yet");
    let rung = Rc::new(Cell::new(0));
    let bell = Rc::clone(&rung);
    let wake = Rc::new(move || bell.set(bell.get() + 1));
    let mut backup = rig.node.begin_backup(rig.now, wake).unwrap();
    let second = rig.node.begin_backup(rig.now, Rc::new(|| {}));
    assert_eq!(second.err(), Some(NoBackup::Busy));
    let Step::Fetch(wanted) = backup.step(None).unwrap() else { panic!("bytes before the flush") };
    rig.node.fetch_for_backup(wanted);
    rig.node.commit(rig.now).unwrap();
    assert!(rig.node.take_for_backup().is_none() && rung.get() == 0);
    rig.node.run_pending();
    rig.node.commit(rig.now).unwrap();
    assert_eq!(rung.get(), 1);
    assert!(matches!(rig.node.take_for_backup(), Some(Ok(_))));
    rig.node.end_backup();
    assert!(matches!(rig.node.take_for_backup(), Some(Err(NoBackup::Ended))));
    rig.node.set_alarm(Alarm::Disk, true);
    let low = rig.node.begin_backup(rig.now, Rc::new(|| {}));
    assert_eq!(low.err(), Some(NoBackup::DiskLow));
}

/// Promise: P13.
#[test]
fn a_backup_gives_way_when_the_disk_runs_full() {
    let mut rig = Rig::open(FaultyDisk::default(), CACHE_BYTES);
    let id = rig.session();
    rig.declare(id, "work", true);
    for index in 0..600 {
        rig.publish(id, "work", &body(index));
    }
    rig.settle();
    rig.see(id);
    let mut taking = Taking::begin(&mut rig);
    rig.disk.set_capacity(Some(rig.disk.used_bytes() + 64 * 1024));
    let mut ended = None;
    for index in 0..4_000 {
        if ended.is_some() {
            break;
        }
        rig.publish(id, "work", &body(index));
        rig.turn();
        rig.see(id);
        if index % 200 == 0 {
            ended = taking.step(&mut rig).err();
        }
    }
    let why = ended.expect("the backup ends");
    assert_eq!(why, NoBackup::DiskLow);
    let mut file = taking.file;
    file.extend(taking.backup.break_off(&why.to_string()));
    let error = verify_backup(file.as_slice(), Limits::default()).unwrap_err();
    assert!(error.to_string().contains("nearly full"), "{error}");
}
