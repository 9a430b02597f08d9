//! Recovery: from the files of an earlier run to a log that can go on.
//!
//! Lives here: choosing the checkpoint, walking the segments, telling a torn tail from damage,
//! replaying. Not here: what the records mean. `Journal::open` calls it; the owner then takes the
//! checkpoint and replays from the [`Recovery`].
//!
//! The rule for the tail: blocks are good as long as they verify and chain. Behind the last good
//! one, a later block that says "everything before position p was durable when I was written", p
//! beyond that last good block, proves that durable bytes are missing: damage. Without such a
//! witness the rest was never durable: a torn tail, cut.

use std::collections::VecDeque;
use std::sync::Arc;

use model::Lsn;

use crate::checkpoint::Checkpoint;
use crate::fault::Fault;
use crate::files::{Directory, UNFINISHED, number};
use crate::layout::{BLOCK_HEAD, BlockHead, Frame, PAGE, pages, size};
use crate::options::{Durability, Options};
use crate::places::Places;
use crate::reader::{Reader, Source};
use crate::record::Replayed;
use crate::repair::UNFINISHED_REPAIR;
use crate::segment::{self, Plan, Segment};
use crate::survivor::{self, Survivor};

/// The very first segment is short: filling it with zeros takes a few milliseconds at start, and
/// the background has the next one ready before it is full. Writing to space that is allocated but
/// was never written costs a journal commit of the file system each time.
pub(crate) const FIRST_BYTES: u64 = 4 * 1024 * 1024;
/// Most bytes written again at a start: more than one commit has, and at level `fsync` nothing else
/// can be unproven. At level `os` it may be the whole log, but that level promises less.
const REWRITTEN_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes read at a time while looking for witnesses.
const WITNESS_STEP: usize = 128 * 1024;

/// What the owner needs to rebuild its state. Reads the files when asked, so ask before the
/// journal is maintained.
#[derive(Debug)]
pub struct Recovery {
    checkpoint: Option<Checkpoint>,
    blocks: Vec<BlockAt>,
    from: Lsn,
    end: Lsn,
    /// Bytes behind the end of the log that were cut.
    torn: bool,
}

#[derive(Clone, Debug)]
struct BlockAt {
    segment: Arc<Segment>,
    offset: u64,
    first: Lsn,
    record_bytes: u32,
}

impl BlockAt {
    /// Position after the last record.
    fn end(&self) -> Lsn {
        self.first.plus(u64::from(self.record_bytes))
    }
}

impl Recovery {
    /// Takes the checkpoint: its position, and the owner's bytes through `Read`.
    pub fn take_checkpoint(&mut self) -> Option<Checkpoint> {
        self.checkpoint.take()
    }

    /// Position of the first record to replay.
    pub fn from(&self) -> Lsn {
        self.from
    }

    /// Position after the last record to replay.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// Whether an unfinished write was cut off the end of the log.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Shows every record from the checkpoint on, in order. All of them were verified at open.
    ///
    /// # Errors
    /// A failed read, or the first error of `visit`.
    pub fn replay<E: From<Fault>>(
        &self,
        mut visit: impl FnMut(Replayed<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = Reader::default();
        for block in &self.blocks {
            let (segment, at) = (&block.segment, block.offset + BLOCK_HEAD as u64);
            let bytes = size(u64::from(block.record_bytes));
            let mut rest = reader.view(Source::whole(segment), at, bytes)?;
            let mut lsn = block.first;
            while let Some((frame, after)) = Frame::parse(lsn, rest) {
                if lsn >= self.from {
                    let (kind, more) = (frame.head.kind, frame.has_more());
                    visit(Replayed { lsn, kind, more, payload: frame.payload })?;
                }
                lsn = lsn.plus(frame.head.frame());
                rest = after;
            }
        }
        Ok(())
    }
}

/// The state in which the files were found.
pub(crate) struct Found {
    pub(crate) recovery: Recovery,
    pub(crate) full: VecDeque<Arc<Segment>>,
    pub(crate) active: Arc<Segment>,
    pub(crate) used: u64,
    pub(crate) ready: VecDeque<Arc<Segment>>,
    pub(crate) places: Places,
    pub(crate) end: Lsn,
    /// Head checksum of the last block.
    pub(crate) previous: u32,
    pub(crate) incarnation: u64,
    pub(crate) generation: u64,
    pub(crate) checkpoint: Option<Lsn>,
    pub(crate) checkpoint_bytes: u64,
}

/// Reads the directory.
pub(crate) fn recover(
    dir: &Directory,
    options: &Options,
    salt: impl Fn(u64) -> u64,
) -> Result<Found, Fault> {
    let names = dir.list()?;
    if names.iter().any(|name| name == UNFINISHED_REPAIR) {
        let marker = dir.open(UNFINISHED_REPAIR)?;
        let detail = "a repair was interrupted; run `potager repair` again";
        return Err(marker.damaged(0, Lsn::ZERO, detail));
    }
    for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
        dir.remove(name)?;
    }
    let checkpoint = newest_checkpoint(dir, &names)?;
    let (survivors, generation) = open_survivors(dir, &names)?;
    let mut segments = open_segments(dir, &names)?;
    let floor = checkpoint.as_ref().map(Checkpoint::lsn);
    let is_new = segments.is_empty();
    if is_new {
        if let Some(checkpoint) = &checkpoint {
            return Err(checkpoint.orphaned());
        }
        if let Some(survivor) = survivors.first() {
            let detail = "there are survivors but no log";
            return Err(survivor.handle.damaged(0, Lsn::ZERO, detail));
        }
        let bytes = options.segment_bytes.min(FIRST_BYTES);
        // Its zeros become durable with its head, in one sync.
        let fill_pace = (options.durability != Durability::Memory).then_some(u64::MAX);
        let plan = Plan { sequence: 1, salt: salt(1), bytes, fill_pace };
        segments.push(Arc::new(segment::prepare(dir, plan, &mut || ())?));
    }
    let mut scan = Scan::new(floor);
    scan.places.replace(&[], None);
    for survivor in survivors {
        scan.places.replace(&[], Some(survivor));
    }
    let (active, used) = scan.walk(&segments)?;
    let mut ready: VecDeque<_> = segments.split_off(active + 1).into();
    drop_misfits(dir, &mut ready, options.segment_bytes)?;
    let Some(last) = segments.pop() else {
        return Err(Fault::Stopped { thread: "main" });
    };
    // A killed process leaves bytes in the page cache that a power cut would still take.
    if !is_new {
        scan.write_again()?;
        segments.iter().chain([&last]).try_for_each(|segment| segment.handle.sync())?;
    }
    let incarnation = checkpoint.as_ref().map_or(0, |found| found.mark.incarnation);
    let checkpoint_bytes = checkpoint.as_ref().map_or(0, Checkpoint::file_bytes);
    let end = scan.next.unwrap_or_default();
    let from = floor.unwrap_or_default();
    Ok(Found {
        recovery: Recovery { checkpoint, blocks: scan.blocks, from, end, torn: scan.is_torn },
        full: segments.into(),
        active: last,
        used,
        ready,
        places: scan.places,
        end,
        previous: scan.previous.unwrap_or(0),
        incarnation: scan.incarnation.max(incarnation) + 1,
        generation,
        checkpoint: floor,
        checkpoint_bytes,
    })
}

fn numbers(names: &[String], before: &str, after: &str) -> Vec<u64> {
    let mut found: Vec<u64> = names.iter().filter_map(|name| number(name, before, after)).collect();
    found.sort_unstable();
    found
}

fn newest_checkpoint(dir: &Directory, names: &[String]) -> Result<Option<Checkpoint>, Fault> {
    let mut found = numbers(names, "checkpoint-", ".ckpt");
    let Some(newest) = found.pop() else { return Ok(None) };
    let checkpoint = Checkpoint::open(dir, Lsn(newest))?;
    for older in found {
        dir.remove(&crate::files::checkpoint_name(Lsn(older)))?;
    }
    Ok(Some(checkpoint))
}

fn open_survivors(dir: &Directory, names: &[String]) -> Result<(Vec<Arc<Survivor>>, u64), Fault> {
    let generations = numbers(names, "survivor-", ".sv");
    let next = generations.last().map_or(1, |last| last + 1);
    let opened: Result<Vec<_>, _> =
        generations.into_iter().map(|generation| Survivor::open(dir, generation)).collect();
    let (kept, stale) = survivor::settle(opened?)?;
    for survivor in stale {
        dir.remove(&survivor.handle.name())?;
    }
    Ok((kept, next))
}

fn open_segments(dir: &Directory, names: &[String]) -> Result<Vec<Arc<Segment>>, Fault> {
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    for sequence in numbers(names, "log-", ".seg") {
        let segment = segment::open(dir, sequence)?;
        if segments.last().is_some_and(|last| last.sequence + 1 != sequence) {
            let detail = "the segment before this one is missing";
            return Err(segment.handle.damaged(0, Lsn::ZERO, detail));
        }
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}

/// Prepared segments of another size are of no use; the youngest go first, so no gap appears.
fn drop_misfits(
    dir: &Directory,
    ready: &mut VecDeque<Arc<Segment>>,
    bytes: u64,
) -> Result<(), Fault> {
    if ready.iter().all(|segment| segment.bytes == bytes) {
        return Ok(());
    }
    while let Some(segment) = ready.pop_back() {
        dir.remove(&segment.handle.name())?;
        dir.sync()?;
    }
    Ok(())
}

/// The walk through the log.
struct Scan {
    reader: Reader,
    places: Places,
    /// Blocks to be replayed.
    blocks: Vec<BlockAt>,
    /// The checkpoint's position.
    floor: Option<Lsn>,
    /// Where the next block must start; `None` before the first.
    next: Option<Lsn>,
    /// What it must chain to.
    previous: Option<u32>,
    /// Blocks that no later one proves to be durable.
    unproven: VecDeque<BlockAt>,
    incarnation: u64,
    is_torn: bool,
    /// The first block of the next segment.
    heir: Option<BlockHead>,
}

impl Scan {
    fn new(floor: Option<Lsn>) -> Self {
        Self {
            reader: Reader::default(),
            places: Places::default(),
            blocks: Vec::new(),
            floor,
            next: None,
            previous: None,
            unproven: VecDeque::new(),
            incarnation: 0,
            is_torn: false,
            heir: None,
        }
    }

    /// Finds the end of the log: which segment, and the offset in it.
    fn walk(&mut self, segments: &[Arc<Segment>]) -> Result<(usize, u64), Fault> {
        let mut last = (0, PAGE as u64);
        for (index, segment) in segments.iter().enumerate() {
            let mut offset = PAGE as u64;
            self.heir = match segments.get(index + 1) {
                Some(next) => self.head(next, PAGE as u64)?.map(|(head, _)| head),
                None => None,
            };
            while let Some(head) = self.block(segment, offset)? {
                self.accept(segment, offset, head);
                offset += head.extent();
            }
            if offset > PAGE as u64 {
                last = (index, offset);
            } else {
                // Nothing here: the log ended before. (Nothing at all in the oldest: an empty
                // log, or damage that the checks below find.)
                break;
            }
        }
        self.check_start(segments)?;
        self.check_end(segments, last)?;
        Ok(last)
    }

    fn accept(&mut self, segment: &Arc<Segment>, offset: u64, head: BlockHead) {
        self.next = Some(head.end());
        self.incarnation = head.incarnation;
        self.places.note(segment, head.first..head.end(), offset);
        let (first, record_bytes) = (head.first, head.record_bytes);
        let block = BlockAt { segment: Arc::clone(segment), offset, first, record_bytes };
        while self.unproven.pop_front_if(|before| before.end() <= head.stable).is_some() {}
        self.unproven.push_back(block.clone());
        if head.end() > self.floor.unwrap_or_default() {
            self.blocks.push(block);
        }
    }

    /// Writes the blocks that nothing proves to be durable where they are. When an earlier process
    /// failed to sync them, the page cache may have them marked as stored, and no sync would ever
    /// store them. Source: "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
    fn write_again(&mut self) -> Result<(), Fault> {
        let mut left = REWRITTEN_BYTES_MAX;
        for block in self.unproven.iter().rev() {
            let bytes = pages(BLOCK_HEAD as u64 + u64::from(block.record_bytes));
            if bytes > left {
                break;
            }
            left -= bytes;
            let source = Source::whole(&block.segment);
            let whole = self.reader.view(source, block.offset, size(bytes))?;
            block.segment.handle.write(whole, block.offset)?;
        }
        Ok(())
    }

    /// The block at this offset, if it is there, whole, and the next one of the log.
    fn block(&mut self, segment: &Arc<Segment>, offset: u64) -> Result<Option<BlockHead>, Fault> {
        if offset + PAGE as u64 > segment.bytes {
            return Ok(None);
        }
        let Some((head, crc)) = self.head(segment, offset)? else { return Ok(None) };
        let follows = self.next.is_none_or(|next| next == head.first)
            && self.previous.is_none_or(|previous| previous == head.previous)
            && head.incarnation >= self.incarnation
            && offset + head.extent() <= segment.bytes
            && !self.is_superseded(&head);
        if !follows || !self.is_whole(segment, offset, &head)? {
            return Ok(None);
        }
        self.previous = Some(crc);
        Ok(Some(head))
    }

    fn head(&mut self, segment: &Segment, offset: u64) -> Result<Option<(BlockHead, u32)>, Fault> {
        let bytes = self.reader.view(Source::whole(segment), offset, BLOCK_HEAD)?;
        Ok(BlockHead::decode(bytes, segment.salt, segment.sequence))
    }

    /// Whether it is what an unfinished write left of a block: an earlier recovery cut it off, and
    /// the log went on in the next segment, for lack of room in this one. Nothing has verified its
    /// records if a checkpoint has made them history since.
    fn is_superseded(&self, head: &BlockHead) -> bool {
        self.heir.as_ref().is_some_and(|heir| {
            heir.first == head.first
                && heir.previous == head.previous
                && heir.incarnation > head.incarnation
        })
    }

    /// Verifies the records, unless the checkpoint makes them history: those are verified when
    /// they are read.
    fn is_whole(
        &mut self,
        segment: &Segment,
        offset: u64,
        head: &BlockHead,
    ) -> Result<bool, Fault> {
        if self.floor.is_some_and(|floor| head.end() <= floor) {
            return Ok(true);
        }
        let at = offset + BLOCK_HEAD as u64;
        let bytes = size(u64::from(head.record_bytes));
        let mut rest = self.reader.view(Source::whole(segment), at, bytes)?;
        let (mut lsn, mut records, mut body, mut has_more) = (head.first, 0_u32, 0, false);
        while let Some((frame, after)) = Frame::parse(lsn, rest) {
            if !frame.is_good() {
                return Ok(false);
            }
            body = crc32c::crc32c_append(body, &frame.head.crc.to_le_bytes());
            has_more = frame.has_more();
            lsn = lsn.plus(frame.head.frame());
            records += 1;
            rest = after;
        }
        if lsn != head.end() || records != head.records || body != head.body_crc {
            return Ok(false);
        }
        if has_more {
            let detail = "the last group of a block has no end";
            return Err(segment.handle.damaged(offset, head.first, detail));
        }
        Ok(true)
    }

    /// The log must reach back to the checkpoint, or to its beginning.
    fn check_start(&mut self, segments: &[Arc<Segment>]) -> Result<(), Fault> {
        let Some(oldest) = segments.first() else { return Ok(()) };
        let floor = self.floor.unwrap_or_default();
        let start = match self.places.ring_start() {
            Some(start) => start,
            // Blocks without records, or no block at all.
            None => self.next.unwrap_or_default(),
        };
        if start > floor {
            let detail = "the log does not reach back to the checkpoint";
            return Err(oldest.handle.damaged(PAGE as u64, floor, detail));
        }
        Ok(())
    }

    fn check_end(&mut self, segments: &[Arc<Segment>], last: (usize, u64)) -> Result<(), Fault> {
        let end = self.next.unwrap_or_default();
        let (index, offset) = last;
        let Some(segment) = segments.get(index) else { return Ok(()) };
        if self.has_witness(segment, offset, end)? {
            let detail = "a block is gone although later ones are there";
            return Err(segment.handle.damaged(offset, end, detail));
        }
        self.check_later(segments.get(index..).unwrap_or_default(), offset, end)?;
        if self.floor.is_some_and(|floor| floor > end) {
            let detail = "the log ends before the checkpoint";
            return Err(segment.handle.damaged(offset, end, detail));
        }
        if self.is_torn {
            tracing::warn!(
                file = %segment.handle.path.display(), offset, %end,
                "cut an unfinished write off the end of the log"
            );
        }
        Ok(())
    }

    /// Looks at what stands behind the segment in which the log seems to end. The first of those
    /// is searched whole: its own first block may be the one that is damaged.
    fn check_later(
        &mut self,
        segments: &[Arc<Segment>],
        offset: u64,
        end: Lsn,
    ) -> Result<(), Fault> {
        let Some((last, later)) = segments.split_first() else { return Ok(()) };
        for (nth, segment) in later.iter().enumerate() {
            let head = self.head(segment, PAGE as u64)?;
            if head.is_some_and(|(head, _)| head.stable > end) {
                let detail = "blocks at the end are gone although a later segment goes on";
                return Err(last.handle.damaged(offset, end, detail));
            }
            if nth == 0 && self.has_witness(segment, PAGE as u64, end)? {
                let detail = "the first block is gone although later ones are there";
                return Err(segment.handle.damaged(PAGE as u64, end, detail));
            }
        }
        Ok(())
    }

    /// Whether a block behind `offset` proves that durable ones before it are missing.
    fn has_witness(&mut self, segment: &Segment, mut offset: u64, end: Lsn) -> Result<bool, Fault> {
        while offset < segment.bytes {
            let step = size(segment.bytes - offset).min(WITNESS_STEP);
            let bytes = self.reader.view(Source::whole(segment), offset, step)?;
            for page in bytes.chunks(PAGE) {
                let head = BlockHead::decode(page, segment.salt, segment.sequence);
                if let Some((head, _)) = head {
                    // A block in the place of the next one, but torn.
                    self.is_torn |= head.first == end;
                    if head.stable > end {
                        return Ok(true);
                    }
                }
            }
            offset += step as u64;
        }
        Ok(false)
    }
}
