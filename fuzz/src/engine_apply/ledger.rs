//! [`Ledger`]: what a history's sessions may see, kept as sets. Knows which delivery is out and
//! which message is settled in which queue; nothing about how queues work.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::{ConsumerId, Op, Request, SessionId, Ticket};

use super::acts::SHARED;

/// A session's channel.
pub(super) type From = (SessionId, u16);
/// A queue: which virtual host, which name.
pub(super) type Queue = (u8, Bytes);

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    next_id: u64,
    consumers: BTreeMap<u32, (Queue, bool)>,
    gets: BTreeMap<Ticket, (Queue, bool)>,
    /// By channel and tag.
    out: BTreeMap<(From, u64), (Queue, u64)>,
    settled: BTreeSet<(Queue, u64)>,
    /// Last tag of each channel.
    tags: BTreeMap<From, u64>,
    /// Highest number first delivered from a queue.
    newest: BTreeMap<Queue, u64>,
}

/// What a request changes if it is not refused.
#[derive(Debug)]
pub(super) enum Note {
    Nothing,
    Settle(From, Vec<(u64, bool, bool)>),
    Back(From),
}

impl Ledger {
    /// A number for the next message.
    pub(super) fn number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The tags that are out with a channel.
    pub(super) fn tags(&self, from: From) -> Vec<u64> {
        self.out.range((from, 0)..=(from, u64::MAX)).map(|((_, tag), _)| *tag).collect()
    }

    /// Looks at a request before it is made.
    pub(super) fn note(
        &mut self,
        from: From,
        vhost: u8,
        ticket: Ticket,
        request: &Request,
    ) -> Note {
        match request {
            Request::Consume(consume) => {
                let queue = (vhost, consume.queue.clone());
                self.consumers.insert(consume.id.0, (queue, consume.no_ack));
                Note::Nothing
            }
            Request::Get { queue, no_ack } => {
                self.gets.insert(ticket, ((vhost, queue.clone()), *no_ack));
                Note::Nothing
            }
            Request::Ack { tag, is_multiple } => {
                Note::Settle(from, vec![(*tag, *is_multiple, false)])
            }
            Request::Release { tag, is_multiple, is_requeue } => {
                Note::Settle(from, vec![(*tag, *is_multiple, *is_requeue)])
            }
            Request::Commit(ops) => {
                let ends = ops.iter().filter_map(|op| match op {
                    Op::Publish(_) | Op::Finish(_) | Op::Store(_) | Op::Enqueue(_) => None,
                    Op::Ack { tag, is_multiple } => Some((*tag, *is_multiple, false)),
                    Op::Release { tag, is_multiple, is_requeue } => {
                        Some((*tag, *is_multiple, *is_requeue))
                    }
                });
                Note::Settle(from, ends.collect())
            }
            Request::Recover | Request::CloseChannel => Note::Back(from),
            Request::OpenChannel { .. } => {
                self.tags.remove(&from);
                Note::Nothing
            }
            _ => Note::Nothing,
        }
    }

    /// The request was not refused.
    pub(super) fn happened(&mut self, note: Note) {
        match note {
            Note::Nothing => {}
            Note::Settle(from, ends) => {
                for (tag, is_multiple, is_requeue) in ends {
                    let last = if is_multiple && tag == 0 { u64::MAX } else { tag };
                    let first = if is_multiple { 0 } else { tag };
                    let gone: Vec<_> =
                        self.out.range((from, first)..=(from, last)).map(|(key, _)| *key).collect();
                    for key in gone {
                        let Some(address) = self.out.remove(&key) else { continue };
                        if !is_requeue {
                            self.settled.insert(address);
                        }
                    }
                }
            }
            Note::Back(from) => self.out.retain(|(of, _), _| *of != from),
        }
    }

    /// A message was handed out.
    pub(super) fn delivered(
        &mut self,
        from: From,
        consumer: Option<ConsumerId>,
        ticket: Ticket,
        (tag, id, is_redelivered): (u64, u64, bool),
        is_strict: bool,
    ) {
        assert!(id >= 1 && id <= self.next_id, "message {id} was never published");
        self.tagged(from, tag);
        let by = match consumer {
            Some(consumer) => self.consumers.get(&consumer.0),
            None => self.gets.get(&ticket),
        };
        let (queue, no_ack) = by.expect("nobody asked for this delivery").clone();
        // Jobs have their own order.
        if is_strict && queue.1 != SHARED {
            let address = (queue.clone(), id);
            assert!(!self.settled.contains(&address), "{address:?} was settled");
            assert!(!self.out.values().any(|out| *out == address), "{address:?} is out twice");
            if !is_redelivered {
                let newest = self.newest.insert(queue.clone(), id);
                assert!(newest.is_none_or(|newest| newest < id), "{id} after {newest:?}");
            }
        }
        if no_ack {
            self.settled.insert((queue, id));
        } else {
            self.out.insert((from, tag), (queue, id));
        }
    }

    /// A channel was given this tag.
    pub(super) fn tagged(&mut self, from: From, tag: u64) {
        let last = self.tags.insert(from, tag);
        assert!(last.is_none_or(|last| last < tag), "tag {tag} after {last:?}");
    }

    /// A session is gone.
    pub(super) fn left(&mut self, session: SessionId) {
        self.out.retain(|((of, _), _), _| *of != session);
        self.tags.retain(|of, _| of.0 != session);
    }

    /// The process was started again; `is_torn`: the end of the log is lost, settlements with it.
    pub(super) fn restarted(&mut self, is_torn: bool) {
        self.out.clear();
        self.tags.clear();
        if is_torn {
            self.settled.clear();
            self.newest.clear();
        }
    }
}
