//! Tests of the loop over real sockets of this machine: a door that takes one command at a time,
//! and a service that answers when the test says so.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use model::{Event, Reply, Request, Ticket};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, LocalSet};

use super::*;
use crate::{listen, listen_at_file, run};

const PATIENCE: Duration = Duration::from_secs(20);
/// The door is content with so many bytes that it cannot use yet.
const HELD_MAX: usize = 8;

/// Lines: each is asked of the engine, the next one when that is answered.
#[derive(Default)]
struct Lines {
    is_asking: bool,
    is_over: bool,
    ends_at_once: bool,
    /// So often it asks again before it says yes.
    asks_again: usize,
}

impl Lines {
    fn end(&self, input: &[u8]) -> Result<(), Close> {
        let is_idle = self.is_over && !self.is_asking && !input.contains(&b'\n');
        if is_idle { Err(Close::Done) } else { Ok(()) }
    }
}

impl Connection for Lines {
    fn on_open(&mut self, _: Instant, out: &mut Outbox) {
        out.bytes.extend_from_slice(b"hello\n");
    }

    fn on_bytes(
        &mut self,
        _: Instant,
        input: &mut BytesMut,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        if !self.is_asking
            && let Some(end) = input.iter().position(|byte| *byte == b'\n')
        {
            input.advance(end + 1);
            self.is_asking = true;
            out.submit(0, Ticket(1), Request::Echo);
        }
        self.end(input)
    }

    fn on_reply(
        &mut self,
        _: Instant,
        _: (u16, Ticket),
        _: Reply,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        if self.asks_again > 0 {
            self.asks_again -= 1;
            out.submit(0, Ticket(1), Request::Echo);
            return Ok(());
        }
        self.is_asking = false;
        out.bytes.extend_from_slice(b"yes\n");
        Ok(())
    }

    fn on_event(&mut self, _: Instant, _: Event<'_>, _: &mut Outbox) -> Result<(), Close> {
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn on_deadline(&mut self, _: Instant, _: &mut Outbox) -> Result<(), Close> {
        Ok(())
    }

    fn on_end_of_input(&mut self, _: Instant, _: &mut Outbox) -> Result<(), Close> {
        self.is_over = true;
        if self.ends_at_once || !self.is_asking { Err(Close::Done) } else { Ok(()) }
    }

    fn wants_input(&self, held_bytes: usize) -> bool {
        held_bytes < HELD_MAX
    }
}

/// Answers when it is told to, or at once.
#[derive(Default)]
struct Script {
    is_prompt: Cell<bool>,
    asked: Cell<usize>,
    answers: RefCell<VecDeque<Ticket>>,
    waiting: RefCell<VecDeque<Ticket>>,
    wake: RefCell<Option<Rc<dyn Fn()>>>,
    is_closed: Cell<bool>,
}

impl Script {
    fn answer(&self) {
        let ticket = self.waiting.borrow_mut().pop_front().unwrap();
        self.answers.borrow_mut().push_back(ticket);
        self.wake.borrow().as_ref().unwrap()();
    }

    /// Until so many questions were asked in all.
    async fn await_asked(&self, count: usize) {
        wait_for(|| self.asked.get() == count).await;
    }
}

async fn wait_for(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

impl Service for Script {
    fn open(&self, _: Peer, wake: Rc<dyn Fn()>) -> SessionId {
        self.wake.replace(Some(wake));
        SessionId(1)
    }

    fn submit(&self, _: SessionId, batch: &mut Vec<model::Envelope>) {
        for envelope in batch.drain(..) {
            self.asked.set(self.asked.get() + 1);
            let queue = if self.is_prompt.get() { &self.answers } else { &self.waiting };
            queue.borrow_mut().push_back(envelope.ticket);
        }
    }

    fn collect(
        &self,
        _: SessionId,
        sink: &mut dyn FnMut(Output<'_>) -> Result<bool, Close>,
    ) -> Result<bool, Close> {
        while let Some(ticket) = self.answers.borrow_mut().pop_front() {
            let reply = Reply::Done;
            if !sink(Output::Reply { channel: 0, ticket, reply })? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_paused(&self, _: SessionId) -> bool {
        false
    }

    fn close(&self, _: SessionId) {
        self.is_closed.set(true);
    }
}

/// A connection that is driven.
struct Driven {
    client: TcpStream,
    service: Rc<Script>,
    end: JoinHandle<Result<Close, io::Error>>,
}

impl Driven {
    async fn new(connection: Lines) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let service = Rc::new(Script::default());
        let shared = Drive { service: Rc::clone(&service), buffers: Rc::default() };
        let peer = (Peer { address, door: "lines" }, Open::new(&Rc::default()));
        let end = tokio::task::spawn_local(drive(stream, connection, shared, peer));
        Self { client, service, end }
    }

    async fn expect(&mut self, text: &str) {
        let mut bytes = vec![0; text.len()];
        let read = self.client.read_exact(&mut bytes);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    async fn end(self) -> Result<Close, io::Error> {
        tokio::time::timeout(PATIENCE, self.end).await.unwrap().unwrap()
    }
}

fn in_one_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_door_speaks_first_when_it_is_opened() {
    in_one_thread(async {
        let mut driven = Driven::new(Lines::default()).await;
        driven.expect("hello\n").await;
    });
}

#[test]
fn an_end_of_input_ends_a_door_that_owes_nothing() {
    in_one_thread(async {
        let mut driven = Driven::new(Lines::default()).await;
        driven.client.shutdown().await.unwrap();
        assert_eq!(driven.end().await.unwrap(), Close::Done);
        let at_once = Lines { ends_at_once: true, ..Lines::default() };
        let mut driven = Driven::new(at_once).await;
        driven.client.write_all(b"a\n").await.unwrap();
        driven.service.await_asked(1).await;
        driven.client.shutdown().await.unwrap();
        let service = Rc::clone(&driven.service);
        assert_eq!(driven.end().await.unwrap(), Close::Done);
        assert!(service.is_closed.get());
    });
}

#[test]
fn after_the_end_of_input_what_was_asked_is_still_answered() {
    in_one_thread(async {
        let mut driven = Driven::new(Lines::default()).await;
        driven.client.write_all(b"a\nb\nc\nrest").await.unwrap();
        driven.client.shutdown().await.unwrap();
        driven.expect("hello\n").await;
        for asked in 1..=3 {
            driven.service.await_asked(asked).await;
            driven.service.answer();
            driven.expect("yes\n").await;
        }
        assert_eq!(driven.end().await.unwrap(), Close::Done);
    });
}

#[test]
fn what_a_door_asks_when_it_is_answered_is_collected_without_a_ring() {
    in_one_thread(async {
        let mut driven = Driven::new(Lines { asks_again: 5, ..Lines::default() }).await;
        driven.service.is_prompt.set(true);
        driven.expect("hello\n").await;
        driven.client.write_all(b"a\n").await.unwrap();
        driven.expect("yes\n").await;
        assert_eq!(driven.service.asked.get(), 6);
    });
}

#[test]
fn a_reset_after_the_end_of_input_is_noticed() {
    in_one_thread(async {
        let mut driven = Driven::new(Lines::default()).await;
        driven.expect("hello\n").await;
        driven.client.write_all(b"a\n").await.unwrap();
        driven.client.shutdown().await.unwrap();
        driven.service.await_asked(1).await;
        SockRef::from(&driven.client).set_linger(Some(Duration::ZERO)).unwrap();
        let Driven { client, service, end } = driven;
        drop(client);
        let outcome = tokio::time::timeout(PATIENCE, end).await.unwrap().unwrap();
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(service.is_closed.get());
    });
}

#[test]
fn a_door_that_has_enough_is_given_no_more_and_gets_on_later() {
    in_one_thread(async {
        let mut driven = Driven::new(Lines::default()).await;
        driven.expect("hello\n").await;
        driven.client.write_all(b"1\n2\n3\n4\n5\n").await.unwrap();
        driven.service.await_asked(1).await;
        // The door holds 8 bytes now: it is read again only when there are fewer.
        driven.client.write_all(b"6\n").await.unwrap();
        for asked in 1..=6 {
            driven.service.await_asked(asked).await;
            driven.service.answer();
            driven.expect("yes\n").await;
        }
        driven.client.shutdown().await.unwrap();
        assert_eq!(driven.end().await.unwrap(), Close::Done);
    });
}

#[test]
fn a_reset_is_noticed_while_nothing_is_read() {
    in_one_thread(async {
        let mut driven = Driven::new(Lines::default()).await;
        driven.expect("hello\n").await;
        driven.client.write_all(b"1\n2\n3\n4\n5\n6\n").await.unwrap();
        driven.service.await_asked(1).await;
        SockRef::from(&driven.client).set_linger(Some(Duration::ZERO)).unwrap();
        let Driven { client, service, end } = driven;
        drop(client);
        assert!(tokio::time::timeout(PATIENCE, end).await.unwrap().unwrap().is_err());
        assert!(service.is_closed.get());
    });
}

/// A server of [`Lines`] at a socket file.
fn serve_file(path: &std::path::Path) -> io::Result<(Rc<Script>, JoinHandle<()>)> {
    let door = listen_at_file(path)?;
    let service = Rc::new(Script::default());
    let shared = Drive { service: Rc::clone(&service), buffers: Rc::default() };
    let serving = tokio::task::spawn_local(run(door, 10, move |stream, address, open| {
        assert!(address.ip().is_loopback());
        drive(stream, Lines::default(), shared.clone(), (Peer { address, door: "lines" }, open))
    }));
    Ok((service, serving))
}

fn file_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("door.socket")
}

#[test]
fn a_socket_file_leads_through_the_same_loop_and_goes_with_its_server() {
    in_one_thread(async {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(&folder);
        let (service, serving) = serve_file(&path).unwrap();
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"a\n").await.unwrap();
        client.shutdown().await.unwrap();
        service.await_asked(1).await;
        service.answer();
        let mut text = String::new();
        let read = client.read_to_string(&mut text);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert_eq!(text, "hello\nyes\n");
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        assert!(!path.exists());
    });
}

#[test]
fn only_the_socket_file_of_a_dead_server_is_replaced() {
    in_one_thread(async {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(&folder);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "nobody removed it");
        let (_, serving) = serve_file(&path).unwrap();
        let taken = serve_file(&path).err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        // Another server's file is left alone.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        serving.abort();
        serving.await.unwrap_err();
        assert!(path.exists());
        let taken = serve_file(&path).err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    });
}

#[test]
fn ports_and_files_are_bound_alike() {
    in_one_thread(async {
        let door = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert_ne!(door.address().unwrap().port(), 0);
        assert_eq!(door.open_count().get(), 0);
        assert!(listen(door.address().unwrap()).is_err());
    });
}
