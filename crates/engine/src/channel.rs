//! Sessions, their channels and consumers, and what is with whom: all volatile. What happens to a
//! delivery is `settle.rs`, who gets the next one `dispatch.rs`.

mod unsettled;

use std::collections::VecDeque;

use bytes::Bytes;
use model::{ConsumerId, Lsn, QueueId, Reply, SessionId, Stamp, Ticket, VhostId};

use crate::authorize::Granted;
use crate::effects::{Actor, Effects, Output, Push, SessionInfo};
use crate::fifo::Entry;
use crate::work::Claims;

pub(crate) use unsettled::{Slot, Unsettled};

/// Place of a consumer in [`Sessions::consumers`]; used again after it is gone.
pub(crate) type ConsumerKey = u32;
/// No consumer: a delivery of `Get`, or its consumer is gone.
pub(crate) const NO_CONSUMER: ConsumerKey = u32::MAX;

/// Who asks, and where the answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub session: SessionId,
    pub channel: u16,
    pub ticket: Ticket,
}

/// What one call of the engine works with.
#[derive(Debug)]
pub(crate) struct Turn<'a, L> {
    pub at: Stamp,
    pub log: &'a mut L,
    pub out: &'a mut Effects,
}

impl<L> Turn<'_, L> {
    /// Answers a request once the log is durable up to `gate`.
    pub(crate) fn reply(&mut self, asker: Asker, gate: Lsn, reply: Reply) {
        let Asker { session, channel, ticket } = asker;
        let push = Push::Reply { channel, ticket, reply };
        self.out.outputs.push(Output { session, gate, push });
    }

    /// Milliseconds since 1970.
    pub(crate) const fn now(&self) -> u64 {
        self.at.now.0
    }
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub id: SessionId,
    pub info: SessionInfo,
    /// Starts as `info` says; a good login changes it.
    pub actor: Actor,
    pub vhost: Option<VhostId>,
    pub channels: Channels,
    /// Its exclusive queues, in order of declaration.
    pub exclusive: Vec<QueueId>,
    pub flight: Flight,
    /// Dispatch to this session waits for room.
    pub is_paused: bool,
}

/// The channels of a session by number. Nearly every session has one to three.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    sorted: Vec<(u16, Box<Channel>)>,
}

impl Channels {
    fn find(&self, number: u16) -> Result<usize, usize> {
        if self.sorted.first().is_some_and(|(first, _)| *first == number) {
            return Ok(0);
        }
        self.sorted.binary_search_by_key(&number, |(number, _)| *number)
    }

    pub(crate) fn get(&self, number: u16) -> Option<&Channel> {
        self.sorted.get(self.find(number).ok()?).map(|(_, channel)| &**channel)
    }

    pub(crate) fn get_mut(&mut self, number: u16) -> Option<&mut Channel> {
        let index = self.find(number).ok()?;
        self.sorted.get_mut(index).map(|(_, channel)| &mut **channel)
    }

    /// Adds a channel unless there is one with this number.
    pub(crate) fn open(&mut self, number: u16, is_strict: bool) {
        if let Err(index) = self.find(number) {
            self.sorted.insert(index, (number, Box::new(Channel::new(is_strict))));
        }
    }

    pub(crate) fn remove(&mut self, number: u16) -> Option<Box<Channel>> {
        self.find(number).ok().map(|index| self.sorted.remove(index).1)
    }

    /// What was allowed before has to be asked again.
    pub(crate) fn forget_grants(&mut self) {
        for (_, channel) in &mut self.sorted {
            channel.granted = Granted::default();
        }
    }

    /// Their numbers, ascending.
    pub(crate) fn numbers(&self) -> Vec<u16> {
        self.sorted.iter().map(|(number, _)| *number).collect()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Channel> {
        self.sorted.iter().map(|(_, channel)| &**channel)
    }

    pub(crate) const fn len(&self) -> usize {
        self.sorted.len()
    }
}

/// What was handed to a session and not yet reported as taken.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    /// Bytes handed out in all.
    handed: u64,
    /// Bytes taken in all.
    taken: u64,
    /// Settled deliveries on their way, by what had been handed out with them: their records are
    /// needed until they are taken.
    settled: VecDeque<(u64, Entry)>,
}

impl Flight {
    /// Counts one delivery; `settled` when nobody else keeps its record.
    pub(crate) fn hand(&mut self, bytes: u32, settled: Option<Entry>) {
        self.handed = self.handed.saturating_add(u64::from(bytes));
        self.settled.extend(settled.map(|entry| (self.handed, entry)));
    }

    /// Counts what was taken; `release` gets the entries that are not needed any more.
    pub(crate) fn take(&mut self, bytes: u64, release: &mut dyn FnMut(&Entry)) {
        self.taken = self.taken.saturating_add(bytes).min(self.handed);
        while let Some((_, entry)) = self.settled.pop_front_if(|(until, _)| *until <= self.taken) {
            release(&entry);
        }
        if self.settled.is_empty() && self.settled.capacity() > 1024 {
            self.settled = VecDeque::new();
        }
    }

    /// Bytes on their way.
    pub(crate) const fn bytes(&self) -> u64 {
        self.handed - self.taken
    }

    /// Settled entries on their way.
    pub(crate) fn settled(&self) -> impl Iterator<Item = &Entry> {
        self.settled.iter().map(|(_, entry)| entry)
    }
}

/// One conversation inside a session.
#[derive(Debug)]
pub(crate) struct Channel {
    /// After a refusal everything is ignored until the channel is closed.
    pub is_strict: bool,
    /// That refusal has happened.
    pub is_broken: bool,
    /// Most unsettled deliveries of each consumer; 0 is no limit.
    pub credit_each: u32,
    /// Most unsettled deliveries of all its consumers; 0 is no limit.
    pub credit_all: u32,
    /// Unsettled deliveries to consumers.
    pub outstanding: u32,
    pub next_tag: u64,
    pub consumers: Vec<ConsumerKey>,
    pub unsettled: Unsettled,
    /// End of the last record about a delivery of this channel, or just inside it.
    pub changed: Lsn,
    /// Address part of its reply consumer, see `reply_to.rs`.
    pub reply_token: Option<Bytes>,
    /// The last publish that was allowed.
    pub granted: Granted,
    /// What it has going on with jobs.
    pub claims: Option<Box<Claims>>,
}

impl Channel {
    pub(crate) fn new(is_strict: bool) -> Self {
        Self {
            is_strict,
            is_broken: false,
            credit_each: 0,
            credit_all: 0,
            outstanding: 0,
            next_tag: 1,
            consumers: Vec::new(),
            unsettled: Unsettled::default(),
            changed: Lsn::ZERO,
            reply_token: None,
            granted: Granted::default(),
            claims: None,
        }
    }

    /// The tag of the next delivery.
    pub(crate) const fn take_tag(&mut self) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        tag
    }
}

/// Somebody who wants deliveries.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts of one consumer")]
pub(crate) struct Consumer {
    pub session: SessionId,
    pub channel: u16,
    pub id: ConsumerId,
    pub queue: QueueId,
    pub no_ack: bool,
    pub is_exclusive: bool,
    /// Its queue gives everything to one of its consumers.
    pub is_single: bool,
    /// It is handed one job for each claim of its channel that waits.
    pub is_claim: bool,
    pub priority: i32,
    /// The client's name for it.
    pub label: Bytes,
    /// Deliveries out with it.
    pub unsettled: u32,
    /// It was found without credit and left the queue's ring.
    pub is_parked: bool,
}

/// All sessions and consumers.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// By slot of the id.
    slots: Vec<Option<Box<Session>>>,
    consumers: Vec<Option<Consumer>>,
    free: Vec<ConsumerKey>,
}

impl Sessions {
    /// Adds a session; an older one in the same slot must have been closed.
    pub(crate) fn open(&mut self, id: SessionId, info: SessionInfo) {
        let slot = id.slot();
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        let session = Session {
            id,
            actor: info.actor.clone(),
            info,
            vhost: None,
            channels: Channels::default(),
            exclusive: Vec::new(),
            flight: Flight::default(),
            is_paused: false,
        };
        if let Some(place) = self.slots.get_mut(slot) {
            debug_assert!(place.is_none(), "the slot of session {id:?} is taken");
            *place = Some(Box::new(session));
        }
    }

    /// Removes a session.
    pub(crate) fn close(&mut self, id: SessionId) -> Option<Box<Session>> {
        self.get(id)?;
        self.slots.get_mut(id.slot())?.take()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.slots.get(id.slot())?.as_deref().filter(|session| session.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.slots.get_mut(id.slot())?.as_deref_mut().filter(|session| session.id == id)
    }

    pub(crate) fn channel(&self, id: SessionId, channel: u16) -> Option<&Channel> {
        self.get(id)?.channels.get(channel)
    }

    pub(crate) fn channel_mut(&mut self, id: SessionId, channel: u16) -> Option<&mut Channel> {
        self.get_mut(id)?.channels.get_mut(channel)
    }

    /// The consumer at a place in its channel's list.
    pub(crate) fn nth_consumer(
        &self,
        id: SessionId,
        channel: u16,
        at: usize,
    ) -> Option<ConsumerKey> {
        self.channel(id, channel)?.consumers.get(at).copied()
    }

    /// All sessions in order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().filter_map(|slot| slot.as_deref())
    }

    pub(crate) fn add_consumer(&mut self, consumer: Consumer) -> ConsumerKey {
        if let Some(key) = self.free.pop() {
            if let Some(place) = self.consumers.get_mut(key as usize) {
                *place = Some(consumer);
            }
            return key;
        }
        self.consumers.push(Some(consumer));
        ConsumerKey::try_from(self.consumers.len() - 1).unwrap_or(NO_CONSUMER)
    }

    pub(crate) fn remove_consumer(&mut self, key: ConsumerKey) -> Option<Consumer> {
        let consumer = self.consumers.get_mut(key as usize)?.take()?;
        self.free.push(key);
        Some(consumer)
    }

    pub(crate) fn consumer(&self, key: ConsumerKey) -> Option<&Consumer> {
        self.consumers.get(key as usize)?.as_ref()
    }

    pub(crate) fn consumer_mut(&mut self, key: ConsumerKey) -> Option<&mut Consumer> {
        self.consumers.get_mut(key as usize)?.as_mut()
    }

    /// All consumers.
    pub(crate) fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.consumers.iter().flatten()
    }

    /// All consumers with their places.
    pub(crate) fn keyed_consumers(&self) -> impl Iterator<Item = (ConsumerKey, &Consumer)> {
        (0..).zip(&self.consumers).filter_map(|(key, place)| Some((key, place.as_ref()?)))
    }

    /// Whether a delivery may go to this consumer now.
    pub(crate) fn has_credit(&self, key: ConsumerKey) -> bool {
        let Some(consumer) = self.consumer(key) else { return false };
        let Some(session) = self.get(consumer.session) else { return false };
        let Some(channel) = session.channels.get(consumer.channel) else { return false };
        if session.is_paused || channel.is_broken {
            return false;
        }
        if consumer.is_claim {
            return channel.claims.as_ref().is_some_and(|claims| claims.has_credit());
        }
        consumer.no_ack
            || ((channel.credit_each == 0 || consumer.unsettled < channel.credit_each)
                && (channel.credit_all == 0 || channel.outstanding < channel.credit_all))
    }
}
