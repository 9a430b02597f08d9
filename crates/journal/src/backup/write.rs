//! [`Writer`]: from state and records to the bytes of a backup. Pure: everything is appended to
//! buffers that the caller sends on. Called by crate `replica`, off the main thread.

use blake2::digest::{FixedOutput, Update};
use model::Lsn;

use super::{BROKEN_OFF, Digest, END, END_BYTES, HEAD, Head, MAGIC, RECORDS, SECTION_HEAD, STATE};
use super::{Summary, VERSION, section_crc};
use crate::layout::{RECORD_HEAD, RecordHead, record_crc};
use crate::record::RecordRef;

/// A section of records ends after so many bytes.
const SECTION_BYTES: usize = 1024 * 1024;

/// See the module's head. Call in order: `begin`, `state`, `records`, `finish`.
#[derive(Debug)]
pub struct Writer {
    lsn: Lsn,
    /// Checksum of the section before.
    chain: u32,
    digest: Digest,
    file_bytes: u64,
    state_bytes: u64,
    records: u64,
    record_bytes: u64,
}

impl Writer {
    /// Starts a backup.
    pub fn begin(head: Head, out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let first = out.get(start..).unwrap_or_default();
        let mut this = Self {
            lsn: head.lsn,
            chain: crc32c::crc32c(first),
            digest: Digest::default(),
            file_bytes: first.len() as u64,
            state_bytes: 0,
            records: 0,
            record_bytes: 0,
        };
        this.digest.update(first);
        let at = open(out);
        out.extend_from_slice(&head.lsn.0.to_le_bytes());
        out.extend_from_slice(&head.began_ms.to_le_bytes());
        this.close(HEAD, at, out);
        this
    }

    /// Adds the next piece of the state.
    pub fn state(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for piece in bytes.chunks(SECTION_BYTES) {
            let at = open(out);
            out.extend_from_slice(piece);
            self.close(STATE, at, out);
        }
        self.state_bytes += bytes.len() as u64;
    }

    /// Adds records; positions rise from call to call.
    pub fn records<'a>(&mut self, records: impl Iterator<Item = RecordRef<'a>>, out: &mut Vec<u8>) {
        let mut at = None;
        for record in records {
            let start = *at.get_or_insert_with(|| open(out));
            self.records += 1;
            self.record_bytes += put_entry(record, out);
            if out.len().saturating_sub(start) >= SECTION_BYTES {
                self.close(RECORDS, start, out);
                at = None;
            }
        }
        if let Some(at) = at {
            self.close(RECORDS, at, out);
        }
    }

    /// Ends the backup.
    pub fn finish(mut self, state_hash: u64, out: &mut Vec<u8>) -> Summary {
        let digest: [u8; 32] = std::mem::take(&mut self.digest).finalize_fixed().into();
        let at = open(out);
        let numbers = [self.lsn.0, self.state_bytes, state_hash, self.records, self.record_bytes];
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&digest);
        self.close(END, at, out);
        debug_assert_eq!(out.len() - at, SECTION_HEAD + END_BYTES, "the end outgrew its constant");
        Summary {
            lsn: self.lsn,
            state_bytes: self.state_bytes,
            state_hash,
            records: self.records,
            record_bytes: self.record_bytes,
            digest,
            file_bytes: self.file_bytes,
        }
    }

    /// Says why the backup ends before it is whole; no reader takes it for a good one then.
    pub fn break_off(mut self, reason: &str, out: &mut Vec<u8>) {
        let at = open(out);
        out.extend_from_slice(reason.as_bytes());
        self.close(BROKEN_OFF, at, out);
    }

    /// Fills in the head of the section that starts at `at` and ends with `out`.
    fn close(&mut self, kind: u8, at: usize, out: &mut [u8]) {
        let Some(section) = out.get_mut(at..) else { return };
        let Some((head, payload)) = section.split_first_chunk_mut::<SECTION_HEAD>() else { return };
        // Callers stay far below: SECTION_BYTES and one record.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        let kind = [kind, 0, 0, 0];
        self.chain = section_crc(self.chain, length, kind, payload);
        let parts = [length, self.chain.to_le_bytes(), kind];
        for (place, byte) in head.iter_mut().zip(parts.as_flattened()) {
            *place = *byte;
        }
        self.digest.update(section);
        self.file_bytes += section.len() as u64;
    }
}

/// Starts a section and says where.
fn open(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; SECTION_HEAD]);
    at
}

/// Appends one entry and says how many bytes its frame has.
fn put_entry(record: RecordRef<'_>, out: &mut Vec<u8>) -> u64 {
    // A record is at most `RECORD_BYTES_MAX` long.
    let payload = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
    let head = frame_head(record, payload);
    out.extend_from_slice(&record.lsn.0.to_le_bytes());
    out.extend_from_slice(&head.encode());
    out.extend_from_slice(record.payload);
    (RECORD_HEAD + record.payload.len()) as u64
}

/// The head of a record that stands alone: it belongs to no group any more.
pub(super) fn frame_head(record: RecordRef<'_>, payload: u32) -> RecordHead {
    let crc = record_crc(record.lsn, payload, &[record.kind, 0]);
    let crc = crc32c::crc32c_append(crc, record.payload);
    RecordHead { payload, crc, kind: record.kind, flags: 0 }
}
