//! [`Story`]: histories of jobs, told to one invariant. Called by the tests of `invariants::job_*`
//! only; not here: whole runs (`tests`).

use model::JobId;

use crate::fact::{ConnId, Fact, JobAnswer, JobAnswered, JobAsk, JobWish, MessageId, Tube};
use crate::invariants::Invariant;

/// Asks and answers, told to one invariant.
pub(crate) struct Story<I> {
    invariant: I,
    number: u32,
    /// What the clock shows.
    pub(crate) now_ms: u64,
}

impl<I: Invariant + Default> Story<I> {
    pub(crate) fn new() -> Self {
        Self { invariant: I::default(), number: 0, now_ms: 1_000_000 }
    }

    pub(crate) fn ask(&mut self, conn: ConnId, wish: JobWish) -> JobAsk {
        self.number += 1;
        let ask = JobAsk { number: self.number, conn, shown_ms: self.now_ms, wish };
        self.tell(&Fact::JobAsked(ask.clone())).unwrap();
        ask
    }

    pub(crate) fn answer(&mut self, ask: &JobAsk, answer: JobAnswer) -> Result<(), String> {
        let (ask, log_ms, is_stale) = (ask.clone(), self.now_ms, false);
        self.tell(&Fact::JobAnswered(JobAnswered { ask, answer, log_ms, is_stale }))
    }

    pub(crate) fn tell(&mut self, fact: &Fact) -> Result<(), String> {
        self.invariant.hear(fact)
    }

    /// Asks and is answered at once.
    pub(crate) fn did(
        &mut self,
        conn: ConnId,
        wish: JobWish,
        answer: JobAnswer,
    ) -> Result<(), String> {
        let ask = self.ask(conn, wish);
        self.answer(&ask, answer)
    }

    /// A job with a time to run of five seconds, in tube 0.
    pub(crate) fn put(&mut self, job: MessageId, rank: u32, delay_s: u32) -> JobId {
        let id = JobId(u64::from(job) + 100);
        let wish = JobWish::Put { job, tube: 0, rank, delay_s, ttr_s: 5 };
        self.did(9, wish, JobAnswer::Inserted(id)).unwrap();
        id
    }

    pub(crate) fn reserve(&mut self, conn: ConnId, id: JobId) -> Result<(), String> {
        let job = MessageId::try_from(id.0 - 100).unwrap();
        self.did(conn, reserve(0), JobAnswer::Reserved(id, job))
    }

    /// Reserved and buried over one connection.
    pub(crate) fn bury(&mut self, conn: ConnId, id: JobId) -> Result<(), String> {
        self.reserve(conn, id)?;
        self.did(conn, JobWish::Bury { id, rank: 7 }, JobAnswer::Yes)
    }
}

pub(crate) fn reserve(tube: Tube) -> JobWish {
    JobWish::Reserve { timeout_s: Some(0), watched: vec![tube], is_gleaned: false }
}
