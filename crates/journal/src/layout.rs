//! The persisted bytes: record head, block head, file heads. Drawn here once.
//!
//! Lives here: encoders and decoders of every head, and the checksums. Not here: when they are
//! written or what a failed check means. All integers are little-endian, all checksums CRC-32C.

use model::Lsn;

/// Alignment of everything in a segment.
pub(crate) const PAGE: usize = 4096;
/// The format this build writes; it reads this and older ones.
pub(crate) const VERSION: u32 = 1;
/// Bytes before a record's payload.
pub(crate) const RECORD_HEAD: usize = 10;
/// Bytes before a block's first record.
pub(crate) const BLOCK_HEAD: usize = 64;
/// Bytes of a file head that carry something; the rest of its page is zero.
pub(crate) const FILE_HEAD: usize = 96;
/// Record flag: the next record belongs to the same group.
pub(crate) const FLAG_MORE: u8 = 1;

const BLOCK_MAGIC: u32 = u32::from_le_bytes(*b"PBLK");

/// First eight bytes of a segment file.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"POTGSEGM";
/// First eight bytes of a survivor file.
pub(crate) const SURVIVOR_MAGIC: [u8; 8] = *b"POTGSURV";
/// First eight bytes of a checkpoint.
pub(crate) const CHECKPOINT_MAGIC: [u8; 8] = *b"POTGCHKP";

/// An on-disk size as a memory size; on a 64-bit machine nothing is lost.
pub(crate) fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Rounds up to whole pages.
pub(crate) const fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE as u64).saturating_mul(PAGE as u64)
}

/// A record's head, decoded.
///
/// | offset | size | type | meaning |
/// |---|---|---|---|
/// | 0 | 4 | u32 | payload bytes |
/// | 4 | 4 | u32 | checksum over position (u64), payload bytes (u32), kind, flags, payload |
/// | 8 | 1 | u8 | kind, the owner's |
/// | 9 | 1 | u8 | flags; bit 0: the next record belongs to the same group |
/// | 10 | n | bytes | payload |
///
/// The position in the checksum is the record's own, so bytes read at a wrong place never verify.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordHead {
    pub(crate) payload: u32,
    pub(crate) crc: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
}

#[expect(clippy::many_single_char_names, reason = "bytes of an integer have no better names")]
impl RecordHead {
    pub(crate) fn encode(self) -> [u8; RECORD_HEAD] {
        let [a, b, c, d] = self.payload.to_le_bytes();
        let [e, f, g, h] = self.crc.to_le_bytes();
        [a, b, c, d, e, f, g, h, self.kind, self.flags]
    }

    pub(crate) fn decode(bytes: [u8; RECORD_HEAD]) -> Self {
        let [a, b, c, d, e, f, g, h, kind, flags] = bytes;
        let payload = u32::from_le_bytes([a, b, c, d]);
        Self { payload, crc: u32::from_le_bytes([e, f, g, h]), kind, flags }
    }

    /// Bytes of the whole record.
    pub(crate) fn frame(self) -> u64 {
        RECORD_HEAD as u64 + u64::from(self.payload)
    }
}

/// The checksum of a record; `tail` is kind, flags and payload as they stand in the frame.
pub(crate) fn record_crc(lsn: Lsn, payload: u32, tail: &[u8]) -> u32 {
    let mut salt = [0; 12];
    let (first, last) = salt.split_at_mut(8);
    first.copy_from_slice(&lsn.0.to_le_bytes());
    last.copy_from_slice(&payload.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&salt), tail)
}

/// One record inside a run of frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) lsn: Lsn,
    pub(crate) head: RecordHead,
    pub(crate) payload: &'a [u8],
    /// Kind, flags and payload: what the checksum covers.
    tail: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads the frame that starts `bytes`; `None` when it does not fit in there.
    pub(crate) fn parse(lsn: Lsn, bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD>()?;
        let head = RecordHead::decode(*head);
        let (payload, rest) = rest.split_at_checked(size(u64::from(head.payload)))?;
        let tail = bytes.get(8..RECORD_HEAD + payload.len())?;
        Some((Self { lsn, head, payload, tail }, rest))
    }

    pub(crate) fn is_good(&self) -> bool {
        self.head.crc == record_crc(self.lsn, self.head.payload, self.tail)
    }

    pub(crate) fn has_more(&self) -> bool {
        self.head.flags & FLAG_MORE != 0
    }
}

/// Fills in the checksum of every record and returns the checksum over those checksums.
pub(crate) fn seal_records(mut records: &mut [u8], first: Lsn) -> u32 {
    let mut lsn = first;
    let mut body = 0;
    while let Some((head, rest)) = records.split_first_chunk_mut::<8>() {
        let [a, b, c, d, crc @ ..] = head;
        let payload = u32::from_le_bytes([*a, *b, *c, *d]);
        let Some((tail, next)) = rest.split_at_mut_checked(size(u64::from(payload)) + 2) else {
            break;
        };
        *crc = record_crc(lsn, payload, tail).to_le_bytes();
        body = crc32c::crc32c_append(body, crc);
        lsn = lsn.plus(RECORD_HEAD as u64 + u64::from(payload));
        records = next;
    }
    body
}

/// What a block's head says.
///
/// | offset | size | type | meaning |
/// |---|---|---|---|
/// | 0 | 4 | u32 | magic `PBLK` |
/// | 4 | 4 | u32 | checksum over the segment's salt (u64) and bytes 8..64 |
/// | 8 | 8 | u64 | sequence number of the segment |
/// | 16 | 8 | u64 | position of the first record |
/// | 24 | 8 | u64 | everything before this position was durable when the block was written |
/// | 32 | 4 | u32 | record bytes |
/// | 36 | 4 | u32 | records |
/// | 40 | 4 | u32 | checksum over the checksums of the records, in order |
/// | 44 | 4 | u32 | head checksum of the block before (the chain) |
/// | 48 | 8 | u64 | incarnation: how often the log had been opened |
/// | 56 | 8 | u64 | zero |
/// | 64 | n | bytes | records, then zeros up to the next multiple of 4096 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHead {
    pub(crate) sequence: u64,
    pub(crate) first: Lsn,
    pub(crate) stable: Lsn,
    pub(crate) record_bytes: u32,
    pub(crate) records: u32,
    pub(crate) body_crc: u32,
    pub(crate) previous: u32,
    pub(crate) incarnation: u64,
}

impl BlockHead {
    /// The bytes and their checksum, which the next block chains to.
    pub(crate) fn encode(&self, salt: u64) -> ([u8; BLOCK_HEAD], u32) {
        let mut out = [0; BLOCK_HEAD];
        let mut at = Writer { out: &mut out, at: 8 };
        at.u64(self.sequence);
        at.u64(self.first.0);
        at.u64(self.stable.0);
        at.u32(self.record_bytes);
        at.u32(self.records);
        at.u32(self.body_crc);
        at.u32(self.previous);
        at.u64(self.incarnation);
        let crc = salted(salt, out.get(8..).unwrap_or_default());
        let mut at = Writer { out: &mut out, at: 0 };
        at.u32(BLOCK_MAGIC);
        at.u32(crc);
        (out, crc)
    }

    /// The head and its checksum, `None` when these bytes are not a head of this segment's use.
    pub(crate) fn decode(bytes: &[u8], salt: u64, sequence: u64) -> Option<(Self, u32)> {
        let bytes = bytes.get(..BLOCK_HEAD)?;
        let (head, crc) = Self::parse(bytes, sequence)?;
        (crc == salted(salt, bytes.get(8..)?)).then_some((head, crc))
    }

    /// A head whose checksum cannot be verified, because the segment's salt is lost. Its records
    /// have to prove it; a head without records is not accepted.
    pub(crate) fn decode_unproven(bytes: &[u8], sequence: u64) -> Option<Self> {
        let (head, _) = Self::parse(bytes.get(..BLOCK_HEAD)?, sequence)?;
        (head.records > 0 && head.end() > head.first).then_some(head)
    }

    fn parse(bytes: &[u8], sequence: u64) -> Option<(Self, u32)> {
        let mut from = Reader { bytes, at: 0 };
        if from.u32()? != BLOCK_MAGIC {
            return None;
        }
        let crc = from.u32()?;
        let head = Self {
            sequence: from.u64()?,
            first: Lsn(from.u64()?),
            stable: Lsn(from.u64()?),
            record_bytes: from.u32()?,
            records: from.u32()?,
            body_crc: from.u32()?,
            previous: from.u32()?,
            incarnation: from.u64()?,
        };
        (head.sequence == sequence).then_some((head, crc))
    }

    /// Position after the last record.
    pub(crate) fn end(&self) -> Lsn {
        self.first.plus(u64::from(self.record_bytes))
    }

    /// Bytes in the segment, padding included.
    pub(crate) fn extent(&self) -> u64 {
        pages(BLOCK_HEAD as u64 + u64::from(self.record_bytes))
    }
}

fn salted(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

/// Why a file head was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// Not what was expected, or damaged.
    Damaged,
    /// Written by a newer release.
    Version(u32),
}

/// The head every file starts with; the fields are the file kind's.
///
/// | offset | size | type | meaning |
/// |---|---|---|---|
/// | 0 | 8 | bytes | magic |
/// | 8 | 4 | u32 | format version, 1 |
/// | 12 | 4 | u32 | checksum over bytes 0..12 and 16..96 |
/// | 16 | 80 | 10 x u64 | fields, unused ones zero |
/// | 96 | 4000 | | zeros, to the end of the page |
///
/// Fields of a segment: sequence number, salt, file bytes. Of a survivor file: generation, first
/// position, end position, records, record bytes, index offset, index entries, index checksum. Of
/// a checkpoint: position, body bytes, body checksum, incarnation.
pub(crate) fn encode_file_head(magic: [u8; 8], fields: &[u64]) -> [u8; FILE_HEAD] {
    let mut out = [0; FILE_HEAD];
    let mut at = Writer { out: &mut out, at: 0 };
    at.u64(u64::from_le_bytes(magic));
    at.u32(VERSION);
    at.u32(0);
    for field in fields {
        at.u64(*field);
    }
    let crc = file_head_crc(&out);
    Writer { out: &mut out, at: 12 }.u32(crc);
    out
}

fn file_head_crc(head: &[u8]) -> u32 {
    let first = crc32c::crc32c(head.get(..12).unwrap_or_default());
    crc32c::crc32c_append(first, head.get(16..FILE_HEAD).unwrap_or_default())
}

/// The fields of a file head; see [`encode_file_head`].
pub(crate) fn decode_file_head<const N: usize>(
    magic: [u8; 8],
    bytes: &[u8],
) -> Result<[u64; N], BadHead> {
    let mut from = Reader { bytes, at: 0 };
    let found = from.u64().ok_or(BadHead::Damaged)?;
    let version = from.u32().ok_or(BadHead::Damaged)?;
    let crc = from.u32().ok_or(BadHead::Damaged)?;
    if found != u64::from_le_bytes(magic) {
        return Err(BadHead::Damaged);
    }
    if version > VERSION {
        return Err(BadHead::Version(version));
    }
    if bytes.len() < FILE_HEAD || crc != file_head_crc(bytes) {
        return Err(BadHead::Damaged);
    }
    let mut fields = [0; N];
    for field in &mut fields {
        *field = from.u64().ok_or(BadHead::Damaged)?;
    }
    Ok(fields)
}

/// Puts integers one after the other; what does not fit is a bug in a constant above.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        debug_assert!(end <= self.out.len(), "a head outgrew its constant");
        if let Some(place) = self.out.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
}

/// Takes integers one after the other; `None` past the end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = *self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at = self.at.saturating_add(N);
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> BlockHead {
        BlockHead {
            sequence: 3,
            first: Lsn(1 << 40),
            stable: Lsn(77),
            record_bytes: 5000,
            records: 9,
            body_crc: 0xdead_beef,
            previous: 42,
            incarnation: 6,
        }
    }

    #[test]
    fn a_block_head_verifies_only_as_a_whole_and_with_its_salt() {
        let (bytes, crc) = head().encode(11);
        assert_eq!(BlockHead::decode(&bytes, 11, 3), Some((head(), crc)));
        assert_eq!(BlockHead::decode(&bytes, 12, 3), None, "another use of the segment");
        assert_eq!(BlockHead::decode(&bytes, 11, 4), None, "another segment");
        for at in 0..BLOCK_HEAD {
            let mut rotten = bytes;
            rotten[at] ^= 4;
            assert_eq!(BlockHead::decode(&rotten, 11, 3), None, "byte {at}");
        }
        assert_eq!(BlockHead::decode(&bytes[..BLOCK_HEAD - 1], 11, 3), None);
        assert_eq!((head().end(), head().extent()), (Lsn((1 << 40) + 5000), 8192));
    }

    #[test]
    fn a_record_verifies_only_at_its_position() {
        let head = RecordHead { payload: 3, crc: 0, kind: 7, flags: FLAG_MORE };
        let mut bytes = head.encode().to_vec();
        bytes.extend_from_slice(b"abc");
        let sealed = seal_records(&mut bytes, Lsn(500));
        let (frame, rest) = Frame::parse(Lsn(500), &bytes).expect("a frame");
        assert!(frame.is_good() && frame.has_more() && rest.is_empty());
        assert_eq!(sealed, crc32c::crc32c(&frame.head.crc.to_le_bytes()));
        let (moved, _) = Frame::parse(Lsn(501), &bytes).expect("a frame");
        assert!(!moved.is_good());
        assert!(Frame::parse(Lsn(500), &bytes[..12]).is_none(), "cut short");
    }

    #[test]
    fn a_file_head_names_what_is_wrong() {
        let bytes = encode_file_head(SEGMENT_MAGIC, &[1, 2, 3]);
        assert_eq!(decode_file_head::<3>(SEGMENT_MAGIC, &bytes), Ok([1, 2, 3]));
        let wrong = decode_file_head::<3>(SURVIVOR_MAGIC, &bytes);
        assert_eq!(wrong, Err(BadHead::Damaged));
        for at in 12..FILE_HEAD {
            let mut rotten = bytes;
            rotten[at] ^= 1;
            assert_eq!(decode_file_head::<3>(SEGMENT_MAGIC, &rotten), Err(BadHead::Damaged));
        }
        let mut future = bytes;
        future[8] = 9;
        assert_eq!(decode_file_head::<3>(SEGMENT_MAGIC, &future), Err(BadHead::Version(9)));
    }
}
