//! [`Tail`]: the newest committed records in memory, for deliveries that follow at once.
//!
//! Lives here: chunks of record bytes at consecutive positions, lookup, eviction. Not here: cold
//! records (`reader.rs`). `journal.rs` feeds it with completed blocks.

use std::collections::VecDeque;

use model::Lsn;

use crate::block::{Block, Pool};
use crate::layout::Frame;
use crate::record::RecordRef;

/// A block smaller than this share of its buffer is copied, so that memory holds records, not air.
const KEEP_SHARE: usize = 2;

/// See the module's head. Chunks are in order of position and never overlap.
#[derive(Debug)]
pub(crate) struct Tail {
    chunks: VecDeque<Chunk>,
    /// Memory held by the chunks.
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
enum Chunk {
    /// A block as it came back from the commit thread.
    Whole(Block),
    /// Bodies of several small blocks.
    Gathered { first: Lsn, bytes: Vec<u8> },
}

impl Chunk {
    fn first(&self) -> Lsn {
        match self {
            Self::Whole(block) => block.first,
            Self::Gathered { first, .. } => *first,
        }
    }

    fn body(&self) -> &[u8] {
        match self {
            Self::Whole(block) => block.body(),
            Self::Gathered { bytes, .. } => bytes,
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Whole(block) => block.capacity(),
            Self::Gathered { bytes, .. } => bytes.capacity(),
        }
    }

    fn into_buffer(self) -> Vec<u8> {
        match self {
            Self::Whole(block) => block.into_buffer(),
            Self::Gathered { bytes, .. } => bytes,
        }
    }
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a completed block in; what becomes free goes to the pool.
    pub(crate) fn push(&mut self, block: Block, pool: &mut Pool) {
        if block.is_empty() {
            pool.give(block.into_buffer());
        } else if block.record_bytes.saturating_mul(KEEP_SHARE) >= block.capacity() {
            self.insert(Chunk::Whole(block));
        } else {
            self.gather(&block, pool);
            pool.give(block.into_buffer());
        }
        while self.bytes > self.bytes_max
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(chunk.capacity());
            pool.give(chunk.into_buffer());
        }
    }

    fn insert(&mut self, chunk: Chunk) {
        self.bytes = self.bytes.saturating_add(chunk.capacity());
        self.chunks.push_back(chunk);
    }

    fn gather(&mut self, block: &Block, pool: &mut Pool) {
        if let Some(Chunk::Gathered { first, bytes }) = self.chunks.back_mut()
            && bytes.capacity() - bytes.len() >= block.record_bytes
            && first.plus(bytes.len() as u64) == block.first
        {
            bytes.extend_from_slice(block.body());
            return;
        }
        let mut bytes = pool.take();
        bytes.clear();
        bytes.extend_from_slice(block.body());
        self.insert(Chunk::Gathered { first: block.first, bytes });
    }

    /// The record at this position if it is still here.
    pub(crate) fn get(&self, lsn: Lsn) -> Option<RecordRef<'_>> {
        let after = self.chunks.partition_point(|chunk| chunk.first() <= lsn);
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        let offset = usize::try_from(lsn.0.checked_sub(chunk.first().0)?).ok()?;
        let (frame, _) = Frame::parse(lsn, chunk.body().get(offset..)?)?;
        Some(RecordRef { lsn, kind: frame.head.kind, payload: frame.payload })
    }

    /// Gives memory back, oldest records first, until at most `keep` bytes are held.
    pub(crate) fn shrink(&mut self, keep: usize) {
        while self.bytes > keep
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(chunk.capacity());
        }
        self.chunks.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::RecordHead;

    fn block(first: Lsn, payload: usize, pool: &mut Pool) -> Block {
        let mut block = Block::new(pool.take(), first);
        let bytes = vec![u8::try_from(payload % 256).unwrap(); payload];
        let size = u32::try_from(payload).unwrap();
        let head = RecordHead { payload: size, crc: 0, kind: 1, flags: 0 };
        block.push(head, &[&bytes], false);
        block
    }

    #[test]
    fn small_blocks_share_memory_and_old_ones_make_room() {
        let (mut tail, mut pool) = (Tail::new(300_000), Pool::default());
        let mut positions = Vec::new();
        let mut next = Lsn::ZERO;
        for number in 0..500 {
            let block = block(next, 900 + number, &mut pool);
            positions.push((next, 900 + number));
            next = block.end();
            tail.push(block, &mut pool);
            assert!(tail.bytes() <= 300_000);
        }
        let held = positions.iter().filter(|(lsn, _)| tail.get(*lsn).is_some()).count();
        assert!(held > 150, "{held} records of about 1 KiB in 300 kB");
        for (lsn, payload) in positions.iter().rev().take(held) {
            assert_eq!(tail.get(*lsn).unwrap().payload.len(), *payload);
        }
        assert!(tail.get(positions[0].0).is_none() && tail.get(next).is_none());
        tail.shrink(0);
        assert_eq!(tail.bytes(), 0);
    }

    #[test]
    fn large_blocks_are_kept_as_they_are() {
        let (mut tail, mut pool) = (Tail::new(1 << 20), Pool::default());
        let large = block(Lsn(5), 200_000, &mut pool);
        let end = large.end();
        tail.push(large, &mut pool);
        tail.push(block(end, 10, &mut pool), &mut pool);
        assert_eq!(tail.get(Lsn(5)).unwrap().payload.len(), 200_000);
        assert_eq!(tail.get(end).unwrap().payload, [10; 10]);
    }
}
