//! A small backup through writer and reader, and every way to damage it; a directory made of one,
//! and every moment at which making it can be interrupted.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::disk::FaultyDisk;
use crate::options::{Options, Workers};
use crate::{Fault, Journal, RecordRef};

const LSN: Lsn = Lsn(5_000);
const HASH: u64 = 0x1234_5678_9ABC_DEF0;

fn records() -> Vec<(Lsn, u8, Vec<u8>)> {
    let record = |number: u64| {
        let lsn = Lsn(number * 300 + 7);
        (lsn, 3, format!("body {number}").repeat(3).into_bytes())
    };
    (0..12).map(record).collect()
}

fn file() -> (Vec<u8>, Summary) {
    let mut out = Vec::new();
    let mut writer = Writer::begin(Head { lsn: LSN, began_ms: 99 }, &mut out);
    writer.state(b"the first part of the state, ", &mut out);
    writer.state(b"and the rest", &mut out);
    let records = records();
    for some in records.chunks(5) {
        let refs = some.iter().map(|(lsn, kind, payload)| RecordRef {
            lsn: *lsn,
            kind: *kind,
            payload: payload.as_slice(),
        });
        writer.records(refs, &mut out);
    }
    let summary = writer.finish(HASH, &mut out);
    (out, summary)
}

/// State, records and end of a sound backup.
#[derive(Debug, PartialEq)]
struct Whole {
    state: Vec<u8>,
    records: Vec<(Lsn, u8, Vec<u8>)>,
    summary: Summary,
}

fn read(bytes: &[u8]) -> Result<Whole, Unsound> {
    let mut reader = Reader::open(bytes)?;
    assert_eq!(reader.head(), Head { lsn: LSN, began_ms: 99 });
    let (mut state, mut records) = (Vec::new(), Vec::new());
    loop {
        match reader.next_part()? {
            Part::State(bytes) => state.extend_from_slice(bytes),
            Part::Record(found) => records.push((found.lsn, found.kind, found.payload.to_vec())),
            Part::End(summary) => {
                assert!(reader.next_part().is_err(), "nothing follows");
                return Ok(Whole { state, records, summary });
            }
        }
    }
}

/// Promise: P17.
#[test]
fn what_was_written_is_read() {
    let (bytes, summary) = file();
    let whole = read(&bytes).unwrap();
    assert_eq!(whole.state, b"the first part of the state, and the rest");
    assert_eq!(whole.records, records());
    assert_eq!(whole.summary, summary);
    assert_eq!((summary.records, summary.state_hash), (12, HASH));
    assert_eq!(summary.file_bytes, bytes.len() as u64);
}

/// Promise: P11, P17.
#[test]
fn every_flipped_bit_is_found() {
    let (bytes, _) = file();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut rotten = bytes.clone();
            rotten[at] ^= 1 << bit;
            let error = read(&rotten).expect_err("a flipped bit goes unseen");
            assert!(!error.to_string().is_empty(), "byte {at}");
        }
    }
}

/// Promise: P11, P17.
#[test]
fn every_cut_is_found_and_named() {
    let (bytes, _) = file();
    for length in 0..bytes.len() {
        let error = read(&bytes[..length]).expect_err("a cut goes unseen");
        let is_named = matches!(error, Unsound::Cut { bytes } if bytes == length as u64);
        assert!(is_named, "{length} of {} bytes: {error}", bytes.len());
    }
}

#[test]
fn what_does_not_belong_is_named() {
    let (bytes, _) = file();
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(read(&longer), Err(Unsound::Damaged { .. })));
    let mut newer = bytes.clone();
    newer[8] = 9;
    assert!(matches!(read(&newer), Err(Unsound::Version { found: 9, known: 1 })));
    assert!(matches!(read(b"something else, and long enough"), Err(Unsound::Foreign)));
    let mut endless = bytes;
    endless[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(read(&endless), Err(Unsound::Damaged { offset: 16, .. })));
}

#[test]
fn a_backup_that_was_broken_off_says_why() {
    let mut out = Vec::new();
    let mut writer = Writer::begin(Head { lsn: LSN, began_ms: 99 }, &mut out);
    writer.state(b"some", &mut out);
    writer.break_off("the disk is nearly full", &mut out);
    let error = read(&out).unwrap_err();
    assert!(error.to_string().ends_with("broke the backup off: the disk is nearly full"));
}

fn options() -> Options {
    Options {
        dir: PathBuf::from("/restored"),
        segment_bytes: 64 * 1024,
        free_bytes_min: 0,
        seed: Some(3),
        ..Options::default()
    }
}

fn rebuild(disk: &FaultyDisk) -> Result<(), Fault> {
    let mut rebuild = Rebuild::begin(Arc::new(disk.clone()), options(), LSN)?;
    for (lsn, kind, payload) in &records() {
        rebuild.record(RecordRef { lsn: *lsn, kind: *kind, payload })?;
    }
    rebuild.finish(Box::new(|out| out.write_all(b"state")))
}

fn open(disk: &FaultyDisk) -> Result<(Journal, Vec<u8>), Fault> {
    let (journal, mut recovery) =
        Journal::open(Arc::new(disk.clone()), options(), Workers::Inline)?;
    let mut state = Vec::new();
    if let Some(mut checkpoint) = recovery.take_checkpoint() {
        assert_eq!(checkpoint.lsn(), LSN);
        std::io::Read::read_to_end(&mut checkpoint, &mut state).unwrap();
    }
    recovery.replay(|record| -> Result<(), Fault> { panic!("{record:?} was never written") })?;
    Ok((journal, state))
}

/// Promise: P17.
#[test]
fn a_rebuilt_directory_opens_where_the_backup_was_taken() {
    let disk = FaultyDisk::default();
    rebuild(&disk).unwrap();
    let disk = disk.after_power_loss(1);
    let (mut journal, state) = open(&disk).unwrap();
    assert_eq!(state, b"state");
    assert_eq!((journal.next_lsn(), journal.durable()), (LSN, LSN));
    journal.fetch(records().iter().map(|(lsn, ..)| *lsn).collect(), 1).unwrap();
    journal.run_pending();
    let fetched = journal.poll().unwrap().fetched.pop().unwrap().records.unwrap();
    let found = fetched.iter().map(|(lsn, record)| (lsn, record.unwrap().payload.to_vec()));
    let expected = records().into_iter().map(|(lsn, _, payload)| (lsn, payload));
    assert!(found.eq(expected));
    let again = rebuild(&disk).unwrap_err();
    assert!(matches!(again, Fault::Locked { .. }), "{again}");
    journal.close().unwrap();
    let again = rebuild(&disk).unwrap_err();
    assert!(matches!(again, Fault::NotEmpty { .. }), "{again}");
}

/// Promise: P17.
#[test]
fn an_interrupted_rebuild_never_opens_as_a_whole_one() {
    let whole = FaultyDisk::default();
    rebuild(&whole).unwrap();
    let operations = whole.operations();
    assert!(operations > 20, "{operations}");
    let (mut unusable, mut empty) = (0, 0);
    for step in 1..=operations {
        let disk = FaultyDisk::default();
        disk.crash_at(step);
        assert!(rebuild(&disk).is_err(), "the power failed at step {step}");
        match open(&disk.after_power_loss(step)) {
            Err(_) => unusable += 1,
            // Nothing had become durable yet, or everything.
            Ok((_, state)) if state.is_empty() => empty += 1,
            Ok((journal, state)) => {
                assert_eq!((state.as_slice(), journal.next_lsn()), (&b"state"[..], LSN));
            }
        }
    }
    assert!(unusable > 5 && empty > 0, "{unusable} {empty}");
}
