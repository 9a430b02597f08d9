//! A small log is written, cut by a power failure or closed, and damaged as the input says: bytes
//! changed, files cut, removed, swapped, emptied, with or without the checksums filled in anew.
//! Opening, replaying and reading must end with an answer. As long as checksums were left alone,
//! nothing is shown that was not written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::disk::FaultyDisk;
use journal::{Disk, Durability, Fault, Journal, Liveness, Options, Record, Usage, Workers};
use model::Lsn;

use crate::reseal::reseal;
use crate::source::Source;

const DIR: &str = "/data";
/// Records of one log; more than a segment full.
const RECORDS_MAX: usize = 300;

type Written = BTreeMap<Lsn, (u8, Vec<u8>)>;

/// The story, then the damage.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let disk = FaultyDisk::new();
    let mut written = Written::new();
    write(&mut source, &disk, &mut written);
    let power = u64::from(source.u8());
    let disk = disk.after_power_loss(power);
    let is_honest = damage(&mut source, &disk);
    look(&disk, &written, is_honest);
}

fn options() -> Options {
    Options {
        flush_wait_max: std::time::Duration::ZERO,
        dir: PathBuf::from(DIR),
        durability: Durability::Fsync,
        segment_bytes: 64 * 1024,
        segments_max: 4,
        cache_bytes: 8 * 1024,
        checkpoint_bytes: 40 * 1024,
        free_bytes_min: 0,
        pace_bytes: 16 * 1024,
        seed: Some(7),
    }
}

fn open(disk: &FaultyDisk) -> Result<(Journal, journal::Recovery), Fault> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Journal::open(disk, options(), Workers::Inline)
}

/// Every eighth record is needed for ever, the newest thirty for now.
#[derive(Debug)]
struct Needed<'a>(&'a Written);

impl Needed<'_> {
    fn positions(&self, range: Range<Lsn>) -> impl Iterator<Item = (Lsn, u64)> {
        let newest = self.0.keys().rev().nth(30).copied().unwrap_or_default();
        let within = self
            .0
            .range(range)
            .filter(move |(lsn, (kind, _))| kind.is_multiple_of(8) || **lsn > newest);
        within.map(|(lsn, (_, payload))| (*lsn, payload.len() as u64 + 10))
    }
}

impl Liveness for Needed<'_> {
    fn usage(&self, range: Range<Lsn>) -> Usage {
        self.positions(range).fold(Usage::default(), |sum, (_, bytes)| Usage {
            records: sum.records + 1,
            bytes: sum.bytes + bytes,
        })
    }

    fn live(&self, range: Range<Lsn>, out: &mut Vec<Lsn>) {
        out.extend(self.positions(range).map(|(lsn, _)| lsn));
    }
}

/// Appends groups, commits, makes checkpoints and survivors; a full log ends the story.
fn write(source: &mut Source<'_>, disk: &FaultyDisk, written: &mut Written) {
    let (mut journal, _) = open(disk).expect("an empty disk");
    for _ in 0..source.below(28) {
        let (records, unit) = (1 + source.below(6), usize::from(source.u8()) * 24);
        for number in 0..records {
            let kind = u8::try_from(written.len() % 251).expect("below 251");
            let payload = vec![kind; unit + number];
            let more = number + 1 < records;
            let record = Record { kind, more, parts: &[&payload] };
            let Ok(lsn) = journal.append(record) else { return };
            written.insert(lsn, (kind, payload));
        }
        let is_fine = match source.below(4) {
            0 => Ok(()),
            1 | 2 => commit(&mut journal),
            _ => commit(&mut journal).and_then(|()| settle(&mut journal, written)),
        };
        if is_fine.is_err() || written.len() > RECORDS_MAX {
            return;
        }
    }
    if source.is() {
        let _ = journal.close();
    }
}

fn commit(journal: &mut Journal) -> Result<(), Fault> {
    journal.flush()?;
    journal.run_pending();
    journal.poll().map(|_| ())
}

fn settle(journal: &mut Journal, written: &Written) -> Result<(), Fault> {
    for _ in 0..6 {
        if journal.checkpoint_due() {
            let lsn = journal.durable();
            journal.checkpoint(lsn, Box::new(move |out| out.write_all(&lsn.0.to_le_bytes())))?;
        }
        journal.maintain(&Needed(written))?;
        commit(journal)?;
    }
    Ok(())
}

/// Bends files; returns whether all checksums were left as they fell.
fn damage(source: &mut Source<'_>, disk: &FaultyDisk) -> bool {
    let mut is_honest = true;
    for _ in 0..source.below(5) {
        let mut names = disk.list(Path::new(DIR)).unwrap_or_default();
        names.retain(|name| name != "lock");
        names.sort_unstable();
        if names.is_empty() {
            break;
        }
        let path = Path::new(DIR).join(&names[source.below(names.len())]);
        let mut bytes = disk.bytes(&path).unwrap_or_default();
        match source.below(8) {
            0..=2 => {
                for _ in 0..=source.below(4) {
                    bend(source, &mut bytes);
                }
                if source.is() {
                    reseal(&mut bytes);
                    is_honest = false;
                }
            }
            3 => bytes.truncate(place(source)),
            4 => {
                let _ = disk.remove(&path);
                continue;
            }
            5 => {
                let other = Path::new(DIR).join(&names[source.below(names.len())]);
                let others = disk.bytes(&other).unwrap_or_default();
                disk.set_bytes(&other, bytes);
                bytes = others;
            }
            6 => bytes.clear(),
            _ => {
                let length = usize::from(source.u16());
                bytes.resize(bytes.len().max(length), source.u8());
            }
        }
        disk.set_bytes(&path, bytes);
    }
    is_honest
}

/// An offset near the start of a page, where heads and the first records are.
fn place(source: &mut Source<'_>) -> usize {
    usize::from(source.u8() % 24) * 4096 + usize::from(source.u8())
}

fn bend(source: &mut Source<'_>, bytes: &mut [u8]) {
    let at = place(source);
    let new = source.u32().to_le_bytes();
    let width = source.pick(&[1, 1, 2, 4]);
    if let Some(place) = bytes.get_mut(at..at + width) {
        place.copy_from_slice(&new[..width]);
    }
}

/// Opens and reads everything there is to read; then the log must go on.
fn look(disk: &FaultyDisk, written: &Written, is_honest: bool) {
    let Ok((mut journal, mut recovery)) = open(disk) else { return };
    let mut state = Vec::new();
    if let Some(mut checkpoint) = recovery.take_checkpoint() {
        let read = std::io::Read::read_to_end(&mut checkpoint, &mut state);
        if is_honest && read.is_ok() {
            assert_eq!(state, checkpoint.lsn().0.to_le_bytes(), "another checkpoint");
        }
    }
    let mut next = recovery.from();
    let replayed = recovery.replay(|record| {
        if is_honest {
            let (kind, payload) = written.get(&record.lsn).expect("a record nobody wrote");
            assert_eq!((record.kind, record.payload), (*kind, &payload[..]), "another record");
            assert_eq!(record.lsn, next, "a gap");
        }
        next = record.lsn.plus(10 + record.payload.len() as u64);
        Ok::<_, Fault>(())
    });
    if is_honest {
        assert!(replayed.is_ok(), "{replayed:?}: open had verified it");
    }
    read_cold(&mut journal, written, is_honest);
    let _ = journal.append(Record { kind: 1, more: false, parts: &[b"on"] });
    let _ = commit(&mut journal);
    let _ = settle(&mut journal, written);
}

/// Fetches the records that are needed for ever; what does not verify is a fault, never an answer.
fn read_cold(journal: &mut Journal, written: &Written, is_honest: bool) {
    let wanted = written.iter().filter(|(_, (kind, _))| kind.is_multiple_of(8));
    let wanted: Vec<Lsn> = wanted.map(|(lsn, _)| *lsn).take(40).collect();
    if wanted.is_empty() || journal.fetch(wanted, 1).is_err() {
        return;
    }
    journal.run_pending();
    let Ok(progress) = journal.poll() else { return };
    for records in progress.fetched.into_iter().filter_map(|fetched| fetched.records.ok()) {
        for (lsn, record) in records.iter().filter(|_| is_honest) {
            let Some(record) = record else { continue };
            let (kind, payload) = &written[&lsn];
            assert_eq!((record.kind, record.payload), (*kind, &payload[..]), "another record");
        }
    }
}
