//! Messages coming in: `basic.publish` with its content, whole or frame by frame.
//!
//! The usual message arrives whole and becomes four slices of the network buffer, without a copy.
//! One that is cut by the end of a read goes frame by frame: its small parts are copied, so that
//! a half-read message pins no buffer, and a body in one frame is still a slice.
//! Not here: what the property list means (`map`), transactions (`transaction`).

use bytes::{Buf, Bytes, BytesMut};
use model::{Publish, PublishOptions, Request};
use wire::{Cursor, Outbox};

use super::{
    Connection, State, Stop,
    channel::{Assembly, Channel, Mode},
    ticket::{self, Ask},
};
use crate::{
    codec::{self, FRAME_HEAD, Head},
    map::{self, Code, Failure, precondition},
    table::Method,
};

/// Bit of `basic.publish`: hand the message back when no queue takes it.
const MANDATORY: u8 = 1;
/// Bit of `basic.publish`: not implemented by anybody any more.
const IMMEDIATE: u8 = 2;
/// First allocation for a body in several frames; grows with what really arrives.
const BODY_START_BYTES: usize = 256 * 1024;

/// Where the parts of a message lie in the input that holds all of it: offset and length.
struct Whole {
    exchange: (usize, usize),
    routing_key: (usize, usize),
    properties: (usize, usize),
    body: (usize, usize),
    /// Bytes of all its frames.
    total: usize,
    bits: u8,
}

impl Whole {
    /// Measures a publish whose body, if any, is one frame; `first` is its method frame. `None`
    /// when anything is missing, unusual or wrong: then each frame is looked at by itself.
    fn find(input: &[u8], first: Head, frame_max: u32) -> Option<Self> {
        let mut cursor = Cursor::new(first.payload(input));
        // Class, method, and the ticket that nobody uses.
        cursor.array::<6>().ok()?;
        let exchange = cursor.short_string().ok()?.len();
        let routing_key = cursor.short_string().ok()?.len();
        let bits = cursor.u8().ok()?;
        if !cursor.rest().is_empty() {
            return None;
        }
        let exchange_at = FRAME_HEAD + 7;
        let key_at = exchange_at + exchange + 1;

        let header_at = first.total();
        let rest = input.get(header_at..)?;
        let second = codec::peek(rest, frame_max).ok()??;
        let header = codec::content_header(second.payload(rest))?;
        if (second.kind, second.channel) != (codec::HEADER, first.channel)
            || (header.class, header.weight) != (60, 0)
        {
            return None;
        }
        let properties_at = header_at + FRAME_HEAD + codec::CONTENT_HEAD;
        let body_at = header_at + second.total();
        let mut total = body_at;
        let size = usize::try_from(header.body_size).ok()?;
        if size > 0 {
            let third = codec::peek(input.get(body_at..)?, frame_max).ok()??;
            if (third.kind, third.channel, third.size) != (codec::BODY, first.channel, size) {
                return None;
            }
            total += third.total();
        }
        Some(Self {
            exchange: (exchange_at, exchange),
            routing_key: (key_at, routing_key),
            properties: (properties_at, header.properties.len()),
            body: (body_at + FRAME_HEAD, size),
            total,
            bits,
        })
    }

    /// Whether there is nothing to read in the property list.
    fn has_plain_properties(&self, input: &[u8]) -> bool {
        let (at, length) = self.properties;
        input.get(at..at + length).is_some_and(map::is_plain)
    }

    /// The message as slices of the buffer that holds it.
    #[inline]
    fn into_publish(self, mut buffer: Bytes, options: PublishOptions) -> Publish {
        let part = |(at, length): (usize, usize)| {
            if length == 0 { Bytes::new() } else { buffer.slice(at..at + length) }
        };
        let (at, length) = self.properties;
        let properties = match buffer.get(at..at + length) {
            // What most fast publishers send costs no reference count.
            Some([0, 0]) => Bytes::from_static(&[0, 0]),
            Some([0x10, 0, 1]) => Bytes::from_static(&[0x10, 0, 1]),
            Some([0x10, 0, 2]) => Bytes::from_static(&[0x10, 0, 2]),
            _ => part(self.properties),
        };
        let (exchange, routing_key) = (part(self.exchange), part(self.routing_key));
        let (at, length) = self.body;
        if length == 0 {
            buffer = Bytes::new();
        } else {
            buffer.truncate(at + length);
            buffer.advance(at);
        }
        Publish { exchange, routing_key, properties, body: buffer, options }
    }
}

impl Connection {
    /// Takes a whole publish from the front of `input`; `false` when there is none.
    pub(super) fn take_whole_publish(
        &mut self,
        input: &mut BytesMut,
        first: Head,
        out: &mut Outbox,
    ) -> Result<bool, Stop> {
        let number = first.channel;
        let Some(whole) = Whole::find(input, first, self.frame_max) else { return Ok(false) };
        let Some(Channel { state: State::Open, assembly: None, mode, reply_to, .. }) =
            self.channels.get(number)
        else {
            return Ok(false);
        };
        let is_simple = self.blocked.is_none()
            && reply_to.is_none()
            && !matches!(mode, Mode::Transaction(_))
            && whole.bits & IMMEDIATE == 0
            && whole.body.1 <= self.options.limits.message_bytes_max as usize
            && whole.has_plain_properties(input);
        self.is_publisher = true;
        if is_simple {
            // Built where it will lie: this is the way of nearly all messages.
            let wants_confirm = matches!(mode, Mode::Confirm);
            let is_mandatory = whole.bits & MANDATORY != 0;
            let options =
                PublishOptions { is_mandatory, wants_confirm, ..PublishOptions::default() };
            let buffer = input.split_to(whole.total).freeze();
            let request = Request::Publish(whole.into_publish(buffer, options));
            out.submit(number, ticket::plain(Ask::Publish), request);
            return Ok(true);
        }
        let bits = whole.bits;
        let buffer = input.split_to(whole.total).freeze();
        let publish = whole.into_publish(buffer, PublishOptions::default());
        self.check_size(publish.body.len() as u64)
            .and_then(|()| self.publish(number, publish, bits, out))
            .map_err(|failure| failure.because_of((60, 40)).into())
            .map(|()| true)
    }

    /// The method frame of a message that did not come whole.
    pub(super) fn on_publish_method(&mut self, number: u16, method: &Method<'_>) {
        let &Method::BasicPublish { exchange, routing_key, mandatory, immediate, .. } = method
        else {
            return;
        };
        let Some(channel) = self.channels.get_mut(number) else { return };
        channel.assembly = Some(Box::new(Assembly {
            publish: Publish {
                exchange: map::name(exchange),
                routing_key: map::name(routing_key),
                ..Publish::default()
            },
            bits: (u8::from(mandatory) * MANDATORY) | (u8::from(immediate) * IMMEDIATE),
            size: None,
            body: BytesMut::new(),
        }));
    }

    /// A content header frame. Source of the texts: observed, `RabbitMQ` 3.10.8.
    pub(super) fn on_content_header(
        &mut self,
        number: u16,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        if self.channels.is_ignoring(number) {
            return Ok(());
        }
        let assembly = self.assembly(number)?;
        if assembly.size.is_some() {
            return Err(assembly.interrupted().into());
        }
        let Some(header) = codec::content_header(payload) else {
            return Err(Failure::new(Code::FrameError, "type 2: unknown_frame").into());
        };
        if header.weight != 0 {
            return Err(assembly.interrupted().into());
        }
        if header.class != 60 {
            let text = format!(
                "expected content header for class 60, got one for class {} instead",
                header.class
            );
            return Err(Failure::new(Code::UnexpectedFrame, text).because_of((60, 40)).into());
        }
        assembly.publish.properties = Bytes::copy_from_slice(header.properties);
        assembly.size = Some(header.body_size);
        self.check_size(header.body_size).map_err(|failure| failure.because_of((60, 40)))?;
        if header.body_size == 0 { self.finish(number, Bytes::new(), out) } else { Ok(()) }
    }

    /// A body frame; takes it from the front of `input`.
    pub(super) fn on_body(
        &mut self,
        head: Head,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        let frame = input.split_to(head.total());
        if self.channels.is_ignoring(head.channel) {
            return Ok(());
        }
        let assembly = self.assembly(head.channel)?;
        let Some(size) = assembly.size else { return Err(assembly.interrupted().into()) };
        let missing = size.saturating_sub(assembly.body.len() as u64);
        if head.size as u64 > missing {
            // Deviation(AMQP-005): more body than announced is an error at once.
            let text = "content body is longer than its header announced";
            return Err(Failure::new(Code::UnexpectedFrame, text).because_of((60, 40)).into());
        }
        if head.size as u64 == size {
            let mut body = frame.freeze();
            body.advance(FRAME_HEAD);
            body.truncate(head.size);
            return self.finish(head.channel, body, out);
        }
        if assembly.body.is_empty() {
            let announced = usize::try_from(size).unwrap_or(usize::MAX);
            assembly.body.reserve(announced.min(BODY_START_BYTES));
        }
        assembly.body.extend_from_slice(head.payload(&frame));
        if assembly.body.len() as u64 == size {
            let body = std::mem::take(&mut assembly.body).freeze();
            return self.finish(head.channel, body, out);
        }
        Ok(())
    }

    /// The message that a content frame continues. Source of the texts: observed, `RabbitMQ`
    /// 3.10.8.
    fn assembly(&mut self, number: u16) -> Result<&mut Assembly, Failure> {
        let Some(channel) = self.channels.get_mut(number) else {
            return Err(Failure::new(Code::ChannelError, "expected 'channel.open'"));
        };
        if matches!(channel.state, State::Gone) {
            return Err(Failure::new(Code::ChannelError, "expected 'channel.open'"));
        }
        channel.assembly.as_deref_mut().ok_or_else(|| {
            let text = "expected method frame, got non method frame instead";
            Failure::new(Code::UnexpectedFrame, text)
        })
    }

    /// All frames of a message are here.
    fn finish(&mut self, number: u16, body: Bytes, out: &mut Outbox) -> Result<(), Stop> {
        let assembly = self.channels.get_mut(number).and_then(|channel| channel.assembly.take());
        let Some(assembly) = assembly else { return Ok(()) };
        let Assembly { mut publish, bits, .. } = *assembly;
        publish.body = body;
        self.publish(number, publish, bits, out)
            .map_err(|failure| failure.because_of((60, 40)).into())
    }

    /// Source of the text: `RabbitMQ` 3.13, `rabbit_channel.erl`.
    ///
    /// Deviation(AMQP-015): a message that is too large is refused at its header, before its body
    /// has come.
    fn check_size(&self, bytes: u64) -> Result<(), Failure> {
        let max = self.options.limits.message_bytes_max;
        if bytes > u64::from(max) {
            return Err(precondition(format!(
                "message size {bytes} is larger than configured max size {max}"
            )));
        }
        Ok(())
    }

    /// Checks a message and hands it to the engine, or to the channel's transaction.
    pub(super) fn publish(
        &mut self,
        number: u16,
        mut publish: Publish,
        bits: u8,
        out: &mut Outbox,
    ) -> Result<(), Failure> {
        self.is_publisher = true;
        if self.blocked.is_some() && !self.knows_blocked {
            self.tell_blocked(out);
        }
        if bits & IMMEDIATE != 0 {
            return Err(Failure::new(Code::NotImplemented, "immediate=true"));
        }
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        if let Some(reply_to) = &mut channel.reply_to
            && reply_to.address.is_none()
        {
            return reply_to.hold(publish, bits, self.options.limits.commit_bytes_max);
        }
        if !map::is_plain(&publish.properties)
            && map::read_properties(&mut publish, self.login.claimable())?
        {
            let address = channel.reply_to.as_ref().and_then(|found| found.address.clone());
            let address =
                address.ok_or_else(|| precondition("fast reply consumer does not exist"))?;
            publish.properties = map::with_reply_to(&publish.properties, address);
        }
        publish.options.is_mandatory = bits & MANDATORY != 0;
        match &mut channel.mode {
            Mode::Plain => {}
            Mode::Confirm => publish.options.wants_confirm = true,
            Mode::Transaction(transaction) => {
                return transaction.publish(&publish, &self.options.limits);
            }
        }
        out.submit(number, ticket::plain(Ask::Publish), Request::Publish(publish));
        Ok(())
    }

    /// The engine gave the private address: what waited for it goes on.
    pub(super) fn release_held(
        &mut self,
        number: u16,
        held: Vec<(Publish, u8)>,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        for (publish, bits) in held {
            self.publish(number, publish, bits, out)
                .map_err(|failure| failure.because_of((60, 40)))?;
        }
        Ok(())
    }

    /// Hands a mandatory message back that no queue took.
    pub(super) fn write_return(&self, number: u16, publish: &Publish, out: &mut Outbox) {
        let method = Method::BasicReturn {
            reply_code: Code::NoRoute as u16,
            reply_text: Code::NoRoute.name().as_bytes(),
            exchange: &publish.exchange,
            routing_key: &publish.routing_key,
        };
        method.put(&mut out.bytes, number);
        let (properties, body) = (&publish.properties, &publish.body);
        codec::put_content(&mut out.bytes, number, properties, body, self.frame_max);
    }
}
