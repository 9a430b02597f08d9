//! [`Reader`]: reads records from files through a few windows that read ahead.
//!
//! Lives here: windows, finding an entry in a survivor file, verifying every checksum. Not here:
//! where a record is (`places.rs`). The background worker and recovery own one each.

use std::ops::Range;
use std::sync::Arc;

use model::Lsn;

use crate::fault::Fault;
use crate::files::Handle;
use crate::layout::{Frame, RECORD_HEAD, RecordHead, size};
use crate::places::Place;
use crate::segment::Segment;
use crate::survivor::Survivor;

/// How far a sequential reader reads ahead.
const WINDOW_BYTES: usize = 256 * 1024;
/// The first read at a new spot.
const FIRST_BYTES: usize = 16 * 1024;
/// Spots that are followed at the same time.
const WINDOWS: usize = 4;
/// Bytes before the frame in a survivor entry.
const ENTRY_HEAD: u64 = 8;
/// Marks window keys of survivor files.
const SURVIVOR_KEY: u64 = 1 << 63;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    windows: Vec<Window>,
    /// Counts uses, to find the least recently used window.
    uses: u64,
}

/// A file to be read, and how far: what stands behind `end` may still change, so no window may
/// keep it. (Behind the end of a log that was cut, records of the time before may stand at the
/// very positions that are given out again, and would verify.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    /// Tells the windows of one file from those of another.
    pub(crate) key: u64,
    pub(crate) handle: &'a Handle,
    pub(crate) end: u64,
}

impl<'a> Source<'a> {
    /// The blocks of a segment that count.
    pub(crate) fn written(segment: &'a Segment) -> Self {
        Self { key: segment.sequence, handle: &segment.handle, end: segment.written() }
    }

    /// All of a segment, for those who judge what counts.
    pub(crate) fn whole(segment: &'a Segment) -> Self {
        Self { key: segment.sequence, handle: &segment.handle, end: segment.bytes }
    }

    /// The entries of a survivor file.
    fn survivor(survivor: &'a Survivor) -> Self {
        let key = SURVIVOR_KEY | survivor.generation;
        Self { key, handle: &survivor.handle, end: survivor.end }
    }
}

/// A part of a file in memory.
#[derive(Debug, Default)]
struct Window {
    /// Which file: the segment's sequence number or the survivor's generation, marked.
    key: u64,
    start: u64,
    /// How many of `bytes` are the file's.
    filled: usize,
    bytes: Vec<u8>,
    last_use: u64,
    /// In a survivor file: the last entry read here and the offset after it.
    cursor: Option<(Lsn, u64)>,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.filled as u64
    }

    fn covers(&self, key: u64, offset: u64, len: usize) -> bool {
        self.key == key && self.start <= offset && offset + len as u64 <= self.end()
    }

    fn load(&mut self, file: Source<'_>, offset: u64, len: usize) -> Result<(), Fault> {
        let len = len.min(size(file.end.saturating_sub(offset)));
        if self.bytes.len() < len || self.bytes.len() > len.max(WINDOW_BYTES) {
            self.bytes.resize(len, 0);
            self.bytes.shrink_to(WINDOW_BYTES);
        }
        self.start = offset;
        self.filled = 0;
        self.filled = file.handle.read(self.bytes.get_mut(..len).unwrap_or_default(), offset)?;
        Ok(())
    }
}

impl Reader {
    /// `len` bytes of the file; fewer only at its end.
    pub(crate) fn view(
        &mut self,
        file: Source<'_>,
        offset: u64,
        len: usize,
    ) -> Result<&[u8], Fault> {
        let slot = self.slot(file, offset, len)?;
        let Some(window) = self.windows.get(slot) else { return Ok(&[]) };
        let from = size(offset - window.start);
        let until = from.saturating_add(len).min(window.filled);
        Ok(window.bytes.get(from..until).unwrap_or_default())
    }

    /// The window that has these bytes, loaded if need be.
    fn slot(&mut self, file: Source<'_>, offset: u64, len: usize) -> Result<usize, Fault> {
        self.uses += 1;
        let (uses, key) = (self.uses, file.key);
        let covering = self.windows.iter().position(|window| window.covers(key, offset, len));
        if let Some(slot) = covering {
            if let Some(window) = self.windows.get_mut(slot) {
                window.last_use = uses;
            }
            return Ok(slot);
        }
        let goes_on = |window: &Window| {
            let reach = window.end() + FIRST_BYTES as u64;
            window.key == key && window.start <= offset && offset <= reach && window.filled > 0
        };
        let continued = self.windows.iter().position(goes_on);
        let slot = continued.unwrap_or_else(|| self.oldest());
        let Some(window) = self.windows.get_mut(slot) else { return Ok(slot) };
        let ahead = if continued.is_some() { window.filled.max(FIRST_BYTES) * 4 } else { 0 };
        if continued.is_none() {
            window.cursor = None;
        }
        window.key = key;
        window.last_use = uses;
        window.load(file, offset, ahead.clamp(FIRST_BYTES, WINDOW_BYTES).max(len))?;
        Ok(slot)
    }

    /// A new window while there are few, else the least recently used one.
    fn oldest(&mut self) -> usize {
        if self.windows.len() < WINDOWS {
            self.windows.push(Window::default());
            return self.windows.len() - 1;
        }
        let ages = self.windows.iter().enumerate();
        ages.min_by_key(|(_, window)| window.last_use).map_or(0, |(slot, _)| slot)
    }

    /// Forgets what it has of a file.
    fn forget(&mut self, key: u64) {
        for window in self.windows.iter_mut().filter(|window| window.key == key) {
            window.filled = 0;
            window.cursor = None;
        }
    }

    /// Gives the windows' memory back.
    pub(crate) fn clear(&mut self) {
        self.windows = Vec::new();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// The record at a place, verified; `None` when the place does not hold it.
    pub(crate) fn read(&mut self, lsn: Lsn, place: &Place) -> Result<Option<Frame<'_>>, Fault> {
        match place {
            Place::Ring(segment, offset) => self.read_ring(lsn, segment, *offset).map(Some),
            Place::Survivor(survivor, run) => self.read_survivor(lsn, survivor, run.clone()),
        }
    }

    /// The frame of this position at this place, not verified.
    pub(crate) fn frame(
        &mut self,
        file: Source<'_>,
        lsn: Lsn,
        offset: u64,
    ) -> Result<Option<Frame<'_>>, Fault> {
        self.frame_at(file, lsn, offset..file.end)
    }

    fn read_ring(
        &mut self,
        lsn: Lsn,
        segment: &Arc<Segment>,
        offset: u64,
    ) -> Result<Frame<'_>, Fault> {
        let file = Source::written(segment);
        if !self.is_good_at(file, lsn, offset..file.end)? {
            // Perhaps the window was loaded wrong; the file itself decides.
            self.forget(file.key);
            if !self.is_good_at(file, lsn, offset..file.end)? {
                return Err(file.handle.damaged(offset, lsn, "a record does not verify"));
            }
        }
        let frame = self.frame_at(file, lsn, offset..file.end)?;
        frame.ok_or_else(|| file.handle.damaged(offset, lsn, "a record does not verify"))
    }

    fn is_good_at(&mut self, file: Source<'_>, lsn: Lsn, range: Range<u64>) -> Result<bool, Fault> {
        Ok(self.frame_at(file, lsn, range)?.is_some_and(|frame| frame.is_good()))
    }

    /// The frame that starts at `range.start` and ends before `range.end`, not verified.
    fn frame_at(
        &mut self,
        file: Source<'_>,
        lsn: Lsn,
        range: Range<u64>,
    ) -> Result<Option<Frame<'_>>, Fault> {
        let head = self.view(file, range.start, RECORD_HEAD)?;
        let Some(head) = head.first_chunk::<RECORD_HEAD>() else { return Ok(None) };
        let bytes = RecordHead::decode(*head).frame();
        if range.start.saturating_add(bytes) > range.end {
            return Ok(None);
        }
        let frame = self.view(file, range.start, size(bytes))?;
        Ok(Frame::parse(lsn, frame).map(|(frame, _)| frame))
    }

    fn read_survivor(
        &mut self,
        lsn: Lsn,
        survivor: &Survivor,
        run: Range<u64>,
    ) -> Result<Option<Frame<'_>>, Fault> {
        let file = Source::survivor(survivor);
        let handle = file.handle;
        let mut at = self.resume(file.key, lsn, &run).unwrap_or(run.start);
        while at < run.end {
            let head = self.view(file, at, size(ENTRY_HEAD))?;
            let Some(found) = head.first_chunk::<8>().map(|head| Lsn(u64::from_le_bytes(*head)))
            else {
                return Err(handle.damaged(at, survivor.range.start, "an entry is cut short"));
            };
            let body = at + ENTRY_HEAD;
            let frame = self.frame_at(file, found, body..run.end)?;
            let Some(frame) = frame.filter(Frame::is_good) else {
                return Err(handle.damaged(at, survivor.range.start, "an entry does not verify"));
            };
            let next = body + frame.head.frame();
            self.follow(file.key, at, (found, next));
            if found == lsn {
                return self.frame_at(file, lsn, body..run.end);
            }
            if found > lsn {
                return Ok(None);
            }
            at = next;
        }
        Ok(None)
    }

    /// Where the walk through a run may start because an earlier one ended before `lsn`.
    fn resume(&self, key: u64, lsn: Lsn, run: &Range<u64>) -> Option<u64> {
        let cursors = self.windows.iter().filter(|window| window.key == key);
        let usable = cursors.filter_map(|window| window.cursor);
        let before = usable.filter(|(last, next)| *last < lsn && run.contains(next));
        before.map(|(_, next)| next).max()
    }

    fn follow(&mut self, key: u64, offset: u64, cursor: (Lsn, u64)) {
        let holds = |window: &&mut Window| window.covers(key, offset, 1);
        if let Some(window) = self.windows.iter_mut().find(holds) {
            window.cursor = Some(cursor);
        }
    }
}
