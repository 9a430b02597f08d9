//! What is good in a damaged directory is kept, what is lost is named, and the node starts again.
//! On the real file system, because files change folders.
//!
//! Promise: P11.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::{Disk, ReadOnlyDisk, RealDisk, Workers};
use model::{Limits, Lsn, QueueOptions};
use replica::{Examined, Node, Options, examine, repair};

use crate::run::{Run, START, body, number};
use crate::sweep::small;

const QUEUES: [&str; 2] = ["keep", "flow"];

fn options(dir: &Path) -> journal::Options {
    journal::Options { dir: dir.to_path_buf(), ..small() }
}

/// A directory with survivors, a checkpoint, several segments and records above the checkpoint.
fn directory(dir: &Path) -> Lsn {
    let disk = Arc::new(journal::disk::FaultyDisk::new());
    let mut run = Run::open((*disk).clone(), small(), START).expect("open");
    run.declare("keep", QueueOptions::default());
    run.declare("flow", QueueOptions::default());
    run.consume("flow", 20);
    for number in 0..60 {
        if number % 6 == 0 {
            run.publish("keep", body("keep", number, 1200));
        }
        run.publish("flow", body("flow", number, 7000));
        run.turn().expect("turn");
        run.ack();
    }
    for number in 60..63 {
        run.publish("keep", body("keep", number, 300));
        run.turn().expect("turn");
    }
    let stats = run.rig.node.journal().stats();
    assert!(stats.survivor_files > 0 && stats.checkpoint.0 > 0, "{stats:?}");
    assert!(stats.checkpoint < run.ledger.promised, "{stats:?}");
    let end = run.ledger.promised;
    drop(run);
    std::fs::create_dir_all(dir).expect("a folder");
    for name in disk.list(&small().dir).expect("list") {
        let bytes = disk.bytes(&small().dir.join(&name)).expect("bytes");
        std::fs::write(dir.join(name), bytes).expect("write");
    }
    end
}

/// The first file whose name starts so.
fn named(dir: &Path, start: &str) -> PathBuf {
    let mut names = RealDisk.list(dir).expect("list");
    names.sort();
    dir.join(names.iter().find(|name| name.starts_with(start)).expect("such a file"))
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("read");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("write");
}

fn look(dir: &Path) -> Examined {
    examine(Arc::new(ReadOnlyDisk), dir, Limits::default()).expect("examined")
}

/// Messages kept and lost in a queue.
fn counts(examined: &Examined, name: &str) -> (usize, usize) {
    let queues = examined.queues.as_ref().expect("queues");
    let queue = queues.iter().find(|queue| queue.name == name).expect("the queue");
    (usize::try_from(queue.kept).expect("few"), queue.lost.len())
}

fn opens(dir: &Path) -> bool {
    let options = Options { journal: options(dir), limits: Limits::default() };
    let disk = Arc::new(RealDisk);
    Node::open(disk, options, Workers::Inline, START, Box::new(|| 1)).is_ok()
}

/// Repairs, opens, and gives the numbers of what is in the queues.
fn repaired(dir: &Path) -> [Vec<u64>; 2] {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (_, aside) = repair(&disk, &options(dir), Limits::default()).expect("repaired");
    let aside = aside.expect("there was something to repair");
    assert!(named(&aside, "log-").exists(), "the old files are kept");
    assert!(look(dir).is_clean(), "{:?}", look(dir).survey.problems);
    assert!(opens(dir));
    // The rig works on the simulated disk.
    let simulated = journal::disk::FaultyDisk::new();
    for name in RealDisk.list(dir).expect("list") {
        let path = small().dir.join(&name);
        simulated.create(&path).expect("create");
        simulated.set_bytes(&path, std::fs::read(dir.join(&name)).expect("read"));
    }
    simulated.sync_dir(&small().dir).expect("sync");
    let mut run = Run::open(simulated, small(), START).expect("open");
    let contents = run.contents(&QUEUES);
    QUEUES.map(|queue| contents[queue].iter().map(|body| number(body)).collect())
}

fn kept() -> Vec<u64> {
    (0..60).filter(|number| number % 6 == 0).chain(60..63).collect()
}

#[test]
fn a_sound_directory_is_found_clean() {
    let temp = tempfile::tempdir().expect("a folder");
    let end = directory(temp.path());
    let found = look(temp.path());
    assert!(found.is_clean(), "{:?}", found.survey.problems);
    assert_eq!((found.survey.end, found.survey.reach), (end, end));
    assert_eq!(counts(&found, "keep"), (13, 0));
}

#[test]
fn a_damaged_survivor_costs_its_own_messages_and_no_others() {
    let temp = tempfile::tempdir().expect("a folder");
    directory(temp.path());
    let file = named(temp.path(), "survivor-");
    // In the first entry: its run is lost with it, for nothing says where the next one starts.
    change(&file, |bytes| bytes[4096 + 100] ^= 1);
    let found = look(temp.path());
    let (there, lost) = counts(&found, "keep");
    assert!(!found.is_clean() && lost > 0 && there + lost == 13, "{there} {lost}");
    assert_eq!(found.survey.problems[0].file, file);
    let [keep, _] = repaired(temp.path());
    assert_eq!(keep, kept()[lost..], "exactly the lost ones are gone");
}

#[test]
fn a_missing_survivor_is_noticed_at_the_start_and_named() {
    let temp = tempfile::tempdir().expect("a folder");
    directory(temp.path());
    std::fs::remove_file(named(temp.path(), "survivor-")).expect("remove");
    assert!(!opens(temp.path()), "needed records are gone");
    let found = look(temp.path());
    let (there, lost) = counts(&found, "keep");
    assert!(lost > 0 && there + lost == 13);
    let [keep, _] = repaired(temp.path());
    assert_eq!(keep, kept()[lost..]);
}

#[test]
fn a_hole_above_the_checkpoint_ends_the_log_there() {
    let temp = tempfile::tempdir().expect("a folder");
    let end = directory(temp.path());
    let logs = RealDisk.list(temp.path()).expect("list");
    let last = b"keep-000061";
    let holder = logs.iter().map(|name| temp.path().join(name)).find_map(|path| {
        let bytes = std::fs::read(&path).expect("read");
        let at = bytes.windows(last.len()).position(|window| window == last)?;
        Some((path, at))
    });
    let (path, at) = holder.expect("the second last message");
    change(&path, |bytes| bytes[at] ^= 1);
    assert!(!opens(temp.path()));
    let found = look(temp.path());
    assert!(found.survey.end < end && found.survey.reach == end, "{:?}", found.survey.problems);
    assert_eq!(found.survey.stranded, 1, "one record behind the hole");
    let [keep, _] = repaired(temp.path());
    assert_eq!(keep, kept()[..11], "the hole and what is behind it are gone");
}

#[test]
fn damage_in_what_the_checkpoint_covers_costs_one_message() {
    let temp = tempfile::tempdir().expect("a folder");
    directory(temp.path());
    let mut logs = RealDisk.list(temp.path()).expect("list");
    logs.retain(|name| name.starts_with("log-"));
    let needle = b"keep-000048";
    for name in logs {
        change(&temp.path().join(name), |bytes| {
            if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
                bytes[at] ^= 1;
            }
        });
    }
    let found = look(temp.path());
    assert_eq!(counts(&found, "keep"), (12, 1), "{:?}", found.survey.problems);
    let [keep, _] = repaired(temp.path());
    let wanted: Vec<u64> = kept().into_iter().filter(|number| *number != 48).collect();
    assert_eq!(keep, wanted);
}

#[test]
fn a_damaged_head_of_a_segment_costs_nothing() {
    let temp = tempfile::tempdir().expect("a folder");
    directory(temp.path());
    change(&named(temp.path(), "log-"), |bytes| bytes[20] ^= 1);
    assert!(!opens(temp.path()));
    assert_eq!(counts(&look(temp.path()), "keep"), (13, 0));
    let [keep, _] = repaired(temp.path());
    assert_eq!(keep, kept());
}

#[test]
fn without_a_checkpoint_nothing_is_made_up() {
    let temp = tempfile::tempdir().expect("a folder");
    directory(temp.path());
    change(&named(temp.path(), "checkpoint-"), |bytes| bytes[4150] ^= 1);
    let found = look(temp.path());
    assert!(found.obstacle().is_some_and(|why| why.contains("checkpoint")));
    let before = RealDisk.list(temp.path()).expect("list").len();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let refused = repair(&disk, &options(temp.path()), Limits::default());
    assert!(refused.is_err_and(|why| why.to_string().contains("backup")));
    let locked = 1;
    assert_eq!(RealDisk.list(temp.path()).expect("list").len(), before + locked);
}

#[test]
fn an_interrupted_exchange_is_refused_and_then_finished() {
    let temp = tempfile::tempdir().expect("a folder");
    directory(temp.path());
    change(&named(temp.path(), "survivor-"), |bytes| bytes[4096 + 100] ^= 1);
    let whole = tempfile::tempdir().expect("a folder");
    for name in RealDisk.list(temp.path()).expect("list") {
        std::fs::copy(temp.path().join(&name), whole.path().join(&name)).expect("copy");
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let wanted = repaired(whole.path());
    // As it was interrupted: the note is there, some files are moved, others are not.
    let (dir, staging) = (temp.path(), temp.path().join("repairing"));
    std::fs::create_dir_all(&staging).expect("a folder");
    std::fs::create_dir_all(dir.join("damaged-1")).expect("a folder");
    let mut note = String::from("damaged-1\n");
    for name in RealDisk.list(whole.path()).expect("list") {
        if name != "lock" {
            note.push_str(&name);
            note.push('\n');
            std::fs::copy(whole.path().join(&name), staging.join(&name)).expect("copy");
        }
    }
    std::fs::write(dir.join("repair-unfinished"), note).expect("write");
    let first = named(dir, "log-");
    std::fs::rename(&first, dir.join("damaged-1").join(first.file_name().expect("name")))
        .expect("move");
    assert!(!opens(dir), "half of an exchange is nothing to serve");
    assert!(!look(dir).is_clean());
    let (_, aside) = repair(&disk, &options(dir), Limits::default()).expect("finished");
    assert_eq!(aside, None, "and not begun again");
    assert!(opens(dir) && look(dir).is_clean());
    assert_eq!(look(dir).lost(), 0);
    assert!(!wanted[0].is_empty());
}
