//! Commands -> requests: at most one for each, but for batches. Not here: `put` (`body`), `reserve`
//! (`claim`), `login`; what is answered (`answer`).

use std::time::Instant;

use bytes::Bytes;
use model::{JobId, JobState, JobVerb, Request, Work};
use wire::{Close, Outbox};

use super::{Connection, ticket::Ask};
use crate::{
    codec::{Command, Ids},
    map,
};

/// Tubes a connection may watch at a time.
const WATCHED_MAX: usize = 1024;

impl Connection {
    /// Does what a command says.
    pub(super) fn run(
        &mut self,
        now: Instant,
        command: &Command<'_>,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        match *command {
            Command::Reserve => self.claim(out),
            Command::ReserveWithTimeout(seconds) => self.claim_within(now, seconds, out),
            Command::ReserveBatch(count) => self.claim_batch(count, out),
            Command::Delete(id) => self.ask_job(Ask::Delete, id, JobVerb::Delete, out),
            Command::DeleteBatch(ref ids) => self.delete_batch(ids, out),
            Command::ReserveJob(id) => self.ask_job(Ask::ReserveJob, id, JobVerb::Claim, out),
            Command::Release { id, priority, delay_s } => {
                let verb = JobVerb::Release { rank: priority, delay_s };
                self.ask_job(Ask::Release, id, verb, out);
            }
            Command::Bury { id, priority } => {
                self.ask_job(Ask::Bury, id, JobVerb::Bury { rank: priority }, out);
            }
            Command::Touch(id) => self.ask_job(Ask::Touch, id, JobVerb::Renew, out),
            Command::KickJob(id) => self.ask_job(Ask::KickJob, id, JobVerb::Kick, out),
            Command::Peek(id) => self.ask_job(Ask::Peek, id, JobVerb::Look, out),
            Command::StatsJob(id) => self.ask_job(Ask::StatsJob, id, JobVerb::Describe, out),
            Command::PeekReady => self.look_first(JobState::Ready, out),
            Command::PeekDelayed => self.look_first(JobState::Delayed, out),
            Command::PeekBuried => self.look_first(JobState::Buried, out),
            Command::Kick(count) => {
                self.ask_work(Ask::Kick, Work::Kick(self.used.clone(), count.into()), out);
            }
            Command::Use(tube) => self.use_tube(tube, out),
            Command::Watch(tube) => self.watch(tube, out),
            Command::Ignore(tube) => {
                self.note(tube);
                self.ask_work(Ask::Ignore, Work::Ignore(Bytes::copy_from_slice(tube)), out);
            }
            Command::PauseTube { tube, delay_s } => {
                let work = Work::Pause(Bytes::copy_from_slice(tube), delay_s);
                self.ask_work(Ask::Pause, work, out);
            }
            Command::StatsTube(tube) => {
                let work = Work::DescribeQueue(Bytes::copy_from_slice(tube));
                self.ask_work(Ask::StatsTube, work, out);
            }
            Command::Stats => {
                self.host_facts.push_back(self.host.facts());
                self.ask_work(Ask::Stats, Work::Describe, out);
            }
            Command::ListTubes => self.ask_work(Ask::ListTubes, Work::ListQueues, out),
            // What is listed is what holds when the answer has its turn.
            Command::ListTubeUsed => self.ask(Ask::ListTubeUsed, Request::Echo, out),
            Command::ListTubesWatched => self.ask(Ask::ListTubesWatched, Request::Echo, out),
            Command::Quit => self.farewell = Some(Close::Done),
            // Both have a way of their own.
            Command::Put(_) | Command::Login(_) => {}
        }
        self.end_if_over()
    }

    fn ask_job(&mut self, ask: Ask, id: u64, verb: JobVerb, out: &mut Outbox) {
        self.ask(ask, Request::Job(JobId(id), verb), out);
    }

    fn ask_work(&mut self, ask: Ask, work: Work, out: &mut Outbox) {
        self.ask(ask, Request::Work(Box::new(work)), out);
    }

    fn look_first(&mut self, state: JobState, out: &mut Outbox) {
        self.ask_work(Ask::Peek, Work::LookFirst(self.used.clone(), state), out);
    }

    /// Jobs go there from now on: a `put` may follow before the answer.
    fn use_tube(&mut self, tube: &[u8], out: &mut Outbox) {
        self.used = Bytes::copy_from_slice(tube);
        self.uses_asked += 1;
        self.note(tube);
        self.ask_work(Ask::Use, Work::Use(self.used.clone()), out);
    }

    /// Deviation(BEAN-011): a connection watches at most 1024 tubes; more are `OUT_OF_MEMORY`.
    fn watch(&mut self, tube: &[u8], out: &mut Outbox) {
        let is_full = self.watched.len().saturating_add(self.watches_asked) >= WATCHED_MAX;
        if is_full && !self.watched.iter().any(|watched| watched == tube) {
            self.say(map::OUT_OF_MEMORY, out);
            return;
        }
        self.watches_asked += 1;
        self.note(tube);
        self.ask_work(Ask::Watch, Work::Watch(Bytes::copy_from_slice(tube)), out);
    }

    fn delete_batch(&mut self, ids: &Ids<'_>, out: &mut Outbox) {
        let mut ids = ids.clone().peekable();
        while let Some(id) = ids.next() {
            let is_last = ids.peek().is_none();
            let ask = if is_last { Ask::LastBatchDelete } else { Ask::BatchDelete };
            self.ask_job(ask, id, JobVerb::Delete, out);
        }
    }
}
