//! Starting and ending consumers, and their credit: limits, pauses, single active consumers.

use model::{Consume, ConsumerId, Log, Noun, QueueId, Refusal, Reply, SessionId};

use crate::Engine;
use crate::channel::{Asker, Consumer, ConsumerKey, NO_CONSUMER, Turn};
use crate::queue::Queue;
use crate::reply_to;

impl Engine {
    /// `Request::Consume`.
    pub(crate) fn consume<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        consume: Consume,
    ) -> Result<(), Refusal> {
        if consume.queue == reply_to::QUEUE {
            return self.consume_replies(turn, asker, &consume);
        }
        let id = self.usable_queue(asker, &consume.queue)?;
        self.check_consumers(asker)?;
        let Some(queue) = self.state.queues.get_mut(&id) else { return Ok(()) };
        // To be alone and to be the one of several contradict each other, also while nobody else
        // is there. Source: observed, RabbitMQ 3.10.8.
        let is_shared = queue.spec.options.is_single_active_consumer;
        let others = queue.consumers.get_or_insert_default();
        let is_alone = others.all.is_empty() && !is_shared;
        if others.is_exclusive || (consume.is_exclusive && !is_alone) {
            return Err(Refusal::ExclusiveConsumer { queue: consume.queue });
        }
        others.is_exclusive = consume.is_exclusive;
        let gate = queue.changed;
        let mut consumer = new_consumer(asker, id, &consume);
        consumer.is_single = queue.spec.options.is_single_active_consumer;
        let key = self.sessions.add_consumer(consumer);
        if let Some(channel) = self.sessions.channel_mut(asker.session, asker.channel) {
            channel.consumers.push(key);
        }
        others.all.push(key);
        if queue.spec.options.is_single_active_consumer {
            self.choose_active(id);
        } else {
            others.enter(key, consume.priority);
        }
        turn.reply(asker, gate, Reply::Done);
        self.state.wake(id);
        Ok(())
    }

    /// Whether the channel may have one more consumer.
    pub(crate) fn check_consumers(&self, asker: Asker) -> Result<(), Refusal> {
        let channel = self.sessions.channel(asker.session, asker.channel);
        let channel = channel.ok_or(Refusal::NotOpen)?;
        let max = self.limits.consumers_max;
        if channel.consumers.len() >= max as usize {
            let limit = format!("consumers per channel ({max})");
            return Err(Refusal::LimitReached { limit });
        }
        Ok(())
    }

    /// `Request::Cancel`: what the consumer has stays with the channel. Unknown ones are no error.
    pub(crate) fn cancel<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        id: ConsumerId,
    ) -> Result<(), Refusal> {
        let channel = self.sessions.channel(asker.session, asker.channel);
        let keys = &channel.ok_or(Refusal::NotOpen)?.consumers;
        let is_it = |key: &&ConsumerKey| {
            self.sessions.consumer(**key).is_some_and(|consumer| consumer.id == id)
        };
        if let Some(key) = keys.iter().find(is_it).copied() {
            self.end_consumer(turn, key);
        }
        turn.reply(asker, model::Lsn::ZERO, Reply::Done);
        Ok(())
    }

    /// Ends a consumer; an auto-delete queue goes with its last one.
    pub(crate) fn end_consumer<L: Log>(&mut self, turn: &mut Turn<'_, L>, key: ConsumerKey) {
        let Some(consumer) = self.drop_consumer(key) else { return };
        let Some(queue) = self.state.queues.get_mut(&consumer.queue) else { return };
        let Some(consumers) = &mut queue.consumers else { return };
        consumers.all.retain(|other| *other != key);
        consumers.leave(key);
        if consumer.is_exclusive {
            consumers.is_exclusive = false;
        }
        if consumers.active == Some(key) {
            consumers.active = None;
        }
        let id = queue.id;
        if !consumers.all.is_empty() {
            if queue.spec.options.is_single_active_consumer {
                self.choose_active(id);
            }
            return;
        }
        queue.consumers = None;
        queue.used_at = turn.now();
        let is_vacant = queue.is_vacant(turn.now());
        if queue.spec.is_auto_delete {
            self.remove_queue(turn, id);
        } else {
            self.timers.arm(queue);
        }
        if is_vacant {
            self.state.wake(id);
        }
    }

    /// Takes a consumer out of its channel; its deliveries stay there.
    pub(crate) fn drop_consumer(&mut self, key: ConsumerKey) -> Option<Consumer> {
        let consumer = self.sessions.remove_consumer(key)?;
        self.forget_reply(&consumer);
        if let Some(channel) = self.sessions.channel_mut(consumer.session, consumer.channel) {
            channel.consumers.retain(|other| *other != key);
            channel.unsettled.forget(key, NO_CONSUMER);
        }
        Some(consumer)
    }

    /// `Request::SetCredit`: takes effect on live consumers at once.
    pub(crate) fn set_credit<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        (count, is_channel_wide): (u32, bool),
    ) -> Result<(), Refusal> {
        let channel = self.sessions.channel_mut(asker.session, asker.channel);
        let channel = channel.ok_or(Refusal::NotOpen)?;
        if is_channel_wide {
            channel.credit_all = count;
        } else {
            channel.credit_each = count;
        }
        self.unpark_channel(asker.session, asker.channel);
        turn.reply(asker, model::Lsn::ZERO, Reply::Done);
        Ok(())
    }

    /// A slow session has drained.
    pub(crate) fn give_room(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.is_paused = false;
        for channel in session.channels.numbers() {
            self.unpark_channel(id, channel);
        }
    }

    /// Lets the parked consumers of a channel take part again if they have credit.
    pub(crate) fn unpark_channel(&mut self, session: SessionId, channel: u16) {
        let mut at = 0;
        while let Some(key) = self.sessions.nth_consumer(session, channel, at) {
            at += 1;
            self.unpark(key);
        }
    }

    /// Lets a parked consumer take part again if it has credit.
    pub(crate) fn unpark(&mut self, key: ConsumerKey) {
        let is_parked = self.sessions.consumer(key).is_some_and(|consumer| consumer.is_parked);
        if !is_parked || !self.sessions.has_credit(key) {
            return;
        }
        let Some(consumer) = self.sessions.consumer_mut(key) else { return };
        consumer.is_parked = false;
        let Some(queue) = self.state.queues.get_mut(&consumer.queue) else { return };
        let Some(consumers) = &mut queue.consumers else { return };
        consumers.enter(key, consumer.priority);
        if queue.ready > 0 {
            self.state.wake(consumer.queue);
        }
    }

    /// Single active consumer: the first to arrive is active; the next of the highest priority
    /// takes over when it ends, a higher priority also when the active one has nothing out.
    pub(crate) fn choose_active(&mut self, id: QueueId) {
        let Some(queue) = self.state.queues.get_mut(&id) else { return };
        let Some(consumers) = &mut queue.consumers else { return };
        let priority = |key: ConsumerKey| {
            self.sessions.consumer(key).map_or(i32::MIN, |consumer| consumer.priority)
        };
        let mut best: Option<ConsumerKey> = None;
        for key in consumers.all.iter().copied() {
            if best.is_none_or(|best| priority(key) > priority(best)) {
                best = Some(key);
            }
        }
        let Some(best) = best else { return };
        if let Some(active) = consumers.active {
            let out = self.sessions.consumer(active).map_or(0, |consumer| consumer.unsettled);
            if active == best || priority(best) <= priority(active) || out > 0 {
                return;
            }
            consumers.leave(active);
        }
        consumers.active = Some(best);
        consumers.enter(best, priority(best));
        if let Some(consumer) = self.sessions.consumer_mut(best) {
            consumer.is_parked = false;
        }
        self.state.wake(id);
    }

    /// Tells all consumers of a queue that it is gone, and ends them.
    pub(crate) fn cancel_all<L: Log>(&mut self, turn: &mut Turn<'_, L>, queue: &Queue) {
        let keys = queue.consumers.as_ref().map(|consumers| consumers.all.clone());
        for key in keys.unwrap_or_default() {
            if let Some(consumer) = self.drop_consumer(key) {
                let Consumer { session, channel, id, .. } = consumer;
                turn.out.outputs.push(super::cancelled(session, queue.changed, channel, id));
            }
        }
    }

    /// Ends a consumer and tells its client, once the log is durable up to here.
    pub(crate) fn cancel_consumer<L: Log>(&mut self, turn: &mut Turn<'_, L>, key: ConsumerKey) {
        let Some(consumer) = self.sessions.consumer(key) else { return };
        let (session, channel, id) = (consumer.session, consumer.channel, consumer.id);
        self.end_consumer(turn, key);
        let gate = turn.log.next_lsn();
        turn.out.outputs.push(super::cancelled(session, gate, channel, id));
    }

    /// A queue that this session may use.
    pub(crate) fn usable_queue(&self, asker: Asker, name: &[u8]) -> Result<QueueId, Refusal> {
        let vhost = self.entered(asker)?;
        let found = self.state.vhost(vhost).and_then(|vhost| vhost.router.queue(name));
        let name = || bytes::Bytes::copy_from_slice(name);
        let id = found.ok_or_else(|| Refusal::NotFound { noun: Noun::Queue, name: name() })?;
        let owner = self.state.queues.get(&id).and_then(|queue| queue.owner);
        if owner.is_some_and(|owner| owner != asker.session) {
            return Err(Refusal::Locked { queue: name() });
        }
        Ok(id)
    }
}

fn new_consumer(asker: Asker, queue: QueueId, consume: &Consume) -> Consumer {
    Consumer {
        session: asker.session,
        channel: asker.channel,
        id: consume.id,
        queue,
        no_ack: consume.no_ack,
        is_exclusive: consume.is_exclusive,
        is_single: false,
        is_claim: false,
        priority: consume.priority,
        label: bytes::Bytes::copy_from_slice(&consume.label),
        unsettled: 0,
        is_parked: false,
    }
}
