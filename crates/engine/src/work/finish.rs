//! A job is done, as a step of a commit: acknowledged by its name, wherever it is. A worker whose
//! lease was over, or whose server was restarted, may still bring its result as long as nobody was
//! faster.

use model::{JobRef, JobState, Log, Lsn, Refusal, SessionId, Verb, VhostId};

use super::take::job_of;
use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::loose;
use crate::record::Run;
use crate::settle::End;

/// The jobs that a commit finishes, each once.
#[derive(Debug, Default)]
pub(crate) struct Finishing {
    pub jobs: Vec<JobRef>,
}

impl Engine {
    /// Checks that every job can be finished by the asker.
    ///
    /// # Errors
    /// When one is not there, is named twice, or a client of another door has it.
    pub(crate) fn check_finish(
        &self,
        (asker, vhost): (Asker, VhostId),
        finishing: &Finishing,
    ) -> Result<(), Refusal> {
        let mut sorted = finishing.jobs.clone();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair.first() == pair.last());
        if let Some(job) = twice.and_then(|pair| pair.first().copied()) {
            return Err(Refusal::UnknownJob { job });
        }
        sorted.into_iter().try_for_each(|job| self.check_open(asker, vhost, job))
    }

    fn check_open(&self, asker: Asker, vhost: VhostId, job: JobRef) -> Result<(), Refusal> {
        let unknown = || Refusal::UnknownJob { job };
        let queue = self.state.queues.get(&job.queue).filter(|queue| queue.vhost == vhost);
        let queue = queue.ok_or_else(unknown)?;
        if let Some(taking) = self.takers.get(job) {
            if taking.session == asker.session {
                return Ok(());
            }
            return self.check_queue(asker, Verb::Read, &queue.name);
        }
        self.check_queue(asker, Verb::Read, &queue.name)?;
        match queue.find(Lsn(job.id.0)) {
            Some((_, _, JobState::Claimed)) => Err(Refusal::JobHeldElsewhere { job }),
            Some(_) => Ok(()),
            None if queue.unsettled > 0 && self.is_with_somebody(job) => {
                Err(Refusal::JobHeldElsewhere { job })
            }
            None => Err(unknown()),
        }
    }

    /// Whether a client of another door has it.
    fn is_with_somebody(&self, job: JobRef) -> bool {
        let mut channels = self.sessions.iter().flat_map(|session| session.channels.values());
        channels.any(|channel| channel.unsettled.iter().any(|slot| job_of(slot) == Some(job)))
    }

    /// Ends a checked job; what is to be written stands in `scratch.runs`.
    pub(crate) fn finish_job<L: Log>(&mut self, turn: &Turn<'_, L>, job: JobRef) -> Option<()> {
        self.totals.acknowledged += 1;
        if let Some(taking) = self.takers.get(job) {
            let channel = self.sessions.channel_mut(taking.session, taking.channel)?;
            let slot = channel.unsettled.take(taking.tag)?;
            self.takers.forget(&slot);
            self.end_delivery(turn, &slot, End::Ack, &mut Vec::new());
        } else {
            let queue = self.state.queues.get_mut(&job.queue)?;
            let (level, seq, _) = queue.find(Lsn(job.id.0))?;
            let entry = match loose::position(seq) {
                Some(_) => queue.take_for_good(level, seq)?,
                None => queue.pick(level, seq)?.taken.entry,
            };
            queue.will_change(turn.log.next_lsn());
            self.state.holdings.release(&entry);
            self.scratch.runs.push(Run::one(job.queue, level, seq));
        }
        let queue = self.state.queues.get_mut(&job.queue)?;
        queue.deletes += 1;
        if queue.is_vacant(turn.now()) || queue.has_changes() {
            self.state.wake(job.queue);
        }
        Some(())
    }

    /// The worker's name of a session.
    pub(crate) fn worker_of(&self, session: SessionId) -> &[u8] {
        self.sessions.get(session).map_or(&[], |it| &it.info.peer)
    }
}
