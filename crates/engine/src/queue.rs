//! One queue: what is in it, who consumes it, when it does something by itself. Requests about
//! queues are `declare.rs`; handing out is `dispatch.rs`; persisted changes are `perform.rs`.

mod jobs;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use model::{JobState, Lsn, QueueId, QueueKind, QueueSpec, RANK, SessionId, VhostId};

use crate::channel::{ConsumerKey, Sessions};
use crate::fifo::{Entry, Fifo, NEVER, Taken};
use crate::loose::{self, Loose};
use crate::ties::Keys;

/// Default delivery limit of quorum queues whose dead letters go somewhere.
/// Source: `RabbitMQ` 4.0 quorum queues, "Position and poison message handling".
const QUORUM_DELIVERY_MAX: u32 = 20;

/// A declared queue; small until it holds something.
#[derive(Debug)]
pub(crate) struct Queue {
    // Durable (for durable queues).
    pub id: QueueId,
    pub vhost: VhostId,
    pub name: Bytes,
    /// Shared with other queues declared alike.
    pub spec: Arc<QueueSpec>,
    /// By rank, lowest first; a level appears with its first message.
    levels: Vec<Level>,
    /// Jobs that stand outside the lines.
    loose: Option<Box<Loose>>,
    /// Idempotency keys of its jobs.
    pub keys: Option<Box<Keys>>,
    /// Messages that ever came in.
    pub total: u64,
    // Volatile.
    /// Gate of what a look at the queue shows: end of the last record about it or its content,
    /// or just inside that record.
    pub changed: Lsn,
    /// Gate of its deliveries: end of the last record that let a held message in. Without it a
    /// crash could undo that after the message was shown, and it would come again as if for the
    /// first time.
    pub promoted: Lsn,
    /// Of an exclusive queue.
    pub owner: Option<SessionId>,
    pub ready: u64,
    /// Bytes of ready bodies.
    pub ready_bytes: u64,
    /// Bytes of delayed and buried bodies.
    pub aside_bytes: u64,
    /// Sessions that put their jobs here.
    pub users: u32,
    /// Nothing is handed out before (ms since 1970), and for how many seconds that is.
    pub pause: (u64, u32),
    /// Times it was paused.
    pub pauses: u64,
    /// Jobs that were deleted.
    pub deletes: u64,
    /// Out with consumers.
    pub unsettled: u64,
    pub consumers: Option<Box<Consumers>>,
    /// Last time it was used (ms since 1970), for its own expiry.
    pub used_at: u64,
    /// When its timer is set to go off; [`NEVER`] when it is not set.
    pub timer: u64,
    /// When its timer last went off.
    pub rung_at: u64,
    /// A message that expires is or was in it since it was last empty.
    pub may_expire: bool,
    /// It is in the list of queues to look after at the end of the turn.
    pub is_woken: bool,
}

#[derive(Debug)]
struct Level {
    /// Its number, which is persisted. A queue with priorities has one for each, of that number.
    number: u8,
    rank: u32,
    line: Fifo,
}

/// The rank of an AMQP priority: the highest priority is the lowest rank.
pub(crate) const fn rank_of(priority: u8) -> u32 {
    RANK - 256 * priority as u32
}

/// An entry taken from a queue, and from which line.
#[derive(Debug)]
pub(crate) struct Head {
    pub level: u8,
    pub taken: Taken,
}

impl Queue {
    /// An empty queue.
    pub(crate) fn new(id: QueueId, vhost: VhostId, name: Bytes, spec: Arc<QueueSpec>) -> Self {
        Self {
            id,
            vhost,
            name,
            spec,
            levels: Vec::new(),
            loose: None,
            keys: None,
            total: 0,
            changed: Lsn::ZERO,
            promoted: Lsn::ZERO,
            owner: None,
            ready: 0,
            ready_bytes: 0,
            aside_bytes: 0,
            users: 0,
            pause: (0, 0),
            pauses: 0,
            deletes: 0,
            unsettled: 0,
            consumers: None,
            used_at: 0,
            timer: NEVER,
            rung_at: 0,
            may_expire: false,
            is_woken: false,
        }
    }

    /// The record that will stand at `lsn` changes what is in the queue.
    pub(crate) fn will_change(&mut self, lsn: Lsn) {
        if !self.id.is_volatile() {
            self.changed = self.changed.max(lsn.plus(1));
        }
    }

    /// Number of consumers.
    pub(crate) fn consumer_count(&self) -> u32 {
        let count = self.consumers.as_ref().map_or(0, |consumers| consumers.all.len());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The line of a priority, made when it is missing.
    pub(crate) fn line(&mut self, priority: u8) -> Option<(u8, &mut Fifo)> {
        let level = priority.min(self.spec.options.priority_max);
        self.line_of(level, rank_of(level)).map(|line| (level, line))
    }

    /// A line by its number, made with this rank when it is missing.
    fn line_of(&mut self, level: u8, rank: u32) -> Option<&mut Fifo> {
        let found = self.levels.binary_search_by(|other| other.rank.cmp(&rank));
        let index = found.unwrap_or_else(|index| {
            self.levels.insert(index, Level { number: level, rank, line: Fifo::default() });
            index
        });
        self.levels.get_mut(index).map(|level| &mut level.line)
    }

    fn existing(&mut self, level: u8) -> Option<&mut Fifo> {
        let found = self.levels.iter_mut().find(|other| other.number == level);
        found.map(|level| &mut level.line)
    }

    /// Number of the next entry of a line, if the line is there.
    pub(crate) fn next_seq(&self, level: u8) -> Option<u64> {
        self.lines().find(|(other, _)| *other == level).map(|(_, line)| line.next_seq())
    }

    /// Adds a new message.
    pub(crate) fn push(&mut self, priority: u8, entry: Entry) {
        self.may_expire = entry.expires != NEVER || (self.may_expire && self.ready > 0);
        self.ready += 1;
        self.ready_bytes += u64::from(entry.body);
        if let Some((_, line)) = self.line(priority) {
            line.push(entry);
        }
    }

    /// Takes the next ready message.
    pub(crate) fn pop(&mut self) -> Option<Head> {
        if self.loose.is_some()
            && let Some(lsn) = self.loose_first()
        {
            return self.pop_loose(lsn);
        }
        for Level { number, line, .. } in &mut self.levels {
            if let Some(taken) = line.pop() {
                self.ready -= 1;
                self.ready_bytes -= u64::from(taken.entry.body);
                return Some(Head { level: *number, taken });
            }
        }
        debug_assert_eq!(self.ready, 0, "{:?} counts messages it does not have", self.name);
        None
    }

    /// Puts a taken message back into its place.
    pub(crate) fn put_back(&mut self, level: u8, seq: u64, entry: Entry) {
        self.may_expire |= entry.expires != NEVER;
        if let Some(lsn) = loose::position(seq) {
            self.with_loose(|loose| loose.give_back(lsn, entry.returns));
            return;
        }
        self.ready += 1;
        self.ready_bytes += u64::from(entry.body);
        if let Some(line) = self.existing(level) {
            line.put_back(seq, entry);
        }
    }

    /// Takes one particular message, to be put back perhaps.
    pub(crate) fn take(&mut self, level: u8, seq: u64) -> Option<Entry> {
        if let Some(lsn) = loose::position(seq) {
            return self.with_loose(|loose| loose.hand_out(lsn))?;
        }
        let entry = self.existing(level)?.take(seq)?;
        self.uncount(&entry);
        Some(entry)
    }

    /// Takes one particular message for good.
    pub(crate) fn take_for_good(&mut self, level: u8, seq: u64) -> Option<Entry> {
        if let Some(lsn) = loose::position(seq) {
            return self.with_loose(|loose| loose.remove(lsn))?;
        }
        let entry = self.existing(level)?.take_for_good(seq)?;
        self.uncount(&entry);
        Some(entry)
    }

    /// Takes the first message that has expired by `now`, of those that stand first in their rank.
    pub(crate) fn pop_expired(&mut self, now: u64) -> Option<Head> {
        if !self.may_expire {
            return None;
        }
        let loose = self.loose.as_ref().and_then(|loose| loose.first(JobState::Ready));
        let job = loose.and_then(|lsn| self.loose.as_ref()?.get(lsn));
        if job.is_some_and(|job| job.entry.expires <= now) {
            return self.pop_loose(loose?);
        }
        for Level { number, line, .. } in &mut self.levels {
            if line.peek().is_some_and(|entry| entry.expires <= now) {
                let taken = line.pop()?;
                self.ready -= 1;
                self.ready_bytes -= u64::from(taken.entry.body);
                return Some(Head { level: *number, taken });
            }
        }
        None
    }

    /// When the first of the heads expires.
    pub(crate) fn head_expires(&self) -> u64 {
        if !self.may_expire {
            return NEVER;
        }
        let heads = self.levels.iter().filter_map(|level| level.line.peek());
        let loose = self.loose.as_ref().and_then(|loose| {
            loose.first(JobState::Ready).and_then(|lsn| loose.get(lsn)).map(|job| job.entry.expires)
        });
        heads.map(|entry| entry.expires).chain(loose).min().unwrap_or(NEVER)
    }

    /// When it does something by itself: a head expires, a delay or a pause ends, nobody used it.
    pub(crate) fn next_time(&self) -> u64 {
        let due = self.loose.as_ref().and_then(|loose| loose.next_due()).unwrap_or(NEVER);
        let pause = if self.pause.0 > 0 { self.pause.0 } else { NEVER };
        let keys = self.keys.as_ref().map_or(0, |keys| keys.last_kept());
        let keys = if keys > self.rung_at { keys } else { NEVER };
        self.head_expires().min(self.unused_until()).min(due).min(pause).min(keys)
    }

    /// When it deletes itself if nobody uses it until then.
    pub(crate) fn unused_until(&self) -> u64 {
        match self.spec.options.expires_ms {
            Some(expires) if self.consumer_count() == 0 => self.used_at.saturating_add(expires),
            _ => NEVER,
        }
    }

    /// Whether one more body of so many bytes is over a limit.
    pub(crate) fn is_over(&self, messages: u64, bytes: u64) -> bool {
        let options = &self.spec.options;
        options.length_max.is_some_and(|max| self.ready + self.aside() + messages > max)
            || options
                .bytes_max
                .is_some_and(|max| self.ready_bytes + self.aside_bytes + bytes > max)
    }

    /// The most returns a message may have, `None` for any number.
    pub(crate) fn returns_max(&self) -> Option<u32> {
        let options = &self.spec.options;
        let default = options.kind == QueueKind::Quorum && options.dead_letter_exchange.is_some();
        options.delivery_max.or_else(|| default.then_some(QUORUM_DELIVERY_MAX))
    }

    /// The delivery count to show.
    pub(crate) fn shown_returns(&self, returns: u32) -> Option<u32> {
        let options = &self.spec.options;
        let is_shown = options.kind == QueueKind::Quorum || options.delivery_max.is_some();
        (is_shown && returns > 0).then_some(returns)
    }

    /// All lines with their levels, lowest rank first.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (u8, &Fifo)> {
        self.levels.iter().map(|level| (level.number, &level.line))
    }

    /// As [`Queue::lines`], to change.
    pub(crate) fn lines_mut(&mut self) -> impl Iterator<Item = &mut Fifo> {
        self.levels.iter_mut().map(|level| &mut level.line)
    }

    /// Sets the content of a line (from a snapshot) and counts it.
    pub(crate) fn install(&mut self, (level, rank): (u8, u32), content: Fifo) {
        content.for_each(&mut |_, entry| {
            self.ready += 1;
            self.ready_bytes += u64::from(entry.body);
            self.may_expire |= entry.expires != NEVER;
        });
        if let Some(line) = self.line_of(level, rank) {
            *line = content;
        }
    }
}

/// Who consumes a queue.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    /// In order of arrival.
    pub all: Vec<ConsumerKey>,
    /// Those that may have credit, by priority, highest first.
    rings: Vec<Ring>,
    /// The one that gets everything, on a single-active-consumer queue.
    pub active: Option<ConsumerKey>,
    /// The only one is there exclusively.
    pub is_exclusive: bool,
}

#[derive(Debug)]
struct Ring {
    priority: i32,
    keys: VecDeque<ConsumerKey>,
}

impl Consumers {
    /// Lets a consumer take part, behind the others of its priority.
    pub(crate) fn enter(&mut self, key: ConsumerKey, priority: i32) {
        let found = self.rings.binary_search_by(|ring| priority.cmp(&ring.priority));
        match found {
            Ok(index) => {
                if let Some(ring) = self.rings.get_mut(index) {
                    ring.keys.push_back(key);
                }
            }
            Err(index) => {
                self.rings.insert(index, Ring { priority, keys: VecDeque::from([key]) });
            }
        }
    }

    /// Takes a consumer out of the round.
    pub(crate) fn leave(&mut self, key: ConsumerKey) {
        for ring in &mut self.rings {
            ring.keys.retain(|other| *other != key);
        }
        self.rings.retain(|ring| !ring.keys.is_empty());
    }

    /// The next consumer with credit. Those found without credit leave the round, parked.
    pub(crate) fn next(&mut self, sessions: &mut Sessions) -> Option<ConsumerKey> {
        for ring in &mut self.rings {
            while let Some(key) = ring.keys.front().copied() {
                if sessions.has_credit(key) {
                    return Some(key);
                }
                ring.keys.pop_front();
                if let Some(consumer) = sessions.consumer_mut(key) {
                    consumer.is_parked = true;
                }
            }
        }
        None
    }

    /// The consumer that [`Consumers::next`] found has had its turn.
    pub(crate) fn rotate(&mut self) {
        if let Some(ring) = self.rings.iter_mut().find(|ring| !ring.keys.is_empty()) {
            ring.keys.rotate_left(1);
        }
    }
}
