//! The beanstalk door as this server opens it: in whose name its clients act, what they are told
//! about the process, and the signal that lets no new jobs in. The protocol is `proto_beanstalk`'s.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use config::{Durability, Settings};
use model::{Envelope, Output, SessionId};
use net::{Door, Drive, Listener, Stream};
use proto_beanstalk::{Connection, Counted, Host, HostFacts, Options};
use replica::Actor;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use wire::{Close, Peer, Service};

use super::doors::Terms;
use super::tls::Tls;
use super::{Desk, Server, random};

/// What new connections are told.
pub(super) fn options(settings: &Settings) -> Arc<Options> {
    Arc::new(Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        job_bytes_max: settings.beanstalk.job_bytes_max,
        needs_login: settings.beanstalk.needs_login,
        vhost: Bytes::copy_from_slice(settings.beanstalk.vhost.as_bytes()),
    })
}

/// The server as these clients meet it: a session begins in somebody's name.
pub(super) struct Desks {
    server: Rc<Server>,
    actor: Actor,
}

impl Service for Desks {
    fn open(&self, peer: Peer, wake: Rc<dyn Fn()>) -> SessionId {
        self.server.open_as(self.actor.clone(), &peer, wake)
    }

    fn submit(&self, session: SessionId, batch: &mut Vec<Envelope>) {
        self.server.submit(session, batch);
    }

    fn collect(
        &self,
        session: SessionId,
        sink: &mut dyn FnMut(Output<'_>) -> Result<bool, Close>,
    ) -> Result<bool, Close> {
        self.server.collect(session, sink)
    }

    fn is_paused(&self, session: SessionId) -> bool {
        self.server.is_paused(session)
    }

    fn close(&self, session: SessionId) {
        self.server.close(session);
    }
}

/// What every new connection needs; one for all listeners of the door.
pub(super) struct Entrance {
    terms: Rc<Terms>,
    process: Rc<Process>,
    shared: Drive<Desks>,
}

impl Entrance {
    pub(super) fn new(settings: &Settings, desk: &Desk, terms: &Rc<Terms>) -> anyhow::Result<Self> {
        let server = desk.server_rc();
        let actor = if settings.beanstalk.needs_login {
            Actor::Stranger
        } else {
            Actor::User(Bytes::copy_from_slice(settings.beanstalk.user.as_bytes()))
        };
        let process = Rc::new(Process::new(settings, Rc::clone(&server))?);
        let buffers = Rc::clone(&server.buffers);
        let shared = Drive { service: Rc::new(Desks { server, actor }), buffers };
        Ok(Self { terms: Rc::clone(terms), process, shared })
    }

    fn connection(&self, address: SocketAddr) -> Connection {
        let is_loopback = address.ip().to_canonical().is_loopback();
        self.process.connections_total.set(self.process.connections_total.get() + 1);
        let host: Rc<dyn Host> = Rc::<Process>::clone(&self.process);
        Connection::new(Arc::clone(&self.terms.beanstalk.borrow()), host, is_loopback)
    }

    /// Lets clients in through one more listener.
    pub(super) fn serve<L>(self: &Rc<Self>, door: Door<L>, connections_max: usize) -> JoinHandle<()>
    where
        L: Listener + 'static,
        L::Stream: Stream + 'static,
    {
        let entrance = Rc::clone(self);
        entrance.process.listeners.borrow_mut().push(door.open_count());
        tokio::task::spawn_local(net::run(door, connections_max, move |stream, address, open| {
            let connection = entrance.connection(address);
            let peer = Peer { address, door: "beanstalk" };
            net::drive(stream, connection, entrance.shared.clone(), (peer, open))
        }))
    }

    /// The same over TLS.
    pub(super) fn serve_tls(
        self: &Rc<Self>,
        tls: Rc<Tls>,
        door: Door,
        connections_max: usize,
    ) -> JoinHandle<()> {
        let entrance = Rc::clone(self);
        entrance.process.listeners.borrow_mut().push(door.open_count());
        tokio::task::spawn_local(net::run(door, connections_max, move |stream, address, open| {
            let (entrance, tls) = (Rc::clone(&entrance), Rc::clone(&tls));
            async move {
                let Some(stream) = tls.welcome_anybody(stream, address).await else { return };
                let connection = entrance.connection(address);
                let peer = Peer { address, door: "beanstalks" };
                let drive = net::drive(stream, connection, entrance.shared.clone(), (peer, open));
                drop((entrance, tls));
                // Why it ended stands in the log already.
                drive.await.ok();
            }
        }))
    }
}

/// Says in the log that everybody who can reach the address may work with jobs.
pub(super) fn warn_of_openness(settings: &Settings, address: SocketAddr) {
    if !address.ip().to_canonical().is_loopback() && !settings.beanstalk.needs_login {
        tracing::warn!(
            %address,
            "whoever reaches the beanstalk door may put and take jobs; close it to other machines, \
             or set beanstalk.login to required"
        );
    }
}

/// SIGUSR1 lets no new jobs in, for good. Source: `beanstalkd(1)`, "SIGNALS".
pub(super) fn drain_on_signal(server: Rc<Server>) -> anyhow::Result<()> {
    let mut wanted = signal(SignalKind::user_defined1())?;
    tokio::task::spawn_local(async move {
        while wanted.recv().await.is_some() {
            server.is_draining.set(true);
            tracing::info!("draining: beanstalk clients may put no more jobs");
        }
    });
    Ok(())
}

/// The process as `stats` describes it.
struct Process {
    server: Rc<Server>,
    started: Instant,
    id: String,
    log_segment_bytes: u64,
    /// Live counts of open connections.
    listeners: RefCell<Vec<Rc<Cell<usize>>>>,
    connections_total: Cell<u64>,
    counted: [Cell<u64>; 3],
}

impl Process {
    fn new(settings: &Settings, server: Rc<Server>) -> anyhow::Result<Self> {
        let has_log = settings.durability != Durability::Memory;
        Ok(Self {
            server,
            started: Instant::now(),
            id: format!("{:016x}", random::source()?()),
            log_segment_bytes: if has_log { settings.log.segment_bytes } else { 0 },
            listeners: RefCell::default(),
            connections_total: Cell::default(),
            counted: Default::default(),
        })
    }

    fn tally(&self, what: Counted) -> &Cell<u64> {
        let [puts, used, watched] = &self.counted;
        match what {
            Counted::RefusedPut => puts,
            Counted::ListTubeUsed => used,
            Counted::ListTubesWatched => watched,
        }
    }
}

/// Asked from within `Server::collect`: nothing here may look at the node.
impl Host for Process {
    fn facts(&self) -> HostFacts {
        let log = self.server.log.get();
        let (user_time, system_time) = processor_time();
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let open = self.listeners.borrow().iter().map(|count| count.get()).sum::<usize>();
        let current = log.written_bytes.checked_div(self.log_segment_bytes).map_or(0, |n| n + 1);
        HostFacts {
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            user_time,
            system_time,
            connections: u64::try_from(open).unwrap_or(u64::MAX),
            connections_total: self.connections_total.get(),
            log_oldest: current.min(1).max(current.saturating_sub(log.segments)),
            log_current: current,
            log_segment_bytes: self.log_segment_bytes,
            records_moved: log.compactions,
            records_written: log.blocks,
            id: self.id.clone(),
            hostname: text(system.nodename()),
            os: text(system.version()),
            platform: text(system.machine()),
        }
    }

    fn is_draining(&self) -> bool {
        self.server.is_draining.get()
    }

    fn count(&self, what: Counted) {
        let tally = self.tally(what);
        tally.set(tally.get() + 1);
    }

    fn counted(&self, what: Counted) -> u64 {
        self.tally(what).get()
    }
}

/// Of this process, in itself and in the system; zero where that is not told.
/// Source: Linux, `proc_pid_stat(5)`, fields 14 and 15.
fn processor_time() -> (Duration, Duration) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = behind_name.split_whitespace().skip(11);
    let per_s = rustix::param::clock_ticks_per_second().max(1);
    let mut next = || {
        let ticks: u64 = fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
        Duration::from_millis(ticks.saturating_mul(1000) / per_s)
    };
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time() {
        while processor_time() == (Duration::ZERO, Duration::ZERO) {
            std::hint::black_box(std::fs::read_to_string("/proc/self/stat").ok());
        }
    }

    #[test]
    fn a_client_without_login_is_told_the_settings() {
        let mut settings = Settings::default();
        settings.beanstalk.job_bytes_max = 7;
        settings.beanstalk.vhost = "jobs".into();
        let told = options(&settings);
        assert_eq!((told.job_bytes_max, told.needs_login), (7, false));
        assert_eq!(told.vhost, "jobs");
        settings.beanstalk.needs_login = true;
        assert!(options(&settings).needs_login);
    }
}
