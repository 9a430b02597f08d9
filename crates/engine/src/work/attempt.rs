//! What became of a worker's attempt at a job that did not finish it: who, how, why. A job keeps
//! its last attempts as long as it is in its queue; one that fails too often is laid aside with
//! them.

use bytes::Bytes;
use model::{
    Attempt, AttemptEnd, FAILURE_CLASS_BYTES_MAX, FAILURE_MESSAGE_BYTES_MAX, Failure, GiveBack,
    Log, Lsn, Millis, Refusal, Reply, SessionId,
};

use super::end::Ending;
use super::take::held_of;
use crate::Engine;
use crate::channel::{Asker, Slot, Turn};
use crate::fifo::{Entry, put_varint, take_varint};
use crate::loose::{Shift, Why};
use crate::perform::State;
use crate::queue::Queue;
use crate::record::{self, put_text, take_slice, take_text, take_u8, take_u64};

/// So many attempts of a job are kept, the last ones.
const ATTEMPTS_MAX: usize = 20;

/// The attempts of a job, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    attempts: Vec<Attempt>,
}

impl Past {
    fn add(&mut self, attempt: Attempt) {
        if self.attempts.len() >= ATTEMPTS_MAX {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
    }

    pub(crate) fn all(&self) -> &[Attempt] {
        &self.attempts
    }

    /// Count as a varint, then each attempt.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.attempts.len() as u64);
        for attempt in &self.attempts {
            put_attempt(out, attempt);
        }
    }

    pub(crate) fn take(rest: &mut &[u8]) -> Option<Self> {
        let mut past = Self::default();
        for _ in 0..take_varint(rest)? {
            past.add(take_attempt(rest)?);
        }
        Some(past)
    }
}

/// How it ended u8, when u64 (ms since 1970), u8 1 when it was final, then as texts: worker, class,
/// message.
fn put_attempt(out: &mut Vec<u8>, attempt: &Attempt) {
    let Failure { class, message, is_final } = &attempt.failure;
    out.push(attempt.end as u8);
    out.extend_from_slice(&attempt.at.0.to_le_bytes());
    out.push(u8::from(*is_final));
    for text in [&attempt.worker, class, message] {
        put_text(out, text);
    }
}

fn take_attempt(rest: &mut &[u8]) -> Option<Attempt> {
    let end = match take_u8(rest)? {
        0 => AttemptEnd::Failed,
        1 => AttemptEnd::Released,
        2 => AttemptEnd::Expired,
        3 => AttemptEnd::Lost,
        _ => return None,
    };
    let at = Millis(take_u64(rest)?);
    let is_final = take_u8(rest)? != 0;
    let worker = take_text(rest)?;
    let failure = Failure { class: take_text(rest)?, message: take_text(rest)?, is_final };
    Some(Attempt { worker, end, at, failure })
}

/// The payload of an `attempt ended` record: length of the shift as a varint, the [`Shift`], the
/// attempt.
pub(crate) fn put_ended(out: &mut Vec<u8>, shift: &Shift, attempt: &Attempt) {
    let mut bytes = Vec::new();
    shift.put(&mut bytes);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(&bytes);
    put_attempt(out, attempt);
}

fn read_ended(mut rest: &[u8]) -> Option<(Shift, Attempt)> {
    let length = usize::try_from(take_varint(&mut rest)?).ok()?;
    let shift = Shift::read(take_slice(&mut rest, length)?)?;
    let attempt = take_attempt(&mut rest)?;
    rest.is_empty().then_some((shift, attempt))
}

impl State {
    /// An attempt ended and its job goes to stand outside the lines; see [`State::shift`].
    pub(crate) fn end_attempt(
        &mut self,
        (shift, attempt): (&Shift, &Attempt),
        held: Option<Entry>,
        changed: Lsn,
    ) -> Option<()> {
        let lsn = self.shift(shift, held, changed)?;
        let queue = self.queues.get_mut(&shift.queue)?;
        queue.note_attempt(lsn, |past| past.add(attempt.clone()))
    }

    /// Takes in an `attempt ended` record.
    pub(crate) fn replay_attempt(&mut self, lsn: Lsn, payload: &[u8]) -> Option<()> {
        let (shift, attempt) = read_ended(payload)?;
        // Its queue may be gone, and it with it.
        self.end_attempt((&shift, &attempt), None, lsn);
        Some(())
    }
}

impl Queue {
    /// Whether this failure of a job is its last one.
    pub(super) fn is_last_failure(&self, slot: &Slot, failure: &Failure, most: u32) -> bool {
        let moved = crate::loose::position(slot.seq).and_then(|lsn| self.loose()?.get(lsn));
        let failures = moved.map_or(0, |job| job.tally.failures).saturating_add(1);
        let most = self.returns_max().map_or(most, |max| max.saturating_add(1));
        failure.is_final || failures >= most
    }
}

impl Engine {
    /// `Request::GiveBack`.
    pub(crate) fn give_back_job<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        give: &GiveBack,
    ) -> Result<(), Refusal> {
        self.entered(asker)?;
        let reply = match self.take_own(asker, give) {
            None => Reply::Empty,
            Some(slot) => {
                let end = match give.failure {
                    Some(_) => AttemptEnd::Failed,
                    None => AttemptEnd::Released,
                };
                let failure = give.failure.as_ref().map(cut).unwrap_or_default();
                let ending = self.ending_of(turn.now(), asker.session, (end, failure));
                let is_buried =
                    self.end_claim(turn, &slot, &Ending { delay_s: give.delay_s, ..ending });
                Reply::Released { is_buried }
            }
        };
        // What was seen to be gone must be gone for good.
        let gate = turn.log.next_lsn();
        turn.reply(asker, gate, reply);
        Ok(())
    }

    /// Takes a job out of the asker's hands, if it is still this taking of it.
    fn take_own(&mut self, asker: Asker, give: &GiveBack) -> Option<Slot> {
        let taking = self.takers.get(give.held.job).filter(|it| it.session == asker.session)?;
        let channel = self.sessions.channel_mut(taking.session, taking.channel)?;
        let slot = channel.unsettled.get(taking.tag)?;
        if held_of(slot) != Some(give.held) {
            return None;
        }
        let slot = channel.unsettled.take(taking.tag)?;
        self.takers.forget(&slot);
        Some(slot)
    }

    /// How an attempt of a session ends.
    pub(super) fn ending_of(
        &self,
        now: u64,
        session: SessionId,
        (end, failure): (AttemptEnd, Failure),
    ) -> Ending {
        let worker = self.sessions.get(session).map(|it| it.info.peer.clone()).unwrap_or_default();
        let why = match end {
            AttemptEnd::Failed => Why::Failed,
            AttemptEnd::Released => Why::Released,
            AttemptEnd::Expired => Why::TimedOut,
            AttemptEnd::Lost => Why::Lost,
        };
        let attempt = Attempt { worker, end, at: Millis(now), failure };
        Ending { why, rank: None, delay_s: 0, attempt: Some(Box::new(attempt)) }
    }
}

/// A failure as it is kept.
fn cut(failure: &Failure) -> Failure {
    let Failure { class, message, is_final } = failure;
    let short = |text: &Bytes, max: usize| Bytes::copy_from_slice(text.get(..max).unwrap_or(text));
    Failure {
        class: short(class, FAILURE_CLASS_BYTES_MAX),
        message: short(message, FAILURE_MESSAGE_BYTES_MAX),
        is_final: *is_final,
    }
}

/// Writes an `attempt ended` record; returns its end.
pub(super) fn append_ended<L: Log>(
    log: &mut L,
    buffer: &mut Vec<u8>,
    (shift, attempt): (&Shift, &Attempt),
) -> Lsn {
    buffer.clear();
    put_ended(buffer, shift, attempt);
    record::append(log, record::ATTEMPT_ENDED, buffer);
    log.next_lsn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_read_as_it_was_written_and_the_last_ones_are_kept() {
        let mut past = Past::default();
        for at in 0..30 {
            past.add(Attempt {
                worker: "gpu".into(),
                end: AttemptEnd::Failed,
                at: Millis(at),
                failure: Failure { class: "c".into(), message: "m".into(), is_final: at == 29 },
            });
        }
        assert_eq!((past.all().len(), past.all()[0].at), (20, Millis(10)));
        let mut bytes = Vec::new();
        past.put(&mut bytes);
        assert_eq!(Past::take(&mut &bytes[..]), Some(past));
        for length in 0..bytes.len() {
            assert_eq!(Past::take(&mut &bytes[..length]), None, "{length}");
        }
    }
}
