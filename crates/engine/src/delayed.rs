//! Delayed messages: held by due time, then routed as if published at that moment. They stay where
//! they were written; a `Promote` record only names their queues.

use std::collections::BTreeMap;
use std::ops::Range;

use model::{Log, Lsn, QueueId};

use crate::Engine;
use crate::channel::Turn;
use crate::effects::Read;
use crate::fifo::Stored;
use crate::perform::Arrival;
use crate::record::{self, Head, Promote};

/// Most due messages that are being read at once.
const READS_MAX: usize = 256;

/// A held message; its address is the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Bytes of the body.
    pub body: u32,
    /// Bytes of the record before the body.
    pub head: u32,
}

impl Held {
    pub(crate) fn record_bytes(self) -> u64 {
        u64::from(self.body) + u64::from(self.head)
    }
}

/// All held messages, by due time (ms since 1970) and then address.
#[derive(Debug, Default)]
pub(crate) struct Delayed {
    held: BTreeMap<(u64, Lsn), Held>,
    /// Due ones that are being read; still held as far as the log is concerned.
    reading: BTreeMap<(u64, Lsn), Held>,
}

impl Delayed {
    pub(crate) fn insert(&mut self, due: u64, lsn: Lsn, held: Held) {
        self.held.insert((due, lsn), held);
    }

    pub(crate) fn remove(&mut self, due: u64, lsn: Lsn) -> Option<Held> {
        let key = (due, lsn);
        self.reading.remove(&key).or_else(|| self.held.remove(&key))
    }

    /// All, in order.
    pub(crate) fn sorted(&self) -> Vec<(u64, Lsn, Held)> {
        let all = self.reading.iter().chain(&self.held);
        let mut all: Vec<_> = all.map(|((due, lsn), held)| (*due, *lsn, *held)).collect();
        all.sort_unstable_by_key(|(due, lsn, _)| (*due, *lsn));
        all
    }

    pub(crate) fn live(&self, range: &Range<Lsn>, out: &mut Vec<Lsn>) {
        let all = self.reading.keys().chain(self.held.keys());
        out.extend(all.map(|key| key.1).filter(|lsn| range.contains(lsn)));
    }

    /// When there is something to do next.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let first = self.held.keys().next().map(|key| key.0);
        first.filter(|_| self.reading.len() < READS_MAX)
    }

    /// Moves the next due message to those being read.
    fn begin_read(&mut self, now: u64) -> Option<(u64, Lsn)> {
        self.next_due().filter(|due| *due <= now)?;
        let (key, held) = self.held.pop_first()?;
        self.reading.insert(key, held);
        Some(key)
    }
}

impl Engine {
    /// Asks for the due messages.
    pub(crate) fn read_due<L: Log>(&mut self, turn: &mut Turn<'_, L>) {
        while let Some((due, lsn)) = self.state.delayed.begin_read(turn.now()) {
            let token = self.take_token();
            self.due_reads.insert(token, due);
            turn.out.reads.push(Read { token, lsn });
        }
    }

    /// A due message has been read: it goes to the queues its exchange leads to now. One that
    /// does not read, or that nobody takes any more, is dropped.
    pub(crate) fn promote_due<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (due, lsn): (u64, Lsn),
        payload: &[u8],
    ) {
        let mut promote =
            Promote { lsn, due, at: turn.now(), ttl: None, priority: 0, targets: Vec::new() };
        let mut volatile: Vec<QueueId> = Vec::new();
        if let Some(head) = Head::read(payload) {
            promote.ttl = head.ttl;
            promote.priority = head.priority;
            let extra_keys = record::split_keys(head.extra_keys);
            self.route_stored(head.vhost, &head.message, &extra_keys, &mut promote.targets);
            let split = promote.targets.partition_point(|target| !target.is_volatile());
            volatile = promote.targets.split_off(split);
        }
        let mut bytes = Vec::new();
        promote.put(&mut bytes);
        record::append(turn.log, record::PROMOTE, &bytes);
        self.state.promote(&promote);
        for target in promote.targets.iter().chain(&volatile) {
            if let Some(queue) = self.state.queues.get_mut(target) {
                queue.promoted = turn.log.next_lsn();
            }
        }
        if let Some(head) = Head::read(payload).filter(|_| !volatile.is_empty()) {
            let stored = Stored::Memory(payload.into());
            let mut arrival = Arrival::new(stored, &head, payload.len());
            arrival.at = turn.now();
            for target in volatile {
                self.state.arrive(target, &arrival);
            }
        }
    }
}
