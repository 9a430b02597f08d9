//! [`Doors`]: binds the addresses and puts a protocol behind each. What new connections are told is
//! in [`Terms`], so that it can change while the doors stay open.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use config::{ClientCertificates, Endpoint, Http, Identity, Settings};
use net::{Door, Drive, SocketFile};
use proto_amqp::{Connection, Options};
use tokio::task::JoinHandle;
use wire::Peer;

use super::tls::Tls;
use super::{Desk, Server, beanstalk, random};
use crate::http::{self, HttpState};

/// The doors that listen.
pub(super) struct Doors {
    /// Door name and where it listens.
    pub(super) addresses: Vec<(&'static str, Endpoint)>,
    /// The doors that have to say goodbye before the server ends.
    pub(super) leaving: Vec<Leaving>,
    terms: Rc<Terms>,
}

/// What it takes to empty a door.
pub(super) struct Leaving {
    /// Ending it lets nobody in any more.
    pub(super) accepting: JoinHandle<()>,
    /// Connections that are still open.
    pub(super) open_count: Rc<Cell<usize>>,
}

/// An address or a socket file cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CannotListen(String);

/// What new connections are told.
pub(super) struct Terms {
    plain: RefCell<Arc<Options>>,
    tls: RefCell<Arc<Options>>,
    pub(super) beanstalk: RefCell<Arc<proto_beanstalk::Options>>,
}

impl Terms {
    fn new(settings: &Settings) -> Self {
        let (plain, tls) = options(settings);
        let beanstalk = RefCell::new(beanstalk::options(settings));
        Self { plain: RefCell::new(plain), tls: RefCell::new(tls), beanstalk }
    }

    /// For connections from now on.
    pub(super) fn replace(&self, settings: &Settings) {
        let (plain, tls) = options(settings);
        self.plain.replace(plain);
        self.tls.replace(tls);
        self.beanstalk.replace(beanstalk::options(settings));
    }
}

/// Of AMQP connections without and with TLS.
fn options(settings: &Settings) -> (Arc<Options>, Arc<Options>) {
    let plain = Options {
        identity: match settings.amqp.identity {
            Identity::Potager => proto_amqp::Identity::Potager,
            Identity::RabbitMq => proto_amqp::Identity::RabbitMq,
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        channel_max: settings.amqp.channels_max,
        frame_max: settings.amqp.frame_bytes_max,
        heartbeat_s: settings.amqp.heartbeat_s,
        limits: settings.limits,
        takes_remote_passwords: settings.auth.takes_plaintext_passwords,
        ..Options::default()
    };
    let tls = Options {
        takes_remote_passwords: true,
        asks_certificates: settings.tls.client_certificates != ClientCertificates::Off,
        ..plain.clone()
    };
    (Arc::new(plain), Arc::new(tls))
}

impl Doors {
    pub(super) fn open(
        settings: &Settings,
        desk: &Desk,
        tls: Option<&Rc<Tls>>,
        files_max: usize,
    ) -> anyhow::Result<Self> {
        let terms = Rc::new(Terms::new(settings));
        let mut doors = Self { addresses: Vec::new(), leaving: Vec::new(), terms };
        let connections_max = files_max.saturating_mul(8) / 10;
        if let Some(address) = settings.amqp.listen {
            let door = doors.bind("amqp", "--amqp", address)?;
            let open_count = door.open_count();
            let entrance = Entrance::new(desk, &doors.terms)?;
            let accepting = serve_amqp(entrance, door, connections_max);
            doors.leaving.push(Leaving { accepting, open_count });
            warn_of_plaintext(settings, address);
        }
        if let (Some(address), Some(tls)) = (settings.amqps(), tls) {
            let door = doors.bind("amqps", "--amqps", address)?;
            let open_count = door.open_count();
            let entrance = Entrance::new(desk, &doors.terms)?;
            let accepting = serve_amqps(entrance, Rc::clone(tls), door, connections_max);
            doors.leaving.push(Leaving { accepting, open_count });
        }
        doors.open_beanstalk(settings, desk, tls, connections_max)?;
        if let Some(address) = settings.http.listen {
            let door = doors.bind("http", "--http", address)?;
            serve_http(settings, desk, door, connections_max);
        }
        if let (Some(address), Some(tls)) = (settings.https(), tls) {
            let door = doors.bind("https", "--https", address)?;
            // Its own address decides which names it answers to.
            let http = Http { listen: Some(address), ..settings.http.clone() };
            let settings = Settings { http, ..settings.clone() };
            serve_https(&settings, desk, Rc::clone(tls), (door, connections_max));
        }
        Ok(doors)
    }

    fn open_beanstalk(
        &mut self,
        settings: &Settings,
        desk: &Desk,
        tls: Option<&Rc<Tls>>,
        connections_max: usize,
    ) -> anyhow::Result<()> {
        let entrance = Rc::new(beanstalk::Entrance::new(settings, desk, &self.terms)?);
        match &settings.beanstalk.listen {
            Endpoint::Off => {}
            Endpoint::At(address) => {
                let door = self.bind("beanstalk", "--beanstalk", *address)?;
                let open_count = door.open_count();
                let accepting = entrance.serve(door, connections_max);
                self.leaving.push(Leaving { accepting, open_count });
                beanstalk::warn_of_openness(settings, *address);
            }
            Endpoint::File(path) => {
                let door = self.bind_file("beanstalk", "--beanstalk", path)?;
                let open_count = door.open_count();
                let accepting = entrance.serve(door, connections_max);
                self.leaving.push(Leaving { accepting, open_count });
            }
        }
        if let (Some(address), Some(tls)) = (settings.beanstalks(), tls) {
            let door = self.bind("beanstalks", "--beanstalks", address)?;
            let open_count = door.open_count();
            let accepting = entrance.serve_tls(Rc::clone(tls), door, connections_max);
            self.leaving.push(Leaving { accepting, open_count });
            beanstalk::warn_of_openness(settings, address);
        }
        Ok(())
    }

    fn bind(
        &mut self,
        name: &'static str,
        flag: &str,
        address: SocketAddr,
    ) -> anyhow::Result<Door> {
        let door = net::listen(address).with_context(|| {
            CannotListen(format!(
                "could not listen on {address} for {name}; another server may use the port: stop \
                 it, or choose another address with {flag}"
            ))
        })?;
        self.addresses.push((name, Endpoint::At(door.address()?)));
        Ok(door)
    }

    fn bind_file(
        &mut self,
        name: &'static str,
        flag: &str,
        path: &Path,
    ) -> anyhow::Result<Door<SocketFile>> {
        let door = net::listen_at_file(path).with_context(|| {
            CannotListen(format!(
                "could not listen at {} for {name}; another server or another file may be there: \
                 remove it, or choose another place with {flag}",
                path.display()
            ))
        })?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.addresses.push((name, Endpoint::File(path)));
        Ok(door)
    }

    /// What new connections are told.
    pub(super) fn terms(&self) -> Rc<Terms> {
        Rc::clone(&self.terms)
    }

    /// Writes the ready file, whole or not at all.
    pub(super) fn announce(&self, settings: &Settings) -> anyhow::Result<()> {
        let Some(path) = &settings.ready_file else { return Ok(()) };
        let json: serde_json::Map<String, serde_json::Value> = self
            .addresses
            .iter()
            .map(|(door, address)| ((*door).to_owned(), address.to_string().into()))
            .collect();
        write_whole(path, &serde_json::to_vec(&json)?)
            .with_context(|| format!("could not write the ready file {}", path.display()))
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}

fn warn_of_plaintext(settings: &Settings, address: SocketAddr) {
    if !address.ip().to_canonical().is_loopback() && settings.auth.takes_plaintext_passwords {
        tracing::warn!(
            %address,
            "passwords from other machines arrive here unencrypted; open --amqps and set \
             auth.plaintext_passwords to tls_only"
        );
    }
}

/// What every new AMQP connection needs.
struct Entrance {
    terms: Rc<Terms>,
    shared: Drive<Server>,
    nonce: RefCell<replica::Entropy>,
}

impl Entrance {
    fn new(desk: &Desk, terms: &Rc<Terms>) -> anyhow::Result<Self> {
        let service = desk.server_rc();
        let shared = Drive { buffers: Rc::clone(&service.buffers), service };
        let nonce = RefCell::new(random::source()?);
        Ok(Self { terms: Rc::clone(terms), shared, nonce })
    }

    fn connection(&self, options: &RefCell<Arc<Options>>, address: SocketAddr) -> Connection {
        let is_loopback = address.ip().to_canonical().is_loopback();
        let nonce = (*self.nonce.borrow_mut())();
        Connection::new(Arc::clone(&options.borrow()), is_loopback, nonce, Instant::now())
    }
}

fn serve_amqp(entrance: Entrance, door: Door, connections_max: usize) -> JoinHandle<()> {
    tokio::task::spawn_local(net::run(door, connections_max, move |stream, address, open| {
        let connection = entrance.connection(&entrance.terms.plain, address);
        let peer = Peer { address, door: "amqp" };
        net::drive(stream, connection, entrance.shared.clone(), (peer, open))
    }))
}

fn serve_amqps(
    entrance: Entrance,
    tls: Rc<Tls>,
    door: Door,
    connections_max: usize,
) -> JoinHandle<()> {
    let entrance = Rc::new(entrance);
    tokio::task::spawn_local(net::run(door, connections_max, move |stream, address, open| {
        let (entrance, tls) = (Rc::clone(&entrance), Rc::clone(&tls));
        async move {
            let Some(stream) = tls.welcome_client(stream, address).await else { return };
            let mut connection = entrance.connection(&entrance.terms.tls, address);
            if let Some(name) = tls.user_in(&stream) {
                connection = connection.with_certificate_name(Bytes::from(name));
            }
            let peer = Peer { address, door: "amqps" };
            let drive = net::drive(stream, connection, entrance.shared.clone(), (peer, open));
            drop((entrance, tls));
            // Why it ended stands in the log already.
            drive.await.ok();
        }
    }))
}

fn serve_http(settings: &Settings, desk: &Desk, door: Door, connections_max: usize) {
    let state = Rc::new(HttpState::new(desk.clone(), settings));
    let handler = Rc::new(move |request, peer| http::handle(Rc::clone(&state), request, peer));
    tokio::task::spawn_local(net::run(door, connections_max, move |stream, address, open| {
        let work = net::http::serve(stream, address, Rc::clone(&handler));
        async move {
            let _open = open;
            work.await;
        }
    }));
}

fn serve_https(settings: &Settings, desk: &Desk, tls: Rc<Tls>, (door, max): (Door, usize)) {
    let state = Rc::new(HttpState::new(desk.clone(), settings));
    let handler = Rc::new(move |request, peer| http::handle(Rc::clone(&state), request, peer));
    tokio::task::spawn_local(net::run(door, max, move |stream, address, open| {
        let (handler, tls) = (Rc::clone(&handler), Rc::clone(&tls));
        async move {
            let _open = open;
            if let Some(stream) = tls.welcome_anybody(stream, address).await {
                net::http::serve(stream, address, handler).await;
            }
        }
    }));
}
