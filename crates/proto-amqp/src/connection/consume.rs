//! The way out: consumers, deliveries, get, acknowledgements, credit; and the place where every
//! answer of the engine becomes frames.
//! Source of the texts: observed, `RabbitMQ` 3.10.8.

use bytes::Bytes;
use model::{Consume, ConsumerId, Delivery, MessageRef, Op, Reply, Request, Tag, Ticket};
use wire::Outbox;

use super::{
    Connection, Stop,
    channel::{Consumer, Mode, ReplyTo},
    ticket::{self, Ask, Data},
    unimplemented_method,
};
use crate::{
    codec::{self, FRAME_END, FRAME_HEAD, METHOD},
    map::{self, Code, Failure, REPLY_TO, precondition},
    table::Method,
};

/// What a client says of deliveries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settlement {
    pub(super) tag: u64,
    /// Up to and including the tag.
    pub(super) is_multiple: bool,
    /// `None`: done. Otherwise given back: to the queue, or to be dropped.
    pub(super) is_requeue: Option<bool>,
}

impl Connection {
    /// A method of the class basic, but for publish, on an open channel.
    ///
    /// Deviation(AMQP-010): every `basic.qos`, whichever its global bit, takes effect on the
    /// channel's live consumers at once.
    pub(super) fn on_basic_class(
        &mut self,
        number: u16,
        method: &Method<'_>,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        match *method {
            Method::BasicAck { delivery_tag: tag, multiple: is_multiple } => {
                let settlement = Settlement { tag, is_multiple, is_requeue: None };
                Ok(self.settle(number, Ask::Ack, settlement, out)?)
            }
            Method::BasicNack { delivery_tag: tag, multiple: is_multiple, requeue } => {
                let settlement = Settlement { tag, is_multiple, is_requeue: Some(requeue) };
                Ok(self.settle(number, Ask::Nack, settlement, out)?)
            }
            Method::BasicReject { delivery_tag: tag, requeue } => {
                let settlement = Settlement { tag, is_multiple: false, is_requeue: Some(requeue) };
                Ok(self.settle(number, Ask::Reject, settlement, out)?)
            }
            Method::BasicQos { prefetch_size: 0, prefetch_count, global } => {
                let count = prefetch_count.into();
                let request = Request::SetCredit { count, is_channel_wide: global };
                out.submit(number, ticket::plain(Ask::SetCredit), request);
                Ok(())
            }
            Method::BasicQos { prefetch_size, .. } => {
                let text = format!("prefetch_size!=0 ({prefetch_size})");
                Err(Failure::new(Code::NotImplemented, text).into())
            }
            Method::BasicConsume { .. } => Ok(self.consume(number, method, out)?),
            Method::BasicCancel { consumer_tag, nowait } => {
                self.cancel(number, consumer_tag, nowait, out);
                Ok(())
            }
            Method::BasicGet { queue, no_ack, .. } => {
                let queue = self.queue_named(number, queue)?;
                out.submit(number, ticket::plain(Ask::Get), Request::Get { queue, no_ack });
                Ok(())
            }
            Method::BasicRecover { requeue } => Ok(recover(number, Ask::Recover, requeue, out)?),
            Method::BasicRecoverAsync { requeue } => {
                Ok(recover(number, Ask::RecoverQuietly, requeue, out)?)
            }
            _ => Err(unimplemented_method().into()),
        }
    }

    /// Settles deliveries, now or with the channel's transaction.
    pub(super) fn settle(
        &mut self,
        number: u16,
        ask: Ask,
        settlement: Settlement,
        out: &mut Outbox,
    ) -> Result<(), Failure> {
        let Settlement { tag, is_multiple, is_requeue } = settlement;
        self.owed = if is_multiple { 0 } else { self.owed.saturating_sub(1) };
        if let Some(channel) = self.channels.get_mut(number)
            && let Mode::Transaction(transaction) = &mut channel.mode
        {
            let op = match is_requeue {
                None => Op::Ack { tag, is_multiple },
                Some(is_requeue) => Op::Release { tag, is_multiple, is_requeue },
            };
            return transaction.settle(op, &self.options.limits);
        }
        let request = match is_requeue {
            None => Request::Ack { tag, is_multiple },
            Some(is_requeue) => Request::Release { tag, is_multiple, is_requeue },
        };
        out.submit(number, ticket::plain(ask), request);
        Ok(())
    }

    fn consume(
        &mut self,
        number: u16,
        method: &Method<'_>,
        out: &mut Outbox,
    ) -> Result<(), Failure> {
        let &Method::BasicConsume {
            queue, consumer_tag, no_ack, exclusive, nowait, arguments, ..
        } = method
        else {
            return Err(unimplemented_method());
        };
        let queue = self.queue_named(number, queue)?;
        let priority = map::consumer_priority(&queue, &self.login.vhost, arguments)?;
        let tag = if consumer_tag.is_empty() {
            self.names.next("amq.ctag-")
        } else {
            map::name(consumer_tag)
        };
        let most = self.options.limits.consumers_max;
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        if channel.consumers.iter().any(|other| other.tag == tag && !other.is_cancelled) {
            let tag = map::printable(&tag);
            let text = format!("attempt to reuse consumer tag '{tag}'");
            return Err(Failure::new(Code::NotAllowed, text));
        }
        if channel.consumers.len() as u64 >= u64::from(most) {
            let text = format!("reached maximum ({most}) of consumers per channel");
            return Err(Failure::new(Code::NotAllowed, text));
        }
        channel.consumers_made = channel.consumers_made.wrapping_add(1);
        let id = ConsumerId(channel.consumers_made);
        if queue == REPLY_TO {
            if !no_ack {
                return Err(precondition("reply consumer cannot acknowledge"));
            }
            if channel.reply_to.is_some() {
                return Err(precondition("reply consumer already set"));
            }
            let held = Vec::new();
            let reply_to = ReplyTo { consumer: id, address: None, held, held_bytes: 0 };
            channel.reply_to = Some(Box::new(reply_to));
        }
        channel.consumers.push(Consumer { id, tag: tag.clone(), is_cancelled: false });
        let consume = Consume { queue, id, label: tag, no_ack, is_exclusive: exclusive, priority };
        let ticket = ticket::of_consumer(Ask::Consume, nowait, id);
        out.submit(number, ticket, Request::Consume(Box::new(consume)));
        Ok(())
    }

    /// Stops a consumer; one that is not there is stopped already.
    fn cancel(&mut self, number: u16, tag: &[u8], nowait: bool, out: &mut Outbox) {
        let Some(channel) = self.channels.get_mut(number) else { return };
        let live = channel.consumers.iter_mut().find(|one| one.tag == tag && !one.is_cancelled);
        if let Some(consumer) = live {
            consumer.is_cancelled = true;
            let ticket = ticket::of_consumer(Ask::Cancel, nowait, consumer.id);
            out.submit(number, ticket, Request::Cancel(consumer.id));
        } else if !nowait {
            Method::BasicCancelOk { consumer_tag: tag }.put(&mut out.bytes, number);
        }
    }

    /// The engine ended a consumer.
    pub(super) fn on_cancelled(&mut self, number: u16, id: ConsumerId, out: &mut Outbox) {
        let Some(channel) = self.channels.get_mut(number).filter(|one| one.is_listening()) else {
            return;
        };
        // A consumer that the client cancels meanwhile still gets its cancel-ok.
        if channel.consumer(id).is_none_or(|consumer| consumer.is_cancelled) {
            return;
        }
        if let Some(consumer) = channel.remove_consumer(id)
            && self.login.hears_cancel
        {
            let cancel = Method::BasicCancel { consumer_tag: &consumer.tag, nowait: true };
            cancel.put(&mut out.bytes, number);
        }
    }

    /// An answer of the engine.
    pub(super) fn on_answer(
        &mut self,
        number: u16,
        (ask, data): (Ask, Data),
        reply: Reply,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        if ask.is_close() {
            return self.on_channel_ended(number, ask, out);
        }
        if number != 0
            && !self.channels.get(number).is_some_and(super::channel::Channel::is_listening)
        {
            return Ok(());
        }
        match reply {
            Reply::Published { count } => self.gather_confirms(number, count),
            Reply::Rejected => self.on_rejected(number, out)?,
            Reply::Unroutable(publish) => self.write_return(number, &publish, out),
            Reply::Refused(refusal) => return self.on_refusal(number, ask, &refusal, out),
            Reply::Queue { name, .. } if ask == Ask::Consume => {
                return self.on_reply_consumer(number, data, name, out);
            }
            Reply::Queue { name, ready, consumers } if !data.nowait => {
                let message_count = u32::try_from(ready).unwrap_or(u32::MAX);
                let ok = Method::QueueDeclareOk {
                    queue: &name,
                    message_count,
                    consumer_count: consumers,
                };
                ok.put(&mut out.bytes, number);
            }
            Reply::Deleted { messages } if !data.nowait => {
                let message_count = u32::try_from(messages).unwrap_or(u32::MAX);
                let method = if ask == Ask::PurgeQueue {
                    Method::QueuePurgeOk { message_count }
                } else {
                    Method::QueueDeleteOk { message_count }
                };
                method.put(&mut out.bytes, number);
            }
            Reply::Empty => {
                Method::BasicGetEmpty { cluster_id: b"" }.put(&mut out.bytes, number);
            }
            Reply::Authenticated { tags } => {
                self.login.is_impersonator = Tag::Impersonator.is_in(&tags);
                self.on_logged_in(out);
            }
            Reply::Done => self.on_done(number, ask, data, out),
            // The last of them are about jobs, of which nobody asks here.
            Reply::Queue { .. }
            | Reply::Deleted { .. }
            | Reply::Listing(_)
            | Reply::Enqueued { .. }
            | Reply::Released { .. }
            | Reply::Watching { .. }
            | Reply::Kicked { .. }
            | Reply::LeaseEnding
            | Reply::QueueFacts(_)
            | Reply::WorkFacts(_)
            | Reply::Names(_)
            | Reply::Taken { .. }
            | Reply::Renewed(_)
            | Reply::Stored { .. }
            | Reply::Results { .. } => {}
        }
        Ok(())
    }

    /// A reply consumer is there; `address` is its private one.
    fn on_reply_consumer(
        &mut self,
        number: u16,
        data: Data,
        address: Bytes,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        self.on_done(number, Ask::Consume, data, out);
        let reply_to = self.channels.get_mut(number).and_then(|channel| channel.reply_to.as_mut());
        let Some(reply_to) = reply_to.filter(|one| one.consumer == data.consumer) else {
            return Ok(());
        };
        reply_to.address = Some(address);
        let held = std::mem::take(&mut reply_to.held);
        self.release_held(number, held, out)
    }

    /// Something was done that needs no more than saying so.
    fn on_done(&mut self, number: u16, ask: Ask, data: Data, out: &mut Outbox) {
        let Data { nowait, consumer } = data;
        match ask {
            Ask::Vhost => self.on_entered(out),
            Ask::OpenChannel => {
                Method::ChannelOpenOk { channel_id: b"" }.put(&mut out.bytes, number);
            }
            Ask::SetCredit => Method::BasicQosOk {}.put(&mut out.bytes, number),
            Ask::Flow => Method::ChannelFlowOk { active: true }.put(&mut out.bytes, number),
            Ask::Access => Method::AccessRequestOk { ticket: 1 }.put(&mut out.bytes, number),
            Ask::TxSelect => Method::TxSelectOk {}.put(&mut out.bytes, number),
            Ask::TxRollback => Method::TxRollbackOk {}.put(&mut out.bytes, number),
            Ask::ConfirmSelect if !nowait => {
                Method::ConfirmSelectOk {}.put(&mut out.bytes, number);
            }
            Ask::Recover => Method::BasicRecoverOk {}.put(&mut out.bytes, number),
            Ask::Commit => Method::TxCommitOk {}.put(&mut out.bytes, number),
            Ask::Consume if !nowait => {
                if let Some(consumer) =
                    self.channels.get(number).and_then(|channel| channel.consumer(consumer))
                {
                    let ok = Method::BasicConsumeOk { consumer_tag: &consumer.tag };
                    ok.put(&mut out.bytes, number);
                }
            }
            Ask::Cancel => {
                let channel = self.channels.get_mut(number);
                let consumer = channel.and_then(|channel| channel.remove_consumer(consumer));
                if let Some(consumer) = consumer.filter(|_| !nowait) {
                    let ok = Method::BasicCancelOk { consumer_tag: &consumer.tag };
                    ok.put(&mut out.bytes, number);
                }
            }
            _ if !nowait => Self::write_topology_ok(number, ask, out),
            _ => {}
        }
    }

    /// A message for a consumer.
    pub(super) fn deliver(&mut self, id: ConsumerId, delivery: &Delivery<'_>, out: &mut Outbox) {
        let number = delivery.channel;
        self.owed = self.owed.saturating_add(1);
        let Some(channel) = self.channels.get(number).filter(|one| one.is_listening()) else {
            return;
        };
        let Some(consumer) = channel.consumer(id) else { return };
        let MessageRef { exchange, routing_key, properties, body } = delivery.message;
        let around = consumer.tag.len() + exchange.len() + routing_key.len() + properties.len();
        out.bytes.reserve(around + body.len() + 64);

        let size = 4 + 1 + consumer.tag.len() + 9 + 2 + exchange.len() + routing_key.len();
        let [c0, c1] = number.to_be_bytes();
        let [s0, s1, s2, s3] = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
        let tag_length = short_length(&consumer.tag);
        let head: [u8; FRAME_HEAD + 5] = [METHOD, c0, c1, s0, s1, s2, s3, 0, 60, 0, 60, tag_length];
        out.bytes.extend_from_slice(&head);
        out.bytes.extend_from_slice(&consumer.tag);
        let [t0, t1, t2, t3, t4, t5, t6, t7] = delivery.tag.to_be_bytes();
        let bits = u8::from(delivery.is_redelivered);
        let middle = [t0, t1, t2, t3, t4, t5, t6, t7, bits, short_length(exchange)];
        out.bytes.extend_from_slice(&middle);
        out.bytes.extend_from_slice(exchange);
        out.bytes.extend_from_slice(&[short_length(routing_key)]);
        out.bytes.extend_from_slice(routing_key);
        out.bytes.extend_from_slice(&[FRAME_END]);
        self.write_content(delivery, out);
    }

    /// The message that `basic.get` asked for.
    pub(super) fn got(
        &self,
        _ticket: Ticket,
        delivery: &Delivery<'_>,
        ready: u64,
        out: &mut Outbox,
    ) {
        let number = delivery.channel;
        if !self.channels.get(number).is_some_and(super::channel::Channel::is_listening) {
            return;
        }
        let method = Method::BasicGetOk {
            delivery_tag: delivery.tag,
            redelivered: delivery.is_redelivered,
            exchange: delivery.message.exchange,
            routing_key: delivery.message.routing_key,
            message_count: u32::try_from(ready).unwrap_or(u32::MAX),
        };
        method.put(&mut out.bytes, number);
        self.write_content(delivery, out);
    }

    /// Header and body frames of a delivery.
    fn write_content(&self, delivery: &Delivery<'_>, out: &mut Outbox) {
        let MessageRef { properties, body, .. } = delivery.message;
        let number = delivery.channel;
        if let Some(returns) = delivery.returns {
            let properties = map::with_delivery_count(properties, returns);
            codec::put_content(&mut out.bytes, number, &properties, body, self.frame_max);
        } else {
            codec::put_content(&mut out.bytes, number, properties, body, self.frame_max);
        }
    }
}

fn recover(number: u16, ask: Ask, requeue: bool, out: &mut Outbox) -> Result<(), Failure> {
    if !requeue {
        return Err(Failure::new(Code::NotImplemented, "requeue=false"));
    }
    out.submit(number, ticket::plain(ask), Request::Recover);
    Ok(())
}

/// Length octet of a name; names were checked to fit when they came in.
fn short_length(name: &[u8]) -> u8 {
    u8::try_from(name.len()).unwrap_or(u8::MAX)
}
