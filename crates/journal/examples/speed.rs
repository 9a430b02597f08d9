//! Measures the journal alone, on the disk of the machine: `cargo run --release -p journal
//! --example speed -- DIR`. Needs about 3 GiB free in DIR, which must not exist yet.
//!
//! Lives here: a load and its figures. Not here: any assertion, and any comparison with others.
#![allow(clippy::print_stdout, reason = "it prints what it measured")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measurement that fails may stop"
)]

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use journal::{Durability, Fault, Journal, Liveness, Options, RealDisk, Record, Usage, Workers};
use model::Lsn;

/// Everything from `from` on is needed.
struct From(Lsn, Vec<Lsn>);

impl Liveness for From {
    fn usage(&self, range: Range<Lsn>) -> Usage {
        let bytes = range.end.0.saturating_sub(range.start.max(self.0).0);
        Usage { records: bytes / 1034, bytes }
    }

    fn live(&self, range: Range<Lsn>, out: &mut Vec<Lsn>) {
        let from = self.1.partition_point(|lsn| *lsn < range.start.max(self.0));
        let to = self.1.partition_point(|lsn| *lsn < range.end);
        out.extend_from_slice(&self.1[from..to.max(from)]);
    }
}

struct Rig {
    journal: Journal,
    rung: Receiver<()>,
    live: From,
}

fn open(dir: PathBuf, durability: Durability) -> Rig {
    let (bell, rung) = sync_channel(1);
    let wake = Arc::new(move || bell.try_send(()).unwrap_or_default());
    let options = Options { dir, durability, ..Options::default() };
    let start = Instant::now();
    let opened = Journal::open(Arc::new(RealDisk), options, Workers::Threads { wake });
    let (journal, recovery) = opened.unwrap();
    let found = start.elapsed();
    let (mut records, mut bytes) = (0_u64, 0_u64);
    let start = Instant::now();
    let replayed: Result<(), Fault> = recovery.replay(|record| {
        records += 1;
        bytes += record.payload.len() as u64;
        Ok(())
    });
    replayed.unwrap();
    let taken = start.elapsed();
    println!(
        "open {:.1} ms, replay of {records} records {:.1} ms ({:.2} GB/s)",
        found.as_secs_f64() * 1e3,
        taken.as_secs_f64() * 1e3,
        bytes as f64 / taken.as_secs_f64() / 1e9,
    );
    Rig { journal, rung, live: From(Lsn(u64::MAX), Vec::new()) }
}

impl Rig {
    fn turn(&mut self) {
        self.journal.flush().unwrap();
        if self.journal.checkpoint_due() {
            let lsn = self.journal.next_lsn();
            self.journal.checkpoint(lsn, Box::new(|out| out.write_all(b"nothing"))).unwrap();
        }
        self.journal.maintain(&self.live).unwrap();
        self.journal.poll().unwrap();
    }

    fn wait(&self) {
        let _rung = self.rung.recv_timeout(Duration::from_millis(100));
    }

    /// Appends `count` records, never more than `window` of them uncommitted.
    fn publish(&mut self, what: &str, count: usize, window: usize) {
        let body = vec![7_u8; 1024];
        let (mut sent, start, before) = (0, Instant::now(), self.journal.stats());
        let cpu = cpu();
        let mut waits = 0_u64;
        while sent < count || self.journal.durable() < self.journal.next_lsn() {
            let open = (self.journal.next_lsn().0 - self.journal.durable().0) / 1034;
            let free = window.saturating_sub(usize::try_from(open).unwrap()).min(count - sent);
            if free > 0 && self.journal.room() == journal::Room::Wait {
                waits += 1;
            } else {
                for _ in 0..free {
                    let record = Record { kind: 1, more: false, parts: &[&body] };
                    let lsn = self.journal.append(record).unwrap();
                    self.live.1.push(lsn);
                    sent += 1;
                }
            }
            self.turn();
            if self.journal.durable() < self.journal.next_lsn() || waits > 0 {
                self.wait();
                self.journal.poll().unwrap();
            }
        }
        let (taken, after) = (start.elapsed(), self.journal.stats());
        println!(
            "{what}: {:.0} records/s, {} per commit, {:.2} us CPU each, {waits} waits, \
             sync p50 < {} us p99 < {} us",
            count as f64 / taken.as_secs_f64(),
            count as u64 / (after.commits - before.commits).max(1),
            (self::cpu() - cpu) * 1e6 / count as f64,
            after.sync.quantile_us(500),
            after.sync.quantile_us(990),
        );
    }

    fn fetch(&mut self, what: &str, from: usize, count: usize) {
        let wanted = self.live.1[from..from + count].to_vec();
        let (start, mut got) = (Instant::now(), 0);
        let mut left = wanted.chunks(1000);
        let mut outstanding = 0;
        while got < count {
            while outstanding < 2
                && let Some(chunk) = left.next()
            {
                self.journal.fetch(chunk.to_vec(), 1).unwrap();
                outstanding += 1;
            }
            for fetched in self.journal.poll().unwrap().fetched {
                outstanding -= 1;
                assert!(fetched.unread.is_empty());
                for (_, record) in fetched.records.unwrap().iter() {
                    assert_eq!(record.unwrap().payload.len(), 1024);
                    got += 1;
                }
            }
            if got < count {
                self.wait();
            }
        }
        println!("{what}: {:.0} records/s", count as f64 / start.elapsed().as_secs_f64());
    }
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn memory(what: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    println!("{what}: {line}");
}

fn main() {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap());
    let mut rig = open(dir.clone(), Durability::Fsync);
    memory("empty");
    for _ in 0..200 {
        rig.turn();
        rig.wait();
    }
    rig.publish("window 1", 5_000, 1);
    memory("after window 1");
    rig.publish("window 200", 300_000, 200);
    rig.publish("window 1000", 500_000, 1_000);
    rig.publish("window 10000", 500_000, 10_000);
    let hot: Vec<Lsn> = rig.live.1[rig.live.1.len() - 10_000..].to_vec();
    let (start, mut found) = (Instant::now(), 0_usize);
    for lsn in hot.iter().cycle().take(1_000_000) {
        found += usize::from(rig.journal.read_hot(*lsn).is_some());
    }
    println!("read_hot: {:.0} ns each, {found} found", start.elapsed().as_secs_f64() * 1e3);
    let count = rig.live.1.len();
    rig.fetch("fetch from the ring", count - 150_000, 100_000);
    // From here on everything is needed: a backlog, written twice.
    rig.live.0 = Lsn(rig.live.1[count - 150_000].0);
    rig.publish("window 1000, all survive", 700_000, 1_000);
    println!("{:?}", rig.journal.stats());
    rig.fetch("fetch from survivors", count - 100_000, 500_000);
    rig.journal.trim(0);
    memory("trimmed");
    drop(rig);
    let rig = open(dir, Durability::Fsync);
    let start = Instant::now();
    rig.journal.close().unwrap();
    println!("close {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}
