//! Tests of files, names and handshakes, with certificates made on the spot and loopback sockets.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    SanType,
};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{Buffers, Stream};

/// An authority, a server's certificate and a folder with both.
struct Garden {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Garden {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let garden = Self { folder: tempfile::tempdir().unwrap(), authority };
        garden.put("ca.pem", &garden.authority.pem(), 0o644);
        let (certificate, key) =
            garden.sign(&CertificateParams::new(["localhost".into()]).unwrap());
        garden.put("server.pem", &certificate.pem(), 0o644);
        garden.put("server.key", &key.serialize_pem(), 0o600);
        garden
    }

    fn sign(&self, params: &CertificateParams) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap(), key)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn plan(&self) -> Plan {
        Plan {
            certificate_file: self.path("server.pem"),
            key_file: self.path("server.key"),
            client_ca_file: None,
            clients: Clients::Anonymous,
            has_tls12: true,
        }
    }

    /// A client's certificate and key, trusting this authority.
    fn client(&self, certificate: Option<&CertificateParams>) -> Arc<rustls::ClientConfig> {
        let roots = files::roots("authority", &self.path("ca.pem")).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(files::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        Arc::new(match certificate.map(|params| self.sign(params)) {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        })
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Garden");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn fault(plan: &Plan) -> String {
    load(plan).unwrap_err().to_string()
}

#[test]
fn good_files_are_loaded_with_their_time() {
    let keys = load(&Garden::new().plan()).unwrap();
    let (begin, end) = keys.validity.unwrap();
    assert!(begin < SystemTime::now() && end > SystemTime::now());
    assert!(!keys.is_key_shared);
    assert!(Arc::ptr_eq(&keys.asking, &keys.anonymous));
}

#[test]
fn every_fault_names_the_file_and_what_to_do() {
    let garden = Garden::new();
    let plan = garden.plan();
    let missing = Plan { certificate_file: garden.path("none.pem"), ..plan.clone() };
    assert!(fault(&missing).contains("none.pem") && fault(&missing).contains("check that"));
    let swapped = Plan { certificate_file: plan.key_file.clone(), ..plan.clone() };
    assert!(fault(&swapped).contains("holds no certificate"), "{}", fault(&swapped));
    let empty = Plan { key_file: garden.put("empty", "", 0o600), ..plan.clone() };
    assert!(fault(&empty).contains("PRIVATE KEY"), "{}", fault(&empty));
    let broken = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    let broken = Plan { certificate_file: garden.put("b", broken, 0o644), ..plan.clone() };
    assert!(fault(&broken).contains("cannot be understood"), "{}", fault(&broken));
    let text = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = Plan { key_file: garden.put("e", text, 0o600), ..plan.clone() };
    assert!(fault(&encrypted).contains("openssl pkey"), "{}", fault(&encrypted));
    let other = KeyPair::generate().unwrap().serialize_pem();
    let other = Plan { key_file: garden.put("o", &other, 0o600), ..plan.clone() };
    assert!(fault(&other).contains("do not belong together"), "{}", fault(&other));
    let asking = Plan {
        clients: Clients::Required,
        client_ca_file: Some(garden.path("nobody.pem")),
        ..plan.clone()
    };
    assert!(fault(&asking).contains("nobody.pem"), "{}", fault(&asking));
    let huge = garden.put("huge", &"x".repeat(5 << 20), 0o600);
    assert!(fault(&Plan { certificate_file: huge, ..plan }).contains("larger"));
}

#[test]
fn a_key_that_everybody_may_read_is_refused_and_the_groups_is_told() {
    let garden = Garden::new();
    let key = std::fs::read_to_string(garden.path("server.key")).unwrap();
    for mode in [0o644, 0o604, 0o602, 0o777] {
        garden.put("server.key", &key, mode);
        assert!(fault(&garden.plan()).contains("chmod 600"), "{mode:o}");
    }
    garden.put("server.key", &key, 0o640);
    assert!(load(&garden.plan()).unwrap().is_key_shared);
}

#[test]
fn names_are_taken_from_where_the_operator_says() {
    let garden = Garden::new();
    let mut params = named("ann");
    params.subject_alt_names = vec![
        SanType::IpAddress("10.0.0.1".parse().unwrap()),
        SanType::Rfc822Name("ann@garden.example".try_into().unwrap()),
        SanType::DnsName("host.garden.example".try_into().unwrap()),
        SanType::DnsName("second.garden.example".try_into().unwrap()),
        SanType::URI("spiffe://garden/ann".try_into().unwrap()),
    ];
    let (certificate, _) = garden.sign(&params);
    let name = |kind| name_in(certificate.der(), kind);
    assert_eq!(name(ClientName::CommonName).as_deref(), Some("ann"));
    assert_eq!(name(ClientName::Subject).as_deref(), Some("CN=ann,O=Garden"));
    assert_eq!(name(ClientName::Dns).as_deref(), Some("host.garden.example"));
    assert_eq!(name(ClientName::Email).as_deref(), Some("ann@garden.example"));
    assert_eq!(name(ClientName::Uri).as_deref(), Some("spiffe://garden/ann"));
}

#[test]
fn names_that_cannot_be_a_users_are_none() {
    let garden = Garden::new();
    let common = |name: &str| {
        let (certificate, _) = garden.sign(&named(name));
        name_in(certificate.der(), ClientName::CommonName)
    };
    assert_eq!(common("<img onerror>").as_deref(), Some("<img onerror>"), "markup is only text");
    assert_eq!(common(""), None);
    assert_eq!(common("ann\0root"), None);
    assert_eq!(common("ann\r\n"), None);
    assert_eq!(common(&"a".repeat(256)), None);
    let (certificate, _) = garden.sign(&CertificateParams::default());
    assert_eq!(name_in(certificate.der(), ClientName::Dns), None);
    assert_eq!(name_in(&CertificateDer::from(vec![1, 2, 3]), ClientName::CommonName), None);
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), work).await }).unwrap()
}

/// A server's end and whatever the other end does.
async fn meet<T>(
    plan: &Plan,
    client: impl AsyncFnOnce(TcpStream) -> T,
) -> (Result<TlsStream, HandshakeFault>, T) {
    let acceptor = Acceptor::new(load(plan).unwrap().asking, Rc::new(Buffers::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        let (socket, _) = listener.accept().await.unwrap();
        acceptor.accept(socket).await
    };
    let client = async { client(TcpStream::connect(address).await.unwrap()).await };
    tokio::join!(server, client)
}

#[test]
fn bytes_come_out_as_they_went_in_also_when_nobody_reads_for_a_while() {
    let garden = Garden::new();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 4]).collect();
    run(async {
        let config = garden.client(None);
        let (server, client) =
            meet(&garden.plan(), async |socket| connect(socket, config, "localhost").await).await;
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        assert!(server.peer_certificate().is_none());
        let talk = async {
            server.write_all(&sent).await.unwrap();
            server.flush().await.unwrap();
            let mut back = vec![0; sent.len()];
            server.read_exact(&mut back).await.unwrap();
            assert!(back == sent);
            assert_eq!(server.read(&mut back).await.unwrap(), 0, "the end is heard");
        };
        let echo = async {
            let mut heard = vec![0; sent.len()];
            client.read_exact(&mut heard).await.unwrap();
            client.write_all(&heard).await.unwrap();
            client.shutdown().await.unwrap();
        };
        tokio::join!(talk, echo);
    });
}

#[test]
fn what_the_socket_does_not_take_stays_and_is_known_to_stay() {
    let garden = Garden::new();
    let piece = vec![7; 100_000];
    run(async {
        let config = garden.client(None);
        let (server, client) =
            meet(&garden.plan(), async |socket| connect(socket, config, "localhost").await).await;
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        let mut taken = 0;
        let refusal = loop {
            match server.try_write(&piece) {
                Ok(length) => taken += length,
                Err(error) => break error,
            }
        };
        assert_eq!(refusal.kind(), std::io::ErrorKind::WouldBlock);
        assert!(server.holds_output() && !server.try_flush().unwrap());
        server.close();
        let flush = async {
            while !server.try_flush().unwrap() {
                server.socket().writable().await.unwrap();
            }
            assert!(!server.holds_output());
        };
        let mut heard = Vec::new();
        let ((), read) = tokio::join!(flush, client.read_to_end(&mut heard));
        assert_eq!((read.unwrap(), heard.iter().all(|byte| *byte == 7)), (taken, true));
    });
}

#[test]
fn a_client_that_does_not_trust_the_server_leaves() {
    let (garden, other) = (Garden::new(), Garden::new());
    let (server, client) = run(async {
        let config = other.client(None);
        meet(&garden.plan(), async |socket| connect(socket, config, "localhost").await).await
    });
    assert!(matches!(server, Err(HandshakeFault::Failed(_))), "{server:?}");
    assert!(client.unwrap_err().to_string().contains("certificate"));
    let (_, client) = run(async {
        let config = garden.client(None);
        meet(&garden.plan(), async |socket| connect(socket, config, "other.example").await).await
    });
    assert!(client.is_err(), "the name is checked too");
}

#[test]
fn a_client_certificate_is_verified_by_its_whole_chain() {
    let (garden, other) = (Garden::new(), Garden::new());
    let asking = Plan {
        clients: Clients::Required,
        client_ca_file: Some(garden.path("ca.pem")),
        ..garden.plan()
    };
    let optional = Plan { clients: Clients::Optional, ..asking.clone() };
    let shake = |plan: &Plan, config: Arc<rustls::ClientConfig>| {
        let (server, _) = run(meet(plan, async |socket| {
            // With TLS 1.3 a client hears only later that it was refused.
            let mut stream = connect(socket, config, "localhost").await.unwrap();
            stream.shutdown().await.ok();
            stream
        }));
        assert!(matches!(server, Ok(_) | Err(HandshakeFault::Failed(_))), "{server:?}");
        server.map(|stream| {
            let certificate = stream.peer_certificate();
            certificate.and_then(|found| name_in(found, ClientName::CommonName))
        })
    };
    assert_eq!(shake(&asking, garden.client(Some(&named("ann")))).unwrap().unwrap(), "ann");
    assert_eq!(shake(&optional, garden.client(Some(&named("ann")))).unwrap().unwrap(), "ann");
    assert_eq!(shake(&optional, garden.client(None)).unwrap(), None);
    assert!(shake(&asking, garden.client(None)).is_err());
    // Signed by somebody else, although this client trusts our server.
    let (certificate, key) = other.sign(&named("ann"));
    let foreign = || {
        let roots = files::roots("authority", &garden.path("ca.pem")).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(files::provider());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain = vec![certificate.der().clone()];
        Arc::new(builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap())
    };
    assert!(shake(&asking, foreign()).is_err());
    assert!(shake(&optional, foreign()).is_err(), "optional does not mean unchecked");
    let mut expired = named("ann");
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    assert!(shake(&asking, garden.client(Some(&expired))).is_err());
}

#[test]
fn who_speaks_something_else_is_named_and_shown_out() {
    let garden = Garden::new();
    for words in [&b"AMQP\0\0\x09\x01"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 200]] {
        let (server, rest) = run(meet(&garden.plan(), async |mut socket: TcpStream| {
            socket.write_all(words).await.unwrap();
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.map(|_| rest)
        }));
        assert!(matches!(server, Err(HandshakeFault::Stranger(_))), "{server:?}");
        assert!(rest.unwrap().is_empty(), "and nothing is said, nothing torn");
    }
    let (server, ()) = run(meet(&garden.plan(), async |socket| drop(socket)));
    assert!(matches!(server, Err(HandshakeFault::Gone)), "{server:?}");
}

#[test]
fn a_handshake_that_never_ends_is_cut_by_its_size() {
    let garden = Garden::new();
    let (server, ()) = run(meet(&garden.plan(), async |mut socket: TcpStream| {
        // Records of a handshake message that announces 60,000 bytes.
        let mut record = vec![0x16, 3, 1, 0x10, 0, 1, 0, 0xea, 0x60];
        record.resize(5 + 0x1000, 0);
        while socket.write_all(&record).await.is_ok() {
            record[5..9].fill(0);
        }
    }));
    assert!(server.is_err());
}

#[test]
fn the_newest_version_can_be_demanded() {
    let garden = Garden::new();
    let plan = Plan { has_tls12: false, ..garden.plan() };
    let old = || {
        let roots = files::roots("authority", &garden.path("ca.pem")).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(files::provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    };
    let shake = |plan: &Plan| {
        run(meet(plan, async |socket| connect(socket, old(), "localhost").await.is_ok()))
    };
    let (server, client) = shake(&plan);
    assert!(server.is_err() && !client);
    let (server, client) = shake(&garden.plan());
    assert!(server.is_ok() && client);
}

#[test]
fn trusted_authorities_come_from_the_file() {
    let garden = Garden::new();
    assert!(client_config(Some(&garden.path("ca.pem"))).is_ok());
    let error = client_config(Some(Path::new("/nowhere.pem"))).unwrap_err().to_string();
    assert!(error.contains("/nowhere.pem"), "{error}");
}
