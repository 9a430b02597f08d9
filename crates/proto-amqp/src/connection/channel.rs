//! What one channel remembers, the list of all channels, and the methods of the classes channel
//! and access. Kept small: an idle channel is one allocation of a few hundred bytes.

use bytes::{Bytes, BytesMut};
use model::{ConsumerId, Publish, Request};
use wire::Outbox;

use super::{
    Connection, Stop,
    ticket::{self, Ask},
    transaction::Transaction,
    unimplemented_method,
};
use crate::{
    map::{Code, Failure},
    table::Method,
};

/// Where a channel stands.
#[derive(Debug, Default)]
pub(super) enum State {
    /// In business.
    #[default]
    Open,
    /// It failed; the engine ends it first, then the peer is told this.
    Failing(Box<Failure>),
    /// The peer was told and has yet to agree.
    Told,
    /// The peer closed it and waits for our answer.
    Leaving,
    /// Closed; kept only until the engine has ended it, see [`Channel::endings`].
    Gone,
}

/// How publishes and settlements of a channel are answered.
#[derive(Debug, Default)]
pub(super) enum Mode {
    /// Not at all.
    #[default]
    Plain,
    /// Publishes are confirmed.
    Confirm,
    /// Publishes and settlements wait for `tx.commit`.
    Transaction(Box<Transaction>),
}

/// A consumer of a channel.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) id: ConsumerId,
    /// Its consumer tag.
    pub(super) tag: Bytes,
    /// The client cancelled it; the engine has yet to say so.
    pub(super) is_cancelled: bool,
}

/// A message whose frames have not all arrived.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) publish: Publish,
    /// Of the method: see `publish::IMMEDIATE` and neighbours.
    pub(super) bits: u8,
    /// Announced bytes of body; `None` until the content header has come.
    pub(super) size: Option<u64>,
    /// What came of a body in several frames.
    pub(super) body: BytesMut,
}

impl Assembly {
    /// A frame came that does not continue it. Source: observed, `RabbitMQ` 3.10.8.
    pub(super) fn interrupted(&self) -> Failure {
        let text = if self.size.is_some() {
            "expected content body, got non content body frame instead"
        } else {
            "expected content header for class 60, got non content header frame instead"
        };
        Failure::new(Code::UnexpectedFrame, text).because_of((60, 40))
    }
}

/// A consumer of the pseudo queue `amq.rabbitmq.reply-to`.
#[derive(Debug)]
pub(super) struct ReplyTo {
    pub(super) consumer: ConsumerId,
    /// The private address; `None` until the engine has given it.
    pub(super) address: Option<Bytes>,
    /// Publishes that came before the address did, in order, with their method bits.
    pub(super) held: Vec<(Publish, u8)>,
    /// Bytes of them.
    pub(super) held_bytes: usize,
}

/// One channel.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) state: State,
    /// `CloseChannel` requests of former lives of this number that the engine has yet to answer;
    /// until then every answer and event is about a former life and is dropped.
    pub(super) endings: u16,
    pub(super) mode: Mode,
    pub(super) assembly: Option<Box<Assembly>>,
    /// What `""` stands for; empty until a queue was declared.
    pub(super) last_queue: Bytes,
    /// In order of their numbers.
    pub(super) consumers: Vec<Consumer>,
    pub(super) consumers_made: u32,
    pub(super) reply_to: Option<Box<ReplyTo>>,
    /// Number of the last publish that was confirmed or refused; the first one is 1.
    pub(super) answered: u64,
    /// Confirmed publishes not yet told to the peer, the last of them being `answered`.
    pub(super) gathered: u64,
}

impl Channel {
    /// Whether answers and events of the engine concern a life the peer knows.
    pub(super) const fn is_listening(&self) -> bool {
        self.endings == 0 && !matches!(self.state, State::Told | State::Gone)
    }

    /// The consumer with this number.
    pub(super) fn consumer(&self, id: ConsumerId) -> Option<&Consumer> {
        let at = self.consumers.binary_search_by_key(&id, |consumer| consumer.id).ok()?;
        self.consumers.get(at)
    }

    /// Forgets a consumer.
    pub(super) fn remove_consumer(&mut self, id: ConsumerId) -> Option<Consumer> {
        let at = self.consumers.binary_search_by_key(&id, |consumer| consumer.id).ok()?;
        if self.reply_to.as_ref().is_some_and(|reply_to| reply_to.consumer == id) {
            self.reply_to = None;
        }
        Some(self.consumers.remove(at))
    }

    /// Drops everything but number and endings.
    pub(super) fn reset(&mut self, state: State) {
        *self = Self { number: self.number, endings: self.endings, state, ..Self::default() };
    }
}

/// The channels of a connection, in order of their numbers.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "opening a channel must not move the others")]
pub(super) struct Channels {
    list: Vec<Box<Channel>>,
}

impl Channels {
    fn place(&self, number: u16) -> Result<usize, usize> {
        self.list.binary_search_by_key(&number, |channel| channel.number)
    }

    /// A channel in any state.
    pub(super) fn get_mut(&mut self, number: u16) -> Option<&mut Channel> {
        let at = self.place(number).ok()?;
        self.list.get_mut(at).map(|channel| &mut **channel)
    }

    /// A channel in any state.
    pub(super) fn get(&self, number: u16) -> Option<&Channel> {
        self.list.get(self.place(number).ok()?).map(|channel| &**channel)
    }

    /// Whether frames of this channel are taken.
    pub(super) fn is_open(&self, number: u16) -> bool {
        self.get(number).is_some_and(|channel| matches!(channel.state, State::Open))
    }

    /// Whether frames of this channel are taken and none of a message is missing.
    pub(super) fn is_between_messages(&self, number: u16) -> bool {
        let channel = self.get(number);
        channel.is_some_and(|one| matches!(one.state, State::Open) && one.assembly.is_none())
    }

    /// Whether frames of this channel are ignored, but for those that close it.
    pub(super) fn is_ignoring(&self, number: u16) -> bool {
        self.get(number)
            .is_some_and(|channel| matches!(channel.state, State::Failing(_) | State::Told))
    }

    /// All of them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.list.iter_mut().map(|channel| &mut **channel)
    }

    /// Begins a new life of this number.
    fn open(&mut self, number: u16) {
        match self.place(number) {
            Ok(at) => {
                if let Some(channel) = self.list.get_mut(at) {
                    channel.reset(State::Open);
                }
            }
            Err(at) => {
                self.list.insert(at, Box::new(Channel { number, ..Channel::default() }));
            }
        }
    }

    /// Forgets this number; something stays behind while the engine has yet to end it.
    pub(super) fn remove(&mut self, number: u16) {
        let Ok(at) = self.place(number) else { return };
        match self.list.get_mut(at) {
            Some(channel) if channel.endings > 0 => channel.reset(State::Gone),
            _ => {
                self.list.remove(at);
            }
        }
    }
}

impl Connection {
    /// Methods of the classes channel and access on an open channel, or `channel.open`.
    pub(super) fn on_channel_class(
        &mut self,
        number: u16,
        method: &Method<'_>,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        match method {
            Method::ChannelOpen { .. } => self.open_channel(number, out)?,
            Method::ChannelClose { .. } => {
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.assembly = None;
                    channel.state = State::Leaving;
                }
                out.submit(number, ticket::plain(Ask::CloseThenAnswer), Request::CloseChannel);
            }
            Method::ChannelFlow { active: true } => in_turn(number, Ask::Flow, false, out),
            Method::ChannelFlow { active: false } => {
                return Err(Failure::new(Code::NotImplemented, "active=false").into());
            }
            Method::AccessRequest { .. } => in_turn(number, Ask::Access, false, out),
            _ => return Err(unimplemented_method().into()),
        }
        Ok(())
    }

    /// Source of the texts: observed, `RabbitMQ` 3.10.8.
    ///
    /// Deviation(AMQP-004): a channel number above the negotiated channel-max is refused with 504;
    /// `RabbitMQ` limits only how many are open.
    fn open_channel(&mut self, number: u16, out: &mut Outbox) -> Result<(), Failure> {
        if self.channels.is_open(number) {
            return Err(Failure::new(Code::ChannelError, "second 'channel.open' seen"));
        }
        if number > self.channel_max {
            let max = self.channel_max;
            return Err(Failure::new(
                Code::ChannelError,
                format!("channel number {number} is above the negotiated channel_max ({max})"),
            ));
        }
        if let Some(channel) = self.channels.get_mut(number)
            && matches!(channel.state, State::Leaving)
        {
            channel.endings = channel.endings.saturating_add(1);
        }
        self.channels.open(number);
        out.submit(
            number,
            ticket::plain(Ask::OpenChannel),
            Request::OpenChannel { is_strict: true },
        );
        Ok(())
    }
}

/// Lets an answer of our own come in its turn among the engine's, and not at all once the channel
/// has failed.
pub(super) fn in_turn(number: u16, ask: Ask, nowait: bool, out: &mut Outbox) {
    out.submit(number, ticket::with_nowait(ask, nowait), Request::Echo);
}

impl ReplyTo {
    /// Keeps a publish until the private address is known.
    pub(super) fn hold(
        &mut self,
        publish: Publish,
        bits: u8,
        bytes_max: u32,
    ) -> Result<(), Failure> {
        let bytes = publish.body.len() + publish.properties.len() + 512;
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        if self.held_bytes as u64 > u64::from(bytes_max) {
            return Err(Failure::new(
                Code::PreconditionFailed,
                "too many messages published before basic.consume-ok of the reply consumer",
            ));
        }
        self.held.push((publish, bits));
        Ok(())
    }
}
