//! [`Survivor`]: a file of records that outlived their segment.
//!
//! Lives here: writing such a file, opening it, its sparse index. Not here: which records go in
//! (`background.rs` copies what `Liveness` names) and finding one among the entries (`reader.rs`).
//!
//! | offset | size | meaning |
//! |---|---|---|
//! | 0 | 4096 | file head, see `layout.rs` |
//! | 4096 | n | entries by position: position (u64), then the record's frame as it was in the log |
//! | index offset | 16 each | index: position (u64), offset (u64) of the first entry of each run |
//!
//! A run is about 64 KiB of entries. The head is written last; the file gets its name when it is
//! durable. The range in the head may be wider than the entries: what is not there is dead.

use std::ops::Range;
use std::sync::Arc;

use model::Lsn;

use crate::fault::Fault;
use crate::files::{Directory, Handle, survivor_name};
use crate::layout::{FILE_HEAD, PAGE, SURVIVOR_MAGIC, decode_file_head, encode_file_head, size};

/// Entry bytes per index entry.
const RUN_BYTES: u64 = 64 * 1024;
/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 256 * 1024;
/// Bytes of an index entry on disk.
const INDEX_ENTRY: usize = 16;
/// The name while the file is written.
const WRITING: &str = "survivor.tmp";

/// A complete survivor file.
#[derive(Debug)]
pub(crate) struct Survivor {
    pub(crate) handle: Handle,
    /// Rises with every file; where ranges overlap after a crash, the higher one counts.
    pub(crate) generation: u64,
    /// The positions this file answers for.
    pub(crate) range: Range<Lsn>,
    /// Bytes of the records in the file, dead ones and heads included.
    pub(crate) record_bytes: u64,
    /// End of the entries.
    pub(crate) end: u64,
    /// First position and offset of each run, in order.
    index: Vec<(Lsn, u64)>,
}

impl Survivor {
    /// The run that holds this position if any does.
    pub(crate) fn lookup(&self, lsn: Lsn) -> Option<Range<u64>> {
        if !self.range.contains(&lsn) {
            return None;
        }
        let after = self.index.partition_point(|(first, _)| *first <= lsn);
        let (_, from) = self.index.get(after.checked_sub(1)?)?;
        let until = self.index.get(after).map_or(self.end, |(_, offset)| *offset);
        Some(*from..until)
    }

    /// Where the runs start.
    pub(crate) fn runs(&self) -> impl Iterator<Item = u64> {
        self.index.iter().map(|(_, offset)| *offset)
    }

    /// Bytes on disk.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.end.saturating_add((self.index.len() * INDEX_ENTRY) as u64)
    }

    /// Opens and checks head and index; entries are checked when they are read.
    pub(crate) fn open(dir: &Directory, generation: u64) -> Result<Self, Fault> {
        let handle = dir.open(&survivor_name(generation))?;
        let mut head = [0; FILE_HEAD];
        handle.read(&mut head, 0)?;
        let fields: [u64; 8] = decode_file_head(SURVIVOR_MAGIC, &head)
            .map_err(|bad| handle.bad_head(bad, Lsn::ZERO))?;
        let [found, start, stop, _records, record_bytes, end, entries, index_crc] = fields;
        let range = Lsn(start)..Lsn(stop);
        let wrong = |offset, detail| Err(handle.damaged(offset, range.start, detail));
        if found != generation {
            return wrong(16, "the head names another file");
        }
        let index_bytes = entries.saturating_mul(INDEX_ENTRY as u64);
        if end.saturating_add(index_bytes) > handle.len()? {
            return wrong(56, "the file is shorter than its head says");
        }
        let mut bytes = vec![0; size(index_bytes)];
        handle.read(&mut bytes, end)?;
        if u64::from(crc32c::crc32c(&bytes)) != index_crc {
            return wrong(end, "the index does not verify");
        }
        let index = bytes.chunks_exact(INDEX_ENTRY).filter_map(|entry| {
            let (lsn, offset) = entry.split_first_chunk::<8>()?;
            let offset = u64::from_le_bytes(*offset.first_chunk::<8>()?);
            Some((Lsn(u64::from_le_bytes(*lsn)), offset))
        });
        let index = index.collect();
        Ok(Self { handle, generation, range, record_bytes, end, index })
    }
}

/// A survivor file in the making.
#[derive(Debug)]
pub(crate) struct SurvivorWriter {
    handle: Handle,
    /// Sync after so many bytes.
    pace: u64,
    unsynced: u64,
    buffer: Vec<u8>,
    /// File offset of `buffer`.
    offset: u64,
    records: u64,
    record_bytes: u64,
    index: Vec<(Lsn, u64)>,
}

impl SurvivorWriter {
    pub(crate) fn create(dir: &Directory, pace: u64) -> Result<Self, Fault> {
        Ok(Self {
            handle: dir.create(WRITING)?,
            pace,
            unsynced: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            offset: PAGE as u64,
            records: 0,
            record_bytes: 0,
            index: Vec::new(),
        })
    }

    /// Adds a record as it stands in its frame; positions rise.
    pub(crate) fn add(&mut self, lsn: Lsn, frame: &[&[u8]]) -> Result<(), Fault> {
        let at = self.offset + self.buffer.len() as u64;
        let starts_run = self.index.last().is_none_or(|(_, start)| at - start >= RUN_BYTES);
        if starts_run {
            self.index.push((lsn, at));
        }
        self.buffer.extend_from_slice(&lsn.0.to_le_bytes());
        for part in frame {
            self.buffer.extend_from_slice(part);
            self.record_bytes += part.len() as u64;
        }
        self.records += 1;
        if self.buffer.len() >= BUFFER_BYTES { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), Fault> {
        self.handle.write(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced >= self.pace {
            self.handle.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Makes the file durable under its name.
    pub(crate) fn finish(
        mut self,
        dir: &Directory,
        generation: u64,
        range: Range<Lsn>,
    ) -> Result<Survivor, Fault> {
        self.spill()?;
        let end = self.offset;
        let mut index = Vec::with_capacity(self.index.len() * INDEX_ENTRY);
        for (lsn, offset) in &self.index {
            index.extend_from_slice(&lsn.0.to_le_bytes());
            index.extend_from_slice(&offset.to_le_bytes());
        }
        self.handle.write(&index, end)?;
        let (records, record_bytes) = (self.records, self.record_bytes);
        let entries = self.index.len() as u64;
        let crc = u64::from(crc32c::crc32c(&index));
        let (start, stop) = (range.start.0, range.end.0);
        let fields = [generation, start, stop, records, record_bytes, end, entries, crc];
        let mut page = [0; PAGE];
        if let Some(place) = page.first_chunk_mut::<FILE_HEAD>() {
            *place = encode_file_head(SURVIVOR_MAGIC, &fields);
        }
        self.handle.write(&page, 0)?;
        self.handle.sync()?;
        let handle = dir.rename(&self.handle, &survivor_name(generation))?;
        Ok(Survivor { handle, generation, range, record_bytes, end, index: self.index })
    }

    /// Removes a half-written file; if that fails too, the next open does it.
    pub(crate) fn abandon(dir: &Directory) {
        if let Err(fault) = dir.remove(WRITING) {
            tracing::debug!(%fault, "an unfinished survivor file stays until the next start");
        }
    }
}

/// Sorts files found at open into those that count and those a crash left behind.
///
/// A file whose range lies in that of a younger one was being replaced. Anything else that
/// overlaps cannot have been written by this program.
pub(crate) fn settle(
    mut found: Vec<Survivor>,
) -> Result<(Vec<Arc<Survivor>>, Vec<Survivor>), Fault> {
    found.sort_by_key(|survivor| std::cmp::Reverse(survivor.generation));
    let mut kept: Vec<Arc<Survivor>> = Vec::new();
    let mut stale = Vec::new();
    for survivor in found {
        let overlap = kept.iter().find(|other| {
            other.range.start < survivor.range.end && survivor.range.start < other.range.end
        });
        match overlap {
            None => kept.push(Arc::new(survivor)),
            Some(other)
                if other.range.start <= survivor.range.start
                    && survivor.range.end <= other.range.end =>
            {
                stale.push(survivor);
            }
            Some(_) => {
                let start = survivor.range.start;
                return Err(survivor.handle.damaged(24, start, "it overlaps another file"));
            }
        }
    }
    kept.sort_by_key(|survivor| survivor.range.start);
    Ok((kept, stale))
}
