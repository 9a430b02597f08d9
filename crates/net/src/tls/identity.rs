//! What a certificate says about its holder: the name that a client logs in with, and until when it
//! holds. The signature was checked before by rustls; this only reads. Names come from outside:
//! they are bounded and hold no control characters.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Longest user name in bytes.
const NAME_BYTES_MAX: usize = 255;
/// `id-at-commonName`. Source: RFC 5280 appendix A.1.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Which part of a client's certificate is its user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientName {
    /// The common name of the subject.
    #[default]
    CommonName,
    /// The first alternative name that is a host name.
    Dns,
    /// The first alternative name that is an e-mail address.
    Email,
    /// The first alternative name that is a URI.
    Uri,
    /// The whole subject as text. Source: RFC 4514.
    Subject,
}

/// The user name in a certificate; `None` when it has none of that kind, or one that cannot be a
/// user's. Two common names are ambiguous and count as none.
#[must_use]
pub fn name_in(certificate: &CertificateDer<'_>, kind: ClientName) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let name = match kind {
        ClientName::CommonName => common_name(&certificate)?,
        ClientName::Subject => certificate.tbs_certificate().subject().to_string(),
        ClientName::Dns | ClientName::Email | ClientName::Uri => alternative(&certificate, kind)?,
    };
    let is_usable =
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    is_usable.then_some(name)
}

fn common_name(certificate: &Certificate) -> Option<String> {
    let subject = certificate.tbs_certificate().subject();
    let mut names = subject.iter().filter(|part| part.oid == COMMON_NAME);
    let (Some(name), None) = (names.next(), names.next()) else { return None };
    // Other string types (T.61, BMP) are historic; their letters are not ASCII's.
    let is_text = matches!(name.value.tag(), Tag::Utf8String | Tag::PrintableString);
    let text = std::str::from_utf8(name.value.value()).ok()?;
    is_text.then(|| text.to_owned())
}

fn alternative(certificate: &Certificate, kind: ClientName) -> Option<String> {
    let (_, names) = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok()??;
    names.0.iter().find_map(|name| match (name, kind) {
        (GeneralName::DnsName(text), ClientName::Dns)
        | (GeneralName::Rfc822Name(text), ClientName::Email)
        | (GeneralName::UniformResourceIdentifier(text), ClientName::Uri) => {
            Some(text.as_str().to_owned())
        }
        _ => None,
    })
}

/// The times between which a certificate holds; `None` when it cannot be read.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let [begin, end] = [&validity.not_before, &validity.not_after]
        .map(|time| SystemTime::UNIX_EPOCH.checked_add(time.to_unix_duration()));
    Some((begin?, end?))
}
