//! From the first byte to an open connection, and the methods of the class connection.
//! Who may log in is the engine's decision; this only reads what the client says.

use bytes::{Buf, Bytes, BytesMut};
use model::{
    Credentials, Proof, Request,
    table::{self, Value},
};
use wire::{Close, Cursor, Outbox};

use super::{
    Connection, Phase, Stop,
    ticket::{self, Ask},
    unimplemented_method,
};
use crate::{
    Options,
    codec::{FRAME_MIN, PROTOCOL_HEADER},
    map::{self, Code, Failure},
    table::Method,
};

/// Largest frame before login. Source: `RabbitMQ` 4.1 release notes.
pub(super) const UNKNOWN_FRAME_MAX: u32 = 8192;
/// Most bytes before login.
pub(super) const UNKNOWN_BYTES_MAX: u32 = 64 * 1024;
/// The header of AMQP 0-9, which some old clients send.
///
/// Deviation(AMQP-014): the header of AMQP 0-8 is refused.
const OLD_PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x01\x01\0\x09";

impl Connection {
    /// The client has shown a certificate, and it names this user.
    #[must_use]
    pub fn with_certificate_name(mut self, name: Bytes) -> Self {
        self.login.certificate_name = Some(name);
        self
    }

    fn takes_passwords(&self) -> bool {
        self.is_loopback || self.options.takes_remote_passwords
    }

    /// Login mechanisms, in the order of preference. What is not offered is not sent either: a
    /// password stays with a client that may not send it here.
    fn mechanisms(&self) -> &'static [u8] {
        match (self.takes_passwords(), self.options.asks_certificates) {
            (true, false) => b"PLAIN AMQPLAIN",
            (true, true) => b"PLAIN AMQPLAIN EXTERNAL",
            (false, true) => b"EXTERNAL",
            (false, false) => b"",
        }
    }

    /// The first eight bytes.
    pub(super) fn on_protocol_header(
        &mut self,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<bool, Close> {
        let Some(&header) = input.first_chunk::<8>() else { return Ok(false) };
        input.advance(header.len());
        self.count_unknown(header.len())?;
        if header != PROTOCOL_HEADER && header != OLD_PROTOCOL_HEADER {
            out.bytes.extend_from_slice(&PROTOCOL_HEADER);
            return Err(Close::Violation(stranger(header)));
        }
        let properties = server_properties(&self.options);
        let start = Method::ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: &properties,
            mechanisms: self.mechanisms(),
            locales: b"en_US",
        };
        start.put(&mut out.bytes, 0);
        self.phase = Phase::Start;
        Ok(true)
    }

    /// Counts what a stranger sends.
    pub(super) fn count_unknown(&mut self, bytes: usize) -> Result<(), Close> {
        if !matches!(self.phase, Phase::Header | Phase::Start) {
            return Ok(());
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.unknown_bytes = self.unknown_bytes.saturating_add(bytes);
        if self.unknown_bytes > UNKNOWN_BYTES_MAX {
            return Err(Close::Violation("too many bytes before login".to_owned()));
        }
        Ok(())
    }

    /// A method on channel 0.
    pub(super) fn on_connection_method(
        &mut self,
        method: &Method<'_>,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        match (method, &self.phase) {
            (
                Method::ConnectionStartOk { client_properties, mechanism, response, .. },
                Phase::Start,
            ) => {
                self.read_client_properties(client_properties);
                self.log_in(mechanism, response, out)
            }
            (&Method::ConnectionTuneOk { channel_max, frame_max, heartbeat }, Phase::Tune) => {
                Ok(self.tune(channel_max, frame_max, heartbeat)?)
            }
            (Method::ConnectionOpen { virtual_host, .. }, Phase::Open) => {
                self.login.vhost = map::name(virtual_host);
                let request = Request::OpenVhost(self.login.vhost.clone());
                out.submit(0, ticket::plain(Ask::Vhost), request);
                self.phase = Phase::Entering;
                Ok(())
            }
            // The connection is logged in already; a new secret changes nothing, as for users of
            // `RabbitMQ`'s own store. Source: observed, `RabbitMQ` 3.10.8.
            (Method::ConnectionUpdateSecret { .. }, Phase::Running) => {
                Method::ConnectionUpdateSecretOk {}.put(&mut out.bytes, 0);
                Ok(())
            }
            (
                Method::ConnectionClose { .. },
                Phase::Tune | Phase::Open | Phase::Entering | Phase::Running,
            ) => Ok(self.on_goodbye(out)?),
            _ => Err(self.unexpected(method).into()),
        }
    }

    /// Source of the text: observed, `RabbitMQ` 3.10.8.
    fn unexpected(&self, method: &Method<'_>) -> Failure {
        let state = match self.phase {
            Phase::Header | Phase::Start | Phase::Login => "starting",
            Phase::Tune => "tuning",
            Phase::Open | Phase::Entering => "opening",
            Phase::Running => "running",
            Phase::Closing(_) | Phase::Leaving(_) => "closing",
        };
        if matches!(method, Method::ConnectionUpdateSecret { .. }) {
            return unimplemented_method();
        }
        Failure::new(Code::ChannelError, format!("unexpected method in connection state {state}"))
    }

    fn read_client_properties(&mut self, properties: &[u8]) {
        let Some(Value::Table(capabilities)) = table::find(properties, b"capabilities") else {
            return;
        };
        let has = |name: &[u8]| table::find(capabilities, name) == Some(Value::Bool(true));
        self.login.hears_refusal = has(b"authentication_failure_close");
        self.login.hears_cancel = has(b"consumer_cancel_notify");
        self.login.hears_blocked = has(b"connection.blocked");
    }

    /// Reads who it says it is, and why that should be believed; the engine decides.
    ///
    /// What a client sends with EXTERNAL is not looked at: the certificate says who it is.
    /// Source: `RabbitMQ`, `rabbit_auth_mechanism_ssl.erl`.
    fn log_in(&mut self, mechanism: &[u8], response: &[u8], out: &mut Outbox) -> Result<(), Stop> {
        let (known, said) = match mechanism {
            b"PLAIN" => ("PLAIN", plain(response)),
            b"AMQPLAIN" => ("AMQPLAIN", amqplain(response)),
            b"EXTERNAL" if self.options.asks_certificates => {
                self.login.mechanism = "EXTERNAL";
                let Some(name) = self.login.certificate_name.clone() else {
                    return Ok(self.on_login_refused(out)?);
                };
                self.ask_login(name, Proof::Certificate, out);
                return Ok(());
            }
            other => {
                let text = format!("unknown login mechanism '{}'", map::printable(other));
                return Err(Close::Violation(text).into());
            }
        };
        self.login.mechanism = known;
        let Some((user, password)) = said else {
            let text = format!("malformed login response for {known}");
            return Err(Close::Violation(text).into());
        };
        if !self.takes_passwords() {
            return Ok(self.on_login_refused(out)?);
        }
        let proof = Proof::Password(Bytes::copy_from_slice(password));
        self.ask_login(map::name(user), proof, out);
        Ok(())
    }

    fn ask_login(&mut self, user: Bytes, proof: Proof, out: &mut Outbox) {
        self.login.user = user.clone();
        let credentials = Credentials { user, proof, is_loopback: self.is_loopback };
        out.submit(0, ticket::plain(Ask::Login), Request::Authenticate(credentials));
        self.phase = Phase::Login;
    }

    /// The login is good.
    pub(super) fn on_logged_in(&mut self, out: &mut Outbox) {
        let tune = Method::ConnectionTune {
            channel_max: self.options.channel_max,
            frame_max: self.options.frame_max,
            heartbeat: self.options.heartbeat_s,
        };
        tune.put(&mut out.bytes, 0);
        self.phase = Phase::Tune;
    }

    /// Source of the text: observed, `RabbitMQ` 3.10.8.
    pub(super) fn on_login_refused(&mut self, out: &mut Outbox) -> Result<(), Close> {
        let user = map::printable(&self.login.user);
        let why = format!("login of user '{user}' refused");
        if !self.login.hears_refusal {
            return Err(Close::Violation(why));
        }
        let mechanism = self.login.mechanism;
        let text = format!(
            "ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. For \
             details see the broker logfile."
        );
        let close = Method::ConnectionClose {
            reply_code: Code::AccessRefused as u16,
            reply_text: text.as_bytes(),
            class: 0,
            method: 0,
        };
        close.put(&mut out.bytes, 0);
        self.phase = Phase::Closing(Box::new(Close::Violation(why)));
        self.expires = None;
        Ok(())
    }

    /// Takes over what the client chose.
    ///
    /// Deviation(AMQP-013): a frame-max down to 4096 is accepted, as before `RabbitMQ` 4.1.
    fn tune(&mut self, channel_max: u16, frame_max: u32, heartbeat_s: u16) -> Result<(), Failure> {
        let options = &self.options;
        let channel_max = chosen("channel_max", channel_max.into(), options.channel_max.into())?;
        let frame_max = chosen("frame_max", frame_max, options.frame_max)?;
        if frame_max < FRAME_MIN {
            return Err(Failure::new(
                Code::NotAllowed,
                format!(
                    "negotiated frame_max = {frame_max} is lower than the minimum allowed \
                    value ({FRAME_MIN})"
                ),
            ));
        }
        self.channel_max = u16::try_from(channel_max).unwrap_or(u16::MAX);
        self.frame_max = frame_max;
        self.heartbeat_s = heartbeat_s;
        self.phase = Phase::Open;
        Ok(())
    }

    /// The virtual host is entered: in business.
    pub(super) fn on_entered(&mut self, out: &mut Outbox) {
        if self.phase == Phase::Entering {
            Method::ConnectionOpenOk { known_hosts: b"" }.put(&mut out.bytes, 0);
            self.phase = Phase::Running;
            self.expires = None;
        }
    }

    /// Publishing is held back, or free again.
    pub(super) fn on_blocked(&mut self, reason: Option<&'static str>, out: &mut Outbox) {
        self.blocked = reason;
        if reason.is_none() && self.knows_blocked {
            self.knows_blocked = false;
            Method::ConnectionUnblocked {}.put(&mut out.bytes, 0);
        } else if self.is_publisher && !self.knows_blocked {
            self.tell_blocked(out);
        }
    }

    /// A client publishes while publishing is held back: tell it once.
    #[cold]
    pub(super) fn tell_blocked(&mut self, out: &mut Outbox) {
        if let Some(reason) = self.blocked
            && self.login.hears_blocked
            && self.phase == Phase::Running
        {
            Method::ConnectionBlocked { reason: reason.as_bytes() }.put(&mut out.bytes, 0);
            self.knows_blocked = true;
        }
    }
}

/// A client may lower a limit of ours, not raise it; 0 stands for none.
/// Source of the text: `RabbitMQ` 3.10, `rabbit_reader.erl`.
fn chosen(what: &str, client: u32, server: u32) -> Result<u32, Failure> {
    if client == 0 && server > 0 || client > server {
        let detail = if what == "channel_max" && client == 0 { " (no limit)" } else { "" };
        return Err(Failure::new(
            Code::NotAllowed,
            format!(
                "negotiated {what} = {client}{detail} is higher than the maximum allowed value \
                 ({server})"
            ),
        ));
    }
    Ok(client)
}

/// User and password of `PLAIN`: NUL, user, NUL, password.
/// Source: RFC 4616, without an authorization identity as `RabbitMQ` takes it.
fn plain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = response.strip_prefix(&[0])?;
    let at = rest.iter().position(|byte| *byte == 0)?;
    let (user, password) = (rest.get(..at)?, rest.get(at.checked_add(1)?..)?);
    (!password.contains(&0)).then_some((user, password))
}

/// User and password of `AMQPLAIN`: a table's content with `LOGIN` and `PASSWORD`.
fn amqplain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    table::check(response).ok()?;
    let text = |name: &[u8]| table::find(response, name).and_then(|value| value.as_text());
    Some((text(b"LOGIN")?, text(b"PASSWORD")?))
}

/// What the log says about somebody who does not speak this protocol.
fn stranger(header: [u8; 8]) -> String {
    let is_http = [&b"GET "[..], b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PRI * "]
        .iter()
        .any(|verb| header.starts_with(verb));
    let mut cursor = Cursor::new(&header);
    if is_http {
        "an HTTP client spoke to the AMQP port".to_owned()
    } else if cursor.u8() == Ok(0x16) && cursor.u8() == Ok(3) {
        "a TLS client spoke to the plain AMQP port".to_owned()
    } else if header.starts_with(b"AMQP") {
        format!("unsupported protocol version {:?}", header.get(4..).unwrap_or_default())
    } else {
        format!("not an AMQP client, first bytes {header:?}")
    }
}

/// `server-properties` of `connection.start`.
fn server_properties(options: &Options) -> Vec<u8> {
    let mut capabilities = Vec::new();
    for capability in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        table::put_field(&mut capabilities, capability.as_bytes(), Value::Bool(true));
    }
    let mut properties = Vec::new();
    table::put_field(&mut properties, b"capabilities", Value::Table(&capabilities));
    let (product, version) = options.product();
    for (name, text) in [
        ("cluster_name", options.cluster_name.as_str()),
        ("copyright", "The Potager developers"),
        ("information", "Licensed under MIT or Apache-2.0"),
        ("platform", "Rust"),
        ("product", product),
        ("version", version),
    ] {
        table::put_field(&mut properties, name.as_bytes(), Value::Text(text.as_bytes()));
    }
    properties
}
