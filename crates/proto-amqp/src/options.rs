//! [`Options`]: what an operator may set about this door. Filled from `config` by the binary; read
//! only, shared by all connections.

use std::time::Duration;

use model::Limits;

/// Whom the door says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// `product` is `Potager`.
    #[default]
    Potager,
    /// `product` is `RabbitMQ`, for clients that look (kombu uses global qos only then).
    RabbitMq,
}

/// Settings of the door.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom the door says it is.
    pub identity: Identity,
    /// Our own version, three numbers with dots.
    pub version: String,
    /// Name of this node or cluster, shown to clients.
    pub cluster_name: String,
    /// Most channels of one connection, and the highest channel number.
    pub channel_max: u16,
    /// Largest frame in bytes, head and end included; at least 4096.
    pub frame_max: u32,
    /// Heartbeat proposed to clients in seconds; 0 proposes none.
    pub heartbeat_s: u16,
    /// Limits shared with the engine; message, commit and consumer limits are read here.
    pub limits: Limits,
    /// From the first byte to an open connection.
    pub handshake: Duration,
    /// How long a peer may take to answer our `connection.close`.
    pub goodbye: Duration,
    /// Clients show certificates here: the mechanism EXTERNAL is offered.
    pub asks_certificates: bool,
    /// Passwords are taken from other machines too, not only from this one.
    pub takes_remote_passwords: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            identity: Identity::Potager,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_name: "potager".to_owned(),
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 60,
            limits: Limits::default(),
            handshake: Duration::from_secs(10),
            goodbye: Duration::from_secs(5),
            asks_certificates: false,
            takes_remote_passwords: true,
        }
    }
}

impl Options {
    /// `product` and `version` as announced.
    #[must_use]
    pub fn product(&self) -> (&str, &str) {
        match self.identity {
            Identity::Potager => ("Potager", &self.version),
            Identity::RabbitMq => ("RabbitMQ", "3.13.7"),
        }
    }
}
