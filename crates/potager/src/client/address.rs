//! [`Address`]: where a server is and who logs in, read from `amqp://user:password@host:port/vhost`
//! or `amqps://..` for TLS.
//! Not here: connecting (`link`). Called by the command line and the tests.

use std::path::PathBuf;

use super::Fault;

/// The protocol's standard port.
const PORT: u16 = 5672;
/// The same over TLS.
const TLS_PORT: u16 = 5671;
/// Where the password comes from when the URL names a user alone: arguments show in process lists.
const PASSWORD_VARIABLE: &str = "POTAGER_PASSWORD";

/// A server's address with the login. The password is shown by nothing here.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Name or IP address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// User name.
    pub(crate) user: String,
    /// Password.
    pub(crate) password: String,
    /// Virtual host.
    pub(crate) vhost: String,
    /// Over TLS.
    pub(crate) has_tls: bool,
    /// Who signs the server's certificate; `None` is whom the system trusts.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Address {
    /// The same, trusting another authority.
    pub(crate) fn trusting(&self, ca_file: Option<&PathBuf>) -> Self {
        Self { ca_file: ca_file.cloned(), ..self.clone() }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tls = if self.has_tls { "s" } else { "" };
        write!(f, "amqp{tls}://{}@{}:{}/{}", self.user, self.host, self.port, self.vhost)
    }
}

impl std::str::FromStr for Address {
    type Err = Fault;

    /// Reads a URL as every AMQP client does: parts left out are `guest:guest@`, port 5672 and
    /// virtual host `/`; a path of just `/` is the empty virtual host's usual misspelling of `/`.
    /// No fault repeats what may hold a password.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let secured = text.strip_prefix("amqps://");
        let rest = secured.or_else(|| text.strip_prefix("amqp://")).ok_or_else(|| {
            let place = text.rsplit_once('@').map_or(text, |(_, place)| place);
            Fault::Address(format!("'{place}' needs amqp:// before it, as amqp://localhost"))
        })?;
        let (authority, path) = rest.split_once('/').map_or((rest, ""), |(a, p)| (a, p));
        let (login, place) = authority.rsplit_once('@').map_or(("", authority), |(l, p)| (l, p));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None if login.is_empty() => ("guest".to_owned(), "guest".to_owned()),
            None => (decoded(login)?, password_of_environment()),
        };
        let has_tls = secured.is_some();
        let (host, port) = split_port(place, if has_tls { TLS_PORT } else { PORT })?;
        let host = if host.is_empty() { "localhost".to_owned() } else { host };
        let vhost = if path.is_empty() { "/".to_owned() } else { decoded(path)? };
        Ok(Self { host, port, user, password, vhost, has_tls, ca_file: None })
    }
}

fn password_of_environment() -> String {
    std::env::var(PASSWORD_VARIABLE).unwrap_or_else(|_| "guest".to_owned())
}

fn split_port(place: &str, standard: u16) -> Result<(String, u16), Fault> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match place.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port {
        None | Some("") => standard,
        Some(text) => {
            let fault = "the URL's port is not a number up to 65535; is a / in its password?";
            text.parse().map_err(|_| Fault::Address(fault.to_owned()))?
        }
    };
    Ok((host.to_owned(), port))
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, Fault> {
    let fault = || Fault::Address("the URL has a broken percent-encoding".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit().ok_or_else(fault)?, digit().ok_or_else(fault)?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| fault())?);
    }
    String::from_utf8(bytes).map_err(|_| fault())
}
