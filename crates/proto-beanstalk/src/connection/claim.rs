//! Waiting for jobs: `reserve` and its kin as claims, their deadline, batches, and what the end of
//! input does to them. Not here: what a claimed job looks like (`answer`).
//!
//! A claim that waits holds back every other command of its connection: what it answers comes
//! first. Further `reserve`s may be asked at once, as their answers follow in order.

use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use model::Request;
use wire::Outbox;

use super::{CHANNEL, Connection, Step, ticket::Ask};
use crate::codec;

/// Claims of one connection that may wait at a time.
const WAITING_MAX: u32 = 1024;
/// Bytes of jobs after which a `reserve-batch` asks for no more.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Claims of a `reserve-batch` that are asked at a time.
const BATCH_STEP_MAX: u32 = 64;

/// What a connection waits for.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Patient and timed claims without an answer.
    waiting: u32,
    /// One of them is timed, and it is the only one.
    is_timed: bool,
    /// When that one is to be withdrawn; `None` when it is already.
    deadline: Option<Instant>,
    batch: Option<Box<Batch>>,
}

/// A `reserve-batch` that is being answered.
#[derive(Debug)]
struct Batch {
    /// Jobs still wanted beyond those asked for.
    wanted: u32,
    /// Claims without an answer; at least 1.
    asked: u32,
    /// One found nothing: no more is asked.
    is_dry: bool,
    /// Jobs got.
    got: u32,
    /// The answer without its first line.
    bytes: BytesMut,
}

impl Claims {
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    pub(super) const fn is_batch(&self) -> bool {
        self.batch.is_some()
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl Connection {
    /// `reserve`.
    pub(super) fn claim(&mut self, out: &mut Outbox) {
        if self.is_ended {
            self.claim_at_once(false, out);
        } else {
            self.claims.waiting += 1;
            self.ask(Ask::PatientClaim, Request::Claim { is_timed: false }, out);
        }
    }

    /// `reserve-with-timeout`. A peer that sends no more does not wait.
    pub(super) fn claim_within(&mut self, now: Instant, seconds: u32, out: &mut Outbox) {
        if self.is_ended || seconds == 0 {
            self.claim_at_once(true, out);
            return;
        }
        self.claims.waiting += 1;
        self.claims.is_timed = true;
        // A time that cannot be told never comes.
        self.claims.deadline = now.checked_add(Duration::from_secs(seconds.into()));
        self.ask(Ask::TimedClaim, Request::Claim { is_timed: true }, out);
    }

    /// No claim waits, so that the withdrawal means this one.
    fn claim_at_once(&mut self, is_timed: bool, out: &mut Outbox) {
        self.ask(Ask::Claim, Request::Claim { is_timed }, out);
        out.submit(CHANNEL, Ask::Withdraw.ticket(), Request::Withdraw);
    }

    /// A claim waits: only a `reserve` is taken from the input, and none behind a timed one, whose
    /// withdrawal must not mean another.
    pub(super) fn take_further_claim(&mut self, input: &mut BytesMut, out: &mut Outbox) -> Step {
        const RESERVE: &[u8] = b"reserve\r\n";
        if self.claims.is_timed || self.claims.waiting >= WAITING_MAX || self.is_ended {
            return Step::Wait;
        }
        if input.starts_with(RESERVE) {
            input.advance(RESERVE.len());
            self.claim(out);
            return Step::Taken;
        }
        Step::Wait
    }

    /// A claim that waited has its answer.
    pub(super) fn note_claimed(&mut self, ask: Ask) {
        if matches!(ask, Ask::PatientClaim | Ask::TimedClaim) {
            self.claims.waiting = self.claims.waiting.saturating_sub(1);
            self.claims.is_timed = false;
            self.claims.deadline = None;
        }
    }

    /// The time of a timed claim is over: the engine is told, and still answers it.
    pub(super) fn withdraw_if_due(&mut self, now: Instant, out: &mut Outbox) {
        if self.claims.deadline.is_some_and(|deadline| deadline <= now) {
            self.claims.deadline = None;
            out.submit(CHANNEL, Ask::Withdraw.ticket(), Request::Withdraw);
        }
    }

    /// The peer sends no more: every claim that waits is given up.
    pub(super) fn withdraw_all(&mut self, out: &mut Outbox) {
        self.claims.deadline = None;
        for _ in 0..self.claims.waiting {
            out.submit(CHANNEL, Ask::Withdraw.ticket(), Request::Withdraw);
        }
    }

    /// `reserve-batch`: what is ready now, up to so many jobs and to [`BATCH_BYTES_MAX`].
    pub(super) fn claim_batch(&mut self, count: u32, out: &mut Outbox) {
        let batch =
            Batch { wanted: count, asked: 0, is_dry: false, got: 0, bytes: BytesMut::new() };
        self.claims.batch = Some(Box::new(batch));
        self.go_on_with_batch(out);
    }

    /// Asks for the next few jobs, few enough that their bodies stay near the limit.
    fn go_on_with_batch(&mut self, out: &mut Outbox) {
        let job_bytes = self.options.job_bytes_max.max(1);
        let fitting = u32::try_from(BATCH_BYTES_MAX).unwrap_or(u32::MAX) / job_bytes;
        let Some(batch) = &mut self.claims.batch else { return };
        let asked = batch.wanted.min(fitting.clamp(1, BATCH_STEP_MAX));
        batch.wanted = batch.wanted.saturating_sub(asked);
        batch.asked = asked;
        for _ in 0..asked {
            self.ask(Ask::BatchClaim, Request::Claim { is_timed: true }, out);
            out.submit(CHANNEL, Ask::Withdraw.ticket(), Request::Withdraw);
        }
    }

    /// One claim of the batch is answered: `write` adds its job, and says whether there was one.
    pub(super) fn on_batch_claim(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> bool,
        out: &mut Outbox,
    ) {
        let Some(batch) = &mut self.claims.batch else { return };
        if write(&mut batch.bytes) {
            batch.got += 1;
        } else {
            batch.is_dry = true;
        }
        batch.asked = batch.asked.saturating_sub(1);
        if batch.asked > 0 {
            return;
        }
        if !batch.is_dry && batch.wanted > 0 && batch.bytes.len() < BATCH_BYTES_MAX {
            self.go_on_with_batch(out);
        } else if let Some(batch) = self.claims.batch.take() {
            out.bytes.extend_from_slice(b"RESERVED_BATCH ");
            codec::put_number(&mut out.bytes, batch.got.into());
            codec::put_body(&mut out.bytes, b"");
            out.bytes.extend_from_slice(&batch.bytes);
        }
    }
}
