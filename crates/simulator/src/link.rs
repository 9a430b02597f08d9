//! [`Link`]: the client's end of a connection: frames, handshake, heartbeats, whole messages.
//!
//! Lives here: what every client does. Not here: what it wants (`roles`), when it connects
//! (`clients`), how bytes travel (`pipe`).

use bytes::{Buf, Bytes, BytesMut};
use proto_amqp::codec::{self, BODY, FRAME_END, HEADER, METHOD, PROTOCOL_HEADER};
use proto_amqp::table::Method;

use crate::fact::Micros;
use crate::io::{Io, Letter};
use crate::roles::Role;

/// Largest frame a client agrees to.
const FRAME_MAX: u32 = 4096;

/// Why a link is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Over {
    /// Both said goodbye; everything asked for is done and durable.
    Goodbye,
    /// The server closed it.
    Told,
    /// Nothing was heard for too long.
    Silence,
    /// What came is no AMQP.
    Nonsense,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Tuning,
    Opening,
    Channel,
    Open,
    Leaving,
}

/// A message that is still arriving.
#[derive(Debug)]
struct Arriving {
    channel: u16,
    method: Bytes,
    letter: Letter,
    missing: u64,
    has_header: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Link {
    phase: Phase,
    input: BytesMut,
    pub(crate) out: BytesMut,
    arriving: Option<Arriving>,
    heartbeat: Micros,
    last_read: Micros,
    last_written: Micros,
    /// What the server said when it closed something, for the trace.
    pub(crate) last_words: String,
}

impl Link {
    /// Begins a handshake; `heartbeat` is what this client insists on.
    pub(crate) fn new(now: Micros, heartbeat: Micros) -> Self {
        Self {
            phase: Phase::Greeting,
            input: BytesMut::new(),
            out: BytesMut::from(&PROTOCOL_HEADER[..]),
            arriving: None,
            heartbeat,
            last_read: now,
            last_written: now,
            last_words: String::new(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// It has said goodbye: what still comes is nobody's.
    pub(crate) fn is_leaving(&self) -> bool {
        self.phase == Phase::Leaving
    }

    /// Says goodbye; false when it has, or cannot yet.
    pub(crate) fn close(&mut self) -> bool {
        let is_open = self.phase == Phase::Open;
        if is_open {
            self.phase = Phase::Leaving;
            let close = Method::ConnectionClose {
                reply_code: 200,
                reply_text: b"bye",
                class: 0,
                method: 0,
            };
            close.put(&mut self.out, 0);
        }
        is_open
    }

    /// Bytes came.
    pub(crate) fn on_bytes(
        &mut self,
        bytes: &BytesMut,
        role: &mut dyn Role,
        io: &mut Io<'_>,
    ) -> Result<(), Over> {
        self.last_read = io.now;
        self.input.extend_from_slice(bytes);
        loop {
            let head = match codec::peek(&self.input, FRAME_MAX) {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(()),
                Err(_) => return Err(Over::Nonsense),
            };
            let mut frame = self.input.split_to(head.total());
            frame.advance(codec::FRAME_HEAD);
            if frame.last() != Some(&FRAME_END) {
                return Err(Over::Nonsense);
            }
            frame.truncate(frame.len() - 1);
            match head.kind {
                METHOD => self.on_method_frame((head.channel, frame.freeze()), role, io)?,
                HEADER => self.on_header(&frame)?,
                BODY => self.on_body(&frame)?,
                _ => {}
            }
            self.deliver(role, io)?;
        }
    }

    fn on_method_frame(
        &mut self,
        (channel, payload): (u16, Bytes),
        role: &mut dyn Role,
        io: &mut Io<'_>,
    ) -> Result<(), Over> {
        let method = Method::parse(&payload).map_err(|_| Over::Nonsense)?;
        if channel == 0 {
            role.on_method(io, 0, &method);
            return self.on_connection_method(&method);
        }
        let has_content = matches!(
            method,
            Method::BasicDeliver { .. } | Method::BasicGetOk { .. } | Method::BasicReturn { .. }
        );
        if has_content {
            let letter = Letter { properties: Bytes::new(), body: BytesMut::new() };
            let method = payload.clone();
            self.arriving =
                Some(Arriving { channel, method, letter, missing: 0, has_header: false });
            return Ok(());
        }
        if self.phase == Phase::Channel && matches!(method, Method::ChannelOpenOk { .. }) {
            self.phase = Phase::Open;
            role.opened(io);
            return Ok(());
        }
        if let Method::ChannelClose { reply_text, .. } = method {
            self.last_words = String::from_utf8_lossy(reply_text).into_owned();
        }
        role.on_method(io, channel, &method);
        Ok(())
    }

    fn on_connection_method(&mut self, method: &Method<'_>) -> Result<(), Over> {
        match (self.phase, method) {
            (Phase::Greeting, Method::ConnectionStart { .. }) => {
                let start = Method::ConnectionStartOk {
                    client_properties: &client_properties(),
                    mechanism: b"PLAIN",
                    response: b"\0guest\0guest",
                    locale: b"en_US",
                };
                start.put(&mut self.out, 0);
                self.phase = Phase::Tuning;
            }
            (Phase::Tuning, Method::ConnectionTune { channel_max, .. }) => {
                let heartbeat = u16::try_from(self.heartbeat / 1_000_000).unwrap_or(60);
                let channel_max = *channel_max;
                let tune =
                    Method::ConnectionTuneOk { channel_max, frame_max: FRAME_MAX, heartbeat };
                tune.put(&mut self.out, 0);
                let open =
                    Method::ConnectionOpen { virtual_host: b"/", capabilities: b"", insist: false };
                open.put(&mut self.out, 0);
                self.phase = Phase::Opening;
            }
            (Phase::Opening, Method::ConnectionOpenOk { .. }) => {
                Method::ChannelOpen { out_of_band: b"" }.put(&mut self.out, 1);
                self.phase = Phase::Channel;
            }
            (Phase::Leaving, Method::ConnectionCloseOk {}) => return Err(Over::Goodbye),
            (_, Method::ConnectionClose { reply_text, .. }) => {
                self.last_words = String::from_utf8_lossy(reply_text).into_owned();
                return Err(Over::Told);
            }
            _ => {}
        }
        Ok(())
    }

    fn on_header(&mut self, frame: &[u8]) -> Result<(), Over> {
        let arriving = self.arriving.as_mut().ok_or(Over::Nonsense)?;
        let header = codec::content_header(frame).ok_or(Over::Nonsense)?;
        arriving.letter.properties = Bytes::copy_from_slice(header.properties);
        arriving.missing = header.body_size;
        arriving.has_header = true;
        Ok(())
    }

    fn on_body(&mut self, frame: &[u8]) -> Result<(), Over> {
        let arriving = self.arriving.as_mut().ok_or(Over::Nonsense)?;
        arriving.missing =
            arriving.missing.checked_sub(frame.len() as u64).ok_or(Over::Nonsense)?;
        arriving.letter.body.extend_from_slice(frame);
        Ok(())
    }

    /// Hands a whole message to the role.
    fn deliver(&mut self, role: &mut dyn Role, io: &mut Io<'_>) -> Result<(), Over> {
        let is_whole =
            self.arriving.as_ref().is_some_and(|letter| letter.has_header && letter.missing == 0);
        if !is_whole {
            return Ok(());
        }
        let Some(Arriving { channel, method, letter, .. }) = self.arriving.take() else {
            return Ok(());
        };
        let method = Method::parse(&method).map_err(|_| Over::Nonsense)?;
        role.on_letter(io, (channel, &method), &letter);
        Ok(())
    }

    /// When [`Link::on_time`] wants to be called.
    pub(crate) fn deadline(&self) -> Micros {
        (self.last_read + 2 * self.heartbeat).min(self.last_written + self.heartbeat / 2)
    }

    /// Sends a heartbeat or gives the server up.
    pub(crate) fn on_time(&mut self, now: Micros) -> Result<(), Over> {
        if now >= self.last_read + 2 * self.heartbeat {
            return Err(Over::Silence);
        }
        if now >= self.last_written + self.heartbeat / 2 {
            self.last_written = now;
            if matches!(self.phase, Phase::Open | Phase::Channel | Phase::Leaving) {
                codec::put_heartbeat(&mut self.out);
            }
        }
        Ok(())
    }

    /// Bytes were taken.
    pub(crate) fn on_written(&mut self, now: Micros) {
        self.last_written = now;
    }
}

/// The capabilities that make a server say what it otherwise keeps to itself.
fn client_properties() -> Vec<u8> {
    use model::table::{Value, put_field};
    let mut capabilities = Vec::new();
    for name in [
        &b"publisher_confirms"[..],
        b"basic.nack",
        b"consumer_cancel_notify",
        b"connection.blocked",
        b"authentication_failure_close",
    ] {
        put_field(&mut capabilities, name, Value::Bool(true));
    }
    let mut properties = Vec::new();
    put_field(&mut properties, b"product", Value::Text(b"simulator"));
    put_field(&mut properties, b"capabilities", Value::Table(&capabilities));
    properties
}
