//! What is asked about results, and how they come and go. Not here: how they stand in memory
//! (`result.rs`), and the commits that a result is a part of (`commit.rs`).

use bytes::Bytes;
use model::limits::{RESULT_NOTES_BYTES_MAX, RESULTS_MAX};
use model::{
    JobRef, Log, Lsn, Millis, Policy, RESULT_KEY_BYTES_MAX, Record, Refusal, Reply, ResultFacts,
    Results as Question, StoreResult, Verb, VhostId,
};

use super::{Change, GoneHead, Kept, ResultHead, Results, Waiter};
use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::effects::{Output, Place, Push};
use crate::fifo::{Entry, NEVER, Stored};
use crate::record;
use crate::work::seconds_from;

/// One answer holds no more bytes of results than this, unless the first alone does.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
/// Longest media type.
const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// Most sessions that wait for changes of one virtual host.
const WAITERS_MAX: usize = 65_536;

/// A result that is about to be written, and how.
#[derive(Debug)]
pub(crate) struct Storing {
    pub vhost: VhostId,
    pub job: Option<JobRef>,
    pub result: StoreResult,
}

impl Engine {
    /// `Request::Results`.
    pub(crate) fn results<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        question: Question,
    ) -> Result<(), Refusal> {
        let vhost = self.entered(asker)?;
        match question {
            Question::Get(key) => self.get_result(turn, (asker, vhost), &key),
            Question::List { prefix, after, most } => {
                self.list_results(turn, (asker, vhost), (&prefix, after.as_deref(), most));
            }
            Question::Changes { prefix, after, most, waits } => {
                let waiter = waits.then(|| Waiter { asker, prefix: prefix.clone(), after });
                if !self.show_changes(turn, (asker, vhost), (&prefix, after, most, waits)) {
                    self.wait_for_change(vhost, waiter)?;
                }
            }
            Question::Put(result) => {
                self.check_result(&result)?;
                let is_stored = !self.is_kept_back(turn.now(), vhost, &result);
                if is_stored {
                    let storing = Storing { vhost, job: None, result };
                    self.write_result(turn, asker, (&storing, false));
                }
                let gate = turn.log.next_lsn();
                turn.reply(asker, gate, Reply::Stored { is_stored });
            }
            Question::Delete(key) => {
                let is_there = self.forget_result(turn, vhost, key);
                let gate = turn.log.next_lsn();
                turn.reply(asker, gate, if is_there { Reply::Done } else { Reply::Empty });
            }
        }
        Ok(())
    }

    /// # Errors
    /// When a result cannot be stored, whatever is there.
    pub(crate) fn check_result(&self, result: &StoreResult) -> Result<(), Refusal> {
        let limits = [
            (result.key.len(), RESULT_KEY_BYTES_MAX, "bytes of a result's key"),
            (result.content_type.len(), CONTENT_TYPE_BYTES_MAX, "bytes of a media type"),
            (result.notes.len(), RESULT_NOTES_BYTES_MAX, "bytes of a result's notes"),
            (result.value.len(), self.limits.message_bytes_max as usize, "bytes of one result"),
        ];
        for (length, max, what) in limits {
            if length > max {
                return Err(Refusal::LimitReached { limit: format!("{what} ({max})") });
            }
        }
        let all = self.state.vhosts.iter().flatten().map(|vhost| vhost.results.len() as u64);
        let max = self.limits.results_max;
        if all.sum::<u64>() >= max {
            return Err(Refusal::LimitReached { limit: format!("results ({max})") });
        }
        Ok(())
    }

    /// Whether another result was first, and counts.
    pub(crate) fn is_kept_back(&self, now: u64, vhost: VhostId, result: &StoreResult) -> bool {
        let results = self.state.vhost(vhost).map(|vhost| &vhost.results);
        let kept = results.and_then(|results| results.get(&result.key));
        result.policy == Policy::FirstWins && kept.is_some_and(|kept| kept.expires > now)
    }

    /// Writes a checked result and puts it in its place.
    pub(crate) fn write_result<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (storing, has_more): (&Storing, bool),
    ) {
        let Storing { vhost, job, result } = storing;
        let now = turn.now();
        let expires = if result.ttl_s == 0 { NEVER } else { seconds_from(now, result.ttl_s) };
        let key = Bytes::copy_from_slice(&result.key);
        let head = ResultHead { vhost: *vhost, at: now, expires, job: *job, key };
        let bytes = &mut self.scratch.head;
        bytes.clear();
        let worker = self.sessions.get(asker.session).map_or(&[][..], |it| &it.info.peer);
        head.put(worker, result, bytes);
        let parts: &[&[u8]] = &[bytes, &result.value];
        let length = u32::try_from(bytes.len() + result.value.len()).unwrap_or(u32::MAX);
        let lsn = turn.log.append(Record { kind: record::RESULT, has_more, parts });
        let kept = Kept { lsn, bytes: length, at: now, expires };
        self.state.keep_result(*vhost, head.key, kept);
    }

    fn forget_result<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        vhost: VhostId,
        key: Bytes,
    ) -> bool {
        let results = self.state.vhost(vhost).map(|vhost| &vhost.results);
        if results.and_then(|results| results.get(&key)).is_none() {
            return false;
        }
        let gone = GoneHead { vhost, key };
        let bytes = &mut self.scratch.head;
        bytes.clear();
        gone.put(bytes);
        let lsn = record::append(turn.log, record::RESULT_GONE, bytes);
        self.state.drop_result(vhost, &gone.key, lsn);
        true
    }

    fn get_result<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (asker, id): (Asker, VhostId),
        key: &Bytes,
    ) {
        let vhost = self.state.vhost(id);
        let kept = vhost.and_then(|vhost| vhost.results.get(key));
        // Its end may not be durable yet.
        let gate = vhost.map_or(Lsn::ZERO, |vhost| vhost.results.last.plus(1));
        if let Some(kept) = kept.filter(|kept| kept.expires > turn.now()) {
            self.show_result(turn, asker, (key.clone(), kept));
        } else {
            turn.reply(asker, gate, Reply::Empty);
        }
    }

    fn show_result<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (key, kept): (Bytes, Kept),
    ) {
        let Kept { lsn, bytes, at, expires } = kept;
        let facts = ResultFacts {
            key,
            revision: lsn,
            stored: Millis(at),
            expires: Some(Millis(expires)).filter(|_| expires != NEVER),
        };
        let push = Push::Result {
            ticket: asker.ticket,
            channel: asker.channel,
            facts: Box::new(facts),
            place: Place::Log(lsn),
            bytes,
        };
        // The record is needed until it was shown, whatever happens to the result meanwhile.
        let entry = Entry {
            stored: Stored::Log(lsn),
            expires: NEVER,
            body: bytes,
            head: 0,
            returns: 0,
            lease_s: 0,
        };
        let Some(owner) = self.sessions.get_mut(asker.session) else { return };
        self.state.holdings.grains.add(lsn, entry.record_bytes());
        owner.flight.hand(bytes, Some(entry));
        turn.out.outputs.push(Output { session: asker.session, gate: lsn.plus(1), push });
    }

    fn list_results<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (asker, id): (Asker, VhostId),
        (prefix, after, most): (&[u8], Option<&[u8]>, u32),
    ) {
        let Some(vhost) = self.state.vhost(id) else { return };
        let revision = vhost.results.last;
        let mut page = Page::new(most);
        let mut shown = Vec::new();
        let mut is_more = false;
        for (key, kept) in vhost.results.list(prefix, after) {
            if kept.expires <= turn.now() || !self.may_result(asker, Verb::Read, key) {
                continue;
            }
            if !page.takes(kept.bytes) {
                is_more = true;
                break;
            }
            shown.push((key.clone(), kept));
        }
        for found in shown {
            self.show_result(turn, asker, found);
        }
        let reply = Reply::Results { revision, is_more, has_gap: false };
        turn.reply(asker, revision.plus(1), reply);
    }

    /// Shows what changed; `false` when there is nothing and the asker waits.
    fn show_changes<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (asker, id): (Asker, VhostId),
        (prefix, after, most, waits): (&[u8], Lsn, u32, bool),
    ) -> bool {
        let Some(vhost) = self.state.vhost(id) else { return true };
        let has_gap = after < vhost.results.gap() && after > Lsn::ZERO;
        let mut revision = vhost.results.last.max(after);
        let mut page = Page::new(most);
        let mut shown = Vec::new();
        let mut is_more = false;
        for (lsn, change) in vhost.results.changes(after) {
            let (key, bytes) = match &change {
                Change::Kept(key, kept) => (key, kept.bytes),
                Change::Gone(key) => (key, 0),
            };
            if !key.starts_with(prefix) || !self.may_result(asker, Verb::Read, key) {
                continue;
            }
            if !page.takes(bytes) {
                is_more = true;
                break;
            }
            shown.push((lsn, change));
        }
        if shown.is_empty() && waits && !has_gap {
            return false;
        }
        if is_more && let Some((last, _)) = shown.last() {
            revision = *last;
        }
        for (lsn, change) in shown {
            match change {
                Change::Kept(key, kept) => self.show_result(turn, asker, (key, kept)),
                Change::Gone(key) => {
                    let push = Push::ResultGone { ticket: asker.ticket, key, revision: lsn };
                    let (session, gate) = (asker.session, lsn.plus(1));
                    turn.out.outputs.push(Output { session, gate, push });
                }
            }
        }
        turn.reply(asker, revision.plus(1), Reply::Results { revision, is_more, has_gap });
        true
    }

    fn wait_for_change(&mut self, vhost: VhostId, waiter: Option<Waiter>) -> Result<(), Refusal> {
        let results = self.state.vhost_mut(vhost).map(|vhost| &mut vhost.results);
        let (Some(results), Some(waiter)) = (results, waiter) else { return Ok(()) };
        if results.waiters.len() >= WAITERS_MAX {
            let limit = format!("sessions that wait for changes ({WAITERS_MAX})");
            return Err(Refusal::LimitReached { limit });
        }
        results.waiters.push_back(waiter);
        Ok(())
    }

    /// Serves who waits for changes, where there were some.
    pub(crate) fn tell_changes<L: Log>(&mut self, turn: &mut Turn<'_, L>) {
        while let Some(id) = self.state.news.pop() {
            let Some(vhost) = self.state.vhost_mut(id) else { continue };
            if vhost.results.waiters.is_empty() {
                continue;
            }
            let mut waiters = std::mem::take(&mut vhost.results.waiters);
            waiters.retain(|waiter| {
                let Waiter { asker, prefix, after } = waiter;
                let ask = (&prefix[..], *after, RESULTS_MAX, true);
                !self.show_changes(turn, (*asker, id), ask)
            });
            if let Some(vhost) = self.state.vhost_mut(id) {
                vhost.results.waiters = waiters;
            }
        }
    }

    /// The oldest wait for changes of a channel is given up. Returns whether there was one.
    pub(crate) fn withdraw_waiter<L: Log>(&mut self, turn: &mut Turn<'_, L>, asker: Asker) -> bool {
        let Ok(id) = self.entered(asker) else { return false };
        let Some(vhost) = self.state.vhost_mut(id) else { return false };
        let results = &mut vhost.results;
        let place = (asker.session, asker.channel);
        let is_own = |waiter: &Waiter| (waiter.asker.session, waiter.asker.channel) == place;
        let found = results.waiters.iter().position(is_own);
        let Some(waiter) = found.and_then(|at| results.waiters.remove(at)) else { return false };
        let revision = results.last.max(waiter.after);
        let reply = Reply::Results { revision, is_more: false, has_gap: false };
        turn.reply(waiter.asker, revision.plus(1), reply);
        true
    }

    /// A channel ends: nobody waits there any more.
    pub(crate) fn forget_waiters(&mut self, place: (model::SessionId, u16)) {
        for vhost in self.state.vhosts.iter_mut().flatten() {
            let waiters = &mut vhost.results.waiters;
            waiters.retain(|waiter| (waiter.asker.session, waiter.asker.channel) != place);
        }
    }

    /// Forgets the results whose time is over.
    pub(crate) fn expire_results<L: Log>(&mut self, turn: &mut Turn<'_, L>) {
        if self.state.results_until > turn.now() {
            return;
        }
        for index in 0..self.state.vhosts.len() {
            let id = VhostId(u16::try_from(index).unwrap_or(u16::MAX));
            while let Some(key) = self.state.vhost(id).and_then(|it| it.results.expired(turn.now()))
            {
                self.forget_result(turn, id, key);
            }
        }
        let vhosts = self.state.vhosts.iter().flatten();
        let next = vhosts.filter_map(|vhost| vhost.results.next_expiry()).min();
        self.state.results_until = next.unwrap_or(NEVER);
    }
}

/// How much one answer still takes.
struct Page {
    left: u32,
    bytes: u64,
}

impl Page {
    fn new(most: u32) -> Self {
        Self { left: most.clamp(1, RESULTS_MAX), bytes: 0 }
    }

    fn takes(&mut self, bytes: u32) -> bool {
        let sum = self.bytes.saturating_add(u64::from(bytes));
        if self.left == 0 || (self.bytes > 0 && sum > ANSWER_BYTES_MAX) {
            return false;
        }
        (self.left, self.bytes) = (self.left - 1, sum);
        true
    }
}

/// The state of the results of a virtual host, and what it holds on to.
impl crate::perform::State {
    /// A result takes its place; the one before it is not needed any more.
    pub(crate) fn keep_result(&mut self, vhost: VhostId, key: Bytes, kept: Kept) {
        let Some(results) = self.vhost_mut(vhost).map(|vhost| &mut vhost.results) else { return };
        let before = results.put(key, kept);
        self.note_result(vhost, kept.expires);
        self.holdings.grains.add(kept.lsn, u64::from(kept.bytes));
        if let Some(before) = before {
            self.holdings.grains.remove(before.lsn, u64::from(before.bytes));
        }
    }

    /// A result is forgotten.
    pub(crate) fn drop_result(&mut self, vhost: VhostId, key: &[u8], revision: Lsn) {
        let results = self.vhost_mut(vhost).map(|vhost| &mut vhost.results);
        if let Some(kept) = results.and_then(|results| results.remove(key, revision)) {
            self.note_result(vhost, NEVER);
            self.holdings.grains.remove(kept.lsn, u64::from(kept.bytes));
        }
    }

    /// Results of a virtual host changed.
    fn note_result(&mut self, vhost: VhostId, expires: u64) {
        if !self.news.contains(&vhost) {
            self.news.push(vhost);
        }
        self.results_until = self.results_until.min(expires);
    }

    /// A virtual host is gone with all its results.
    pub(crate) fn release_results(&mut self, results: &Results) {
        for (_, kept) in results.all() {
            self.holdings.grains.remove(kept.lsn, u64::from(kept.bytes));
        }
    }
}
