//! The coding of queued entries: each as the difference to the one before, so that a run of equal
//! messages costs one to three bytes each. Persisted inside snapshots.
//!
//! | size | type | meaning |
//! |---|---|---|
//! | 1 | u8 | which of the following are there (see the constants) |
//! | 1-10 | zigzag varint | step from the log position before, when it differs from the last step |
//! | 1-5 | varint | bytes of the body, when they differ |
//! | 1-5 | varint | bytes of the record before the body, when they differ |
//! | 1-10 | zigzag varint | step of the expiry time, when the entry expires |
//! | 1-5 | varint | seconds that a claim of it lasts, when they differ |

use std::sync::Arc;

use model::Lsn;

use super::{Bounds, Entry, NEVER, Stored};

const HAS_STEP: u8 = 1;
const HAS_BODY: u8 = 2;
const HAS_HEAD: u8 = 4;
const HAS_EXPIRY: u8 = 8;
const HAS_LEASE: u8 = 16;

/// A sealed run of entries. Immutable, so snapshots share it.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub bytes: Arc<[u8]>,
    pub count: u16,
    pub first_seq: u64,
    pub bounds: Bounds,
}

impl Chunk {
    /// Checks bytes from a snapshot and builds the chunk around them.
    pub(crate) fn read(bytes: &[u8], count: u16, first_seq: u64) -> Option<Self> {
        let mut coder = Coder::default();
        let mut bounds = Bounds::default();
        let mut rest = bytes;
        for _ in 0..count {
            let (entry, length) = coder.decode(rest)?;
            bounds.include(entry.stored.lsn()?);
            rest = rest.get(length..)?;
        }
        rest.is_empty().then(|| Self { bytes: bytes.into(), count, first_seq, bounds })
    }
}

/// What the coding of the next entry depends on. Starts anew with each chunk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coder {
    lsn: u64,
    step: u64,
    expires: u64,
    body: u32,
    head: u32,
    lease_s: u32,
}

impl Coder {
    /// Appends one entry.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>, lsn: Lsn, entry: &Entry) {
        let step = lsn.0.wrapping_sub(self.lsn);
        let is_alike = step == self.step
            && entry.body == self.body
            && entry.head == self.head
            && entry.lease_s == self.lease_s;
        if is_alike && entry.expires == NEVER {
            out.push(0);
            self.lsn = lsn.0;
            return;
        }
        let at = out.len();
        let mut flags = 0;
        out.push(0);
        if step != self.step {
            flags |= HAS_STEP;
            put_varint(out, zigzag(step));
        }
        if entry.body != self.body {
            flags |= HAS_BODY;
            put_varint(out, u64::from(entry.body));
        }
        if entry.head != self.head {
            flags |= HAS_HEAD;
            put_varint(out, u64::from(entry.head));
        }
        if entry.expires != NEVER {
            flags |= HAS_EXPIRY;
            put_varint(out, zigzag(entry.expires.wrapping_sub(self.expires)));
            self.expires = entry.expires;
        }
        if entry.lease_s != self.lease_s {
            flags |= HAS_LEASE;
            put_varint(out, u64::from(entry.lease_s));
            self.lease_s = entry.lease_s;
        }
        if let Some(slot) = out.get_mut(at) {
            *slot = flags;
        }
        (self.lsn, self.step, self.body, self.head) = (lsn.0, step, entry.body, entry.head);
    }

    /// Reads one entry; also returns how many bytes it took. `None` at the end.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Option<(Entry, usize)> {
        let (flags, mut rest) = bytes.split_first()?;
        if *flags == 0 {
            self.lsn = self.lsn.wrapping_add(self.step);
            return Some((self.entry(NEVER), 1));
        }
        if flags & HAS_STEP != 0 {
            self.step = unzigzag(take_varint(&mut rest)?);
        }
        self.lsn = self.lsn.wrapping_add(self.step);
        if flags & HAS_BODY != 0 {
            self.body = u32::try_from(take_varint(&mut rest)?).ok()?;
        }
        if flags & HAS_HEAD != 0 {
            self.head = u32::try_from(take_varint(&mut rest)?).ok()?;
        }
        let mut expires = NEVER;
        if flags & HAS_EXPIRY != 0 {
            expires = self.expires.wrapping_add(unzigzag(take_varint(&mut rest)?));
            self.expires = expires;
        }
        if flags & HAS_LEASE != 0 {
            self.lease_s = u32::try_from(take_varint(&mut rest)?).ok()?;
        }
        Some((self.entry(expires), bytes.len() - rest.len()))
    }

    /// The entry that was decoded last.
    const fn entry(&self, expires: u64) -> Entry {
        let stored = Stored::Log(Lsn(self.lsn));
        let (body, head, lease_s) = (self.body, self.head, self.lease_s);
        Entry { stored, expires, body, head, returns: 0, lease_s }
    }
}

/// Folds the sign into bit 0, so that small steps back are small numbers too.
const fn zigzag(value: u64) -> u64 {
    (value << 1) ^ 0_u64.wrapping_sub(value >> 63)
}

const fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ 0_u64.wrapping_sub(value & 1)
}

/// Seven bits per byte, lowest first; the top bit says that more follow.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7F) as u8);
}

/// Reads what [`put_varint`] wrote. `None` when cut or longer than ten bytes.
pub(crate) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
