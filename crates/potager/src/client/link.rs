//! [`Link`]: a connected and logged-in socket that sends and receives whole frames.
//!
//! Lives here: TCP, the handshake, the connection class. Not here: channels and what is said on
//! them (`session`). The load generator logs in through a link and then takes its socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use model::table::{self, Value};
use wire::Cursor;

use super::method::{self, Frame, Received, id, table_of};
use super::{Address, Fault};

/// How long connecting and each reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// What this client asks for; the server may answer with less.
const FRAME_BYTES_MAX: u32 = 128 << 10;
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;

/// A connection after its handshake, without heartbeats.
pub(crate) struct Link {
    stream: TcpStream,
    input: BytesMut,
    scratch: Box<[u8]>,
    /// Frames that [`Link::flush`] will send.
    pub(crate) output: Vec<u8>,
    frame_bytes_max: usize,
    /// The read timeout that the socket has now.
    timeout: Option<Duration>,
    /// `product` and `version` as the server announced them.
    server: String,
}

impl Link {
    /// Connects, logs in and opens the virtual host.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses the login or breaks the protocol.
    pub(crate) fn connect(address: &Address) -> Result<Self, Fault> {
        let stream = dial(address)?;
        stream.set_nodelay(true).map_err(Fault::socket("setting up the socket"))?;
        let mut link = Self {
            stream,
            input: BytesMut::new(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            output: b"AMQP\x00\x00\x09\x01".to_vec(),
            frame_bytes_max: 0,
            timeout: None,
            server: String::new(),
        };
        link.log_in(address)?;
        Ok(link)
    }

    fn log_in(&mut self, address: &Address) -> Result<(), Fault> {
        let start = self.call(0, id::CONNECTION_START, "the protocol header")?;
        self.server = product(&start)?;
        let response = format!("\0{}\0{}", address.user, address.password);
        Frame::method(&mut self.output, 0, id::CONNECTION_START_OK)
            .long(&client_properties())
            .short("PLAIN")
            .long(response.as_bytes())
            .short("en_US")
            .end()?;
        let tune = self.call(0, id::CONNECTION_TUNE, "the login")?;
        let mut tune = Cursor::new(&tune);
        let (channels_max, offered) = (tune.u16()?, tune.u32()?);
        let agreed = if offered == 0 { FRAME_BYTES_MAX } else { offered.min(FRAME_BYTES_MAX) };
        self.frame_bytes_max =
            usize::try_from(agreed).map_err(|_| Fault::TooLong("the frames are too large"))?;
        Frame::method(&mut self.output, 0, id::CONNECTION_TUNE_OK)
            .u16(channels_max)
            .u32(agreed)
            .u16(0)
            .end()?;
        Frame::method(&mut self.output, 0, id::CONNECTION_OPEN)
            .short(&address.vhost)
            .u8(0)
            .u8(0)
            .end()?;
        self.call(0, id::CONNECTION_OPEN_OK, "opening the virtual host").map(drop)
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// When the server refuses or is gone.
    pub(crate) fn open_channel(&mut self, channel: u16) -> Result<(), Fault> {
        Frame::method(&mut self.output, channel, id::CHANNEL_OPEN).u8(0).end()?;
        self.call(channel, id::CHANNEL_OPEN_OK, "opening a channel").map(drop)
    }

    /// The size above which a frame may not be.
    pub(crate) const fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// Product and version of the server.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Gives the socket away, blocking and without time limits. Nothing may be under way.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) fn into_stream(mut self) -> Result<TcpStream, Fault> {
        self.flush()?;
        self.stream.set_read_timeout(None).map_err(Fault::socket("setting up the socket"))?;
        Ok(self.stream)
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

    /// Flushes and waits for one expected method on `channel`; returns its arguments. For times
    /// when nothing else can arrive: `session` waits with events in between.
    pub(crate) fn call(
        &mut self,
        channel: u16,
        expected: id::Method,
        what: &'static str,
    ) -> Result<Bytes, Fault> {
        self.flush()?;
        let deadline = Instant::now() + REPLY_TIMEOUT;
        let received = self.receive(deadline)?.ok_or(Fault::Silence(what))?;
        let (method, arguments) = split_method(&received)?;
        if received.channel == channel && method == expected {
            return Ok(arguments);
        }
        Err(unexpected(method, &arguments))
    }

    /// The next frame; `None` when the deadline passes first. Connection-wide methods are dealt
    /// with here.
    ///
    /// # Errors
    /// When the socket fails, or the server closes the connection or breaks the protocol.
    pub(super) fn receive(&mut self, deadline: Instant) -> Result<Option<Received>, Fault> {
        loop {
            if let Some(received) = method::take(&mut self.input)? {
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
        if received.kind != id::METHOD {
            return Ok(true);
        }
        let (method, arguments) = split_method(received)?;
        match method {
            id::CONNECTION_CLOSE => {
                let (code, text) = closing(&arguments).unwrap_or_default();
                Frame::method(&mut self.output, 0, id::CONNECTION_CLOSE_OK).end()?;
                // Whether the good-bye arrives changes nothing any more.
                self.flush().ok();
                Err(Fault::ConnectionClosed { code, text })
            }
            id::CONNECTION_BLOCKED | id::CONNECTION_UNBLOCKED => Ok(true),
            _ => Ok(false),
        }
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
            self.stream
                .set_read_timeout(Some(left))
                .map_err(Fault::socket("setting up the socket"))?;
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
        let said = Frame::method(&mut self.output, 0, id::CONNECTION_CLOSE)
            .u16(200)
            .short("bye")
            .u32(0)
            .end();
        if said.is_ok() && self.flush().is_ok() {
            let deadline = Instant::now() + Duration::from_secs(2);
            while let Ok(Some(received)) = self.receive(deadline) {
                if split_method(&received).is_ok_and(|(m, _)| m == id::CONNECTION_CLOSE_OK) {
                    break;
                }
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
    let error = last.unwrap_or_else(|| std::io::Error::from(ErrorKind::NotFound));
    Err(Fault::socket(doing())(error))
}

/// Method number and arguments of a method frame.
pub(super) fn split_method(received: &Received) -> Result<(id::Method, Bytes), Fault> {
    let mut cursor = Cursor::new(&received.payload);
    let method = (cursor.u16()?, cursor.u16()?);
    Ok((method, received.payload.slice(4..)))
}

/// Turns a method that nobody waits for into a fault, in the server's words if it has some.
pub(super) fn unexpected(method: id::Method, arguments: &[u8]) -> Fault {
    match closing(arguments) {
        Some((code, text)) if method == id::CHANNEL_CLOSE => Fault::ChannelClosed { code, text },
        _ => Fault::Protocol(format!("method {}.{} out of turn", method.0, method.1)),
    }
}

/// Code and text at the front of a close or return.
pub(super) fn closing(arguments: &[u8]) -> Option<(u16, String)> {
    let mut cursor = Cursor::new(arguments);
    let (code, text) = (cursor.u16().ok()?, cursor.short_string().ok()?);
    Some((code, String::from_utf8_lossy(text).into_owned()))
}

/// Product and version out of the server's properties.
fn product(start: &[u8]) -> Result<String, Fault> {
    let mut cursor = Cursor::new(start);
    cursor.u16()?;
    let properties = cursor.long_string()?;
    let text = |name: &[u8]| match table::find(properties, name) {
        Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    };
    Ok(format!("{} {}", text(b"product"), text(b"version")).trim().to_owned())
}

fn client_properties() -> Vec<u8> {
    let capabilities = table_of(&[
        ("authentication_failure_close", Value::Bool(true)),
        ("basic.nack", Value::Bool(true)),
        ("consumer_cancel_notify", Value::Bool(true)),
        ("publisher_confirms", Value::Bool(true)),
    ]);
    table_of(&[
        ("product", Value::Text(b"Potager client")),
        ("version", Value::Text(env!("CARGO_PKG_VERSION").as_bytes())),
        ("capabilities", Value::Table(&capabilities)),
    ])
}
