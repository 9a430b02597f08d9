//! A first-in-first-out line of messages: dense numbers, sealed chunks of delta-coded entries, and
//! the few entries that came back. What an entry means to a queue is `queue.rs`; the coding of an
//! entry is [`chunk`].
//!
//! Every entry gets the next number (`seq`) when it is pushed. The cursor stands before the first
//! entry that was never taken; entries that came back (`returned`) are all older, so ready order
//! is `returned` first, then from the cursor on. That puts a returned message back into its place.
//! An entry that was taken from behind the cursor, by its number, is only marked ([`gone`]).

mod chunk;
mod gone;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use model::Lsn;

pub(crate) use chunk::{Chunk, Coder, put_varint, take_varint};
pub(crate) use gone::Gone;

/// Entries in a sealed chunk.
pub(crate) const CHUNK_ENTRIES: u16 = 1024;
/// An entry so near to the cursor is taken by walking there, one further away by marking it: a walk
/// moves what it passes to those that came back, which costs memory; a mark costs time.
const NEAR: u64 = 4 * CHUNK_ENTRIES as u64;
/// "Never" as the time when an entry expires.
pub(crate) const NEVER: u64 = u64::MAX;

/// Where the message of an entry is stored.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// A record of the log.
    Log(Lsn),
    /// In memory; shared by all queues that hold it.
    Memory(Arc<[u8]>),
}

impl Stored {
    /// The record, if there is one.
    pub(crate) fn lsn(&self) -> Option<Lsn> {
        if let Self::Log(lsn) = *self { Some(lsn) } else { None }
    }
}

/// One queued message by reference.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where it is.
    pub stored: Stored,
    /// Milliseconds since 1970, or [`NEVER`].
    pub expires: u64,
    /// Bytes of the body.
    pub body: u32,
    /// Bytes of the stored record before the body.
    pub head: u32,
    /// How often it came back unsettled. Persisted through `Return` records.
    pub returns: u32,
    /// How many seconds a claim of it lasts; 0 is as long as the claiming session.
    pub lease_s: u32,
}

impl Entry {
    /// Bytes of the stored record.
    pub(crate) fn record_bytes(&self) -> u64 {
        u64::from(self.body) + u64::from(self.head)
    }
}

/// One line. All fields but the redelivery mark are durable for durable queues.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    /// Sealed chunks that are not wholly taken; the cursor is in the first.
    chunks: VecDeque<Chunk>,
    /// Entries behind the sealed chunks, still growing.
    tail: Vec<u8>,
    tail_coder: Coder,
    tail_count: u16,
    tail_bounds: Bounds,
    /// Entries of volatile queues, untaken; then chunks and tail stay empty.
    memory: VecDeque<Entry>,
    /// Number of the next entry to come.
    next_seq: u64,
    /// Number of the first entry never taken.
    cursor_seq: u64,
    /// Byte offset of that entry in the first chunk (or in the tail), and the decoder's state.
    cursor_at: usize,
    cursor_coder: Coder,
    returned: BTreeMap<u64, Entry>,
    /// Entries behind the cursor that are not in the line any more; never the one at the cursor.
    gone: Gone,
    /// Entries below were there at the last start and may have been delivered before it.
    redelivered_below: u64,
}

/// Lowest and highest log position of a run of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub low: u64,
    pub high: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { low: u64::MAX, high: 0 }
    }
}

impl Bounds {
    fn include(&mut self, lsn: Lsn) {
        self.low = self.low.min(lsn.0);
        self.high = self.high.max(lsn.0);
    }

    fn touches(self, range: &Range<Lsn>) -> bool {
        self.low < range.end.0 && self.high >= range.start.0
    }
}

/// An entry taken from the line.
#[derive(Debug)]
pub(crate) struct Taken {
    pub seq: u64,
    pub is_redelivered: bool,
    pub entry: Entry,
}

impl Fifo {
    /// Appends an entry and returns its number.
    pub(crate) fn push(&mut self, entry: Entry) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        let Stored::Log(lsn) = entry.stored else {
            self.memory.push_back(entry);
            return seq;
        };
        self.tail_coder.encode(&mut self.tail, lsn, &entry);
        self.tail_count += 1;
        self.tail_bounds.include(lsn);
        if self.tail_count == CHUNK_ENTRIES {
            self.seal();
        }
        seq
    }

    /// Closes the tail; the cursor keeps its offset when it was in it.
    fn seal(&mut self) {
        let bytes: Arc<[u8]> = self.tail.as_slice().into();
        self.chunks.push_back(Chunk {
            bytes,
            count: self.tail_count,
            first_seq: self.next_seq - u64::from(self.tail_count),
            bounds: self.tail_bounds,
        });
        self.tail.clear();
        self.reset_tail();
    }

    fn reset_tail(&mut self) {
        self.tail_coder = Coder::default();
        self.tail_count = 0;
        self.tail_bounds = Bounds::default();
    }

    /// The first ready entry without taking it.
    pub(crate) fn peek(&self) -> Option<Entry> {
        if let Some(entry) = self.returned.values().next() {
            return Some(entry.clone());
        }
        if let Some(entry) = self.memory.front() {
            return Some(entry.clone());
        }
        self.cursor_coder.clone().decode(self.cursor_bytes()?).map(|(entry, _)| entry)
    }

    /// Takes the first ready entry.
    pub(crate) fn pop(&mut self) -> Option<Taken> {
        if let Some((seq, entry)) = self.returned.pop_first() {
            return Some(Taken { seq, is_redelivered: true, entry });
        }
        let (seq, entry) = self.advance()?;
        Some(Taken { seq, is_redelivered: seq < self.redelivered_below, entry })
    }

    /// Whether nothing is ready.
    pub(crate) fn is_empty(&self) -> bool {
        self.returned.is_empty() && self.cursor_seq == self.next_seq
    }

    /// How many are ready.
    pub(crate) fn ready(&self) -> u64 {
        self.returned.len() as u64 + (self.next_seq - self.cursor_seq) - self.gone.total()
    }

    fn cursor_bytes(&self) -> Option<&[u8]> {
        let bytes = self.chunks.front().map_or(self.tail.as_slice(), |chunk| &chunk.bytes);
        bytes.get(self.cursor_at..).filter(|rest| !rest.is_empty())
    }

    /// Takes the entry at the cursor, which then stands before the next one that is there.
    fn advance(&mut self) -> Option<(u64, Entry)> {
        let taken = self.step()?;
        if !self.gone.is_empty() {
            self.skip_gone();
        }
        Some(taken)
    }

    fn skip_gone(&mut self) {
        let mut left = self.gone.take_run(self.cursor_seq);
        while left > 0 && self.step().is_some() {
            left -= 1;
        }
    }

    fn step(&mut self) -> Option<(u64, Entry)> {
        let seq = self.cursor_seq;
        if let Some(entry) = self.memory.pop_front() {
            self.cursor_seq += 1;
            return Some((seq, entry));
        }
        let mut coder = self.cursor_coder.clone();
        let (entry, length) = coder.decode(self.cursor_bytes()?)?;
        self.cursor_coder = coder;
        self.cursor_at += length;
        self.cursor_seq += 1;
        if let Some(chunk) = self.chunks.front() {
            if self.cursor_at == chunk.bytes.len() {
                self.chunks.pop_front();
                self.rewind();
            }
        } else if self.cursor_at == self.tail.len() {
            self.tail.clear();
            self.reset_tail();
            self.rewind();
        }
        Some((seq, entry))
    }

    fn rewind(&mut self) {
        self.cursor_at = 0;
        self.cursor_coder = Coder::default();
    }

    /// Puts a taken entry back into its place.
    pub(crate) fn put_back(&mut self, seq: u64, entry: Entry) {
        debug_assert!(seq < self.cursor_seq, "only a taken entry can come back");
        self.returned.insert(seq, entry);
    }

    /// Takes the entry with this number wherever it stands, to be put back later perhaps: entries
    /// before it that were never taken move to those that came back. `None` when it is not in the
    /// line (any more).
    pub(crate) fn take(&mut self, seq: u64) -> Option<Entry> {
        if seq >= self.next_seq || self.gone.contains(seq) {
            return None;
        }
        while self.cursor_seq < seq {
            let (before, entry) = self.advance()?;
            self.returned.insert(before, entry);
        }
        if self.cursor_seq == seq {
            return self.advance().map(|(_, entry)| entry);
        }
        self.returned.remove(&seq)
    }

    /// As [`Fifo::take`], for good; one that is far from the cursor is only marked.
    pub(crate) fn take_for_good(&mut self, seq: u64) -> Option<Entry> {
        let is_near = seq.saturating_sub(self.cursor_seq) < NEAR;
        if is_near { self.take(seq) } else { self.remove(seq) }
    }

    /// Takes the entry with this number and leaves the others where they are. It does not come
    /// back to this line, unless the cursor has passed it meanwhile.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<Entry> {
        if seq < self.cursor_seq {
            return self.returned.remove(&seq);
        }
        if seq == self.cursor_seq {
            return self.advance().map(|(_, entry)| entry);
        }
        let entry = self.get(seq)?;
        self.gone.insert(seq);
        Some(entry)
    }

    /// The entry with this number, if it is ready.
    pub(crate) fn get(&self, seq: u64) -> Option<Entry> {
        if seq < self.cursor_seq {
            return self.returned.get(&seq).cloned();
        }
        if seq >= self.next_seq || self.gone.contains(seq) {
            return None;
        }
        if !self.memory.is_empty() {
            return self.memory.get(usize::try_from(seq - self.cursor_seq).ok()?).cloned();
        }
        let after = self.chunks.partition_point(|chunk| chunk.first_seq <= seq);
        let chunk = after.checked_sub(1).and_then(|index| self.chunks.get(index));
        let chunk = chunk.filter(|chunk| seq - chunk.first_seq < u64::from(chunk.count));
        let (bytes, first) = match chunk {
            Some(chunk) => (&*chunk.bytes, chunk.first_seq),
            None => (self.tail.as_slice(), self.next_seq - u64::from(self.tail_count)),
        };
        let (mut coder, mut rest) = (Coder::default(), bytes);
        for _ in first..seq {
            let (_, length) = coder.decode(rest)?;
            rest = rest.get(length..)?;
        }
        coder.decode(rest).map(|(entry, _)| entry)
    }

    /// The number of the ready entry whose message stands at this position of the log.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<u64> {
        let is_it = |entry: &Entry| entry.stored.lsn() == Some(lsn);
        if let Some((seq, _)) = self.returned.iter().find(|(_, entry)| is_it(entry)) {
            return Some(*seq);
        }
        let mut found = None;
        self.scan(&(lsn..lsn.plus(1)), &mut |seq, entry| {
            if is_it(entry) {
                found = Some(seq);
            }
        });
        found
    }

    /// Number of the next entry to come.
    pub(crate) const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Everything ready was there at the last start.
    pub(crate) fn mark_redelivered(&mut self) {
        self.redelivered_below = self.next_seq;
    }

    /// The numbers of all ready entries as runs, oldest first.
    pub(crate) fn ready_runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for seq in self.returned.keys() {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == *seq => *count += 1,
                _ => runs.push((*seq, 1)),
            }
        }
        let mut first = self.cursor_seq;
        for (gone, count) in self.gone.runs() {
            runs.push((first, gone - first));
            first = gone + count;
        }
        if first < self.next_seq {
            runs.push((first, self.next_seq - first));
        }
        runs
    }

    /// Visits every ready entry in order.
    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(u64, &Entry)) {
        for (seq, entry) in &self.returned {
            visit(*seq, entry);
        }
        for (seq, entry) in (self.cursor_seq..).zip(&self.memory) {
            visit(seq, entry);
        }
        self.scan(&(Lsn::ZERO..Lsn(u64::MAX)), visit);
    }

    /// Visits the stored entries from the cursor on, leaving out chunks that have nothing inside
    /// `range`.
    fn scan(&self, range: &Range<Lsn>, visit: &mut dyn FnMut(u64, &Entry)) {
        let mut coder = self.cursor_coder.clone();
        let mut at = self.cursor_at;
        let mut seq = self.cursor_seq;
        let sealed = self
            .chunks
            .iter()
            .map(|chunk| (&*chunk.bytes, chunk.bounds, chunk.first_seq + u64::from(chunk.count)));
        for (bytes, bounds, end) in
            sealed.chain([(self.tail.as_slice(), self.tail_bounds, self.next_seq)])
        {
            let mut rest = bytes.get(at..).unwrap_or_default();
            let is_wanted = bounds.touches(range);
            while is_wanted && let Some((entry, length)) = coder.decode(rest) {
                if self.gone.is_empty() || !self.gone.contains(seq) {
                    visit(seq, &entry);
                }
                seq += 1;
                rest = rest.get(length..).unwrap_or_default();
            }
            seq = end;
            coder = Coder::default();
            at = 0;
        }
    }

    /// Collects the positions of ready entries inside `range`, in no order.
    pub(crate) fn live(&self, range: &Range<Lsn>, out: &mut Vec<Lsn>) {
        let back = self.returned.values().filter_map(|entry| entry.stored.lsn());
        out.extend(back.filter(|lsn| range.contains(lsn)));
        self.scan(range, &mut |_, entry| {
            out.extend(entry.stored.lsn().filter(|lsn| range.contains(lsn)));
        });
    }

    /// What a snapshot needs; sealed chunks are shared, not copied.
    pub(crate) fn freeze(&self) -> Frozen {
        let mut chunks: Vec<Chunk> = self.chunks.iter().cloned().collect();
        if self.tail_count > 0 {
            chunks.push(Chunk {
                bytes: self.tail.as_slice().into(),
                count: self.tail_count,
                first_seq: self.next_seq - u64::from(self.tail_count),
                bounds: self.tail_bounds,
            });
        }
        Frozen {
            chunks,
            next_seq: self.next_seq,
            cursor_seq: self.cursor_seq,
            gone: self.gone.clone(),
            extras: self.returned.iter().map(|(seq, entry)| (*seq, entry.clone())).collect(),
        }
    }

    /// The opposite of [`Fifo::freeze`]. `None` when the parts do not fit together.
    pub(crate) fn thaw(frozen: Frozen) -> Option<Self> {
        let first = frozen.chunks.first().map_or(frozen.next_seq, |chunk| chunk.first_seq);
        let mut line = Self {
            chunks: frozen.chunks.into(),
            next_seq: frozen.next_seq,
            cursor_seq: first,
            returned: frozen.extras.into_iter().collect(),
            ..Self::default()
        };
        while line.cursor_seq < frozen.cursor_seq {
            line.step()?;
        }
        line.gone = frozen.gone;
        line.skip_gone();
        Some(line)
    }
}

/// The durable content of a line.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub chunks: Vec<Chunk>,
    pub next_seq: u64,
    pub cursor_seq: u64,
    /// Entries behind the cursor that do not belong to the queue any more.
    pub gone: Gone,
    /// Entries before the cursor that still belong to the queue: returned, unsettled, condemned.
    pub extras: Vec<(u64, Entry)>,
}

impl Frozen {
    /// Adds an entry that is out of the line for now but still belongs to it. One that was taken
    /// from behind the cursor comes back as it is stored.
    pub(crate) fn add(&mut self, seq: u64, entry: Entry) {
        if seq < self.cursor_seq {
            self.extras.push((seq, entry));
        } else {
            debug_assert_eq!(entry.returns, 0, "only what is as it is stored stays behind");
            self.gone.remove(seq);
        }
    }

    /// How many entries belong to the line.
    pub(crate) fn count(&self) -> u64 {
        let fresh = self.next_seq.saturating_sub(self.cursor_seq);
        fresh.saturating_sub(self.gone.total()).saturating_add(self.extras.len() as u64)
    }

    /// Visits the entries of one of the chunks from the cursor on, in order.
    pub(crate) fn visit_chunk(&self, chunk: &Chunk, visit: &mut dyn FnMut(u64, &Entry)) {
        let (mut coder, mut rest, mut seq) = (Coder::default(), &*chunk.bytes, chunk.first_seq);
        while let Some((entry, length)) = coder.decode(rest) {
            if seq >= self.cursor_seq && !self.gone.contains(seq) {
                visit(seq, &entry);
            }
            seq += 1;
            rest = rest.get(length..).unwrap_or_default();
        }
    }

    /// Collects the positions of all entries inside `range`, in no order.
    pub(crate) fn live(&self, range: &Range<Lsn>, out: &mut Vec<Lsn>) {
        let mut note = |entry: &Entry| {
            out.extend(entry.stored.lsn().filter(|lsn| range.contains(lsn)));
        };
        self.extras.iter().for_each(|(_, entry)| note(entry));
        for chunk in self.chunks.iter().filter(|chunk| chunk.bounds.touches(range)) {
            self.visit_chunk(chunk, &mut |_, entry| note(entry));
        }
    }
}

#[cfg(test)]
mod tests;
