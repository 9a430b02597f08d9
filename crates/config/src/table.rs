//! THE table: every setting once, with its key, kind, default, explanation and field. The file, the
//! environment, the flags, the help and the reference page are all made from it.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    Kind, Settings, Value,
    settings::{
        ClientCertificates, ClientName, Durability, Endpoint, Identity, LogFormat, TlsListen,
        TlsMode,
    },
};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// `section.name`, or a name alone.
    pub key: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Used when nothing else is said; readable by `kind`.
    pub default: &'static str,
    /// Long flag without dashes; the others are set with `--set key=value`.
    pub flag: Option<&'static str>,
    /// One sentence for help, file and page.
    pub doc: &'static str,
    /// Takes effect while the server runs; the others at the next start.
    pub is_reloadable: bool,
    /// Stores a value of this kind; `None` when it does not fit, which a test excludes.
    pub(crate) put: fn(&mut Settings, &Value) -> Option<()>,
}

impl Setting {
    /// The environment variable: `POTAGER_SECTION__NAME`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("POTAGER_{}", self.key.replace('.', "__").to_ascii_uppercase())
    }

    /// How it is set on the command line, for people.
    #[must_use]
    pub fn flag_text(&self) -> String {
        self.flag.map_or_else(|| format!("--set {}=..", self.key), |flag| format!("--{flag}"))
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const U32: u64 = u32::MAX as u64;

/// A setting without a flag of its own that needs a restart.
const fn plain(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
    put: fn(&mut Settings, &Value) -> Option<()>,
) -> Setting {
    Setting { key, kind, default, flag: None, doc, is_reloadable: false, put }
}

impl Setting {
    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    /// It takes effect while the server runs.
    const fn live(mut self) -> Self {
        self.is_reloadable = true;
        self
    }
}

/// All settings; those of one section stand together.
pub const SETTINGS: &[Setting] = &[
    plain(
        "data_dir",
        Kind::Path,
        "./potager-data",
        "Directory that holds everything; created if missing.",
        |s, v| path(v).map(|path| s.data_dir = path),
    )
    .flag("data-dir"),
    plain(
        "durability",
        Kind::Choice(&["fsync", "os", "memory"]),
        "fsync",
        "What a positive reply promises: flushed to disk (fsync), handed to the operating system \
         (os: lost in a power cut), or nothing (memory: lost at exit).",
        |s, v| durability(v).map(|word| s.durability = word),
    )
    .flag("durability"),
    plain(
        "ready_file",
        Kind::OptionalPath,
        "",
        "File written once all doors listen: JSON, door to address.",
        |s, v| path(v).map(|path| s.ready_file = some(path)),
    )
    .flag("ready-file"),
    plain(
        "amqp.listen",
        Kind::Listen,
        "127.0.0.1:5672",
        "Address of the AMQP 0-9-1 door; port 0 picks a free one, off closes it.",
        |s, v| listen(v, &mut s.amqp.listen),
    )
    .flag("amqp"),
    plain(
        "amqp.tls_listen",
        Kind::TlsListen,
        "auto",
        "Address of the AMQP door over TLS; auto: port 5671 when tls.mode is auto, else closed.",
        |s, v| tls_listen(v, &mut s.amqp.tls_listen),
    )
    .flag("amqps"),
    plain(
        "amqp.identity",
        Kind::Choice(&["potager", "rabbitmq"]),
        "potager",
        "Product announced to AMQP clients; rabbitmq is for clients that refuse anything else.",
        |s, v| identity(v).map(|word| s.amqp.identity = word),
    )
    .live(),
    plain(
        "amqp.heartbeat_s",
        Kind::Number { min: 0, max: 65_535 },
        "60",
        "Heartbeat offered to clients, in seconds; 0 offers none.",
        |s, v| v.number().map(|n| s.amqp.heartbeat_s = n),
    )
    .live(),
    plain(
        "amqp.frame_bytes_max",
        Kind::Bytes { min: 4 * KIB, max: 16 * MIB },
        "128 KiB",
        "Largest AMQP frame after login.",
        |s, v| v.number().map(|n| s.amqp.frame_bytes_max = n),
    )
    .live(),
    plain(
        "amqp.channels_max",
        Kind::Number { min: 1, max: 65_535 },
        "2047",
        "Channels of one AMQP connection.",
        |s, v| v.number().map(|n| s.amqp.channels_max = n),
    )
    .live(),
    plain(
        "beanstalk.listen",
        Kind::ListenOrFile,
        "127.0.0.1:11300",
        "Address of the beanstalk door, or its socket file; port 0 picks one, off closes it.",
        |s, v| endpoint(v).map(|at| s.beanstalk.listen = at),
    )
    .flag("beanstalk"),
    plain(
        "beanstalk.tls_listen",
        Kind::Listen,
        "off",
        "Address of the beanstalk door over TLS.",
        |s, v| listen(v, &mut s.beanstalk.tls_listen),
    )
    .flag("beanstalks"),
    plain(
        "beanstalk.job_bytes_max",
        Kind::Bytes { min: 1, max: 32 * MIB },
        "65535",
        "Largest body of a job that is put; at most limits.message_bytes_max.",
        |s, v| v.number().map(|n| s.beanstalk.job_bytes_max = n),
    )
    .live(),
    plain(
        "beanstalk.login",
        Kind::Choice(&["off", "required"]),
        "off",
        "Whether beanstalk clients have to log in; off: everybody who can connect acts in the name \
         of beanstalk.user, as with beanstalkd.",
        |s, v| word(v).map(|word| s.beanstalk.needs_login = word == "required"),
    ),
    plain(
        "beanstalk.user",
        Kind::Name,
        "guest",
        "The user in whose name, and with whose permissions, clients act that need no login.",
        |s, v| text(v).map(|name| s.beanstalk.user = name),
    ),
    plain(
        "beanstalk.vhost",
        Kind::Name,
        "/",
        "The virtual host whose queues are the tubes.",
        |s, v| text(v).map(|name| s.beanstalk.vhost = name),
    ),
    plain(
        "beanstalk.queue_length_max",
        Kind::Number { min: 0, max: U32 },
        "0",
        "Jobs of a tube that this door makes; more are refused. 0 is no limit.",
        |s, v| v.number().map(|n| s.limits.job_queue_length_max = limit(n)),
    ),
    plain(
        "beanstalk.queue_bytes_max",
        Kind::Bytes { min: 0, max: 1 << 50 },
        "0",
        "Bytes of the jobs of a tube that this door makes; more are refused. 0 is no limit.",
        |s, v| v.number().map(|n| s.limits.job_queue_bytes_max = limit(n)),
    ),
    plain(
        "beanstalk.deliveries_max",
        Kind::Number { min: 0, max: U32 },
        "0",
        "How often a job of a tube that this door makes may come back before it is buried. 0 is no \
         limit.",
        |s, v| v.number().map(|n| s.limits.job_deliveries_max = limit(n)),
    ),
    plain(
        "work.failures_max",
        Kind::Number { min: 1, max: U32 },
        "3",
        "The failure of a job, as its worker says, that is its last: then it is dead-lettered or \
         buried. The delivery limit of its queue goes before.",
        |s, v| v.number().map(|n| s.limits.job_failures_max = n),
    ),
    plain(
        "work.results_max",
        Kind::Number { min: 0, max: 1 << 40 },
        "100000000",
        "Most results by key of all virtual hosts.",
        |s, v| v.number().map(|n| s.limits.results_max = n),
    ),
    plain(
        "http.listen",
        Kind::Listen,
        "127.0.0.1:15672",
        "Address of the HTTP door (management, metrics, health); off closes it.",
        |s, v| listen(v, &mut s.http.listen),
    )
    .flag("http"),
    plain(
        "http.tls_listen",
        Kind::TlsListen,
        "auto",
        "Address of the HTTP door over TLS; auto: port 15671 when tls.mode is auto, else closed.",
        |s, v| tls_listen(v, &mut s.http.tls_listen),
    )
    .flag("https"),
    plain(
        "tls.mode",
        Kind::Choice(&["off", "files", "auto"]),
        "files",
        "Where the server's certificate comes from: none (off: no TLS), the files named below \
         (files), or made at the first start with an authority of its own (auto: for trials).",
        |s, v| tls_mode(v).map(|mode| s.tls.mode = mode),
    )
    .flag("tls"),
    plain(
        "tls.certificate_file",
        Kind::OptionalPath,
        "",
        "PEM file: the server's certificate, then those between it and its authority.",
        |s, v| path(v).map(|path| s.tls.certificate_file = some(path)),
    )
    .live(),
    plain(
        "tls.key_file",
        Kind::OptionalPath,
        "",
        "PEM file: the private key of the certificate, without a password.",
        |s, v| path(v).map(|path| s.tls.key_file = some(path)),
    )
    .live(),
    plain(
        "tls.client_ca_file",
        Kind::OptionalPath,
        "",
        "PEM file: the authorities that sign clients' certificates.",
        |s, v| path(v).map(|path| s.tls.client_ca_file = some(path)),
    )
    .live(),
    plain(
        "tls.client_certificates",
        Kind::Choice(&["off", "optional", "required"]),
        "off",
        "Whether AMQP clients show a certificate; with optional and required the login mechanism \
         EXTERNAL takes the user's name from it.",
        |s, v| client_certificates(v).map(|word| s.tls.client_certificates = word),
    )
    .live(),
    plain(
        "tls.client_name",
        Kind::Choice(&["cn", "san_dns", "san_email", "san_uri", "dn"]),
        "cn",
        "What in a client's certificate is the user's name: common name, first alternative name \
         of a kind, or the whole subject.",
        |s, v| client_name(v).map(|word| s.tls.client_name = word),
    )
    .live(),
    plain(
        "tls.version_min",
        Kind::Choice(&["1.2", "1.3"]),
        "1.2",
        "Oldest version of TLS that is spoken.",
        |s, v| word(v).map(|version| s.tls.is_newest_only = version == "1.3"),
    )
    .live(),
    plain(
        "auth.plaintext_passwords",
        Kind::Choice(&["allow", "tls_only"]),
        "allow",
        "Whether AMQP clients on other machines may log in with a password without TLS.",
        |s, v| word(v).map(|word| s.auth.takes_plaintext_passwords = word == "allow"),
    )
    .live(),
    plain(
        "limits.message_bytes_max",
        Kind::Bytes { min: KIB, max: 32 * MIB },
        "16 MiB",
        "Largest message body.",
        |s, v| v.number().map(|n| s.limits.message_bytes_max = n),
    ),
    plain(
        "limits.commit_bytes_max",
        Kind::Bytes { min: KIB, max: GIB },
        "32 MiB",
        "Bytes of one uncommitted transaction.",
        |s, v| v.number().map(|n| s.limits.commit_bytes_max = n),
    ),
    plain(
        "limits.commit_ops_max",
        Kind::Number { min: 1, max: U32 },
        "1048576",
        "Steps (publishes and settles) of one uncommitted transaction.",
        |s, v| v.number().map(|n| s.limits.commit_ops_max = n),
    ),
    plain(
        "limits.consumers_max",
        Kind::Number { min: 1, max: U32 },
        "1024",
        "Consumers of one channel.",
        |s, v| v.number().map(|n| s.limits.consumers_max = n),
    ),
    plain(
        "limits.queues_max",
        Kind::Number { min: 1, max: U32 },
        "1000000",
        "Queues of the server.",
        |s, v| v.number().map(|n| s.limits.queues_max = n),
    ),
    plain(
        "limits.bindings_max",
        Kind::Number { min: 1, max: U32 },
        "4000000",
        "Bindings of the server.",
        |s, v| v.number().map(|n| s.limits.bindings_max = n),
    ),
    plain(
        "limits.exchanges_max",
        Kind::Number { min: 1, max: U32 },
        "100000",
        "Exchanges of the server.",
        |s, v| v.number().map(|n| s.limits.exchanges_max = n),
    ),
    plain(
        "limits.vhosts_max",
        Kind::Number { min: 1, max: 65_535 },
        "1000",
        "Virtual hosts of the server.",
        |s, v| v.number().map(|n| s.limits.vhosts_max = n),
    ),
    plain(
        "limits.volatile_bytes_max",
        Kind::Bytes { min: MIB, max: 1024 * GIB },
        "1 GiB",
        "Memory for messages of queues that do not survive a restart.",
        |s, v| v.number().map(|n| s.limits.volatile_bytes_max = n),
    ),
    plain(
        "limits.undelivered_bytes_max",
        Kind::Bytes { min: 64 * KIB, max: GIB },
        "2 MiB",
        "Bytes handed to one connection that it has not read yet; above, it waits.",
        |s, v| v.number().map(|n| s.limits.undelivered_bytes_max = n),
    ),
    plain(
        "log.segment_bytes",
        Kind::Bytes { min: MIB, max: GIB },
        "64 MiB",
        "Size of one segment file of the log.",
        |s, v| v.number().map(|n| s.log.segment_bytes = n),
    ),
    plain(
        "log.segments_max",
        Kind::Number { min: 4, max: 4096 },
        "8",
        "Segment files in the log's ring; messages that outlive it move to survivor files.",
        |s, v| v.number().map(|n| s.log.segments_max = n),
    ),
    plain(
        "log.cache_bytes",
        Kind::Bytes { min: MIB, max: 64 * GIB },
        "32 MiB",
        "Newest part of the log kept in memory, so that fresh messages are not read from disk.",
        |s, v| v.number().map(|n| s.log.cache_bytes = n),
    ),
    plain(
        "log.checkpoint_bytes",
        Kind::Bytes { min: MIB, max: 64 * GIB },
        "256 MiB",
        "Log written between two checkpoints; less makes a restart quicker.",
        |s, v| v.number().map(|n| s.log.checkpoint_bytes = n),
    ),
    plain(
        "alarm.disk_free_bytes_min",
        Kind::Bytes { min: 0, max: 1 << 50 },
        "2 GiB",
        "Publishing is held back when the data directory's disk has less free; 0 never does.",
        |s, v| v.number().map(|n| s.alarm.disk_free_bytes_min = n),
    ),
    plain(
        "alarm.memory_bytes_max",
        Kind::Bytes { min: 0, max: 1 << 50 },
        "0",
        "Publishing is held back when the process uses more memory; 0 means 60 % of the memory of \
         the machine or its control group.",
        |s, v| v.number().map(|n| s.alarm.memory_bytes_max = n),
    )
    .live(),
    plain(
        "logging.format",
        Kind::Choice(&["auto", "text", "json"]),
        "auto",
        "Shape of log lines on standard error; auto is text on a terminal and JSON otherwise.",
        |s, v| format(v).map(|word| s.logging.format = word),
    )
    .flag("log-format"),
    plain(
        "logging.level",
        Kind::Levels,
        "info",
        "Log level (off, error, warn, info, debug, trace), with exceptions by module: \
         info,proto_amqp=debug.",
        |s, v| text(v).map(|level| s.logging.level = level),
    )
    .flag("log-level")
    .live(),
    plain(
        "guest.enabled",
        Kind::Flag,
        "true",
        "Create the user guest (password guest, loopback only) at the first start.",
        |s, v| flag(v).map(|is| s.guest.is_enabled = is),
    ),
];

fn path(value: &Value) -> Option<PathBuf> {
    if let Value::Path(path) = value { Some(path.clone()) } else { None }
}

/// An empty path is none.
fn some(path: PathBuf) -> Option<PathBuf> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

/// 0 stands for no limit.
fn limit<T: Default + PartialEq>(number: T) -> Option<T> {
    Some(number).filter(|number| *number != T::default())
}

fn listen(value: &Value, field: &mut Option<SocketAddr>) -> Option<()> {
    if let Value::Listen(address) = value {
        *field = *address;
        return Some(());
    }
    None
}

fn endpoint(value: &Value) -> Option<Endpoint> {
    match value {
        Value::Listen(address) => Some(address.map_or(Endpoint::Off, Endpoint::At)),
        Value::SocketFile(path) => Some(Endpoint::File(path.clone())),
        Value::Path(_)
        | Value::Word(_)
        | Value::Number(_)
        | Value::Bytes(_)
        | Value::Flag(_)
        | Value::Text(_) => None,
    }
}

fn tls_listen(value: &Value, field: &mut TlsListen) -> Option<()> {
    *field = if let Value::Listen(address) = value {
        address.map_or(TlsListen::Off, TlsListen::At)
    } else {
        word(value).filter(|word| *word == "auto").map(|_| TlsListen::Auto)?
    };
    Some(())
}

fn word(value: &Value) -> Option<&'static str> {
    if let Value::Word(word) = value { Some(word) } else { None }
}

fn text(value: &Value) -> Option<String> {
    if let Value::Text(text) = value { Some(text.clone()) } else { None }
}

fn flag(value: &Value) -> Option<bool> {
    if let Value::Flag(is) = value { Some(*is) } else { None }
}

fn durability(value: &Value) -> Option<Durability> {
    let all = [Durability::Fsync, Durability::Os, Durability::Memory];
    all.into_iter().find(|level| Some(level.word()) == word(value))
}

fn identity(value: &Value) -> Option<Identity> {
    match word(value)? {
        "potager" => Some(Identity::Potager),
        "rabbitmq" => Some(Identity::RabbitMq),
        _ => None,
    }
}

fn tls_mode(value: &Value) -> Option<TlsMode> {
    match word(value)? {
        "off" => Some(TlsMode::Off),
        "files" => Some(TlsMode::Files),
        "auto" => Some(TlsMode::Auto),
        _ => None,
    }
}

fn client_certificates(value: &Value) -> Option<ClientCertificates> {
    match word(value)? {
        "off" => Some(ClientCertificates::Off),
        "optional" => Some(ClientCertificates::Optional),
        "required" => Some(ClientCertificates::Required),
        _ => None,
    }
}

fn client_name(value: &Value) -> Option<ClientName> {
    match word(value)? {
        "cn" => Some(ClientName::Cn),
        "san_dns" => Some(ClientName::SanDns),
        "san_email" => Some(ClientName::SanEmail),
        "san_uri" => Some(ClientName::SanUri),
        "dn" => Some(ClientName::Dn),
        _ => None,
    }
}

fn format(value: &Value) -> Option<LogFormat> {
    match word(value)? {
        "auto" => Some(LogFormat::Auto),
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}
