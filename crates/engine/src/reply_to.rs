//! Direct reply-to: answers go straight to the asking consumer, through no queue, at most once.
//!
//! A client consumes [`QUEUE`] without acknowledgements. The consume is answered by
//! `Reply::Queue` (not `Done`) whose name is the consumer's address, `amq.rabbitmq.reply-to.` and
//! 32 hexadecimal digits mixed from `Stamp::nonce`; the door puts it into `reply_to` of that
//! channel's publishes. A publish to the default exchange with an address as its key is handed
//! to the consumer at once, or is unroutable when the consumer is gone. Looking an address up
//! tells whether it lives. Source: `RabbitMQ` "Direct Reply-To".

use std::fmt::Write as _;

use bytes::Bytes;
use model::{Consume, Log, Lsn, Noun, Publish, QueueId, Refusal, Reply, VhostId};

use crate::Engine;
use crate::channel::{Asker, Consumer, ConsumerKey, Turn};
use crate::effects::{Handout, Output, Place, Push};
use crate::publish::{Plan, head_of};

/// The name that stands for "the address of this channel".
pub(crate) const QUEUE: &[u8] = b"amq.rabbitmq.reply-to";
/// How addresses begin.
const ADDRESS: &[u8] = b"amq.rabbitmq.reply-to.";
/// Stands for "no queue" in a reply consumer; never given to a queue in practice (2^31 - 1
/// volatile queues at once).
const NO_QUEUE: QueueId = QueueId(u32::MAX);

/// Whether a message goes to a reply consumer.
pub(crate) fn is_address(publish: &Publish) -> bool {
    publish.exchange.is_empty() && publish.routing_key.starts_with(ADDRESS)
}

impl Engine {
    /// Makes a channel's reply consumer.
    pub(crate) fn consume_replies<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        consume: &Consume,
    ) -> Result<(), Refusal> {
        self.entered(asker)?;
        self.check_consumers(asker)?;
        let name = Bytes::from_static(QUEUE);
        if !consume.no_ack {
            return Err(Refusal::Inequivalent {
                noun: Noun::Queue,
                name,
                argument: "no_ack",
                received: false.to_string(),
                current: true.to_string(),
            });
        }
        let token = self.take_token();
        let channel = self.sessions.channel_mut(asker.session, asker.channel);
        let channel = channel.ok_or(Refusal::NotOpen)?;
        if channel.reply_token.is_some() {
            return Err(Refusal::InUse { noun: Noun::Queue, name });
        }
        let address = address(turn.at.nonce, asker.session.0 ^ token);
        channel.reply_token = Some(address.clone());
        let key = self.sessions.add_consumer(Consumer {
            session: asker.session,
            channel: asker.channel,
            id: consume.id,
            queue: NO_QUEUE,
            no_ack: true,
            is_exclusive: false,
            is_single: false,
            is_claim: false,
            priority: 0,
            label: Bytes::copy_from_slice(&consume.label),
            unsettled: 0,
            is_parked: false,
        });
        if let Some(channel) = self.sessions.channel_mut(asker.session, asker.channel) {
            channel.consumers.push(key);
        }
        self.replies.insert(address.clone(), key);
        turn.reply(asker, Lsn::ZERO, Reply::Queue { name: address, ready: 0, consumers: 1 });
        Ok(())
    }

    /// Forgets the address of a consumer that ends, if it has one.
    pub(crate) fn forget_reply(&mut self, consumer: &Consumer) {
        if consumer.queue == NO_QUEUE
            && let Some(channel) = self.sessions.channel_mut(consumer.session, consumer.channel)
            && let Some(token) = channel.reply_token.take()
        {
            self.replies.remove(&token);
        }
    }

    /// `Request::LookupQueue` of an address.
    pub(crate) fn lookup_reply<L: Log>(
        &self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        name: Bytes,
    ) -> Result<(), Refusal> {
        if name != QUEUE && !self.replies.contains_key(&name) {
            return Err(Refusal::NotFound { noun: Noun::Queue, name });
        }
        turn.reply(asker, Lsn::ZERO, Reply::Queue { name, ready: 0, consumers: 1 });
        Ok(())
    }

    /// Hands a message to a reply consumer; may be shown from `gate` on.
    pub(crate) fn publish_reply<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        (asker, vhost): (Asker, VhostId),
        publish: Publish,
        gate: Lsn,
    ) {
        let key = self.replies.get(&publish.routing_key).copied();
        let is_taken = key.is_some_and(|key| self.hand_reply(turn, key, (vhost, &publish), gate));
        let wants_confirm = publish.options.wants_confirm;
        if !is_taken && publish.options.is_mandatory {
            turn.reply(asker, gate, Reply::Unroutable(Box::new(publish)));
        }
        if wants_confirm {
            let push = Push::Published { channel: asker.channel };
            turn.out.outputs.push(Output { session: asker.session, gate, push });
        }
    }

    fn hand_reply<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        key: ConsumerKey,
        (vhost, publish): (VhostId, &Publish),
        gate: Lsn,
    ) -> bool {
        // Nothing is kept for a consumer that does not read: that is what "at most once" allows.
        if !self.sessions.has_credit(key) {
            return false;
        }
        let Some(Consumer { session, channel, id, .. }) = self.sessions.consumer(key) else {
            return false;
        };
        let (session, number, consumer) = (*session, *channel, *id);
        if self.sessions.get(session).is_none_or(|owner| owner.vhost != Some(vhost)) {
            return false;
        }
        let mut bytes = Vec::with_capacity(publish.body.len() + publish.properties.len() + 128);
        head_of(vhost, turn.now(), publish, &Plan::default()).begin(&[], &[], &mut bytes);
        for part in [&publish.exchange, &publish.routing_key, &publish.properties, &publish.body] {
            bytes.extend_from_slice(part);
        }
        let weight = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Some(owner) = self.sessions.get_mut(session) else { return false };
        let Some(channel) = owner.channels.get_mut(number) else { return false };
        let delivery = Handout {
            channel: number,
            tag: channel.take_tag(),
            is_redelivered: false,
            returns: None,
            place: Place::Memory(bytes.into()),
            bytes: weight,
        };
        owner.flight.hand(weight, None);
        owner.is_paused |= owner.flight.bytes() >= u64::from(self.limits.undelivered_bytes_max);
        let push = Push::Deliver { consumer, delivery };
        turn.out.outputs.push(Output { session, gate, push });
        true
    }
}

/// An address from random bits; `salt` keeps addresses of one stamp apart.
fn address(nonce: u64, salt: u64) -> Bytes {
    let mut text = String::from_utf8_lossy(ADDRESS).into_owned();
    let second = mix(nonce.rotate_left(32) ^ mix(salt));
    let written = write!(text, "{:016x}{second:016x}", mix(nonce));
    debug_assert!(written.is_ok(), "writing to a string never fails");
    text.into()
}

/// The finaliser of `SplitMix64`: every bit of the input reaches every bit of the output.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
