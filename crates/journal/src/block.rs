//! [`Block`]: the buffer that becomes one block on disk and then part of the tail cache.
//!
//! Lives here: appending records without allocation, groups, sealing; the pool that recycles
//! buffers. Not here: where a block goes (`ring.rs`) and writing it (`commit.rs`). `journal.rs`
//! owns the open block.

use model::Lsn;

use crate::layout::{BLOCK_HEAD, BlockHead, RecordHead, pages, seal_records, size};

/// First size of a buffer; small, so that an idle journal is small.
const BUFFER_BYTES: usize = 64 * 1024;
/// Buffers kept for reuse.
const POOL_MAX: usize = 8;
/// Bytes kept for reuse.
const POOL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A run of whole groups at consecutive positions.
#[derive(Debug)]
pub(crate) struct Block {
    /// Room for the head, then records; padded to whole pages once sealed.
    bytes: Vec<u8>,
    pub(crate) first: Lsn,
    pub(crate) record_bytes: usize,
    records: u32,
    /// Where the unfinished group starts in `bytes`, and the record count before it.
    group: Option<(usize, u32)>,
}

impl Block {
    pub(crate) fn new(mut buffer: Vec<u8>, first: Lsn) -> Self {
        buffer.clear();
        buffer.resize(BLOCK_HEAD, 0);
        Self { bytes: buffer, first, record_bytes: 0, records: 0, group: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether the last group still waits for its end.
    pub(crate) fn is_in_group(&self) -> bool {
        self.group.is_some()
    }

    /// Position after the last record.
    pub(crate) fn end(&self) -> Lsn {
        self.first.plus(self.record_bytes as u64)
    }

    /// Bytes of the unfinished group.
    pub(crate) fn group_bytes(&self) -> usize {
        self.group.map_or(0, |(start, _)| self.bytes.len().saturating_sub(start))
    }

    /// Adds a record; the checksum is filled in by [`Block::seal`].
    pub(crate) fn push(&mut self, head: RecordHead, parts: &[&[u8]], has_more: bool) {
        if has_more && self.group.is_none() {
            self.group = Some((self.bytes.len(), self.records));
        }
        self.bytes.extend_from_slice(&head.encode());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.record_bytes = self.bytes.len() - BLOCK_HEAD;
        self.records = self.records.saturating_add(1);
        if !has_more {
            self.group = None;
        }
    }

    /// Takes the unfinished group back out.
    pub(crate) fn drop_group(&mut self) {
        if let Some((start, records)) = self.group.take() {
            self.bytes.truncate(start);
            self.record_bytes = self.bytes.len() - BLOCK_HEAD;
            self.records = records;
        }
    }

    /// Moves the unfinished group into a block of its own.
    pub(crate) fn split_group(&mut self, buffer: Vec<u8>) -> Self {
        let (start, before) = self.group.unwrap_or((self.bytes.len(), self.records));
        let lsn = self.first.plus((start - BLOCK_HEAD) as u64);
        let records = self.records.saturating_sub(before);
        let mut next = Self::new(buffer, lsn);
        next.bytes.extend_from_slice(self.bytes.get(start..).unwrap_or_default());
        next.record_bytes = next.bytes.len() - BLOCK_HEAD;
        next.records = records;
        next.group = self.group.map(|_| (BLOCK_HEAD, 0));
        self.drop_group();
        next
    }

    /// Bytes this block takes in a segment.
    pub(crate) fn extent(&self) -> u64 {
        pages((BLOCK_HEAD + self.record_bytes) as u64)
    }

    /// Fills in every checksum and the padding; returns the checksum the next block chains to.
    pub(crate) fn seal(&mut self, chain: Chain) -> u32 {
        let end = BLOCK_HEAD + self.record_bytes;
        let padded = size(self.extent()).max(end);
        // Exactly: doubling a large buffer for a few bytes of padding would be a waste.
        self.bytes.reserve_exact(padded.saturating_sub(self.bytes.len()));
        self.bytes.resize(padded, 0);
        let records = self.bytes.get_mut(BLOCK_HEAD..end).unwrap_or_default();
        let body_crc = seal_records(records, self.first);
        let head = BlockHead {
            sequence: chain.sequence,
            first: self.first,
            stable: chain.stable,
            record_bytes: u32::try_from(self.record_bytes).unwrap_or(u32::MAX),
            records: self.records,
            body_crc,
            previous: chain.previous,
            incarnation: chain.incarnation,
        };
        let (bytes, crc) = head.encode(chain.salt);
        if let Some(place) = self.bytes.first_chunk_mut::<BLOCK_HEAD>() {
            *place = bytes;
        }
        crc
    }

    /// The whole block as it goes to disk; only right after [`Block::seal`].
    pub(crate) fn sealed(&self) -> &[u8] {
        &self.bytes
    }

    /// The records.
    pub(crate) fn body(&self) -> &[u8] {
        self.bytes.get(BLOCK_HEAD..BLOCK_HEAD + self.record_bytes).unwrap_or_default()
    }

    /// Bytes of memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// What ties a block to its segment and to the block before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
    pub(crate) stable: Lsn,
    pub(crate) previous: u32,
    pub(crate) incarnation: u64,
}

/// Buffers for reuse: touching fresh memory costs more than filling it.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pool {
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(buffer.capacity());
        if buffer.capacity() == 0 { Vec::with_capacity(BUFFER_BYTES) } else { buffer }
    }

    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        let bytes = self.bytes.saturating_add(buffer.capacity());
        if self.buffers.len() < POOL_MAX && bytes <= POOL_BYTES_MAX {
            self.bytes = bytes;
            self.buffers.push(buffer);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
