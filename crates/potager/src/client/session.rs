//! [`Client`]: one connection with one channel, one method per protocol verb.
//!
//! Publishes and settlements gather in the output until [`Client::flush`], a call that waits for
//! a reply, or [`Client::next_event`]. Not here: frames (`proto_amqp`), the socket (`link`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use model::table::Value;
use proto_amqp::codec::{self, BODY, HEADER, METHOD};
use proto_amqp::table::Method;

use super::confirms::Confirms;
use super::link::{Received, name, table_of, text_of, unexpected};
use super::{Address, Fault, Link};

/// The one channel.
const CHANNEL: u16 = 1;
/// How long a reply may take: longer than any flush, shorter than a person's patience.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Output above this is sent without waiting for a flush.
const OUTPUT_BYTES_MAX: usize = 256 << 10;

/// A connection with one open channel.
pub(crate) struct Client {
    link: Link,
    events: VecDeque<Event>,
    confirms: Option<Confirms>,
    content: Option<Content>,
}

/// What arrives without being asked for.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message for a consumer.
    Delivery(Delivery),
    /// The server's answer to publish number `number` (from 1, in confirm mode).
    Confirm {
        /// Which publish.
        number: u64,
        /// False: the server refused responsibility.
        is_ack: bool,
    },
    /// A mandatory message that no queue took.
    Returned {
        /// Reply code.
        code: u16,
        /// Reply text.
        text: String,
    },
    /// The server ended the consumer, for example because its queue was deleted.
    Cancelled,
}

/// A message with where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// What to settle.
    pub(crate) tag: u64,
    /// Delivered before, as far as the server knows.
    pub(crate) is_redelivered: bool,
    /// Exchange it was published to.
    pub(crate) exchange: String,
    /// Routing key it was published with.
    pub(crate) routing_key: String,
    /// Flags and values, as `model::properties` reads them.
    pub(crate) properties: Bytes,
    /// The body.
    pub(crate) body: Bytes,
}

/// A message to publish. `Default` is the default exchange without properties.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Message<'a> {
    /// Exchange; empty for the default exchange.
    pub(crate) exchange: &'a str,
    /// Routing key: with the default exchange the queue's name.
    pub(crate) routing_key: &'a str,
    /// Come back when no queue takes it.
    pub(crate) is_mandatory: bool,
    /// Flags and values, made with `model::properties::Builder`; empty for none.
    pub(crate) properties: &'a [u8],
    /// The body.
    pub(crate) body: &'a [u8],
}

/// A queue to declare. `Default` is transient and shared.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four independent bits of the protocol")]
pub(crate) struct QueueSpec<'a> {
    /// Name; empty lets the server choose.
    pub(crate) name: &'a str,
    /// Only ask whether it exists.
    pub(crate) is_passive: bool,
    /// Survives a restart.
    pub(crate) is_durable: bool,
    /// Belongs to this connection.
    pub(crate) is_exclusive: bool,
    /// Goes with its last consumer.
    pub(crate) is_auto_delete: bool,
    /// `x-` arguments.
    pub(crate) arguments: &'a [(&'a str, Value<'a>)],
}

/// A content method whose header or body is still on its way.
struct Content {
    /// Payload of the method frame.
    method: Bytes,
    properties: Bytes,
    /// `None` until the header is there.
    missing_bytes: Option<u64>,
    body: BytesMut,
}

impl Client {
    /// Connects, logs in and opens the channel.
    ///
    /// # Errors
    /// Any [`Fault`]; so for all methods here.
    pub(crate) fn connect(address: &Address) -> Result<Self, Fault> {
        let mut link = Link::connect(address)?;
        link.open_channel(CHANNEL)?;
        Ok(Self { link, events: VecDeque::new(), confirms: None, content: None })
    }

    /// Product and version of the server.
    pub(crate) fn server(&self) -> &str {
        self.link.server()
    }

    /// Why the server holds publishers back, as far as it has said; `None` while it does not.
    pub(crate) fn held_back(&self) -> Option<&str> {
        self.link.held_back()
    }

    /// Declares a queue; returns its name and how many messages it holds.
    pub(crate) fn declare_queue(&mut self, spec: &QueueSpec<'_>) -> Result<(String, u32), Fault> {
        self.say(&Method::QueueDeclare {
            ticket: 0,
            queue: name(spec.name)?,
            passive: spec.is_passive,
            durable: spec.is_durable,
            exclusive: spec.is_exclusive,
            auto_delete: spec.is_auto_delete,
            nowait: false,
            arguments: &table_of(spec.arguments),
        });
        let reply =
            self.call("queue.declare", |method| matches!(method, Method::QueueDeclareOk { .. }))?;
        if let Method::QueueDeclareOk { queue, message_count, .. } = Method::parse(&reply)? {
            return Ok((text_of(queue), message_count));
        }
        Err(unexpected(&reply))
    }

    /// Deletes a queue with what is in it; returns how many messages that were.
    pub(crate) fn delete_queue(&mut self, queue: &str) -> Result<u32, Fault> {
        let queue = name(queue)?;
        let (if_unused, if_empty, nowait) = (false, false, false);
        self.say(&Method::QueueDelete { ticket: 0, queue, if_unused, if_empty, nowait });
        let reply =
            self.call("queue.delete", |method| matches!(method, Method::QueueDeleteOk { .. }))?;
        if let Method::QueueDeleteOk { message_count } = Method::parse(&reply)? {
            return Ok(message_count);
        }
        Err(unexpected(&reply))
    }

    /// Puts the channel into confirm mode: each publish is answered by [`Event::Confirm`].
    pub(crate) fn confirm_select(&mut self) -> Result<(), Fault> {
        self.say(&Method::ConfirmSelect { nowait: false });
        self.call("confirm.select", |method| matches!(method, Method::ConfirmSelectOk {}))?;
        self.confirms = Some(Confirms::default());
        Ok(())
    }

    /// Publishes; returns the number that the confirm will carry (0 without confirm mode).
    pub(crate) fn publish(&mut self, message: &Message<'_>) -> Result<u64, Fault> {
        self.say(&Method::BasicPublish {
            ticket: 0,
            exchange: name(message.exchange)?,
            routing_key: name(message.routing_key)?,
            mandatory: message.is_mandatory,
            immediate: false,
        });
        let frame_bytes_max = self.link.frame_bytes_max();
        let (properties, body) = (message.properties, message.body);
        codec::put_content(&mut self.link.output, CHANNEL, properties, body, frame_bytes_max);
        if self.link.output.len() > OUTPUT_BYTES_MAX {
            self.link.flush()?;
        }
        Ok(self.confirms.as_mut().map_or(0, Confirms::publish))
    }

    /// How many publishes have no answer yet.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.confirms.as_ref().map_or(0, Confirms::outstanding)
    }

    /// Sends what has gathered.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        self.link.flush()
    }

    /// Begins to consume with at most `prefetch` unsettled deliveries (0: no limit).
    pub(crate) fn consume(
        &mut self,
        queue: &str,
        prefetch: u16,
        is_auto_ack: bool,
    ) -> Result<(), Fault> {
        let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: prefetch, global: false };
        self.say(&qos);
        self.call("basic.qos", |method| matches!(method, Method::BasicQosOk {}))?;
        self.say(&Method::BasicConsume {
            ticket: 0,
            queue: name(queue)?,
            consumer_tag: &[],
            no_local: false,
            no_ack: is_auto_ack,
            exclusive: false,
            nowait: false,
            arguments: &[],
        });
        let is_reply = |method: &Method<'_>| matches!(method, Method::BasicConsumeOk { .. });
        self.call("basic.consume", is_reply).map(drop)
    }

    /// Takes one message from a queue; `None` when it is empty.
    pub(crate) fn get(
        &mut self,
        queue: &str,
        is_auto_ack: bool,
    ) -> Result<Option<Delivery>, Fault> {
        self.say(&Method::BasicGet { ticket: 0, queue: name(queue)?, no_ack: is_auto_ack });
        let is_reply = |method: &Method<'_>| {
            matches!(method, Method::BasicGetOk { .. } | Method::BasicGetEmpty { .. })
        };
        let reply = self.call("basic.get", is_reply)?;
        if matches!(Method::parse(&reply)?, Method::BasicGetEmpty { .. }) {
            return Ok(None);
        }
        self.expect_content(reply);
        let deadline = Instant::now() + REPLY_TIMEOUT;
        while self.content.is_some() {
            let received = self.link.receive(deadline)?.ok_or(Fault::Silence("basic.get"))?;
            self.take(&received)?;
        }
        // The content that was just completed is the last event.
        match self.events.pop_back() {
            Some(Event::Delivery(delivery)) => Ok(Some(delivery)),
            _ => Err(Fault::Protocol("no message after basic.get-ok".to_owned())),
        }
    }

    /// Acknowledges one delivery, or all up to it.
    pub(crate) fn ack(&mut self, tag: u64, is_multiple: bool) {
        self.say(&Method::BasicAck { delivery_tag: tag, multiple: is_multiple });
    }

    /// From now on publishes and acknowledgements take effect at [`Client::tx_commit`].
    pub(crate) fn tx_select(&mut self) -> Result<(), Fault> {
        self.say(&Method::TxSelect {});
        self.call("tx.select", |method| matches!(method, Method::TxSelectOk {})).map(drop)
    }

    /// Makes everything since the last commit take effect, all or nothing.
    pub(crate) fn tx_commit(&mut self) -> Result<(), Fault> {
        self.say(&Method::TxCommit {});
        self.call("tx.commit", |method| matches!(method, Method::TxCommitOk {})).map(drop)
    }

    /// The next event; `None` after `wait` without one. Sends what has gathered first.
    pub(crate) fn next_event(&mut self, wait: Duration) -> Result<Option<Event>, Fault> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        if !self.link.output.is_empty() {
            self.link.flush()?;
        }
        let deadline = Instant::now() + wait;
        loop {
            let Some(received) = self.link.receive(deadline)? else { return Ok(None) };
            self.take(&received)?;
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
        }
    }

    /// Says good-bye.
    pub(crate) fn close(self) {
        self.link.close();
    }

    fn say(&mut self, method: &Method<'_>) {
        self.link.say(CHANNEL, method);
    }

    /// Sends and waits for the reply; what else arrives becomes events.
    fn call(
        &mut self,
        what: &'static str,
        is_reply: fn(&Method<'_>) -> bool,
    ) -> Result<Bytes, Fault> {
        self.link.flush()?;
        let deadline = Instant::now() + REPLY_TIMEOUT;
        loop {
            let received = self.link.receive(deadline)?.ok_or(Fault::Silence(what))?;
            if received.kind == METHOD && is_reply(&Method::parse(&received.payload)?) {
                return Ok(received.payload);
            }
            self.take(&received)?;
        }
    }

    /// Turns a frame into events.
    fn take(&mut self, received: &Received) -> Result<(), Fault> {
        match received.kind {
            METHOD => self.take_method(&received.payload),
            HEADER => self.take_header(&received.payload),
            BODY => self.take_body(&received.payload),
            _ => Ok(()),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other methods are out of turn")]
    fn take_method(&mut self, payload: &Bytes) -> Result<(), Fault> {
        match Method::parse(payload)? {
            Method::BasicDeliver { .. } | Method::BasicReturn { .. } => {
                self.expect_content(payload.clone());
            }
            Method::BasicAck { delivery_tag, multiple } => {
                self.settle(delivery_tag, multiple, true);
            }
            Method::BasicNack { delivery_tag, multiple, .. } => {
                self.settle(delivery_tag, multiple, false);
            }
            Method::BasicCancel { .. } => self.events.push_back(Event::Cancelled),
            Method::ChannelClose { .. } => {
                self.say(&Method::ChannelCloseOk {});
                self.link.flush()?;
                return Err(unexpected(payload));
            }
            _ => return Err(unexpected(payload)),
        }
        Ok(())
    }

    fn expect_content(&mut self, method: Bytes) {
        self.content = Some(Content {
            method,
            properties: Bytes::new(),
            missing_bytes: None,
            body: BytesMut::new(),
        });
    }

    fn settle(&mut self, number: u64, is_multiple: bool, is_ack: bool) {
        if let Some(confirms) = self.confirms.as_mut() {
            let settled = confirms.settle(number, is_multiple);
            let confirm = |number| Event::Confirm { number, is_ack };
            self.events.extend(settled.into_iter().map(confirm));
        }
    }

    fn take_header(&mut self, payload: &Bytes) -> Result<(), Fault> {
        let Some(header) = codec::content_header(payload) else {
            return Err(Fault::Protocol("a content header is too short".to_owned()));
        };
        let (body_bytes, properties) = (header.body_size, payload.slice_ref(header.properties));
        let content = self.content.as_mut();
        let content = content.ok_or_else(|| Fault::Protocol("a header out of turn".to_owned()))?;
        content.properties = properties;
        content.missing_bytes = Some(body_bytes);
        self.complete()
    }

    fn take_body(&mut self, payload: &Bytes) -> Result<(), Fault> {
        let out_of_turn = || Fault::Protocol("a body out of turn".to_owned());
        let content = self.content.as_mut().ok_or_else(out_of_turn)?;
        let missing = content.missing_bytes.ok_or_else(out_of_turn)?;
        let left = missing.checked_sub(payload.len() as u64).ok_or_else(out_of_turn)?;
        content.missing_bytes = Some(left);
        content.body.extend_from_slice(payload);
        self.complete()
    }

    /// Turns the content into an event once it is whole.
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other method has content")]
    fn complete(&mut self) -> Result<(), Fault> {
        let is_whole = |content: &mut Content| content.missing_bytes == Some(0);
        let Some(content) = self.content.take_if(is_whole) else { return Ok(()) };
        let event = match Method::parse(&content.method)? {
            Method::BasicReturn { reply_code: code, reply_text, .. } => {
                Event::Returned { code, text: text_of(reply_text) }
            }
            Method::BasicDeliver { delivery_tag, redelivered, exchange, routing_key, .. }
            | Method::BasicGetOk { delivery_tag, redelivered, exchange, routing_key, .. } => {
                Event::Delivery(Delivery {
                    tag: delivery_tag,
                    is_redelivered: redelivered,
                    exchange: text_of(exchange),
                    routing_key: text_of(routing_key),
                    properties: content.properties,
                    body: content.body.freeze(),
                })
            }
            _ => return Err(unexpected(&content.method)),
        };
        self.events.push_back(event);
        Ok(())
    }
}
