//! [`Settings`]: the finished, checked values, passed explicitly to whoever needs them. Names,
//! ranges, defaults and explanations stand in the table (`table.rs`), not here.

use std::{net::SocketAddr, path::PathBuf};

use model::Limits;

/// Everything an operator can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where all data lies.
    pub data_dir: PathBuf,
    /// What a positive reply promises.
    pub durability: Durability,
    /// Written once all doors listen; `None` writes nothing.
    pub ready_file: Option<PathBuf>,
    /// The AMQP door.
    pub amqp: Amqp,
    /// The HTTP door.
    pub http: Http,
    /// Limits shared by doors and engine.
    pub limits: Limits,
    /// The log on disk.
    pub log: Journal,
    /// When publishing is held back.
    pub alarm: Alarm,
    /// What the server writes to standard error.
    pub logging: Logging,
    /// The well-known first user.
    pub guest: Guest,
}

/// What a positive reply promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// On the disk, flushed.
    #[default]
    Fsync,
    /// With the operating system, not flushed: survives the process, not the machine.
    Os,
    /// In memory only.
    Memory,
}

impl Durability {
    /// The word used in settings, logs and listings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
            Self::Memory => "memory",
        }
    }
}

/// The AMQP door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amqp {
    /// `None`: closed.
    pub listen: Option<SocketAddr>,
    /// Whom the server says it is.
    pub identity: Identity,
    /// Offered heartbeat in seconds; 0 is none.
    pub heartbeat_s: u16,
    /// Largest frame in bytes.
    pub frame_bytes_max: u32,
    /// Channels of one connection.
    pub channels_max: u16,
}

/// Whom the AMQP door says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// Potager.
    #[default]
    Potager,
    /// `RabbitMQ` 3.13, for clients that insist.
    RabbitMq,
}

/// The HTTP door: management, metrics, health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `None`: closed.
    pub listen: Option<SocketAddr>,
}

/// The log on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Size of one segment file.
    pub segment_bytes: u64,
    /// Segment files in the ring.
    pub segments_max: u32,
    /// Newest part of the log kept in memory.
    pub cache_bytes: u64,
    /// Log bytes between two checkpoints.
    pub checkpoint_bytes: u64,
}

/// When publishing is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Free bytes of the data directory's disk; 0 is no alarm.
    pub disk_free_bytes_min: u64,
    /// Resident bytes of the process; 0 means a share of the machine's memory.
    pub memory_bytes_max: u64,
}

/// What the server writes to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Shape of a line.
    pub format: LogFormat,
    /// Level, with exceptions by module: `info,proto_amqp=debug`.
    pub level: String,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The well-known first user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Created at the first start; may log in from loopback only.
    pub is_enabled: bool,
}

impl Settings {
    /// The ground that the table's defaults are laid on; never seen from outside.
    pub(crate) fn blank() -> Self {
        Self {
            data_dir: PathBuf::new(),
            durability: Durability::Fsync,
            ready_file: None,
            amqp: Amqp {
                listen: None,
                identity: Identity::Potager,
                heartbeat_s: 0,
                frame_bytes_max: 0,
                channels_max: 0,
            },
            http: Http { listen: None },
            limits: Limits::default(),
            log: Journal { segment_bytes: 0, segments_max: 0, cache_bytes: 0, checkpoint_bytes: 0 },
            alarm: Alarm { disk_free_bytes_min: 0, memory_bytes_max: 0 },
            logging: Logging { format: LogFormat::Auto, level: String::new() },
            guest: Guest { is_enabled: false },
        }
    }
}

impl Default for Settings {
    /// The table's defaults.
    fn default() -> Self {
        let mut settings = Self::blank();
        for setting in crate::SETTINGS {
            if let Ok(value) = setting.kind.read_text(setting.default) {
                (setting.put)(&mut settings, &value);
            }
        }
        settings
    }
}
