//! Kinds of values: how text (environment, flags) and TOML values become checked [`Value`]s, and
//! how a value is shown again. What each setting means is not known here. Called by `resolve.rs`
//! and `file.rs`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// What a setting may hold.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A file or directory; must not be empty.
    Path,
    /// A file or directory, or nothing.
    OptionalPath,
    /// `IP:PORT`, `localhost:PORT` or `off`.
    Listen,
    /// As `Listen`, or `auto`.
    TlsListen,
    /// As `Listen`, or `unix:PATH`.
    ListenOrFile,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number within bounds.
    Number {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A number of bytes within bounds; text may carry `KiB`, `MiB` or `GiB`.
    Bytes {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// `true` or `false`.
    Flag,
    /// Log levels: `LEVEL` or `module=LEVEL`, separated by commas.
    Levels,
    /// The name of something: 1 to 255 bytes without control characters.
    Name,
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of `Path` and `OptionalPath`; empty is none.
    Path(PathBuf),
    /// Of `Listen`, `TlsListen` and `ListenOrFile`; `None` is `off`.
    Listen(Option<SocketAddr>),
    /// Of `ListenOrFile`.
    SocketFile(PathBuf),
    /// Of `Choice`, and `auto` of `TlsListen`.
    Word(&'static str),
    /// Of `Number`.
    Number(u64),
    /// Of `Bytes`.
    Bytes(u64),
    /// Of `Flag`.
    Flag(bool),
    /// Of `Levels` and `Name`.
    Text(String),
}

/// The address that another setting decides.
const AUTO: &str = "auto";
/// Begins the path of a socket file.
const FILE: &str = "unix:";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl Kind {
    /// What is accepted, in words, for messages and the reference page.
    #[must_use]
    pub fn expects(&self) -> String {
        match *self {
            Self::Path => "a path".into(),
            Self::OptionalPath => "a path, or nothing".into(),
            Self::Listen => "IP:PORT, or off".into(),
            Self::TlsListen => "IP:PORT, off, or auto".into(),
            Self::ListenOrFile => "IP:PORT, unix:PATH, or off".into(),
            Self::Choice(words) => words.join(" or "),
            Self::Number { min, max } => format!("a whole number, {min} to {max}"),
            Self::Bytes { min, max } => {
                format!("bytes, {} to {}", Value::Bytes(min), Value::Bytes(max))
            }
            Self::Flag => "true or false".into(),
            Self::Levels => "a level, e.g. info or info,proto_amqp=debug".into(),
            Self::Name => "a name of 1 to 255 bytes".into(),
        }
    }

    /// A short name for the value in help texts.
    #[must_use]
    pub const fn placeholder(&self) -> &'static str {
        match *self {
            Self::Path | Self::OptionalPath => "PATH",
            Self::Listen | Self::TlsListen => "ADDR|off",
            Self::ListenOrFile => "ADDR|unix:PATH|off",
            Self::Choice(_) => "WORD",
            Self::Number { .. } => "NUMBER",
            Self::Bytes { .. } => "BYTES",
            Self::Flag => "true|false",
            Self::Levels => "LEVEL",
            Self::Name => "NAME",
        }
    }

    /// Whether a TOML integer may stand for it.
    pub(crate) const fn takes_integer(&self) -> bool {
        matches!(self, Self::Number { .. } | Self::Bytes { .. })
    }

    /// Whether a TOML string may stand for it.
    pub(crate) const fn takes_string(&self) -> bool {
        !matches!(self, Self::Number { .. } | Self::Flag)
    }

    /// Reads and checks text.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read_text(&self, text: &str) -> Result<Value, String> {
        let read = match *self {
            Self::Path => (!text.is_empty()).then(|| Value::Path(text.into())),
            Self::OptionalPath => Some(Value::Path(text.into())),
            Self::TlsListen if text == AUTO => Some(Value::Word(AUTO)),
            Self::ListenOrFile if text.starts_with(FILE) => read_socket_file(text),
            Self::Listen | Self::TlsListen | Self::ListenOrFile => read_listen(text),
            Self::Choice(words) => words.iter().find(|word| **word == text).map(|w| Value::Word(w)),
            Self::Number { min, max } => {
                text.parse().ok().filter(|n| (min..=max).contains(n)).map(Value::Number)
            }
            Self::Bytes { min, max } => {
                read_bytes(text).filter(|n| (min..=max).contains(n)).map(Value::Bytes)
            }
            Self::Flag => text.parse().ok().map(Value::Flag),
            Self::Levels => are_levels(text).then(|| Value::Text(text.into())),
            Self::Name => is_name(text).then(|| Value::Text(text.into())),
        };
        read.ok_or_else(|| format!("{text:?} is not accepted; expected {}", self.expects()))
    }
}

fn read_listen(text: &str) -> Option<Value> {
    if text == "off" {
        return Some(Value::Listen(None));
    }
    let address = match text.strip_prefix("localhost:") {
        Some(port) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?),
        None => text.parse().ok()?,
    };
    Some(Value::Listen(Some(address)))
}

fn read_socket_file(text: &str) -> Option<Value> {
    let path = text.strip_prefix(FILE).filter(|path| !path.is_empty())?;
    Some(Value::SocketFile(path.into()))
}

fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn read_bytes(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find_map(|(name, factor)| Some((text.strip_suffix(name)?, *factor)));
    let (digits, factor) = unit.unwrap_or((text, 1));
    digits.trim_end().parse::<u64>().ok()?.checked_mul(factor)
}

fn are_levels(text: &str) -> bool {
    text.split(',').all(|directive| {
        let (module, level) = directive.split_once('=').unwrap_or(("all", directive));
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        !module.is_empty() && module.chars().all(is_name) && LEVELS.contains(&level)
    })
}

impl Value {
    /// The number as the type of its field; `None` when it is none or does not fit.
    pub(crate) fn number<T: TryFrom<u64>>(&self) -> Option<T> {
        match *self {
            Self::Number(number) | Self::Bytes(number) => T::try_from(number).ok(),
            Self::Path(_)
            | Self::Listen(_)
            | Self::SocketFile(_)
            | Self::Word(_)
            | Self::Flag(_)
            | Self::Text(_) => None,
        }
    }

    /// As it is written in a configuration file; `None` for an absent path.
    #[must_use]
    pub fn to_toml(&self) -> Option<String> {
        match self {
            Self::Path(path) if path.as_os_str().is_empty() => None,
            Self::Number(_) | Self::Flag(_) => Some(self.to_string()),
            Self::Path(_)
            | Self::Listen(_)
            | Self::SocketFile(_)
            | Self::Word(_)
            | Self::Bytes(_)
            | Self::Text(_) => Some(toml::Value::String(self.to_string()).to_string()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Listen(Some(address)) => write!(f, "{address}"),
            Self::Listen(None) => f.write_str("off"),
            Self::SocketFile(path) => write!(f, "{FILE}{}", path.display()),
            Self::Word(word) => f.write_str(word),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => {
                let whole = |factor: u64| *bytes >= factor && bytes.is_multiple_of(factor);
                match UNITS.iter().rev().find(|(_, factor)| whole(*factor)) {
                    Some((name, factor)) => write!(f, "{} {name}", bytes / factor),
                    None => write!(f, "{bytes}"),
                }
            }
            Self::Flag(is) => write!(f, "{is}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}
