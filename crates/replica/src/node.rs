//! [`Node`]: the solo pipeline. A request is appended and applied at once ([`Node::submit`]); what
//! follows from it waits in mailboxes until the log is durable that far ([`Node::commit`] moves
//! the watermark, [`Node::collect`] hands outputs over). Nothing here blocks.

mod hand_over;

use std::collections::VecDeque;
use std::rc::Rc;

use engine::{Effects, Engine, Login, Push, Read, Resume, SessionInfo};
use journal::{Fault, Room};
use model::{Envelope, Millis, Request, SessionId};

use crate::alarm::{Alarm, Alarms};
use crate::backup::Backups;
use crate::clock::{Clock, Entropy};
use crate::company::Company;
use crate::held;
use crate::log::CommitLog;
use crate::mailbox::{Mailbox, Mailboxes, post};
use crate::tally::Tally;
use crate::upkeep::Upkeep;

pub(crate) use hand_over::log_place;

/// Uncommitted log bytes above which publishers are not read from.
const UNCOMMITTED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Outputs waiting in one mailbox above which its session is not read from.
const WAITING_MAX: usize = 16 * 1024;
/// What the log's cache of recent records may keep when nothing happens.
const IDLE_CACHE_BYTES: usize = 1024 * 1024;
/// Larger batches are never waited for: parsing goes on while they are flushed.
const WAIT_BYTES_MAX: usize = 32 * 1024;
/// Records nobody waits for (acknowledgements) are flushed after this time.
const LAZY_SYNC_MS: u64 = 5;

/// The engine, its log and the outputs that wait for it.
#[derive(Debug)]
pub struct Node {
    pub(crate) engine: Engine,
    pub(crate) log: CommitLog,
    pub(crate) mailboxes: Mailboxes,
    /// Sessions with outputs that wait for a commit.
    listed: Vec<SessionId>,
    effects: Effects,
    /// Stored messages the engine asked for.
    pub(crate) reads: VecDeque<Read>,
    logins: Vec<Login>,
    clock: Clock,
    alarms: Alarms,
    company: Company,
    /// Somebody waits for the records in the open block.
    pub(crate) is_sync_wanted: bool,
    /// When the oldest record that nobody waits for was appended.
    lazy_since: Option<Millis>,
    pub(crate) upkeep: Upkeep,
    pub(crate) backups: Backups,
    is_congested: bool,
    /// A commit was far behind at the end of the last turn.
    was_behind: bool,
    /// Why every session, also one that is opened now, has to end.
    ending: Option<&'static str>,
    tally: Tally,
}

/// What the end of a turn found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Call [`Node::commit`] again at this time at the latest.
    pub deadline: Option<Millis>,
}

impl Node {
    pub(crate) fn new(engine: Engine, log: CommitLog, entropy: Entropy) -> Self {
        Self {
            engine,
            log,
            mailboxes: Mailboxes::default(),
            listed: Vec::new(),
            effects: Effects::default(),
            reads: VecDeque::new(),
            logins: Vec::new(),
            clock: Clock::new(entropy),
            alarms: Alarms::default(),
            company: Company::default(),
            is_sync_wanted: false,
            lazy_since: None,
            upkeep: Upkeep::default(),
            backups: Backups::default(),
            is_congested: false,
            was_behind: false,
            ending: None,
            tally: Tally::default(),
        }
    }

    /// Recovery is over.
    pub(crate) fn begin(&mut self, now: Millis) {
        let at = self.clock.stamp(now);
        self.engine.recovered(at);
    }

    /// A client connected; `wake` is called when [`Node::collect`] has something for it.
    pub fn open_session(&mut self, info: SessionInfo, wake: Rc<dyn Fn()>) -> SessionId {
        let mut mailbox = Mailbox::new(wake);
        if let Some(reason) = self.ending {
            let (sealed, durable) = (self.log.journal.open_lsn(), self.log.journal.durable());
            mailbox.end(sealed, durable, reason);
        }
        let id = self.mailboxes.open(mailbox);
        self.engine.open_session(id, info);
        self.tally.sessions = self.tally.sessions.saturating_add(1);
        id
    }

    /// A client is gone.
    pub fn close_session(&mut self, now: Millis, id: SessionId) {
        self.mailboxes.close(id);
        let at = self.clock.stamp(now);
        self.engine.close_session(at, id, &mut self.log, &mut self.effects);
        self.carry_out(now, None);
    }

    /// Appends and applies requests in order. Their outputs come out of [`Node::collect`].
    pub fn submit(&mut self, now: Millis, from: SessionId, batch: &mut Vec<Envelope>) {
        self.company.note(now, from);
        let (before, jobs_before) = (self.tally.published, self.tally.enqueued);
        let mut added = 0;
        for envelope in batch.iter() {
            self.tally.count(&envelope.request);
            added += held::added_bytes(&envelope.request);
        }
        if self.tally.enqueued > jobs_before {
            self.note_enqueuer(from);
            // A door for jobs has no word for "wait": each job is refused, and the rest goes on.
            if self.alarms.first().is_some() || self.log.journal.is_tight(added) {
                return self.submit_as_room_allows(now, from, batch);
            }
        }
        if self.tally.published > before {
            self.note_publisher(from);
            if self.log.journal.is_tight(added) {
                return self.submit_as_room_allows(now, from, batch);
            }
        }
        for envelope in batch.drain(..) {
            let at = self.clock.stamp(now);
            self.engine.apply(at, from, envelope, &mut self.log, &mut self.effects);
            if self.effects.outputs.len() >= 256 {
                self.carry_out(now, Some(from));
            }
        }
        self.carry_out(now, Some(from));
    }

    /// As [`Node::submit`] when the log may have no room to spare for all of it: the first request
    /// that adds messages it has no room for is refused, and those behind it. Apart, because
    /// looking into a request before it is passed on costs a copy of it.
    fn submit_as_room_allows(&mut self, now: Millis, from: SessionId, batch: &mut Vec<Envelope>) {
        let mut is_tight = false;
        let is_alarmed = self.alarms.first().is_some();
        for envelope in batch.drain(..) {
            let added = held::added_bytes(&envelope.request);
            is_tight |= added > 0 && self.log.journal.is_tight(added);
            let is_job = matches!(envelope.request, Request::Enqueue(_));
            let is_refused = is_tight || (is_alarmed && is_job);
            if let Some(push) = held::refused(&envelope).filter(|_| is_refused) {
                let gate = self.log.journal.durable();
                self.effects.outputs.push(engine::Output { session: from, gate, push });
            } else {
                let at = self.clock.stamp(now);
                self.engine.apply(at, from, envelope, &mut self.log, &mut self.effects);
            }
            self.carry_out(now, Some(from));
        }
    }

    /// The end of a turn: time, sync, release, upkeep, each a named stage.
    ///
    /// # Errors
    /// The first storage fault, and the same one ever after: the process must end.
    pub fn commit(&mut self, now: Millis) -> Result<Commit, Fault> {
        self.tick(now);
        self.sync(now)?;
        self.poll(now)?;
        self.release();
        self.read_for_engine(now)?;
        self.keep_up()?;
        self.watch_room();
        self.watch_backup();
        self.log.check()?;
        Ok(Commit { deadline: self.next_deadline() })
    }

    /// Applies what is due.
    fn tick(&mut self, now: Millis) {
        let at = self.clock.stamp(now);
        if self.engine.next_deadline().is_some_and(|due| due <= at.now) {
            self.engine.tick(at, &mut self.log, &mut self.effects);
            self.carry_out(now, None);
        }
    }

    /// Hands the open block to the commit thread when somebody waits for it or it is old enough.
    /// While a commit is in flight this does nothing: the next batch gathers.
    fn sync(&mut self, now: Millis) -> Result<(), Fault> {
        self.log.check()?;
        // A wall clock that was set back starts the wait anew; it must not make it last for ever.
        self.lazy_since = self.lazy_since.map(|since| since.min(now));
        let is_due = self.lazy_since.is_some_and(|since| now >= since.plus(LAZY_SYNC_MS));
        if (self.is_sync_wanted || is_due) && !self.log.journal.is_committing() {
            if self.may_wait(now) {
                self.log.journal.flush_here()?;
            } else {
                self.log.journal.flush()?;
            }
            self.is_sync_wanted = false;
            self.lazy_since =
                (self.log.journal.open_lsn() < self.log.journal.next_lsn()).then_some(now);
        }
        Ok(())
    }

    /// Whether this thread may as well wait for the disk itself, which spares two wake-ups between
    /// threads: somebody waits, the disk is quick, nobody else has asked for anything lately, and
    /// the batch is so small that the next one would hardly gain from being parsed meanwhile.
    fn may_wait(&self, now: Millis) -> bool {
        self.is_sync_wanted
            && self.company.is_alone(now)
            && self.log.journal.is_prompt()
            && self.log.journal.uncommitted_bytes() <= WAIT_BYTES_MAX
    }

    /// Collects what the journal's threads finished.
    fn poll(&mut self, now: Millis) -> Result<(), Fault> {
        let was = self.log.journal.durable();
        let progress = self.log.journal.poll()?;
        self.upkeep.note(&progress);
        for fetched in progress.fetched {
            self.take_fetched(now, fetched)?;
        }
        if self.log.journal.durable() > was {
            self.sync(now)?;
        }
        Ok(())
    }

    /// Wakes every session whose first output may go out now.
    fn release(&mut self) {
        let durable = self.log.journal.durable();
        let mailboxes = &mut self.mailboxes;
        self.listed.retain(|id| {
            let Some(mailbox) = mailboxes.get_mut(*id) else { return false };
            if !mailbox.is_ready(durable) {
                return true;
            }
            mailbox.is_listed = false;
            (mailbox.wake)();
            false
        });
    }

    /// Whether the session must not be read from for now.
    #[must_use]
    pub fn is_paused(&self, id: SessionId) -> bool {
        self.mailboxes.get(id).is_some_and(|mailbox| {
            if mailbox.is_ending {
                // Its last answers first; after them only its goodbye is heard.
                return mailbox.has_last_words();
            }
            mailbox.is_blocked
                || mailbox.items.len() > WAITING_MAX
                || (mailbox.is_publisher && self.is_congested)
                || (mailbox.is_enqueuer && self.is_behind())
        })
    }

    /// Raises or clears an alarm.
    pub fn set_alarm(&mut self, alarm: Alarm, is_on: bool) {
        if !self.alarms.set(alarm, is_on) {
            return;
        }
        tracing::warn!(alarm = alarm.reason(), is_on, "resource alarm");
        if alarm == Alarm::Disk && is_on {
            self.block_publishers(alarm);
        }
        if self.alarms.first().is_some() {
            return;
        }
        let (sealed, durable) = (self.log.journal.open_lsn(), self.log.journal.durable());
        for (_, mailbox) in self.mailboxes.iter_mut() {
            if std::mem::take(&mut mailbox.is_blocked) {
                mailbox.push(sealed, durable, Push::Blocked(None));
                (mailbox.wake)();
            }
        }
    }

    /// Tells whoever has published: without room in the log they are not read from, so waiting
    /// for their next publish, as other alarms do, would leave them without a word.
    fn block_publishers(&mut self, alarm: Alarm) {
        let (sealed, durable) = (self.log.journal.open_lsn(), self.log.journal.durable());
        for (_, mailbox) in self.mailboxes.iter_mut() {
            if mailbox.is_publisher && !std::mem::replace(&mut mailbox.is_blocked, true) {
                mailbox.push(sealed, durable, Push::Blocked(Some(alarm.reason())));
                (mailbox.wake)();
            }
        }
    }

    /// The alarm to show, if any is on.
    #[must_use]
    pub fn alarm(&self) -> Option<Alarm> {
        self.alarms.first()
    }

    /// Whether this alarm is on.
    #[must_use]
    pub fn is_alarmed(&self, alarm: Alarm) -> bool {
        self.alarms.is_on(alarm)
    }

    /// Asks every session to end.
    pub fn shut_down(&mut self, reason: &'static str) {
        self.ending = Some(reason);
        let (sealed, durable) = (self.log.journal.open_lsn(), self.log.journal.durable());
        for (_, mailbox) in self.mailboxes.iter_mut() {
            mailbox.end(sealed, durable, reason);
            (mailbox.wake)();
        }
    }

    /// Logins that wait for their password to be checked; answer with [`Node::verified`].
    pub fn take_logins(&mut self) -> Vec<Login> {
        std::mem::take(&mut self.logins)
    }

    /// The answer to a login.
    pub fn verified(&mut self, now: Millis, login: &Login, is_ok: bool) {
        let at = self.clock.stamp(now);
        let what = Resume::Verified { session: login.session, token: login.token, is_ok };
        self.engine.resume(at, what, &mut self.log, &mut self.effects);
        self.carry_out(now, None);
    }

    /// Resumes the engine with a record it asked for.
    pub(crate) fn resume_with(&mut self, now: Millis, read: Read, payload: &[u8]) {
        let at = self.clock.stamp(now);
        let what = Resume::Record { token: read.token, lsn: read.lsn, payload };
        self.engine.resume(at, what, &mut self.log, &mut self.effects);
        self.carry_out(now, None);
    }

    /// Whether [`Node::commit`] has something to do now: a batch to cut or a read to serve.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let is_batch_waiting = self.is_sync_wanted && !self.log.journal.is_committing();
        let can_read = !self.reads.is_empty() && !self.is_held_back();
        is_batch_waiting || can_read || self.upkeep.is_wanted || self.log.check().is_err()
    }

    /// Looks at the free space of the disk; call it about once a second.
    pub fn measure_disk(&mut self) {
        if let Err(fault) = self.log.journal.measure_disk() {
            self.log.poison(fault);
        }
        self.upkeep.is_wanted |= self.log.journal.try_again();
        self.watch_room();
    }

    /// Gives memory back that only traffic needs; call it when nothing happened for a while.
    pub fn trim(&mut self) {
        if self.log.journal.uncommitted_bytes() == 0 {
            self.log.journal.trim(IDLE_CACHE_BYTES);
            self.effects = Effects::default();
        }
    }

    /// Does the journal's work in this thread; only for a node opened with `Workers::Inline`.
    pub fn run_pending(&mut self) {
        self.log.journal.run_pending();
    }

    /// Open sessions.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.mailboxes.count()
    }

    /// What passed through so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// The journal, for figures.
    #[must_use]
    pub const fn journal(&self) -> &journal::Journal {
        &self.log.journal
    }

    /// The engine, for figures.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Sorts effects into mailboxes. Sessions other than `from` are woken; `from` collects anyway.
    fn carry_out(&mut self, now: Millis, from: Option<SessionId>) {
        let (sealed, durable) = (self.log.journal.open_lsn(), self.log.journal.durable());
        let end = self.log.journal.next_lsn();
        for mut output in self.effects.outputs.drain(..) {
            // Whatever it depends on is in the log by now: a later gate might never open.
            output.gate = output.gate.min(end);
            let id = output.session;
            self.is_sync_wanted |= output.gate > durable;
            let Some(is_ready) = post(&mut self.mailboxes, sealed, durable, output) else {
                continue;
            };
            let Some(mailbox) = self.mailboxes.get_mut(id) else { continue };
            if is_ready {
                if from != Some(id) && mailbox.items.len() == 1 {
                    (mailbox.wake)();
                }
            } else if !std::mem::replace(&mut mailbox.is_listed, true) {
                self.listed.push(id);
            }
        }
        if !self.effects.reads.is_empty() {
            self.reads.extend(self.effects.reads.drain(..));
            self.is_sync_wanted = true;
        }
        self.logins.append(&mut self.effects.logins);
        if self.lazy_since.is_none() && self.log.journal.open_lsn() < self.log.journal.next_lsn() {
            self.lazy_since = Some(now);
        }
    }

    /// Remembers who publishes, and tells them when something is short.
    fn note_publisher(&mut self, id: SessionId) {
        let Some(mailbox) = self.mailboxes.get_mut(id) else { return };
        mailbox.is_publisher = true;
        if let Some(alarm) = self.alarms.first()
            && !std::mem::replace(&mut mailbox.is_blocked, true)
        {
            let durable = self.log.journal.durable();
            mailbox.push(self.log.journal.open_lsn(), durable, Push::Blocked(Some(alarm.reason())));
        }
    }

    /// Remembers who puts jobs: they are slowed down while a commit is far behind.
    fn note_enqueuer(&mut self, id: SessionId) {
        if let Some(mailbox) = self.mailboxes.get_mut(id) {
            mailbox.is_enqueuer = true;
        }
    }

    /// Holds publishers back while the log has no room or a commit is far behind.
    fn watch_room(&mut self) {
        let room = self.log.journal.room();
        let is_behind = self.is_behind();
        self.set_alarm(Alarm::Disk, room == Room::Full);
        let is_congested = room != Room::Free || is_behind;
        let is_over = self.was_behind && !is_behind;
        self.was_behind = is_behind;
        if (self.is_congested && !is_congested) || is_over {
            for (_, mailbox) in self.mailboxes.iter_mut() {
                if mailbox.is_publisher || mailbox.is_enqueuer {
                    (mailbox.wake)();
                }
            }
        }
        self.is_congested = is_congested;
    }

    /// Whether a commit is far behind.
    fn is_behind(&self) -> bool {
        self.log.journal.uncommitted_bytes() > UNCOMMITTED_BYTES_MAX
    }

    fn next_deadline(&self) -> Option<Millis> {
        let lazy = self.lazy_since.map(|since| since.plus(LAZY_SYNC_MS));
        match (self.engine.next_deadline(), lazy) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}
