//! Survivor files, read entry by entry. A bad entry costs the rest of its run when the index is
//! good, and the rest of the file when it is not.

use std::ops::Range;

use model::Lsn;

use super::{Problem, note, problem};
use crate::fault::Fault;
use crate::files::{Directory, Handle, number, survivor_name};
use crate::layout::{Frame, PAGE};
use crate::reader::{Reader, Source};
use crate::survivor::Survivor;

/// Bytes before the frame in an entry.
const ENTRY_HEAD: u64 = 8;
/// Tells the reader's windows of these files from those of segments.
const KEY: u64 = 1 << 63;

/// A survivor file, however much of it is good.
#[derive(Debug)]
pub(super) struct SurvivorFile {
    pub(super) handle: Handle,
    generation: u64,
    /// The positions it answers for, if its head says so.
    pub(super) range: Option<Range<Lsn>>,
    /// Where entries end: as the head says, or with the file.
    end: u64,
    /// Where runs start, if the index is good.
    runs: Vec<u64>,
    /// Good entries.
    pub(super) records: u64,
}

/// Opens every survivor file and reads it through.
pub(super) fn open_all(
    dir: &Directory,
    names: &[String],
    problems: &mut Vec<Problem>,
) -> Result<Vec<SurvivorFile>, Fault> {
    let mut files = Vec::new();
    for generation in names.iter().filter_map(|name| number(name, "survivor-", ".sv")) {
        let mut file = match Survivor::open(dir, generation) {
            Ok(survivor) => SurvivorFile {
                runs: survivor.runs().collect(),
                range: Some(survivor.range.clone()),
                end: survivor.end,
                handle: survivor.handle,
                generation,
                records: 0,
            },
            Err(fault) => {
                note(fault, problems)?;
                let handle = dir.open(&survivor_name(generation))?;
                let end = handle.len()?;
                let (range, runs) = (None, Vec::new());
                SurvivorFile { handle, generation, range, end, runs, records: 0 }
            }
        };
        let mut records = 0;
        let bad = file.entries(&mut |_, _| records += 1)?;
        file.records = records;
        if let (Some(offset), Some(range)) = (bad, &file.range) {
            let last_good = range.start;
            problems.push(problem(&file.handle, offset, last_good, "an entry does not verify"));
        }
        files.push(file);
    }
    Ok(files)
}

impl SurvivorFile {
    pub(super) fn source(&self) -> Source<'_> {
        Source { key: KEY | self.generation, handle: &self.handle, end: self.end }
    }

    /// Shows position and frame offset of every good entry; gives where the first bad one is.
    pub(super) fn entries(&self, visit: &mut dyn FnMut(Lsn, u64)) -> Result<Option<u64>, Fault> {
        let mut reader = Reader::default();
        let mut bad = None;
        let mut at = PAGE as u64;
        while at < self.end {
            if let Some((lsn, next)) = self.entry(&mut reader, at)? {
                visit(lsn, at + ENTRY_HEAD);
                at = next;
            } else {
                bad.get_or_insert(at);
                let Some(next) = self.runs.iter().find(|start| **start > at) else { break };
                at = *next;
            }
        }
        Ok(bad)
    }

    fn entry(&self, reader: &mut Reader, at: u64) -> Result<Option<(Lsn, u64)>, Fault> {
        let head = reader.view(self.source(), at, 8)?;
        let Some(lsn) = head.first_chunk::<8>().map(|head| Lsn(u64::from_le_bytes(*head))) else {
            return Ok(None);
        };
        let body = at + ENTRY_HEAD;
        let frame = reader.frame(self.source(), lsn, body)?.filter(Frame::is_good);
        Ok(frame.map(|frame| (lsn, body + frame.head.frame())))
    }
}
