//! [`State`]: what the log carries, and the one place where it changes. A request's `decide` part
//! (publish.rs, settle.rs, ...) writes a record and calls the same function here that recovery
//! calls with the record read back. Nothing here decides, refuses or answers.

mod access;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::{Binding, ExchangeSpec, Lsn, QueueId, QueueSpec, Ties, VhostId};

use crate::dead_letter::Reason;
use crate::delayed::{Delayed, Held};
use crate::effects::Damage;
use crate::fifo::{Entry, NEVER, Stored};
use crate::loose::{self, Shift, Why};
use crate::map::Map;
use crate::permission::Rights;
use crate::queue::Queue;
use crate::record::{self, Head, JobHead, Promote, Run};
use crate::result::{GoneHead, ResultHead};
use crate::routing::{Cascade, Removed};
use crate::ties::Keep;
use crate::usage::Grains;
use crate::user::User;
use crate::vhost::Vhost;
use crate::work::Done;

pub(crate) use access::take_row;

/// Everything but sessions: durable things, and the volatile queues and exchanges among them.
#[derive(Debug)]
pub(crate) struct State {
    /// By id; ids are not used again.
    pub vhosts: Vec<Option<Box<Vhost>>>,
    pub vhost_ids: BTreeMap<Bytes, VhostId>,
    pub queues: Map<QueueId, Box<Queue>>,
    /// Next id of a durable queue.
    pub next_queue: u32,
    /// Next id of a volatile queue, without its top bit. Volatile.
    pub next_volatile: u32,
    pub users: BTreeMap<Bytes, User>,
    pub rights: Rights,
    /// End of the last record about users, permissions or virtual hosts. Volatile.
    pub changed: Lsn,
    pub delayed: Delayed,
    /// Messages that a commit condemned and that are not dead-lettered yet.
    pub condemned: BTreeMap<Address, (Reason, Entry)>,
    pub holdings: Holdings,
    /// What was done with jobs, as far as it is written down.
    pub done: Done,
    /// Queues to look after at the end of the turn, each once. Volatile.
    pub woken: Vec<QueueId>,
    /// Virtual hosts with results that changed in this turn, each once. Volatile.
    pub news: Vec<VhostId>,
    /// No result is to be forgotten before, ms since 1970. Volatile.
    pub results_until: u64,
}

/// What queues and deliveries hold on to; follows from the rest.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// References into the log.
    pub grains: Grains,
    /// Bytes in volatile queues and on their way from them.
    pub volatile_bytes: u64,
}

impl Holdings {
    /// Counts a reference to a stored message.
    fn hold(&mut self, stored: &Stored, bytes: u64) {
        match stored {
            Stored::Log(lsn) => self.grains.add(*lsn, bytes),
            Stored::Memory(_) => self.volatile_bytes += bytes,
        }
    }

    /// Gives a reference up.
    pub(crate) fn release(&mut self, entry: &Entry) {
        match entry.stored {
            Stored::Log(lsn) => self.grains.remove(lsn, entry.record_bytes()),
            Stored::Memory(_) => self.volatile_bytes -= entry.record_bytes(),
        }
    }
}

/// One entry of one line of one queue.
pub(crate) type Address = (QueueId, u8, u64);

/// A message on its way into queues.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub stored: Stored,
    /// Now, ms since 1970.
    pub at: u64,
    /// Its own time to live in ms.
    pub ttl: Option<u64>,
    pub priority: u8,
    /// It was put as a job.
    pub job: Option<JobHead>,
    /// What else holds it then.
    pub ties: Option<Box<Ties>>,
    /// Bytes of the body.
    pub body: u32,
    /// Bytes of the record before the body.
    pub head: u32,
}

impl Arrival {
    /// A stored message arrives when it is published.
    pub(crate) fn new(stored: Stored, head: &Head<'_>, record_bytes: usize) -> Self {
        let body = length32(head.message.body.len());
        Self {
            stored,
            at: head.at,
            ttl: head.ttl,
            priority: head.priority,
            job: head.job,
            ties: head.ties(),
            body,
            head: length32(record_bytes) - body,
        }
    }
}

fn length32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl State {
    /// Only the virtual host `/`.
    pub(crate) fn new() -> Self {
        let mut state = Self {
            vhosts: Vec::new(),
            vhost_ids: BTreeMap::new(),
            queues: Map::default(),
            next_queue: 0,
            next_volatile: 0,
            users: BTreeMap::new(),
            rights: Rights::default(),
            changed: Lsn::ZERO,
            delayed: Delayed::default(),
            condemned: BTreeMap::new(),
            holdings: Holdings::default(),
            done: Done::default(),
            woken: Vec::new(),
            news: Vec::new(),
            results_until: NEVER,
        };
        state.put_vhost(VhostId(0), Bytes::from_static(b"/"));
        state
    }

    pub(crate) fn vhost(&self, id: VhostId) -> Option<&Vhost> {
        self.vhosts.get(usize::from(id.0))?.as_deref()
    }

    pub(crate) fn vhost_mut(&mut self, id: VhostId) -> Option<&mut Vhost> {
        self.vhosts.get_mut(usize::from(id.0))?.as_deref_mut()
    }

    /// Has a queue looked after at the end of the turn.
    pub(crate) fn wake(&mut self, id: QueueId) {
        if let Some(queue) = self.queues.get_mut(&id)
            && !std::mem::replace(&mut queue.is_woken, true)
        {
            self.woken.push(id);
        }
    }

    /// Puts a message into a queue and wakes it.
    pub(crate) fn arrive(&mut self, id: QueueId, arrival: &Arrival) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let ttl = match (queue.spec.options.message_ttl_ms, arrival.ttl) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let due = arrival.job.map_or(0, |job| job.due(arrival.at));
        let from = arrival.at.max(due);
        let entry = Entry {
            stored: arrival.stored.clone(),
            expires: ttl.map_or(NEVER, |ttl| from.saturating_add(ttl).min(NEVER - 1)),
            body: arrival.body,
            head: arrival.head,
            returns: 0,
            lease_s: arrival.job.map_or(0, |job| job.lease_s),
        };
        if let Stored::Log(lsn) = entry.stored {
            queue.will_change(lsn);
            self.done.jobs += 1;
        }
        self.holdings.hold(&entry.stored, entry.record_bytes());
        queue.total += 1;
        match arrival.job {
            None => queue.push(arrival.priority, entry),
            Some(job) => {
                let ties = arrival.ties.clone();
                queue.push_job(job.rank, (due, job.delay_s), (entry, ties));
            }
        }
        if !std::mem::replace(&mut queue.is_woken, true) {
            self.woken.push(id);
        }
    }

    /// A message record: into its queues, or held until it is due.
    pub(crate) fn take_message(&mut self, lsn: Lsn, head: &Head<'_>, record_bytes: usize) {
        let arrival = Arrival::new(Stored::Log(lsn), head, record_bytes);
        if let Some(due) = head.due {
            self.hold_back(lsn, due, &arrival);
        } else {
            for target in head.target_ids() {
                self.arrive(target, &arrival);
            }
        }
    }

    /// Holds a delayed message until `due`.
    pub(crate) fn hold_back(&mut self, lsn: Lsn, due: u64, arrival: &Arrival) {
        self.delayed.insert(due, lsn, Held { body: arrival.body, head: arrival.head });
        self.holdings.grains.add(lsn, u64::from(arrival.body) + u64::from(arrival.head));
    }

    /// A delayed message goes to its queues.
    pub(crate) fn promote(&mut self, promote: &Promote) {
        let Some(held) = self.delayed.remove(promote.due, promote.lsn) else { return };
        let arrival = Arrival {
            stored: Stored::Log(promote.lsn),
            at: promote.at,
            ttl: promote.ttl,
            priority: promote.priority,
            job: None,
            ties: None,
            body: held.body,
            head: held.head,
        };
        for target in &promote.targets {
            self.arrive(*target, &arrival);
        }
        self.holdings.grains.remove(promote.lsn, held.record_bytes());
    }

    /// Removes entries that are in the queue or condemned. (Those out with a consumer are not in
    /// the queue; `settle.rs` has them in hand and calls [`State::release`].)
    pub(crate) fn settle(&mut self, runs: &[Run]) {
        for run in runs {
            self.take_run(run, &mut Queue::take_for_good, &mut |state, _, entry| {
                state.holdings.release(&entry);
            });
        }
    }

    /// Entries came back unsettled once more.
    pub(crate) fn give_back(&mut self, runs: &[Run]) {
        for run in runs {
            self.take_run(run, &mut Queue::take, &mut |state, (queue, level, seq), mut entry| {
                entry.returns = entry.returns.saturating_add(1);
                if let Some(queue) = state.queues.get_mut(&queue) {
                    queue.put_back(level, seq, entry);
                }
            });
        }
    }

    /// Moves entries from their queues to the condemned.
    pub(crate) fn condemn(&mut self, reason: Reason, runs: &[Run]) {
        for run in runs {
            self.take_run(run, &mut Queue::take_for_good, &mut |state, address, entry| {
                state.condemned.insert(address, (reason, entry));
            });
        }
    }

    /// A job goes to stand outside the lines, or moves there; `held` is its entry when somebody has
    /// it, for then it is in no line.
    /// Returns its position.
    pub(crate) fn shift(
        &mut self,
        shift: &Shift,
        held: Option<Entry>,
        changed: Lsn,
    ) -> Option<Lsn> {
        let queue = self.queues.get_mut(&shift.queue)?;
        let rank = queue.rank(shift.level);
        let mut job = if let Some(lsn) = loose::position(shift.seq) {
            queue.lift(lsn)?
        } else {
            let taken = queue.take_for_good(shift.level, shift.seq);
            loose::Job::new(held.or(taken)?, rank, 0, 0)
        };
        job.entry.returns = job.entry.returns.saturating_add(u32::from(shift.was_claimed));
        (job.rank, job.due, job.delay_s) = (shift.rank, shift.due, shift.delay_s);
        job.burial = shift.is_buried.then(|| queue.next_burial());
        job.changed = changed;
        let tally = &mut job.tally;
        let count = match shift.why {
            Why::Released => Some(&mut tally.releases),
            Why::TimedOut => Some(&mut tally.timeouts),
            Why::Buried => Some(&mut tally.buries),
            Why::Kicked => Some(&mut tally.kicks),
            Why::Failed => Some(&mut tally.failures),
            Why::Lost => None,
        };
        if let Some(count) = count {
            *count = count.saturating_add(1);
        }
        let lsn = job.entry.stored.lsn();
        queue.put_loose(job);
        lsn
    }

    fn take_run(
        &mut self,
        run: &Run,
        take: &mut dyn FnMut(&mut Queue, u8, u64) -> Option<Entry>,
        then: &mut dyn FnMut(&mut Self, Address, Entry),
    ) {
        // No further than there are entries, whatever a damaged record says.
        let line = self.queues.get(&run.queue).and_then(|queue| queue.next_seq(run.level));
        let is_loose = loose::position(run.first).is_some();
        let end = if is_loose {
            run.first.saturating_add(1)
        } else {
            run.first.saturating_add(run.count).min(line.unwrap_or(0))
        };
        for seq in run.first..end {
            let address = (run.queue, run.level, seq);
            let queue = self.queues.get_mut(&run.queue);
            let found = queue.and_then(|queue| take(queue, run.level, seq));
            let found = found.or_else(|| self.condemned.remove(&address).map(|it| it.1));
            if let Some(entry) = found {
                then(self, address, entry);
            }
        }
    }

    /// Whether a record or snapshot may put this queue there: neither number nor name is taken.
    pub(crate) fn is_new_queue(&self, id: QueueId, vhost: VhostId, name: &[u8]) -> bool {
        let known = self.vhost(vhost).and_then(|vhost| vhost.router.queue(name));
        !id.is_volatile() && known.is_none() && !self.queues.contains_key(&id)
    }

    /// Creates a queue whose name is new.
    pub(crate) fn put_queue(&mut self, id: QueueId, vhost: VhostId, name: Bytes, spec: QueueSpec) {
        if !id.is_volatile() {
            self.next_queue = self.next_queue.max(id.0 + 1);
        }
        let Some(home) = self.vhost_mut(vhost) else { return };
        home.router.declare_queue(name.clone(), id);
        let spec = home.share(spec);
        self.queues.insert(id, Box::new(Queue::new(id, vhost, name, spec)));
    }

    /// Somebody declared a queue that a door had made for its jobs: it is what they say.
    pub(crate) fn keep_queue(&mut self, id: QueueId, spec: QueueSpec) {
        let Some(vhost) = self.queues.get(&id).map(|queue| queue.vhost) else { return };
        let Some(spec) = self.vhost_mut(vhost).map(|home| home.share(spec)) else { return };
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.spec = spec;
        }
    }

    /// Removes a queue with its bindings and all that is in it.
    pub(crate) fn delete_queue(
        &mut self,
        id: QueueId,
        cascade: Cascade,
    ) -> Option<(Box<Queue>, Removed)> {
        let queue = self.queues.remove(&id)?;
        for (_, line) in queue.lines() {
            line.for_each(&mut |_, entry| self.holdings.release(entry));
        }
        // Who has a job gives its message up.
        let loose = queue.loose().into_iter().flat_map(loose::Loose::all);
        for job in loose.filter(|job| !job.is_out) {
            self.holdings.release(&job.entry);
        }
        let condemned = (id, 0, 0)..=(id, u8::MAX, u64::MAX);
        while let Some((address, _)) = self.condemned.range(condemned.clone()).next() {
            let address = *address;
            if let Some((_, entry)) = self.condemned.remove(&address) {
                self.holdings.release(&entry);
            }
        }
        let removed = self.vhost_mut(queue.vhost)?.router.remove_queue(&queue.name, cascade);
        Some((queue, removed))
    }

    pub(crate) fn put_exchange(&mut self, vhost: VhostId, name: &Bytes, spec: ExchangeSpec) {
        if let Some(vhost) = self.vhost_mut(vhost) {
            vhost.router.declare_exchange(name, spec);
        }
    }

    pub(crate) fn delete_exchange(
        &mut self,
        vhost: VhostId,
        name: &[u8],
        cascade: Cascade,
    ) -> Removed {
        let vhost = self.vhost_mut(vhost);
        vhost.map_or_else(Removed::default, |vhost| vhost.router.delete_exchange(name, cascade))
    }

    /// Adds a binding. `None` when it cannot be, which a checked one never is.
    pub(crate) fn bind(&mut self, vhost: VhostId, binding: &Binding) -> Option<()> {
        let Some(vhost) = self.vhost_mut(vhost) else { return Some(()) };
        vhost.router.bind(binding).ok().map(|_| ())
    }

    pub(crate) fn unbind(
        &mut self,
        vhost: VhostId,
        binding: &Binding,
        cascade: Cascade,
    ) -> Removed {
        let vhost = self.vhost_mut(vhost);
        let removed = vhost.map(|vhost| vhost.router.unbind(binding, cascade));
        removed.and_then(Result::ok).unwrap_or_default()
    }

    pub(crate) fn put_vhost(&mut self, id: VhostId, name: Bytes) {
        let index = usize::from(id.0);
        if self.vhosts.len() <= index {
            self.vhosts.resize_with(index + 1, || None);
        }
        if let Some(place) = self.vhosts.get_mut(index) {
            *place = Some(Box::new(Vhost::new(name.clone())));
            self.vhost_ids.insert(name, id);
        }
    }

    /// Removes a virtual host and everything in it; returns its queues, by id.
    pub(crate) fn delete_vhost(&mut self, id: VhostId) -> Vec<Queue> {
        let inside = self.queues.values().filter(|queue| queue.vhost == id);
        let mut ids: Vec<QueueId> = inside.map(|queue| queue.id).collect();
        ids.sort_unstable();
        let queues = ids.into_iter().filter_map(|id| self.delete_queue(id, Cascade::Hold));
        let queues = queues.map(|(queue, _)| *queue).collect();
        let place = self.vhosts.get_mut(usize::from(id.0));
        if let Some(vhost) = place.and_then(Option::take) {
            self.release_results(&vhost.results);
            self.vhost_ids.remove(&vhost.name);
            self.rights.forget_vhost(id);
        }
        queues
    }

    /// Takes in one record of the log.
    pub(crate) fn replay(&mut self, lsn: Lsn, kind: u8, payload: &[u8]) -> Result<(), Damage> {
        let done = match kind {
            record::MESSAGE
            | record::SETTLE
            | record::RETURN
            | record::CONDEMN
            | record::PROMOTE
            | record::SHIFT
            | record::WORK_DONE
            | record::KEY_KEPT
            | record::ATTEMPT_ENDED
            | record::RESULT
            | record::RESULT_GONE => self.replay_message(lsn, kind, payload),
            record::QUEUE_DECLARED
            | record::QUEUE_DELETED
            | record::EXCHANGE_DECLARED
            | record::EXCHANGE_DELETED
            | record::BOUND
            | record::UNBOUND
            | record::QUEUE_KEPT => self.replay_topology(kind, payload),
            record::VHOST_PUT..=record::TOPIC_PERMISSION_CLEARED => {
                self.replay_access(kind, payload)
            }
            _ => return Err(Damage::Record { lsn, kind, what: "its kind is unknown" }),
        };
        done.ok_or(Damage::Record { lsn, kind, what: "it is cut or malformed" })
    }

    fn replay_message(&mut self, lsn: Lsn, kind: u8, payload: &[u8]) -> Option<()> {
        match kind {
            record::MESSAGE => self.take_message(lsn, &Head::read(payload)?, payload.len()),
            record::PROMOTE => self.promote(&Promote::read(payload)?),
            record::SHIFT => {
                // Its queue may be gone, and it with it.
                let shift = Shift::read(payload)?;
                self.shift(&shift, None, lsn);
            }
            record::KEY_KEPT => {
                let keep = Keep::read(payload)?;
                if let Some(queue) = self.queues.get_mut(&keep.queue) {
                    queue.keys.get_or_insert_default().keep(&keep);
                }
            }
            record::ATTEMPT_ENDED => self.replay_attempt(lsn, payload)?,
            record::RESULT => {
                let (head, kept) = ResultHead::read(lsn, payload)?;
                self.keep_result(head.vhost, head.key, kept);
            }
            record::RESULT_GONE => {
                let gone = GoneHead::read(payload)?;
                self.drop_result(gone.vhost, &gone.key, lsn);
            }
            record::WORK_DONE => self.done.note(&Done::read(payload)?),
            record::RETURN => self.give_back(&record::read_runs(payload)?),
            record::CONDEMN => {
                let (reason, runs) = payload.split_first()?;
                self.condemn(Reason::from_number(*reason)?, &record::read_runs(runs)?);
            }
            _ => self.settle(&record::read_runs(payload)?),
        }
        Some(())
    }

    fn replay_topology(&mut self, kind: u8, mut payload: &[u8]) -> Option<()> {
        let rest = &mut payload;
        if kind == record::QUEUE_DECLARED {
            let id = QueueId(record::take_u32(rest)?);
            let vhost = VhostId(record::take_u16(rest)?);
            let name = record::take_text(rest)?;
            if !self.is_new_queue(id, vhost, &name) {
                return None;
            }
            self.put_queue(id, vhost, name, record::take_queue_spec(rest)?);
            return Some(());
        }
        if kind == record::QUEUE_DELETED {
            let id = QueueId(record::take_u32(rest)?);
            self.delete_queue(id, Cascade::Hold);
            return Some(());
        }
        if kind == record::QUEUE_KEPT {
            let id = QueueId(record::take_u32(rest)?);
            self.keep_queue(id, record::take_queue_spec(rest)?);
            return Some(());
        }
        let vhost = VhostId(record::take_u16(rest)?);
        match kind {
            record::EXCHANGE_DECLARED => {
                let name = record::take_text(rest)?;
                self.put_exchange(vhost, &name, record::take_exchange_spec(rest)?);
            }
            record::EXCHANGE_DELETED => {
                self.delete_exchange(vhost, &record::take_text(rest)?, Cascade::Hold);
            }
            record::BOUND => self.bind(vhost, &record::take_binding(rest)?)?,
            _ => {
                self.unbind(vhost, &record::take_binding(rest)?, Cascade::Hold);
            }
        }
        Some(())
    }

    /// The one shared copy of equal specs would be lost between virtual hosts; that is fine.
    pub(crate) fn spec(&self, id: QueueId) -> Option<Arc<QueueSpec>> {
        self.queues.get(&id).map(|queue| Arc::clone(&queue.spec))
    }
}
