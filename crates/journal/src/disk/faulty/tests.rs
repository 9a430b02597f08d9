//! The simulated disk itself: each fault does what its description says, and only that.
//!
//! Lives here: unit tests per kind of fault. Not here: how the journal takes it
//! (`crates/journal/tests/it`). Run by `cargo test`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::{Disk, File, write_all_at};
use super::{FailedSync, FaultyDisk, Lie, Operation, PlannedLie, Tear, Trouble};

fn path(name: &str) -> PathBuf {
    Path::new("/data").join(name)
}

/// A disk with a durable file of zeros.
fn disk_with(name: &str, bytes: u64) -> (FaultyDisk, Arc<dyn File>) {
    let disk = FaultyDisk::new();
    let file = add(&disk, name, bytes);
    (disk, file)
}

fn add(disk: &FaultyDisk, name: &str, bytes: u64) -> Arc<dyn File> {
    let file = disk.create(&path(name)).expect("create");
    file.allocate(bytes).expect("allocate");
    file.sync_data().expect("sync");
    disk.sync_dir(Path::new("/data")).expect("sync of the directory");
    file
}

fn put(file: &Arc<dyn File>, offset: u64, bytes: &[u8]) {
    write_all_at(file.as_ref(), bytes, offset).expect("write");
}

fn bytes(disk: &FaultyDisk, name: &str) -> Vec<u8> {
    disk.bytes(&path(name)).expect("the file is there")
}

fn lie(name: &str, after: u64, lie: Lie) -> PlannedLie {
    PlannedLie { name: name.to_owned(), after, lie }
}

/// Which of eight sectors, written one by one with their number, are there.
fn sectors(disk: &FaultyDisk) -> Vec<u8> {
    bytes(disk, "a").chunks(512).map(|sector| sector[0]).collect()
}

fn eight_writes() -> FaultyDisk {
    let (disk, file) = disk_with("a", 4096);
    for number in 0..4_u8 {
        let mut two = vec![2 * number + 1; 512];
        two.extend(vec![2 * number + 2; 512]);
        put(&file, u64::from(number) * 1024, &two);
    }
    disk
}

#[test]
fn a_power_loss_keeps_what_its_pattern_says() {
    let disk = eight_writes();
    assert_eq!(sectors(&disk.after_tear(Tear::None, 9)), [0; 8]);
    assert_eq!(sectors(&disk.after_tear(Tear::All, 9)), [1, 2, 3, 4, 5, 6, 7, 8]);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let prefix = sectors(&disk.after_tear(Tear::Prefix, seed));
        let kept = prefix.iter().take_while(|sector| **sector != 0).count();
        assert!(prefix[kept..].iter().all(|sector| *sector == 0), "{prefix:?}");
        let suffix = sectors(&disk.after_tear(Tear::Suffix, seed));
        let lost = suffix.iter().take_while(|sector| **sector == 0).count();
        assert!(suffix[lost..].iter().all(|sector| *sector != 0), "{suffix:?}");
        let writes = sectors(&disk.after_tear(Tear::Writes, seed));
        assert!(writes.chunks(2).all(|two| (two[0] == 0) == (two[1] == 0)), "{writes:?}");
        let torn = sectors(&disk.after_tear(Tear::Sectors, seed));
        assert_eq!(torn, sectors(&disk.after_tear(Tear::Sectors, seed)), "the same seed again");
        seen.extend([prefix, suffix, writes, torn]);
    }
    assert!(seen.len() > 60, "only {} different endings", seen.len());
}

#[test]
fn what_was_synced_survives_every_pattern() {
    let (disk, file) = disk_with("a", 4096);
    put(&file, 0, &[7; 4096]);
    file.sync_data().expect("sync");
    for tear in Tear::ALL {
        assert_eq!(sectors(&disk.after_tear(tear, 3)), [7; 8], "{tear:?}");
    }
}

#[test]
fn a_rename_is_lost_without_a_sync_of_the_directory() {
    let (disk, _file) = disk_with("a", 512);
    disk.rename(&path("a"), &path("b")).expect("rename");
    let before = disk.after_tear(Tear::None, 0);
    assert_eq!(before.paths(), [path("a")]);
    disk.sync_dir(Path::new("/data")).expect("sync");
    assert_eq!(disk.after_tear(Tear::None, 0).paths(), [path("b")]);
}

#[test]
fn directory_changes_tear_as_the_pattern_says() {
    let (disk, _file) = disk_with("a", 1);
    for number in 0..4 {
        disk.create(&path(&format!("new-{number}"))).expect("create");
    }
    disk.remove(&path("a")).expect("remove");
    let names = |tear, seed| {
        let paths = disk.after_tear(tear, seed).paths();
        let has = |name: &str| paths.contains(&path(name));
        [has("new-0"), has("new-1"), has("new-2"), has("new-3"), !has("a")]
    };
    assert_eq!(names(Tear::None, 5), [false; 5]);
    assert_eq!(names(Tear::All, 5), [true; 5]);
    let is_prefix = |kept: [bool; 5]| kept.is_sorted_by(|one, other| one >= other);
    let is_suffix = |kept: [bool; 5]| kept.is_sorted();
    for seed in 0..100 {
        assert!(is_prefix(names(Tear::Prefix, seed)) && is_prefix(names(Tear::Sectors, seed)));
        assert!(is_suffix(names(Tear::Suffix, seed)));
    }
    let any = (0..100).map(|seed| names(Tear::Writes, seed));
    assert!(any.into_iter().any(|kept| !is_prefix(kept) && !is_suffix(kept)));
}

#[test]
fn a_flipped_bit_is_live_and_durable_until_written_over() {
    let (disk, file) = disk_with("a", 512);
    assert!(disk.flip_bit(&path("a"), 8 * 100 + 3));
    assert!(!disk.flip_bit(&path("a"), 8 * 512), "there is no such bit");
    assert!(!disk.flip_bit(&path("b"), 0), "there is no such file");
    for image in [disk.clone(), disk.after_power_loss(0)] {
        assert_eq!(bytes(&image, "a")[100], 8);
    }
    put(&file, 100, &[0]);
    file.sync_data().expect("sync");
    assert_eq!(bytes(&disk.after_power_loss(0), "a"), [0; 512]);
    assert_eq!(disk.tally().flipped_bits, 1);
}

#[test]
fn a_lost_write_shows_only_when_the_cache_is_gone() {
    let (disk, file) = disk_with("a", 1024);
    disk.plan_lie(lie("a", 1, Lie::Lost));
    put(&file, 0, &[1; 512]);
    put(&file, 512, &[2; 512]);
    put(&file, 0, &[3; 8]);
    file.sync_data().expect("the disk says it is done");
    assert_eq!(bytes(&disk, "a")[512], 2, "the page cache has it");
    let after = disk.after_power_loss(1);
    assert_eq!(bytes(&after, "a")[512..], [0; 512]);
    assert_eq!(bytes(&after, "a")[..10], [3, 3, 3, 3, 3, 3, 3, 3, 1, 1]);
    disk.drop_caches();
    assert_eq!(bytes(&disk, "a")[512], 0);
    assert_eq!(disk.tally().lies, 1, "each lie is told once");
}

#[test]
fn a_misdirected_write_lands_elsewhere() {
    let (disk, file) = disk_with("a", 2048);
    let _other = add(&disk, "b", 1024);
    disk.plan_lie(lie("a", 0, Lie::Offset(1024)));
    disk.plan_lie(lie("a", 0, Lie::File(path("b"), 512)));
    put(&file, 0, &[1; 512]);
    put(&file, 512, &[2; 1024]);
    file.sync_data().expect("the disk says it is done");
    assert_eq!(bytes(&disk, "a")[..1536], [[1; 512], [2; 512], [2; 512]].concat());
    let after = disk.after_power_loss(0);
    let expected = [[0; 512], [0; 512], [1; 512], [0; 512]].concat();
    assert_eq!(bytes(&after, "a"), expected);
    let expected = [[0; 512], [2; 512]].concat();
    assert_eq!(bytes(&after, "b"), expected, "a misdirected write makes no file longer");
}

#[test]
fn the_nth_call_of_every_kind_fails() {
    for operation in Operation::ALL {
        let (disk, file) = disk_with("a", 512);
        let trouble = Trouble {
            operation,
            name: String::new(),
            after: 1,
            times: 2,
            error: ErrorKind::TimedOut,
        };
        disk.plan(trouble);
        let act = |number: u32| match operation {
            Operation::Read => file.read_at(&mut [0], 0).map(drop),
            Operation::Write => file.write_at(&[0], 0).map(drop),
            Operation::Sync => file.sync_data(),
            Operation::Allocate => file.allocate(1024),
            Operation::Create => disk.create(&path(&format!("new-{number}"))).map(drop),
            Operation::Rename => disk.rename(&path("a"), &path("a")),
            Operation::Remove => disk.remove(&path("a")),
            Operation::SyncDir => disk.sync_dir(Path::new("/data")),
        };
        let ends: Vec<_> = (0..4).map(|number| act(number).map_err(|error| error.kind())).collect();
        let failed = Err(ErrorKind::TimedOut);
        assert_eq!(ends[..3], [Ok(()), failed, failed], "{operation:?}");
        let again = if operation == Operation::Remove { Err(ErrorKind::NotFound) } else { Ok(()) };
        assert_eq!(ends[3], again, "{operation:?}");
        let tally = disk.tally();
        let errors = tally.read_errors + tally.write_errors + tally.sync_errors + tally.name_errors;
        assert_eq!(errors, 2, "{operation:?}");
    }
}

#[test]
fn a_failed_sync_loses_what_it_should_have_stored() {
    let cases =
        [(FailedSync::Keep, 5, 5, 5), (FailedSync::Forget, 5, 5, 0), (FailedSync::Revert, 0, 0, 0)];
    for (how, live, again, durable) in cases {
        let (disk, file) = disk_with("a", 512);
        disk.on_failed_sync(how);
        let operation = Operation::Sync;
        let (name, error) = ("a".to_owned(), ErrorKind::Other);
        disk.plan(Trouble { operation, name, after: 0, times: 1, error });
        put(&file, 0, &[5]);
        file.sync_data().expect_err("planned");
        assert_eq!(bytes(&disk, "a")[0], live, "{how:?}");
        file.sync_data().expect("the second sync reports success");
        assert_eq!(bytes(&disk, "a")[0], again, "{how:?}");
        assert_eq!(bytes(&disk.after_power_loss(1), "a")[0], durable, "{how:?}");
    }
}

#[test]
fn writes_are_as_short_as_ordered() {
    let (disk, file) = disk_with("a", 512);
    disk.write_short(true);
    assert_eq!(file.write_at(&[1; 9], 0).expect("write"), 5);
    disk.write_short(false);
    disk.set_write_bytes_max(Some(3));
    assert_eq!(file.write_at(&[1; 9], 0).expect("write"), 3);
    put(&file, 0, &[6; 100]);
    assert_eq!(bytes(&disk, "a")[..100], [6; 100]);
    assert!(disk.tally().short_writes > 30);
    disk.set_write_bytes_max(None);
    assert_eq!(file.write_at(&[1; 9], 0).expect("write"), 9);
}

#[test]
fn a_full_disk_takes_what_fits_and_overwrites_for_ever() {
    let (disk, file) = disk_with("a", 1000);
    disk.set_capacity(Some(1500));
    assert_eq!(disk.free_bytes(Path::new("/data")).expect("free"), 500);
    assert_eq!(file.write_at(&[1; 800], 900).expect("part of it"), 600);
    let error = file.write_at(&[1; 10], 1500).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.write_at(&[2; 1500], 0).expect("nothing grows"), 1500);
    let other = disk.create(&path("b")).expect("a name needs no space here");
    let error = other.allocate(1).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    disk.remove(&path("a")).expect("remove");
    other.allocate(1500).expect("the space of a removed file is free");
    assert_eq!(disk.tally().full, 3);
    disk.set_capacity(None);
    other.allocate(1 << 16).expect("no end");
}

#[test]
fn an_undamaged_disk_comes_back() {
    let (disk, file) = disk_with("a", 512);
    put(&file, 0, &[1]);
    file.sync_data().expect("sync");
    let whole = disk.fork();
    let sum = disk.fingerprint();
    assert_eq!(sum, whole.fingerprint());
    disk.flip_bit(&path("a"), 0);
    assert_ne!(sum, disk.fingerprint());
    disk.remove(&path("a")).expect("remove");
    disk.cut_power();
    file.read_at(&mut [0], 0).expect_err("the power is off");
    disk.restore(&whole);
    assert_eq!(sum, disk.fingerprint());
    let mut first = [0];
    file.read_at(&mut first, 0).expect("the handle goes on");
    assert_eq!(first, [1]);
}

#[test]
fn the_fingerprint_is_of_what_is_durable_and_never_changes() {
    let (disk, file) = disk_with("a", 10);
    let sum = disk.fingerprint();
    put(&file, 0, &[1]);
    assert_eq!(disk.fingerprint(), sum, "nothing is synced");
    file.sync_data().expect("sync");
    assert_ne!(disk.fingerprint(), sum);
    let sum = disk.fingerprint();
    disk.rename(&path("a"), &path("b")).expect("rename");
    assert_eq!(disk.fingerprint(), sum);
    disk.sync_dir(Path::new("/data")).expect("sync");
    assert_ne!(disk.fingerprint(), sum);
    assert_eq!(FaultyDisk::new().fingerprint(), 0xcbf2_9ce4_8422_2325);
}
