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
use net::tls::{
    Acceptor, ClientName, Clients, HandshakeFault, Keys, Plan, TlsStream, load, name_in,
};
use tokio::net::TcpStream;

use super::{Server, authority};
use crate::exit::Usage;

/// Failed handshakes are told once in so long; the others only to those who debug.
const TOLD_EVERY: Duration = Duration::from_secs(1);
const HOUR_S: u64 = 3600;
const DAY_HOURS: u64 = 24;
/// The log speaks of the certificate's end so many days before it; nearest first.
const WARNED_DAYS: [u64; 4] = [0, 1, 7, 30];

/// What encrypted doors share.
pub(super) struct Tls {
    asking: Acceptor,
    anonymous: Acceptor,
    client_name: Cell<ClientName>,
    server: Rc<Server>,
    /// The files as they were when they were last looked at.
    seen: RefCell<Vec<Option<(SystemTime, u64)>>>,
    /// The mark of the last warning about the certificate's end, see [`WARNED_DAYS`].
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
        let Some(mark) = mark_reached(left, self.warned_days.get()) else { return };
        self.warned_days.set(Some(mark));
        if left.is_zero() {
            tracing::error!("the TLS certificate has ended: clients refuse it; put a new one");
        } else {
            let hours = left.as_secs() / HOUR_S;
            tracing::warn!(hours, "the TLS certificate ends soon; put a new one in its place");
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
            // A health check of a load balancer looks like this.
            Err(HandshakeFault::Gone) => None,
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

/// The mark that a certificate has passed since the last warning: so many days are left, or none.
fn mark_reached(left: Duration, warned: Option<u64>) -> Option<u64> {
    let hours = left.as_secs() / HOUR_S;
    let passed = |days: &u64| if *days == 0 { left.is_zero() } else { hours < days * DAY_HOURS };
    let mark = WARNED_DAYS.into_iter().find(passed)?;
    warned.is_none_or(|warned| mark < warned).then_some(mark)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_announced_at_30_7_and_1_days_and_when_it_comes() {
        let day = |days: u64| Duration::from_hours(24 * days);
        let hour = Duration::from_hours(1);
        assert_eq!(mark_reached(day(31), None), None);
        assert_eq!(mark_reached(day(30), None), None);
        assert_eq!(mark_reached(hour * (30 * 24 - 1), None), Some(30));
        assert_eq!(mark_reached(day(20), Some(30)), None, "once is enough");
        assert_eq!(mark_reached(day(6), Some(30)), Some(7));
        assert_eq!(mark_reached(day(6), None), Some(7), "also as the first thing that is seen");
        assert_eq!(mark_reached(hour, Some(7)), Some(1));
        assert_eq!(mark_reached(hour, Some(1)), None);
        assert_eq!(mark_reached(Duration::ZERO, Some(1)), Some(0));
        assert_eq!(mark_reached(Duration::ZERO, Some(0)), None);
    }

    #[test]
    fn what_is_missing_is_named_with_the_way_out() {
        let wanted = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            settings.tls.certificate_file = Some("server.pem".into());
            settings.tls.key_file = Some("server.key".into());
            change(&mut settings);
            plan(&settings).map_err(|usage| usage.to_string())
        };
        assert!(wanted(|_| {}).is_ok());
        let error = wanted(|settings| settings.tls.key_file = None).unwrap_err();
        assert!(error.contains("tls.key_file") && error.contains("--tls auto"), "{error}");
        let asking = |settings: &mut Settings| {
            settings.tls.client_certificates = ClientCertificates::Optional;
        };
        assert!(wanted(asking).unwrap_err().contains("tls.client_ca_file"));
        let auto = wanted(|settings| {
            settings.tls.mode = TlsMode::Auto;
            settings.tls.key_file = None;
        });
        assert!(auto.unwrap().key_file.ends_with("potager-data/tls/server.key"));
    }
}
