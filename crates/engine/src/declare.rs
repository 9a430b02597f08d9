//! Requests about whole queues: declare, look up, get one message, purge, delete. What is in a
//! queue is `queue.rs`.

use bytes::Bytes;
use model::{
    DeclareQueue, Log, Lsn, Noun, Overflow, QueueId, QueueKind, QueueSpec, Refusal, Reply, VhostId,
};

use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::loose::{self, Loose};
use crate::record::{self, Run};
use crate::reply_to;
use crate::routing::Cascade;

impl Engine {
    /// `Request::DeclareQueue`: declaring an equal one again is a read.
    pub(crate) fn declare_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        declare: DeclareQueue,
    ) -> Result<(), Refusal> {
        let vhost = self.entered(asker)?;
        let DeclareQueue { name, spec } = declare;
        let found = self.state.vhost(vhost).and_then(|vhost| vhost.router.queue(&name));
        if let Some(id) = found {
            self.check_owner(asker, id)?;
            let Some(queue) = self.state.queues.get_mut(&id) else { return Ok(()) };
            // Whose it is comes before what it is. Source: observed, RabbitMQ 3.10.8.
            if spec.is_exclusive != queue.spec.is_exclusive {
                return Err(Refusal::Locked { queue: name });
            }
            let is_made_by_door = queue.spec.options.kind == QueueKind::Jobs;
            let is_adopted = is_made_by_door && spec.is_durable && spec.options.priority_max == 0;
            queue.used_at = turn.now();
            if is_adopted {
                self.keep_queue(turn, id, spec);
            } else if let Some((argument, received, current)) = difference(&spec, &queue.spec) {
                let noun = Noun::Queue;
                return Err(Refusal::Inequivalent { noun, name, argument, received, current });
            }
        } else {
            self.create_queue(turn, (asker, vhost), &name, spec)?;
        }
        self.show_queue(turn, asker, &name)
    }

    /// A queue that a door made for its jobs is somebody's own from now on. One with priorities it
    /// cannot become: its lines have other ranks.
    fn keep_queue<L: Log>(&mut self, turn: &mut Turn<'_, L>, id: QueueId, mut spec: QueueSpec) {
        own(&mut spec);
        let mut bytes = id.0.to_le_bytes().to_vec();
        record::put_queue_spec(&mut bytes, &spec);
        record::append(turn.log, record::QUEUE_KEPT, &bytes);
        self.state.keep_queue(id, spec);
        if let Some(queue) = self.state.queues.get_mut(&id) {
            queue.changed = turn.log.next_lsn();
        }
    }

    pub(crate) fn create_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (asker, vhost): (Asker, VhostId),
        name: &Bytes,
        mut spec: QueueSpec,
    ) -> Result<(), Refusal> {
        if name.starts_with(b"amq.") && !name.starts_with(b"amq.gen-") {
            let name = String::from_utf8_lossy(name);
            let reason = format!("queue name '{name}' contains reserved prefix 'amq.*'");
            return Err(Refusal::AccessRefused { reason });
        }
        let max = self.limits.queues_max;
        if self.state.queues.len() >= max as usize {
            return Err(Refusal::LimitReached { limit: format!("queues ({max})") });
        }
        own(&mut spec);
        let name = Bytes::copy_from_slice(name);
        let id = self.next_queue_id(spec.is_volatile());
        let is_exclusive = spec.is_exclusive;
        let mut changed = Lsn::ZERO;
        if !id.is_volatile() {
            let mut bytes = id.0.to_le_bytes().to_vec();
            bytes.extend_from_slice(&vhost.0.to_le_bytes());
            record::put_text(&mut bytes, &name);
            record::put_queue_spec(&mut bytes, &spec);
            record::append(turn.log, record::QUEUE_DECLARED, &bytes);
            changed = turn.log.next_lsn();
        }
        self.state.put_queue(id, vhost, name, spec);
        if let Some(queue) = self.state.queues.get_mut(&id) {
            queue.changed = changed;
            queue.used_at = turn.now();
            queue.owner = is_exclusive.then_some(asker.session);
            self.timers.arm(queue);
        }
        if is_exclusive && let Some(session) = self.sessions.get_mut(asker.session) {
            session.exclusive.push(id);
        }
        Ok(())
    }

    fn next_queue_id(&mut self, is_volatile: bool) -> QueueId {
        if !is_volatile {
            return QueueId(self.state.next_queue);
        }
        loop {
            let id = QueueId(self.state.next_volatile | QueueId::VOLATILE);
            self.state.next_volatile = (self.state.next_volatile + 1) & !QueueId::VOLATILE;
            if !self.state.queues.contains_key(&id) {
                return id;
            }
        }
    }

    /// `Request::LookupQueue`, also of a reply address.
    pub(crate) fn lookup_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: Bytes,
    ) -> Result<(), Refusal> {
        self.entered(asker)?;
        if name.starts_with(reply_to::QUEUE) {
            return self.lookup_reply(turn, asker, name);
        }
        self.usable_queue(asker, &name)?;
        self.show_queue(turn, asker, &name)
    }

    fn show_queue<L: Log>(
        &self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: &Bytes,
    ) -> Result<(), Refusal> {
        let id = self.usable_queue(asker, name)?;
        if let Some(queue) = self.state.queues.get(&id) {
            let (name, consumers) = (queue.name.clone(), queue.consumer_count());
            let reply = Reply::Queue { name, ready: queue.ready, consumers };
            turn.reply(asker, queue.changed, reply);
        }
        Ok(())
    }

    fn check_owner(&self, asker: Asker, id: QueueId) -> Result<(), Refusal> {
        let queue = self.state.queues.get(&id);
        let is_foreign = |owner| owner != asker.session;
        match queue {
            Some(queue) if queue.owner.is_some_and(is_foreign) => {
                Err(Refusal::Locked { queue: queue.name.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// `Request::Get`.
    pub(crate) fn get<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (name, no_ack): (Bytes, bool),
    ) -> Result<(), Refusal> {
        let id = self.usable_queue(asker, &name)?;
        let Some(queue) = self.state.queues.get_mut(&id) else { return Ok(()) };
        if queue.spec.options.is_single_active_consumer {
            return Err(Refusal::SingleActiveConsumer { queue: queue.name.clone() });
        }
        queue.used_at = turn.now();
        let gate = queue.changed;
        let who = (asker.session, asker.channel, asker.ticket);
        if self.hand_once(turn, (id, no_ack), who).is_none() {
            turn.reply(asker, gate, Reply::Empty);
        }
        Ok(())
    }

    /// `Request::PurgeQueue`: ready messages only.
    pub(crate) fn purge_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: &Bytes,
    ) -> Result<(), Refusal> {
        let id = self.usable_queue(asker, name)?;
        let Some(queue) = self.state.queues.get_mut(&id) else { return Ok(()) };
        let messages = queue.ready + queue.aside();
        let mut runs = Vec::new();
        for (level, line) in queue.lines() {
            let ready = line.ready_runs().into_iter();
            runs.extend(ready.map(|(first, count)| Run { queue: id, level, first, count }));
        }
        let loose = queue.loose().into_iter().flat_map(Loose::all).filter(|job| !job.is_out);
        let loose = loose.filter_map(|job| job.entry.stored.lsn());
        runs.extend(loose.map(|lsn| Run::one(id, 0, loose::number(lsn))));
        if !runs.is_empty() && !id.is_volatile() {
            let mut written = runs.clone();
            record::append_runs(turn.log, record::SETTLE, &mut written, &mut self.scratch.head);
            queue.changed = turn.log.next_lsn();
        }
        let gate = queue.changed;
        self.state.settle(&runs);
        self.state.wake(id);
        turn.reply(asker, gate, Reply::Deleted { messages });
        Ok(())
    }

    /// `Request::DeleteQueue`: one that is not there is deleted already.
    pub(crate) fn delete_queue<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (name, if_unused, if_empty): (Bytes, bool, bool),
    ) -> Result<(), Refusal> {
        let vhost = self.entered(asker)?;
        let found = self.state.vhost(vhost).and_then(|vhost| vhost.router.queue(&name));
        let Some(id) = found else {
            let gate = self.topology_gate(vhost);
            turn.reply(asker, gate, Reply::Deleted { messages: 0 });
            return Ok(());
        };
        self.check_owner(asker, id)?;
        let Some(queue) = self.state.queues.get(&id) else { return Ok(()) };
        if if_unused && queue.consumer_count() > 0 {
            return Err(Refusal::InUse { noun: Noun::Queue, name });
        }
        if if_empty && queue.ready > 0 {
            return Err(Refusal::NotEmpty { queue: name });
        }
        let messages = queue.ready;
        let before = turn.out.outputs.len();
        let gate = self.remove_queue(turn, id);
        turn.reply(asker, gate, Reply::Deleted { messages });
        // The answer goes before the news that consumers lost their queue: clients that wait for
        // it do not expect anything else. Source: observed, RabbitMQ 3.10.8 and kombu 5.7.
        if let Some(news) = turn.out.outputs.get_mut(before..) {
            news.rotate_right(1);
        }
        Ok(())
    }

    /// Deletes a queue and everything that hangs on it. Returns the gate of the deletion.
    pub(crate) fn remove_queue<L: Log>(&mut self, turn: &mut Turn<'_, L>, id: QueueId) -> Lsn {
        let Some((mut queue, removed)) = self.state.delete_queue(id, Cascade::Follow) else {
            return Lsn::ZERO;
        };
        let mut group = Vec::new();
        if !id.is_volatile() {
            group.push((record::QUEUE_DELETED, id.0.to_le_bytes().to_vec()));
        }
        let gate = self.log_cascade(turn, queue.vhost, group, &removed);
        queue.changed = gate;
        self.timers.forget(&queue);
        self.forget_ties(&queue);
        self.cancel_all(turn, &queue);
        let owner = queue.owner.and_then(|owner| self.sessions.get_mut(owner));
        if let Some(owner) = owner {
            owner.exclusive.retain(|other| *other != id);
        }
        gate
    }
}

/// Copies what a spec borrowed from a network buffer.
fn own(spec: &mut QueueSpec) {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    spec.arguments = Bytes::copy_from_slice(&spec.arguments);
    let options = &mut spec.options;
    options.dead_letter_exchange = options.dead_letter_exchange.as_ref().map(copy);
    options.dead_letter_routing_key = options.dead_letter_routing_key.as_ref().map(copy);
}

/// The first argument in which two declarations differ: its name, as received, as it is.
/// Source: observed, `RabbitMQ` 3.10.8, 406 "inequivalent arg".
///
/// Deviation(AMQP-107): a default that is said and one that is not (`x-overflow` = `drop-head`) are
/// the same declaration.
fn difference(received: &QueueSpec, current: &QueueSpec) -> Option<(&'static str, String, String)> {
    let (new, old) = (&received.options, &current.options);
    let text = |value: &Option<Bytes>| match value {
        Some(value) => String::from_utf8_lossy(value).into_owned(),
        None => String::from("none"),
    };
    let number =
        |value: Option<u64>| value.map_or_else(|| String::from("none"), |it| it.to_string());
    let pairs = [
        ("durable", received.is_durable.to_string(), current.is_durable.to_string()),
        ("auto_delete", received.is_auto_delete.to_string(), current.is_auto_delete.to_string()),
        ("x-queue-type", kind(new.kind), kind(old.kind)),
        ("x-expires", number(new.expires_ms), number(old.expires_ms)),
        ("x-message-ttl", number(new.message_ttl_ms), number(old.message_ttl_ms)),
        ("x-max-length", number(new.length_max), number(old.length_max)),
        ("x-max-length-bytes", number(new.bytes_max), number(old.bytes_max)),
        ("x-overflow", overflow(new.overflow), overflow(old.overflow)),
        ("x-max-priority", level(new.priority_max), level(old.priority_max)),
        (
            "x-dead-letter-exchange",
            text(&new.dead_letter_exchange),
            text(&old.dead_letter_exchange),
        ),
        (
            "x-dead-letter-routing-key",
            text(&new.dead_letter_routing_key),
            text(&old.dead_letter_routing_key),
        ),
        (
            "x-delivery-limit",
            number(new.delivery_max.map(u64::from)),
            number(old.delivery_max.map(u64::from)),
        ),
        (
            "x-single-active-consumer",
            claim(new.is_single_active_consumer),
            claim(old.is_single_active_consumer),
        ),
    ];
    pairs.into_iter().find(|(_, received, current)| received != current)
}

fn kind(kind: QueueKind) -> String {
    String::from(match kind {
        // Whoever declares it makes it one.
        QueueKind::Classic | QueueKind::Jobs => "classic",
        QueueKind::Quorum => "quorum",
    })
}

fn overflow(overflow: Overflow) -> String {
    String::from(match overflow {
        Overflow::DropHead => "none",
        Overflow::RejectPublish => "reject-publish",
        Overflow::RejectPublishDeadLetter => "reject-publish-dlx",
    })
}

fn level(max: u8) -> String {
    if max == 0 { String::from("none") } else { max.to_string() }
}

/// An argument that nobody gives to say no.
fn claim(is: bool) -> String {
    String::from(if is { "true" } else { "none" })
}
