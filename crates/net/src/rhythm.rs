//! [`Rhythm`]: tells a one-way stream of small writes from everything else, so that it is read less
//! often. Called by `drive`.

use std::time::{Duration, Instant};

use model::{Envelope, Request};

/// A one-way stream of small reads is read again only after this long: a server that is woken for
/// every write costs both sides a wake-up each. The runtime's timer makes a millisecond of it.
const REST: Duration = Duration::from_micros(500);
/// Reads that follow one another faster than this are a stream.
const STREAM_GAP: Duration = Duration::from_millis(2);
/// So many in a row make it rest.
const STREAM_READS: u8 = 16;
/// A peer with so many messages to work on does not miss us for that long.
const PLENTY: u64 = 100;
/// Larger reads are worth a wake-up of their own.
const SMALL_READ_BYTES: usize = 64 * 1024;

/// Tells a one-way stream of small writes from everything else.
#[derive(Default)]
pub(crate) struct Rhythm {
    last_read: Option<Instant>,
    /// Small reads in quick succession that brought nothing else than one-way publishes.
    run: u8,
    /// Not read before then.
    pub(crate) rests_until: Option<Instant>,
}

impl Rhythm {
    /// Notes a read of so many bytes.
    pub(crate) fn note(&mut self, now: Instant, bytes: usize) {
        let is_quick = self.last_read.is_some_and(|last| now.duration_since(last) < STREAM_GAP);
        self.run =
            if is_quick && bytes < SMALL_READ_BYTES { self.run.saturating_add(1) } else { 0 };
        self.last_read = Some(now);
    }

    /// Whether it must not be read yet; forgets a rest that is over.
    pub(crate) fn is_resting(&mut self) -> bool {
        if self.rests_until.is_some_and(|until| until <= Instant::now()) {
            self.rests_until = None;
        }
        self.rests_until.is_some()
    }

    /// Notes what came of it: anything but publishes nobody waits for, or answers of a peer that
    /// has plenty of messages left, ends the stream.
    pub(crate) fn judge(&mut self, requests: &[Envelope], owed: u64) {
        let is_one_way = |envelope: &Envelope| {
            if let Request::Publish(publish) = &envelope.request {
                return !publish.options.wants_confirm;
            }
            matches!(envelope.request, Request::Ack { .. }) && owed >= PLENTY
        };
        if self.run > 0 && (requests.is_empty() || !requests.iter().all(is_one_way)) {
            self.run = 0;
        }
        if self.run >= STREAM_READS
            && let Some(last) = self.last_read
        {
            self.rests_until = Some(last + REST);
        }
    }
}
