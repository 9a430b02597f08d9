//! The client's side: what the commands need to ask a server over TLS. A server's certificate is
//! always verified, against a given authority or those of the system.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection as Session};
use tokio::net::TcpStream;

use super::TlsStream;
use super::files::{self, FileFault};
use super::handshake::{HandshakeFault, shake_hands};
use crate::Buffers;

/// Where systems keep the authorities they trust: Debian and Alpine, Red Hat, `OpenSUSE`.
const SYSTEM_CA_FILES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// Why a server cannot be asked over TLS.
#[derive(Debug, thiserror::Error)]
pub enum DialFault {
    /// Its name cannot stand in a certificate.
    #[error("'{0}' is neither a host name nor an address")]
    Name(String),
    /// It was not trusted, or spoke something else.
    #[error(transparent)]
    Handshake(#[from] HandshakeFault),
}

/// A configuration that trusts the authorities of `ca_file`, or the system's.
///
/// # Errors
/// The file cannot be used.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, FileFault> {
    let system = SYSTEM_CA_FILES.iter().map(Path::new);
    let [first, ..] = SYSTEM_CA_FILES;
    let path = ca_file
        .or_else(|| system.into_iter().find(|path| path.exists()))
        .unwrap_or_else(|| Path::new(first));
    let roots = files::roots("the trusted authorities", path)?;
    let builder = ClientConfig::builder_with_provider(files::provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| {
        let path = path.to_owned();
        FileFault::Broken { what: "the TLS library", path, detail: error.to_string() }
    })?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// A session for callers that wait in system calls.
pub type BlockingStream = rustls::StreamOwned<ClientConnection, std::net::TcpStream>;

/// As [`connect`], for callers that wait in system calls: the handshake happens with the first
/// read or write, within the time limits that the socket has.
///
/// # Errors
/// The name cannot stand in a certificate.
pub fn connect_blocking(
    socket: std::net::TcpStream,
    config: Arc<ClientConfig>,
    name: &str,
) -> Result<BlockingStream, DialFault> {
    Ok(BlockingStream::new(session(config, name)?, socket))
}

fn session(config: Arc<ClientConfig>, name: &str) -> Result<ClientConnection, DialFault> {
    let server = ServerName::try_from(name.to_owned());
    let server = server.map_err(|_| DialFault::Name(name.to_owned()))?;
    let session = ClientConnection::new(config, server);
    Ok(session.map_err(|error| HandshakeFault::Failed(io::Error::other(error)))?)
}

/// Shakes hands with the server called `name`.
///
/// # Errors
/// See [`DialFault`].
pub async fn connect(
    socket: TcpStream,
    config: Arc<ClientConfig>,
    name: &str,
) -> Result<TlsStream, DialFault> {
    let session = Session::Client(session(config, name)?);
    let stream = TlsStream::new(socket, session, Rc::new(Buffers::new()));
    Ok(shake_hands(stream).await?)
}
