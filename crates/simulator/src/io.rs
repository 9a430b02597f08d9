//! [`Io`]: what a role may do while it has its turn: write methods, publish, settle, and tell what
//! happened. Every fact about messages is told here, so that all roles tell them alike.

use bytes::{Bytes, BytesMut};
use model::JobId;
use model::properties::{Builder, Properties, Property};
use model::table::{self, Value};
use proto_amqp::codec;
use proto_amqp::table::Method;

use crate::dice::Dice;
use crate::fact::{ConnId, Delivered, Fact, Held, JobAsk, JobWish, MessageId, Micros, Place, Sent};
use crate::garden::{Garden, Route};
use crate::letter;
use crate::tap;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stage {
    /// The queues are being declared.
    Planting,
    /// Work and faults.
    Busy,
    /// No more faults, no new work; what there is must be done.
    Calm,
    /// Everybody says goodbye.
    Leaving,
    /// What is left is read back.
    Gleaning,
    /// It is over.
    Done,
}

/// Numbers that are given out once.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) messages: u32,
    pub(crate) asks: u32,
    /// Jobs that some client has heard of, for those who work by number.
    pub(crate) ids: Vec<JobId>,
    pub(crate) sources: u32,
    pub(crate) subscriptions: u32,
}

/// A message as it arrived.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) properties: Bytes,
    pub(crate) body: BytesMut,
}

/// How a letter came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) place: Place,
    pub(crate) subscription: u32,
    pub(crate) is_redelivered: bool,
    pub(crate) no_ack: bool,
    pub(crate) is_gleaned: bool,
    pub(crate) asked_ms: Option<u64>,
}

impl Way {
    /// To a consumer that will answer.
    pub(crate) fn consumer(place: Place, subscription: u32, is_redelivered: bool) -> Self {
        let (no_ack, is_gleaned, asked_ms) = (false, false, None);
        Self { place, subscription, is_redelivered, no_ack, is_gleaned, asked_ms }
    }
}

/// What a publish asks for beyond its route.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) channel: u16,
    pub(crate) source: u32,
    pub(crate) priority: u8,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) delay_ms: Option<u64>,
    pub(crate) job: Option<u32>,
    pub(crate) bytes: usize,
}

/// See the module's head.
pub(crate) struct Io<'a> {
    pub(crate) now: Micros,
    /// The latest time that the server can have stamped.
    pub(crate) log_ms: u64,
    /// What the wall clock shows.
    pub(crate) shown_ms: u64,
    /// Nothing has gone wrong for a while but what an alarm tells of.
    pub(crate) is_smooth: bool,
    pub(crate) stage: Stage,
    pub(crate) conn: ConnId,
    /// The server's end is closed already, though this client may not know; or it said goodbye.
    pub(crate) is_stale: bool,
    pub(crate) dice: &'a mut Dice,
    pub(crate) out: &'a mut BytesMut,
    /// What was written to a beanstalk door and is to be answered.
    pub(crate) asks: &'a mut Vec<JobAsk>,
    pub(crate) facts: &'a mut Vec<Fact>,
    pub(crate) garden: &'a Garden,
    pub(crate) book: &'a mut Book,
    /// When the role wants its next turn.
    pub(crate) wake_at: &'a mut Option<Micros>,
    /// The role wants to say goodbye.
    pub(crate) wants_close: &'a mut bool,
    /// The role has nothing more to do in this run.
    pub(crate) is_done: &'a mut bool,
}

impl Io<'_> {
    /// Writes a method.
    pub(crate) fn say(&mut self, channel: u16, method: &Method<'_>) {
        method.put(self.out, channel);
    }

    /// Asks for a turn after so long at the latest.
    pub(crate) fn wake_in(&mut self, delay: Micros) {
        let at = self.now + delay.max(1);
        *self.wake_at = Some(self.wake_at.map_or(at, |planned| planned.min(at)));
    }

    /// Tells a fact.
    pub(crate) fn tell(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// A fresh number for a publishing channel.
    pub(crate) fn new_source(&mut self) -> u32 {
        self.book.sources += 1;
        self.book.sources
    }

    /// A fresh number for a consumer.
    pub(crate) fn new_subscription(&mut self) -> u32 {
        self.book.subscriptions += 1;
        self.book.subscriptions
    }

    /// Publishes a message and tells of it.
    pub(crate) fn publish(&mut self, route: &Route, wish: Wish) -> MessageId {
        let message = self.book.messages;
        self.book.messages += 1;
        let body = letter::write(message, wish.job, wish.bytes);
        let publish = Method::BasicPublish {
            ticket: 0,
            exchange: route.exchange.as_bytes(),
            routing_key: route.key.as_bytes(),
            mandatory: false,
            immediate: false,
        };
        publish.put(self.out, wish.channel);
        let properties = properties(wish);
        codec::put_content(self.out, wish.channel, &properties, &body, 4096);
        let beds = route.targets.iter().filter_map(|place| self.garden.get(*place));
        let queue_ttl = beds.filter_map(|bed| bed.ttl_ms).min();
        let sent = Sent {
            message,
            source: wish.source,
            targets: route.targets.clone(),
            priority: wish.priority,
            ttl_ms: wish.ttl_ms.into_iter().chain(queue_ttl).min(),
            delay_ms: wish.delay_ms,
            log_ms: self.shown_ms,
            job: wish.job,
        };
        self.tell(Fact::Sent(sent));
        message
    }

    /// Reads a letter and tells of it; `None` when it is not one of ours.
    pub(crate) fn receive(&mut self, letter: &Letter, way: Way) -> Option<MessageId> {
        let (message, _) = match letter::read(&letter.body) {
            Ok(read) => read,
            Err(detail) => {
                self.tell(Fact::Garbled { place: way.place, detail: detail.to_owned() });
                return None;
            }
        };
        let properties = Properties::parse(&letter.properties).unwrap_or_default();
        let mut count = None;
        if let Some(Value::Int(number)) = properties.header(b"x-delivery-count") {
            count = u64::try_from(number).ok();
        }
        self.tell(Fact::Delivered(Delivered {
            message,
            place: way.place,
            conn: self.conn,
            subscription: way.subscription,
            is_gleaned: way.is_gleaned,
            asked_ms: way.asked_ms,
            is_redelivered: way.is_redelivered,
            count,
            reason: reason(&properties),
            log_ms: self.log_ms,
            is_stale: self.is_stale,
            no_ack: way.no_ack,
        }));
        Some(message)
    }

    /// Asks something of the beanstalk door and tells of it.
    pub(crate) fn ask(&mut self, wish: JobWish) {
        let bytes = usize::try_from(20 + self.dice.around(200)).unwrap_or(20);
        tap::write(&wish, self.garden, bytes, self.out);
        self.book.asks += 1;
        let (number, conn) = (self.book.asks, self.conn);
        let ask = JobAsk { number, conn, shown_ms: self.shown_ms, wish };
        self.asks.push(ask.clone());
        self.tell(Fact::JobAsked(ask));
    }

    /// Asks something of the workers' door; returns the number that the answer has.
    pub(crate) fn ask_work(&mut self, text: &str) -> u64 {
        self.book.asks += 1;
        let number = u64::from(self.book.asks);
        self.out.extend_from_slice(format!("{number} {text}\n").as_bytes());
        number
    }

    /// A fresh number for a job.
    pub(crate) fn new_job(&mut self) -> MessageId {
        self.book.messages += 1;
        self.book.messages - 1
    }

    /// A message at a place, with this connection.
    pub(crate) fn held(&self, message: MessageId, place: Place) -> Held {
        Held { message, place, conn: self.conn }
    }

    /// Asks for a queue's messages.
    pub(crate) fn consume(&mut self, channel: u16, place: Place, no_ack: bool) {
        let Some(bed) = self.garden.get(place) else { return };
        let consume = Method::BasicConsume {
            ticket: 0,
            queue: bed.name.as_bytes(),
            consumer_tag: bed.name.as_bytes(),
            no_local: false,
            no_ack,
            exclusive: false,
            nowait: false,
            arguments: &[],
        };
        consume.put(self.out, channel);
        self.tell(Fact::Subscribed(self.conn, place));
    }

    /// Sets how many unsettled messages may be out.
    pub(crate) fn qos(&mut self, channel: u16, count: u16) {
        let qos = Method::BasicQos { prefetch_size: 0, prefetch_count: count, global: false };
        self.say(channel, &qos);
        self.tell(Fact::Asked(self.conn, count));
    }
}

/// The first reason why a message died.
fn reason(properties: &Properties<'_>) -> Option<String> {
    let Some(Value::Array(deaths)) = properties.header(b"x-death") else { return None };
    let Some(Value::Table(death)) = table::items(deaths).next() else { return None };
    let reason = table::find(death, b"reason")?;
    Some(String::from_utf8_lossy(reason.as_text()?).into_owned())
}

fn properties(wish: Wish) -> Bytes {
    let mut builder = Builder::new().with(Property::DeliveryMode, Bytes::from_static(&[2]));
    if wish.priority > 0 {
        builder = builder.with(Property::Priority, Bytes::copy_from_slice(&[wish.priority]));
    }
    if let Some(ttl) = wish.ttl_ms {
        builder = builder.with(Property::Expiration, ttl.to_string());
    }
    if let Some(delay) = wish.delay_ms {
        let mut headers = Vec::new();
        table::put_field(&mut headers, b"x-delay", Value::Uint(delay));
        builder = builder.with(Property::Headers, headers);
    }
    builder.build()
}
