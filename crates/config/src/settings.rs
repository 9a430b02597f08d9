//! [`Settings`]: the finished, checked values, passed explicitly to whoever needs them. Names,
//! ranges, defaults and explanations stand in the table (`table.rs`), not here.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use model::Limits;

/// Source: IANA's registry of port numbers, `amqps`.
const AMQPS_PORT: u16 = 5671;
/// As `RabbitMQ`'s management over TLS. Source: `RabbitMQ`, "Networking".
const HTTPS_PORT: u16 = 15671;

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
    /// The beanstalk door.
    pub beanstalk: Beanstalk,
    /// The HTTP door.
    pub http: Http,
    /// Encryption of all.
    pub tls: Tls,
    /// Logins.
    pub auth: Auth,
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
    /// The same over TLS; see [`Settings::amqps`].
    pub tls_listen: TlsListen,
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

/// The beanstalk door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beanstalk {
    /// Where it listens.
    pub listen: Endpoint,
    /// The same over TLS; see [`Settings::beanstalks`].
    pub tls_listen: Option<SocketAddr>,
    /// Largest body of a job in bytes.
    pub job_bytes_max: u32,
    /// Clients have to log in before anything else.
    pub needs_login: bool,
    /// In whose name clients act that need no login.
    pub user: String,
    /// The virtual host that tubes are queues of.
    pub vhost: String,
}

/// Where a door listens that takes connections of this machine through a file, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// Closed.
    #[default]
    Off,
    /// At an address.
    At(SocketAddr),
    /// At a socket file.
    File(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
            Self::File(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The HTTP door: management, metrics, health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `None`: closed.
    pub listen: Option<SocketAddr>,
    /// The same over TLS; see [`Settings::https`].
    pub tls_listen: TlsListen,
}

/// Where a door listens for TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsListen {
    /// Closed, or the standard port when certificates make themselves.
    #[default]
    Auto,
    /// Closed.
    Off,
    /// Here.
    At(SocketAddr),
}

/// Encryption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Where the certificate comes from.
    pub mode: TlsMode,
    /// PEM, the server's own first.
    pub certificate_file: Option<PathBuf>,
    /// PEM.
    pub key_file: Option<PathBuf>,
    /// PEM: authorities that sign clients.
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients of the AMQP door show certificates.
    pub client_certificates: ClientCertificates,
    /// What in a client's certificate is its user's name.
    pub client_name: ClientName,
    /// Only TLS 1.3; else 1.2 too.
    pub is_newest_only: bool,
}

/// Where the server's certificate comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// There is none: doors with TLS stay closed.
    Off,
    /// From the files that are named.
    #[default]
    Files,
    /// Made at the first start, with an authority of its own: for trials.
    Auto,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    /// They may.
    Optional,
    /// They must.
    Required,
}

/// What in a client's certificate is its user's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientName {
    /// Common name.
    #[default]
    Cn,
    /// First host name among the alternative names.
    SanDns,
    /// First e-mail address among them.
    SanEmail,
    /// First URI among them.
    SanUri,
    /// The whole subject.
    Dn,
}

/// Logins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Passwords are taken without TLS from other machines too.
    pub takes_plaintext_passwords: bool,
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
                tls_listen: TlsListen::Off,
                identity: Identity::Potager,
                heartbeat_s: 0,
                frame_bytes_max: 0,
                channels_max: 0,
            },
            beanstalk: Beanstalk {
                listen: Endpoint::Off,
                tls_listen: None,
                job_bytes_max: 0,
                needs_login: false,
                user: String::new(),
                vhost: String::new(),
            },
            http: Http { listen: None, tls_listen: TlsListen::Off },
            tls: Tls::default(),
            auth: Auth { takes_plaintext_passwords: true },
            limits: Limits::default(),
            log: Journal { segment_bytes: 0, segments_max: 0, cache_bytes: 0, checkpoint_bytes: 0 },
            alarm: Alarm { disk_free_bytes_min: 0, memory_bytes_max: 0 },
            logging: Logging { format: LogFormat::Auto, level: String::new() },
            guest: Guest { is_enabled: false },
        }
    }
}

impl Settings {
    /// Where AMQP over TLS listens.
    #[must_use]
    pub fn amqps(&self) -> Option<SocketAddr> {
        self.tls_address(self.amqp.tls_listen, self.amqp.listen, AMQPS_PORT)
    }

    /// Where beanstalk over TLS listens: only where an address is given.
    #[must_use]
    pub fn beanstalks(&self) -> Option<SocketAddr> {
        self.beanstalk.tls_listen.filter(|_| self.tls.mode != TlsMode::Off)
    }

    /// Where HTTP over TLS listens.
    #[must_use]
    pub fn https(&self) -> Option<SocketAddr> {
        self.tls_address(self.http.tls_listen, self.http.listen, HTTPS_PORT)
    }

    /// Beside the plain door unless an address is given.
    fn tls_address(
        &self,
        wanted: TlsListen,
        plain: Option<SocketAddr>,
        port: u16,
    ) -> Option<SocketAddr> {
        match (wanted, self.tls.mode) {
            (_, TlsMode::Off)
            | (TlsListen::Off, TlsMode::Files | TlsMode::Auto)
            | (TlsListen::Auto, TlsMode::Files) => None,
            (TlsListen::At(address), TlsMode::Files | TlsMode::Auto) => Some(address),
            (TlsListen::Auto, TlsMode::Auto) => {
                let ip = plain.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |plain| plain.ip());
                Some(SocketAddr::new(ip, port))
            }
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
