//! [`Tls`]: the certificate that the doors show, and what they ask of clients. Made from the
//! settings at the start and, while the server runs, again from the same files; sessions that exist
//! keep what they began with. Reading and checking files is `net::tls`'s.

use std::cell::{Cell, RefCell};
use std::fs::Metadata;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use config::{ClientCertificates, Settings, TlsMode};
use net::tls::{Acceptor, ClientName, Clients, Keys, Plan, TlsStream, load, name_in};
use tokio::net::TcpStream;

use super::{Server, authority};
use crate::exit::Usage;

/// Failed handshakes are told once in so long; the others only to those who debug.
const TOLD_EVERY: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
/// The log speaks of the certificate's end this long before, and at each of them again.
const WARNED_DAYS: [u64; 3] = [1, 7, 30];

/// What encrypted doors share.
pub(super) struct Tls {
    asking: Acceptor,
    anonymous: Acceptor,
    client_name: Cell<ClientName>,
    server: Rc<Server>,
    /// The files as they were when they were last looked at.
    seen: RefCell<Vec<Option<(SystemTime, u64)>>>,
    /// The days left at the last warning about the certificate's end.
    warned_days: Cell<Option<u64>>,
    told: Cell<Option<Instant>>,
}

impl Tls {
    /// Reads the files, or makes them; `None` when no door wants TLS.
    ///
    /// # Errors
    /// [`Usage`]: a file is missing or wrong, and what to do.
    pub(super) fn prepare(settings: &Settings) -> anyhow::Result<Option<Keys>> {
        if settings.amqps().is_none() && settings.https().is_none() {
            return Ok(None);
        }
        if settings.tls.mode == TlsMode::Auto {
            authority::ensure(&folder(settings))?;
        }
        Ok(Some(read(settings)?))
    }

    pub(super) fn new(settings: &Settings, keys: &Keys, server: &Rc<Server>) -> Self {
        let acceptor = |config| Acceptor::new(config, Rc::clone(&server.buffers));
        let tls = Self {
            asking: acceptor(std::sync::Arc::clone(&keys.asking)),
            anonymous: acceptor(std::sync::Arc::clone(&keys.anonymous)),
            client_name: Cell::default(),
            server: Rc::clone(server),
            seen: RefCell::new(look(settings)),
            warned_days: Cell::new(None),
            told: Cell::new(None),
        };
        tls.adopt(settings, keys);
        tls
    }

    /// For sessions from now on.
    pub(super) fn adopt(&self, settings: &Settings, keys: &Keys) {
        self.asking.replace(std::sync::Arc::clone(&keys.asking));
        self.anonymous.replace(std::sync::Arc::clone(&keys.anonymous));
        self.client_name.set(client_name(settings));
        self.server.certificate_ends.set(keys.validity.map(|(_, end)| end));
        self.warned_days.set(None);
        if keys.is_key_shared {
            tracing::warn!("the group of the TLS key file may use it too; chmod 600 is safer");
        }
        if keys.validity.is_some_and(|(begin, _)| begin > SystemTime::now()) {
            tracing::warn!("the TLS certificate does not hold yet; is the clock right?");
        }
        self.warn_of_end();
    }

    /// Whether a file is another one than at the last look.
    pub(super) fn has_changed(&self, settings: &Settings) -> bool {
        let now = look(settings);
        self.seen.replace_with(|_| now.clone()) != now
    }

    /// Says in the log that the certificate is about to end: 30, 7 and 1 days before.
    pub(super) fn warn_of_end(&self) {
        let Some(end) = self.server.certificate_ends.get() else { return };
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        let days = left.as_secs() / DAY.as_secs();
        let Some(mark) = WARNED_DAYS.into_iter().find(|mark| days < *mark) else { return };
        if self.warned_days.get().is_some_and(|warned| warned <= mark) {
            return;
        }
        self.warned_days.set(Some(mark));
        if left.is_zero() {
            tracing::error!("the TLS certificate has ended: clients refuse it; put a new one");
        } else {
            tracing::warn!(days, "the TLS certificate ends soon; put a new one in its place");
        }
    }

    /// Shakes hands with an AMQP client; `None` when that failed, which was told.
    pub(super) async fn welcome_client(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<TlsStream> {
        self.welcome(&self.asking, stream, address).await
    }

    /// As [`Tls::welcome_client`], without asking for a certificate.
    pub(super) async fn welcome_anybody(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<TlsStream> {
        self.welcome(&self.anonymous, stream, address).await
    }

    async fn welcome(
        &self,
        acceptor: &Acceptor,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<TlsStream> {
        // On the heap: the connection would keep room for it all its life.
        match Box::pin(acceptor.accept(stream)).await {
            // Whoever comes too late was not told goodbye.
            Ok(_) if self.server.is_stopping() => None,
            Ok(stream) => Some(stream),
            Err(error) if self.is_time_to_tell() => {
                tracing::info!(peer = %address, %error, "a TLS connection was not made");
                None
            }
            Err(error) => {
                tracing::debug!(peer = %address, %error, "a TLS connection was not made");
                None
            }
        }
    }

    fn is_time_to_tell(&self) -> bool {
        let now = Instant::now();
        let is_time = self.told.get().is_none_or(|told| now.duration_since(told) >= TOLD_EVERY);
        if is_time {
            self.told.set(Some(now));
        }
        is_time
    }

    /// The user that the peer's certificate names.
    pub(super) fn user_in(&self, stream: &TlsStream) -> Option<String> {
        name_in(stream.peer_certificate()?, self.client_name.get())
    }
}

/// Reads the files that the settings name.
///
/// # Errors
/// [`Usage`]: what is wrong with the first bad one, and what to do.
pub(super) fn read(settings: &Settings) -> Result<Keys, Usage> {
    load(&plan(settings)?).map_err(|fault| Usage(fault.to_string()))
}

fn plan(settings: &Settings) -> Result<Plan, Usage> {
    let tls = &settings.tls;
    let missing = |key: &str| {
        Usage(format!(
            "TLS is to be spoken, but {key} is not set; name a PEM file there, or use --tls auto \
             for a trial"
        ))
    };
    let (certificate_file, key_file) = if tls.mode == TlsMode::Auto {
        let folder = folder(settings);
        (folder.join(authority::CERTIFICATE), folder.join(authority::KEY))
    } else {
        let certificate = tls.certificate_file.clone();
        let certificate = certificate.ok_or_else(|| missing("tls.certificate_file"))?;
        (certificate, tls.key_file.clone().ok_or_else(|| missing("tls.key_file"))?)
    };
    let clients = match tls.client_certificates {
        ClientCertificates::Off => Clients::Anonymous,
        ClientCertificates::Optional => Clients::Optional,
        ClientCertificates::Required => Clients::Required,
    };
    if clients != Clients::Anonymous && tls.client_ca_file.is_none() {
        return Err(Usage(
            "tls.client_certificates asks clients for certificates, but tls.client_ca_file does \
             not say whose; name the PEM file of the authority that signs them"
                .to_owned(),
        ));
    }
    let client_ca_file = tls.client_ca_file.clone();
    let has_tls12 = !tls.is_newest_only;
    Ok(Plan { certificate_file, key_file, client_ca_file, clients, has_tls12 })
}

/// Where `--tls auto` keeps what it makes.
pub(super) fn folder(settings: &Settings) -> std::path::PathBuf {
    settings.data_dir.join("tls")
}

const fn client_name(settings: &Settings) -> ClientName {
    match settings.tls.client_name {
        config::ClientName::Cn => ClientName::CommonName,
        config::ClientName::SanDns => ClientName::Dns,
        config::ClientName::SanEmail => ClientName::Email,
        config::ClientName::SanUri => ClientName::Uri,
        config::ClientName::Dn => ClientName::Subject,
    }
}

/// Time and size of each file; `None` for one that is not there.
fn look(settings: &Settings) -> Vec<Option<(SystemTime, u64)>> {
    let Ok(plan) = plan(settings) else { return Vec::new() };
    let files = [Some(plan.certificate_file), Some(plan.key_file), plan.client_ca_file];
    let mark = |file: Metadata| Some((file.modified().ok()?, file.len()));
    let stamp = |path: &Path| std::fs::metadata(path).ok().and_then(mark);
    files.iter().flatten().map(|path| stamp(path)).collect()
}
