//! The persisted layouts of results. A layout never changes; a new shape gets a new kind number.

use bytes::Bytes;
use model::{JobId, JobRef, Lsn, QueueId, ResultRef, StoreResult, VhostId};

use super::Kept;
use crate::fifo::NEVER;
use crate::record::{put_text, take_slice, take_text, take_u8, take_u16, take_u32, take_u64};

const HAS_JOB: u8 = 1;
const HAS_EXPIRY: u8 = 2;

/// A result that is stored.
///
/// | size | type | meaning |
/// |---|---|---|
/// | 1 | u8 | what follows: bit 0 job, bit 1 expiry |
/// | 2 | u16 | `VhostId` |
/// | 8 | u64 | when it was stored, ms since 1970 |
/// | 8 if bit 1 | u64 | when it is forgotten, ms since 1970 |
/// | 12 if bit 0 | u32, u64 | `QueueId` and id of the job whose result it is |
/// | .. | text | key |
/// | .. | text | worker |
/// | .. | text | media type |
/// | .. | text | notes |
/// | .. | bytes | the result, to the end |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResultHead {
    pub vhost: VhostId,
    pub at: u64,
    /// [`NEVER`] when it is not forgotten.
    pub expires: u64,
    pub job: Option<JobRef>,
    pub key: Bytes,
}

impl ResultHead {
    /// Everything before the result itself.
    pub(crate) fn put(&self, worker: &[u8], result: &StoreResult, out: &mut Vec<u8>) {
        let has_expiry = self.expires != NEVER;
        let flags = u8::from(self.job.is_some()) * HAS_JOB + u8::from(has_expiry) * HAS_EXPIRY;
        out.push(flags);
        out.extend_from_slice(&self.vhost.0.to_le_bytes());
        out.extend_from_slice(&self.at.to_le_bytes());
        if has_expiry {
            out.extend_from_slice(&self.expires.to_le_bytes());
        }
        if let Some(job) = self.job {
            out.extend_from_slice(&job.queue.0.to_le_bytes());
            out.extend_from_slice(&job.id.0.to_le_bytes());
        }
        for text in [&self.key[..], worker, &result.content_type, &result.notes] {
            put_text(out, text);
        }
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        let flags = take_u8(rest)?;
        let vhost = VhostId(take_u16(rest)?);
        let at = take_u64(rest)?;
        let expires = if flags & HAS_EXPIRY == 0 { NEVER } else { take_u64(rest)? };
        let mut job = None;
        if flags & HAS_JOB != 0 {
            job = Some(JobRef { queue: QueueId(take_u32(rest)?), id: JobId(take_u64(rest)?) });
        }
        Some(Self { vhost, at, expires, job, key: take_text(rest)? })
    }

    /// Reads a record of a result that is stored: its head, and how it stands in the state.
    pub(crate) fn read(lsn: Lsn, payload: &[u8]) -> Option<(Self, Kept)> {
        let head = Self::take(&mut &*payload)?;
        result_of(payload)?;
        let bytes = u32::try_from(payload.len()).ok()?;
        let kept = Kept { lsn, bytes, at: head.at, expires: head.expires };
        Some((head, kept))
    }
}

/// What stands in a record of a result.
pub(crate) fn result_of(payload: &[u8]) -> Option<ResultRef<'_>> {
    let mut rest = payload;
    let head = ResultHead::take(&mut rest)?;
    let text = |rest: &mut &'_ [u8]| -> Option<usize> {
        usize::try_from(crate::fifo::take_varint(rest)?).ok()
    };
    let worker = text(&mut rest).and_then(|length| take_slice(&mut rest, length))?;
    let content_type = text(&mut rest).and_then(|length| take_slice(&mut rest, length))?;
    let notes = text(&mut rest).and_then(|length| take_slice(&mut rest, length))?;
    Some(ResultRef { job: head.job, worker, content_type, notes, value: rest })
}

/// A result that is forgotten: `VhostId` u16, key as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GoneHead {
    pub vhost: VhostId,
    pub key: Bytes,
}

impl GoneHead {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.vhost.0.to_le_bytes());
        put_text(out, &self.key);
    }

    pub(crate) fn read(mut rest: &[u8]) -> Option<Self> {
        let vhost = VhostId(take_u16(&mut rest)?);
        let key = take_text(&mut rest)?;
        rest.is_empty().then_some(Self { vhost, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let result = StoreResult {
            content_type: "text/plain".into(),
            notes: "{}".into(),
            value: "42".into(),
            ..StoreResult::default()
        };
        let job = Some(JobRef { queue: QueueId(3), id: JobId(7) });
        for (job, expires) in [(job, NEVER), (None, 99), (None, NEVER), (job, 5)] {
            let head = ResultHead { vhost: VhostId(2), at: 1, expires, job, key: "k".into() };
            let mut bytes = Vec::new();
            head.put(b"gpu", &result, &mut bytes);
            bytes.extend_from_slice(&result.value);
            let (read, kept) = ResultHead::read(Lsn(9), &bytes).unwrap();
            assert_eq!((&read, kept.expires, kept.lsn), (&head, expires, Lsn(9)));
            let shown = result_of(&bytes).unwrap();
            assert_eq!((shown.job, shown.worker, shown.value), (job, &b"gpu"[..], &b"42"[..]));
            // The value may be cut to anything; what stands before it may not.
            let before_value = bytes.len() - 2;
            for length in 0..before_value {
                assert_eq!(ResultHead::read(Lsn(9), &bytes[..length]), None, "{length}");
            }
        }
        let gone = GoneHead { vhost: VhostId(1), key: "k".into() };
        let mut bytes = Vec::new();
        gone.put(&mut bytes);
        assert_eq!(GoneHead::read(&bytes), Some(gone));
    }
}
