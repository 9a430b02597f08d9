//! [`Link`]: a connected and logged-in socket that sends and receives whole frames.
//!
//! Lives here: TCP and TLS, the handshake, the connection class. Not here: channels and what is
//! said on them (`session`). The load generator logs in through a link and takes its socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use model::table::{self, Value};
use net::tls::BlockingStream;
use proto_amqp::codec::{self, METHOD, PROTOCOL_HEADER};
use proto_amqp::table::Method;

use super::{Address, Fault};

/// How long connecting and each reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// What this client asks for; the server may answer with less.
const FRAME_BYTES_MAX: u32 = 128 << 10;

/// One received frame.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) kind: u8,
    pub(super) channel: u16,
    pub(super) payload: Bytes,
}
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;

/// A socket, with or without TLS.
enum Stream {
    Plain(TcpStream),
    Tls(Box<BlockingStream>),
}

impl Stream {
    const fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session) => &session.sock,
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(session) => session.write_all(bytes).and_then(|()| session.flush()),
        }
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(room),
            Self::Tls(session) => session.read(room),
        }
    }
}

/// A connection after its handshake, without heartbeats.
pub(crate) struct Link {
    stream: Stream,
    input: BytesMut,
    scratch: Box<[u8]>,
    /// Frames that [`Link::flush`] will send.
    pub(crate) output: BytesMut,
    frame_bytes_max: u32,
    /// The read timeout that the socket has now.
    timeout: Option<Duration>,
    /// `product` and `version` as the server announced them.
    server: String,
    /// Why the server holds publishers back, while it does.
    held_back: Option<String>,
}

impl Link {
    /// Connects, logs in and opens the virtual host.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses the login or breaks the protocol.
    pub(crate) fn connect(address: &Address) -> Result<Self, Fault> {
        let socket = dial(address)?;
        socket.set_nodelay(true).map_err(Fault::socket("setting up the socket"))?;
        let stream =
            if address.has_tls { encrypt(socket, address)? } else { Stream::Plain(socket) };
        let mut link = Self {
            stream,
            input: BytesMut::new(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            output: BytesMut::from(&PROTOCOL_HEADER[..]),
            frame_bytes_max: FRAME_BYTES_MAX,
            timeout: None,
            server: String::new(),
            held_back: None,
        };
        link.log_in(address)?;
        Ok(link)
    }

    fn log_in(&mut self, address: &Address) -> Result<(), Fault> {
        let start = self.call(0, "the protocol header", |method| {
            matches!(method, Method::ConnectionStart { .. })
        })?;
        if let Method::ConnectionStart { server_properties, .. } = Method::parse(&start)? {
            self.server = product(server_properties);
        }
        let response = format!("\0{}\0{}", address.user, address.password);
        self.say(
            0,
            &Method::ConnectionStartOk {
                client_properties: &client_properties(),
                mechanism: b"PLAIN",
                response: response.as_bytes(),
                locale: b"en_US",
            },
        );
        let tune =
            self.call(0, "the login", |method| matches!(method, Method::ConnectionTune { .. }))?;
        let Method::ConnectionTune { channel_max, frame_max, .. } = Method::parse(&tune)? else {
            return Err(unexpected(&tune));
        };
        if frame_max != 0 {
            self.frame_bytes_max = frame_max.min(FRAME_BYTES_MAX);
        }
        let frame_max = self.frame_bytes_max;
        self.say(0, &Method::ConnectionTuneOk { channel_max, frame_max, heartbeat: 0 });
        let virtual_host = name(&address.vhost)?;
        let open = Method::ConnectionOpen { virtual_host, capabilities: &[], insist: false };
        self.say(0, &open);
        self.call(0, "opening the virtual host", |method| {
            matches!(method, Method::ConnectionOpenOk { .. })
        })?;
        Ok(())
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// When the server refuses or is gone.
    pub(crate) fn open_channel(&mut self, channel: u16) -> Result<(), Fault> {
        self.say(channel, &Method::ChannelOpen { out_of_band: &[] });
        self.call(channel, "opening a channel", |method| {
            matches!(method, Method::ChannelOpenOk { .. })
        })?;
        Ok(())
    }

    /// Adds a method to the output.
    pub(crate) fn say(&mut self, channel: u16, method: &Method<'_>) {
        method.put(&mut self.output, channel);
    }

    /// The size above which a frame may not be.
    pub(crate) const fn frame_bytes_max(&self) -> u32 {
        self.frame_bytes_max
    }

    /// Product and version of the server.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Why the server holds publishers back, in its words; `None` while it does not.
    pub(crate) fn held_back(&self) -> Option<&str> {
        self.held_back.as_deref()
    }

    /// Gives the socket away, blocking and without time limits. Nothing may be under way.
    ///
    /// # Errors
    /// When the socket fails, or is not a plain one.
    pub(crate) fn into_stream(mut self) -> Result<TcpStream, Fault> {
        self.flush()?;
        let Stream::Plain(socket) = self.stream else {
            return Err(Fault::Address("this measures servers without TLS, amqp://".to_owned()));
        };
        socket.set_read_timeout(None).map_err(Fault::socket("setting up the socket"))?;
        Ok(socket)
    }

    /// Sends what has gathered in `output`.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        let sent = self.stream.write_all(&self.output);
        self.output.clear();
        sent.map_err(Fault::socket("sending to the server"))
    }

    /// Flushes and waits for one expected method on `channel`; returns its payload. For times
    /// when nothing else can arrive: `session` waits with events in between.
    ///
    /// # Errors
    /// When something else arrives, or nothing in time.
    pub(crate) fn call(
        &mut self,
        channel: u16,
        what: &'static str,
        is_expected: fn(&Method<'_>) -> bool,
    ) -> Result<Bytes, Fault> {
        self.flush()?;
        let deadline = Instant::now() + REPLY_TIMEOUT;
        let received = self.receive(deadline)?.ok_or(Fault::Silence(what))?;
        let is_reply = received.kind == METHOD && received.channel == channel;
        if is_reply && is_expected(&Method::parse(&received.payload)?) {
            return Ok(received.payload);
        }
        Err(unexpected(&received.payload))
    }

    /// The next frame; `None` when the deadline passes first. Connection-wide methods are dealt
    /// with here.
    ///
    /// # Errors
    /// When the socket fails, or the server closes the connection or breaks the protocol.
    pub(super) fn receive(&mut self, deadline: Instant) -> Result<Option<Received>, Fault> {
        loop {
            if let Some(received) = take(&mut self.input, self.frame_bytes_max)? {
                if self.connection_wide(&received)? {
                    continue;
                }
                return Ok(Some(received));
            }
            if !self.read(deadline)? {
                return Ok(None);
            }
        }
    }

    /// True when the frame was one about the connection that needs nothing from the caller.
    fn connection_wide(&mut self, received: &Received) -> Result<bool, Fault> {
        if received.channel != 0 {
            return Ok(false);
        }
        if received.kind != METHOD {
            return Ok(true);
        }
        let method = Method::parse(&received.payload)?;
        if let Method::ConnectionClose { reply_code: code, reply_text, .. } = method {
            let text = text_of(reply_text);
            self.say(0, &Method::ConnectionCloseOk {});
            // Whether the good-bye arrives changes nothing any more.
            self.flush().ok();
            return Err(Fault::ConnectionClosed { code, text });
        }
        if let Method::ConnectionBlocked { reason } = method {
            self.held_back = Some(text_of(reason));
            return Ok(true);
        }
        let is_over = matches!(method, Method::ConnectionUnblocked {});
        if is_over {
            self.held_back = None;
        }
        Ok(is_over)
    }

    /// Reads once; false when the deadline passed.
    fn read(&mut self, deadline: Instant) -> Result<bool, Fault> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // One system call less when the time left is about what the socket waits anyway.
        let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(0) + 1);
        if self.timeout != Some(left) {
            let socket = self.stream.socket();
            socket.set_read_timeout(Some(left)).map_err(Fault::socket("setting up the socket"))?;
            self.timeout = Some(left);
        }
        match self.stream.read(&mut self.scratch) {
            Ok(0) => Err(Fault::HungUp("while this client waited for it")),
            Ok(length) => {
                self.input.extend_from_slice(self.scratch.get(..length).unwrap_or_default());
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(Instant::now() < deadline)
            }
            Err(error) => Err(Fault::socket("receiving from the server")(error)),
        }
    }

    /// Says good-bye; errors do not matter any more.
    pub(crate) fn close(mut self) {
        let bye =
            Method::ConnectionClose { reply_code: 200, reply_text: b"bye", class: 0, method: 0 };
        self.say(0, &bye);
        if self.flush().is_err() {
            return;
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while let Ok(Some(received)) = self.receive(deadline) {
            if matches!(Method::parse(&received.payload), Ok(Method::ConnectionCloseOk {})) {
                break;
            }
        }
    }
}

fn dial(address: &Address) -> Result<TcpStream, Fault> {
    let place = format!("{}:{}", address.host, address.port);
    let doing = || format!("connecting to {place}: is a server listening there?");
    let found = (address.host.as_str(), address.port).to_socket_addrs();
    let mut last = None;
    for address in found.map_err(Fault::socket(doing()))? {
        match TcpStream::connect_timeout(&address, REPLY_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::from(ErrorKind::NotFound));
    Err(Fault::socket(doing())(error))
}

/// The handshake itself happens with the first flush.
fn encrypt(socket: TcpStream, address: &Address) -> Result<Stream, Fault> {
    let fault = |error: &dyn std::error::Error| Fault::Address(error.to_string());
    let config = net::tls::client_config(address.ca_file.as_deref());
    let config = config.map_err(|error| fault(&error))?;
    socket.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(Fault::socket("setting up the socket"))?;
    let session = net::tls::connect_blocking(socket, config, &address.host);
    Ok(Stream::Tls(Box::new(session.map_err(|error| fault(&error))?)))
}

/// Splits the first whole frame off `input`; `None` when it is not all there yet.
pub(super) fn take(input: &mut BytesMut, frame_bytes_max: u32) -> Result<Option<Received>, Fault> {
    if input.starts_with(b"AMQP") {
        return Err(Fault::Protocol("it wants another protocol version".to_owned()));
    }
    let Some(head) = codec::peek(input, frame_bytes_max)? else { return Ok(None) };
    let frame = input.split_to(head.total()).freeze();
    let payload = frame.slice(codec::FRAME_HEAD..frame.len() - 1);
    Ok(Some(Received { kind: head.kind, channel: head.channel, payload }))
}

/// Turns a frame that nobody waits for into a fault, in the server's words if it has some.
pub(super) fn unexpected(payload: &[u8]) -> Fault {
    match Method::parse(payload) {
        Ok(Method::ChannelClose { reply_code: code, reply_text, .. }) => {
            Fault::ChannelClosed { code, text: text_of(reply_text) }
        }
        Ok(method) => Fault::Protocol(format!("{} out of turn", method.name())),
        Err(error) => error.into(),
    }
}

/// A text from the wire, for people.
pub(super) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A name for the wire, which cannot carry longer ones.
pub(crate) fn name(text: &str) -> Result<&[u8], Fault> {
    if text.len() > usize::from(u8::MAX) {
        return Err(Fault::TooLong("a name is longer than 255 bytes"));
    }
    Ok(text.as_bytes())
}

/// Product and version out of the server's properties.
fn product(properties: &[u8]) -> String {
    let text = |name: &[u8]| match table::find(properties, name) {
        Some(Value::Text(text)) => text_of(text),
        _ => String::new(),
    };
    format!("{} {}", text(b"product"), text(b"version")).trim().to_owned()
}

/// The content of a table.
pub(super) fn table_of(entries: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (name, value) in entries {
        table::put_field(&mut content, name.as_bytes(), *value);
    }
    content
}

fn client_properties() -> Vec<u8> {
    let capabilities = table_of(&[
        ("authentication_failure_close", Value::Bool(true)),
        ("basic.nack", Value::Bool(true)),
        ("connection.blocked", Value::Bool(true)),
        ("consumer_cancel_notify", Value::Bool(true)),
        ("publisher_confirms", Value::Bool(true)),
    ]);
    table_of(&[
        ("product", Value::Text(b"Potager client")),
        ("version", Value::Text(env!("CARGO_PKG_VERSION").as_bytes())),
        ("capabilities", Value::Table(&capabilities)),
    ])
}
