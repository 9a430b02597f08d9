//! Whom TLS trusts: the authority that the user names, else those of the system, else Mozilla's
//! list inside the program: rented machines often run images without any certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::Fault;

/// Where systems keep the authorities they trust: Debian and Alpine, Red Hat, `OpenSUSE`.
const SYSTEM_FILES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];
/// Names another file, as OpenSSL does it.
const VARIABLE: &str = "SSL_CERT_FILE";

/// What every TLS connection of the worker is made with.
///
/// # Errors
/// The named file cannot be used.
pub(super) fn config(ca_file: Option<&Path>) -> Result<ClientConfig, Fault> {
    let named = ca_file.map(Path::to_owned);
    let named = named.or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
    let roots = match named {
        Some(path) => read(&path)?,
        None => of_system().unwrap_or_else(built_in),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Fault::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn of_system() -> Option<RootCertStore> {
    SYSTEM_FILES.iter().find_map(|path| read(Path::new(path)).ok())
}

fn built_in() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

fn read(path: &Path) -> Result<RootCertStore, Fault> {
    let wrong = |detail: String| Fault::Certificates { path: path.to_owned(), detail };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        // A list of a system holds oddities; what cannot be used is not trusted.
        let _unusable = roots.add(certificate);
    }
    if roots.is_empty() { Err(wrong("there is none".to_owned())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_has_to_be_good() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(config(Some(&path)).is_err());
        std::fs::write(&path, "no certificate").unwrap();
        assert!(matches!(config(Some(&path)), Err(Fault::Certificates { .. })));
    }

    #[test]
    fn the_list_inside_the_program_is_not_empty() {
        assert!(built_in().len() > 50);
    }
}
