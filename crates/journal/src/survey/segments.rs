//! Segments, read page by page: which blocks are good, what is missing between them, and where
//! the log can be followed to.

use std::ops::Range;

use model::Lsn;

use super::{Problem, note, problem};
use crate::fault::Fault;
use crate::files::{Directory, number, segment_name};
use crate::layout::{BLOCK_HEAD, BlockHead, Frame, PAGE, size};
use crate::reader::{Reader, Source};
use crate::segment::{self, Segment};

/// A segment file, however much of it is good.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) segment: Segment,
    /// Its head is good, so block heads can be verified.
    has_salt: bool,
}

/// A block that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Index of its segment.
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) head: BlockHead,
    /// All of its records verify.
    is_whole: bool,
}

/// What the segments hold together.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// In the order of the files.
    found: Vec<Found>,
    /// Those to replay.
    pub(super) replayed: Vec<Found>,
    /// Records before it are in the checkpoint.
    pub(super) floor: Lsn,
    pub(super) end: Lsn,
    pub(super) reach: Lsn,
    /// Whole records behind `end`.
    pub(super) stranded: u64,
    pub(super) is_torn: bool,
}

/// Opens every segment, also those whose head is damaged.
pub(super) fn open_all(
    dir: &Directory,
    names: &[String],
    problems: &mut Vec<Problem>,
) -> Result<Vec<SegmentFile>, Fault> {
    let mut files: Vec<SegmentFile> = Vec::new();
    for sequence in names.iter().filter_map(|name| number(name, "log-", ".seg")) {
        let before = files.last().map(|file| file.segment.sequence);
        let file = match segment::open(dir, sequence) {
            Ok(segment) => SegmentFile { segment, has_salt: true },
            Err(fault) => {
                note(fault, problems)?;
                let handle = dir.open(&segment_name(sequence))?;
                let bytes = handle.len()?;
                SegmentFile { segment: Segment::new(handle, sequence, 0, bytes), has_salt: false }
            }
        };
        if before.is_some_and(|before| before + 1 != sequence) {
            let detail = "the segment before this one is missing";
            problems.push(problem(&file.segment.handle, 0, Lsn::ZERO, detail));
        }
        files.push(file);
    }
    Ok(files)
}

impl Walk {
    /// Reads all segments and says what is wrong.
    pub(super) fn over(
        files: &[SegmentFile],
        floor: Option<Lsn>,
        problems: &mut Vec<Problem>,
    ) -> Result<Self, Fault> {
        let mut walk = Self { floor: floor.unwrap_or_default(), ..Self::default() };
        let mut reader = Reader::default();
        for index in 0..files.len() {
            walk.scan(&mut reader, files, index)?;
        }
        walk.follow();
        walk.judge(files, floor, problems);
        Ok(walk)
    }

    fn scan(
        &mut self,
        reader: &mut Reader,
        files: &[SegmentFile],
        index: usize,
    ) -> Result<(), Fault> {
        let Some(file) = files.get(index) else { return Ok(()) };
        let segment = &file.segment;
        let mut offset = PAGE as u64;
        while offset + PAGE as u64 <= segment.bytes {
            let bytes = reader.view(Source::whole(segment), offset, BLOCK_HEAD)?;
            let head = if file.has_salt {
                BlockHead::decode(bytes, segment.salt, segment.sequence).map(|(head, _)| head)
            } else {
                BlockHead::decode_unproven(bytes, segment.sequence)
            };
            let head = head.filter(|head| self.may_follow(head));
            let Some(head) = head else {
                offset += PAGE as u64;
                continue;
            };
            let fits = offset + head.extent() <= segment.bytes;
            let is_whole = fits && is_whole(reader, segment, offset, &head)?;
            if is_whole || file.has_salt {
                self.found.push(Found { file: index, offset, head, is_whole });
            }
            offset += if is_whole { head.extent() } else { PAGE as u64 };
        }
        Ok(())
    }

    /// What an earlier incarnation left behind the end does not count.
    fn may_follow(&self, head: &BlockHead) -> bool {
        let last = self.found.iter().rev().find(|found| found.is_whole);
        last.is_none_or(|last| {
            head.incarnation >= last.head.incarnation && head.first >= last.head.end()
        })
    }

    /// Follows whole blocks from the checkpoint on.
    fn follow(&mut self) {
        let mut end = self.floor;
        let mut has_begun = false;
        for found in self.found.iter().filter(|found| found.is_whole) {
            let head = &found.head;
            let continues = if has_begun { head.first == end } else { head.first <= self.floor };
            if head.end() > self.floor && continues {
                has_begun = true;
                end = head.end();
                self.replayed.push(*found);
            }
        }
        self.end = end;
        let seen = self.found.iter();
        let ends =
            seen.map(|found| if found.is_whole { found.head.end() } else { found.head.first });
        self.reach = ends.max().unwrap_or_default().max(end);
        let stranded = self.found.iter().filter(|one| one.is_whole && one.head.first >= end);
        self.stranded = stranded.map(|one| u64::from(one.head.records)).sum();
    }

    /// Everything before this position was durable, says one of the blocks or the checkpoint.
    pub(super) fn proven(&self) -> Lsn {
        self.found.iter().map(|found| found.head.stable).max().unwrap_or_default().max(self.floor)
    }

    /// Names what is missing between whole blocks, at the start and at the end.
    fn judge(&mut self, files: &[SegmentFile], floor: Option<Lsn>, problems: &mut Vec<Problem>) {
        let whole: Vec<&Found> = self.found.iter().filter(|found| found.is_whole).collect();
        if let (Some(first), Some(file)) = (whole.first(), files.first())
            && first.head.first > floor.unwrap_or_default()
        {
            let detail = "the log does not reach back to the checkpoint";
            let last_good = floor.unwrap_or_default();
            problems.push(problem(&file.segment.handle, PAGE as u64, last_good, detail));
        }
        for pair in whole.windows(2) {
            let [before, after] = pair else { continue };
            if after.head.first > before.head.end() {
                let (file, offset) = self.gap(files, before, after);
                let detail = "a block is damaged or gone";
                problems.extend(
                    file.map(|file| {
                        problem(&file.segment.handle, offset, before.head.end(), detail)
                    }),
                );
            }
        }
        self.judge_end(files, problems);
    }

    /// Where the block stood that is missing between two.
    fn gap<'a>(
        &self,
        files: &'a [SegmentFile],
        before: &Found,
        after: &Found,
    ) -> (Option<&'a SegmentFile>, u64) {
        let broken = self.found.iter().find(|found| {
            !found.is_whole
                && found.head.first >= before.head.end()
                && found.head.first < after.head.first
        });
        if let Some(broken) = broken {
            return (files.get(broken.file), broken.offset);
        }
        let behind = before.offset + before.head.extent();
        if after.file != before.file && after.offset > PAGE as u64 {
            return (files.get(before.file + 1), PAGE as u64);
        }
        (files.get(before.file), behind)
    }

    /// Tells damage at the end of the log from a write that a crash tore.
    fn judge_end(&mut self, files: &[SegmentFile], problems: &mut Vec<Problem>) {
        let last = self.found.iter().rev().find(|found| found.is_whole);
        let known = last.map_or(Lsn::ZERO, |last| last.head.end());
        let broken = self.found.iter().find(|found| !found.is_whole && found.head.first >= known);
        if self.proven() > known {
            let (file, offset) = match (broken, last) {
                (Some(broken), _) => (files.get(broken.file), broken.offset),
                (None, Some(last)) => (files.get(last.file), last.offset + last.head.extent()),
                (None, None) => (files.first(), PAGE as u64),
            };
            let detail = "blocks at the end that were durable are damaged or gone";
            problems.extend(file.map(|file| problem(&file.segment.handle, offset, known, detail)));
            self.reach = self.reach.max(self.proven());
        } else {
            self.is_torn = broken.is_some();
        }
    }

    /// First position in the ring.
    pub(super) fn start(&self) -> Option<Lsn> {
        self.found.iter().find(|found| found.is_whole).map(|found| found.head.first)
    }

    /// Good blocks, their records and their positions in a segment.
    pub(super) fn counts(&self, file: Option<usize>) -> (u64, u64, Option<Range<Lsn>>) {
        let whole = self.found.iter().filter(|found| found.is_whole && Some(found.file) == file);
        whole.fold((0, 0, None), |(blocks, records, range), found| {
            let start = range.map_or(found.head.first, |range: Range<Lsn>| range.start);
            let range = start..found.head.end();
            (blocks + 1, records + u64::from(found.head.records), Some(range))
        })
    }

    /// Shows position, segment and offset of every record that verifies, also those of blocks
    /// that are not whole.
    pub(super) fn records(
        &self,
        files: &[SegmentFile],
        visit: &mut dyn FnMut(Lsn, usize, u64),
    ) -> Result<(), Fault> {
        let mut reader = Reader::default();
        for found in &self.found {
            let Some(file) = files.get(found.file) else { continue };
            let (mut lsn, mut at) = (found.head.first, found.offset + BLOCK_HEAD as u64);
            while lsn < found.head.end() {
                let frame = reader.frame(Source::whole(&file.segment), lsn, at)?;
                let Some(frame) = frame.filter(Frame::is_good) else { break };
                visit(lsn, found.file, at);
                let bytes = frame.head.frame();
                (lsn, at) = (lsn.plus(bytes), at + bytes);
            }
        }
        Ok(())
    }
}

/// Verifies every record of a block.
fn is_whole(
    reader: &mut Reader,
    segment: &Segment,
    offset: u64,
    head: &BlockHead,
) -> Result<bool, Fault> {
    let bytes = size(u64::from(head.record_bytes));
    let mut rest = reader.view(Source::whole(segment), offset + BLOCK_HEAD as u64, bytes)?;
    let (mut lsn, mut records, mut body) = (head.first, 0_u32, 0);
    while let Some((frame, after)) = Frame::parse(lsn, rest) {
        if !frame.is_good() {
            return Ok(false);
        }
        body = crc32c::crc32c_append(body, &frame.head.crc.to_le_bytes());
        lsn = lsn.plus(frame.head.frame());
        records = records.saturating_add(1);
        rest = after;
    }
    Ok(lsn == head.end() && records == head.records && body == head.body_crc)
}
