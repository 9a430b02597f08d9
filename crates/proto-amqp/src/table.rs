//! The protocol's verbs as data: every method of AMQP 0-9-1 with the extensions that every client
//! knows, its arguments, its direction and whether content follows. One declaration feeds the
//! data ([`METHODS`]), the typed form ([`Method`]), its reader and its writer, so that servers and
//! clients (bench, demo, publish) speak from one table. Frames around methods: `codec`. Meaning:
//! `connection`.
//!
//! Layout of a method frame's payload: `u16` class, `u16` method, then the arguments in order.
//! Neighbouring bits share one octet, the first in the lowest bit.
//! Source: AMQP 0-9-1 4.2.5; extensions: `RabbitMQ` "Protocol extensions".

use bytes::{BufMut, BytesMut};
use model::{limits::TABLE_BYTES_MAX, table};
use wire::{Cursor, Short};

use crate::codec;

/// Type of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the specification's own type names")]
pub enum Kind {
    /// One octet.
    octet,
    /// Two octets.
    short,
    /// Four octets.
    long,
    /// Eight octets.
    longlong,
    /// One bit.
    bit,
    /// Length octet, then that many.
    shortstr,
    /// Four length octets, then that many.
    longstr,
    /// Four length octets, then fields.
    table,
}

/// Who sends a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "written as in the table below")]
pub enum Sender {
    /// The client.
    client,
    /// The server.
    server,
    /// Either.
    both,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Class number.
    pub class: u16,
    /// Method number within the class.
    pub method: u16,
    /// As the specification writes it, e.g. `basic.publish`.
    pub name: &'static str,
    /// Who sends it.
    pub sender: Sender,
    /// A header frame and body frames follow.
    pub has_content: bool,
    /// Names and types.
    pub arguments: &'static [(&'static str, Kind)],
}

/// Why a method cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// The table has no such line.
    #[error("unknown method {0}.{1}")]
    Unknown(u16, u16),
    /// The payload ends inside an argument, or goes on after the last.
    #[error("arguments do not fill the method frame exactly")]
    Length,
    /// A field table is malformed.
    #[error(transparent)]
    Table(#[from] table::TableError),
    /// A field table is larger than allowed.
    #[error("a field table is larger than {TABLE_BYTES_MAX} bytes")]
    TableTooLarge,
}

impl From<Short> for MethodError {
    fn from(_: Short) -> Self {
        Self::Length
    }
}

macro_rules! rust_type {
    ($l:lifetime octet) => {
        u8
    };
    ($l:lifetime short) => {
        u16
    };
    ($l:lifetime long) => {
        u32
    };
    ($l:lifetime longlong) => {
        u64
    };
    ($l:lifetime bit) => {
        bool
    };
    ($l:lifetime shortstr) => {
        &$l[u8]
    };
    ($l:lifetime longstr) => {
        &$l[u8]
    };
    ($l:lifetime table) => {
        &$l[u8]
    };
}

macro_rules! has_content {
    () => {
        false
    };
    (content) => {
        true
    };
}

macro_rules! methods {
    ($($class:literal { $($id:literal $variant:ident $name:literal $sender:ident $($content:ident)?
        ( $($field:ident : $kind:ident),* );)* })*) => {
        /// Every method, by class and method number.
        pub static METHODS: &[Entry] = &[$($(Entry {
            class: $class,
            method: $id,
            name: $name,
            sender: Sender::$sender,
            has_content: has_content!($($content)?),
            arguments: &[$((stringify!($field), Kind::$kind)),*],
        }),*),*];

        /// A method with its arguments; strings and tables are slices of the frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "variants and fields carry the specification's names")]
        pub enum Method<'a> {
            $($($variant { $($field: rust_type!('a $kind)),* }),*),*
        }

        impl<'a> Method<'a> {
            /// Class and method number.
            #[must_use]
            pub const fn id(&self) -> (u16, u16) {
                match self {
                    $($(Self::$variant { .. } => ($class, $id)),*),*
                }
            }

            /// Reads a method frame's payload.
            ///
            /// # Errors
            /// When it is not exactly one method of the table; field tables are checked whole.
            pub fn parse(payload: &'a [u8]) -> Result<Self, MethodError> {
                let mut reader = Reader::new(payload);
                let id = (reader.short()?, reader.short()?);
                let method = match id {
                    $($(($class, $id) => {
                        $(let $field = reader.$kind()?;)*
                        Self::$variant { $($field),* }
                    })*)*
                    (class, method) => return Err(MethodError::Unknown(class, method)),
                };
                if reader.cursor.rest().is_empty() { Ok(method) } else { Err(MethodError::Length) }
            }

            /// Writes class, method and arguments.
            fn put_payload(&self, out: &mut BytesMut) {
                let (class, method) = self.id();
                let mut writer = Writer { out, bits: 0, used: 0 };
                writer.short(class);
                writer.short(method);
                match *self {
                    $($(Self::$variant { $($field),* } => { $(writer.$kind($field);)* })*)*
                }
                writer.flush();
            }
        }
    };
}

methods! {
    10 {
        10 ConnectionStart "connection.start" server (version_major: octet, version_minor: octet,
            server_properties: table, mechanisms: longstr, locales: longstr);
        11 ConnectionStartOk "connection.start-ok" client (client_properties: table,
            mechanism: shortstr, response: longstr, locale: shortstr);
        20 ConnectionSecure "connection.secure" server (challenge: longstr);
        21 ConnectionSecureOk "connection.secure-ok" client (response: longstr);
        30 ConnectionTune "connection.tune" server (channel_max: short, frame_max: long,
            heartbeat: short);
        31 ConnectionTuneOk "connection.tune-ok" client (channel_max: short, frame_max: long,
            heartbeat: short);
        40 ConnectionOpen "connection.open" client (virtual_host: shortstr, capabilities: shortstr,
            insist: bit);
        41 ConnectionOpenOk "connection.open-ok" server (known_hosts: shortstr);
        50 ConnectionClose "connection.close" both (reply_code: short, reply_text: shortstr,
            class: short, method: short);
        51 ConnectionCloseOk "connection.close-ok" both ();
        60 ConnectionBlocked "connection.blocked" server (reason: shortstr);
        61 ConnectionUnblocked "connection.unblocked" server ();
        70 ConnectionUpdateSecret "connection.update-secret" client (new_secret: longstr,
            reason: shortstr);
        71 ConnectionUpdateSecretOk "connection.update-secret-ok" server ();
    }
    20 {
        10 ChannelOpen "channel.open" client (out_of_band: shortstr);
        11 ChannelOpenOk "channel.open-ok" server (channel_id: longstr);
        20 ChannelFlow "channel.flow" both (active: bit);
        21 ChannelFlowOk "channel.flow-ok" both (active: bit);
        40 ChannelClose "channel.close" both (reply_code: short, reply_text: shortstr,
            class: short, method: short);
        41 ChannelCloseOk "channel.close-ok" both ();
    }
    30 {
        10 AccessRequest "access.request" client (realm: shortstr, exclusive: bit, passive: bit,
            active: bit, write: bit, read: bit);
        11 AccessRequestOk "access.request-ok" server (ticket: short);
    }
    40 {
        10 ExchangeDeclare "exchange.declare" client (ticket: short, exchange: shortstr,
            kind: shortstr, passive: bit, durable: bit, auto_delete: bit, internal: bit,
            nowait: bit, arguments: table);
        11 ExchangeDeclareOk "exchange.declare-ok" server ();
        20 ExchangeDelete "exchange.delete" client (ticket: short, exchange: shortstr,
            if_unused: bit, nowait: bit);
        21 ExchangeDeleteOk "exchange.delete-ok" server ();
        30 ExchangeBind "exchange.bind" client (ticket: short, destination: shortstr,
            source: shortstr, routing_key: shortstr, nowait: bit, arguments: table);
        31 ExchangeBindOk "exchange.bind-ok" server ();
        40 ExchangeUnbind "exchange.unbind" client (ticket: short, destination: shortstr,
            source: shortstr, routing_key: shortstr, nowait: bit, arguments: table);
        51 ExchangeUnbindOk "exchange.unbind-ok" server ();
    }
    50 {
        10 QueueDeclare "queue.declare" client (ticket: short, queue: shortstr, passive: bit,
            durable: bit, exclusive: bit, auto_delete: bit, nowait: bit, arguments: table);
        11 QueueDeclareOk "queue.declare-ok" server (queue: shortstr, message_count: long,
            consumer_count: long);
        20 QueueBind "queue.bind" client (ticket: short, queue: shortstr, exchange: shortstr,
            routing_key: shortstr, nowait: bit, arguments: table);
        21 QueueBindOk "queue.bind-ok" server ();
        30 QueuePurge "queue.purge" client (ticket: short, queue: shortstr, nowait: bit);
        31 QueuePurgeOk "queue.purge-ok" server (message_count: long);
        40 QueueDelete "queue.delete" client (ticket: short, queue: shortstr, if_unused: bit,
            if_empty: bit, nowait: bit);
        41 QueueDeleteOk "queue.delete-ok" server (message_count: long);
        50 QueueUnbind "queue.unbind" client (ticket: short, queue: shortstr, exchange: shortstr,
            routing_key: shortstr, arguments: table);
        51 QueueUnbindOk "queue.unbind-ok" server ();
    }
    60 {
        10 BasicQos "basic.qos" client (prefetch_size: long, prefetch_count: short, global: bit);
        11 BasicQosOk "basic.qos-ok" server ();
        20 BasicConsume "basic.consume" client (ticket: short, queue: shortstr,
            consumer_tag: shortstr, no_local: bit, no_ack: bit, exclusive: bit, nowait: bit,
            arguments: table);
        21 BasicConsumeOk "basic.consume-ok" server (consumer_tag: shortstr);
        30 BasicCancel "basic.cancel" both (consumer_tag: shortstr, nowait: bit);
        31 BasicCancelOk "basic.cancel-ok" both (consumer_tag: shortstr);
        40 BasicPublish "basic.publish" client content (ticket: short, exchange: shortstr,
            routing_key: shortstr, mandatory: bit, immediate: bit);
        50 BasicReturn "basic.return" server content (reply_code: short, reply_text: shortstr,
            exchange: shortstr, routing_key: shortstr);
        60 BasicDeliver "basic.deliver" server content (consumer_tag: shortstr,
            delivery_tag: longlong, redelivered: bit, exchange: shortstr, routing_key: shortstr);
        70 BasicGet "basic.get" client (ticket: short, queue: shortstr, no_ack: bit);
        71 BasicGetOk "basic.get-ok" server content (delivery_tag: longlong, redelivered: bit,
            exchange: shortstr, routing_key: shortstr, message_count: long);
        72 BasicGetEmpty "basic.get-empty" server (cluster_id: shortstr);
        80 BasicAck "basic.ack" both (delivery_tag: longlong, multiple: bit);
        90 BasicReject "basic.reject" client (delivery_tag: longlong, requeue: bit);
        100 BasicRecoverAsync "basic.recover-async" client (requeue: bit);
        110 BasicRecover "basic.recover" client (requeue: bit);
        111 BasicRecoverOk "basic.recover-ok" server ();
        120 BasicNack "basic.nack" both (delivery_tag: longlong, multiple: bit, requeue: bit);
    }
    85 {
        10 ConfirmSelect "confirm.select" client (nowait: bit);
        11 ConfirmSelectOk "confirm.select-ok" server ();
    }
    90 {
        10 TxSelect "tx.select" client ();
        11 TxSelectOk "tx.select-ok" server ();
        20 TxCommit "tx.commit" client ();
        21 TxCommitOk "tx.commit-ok" server ();
        30 TxRollback "tx.rollback" client ();
        31 TxRollbackOk "tx.rollback-ok" server ();
    }
}

/// The line of a method.
#[must_use]
pub fn entry(class: u16, method: u16) -> Option<&'static Entry> {
    METHODS.iter().find(|entry| (entry.class, entry.method) == (class, method))
}

impl Method<'_> {
    /// Appends the whole method frame. Short strings longer than 255 bytes are cut.
    pub fn put(&self, out: &mut BytesMut, channel: u16) {
        codec::put_frame(out, codec::METHOD, channel, |out| self.put_payload(out));
    }

    /// As the specification writes it, e.g. `basic.publish`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let (class, method) = self.id();
        entry(class, method).map_or("unknown", |entry| entry.name)
    }
}

/// Reads arguments one after the other; packs of bits open and close by themselves.
struct Reader<'a> {
    cursor: Cursor<'a>,
    bits: u8,
    used: u8,
}

impl<'a> Reader<'a> {
    const fn new(payload: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(payload), bits: 0, used: 0 }
    }

    fn octet(&mut self) -> Result<u8, MethodError> {
        self.used = 0;
        Ok(self.cursor.u8()?)
    }

    fn short(&mut self) -> Result<u16, MethodError> {
        self.used = 0;
        Ok(self.cursor.u16()?)
    }

    fn long(&mut self) -> Result<u32, MethodError> {
        self.used = 0;
        Ok(self.cursor.u32()?)
    }

    fn longlong(&mut self) -> Result<u64, MethodError> {
        self.used = 0;
        Ok(self.cursor.u64()?)
    }

    fn bit(&mut self) -> Result<bool, MethodError> {
        if self.used == 0 {
            self.bits = self.cursor.u8()?;
        }
        let is_set = self.bits & (1 << self.used) != 0;
        self.used = (self.used + 1) & 7;
        Ok(is_set)
    }

    fn shortstr(&mut self) -> Result<&'a [u8], MethodError> {
        self.used = 0;
        Ok(self.cursor.short_string()?)
    }

    fn longstr(&mut self) -> Result<&'a [u8], MethodError> {
        self.used = 0;
        Ok(self.cursor.long_string()?)
    }

    fn table(&mut self) -> Result<&'a [u8], MethodError> {
        let content = self.longstr()?;
        if content.len() > TABLE_BYTES_MAX {
            return Err(MethodError::TableTooLarge);
        }
        table::check(content)?;
        Ok(content)
    }
}

/// The reverse of [`Reader`].
struct Writer<'o> {
    out: &'o mut BytesMut,
    bits: u8,
    used: u8,
}

impl Writer<'_> {
    fn flush(&mut self) {
        if self.used > 0 {
            self.out.put_u8(self.bits);
        }
        self.bits = 0;
        self.used = 0;
    }

    fn octet(&mut self, value: u8) {
        self.flush();
        self.out.put_u8(value);
    }

    fn short(&mut self, value: u16) {
        self.flush();
        self.out.put_u16(value);
    }

    fn long(&mut self, value: u32) {
        self.flush();
        self.out.put_u32(value);
    }

    fn longlong(&mut self, value: u64) {
        self.flush();
        self.out.put_u64(value);
    }

    fn bit(&mut self, is_set: bool) {
        if self.used == 8 {
            self.flush();
        }
        self.bits |= u8::from(is_set) << self.used;
        self.used += 1;
    }

    fn shortstr(&mut self, value: &[u8]) {
        self.flush();
        codec::put_short(self.out, value);
    }

    fn longstr(&mut self, value: &[u8]) {
        self.flush();
        self.out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.out.put_slice(value);
    }

    fn table(&mut self, content: &[u8]) {
        self.longstr(content);
    }
}
