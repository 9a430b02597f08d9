//! Dead letters: messages that were rejected, expired, were too many or came back too often go to
//! the queue's dead-letter exchange, in one atomic group with their removal. Until their message
//! has been read they wait as `Graves`. What their headers then say is [`letter`].

mod letter;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use model::{Log, MessageRef, QueueId};

use crate::Engine;
use crate::channel::Turn;
use crate::effects::Read;
use crate::fifo::{Entry, Stored};
use crate::loose;
use crate::map::Map;
use crate::perform::Address;
use crate::record::{self, Head, Run};
use letter::{Death, Letter};

/// Why a message died. The numbers are persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    Rejected = 0,
    Expired = 1,
    MaxLength = 2,
    DeliveryLimit = 3,
}

impl Reason {
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Rejected,
            1 => Self::Expired,
            2 => Self::MaxLength,
            3 => Self::DeliveryLimit,
            _ => return None,
        })
    }

    /// As `x-death` says it. Source: `RabbitMQ` "Dead Letter Exchanges", effects on the message.
    const fn word(self) -> &'static [u8] {
        match self {
            Self::Rejected => b"rejected",
            Self::Expired => b"expired",
            Self::MaxLength => b"maxlen",
            Self::DeliveryLimit => b"delivery_limit",
        }
    }
}

/// A message on its way to the dead-letter exchange. In the log it is still in its queue, or
/// condemned when a commit said so.
#[derive(Debug)]
struct Grave {
    place: Address,
    reason: Reason,
    entry: Entry,
    is_condemned: bool,
}

/// All dead messages that are not dead-lettered yet. Volatile.
#[derive(Debug, Default)]
pub(crate) struct Graves {
    waiting: VecDeque<Grave>,
    /// By token of the read.
    reading: Map<u64, Grave>,
    /// Queues with more to lose, held up until there is room.
    stalled: BTreeSet<QueueId>,
}

impl Graves {
    /// Most messages buried in one call.
    pub(crate) const BURIALS_MAX: usize = 1024;
    /// Most messages being read at once.
    const READS_MAX: usize = 256;
    /// Above, nothing more expires or is cut off until some are buried.
    const GRAVES_MAX: usize = 4096;

    /// Adds a message that was taken from its queue.
    pub(crate) fn add(&mut self, place: Address, reason: Reason, entry: Entry) {
        self.waiting.push_back(Grave { place, reason, entry, is_condemned: false });
    }

    /// Adds a message that is condemned in the log too.
    pub(crate) fn add_condemned(&mut self, place: Address, reason: Reason, entry: Entry) {
        self.waiting.push_back(Grave { place, reason, entry, is_condemned: true });
    }

    /// Whether a message of this queue may die of itself now; if not, the queue is remembered.
    pub(crate) fn has_room(&mut self, queue: QueueId) -> bool {
        let has_room = self.waiting.len() + self.reading.len() < Self::GRAVES_MAX;
        if !has_room {
            self.stalled.insert(queue);
        }
        has_room
    }

    /// Whether the queue waits for room.
    pub(crate) fn is_stalled(&self, queue: QueueId) -> bool {
        self.stalled.contains(&queue)
    }

    /// Whether something can be buried, or asked for, now.
    pub(crate) fn can_go_on(&self) -> bool {
        self.waiting.front().is_some_and(|grave| {
            matches!(grave.entry.stored, Stored::Memory(_)) || self.reading.len() < Self::READS_MAX
        })
    }

    /// Entries that are in their queues as far as the log is concerned.
    pub(crate) fn still_queued(&self) -> impl Iterator<Item = (Address, &Entry)> {
        let all = self.waiting.iter().chain(self.reading.values());
        all.filter(|grave| !grave.is_condemned).map(|grave| (grave.place, &grave.entry))
    }

    /// Those that died for one reason.
    pub(crate) fn still_queued_for(
        &self,
        reason: Reason,
    ) -> impl Iterator<Item = (Address, &Entry)> {
        let all = self.waiting.iter().filter(move |grave| grave.reason == reason);
        all.map(|grave| (grave.place, &grave.entry))
    }

    fn take_stalled(&mut self) -> BTreeSet<QueueId> {
        if self.waiting.len() + self.reading.len() < Self::GRAVES_MAX / 2 {
            std::mem::take(&mut self.stalled)
        } else {
            BTreeSet::new()
        }
    }
}

impl Engine {
    /// Buries messages in memory, asks for those in the log.
    pub(crate) fn bury<L: Log>(&mut self, turn: &mut Turn<'_, L>, budget: &mut usize) {
        while *budget > 0 && self.graves.can_go_on() {
            let Some(grave) = self.graves.waiting.pop_front() else { break };
            *budget -= 1;
            match &grave.entry.stored {
                Stored::Memory(bytes) => {
                    let bytes = std::sync::Arc::clone(bytes);
                    self.bury_one(turn, &grave, &bytes);
                }
                Stored::Log(lsn) => {
                    let lsn = *lsn;
                    let token = self.take_token();
                    self.graves.reading.insert(token, grave);
                    turn.out.reads.push(Read { token, lsn });
                }
            }
        }
        for queue in self.graves.take_stalled() {
            self.state.wake(queue);
        }
    }

    /// The message of a grave has been read.
    pub(crate) fn bury_read<L: Log>(&mut self, turn: &mut Turn<'_, L>, token: u64, payload: &[u8]) {
        if let Some(grave) = self.graves.reading.remove(&token) {
            self.bury_one(turn, &grave, payload);
            for queue in self.graves.take_stalled() {
                self.state.wake(queue);
            }
        }
    }

    fn bury_one<L: Log>(&mut self, turn: &mut Turn<'_, L>, grave: &Grave, payload: &[u8]) {
        let (queue, level, seq) = grave.place;
        let run = (!queue.is_volatile()).then(|| Run::one(queue, level, seq));
        let is_there = self.state.queues.contains_key(&queue);
        match Head::read(payload) {
            Some(head) if is_there => {
                self.dead_letter(turn, (queue, run), grave.reason, &head);
            }
            // The queue is gone, or the message does not read: it goes without a letter.
            Some(_) | None => self.write_burial(turn, run.filter(|_| is_there)),
        }
        if !grave.is_condemned
            && let Some(queue) = self.state.queues.get_mut(&queue)
        {
            queue.done(seq);
        }
        if !grave.is_condemned || self.state.condemned.remove(&grave.place).is_some() {
            self.state.holdings.release(&grave.entry);
        }
    }

    fn write_burial<L: Log>(&mut self, turn: &mut Turn<'_, L>, run: Option<Run>) {
        if let Some(run) = run {
            let bytes = &mut self.scratch.head;
            bytes.clear();
            run.put(bytes);
            record::append(turn.log, record::SETTLE, bytes);
        }
    }

    /// Publishes a dead message to where its queue's dead letters go, and settles `run` in the
    /// same group. Without such an exchange the message is only settled.
    pub(crate) fn dead_letter<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (queue, run): (QueueId, Option<Run>),
        reason: Reason,
        head: &Head<'_>,
    ) {
        let seq = run.map(|run| run.first);
        let letter = self.write_letter(turn.now(), (queue, seq), reason, head);
        if let Some((letter, exchange)) = letter {
            let mut targets = Vec::new();
            let message = MessageRef {
                exchange: &exchange,
                routing_key: &letter.routing_key,
                properties: &letter.properties,
                body: head.message.body,
            };
            self.route_stored(head.vhost, &message, &letter.extra_keys, &mut targets);
            self.drop_cycles(&letter, &mut targets);
            self.keep_accepting(message.body.len() as u64, &mut targets);
            let dead = Head {
                message,
                at: turn.now(),
                ttl: None,
                due: None,
                job: None,
                ties: &[],
                targets: &[],
                extra_keys: &[],
                ..*head
            };
            self.store(turn, &dead, (&targets, &[]), run.is_some());
        }
        self.write_burial(turn, run);
    }

    fn write_letter(
        &self,
        now: u64,
        (queue, seq): (QueueId, Option<u64>),
        reason: Reason,
        head: &Head<'_>,
    ) -> Option<(Letter, Bytes)> {
        let queue = self.state.queues.get(&queue)?;
        let job = seq.and_then(loose::position).and_then(|lsn| queue.loose()?.get(lsn));
        let options = &queue.spec.options;
        let exchange = options.dead_letter_exchange.clone()?;
        self.state.vhost(head.vhost)?.router.exchange(&exchange)?;
        let death = Death {
            queue: &queue.name,
            reason,
            seconds: now / 1000,
            new_key: options.dead_letter_routing_key.as_ref(),
            attempts: job.and_then(|job| job.past.as_ref()).map_or(&[], |past| past.all()),
        };
        Some((Letter::write(&death, &head.message), exchange))
    }

    /// A message that comes back to a queue it died in, without ever being rejected on the way,
    /// would go round for ever.
    fn drop_cycles(&self, letter: &Letter, targets: &mut Vec<QueueId>) {
        targets.retain(|target| {
            let queue = self.state.queues.get(target);
            queue.is_some_and(|queue| !letter.is_cycle(&queue.name))
        });
    }

    /// Full queues that refuse messages refuse dead letters too; memory is limited for these as
    /// for any other message.
    fn keep_accepting(&self, bytes: u64, targets: &mut Vec<QueueId>) {
        let has_memory =
            self.state.holdings.volatile_bytes + bytes <= self.limits.volatile_bytes_max;
        targets.retain(|target| {
            let queue = self.state.queues.get(target);
            let is_full = queue.is_some_and(|queue| {
                queue.spec.options.overflow != model::Overflow::DropHead && queue.is_over(1, bytes)
            });
            !is_full && (has_memory || !target.is_volatile())
        });
    }
}

/// Appends a `Condemn` record's payload.
pub(crate) fn put_condemned(out: &mut Vec<u8>, reason: Reason, runs: &[Run]) {
    out.push(reason as u8);
    for run in runs {
        run.put(out);
    }
}
