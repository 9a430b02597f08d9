//! [`Client`]: one connection with one channel, one method per protocol verb.
//!
//! Publishes and settlements gather in the output until [`Client::flush`], a call that waits for
//! a reply, or [`Client::next_event`]. Not here: frames (`method`), the socket (`link`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use model::table::Value;
use wire::Cursor;

use super::confirms::Confirms;
use super::link::{closing, split_method, unexpected};
use super::method::{self, Frame, Received, id, table_of};
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
    method: id::Method,
    arguments: Bytes,
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

    /// Declares a queue; returns its name and how many messages it holds.
    pub(crate) fn declare_queue(&mut self, spec: &QueueSpec<'_>) -> Result<(String, u32), Fault> {
        let bits = u8::from(spec.is_passive)
            | u8::from(spec.is_durable) << 1
            | u8::from(spec.is_exclusive) << 2
            | u8::from(spec.is_auto_delete) << 3;
        self.method(id::QUEUE_DECLARE)
            .u16(0)
            .short(spec.name)
            .u8(bits)
            .long(&table_of(spec.arguments))
            .end()?;
        let reply = self.call(id::QUEUE_DECLARE_OK, "queue.declare")?;
        let mut reply = Cursor::new(&reply);
        let name = String::from_utf8_lossy(reply.short_string()?).into_owned();
        Ok((name, reply.u32()?))
    }

    /// Deletes a queue with what is in it; returns how many messages that were.
    pub(crate) fn delete_queue(&mut self, name: &str) -> Result<u32, Fault> {
        self.method(id::QUEUE_DELETE).u16(0).short(name).u8(0).end()?;
        let reply = self.call(id::QUEUE_DELETE_OK, "queue.delete")?;
        Ok(Cursor::new(&reply).u32()?)
    }

    /// Puts the channel into confirm mode: each publish is answered by [`Event::Confirm`].
    pub(crate) fn confirm_select(&mut self) -> Result<(), Fault> {
        self.method(id::CONFIRM_SELECT).u8(0).end()?;
        self.call(id::CONFIRM_SELECT_OK, "confirm.select")?;
        self.confirms = Some(Confirms::default());
        Ok(())
    }

    /// Publishes; returns the number that the confirm will carry (0 without confirm mode).
    pub(crate) fn publish(&mut self, message: &Message<'_>) -> Result<u64, Fault> {
        self.method(id::BASIC_PUBLISH)
            .u16(0)
            .short(message.exchange)
            .short(message.routing_key)
            .u8(u8::from(message.is_mandatory))
            .end()?;
        let frame_bytes_max = self.link.frame_bytes_max();
        let (properties, body) = (message.properties, message.body);
        method::content(&mut self.link.output, CHANNEL, properties, body, frame_bytes_max)?;
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
        self.method(id::BASIC_QOS).u32(0).u16(prefetch).u8(0).end()?;
        self.call(id::BASIC_QOS_OK, "basic.qos")?;
        self.method(id::BASIC_CONSUME)
            .u16(0)
            .short(queue)
            .short("")
            .u8(u8::from(is_auto_ack) << 1)
            .long(&[])
            .end()?;
        self.call(id::BASIC_CONSUME_OK, "basic.consume").map(drop)
    }

    /// Takes one message from a queue; `None` when it is empty.
    pub(crate) fn get(
        &mut self,
        queue: &str,
        is_auto_ack: bool,
    ) -> Result<Option<Delivery>, Fault> {
        self.method(id::BASIC_GET).u16(0).short(queue).u8(u8::from(is_auto_ack)).end()?;
        self.link.flush()?;
        let deadline = Instant::now() + REPLY_TIMEOUT;
        loop {
            let received = self.link.receive(deadline)?.ok_or(Fault::Silence("basic.get"))?;
            let is_get = self.content.as_ref().is_some_and(|c| c.method == id::BASIC_GET_OK);
            if received.kind == id::METHOD && split_method(&received)?.0 == id::BASIC_GET_EMPTY {
                return Ok(None);
            }
            let before = self.events.len();
            self.take(&received)?;
            if is_get
                && self.events.len() > before
                && let Some(Event::Delivery(delivery)) = self.events.pop_back()
            {
                return Ok(Some(delivery));
            }
        }
    }

    /// Acknowledges one delivery, or all up to it.
    pub(crate) fn ack(&mut self, tag: u64, is_multiple: bool) -> Result<(), Fault> {
        self.method(id::BASIC_ACK).u64(tag).u8(u8::from(is_multiple)).end()
    }

    /// Gives one delivery back, into its queue or (without requeue) away.
    pub(crate) fn nack(&mut self, tag: u64, is_requeued: bool) -> Result<(), Fault> {
        self.method(id::BASIC_NACK).u64(tag).u8(u8::from(is_requeued) << 1).end()
    }

    /// From now on publishes and acknowledgements take effect at [`Client::tx_commit`].
    pub(crate) fn tx_select(&mut self) -> Result<(), Fault> {
        self.method(id::TX_SELECT).end()?;
        self.call(id::TX_SELECT_OK, "tx.select").map(drop)
    }

    /// Makes everything since the last commit take effect, all or nothing.
    pub(crate) fn tx_commit(&mut self) -> Result<(), Fault> {
        self.method(id::TX_COMMIT).end()?;
        self.call(id::TX_COMMIT_OK, "tx.commit").map(drop)
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

    fn method(&mut self, method: id::Method) -> Frame<'_> {
        Frame::method(&mut self.link.output, CHANNEL, method)
    }

    /// Sends and waits for the reply; what else arrives becomes events.
    fn call(&mut self, expected: id::Method, what: &'static str) -> Result<Bytes, Fault> {
        self.link.flush()?;
        let deadline = Instant::now() + REPLY_TIMEOUT;
        loop {
            let received = self.link.receive(deadline)?.ok_or(Fault::Silence(what))?;
            if received.kind == id::METHOD {
                let (method, arguments) = split_method(&received)?;
                if method == expected {
                    return Ok(arguments);
                }
            }
            self.take(&received)?;
        }
    }

    /// Turns a frame into events.
    fn take(&mut self, received: &Received) -> Result<(), Fault> {
        match received.kind {
            id::METHOD => self.take_method(received),
            id::HEADER => self.take_header(&received.payload),
            id::BODY => self.take_body(&received.payload),
            _ => Ok(()),
        }
    }

    fn take_method(&mut self, received: &Received) -> Result<(), Fault> {
        let (method, arguments) = split_method(received)?;
        match method {
            id::BASIC_DELIVER | id::BASIC_RETURN | id::BASIC_GET_OK => {
                self.content = Some(Content {
                    method,
                    arguments,
                    properties: Bytes::new(),
                    missing_bytes: None,
                    body: BytesMut::new(),
                });
            }
            id::BASIC_ACK | id::BASIC_NACK => {
                let mut cursor = Cursor::new(&arguments);
                let (tag, bits) = (cursor.u64()?, cursor.u8()?);
                let settled = match self.confirms.as_mut() {
                    Some(confirms) => confirms.settle(tag, bits & 1 == 1),
                    None => Vec::new(),
                };
                let is_ack = method == id::BASIC_ACK;
                let confirm = |number| Event::Confirm { number, is_ack };
                self.events.extend(settled.into_iter().map(confirm));
            }
            id::BASIC_CANCEL => self.events.push_back(Event::Cancelled),
            id::CHANNEL_CLOSE => {
                Frame::method(&mut self.link.output, CHANNEL, id::CHANNEL_CLOSE_OK).end()?;
                let fault = unexpected(method, &arguments);
                self.link.flush()?;
                return Err(fault);
            }
            _ => return Err(unexpected(method, &arguments)),
        }
        Ok(())
    }

    fn take_header(&mut self, payload: &Bytes) -> Result<(), Fault> {
        let mut cursor = Cursor::new(payload);
        cursor.u32()?;
        let body_bytes = cursor.u64()?;
        let properties = payload.slice(12..);
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
    fn complete(&mut self) -> Result<(), Fault> {
        let is_whole = |content: &mut Content| content.missing_bytes == Some(0);
        let Some(content) = self.content.take_if(is_whole) else { return Ok(()) };
        let mut cursor = Cursor::new(&content.arguments);
        if content.method == id::BASIC_RETURN {
            let (code, text) = closing(&content.arguments).unwrap_or_default();
            self.events.push_back(Event::Returned { code, text });
            return Ok(());
        }
        if content.method == id::BASIC_DELIVER {
            cursor.short_string()?;
        }
        let (tag, is_redelivered) = (cursor.u64()?, cursor.u8()? != 0);
        let exchange = String::from_utf8_lossy(cursor.short_string()?).into_owned();
        let routing_key = String::from_utf8_lossy(cursor.short_string()?).into_owned();
        let (properties, body) = (content.properties, content.body.freeze());
        self.events.push_back(Event::Delivery(Delivery {
            tag,
            is_redelivered,
            exchange,
            routing_key,
            properties,
            body,
        }));
        Ok(())
    }
}
