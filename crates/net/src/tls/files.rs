//! [`load`]: PEM files to what new sessions are made with. All or nothing: whoever reloads keeps
//! what there was when this fails. Every fault names the file and the next step.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::identity;

/// Largest file of certificates: a whole system's trusted authorities are some 250 KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Everybody's bits of a file's mode.
const OF_OTHERS: u32 = 0o007;
/// The group's bits.
const OF_GROUP: u32 = 0o070;

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// They are not asked.
    #[default]
    Anonymous,
    /// They are asked; one without is let in, one with a bad one is not.
    Optional,
    /// One without is not let in.
    Required,
}

/// What to read, and how to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// PEM: the server's certificate, then those between it and the authority.
    pub certificate_file: PathBuf,
    /// PEM: its private key.
    pub key_file: PathBuf,
    /// PEM: authorities of clients' certificates.
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients show certificates.
    pub clients: Clients,
    /// TLS 1.2 is spoken too, not only 1.3.
    pub has_tls12: bool,
}

/// What the files held.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Asks clients for certificates as the plan says.
    pub asking: Arc<ServerConfig>,
    /// Asks no client.
    pub anonymous: Arc<ServerConfig>,
    /// When the server's certificate begins and ceases to hold, if it says so readably.
    pub validity: Option<(SystemTime, SystemTime)>,
    /// Others of the file's group may read or write the private key.
    pub is_key_shared: bool,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum FileFault {
    #[error("cannot read {what} {}: {error}; check that the file exists and this user may read \
             it", path.display())]
    Read { what: &'static str, path: PathBuf, error: io::Error },
    #[error("{what} {} is larger than {FILE_BYTES_MAX} bytes; is it another file?", path.display())]
    TooLarge { what: &'static str, path: PathBuf },
    #[error("{what} {} holds no {wanted} in PEM form (a block that begins with -----BEGIN \
             {label}-----); convert it with openssl, or name another file", path.display())]
    Empty { what: &'static str, path: PathBuf, wanted: &'static str, label: &'static str },
    #[error("{what} {} cannot be understood: {detail}; make or export it anew", path.display())]
    Broken { what: &'static str, path: PathBuf, detail: String },
    #[error("the private key {} is protected by a password; write it without one: openssl pkey \
             -in FILE -out key.pem", path.display())]
    Encrypted { path: PathBuf },
    #[error("everybody on this machine may read or write the private key {} (mode {mode:04o}); \
             protect it with chmod 600", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the certificate {} and the private key {} do not belong together: {detail}",
            certificate.display(), key.display())]
    Mismatch { certificate: PathBuf, key: PathBuf, detail: String },
}

/// Reads all files of a plan.
///
/// # Errors
/// The first file that cannot be used, and what to do.
pub fn load(plan: &Plan) -> Result<Keys, FileFault> {
    let chain = certificates(CERTIFICATE, &plan.certificate_file)?;
    let (key, is_key_shared) = private_key(&plan.key_file)?;
    let anonymous = Arc::new(config(plan, &chain, &key, None)?);
    let asking = match plan.client_ca_file.as_deref().filter(|_| plan.clients.are_asked()) {
        Some(path) => {
            let roots = Arc::new(roots(CLIENT_CA, path)?);
            Arc::new(config(plan, &chain, &key, Some((path, roots)))?)
        }
        None => Arc::clone(&anonymous),
    };
    let validity = chain.first().and_then(identity::validity);
    Ok(Keys { asking, anonymous, validity, is_key_shared })
}

const CERTIFICATE: &str = "the TLS certificate";
const KEY: &str = "the private key";
const CLIENT_CA: &str = "the authorities of clients";

impl Clients {
    const fn are_asked(self) -> bool {
        matches!(self, Self::Optional | Self::Required)
    }
}

/// The cryptography of all sessions.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

const NEWEST: &[&SupportedProtocolVersion] = &[&TLS13];
const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

fn config(
    plan: &Plan,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    clients: Option<(&Path, Arc<RootCertStore>)>,
) -> Result<ServerConfig, FileFault> {
    let mismatch = |error: rustls::Error| FileFault::Mismatch {
        certificate: plan.certificate_file.clone(),
        key: plan.key_file.clone(),
        detail: error.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(if plan.has_tls12 { BOTH } else { NEWEST })
        .map_err(mismatch)?;
    let is_asking = clients.is_some();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((path, roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = match plan.clients {
                Clients::Required => verifier,
                Clients::Anonymous | Clients::Optional => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build();
            builder.with_client_cert_verifier(verifier.map_err(|error| FileFault::Broken {
                what: CLIENT_CA,
                path: path.to_owned(),
                detail: error.to_string(),
            })?)
        }
    };
    let mut config = builder.with_single_cert(chain.to_vec(), key.clone_key()).map_err(mismatch)?;
    if is_asking {
        // A resumed session would not show its certificate again: it may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(config)
}

/// All certificates of a file; at least one.
fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let (bytes, _) = read(what, path)?;
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| broken(what, path, &error))?;
    if found.is_empty() {
        let (path, wanted) = (path.to_owned(), "certificate");
        return Err(FileFault::Empty { what, path, wanted, label: "CERTIFICATE" });
    }
    Ok(found)
}

/// The authorities of a file, as roots of trust.
pub(super) fn roots(what: &'static str, path: &Path) -> Result<RootCertStore, FileFault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(what, path)? {
        roots.add(certificate).map_err(|error| broken(what, path, &error))?;
    }
    Ok(roots)
}

/// The key, and whether others of its group may use it.
fn private_key(path: &Path) -> Result<(PrivateKeyDer<'static>, bool), FileFault> {
    let (bytes, mode) = read(KEY, path)?;
    if mode & OF_OTHERS != 0 {
        return Err(FileFault::Exposed { path: path.to_owned(), mode: mode & 0o7777 });
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        if !matches!(error, pem::Error::NoItemsFound) {
            return broken(KEY, path, &error);
        }
        let path = path.to_owned();
        if is_encrypted(&bytes) {
            return FileFault::Encrypted { path };
        }
        FileFault::Empty { what: KEY, path, wanted: "private key", label: "PRIVATE KEY" }
    })?;
    Ok((key, mode & OF_GROUP != 0))
}

fn is_encrypted(pem: &[u8]) -> bool {
    pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED)
}

const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";

fn broken(what: &'static str, path: &Path, error: &impl ToString) -> FileFault {
    FileFault::Broken { what, path: path.to_owned(), detail: error.to_string() }
}

/// A whole file and its mode.
fn read(what: &'static str, path: &Path) -> Result<(Vec<u8>, u32), FileFault> {
    let mut bytes = Vec::new();
    let mode = File::open(path).and_then(|file| {
        let mode = file.metadata()?.mode();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(mode)
    });
    let path = path.to_owned();
    match mode {
        Err(error) => Err(FileFault::Read { what, path, error }),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => Err(FileFault::TooLarge { what, path }),
        Ok(mode) => Ok((bytes, mode)),
    }
}
