//! `--tls auto`: an authority of this server's own and a certificate signed by it, made once and
//! kept below the data directory. For trials: clients have to be told to trust it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use net::tls::{Clients, Plan, load};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

/// The server's certificate.
pub(super) const CERTIFICATE: &str = "server.pem";
/// Its private key.
pub(super) const KEY: &str = "server.key";
/// The authority's certificate: what clients are told to trust.
pub(crate) const AUTHORITY: &str = "ca.pem";
/// The authority's private key.
const AUTHORITY_KEY: &str = "ca.key";

const DAY: Duration = Duration::from_hours(24);
/// How long an authority holds.
const AUTHORITY_DAYS: u32 = 3650;
/// How long a server's certificate holds: no longer than clients accept.
/// Source: CA/Browser Forum baseline requirements, 398 days.
const CERTIFICATE_DAYS: u32 = 397;
/// It is made anew at a start this long before its end.
const RENEWED_DAYS: u32 = 30;
/// A certificate begins a little earlier, for clients whose clock is behind.
const LENIENCE: Duration = Duration::from_hours(1);

/// Makes whatever is missing, or about to end, in `folder`.
///
/// # Errors
/// A file cannot be read or written.
pub(super) fn ensure(folder: &Path) -> anyhow::Result<()> {
    let doing = || format!("could not make the certificates of --tls auto in {}", folder.display());
    if is_good(folder) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(doing)?;
    let (authority, is_new) = authority(folder).with_context(doing)?;
    let key = KeyPair::generate().with_context(doing)?;
    let certificate = server_params()
        .and_then(|params| params.signed_by(&key, &authority))
        .with_context(doing)?;
    write(&folder.join(KEY), &key.serialize_pem(), 0o600).with_context(doing)?;
    write(&folder.join(CERTIFICATE), &certificate.pem(), 0o644).with_context(doing)?;
    tracing::info!(folder = %folder.display(), is_new_authority = is_new, "made a TLS certificate");
    Ok(())
}

/// Whether there is a certificate that can be used and holds long enough.
fn is_good(folder: &Path) -> bool {
    let plan = Plan {
        certificate_file: folder.join(CERTIFICATE),
        key_file: folder.join(KEY),
        client_ca_file: None,
        clients: Clients::Anonymous,
        has_tls12: true,
    };
    let validity = load(&plan).ok().and_then(|keys| keys.validity);
    let soon = SystemTime::now() + DAY * RENEWED_DAYS;
    folder.join(AUTHORITY).exists() && validity.is_some_and(|(_, end)| end > soon)
}

/// The authority that is there, so that clients go on trusting it, or a new one.
fn authority(folder: &Path) -> anyhow::Result<(Issuer<'static, KeyPair>, bool)> {
    let (certificate, key) = (folder.join(AUTHORITY), folder.join(AUTHORITY_KEY));
    if certificate.exists() && key.exists() {
        let key = KeyPair::from_pem(&fs::read_to_string(key)?)?;
        return Ok((Issuer::new(authority_params(), key), false));
    }
    let pair = KeyPair::generate()?;
    let params = authority_params();
    let made = params.self_signed(&pair)?;
    write(&key, &pair.serialize_pem(), 0o600)?;
    write(&certificate, &made.pem(), 0o644)?;
    Ok((Issuer::new(params, pair), true))
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Potager's own authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    holds(&mut params, AUTHORITY_DAYS);
    params
}

/// For this machine by all its local names.
fn server_params() -> Result<CertificateParams, rcgen::Error> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !host.is_empty() && host.chars().all(is_name) && !names.contains(&host) {
        names.push(host);
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named("Potager");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    holds(&mut params, CERTIFICATE_DAYS);
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn holds(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now();
    params.not_before = now.checked_sub(LENIENCE).unwrap_or(now).into();
    params.not_after = (now + DAY * days).into();
}

/// Writes a file whole or not at all, never readable by more than `mode` says.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let _left_over = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn text(folder: &Path, name: &str) -> String {
        fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn what_is_made_once_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("tls");
        ensure(&folder).unwrap();
        assert!(is_good(&folder));
        for (name, mode) in [(KEY, 0o600), (AUTHORITY_KEY, 0o600), (AUTHORITY, 0o644)] {
            let found = fs::metadata(folder.join(name)).unwrap().mode() & 0o777;
            assert_eq!(found & !mode, 0, "{name} {found:o}");
        }
        let before = [text(&folder, CERTIFICATE), text(&folder, AUTHORITY)];
        ensure(&folder).unwrap();
        assert_eq!([text(&folder, CERTIFICATE), text(&folder, AUTHORITY)], before);
    }

    #[test]
    fn a_lost_certificate_is_made_anew_by_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path()).unwrap();
        let authority = text(dir.path(), AUTHORITY);
        let old = text(dir.path(), CERTIFICATE);
        fs::remove_file(dir.path().join(KEY)).unwrap();
        ensure(dir.path()).unwrap();
        assert_eq!(text(dir.path(), AUTHORITY), authority);
        assert_ne!(text(dir.path(), CERTIFICATE), old);
        assert!(is_good(dir.path()));
    }
}
