//! [`drive`]: the only loop that moves bytes between a socket, a door and the engine.
//!
//! Each pass: take what the engine released, write once, then wait for input, room, news or a
//! deadline; read once, let the door parse, submit. After a read the task goes to the back of the
//! line, so every ready connection is served before the turn's commit is cut.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use model::{Envelope, Output, Request, SessionId};
use tokio::time::Sleep;
use wire::{Close, Connection, OUTBOX_BYTES_MAX, Outbox, Peer, Service};

use crate::stream::{self, Stream};
use crate::{Buffers, Open};

/// A peer that takes no byte of a waiting output for so long is given up.
pub const WRITE_STALL_MAX: Duration = Duration::from_mins(1);
/// A one-way stream of small reads is read again only after this long: a server that is woken for
/// every write costs both sides a wake-up each. The runtime's timer makes a millisecond of it.
const REST: Duration = Duration::from_micros(500);
/// Reads that follow one another faster than this are a stream.
const STREAM_GAP: Duration = Duration::from_millis(2);
/// So many in a row make it rest.
const STREAM_READS: u8 = 16;
/// A peer with so many messages to work on does not miss us for that long.
const PLENTY: u64 = 100;
/// Larger reads are worth a wake-up of their own.
const SMALL_READ_BYTES: usize = 64 * 1024;
/// A timer that nobody waits for; it must not stay elapsed, or it would wake its task for ever.
const NEVER: Duration = Duration::from_hours(24);
/// How long a connection that ended may take to accept its last bytes.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// What all connections of one thread share.
#[derive(Debug)]
pub struct Drive<S> {
    /// The engine's side.
    pub service: Rc<S>,
    /// Lent buffers.
    pub buffers: Rc<Buffers>,
}

impl<S> Clone for Drive<S> {
    fn clone(&self) -> Self {
        Self { service: Rc::clone(&self.service), buffers: Rc::clone(&self.buffers) }
    }
}

/// What woke the loop.
enum Wake {
    /// This was read (lent from [`Buffers`]); empty is the end of input.
    Input(BytesMut),
    Writable,
    News,
    Deadline,
}

/// Wakes one connection's task from the same thread.
#[derive(Default)]
struct Bell {
    is_rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    fn ring(&self) {
        self.is_rung.set(true);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_rung.take() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        match waker.as_mut() {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

struct Line<T, C, S: Service> {
    shared: Drive<S>,
    stream: T,
    session: SessionId,
    connection: C,
    /// Input that is not a whole command yet, or that waits for room.
    input: BytesMut,
    out: Outbox,
    /// Input may hold whole commands that had no room.
    is_stalled: bool,
    /// The door was told something since it last looked at its input.
    has_news: bool,
    /// Since when waiting output has not moved.
    stuck_since: Option<Instant>,
    rhythm: Rhythm,
    /// Counts the connection while it lives.
    _open: Open,
}

/// Tells a one-way stream of small writes from everything else.
#[derive(Default)]
struct Rhythm {
    last_read: Option<Instant>,
    /// Small reads in quick succession that brought nothing else than one-way publishes.
    run: u8,
    /// Not read before then.
    rests_until: Option<Instant>,
}

impl Rhythm {
    /// Notes a read of so many bytes.
    fn note(&mut self, now: Instant, bytes: usize) {
        let is_quick = self.last_read.is_some_and(|last| now.duration_since(last) < STREAM_GAP);
        self.run =
            if is_quick && bytes < SMALL_READ_BYTES { self.run.saturating_add(1) } else { 0 };
        self.last_read = Some(now);
    }

    /// Whether it must not be read yet; forgets a rest that is over.
    fn is_resting(&mut self) -> bool {
        if self.rests_until.is_some_and(|until| until <= Instant::now()) {
            self.rests_until = None;
        }
        self.rests_until.is_some()
    }

    /// Notes what came of it: anything but publishes nobody waits for, or answers of a peer that
    /// has plenty of messages left, ends the stream.
    fn judge(&mut self, requests: &[Envelope], owed: u64) {
        let is_one_way = |envelope: &Envelope| {
            if let Request::Publish(publish) = &envelope.request {
                return !publish.options.wants_confirm;
            }
            matches!(envelope.request, Request::Ack { .. }) && owed >= PLENTY
        };
        if self.run > 0 && (requests.is_empty() || !requests.iter().all(is_one_way)) {
            self.run = 0;
        }
        if self.run >= STREAM_READS
            && let Some(last) = self.last_read
        {
            self.rests_until = Some(last + REST);
        }
    }
}

/// Serves one client until it goes or its door ends it; the result says why it ended.
///
/// Not an `async fn`, so that what it is given lies in the task once and not twice: there may be
/// many idle connections.
///
/// # Errors
/// What the socket says; the session is closed all the same.
pub fn drive<T: Stream, C: Connection, S: Service>(
    stream: T,
    connection: C,
    shared: Drive<S>,
    (peer, open): (Peer, Open),
) -> impl Future<Output = Result<Close, io::Error>> {
    let bell = Rc::new(Bell::default());
    let rope = Rc::clone(&bell);
    let (address, door) = (peer.address, peer.door);
    let session = shared.service.open(peer, Rc::new(move || rope.ring()));
    let mut line = Line {
        shared,
        stream,
        session,
        connection,
        input: BytesMut::new(),
        out: Outbox::new(),
        is_stalled: false,
        has_news: false,
        stuck_since: None,
        rhythm: Rhythm::default(),
        _open: open,
    };
    async move {
        let end = line.serve(&bell).await;
        line.shared.service.close(session);
        match &end {
            Ok(close) => {
                tracing::debug!(door, peer = %address, %close, "connection ended");
                // On the heap: every connection would keep room for it otherwise.
                Box::pin(line.farewell()).await;
            }
            Err(error) => tracing::debug!(door, peer = %address, %error, "connection lost"),
        }
        end
    }
}

impl<T: Stream, C: Connection, S: Service> Line<T, C, S> {
    async fn serve(&mut self, bell: &Bell) -> io::Result<Close> {
        let mut timer = pin!(tokio::time::sleep(NEVER));
        loop {
            if let Err(close) = self.pass()? {
                return Ok(close);
            }
            self.set_timer(timer.as_mut());
            let outcome = match self.wait(bell, timer.as_mut()).await? {
                Wake::Input(mut input) => {
                    let outcome = self.take_input(&mut input);
                    self.shared.buffers.give_input(input);
                    if outcome.is_ok() { self.after_input().await? } else { outcome }
                }
                Wake::Deadline => self.on_deadline(),
                Wake::Writable | Wake::News => Ok(()),
            };
            if let Err(close) = outcome {
                return Ok(close);
            }
        }
    }

    /// Sends what needs no commit, then lets the other connections have their turn.
    async fn after_input(&mut self) -> io::Result<Result<(), Close>> {
        let outcome = self.pass()?;
        if outcome.is_ok() {
            tokio::task::yield_now().await;
        }
        Ok(outcome)
    }

    /// Takes what the engine released, resumes input that waited for it, writes once.
    fn pass(&mut self) -> io::Result<Result<(), Close>> {
        loop {
            let gathered = self.gather();
            self.connection.on_batch_end(&mut self.out);
            self.submit();
            let is_full = !self.write()?;
            let more = match gathered {
                Ok(more) => more,
                Err(close) => return Ok(Err(close)),
            };
            if is_full {
                return Ok(Ok(()));
            }
            if self.may_resume() {
                if let Err(close) = self.resume_input() {
                    return Ok(Err(close));
                }
            } else if !more {
                return Ok(Ok(()));
            }
        }
    }

    /// Whether input that was left in the buffer may be worth another look: there was no room for
    /// it, or the door waited for an answer that has come.
    fn may_resume(&mut self) -> bool {
        let has_news = std::mem::take(&mut self.has_news);
        !self.input.is_empty() && (self.is_stalled || has_news)
    }

    /// Encodes what the engine released; nothing while the peer does not take what is there.
    fn gather(&mut self) -> Result<bool, Close> {
        if self.out.bytes.len() >= OUTBOX_BYTES_MAX {
            return Ok(true);
        }
        let Self { shared, session, connection, out, has_news, .. } = self;
        let now = Instant::now();
        shared.service.collect(*session, &mut |output| {
            shared.buffers.lend_output(&mut out.bytes);
            *has_news = true;
            match output {
                Output::Reply { channel, ticket, reply } => {
                    connection.on_reply(now, (channel, ticket), reply, out)?;
                }
                Output::Event(event) => connection.on_event(now, event, out)?,
            }
            Ok(out.bytes.len() < OUTBOX_BYTES_MAX)
        })
    }

    fn submit(&mut self) {
        if !self.out.requests.is_empty() {
            self.shared.service.submit(self.session, &mut self.out.requests);
        }
        self.shared.buffers.take_back_requests(&mut self.out.requests);
    }

    /// Writes as much as the socket takes; `true` when nothing is left.
    fn write(&mut self) -> io::Result<bool> {
        while !self.out.bytes.is_empty() {
            match self.stream.try_write(&self.out.bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.out.bytes.advance(written);
                    let now = Instant::now();
                    self.stuck_since = None;
                    self.connection.on_written(now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stuck_since.get_or_insert_with(Instant::now);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.shared.buffers.take_back_output(&mut self.out.bytes);
        if self.stream.holds_output() {
            if !self.stream.try_flush()? {
                self.stuck_since.get_or_insert_with(Instant::now);
                return Ok(false);
            }
            self.stuck_since = None;
        }
        Ok(true)
    }

    /// Lets the door parse what was read, behind what was left before.
    fn take_input(&mut self, scratch: &mut BytesMut) -> Result<(), Close> {
        if scratch.is_empty() {
            return Err(Close::Done);
        }
        self.shared.buffers.lend_output(&mut self.out.bytes);
        self.rhythm.note(Instant::now(), scratch.len());
        if self.input.is_empty() {
            let outcome = self.parse(scratch);
            self.input = BytesMut::from(&scratch[..]);
            return outcome;
        }
        self.input.extend_from_slice(scratch);
        self.resume_input()
    }

    fn resume_input(&mut self) -> Result<(), Close> {
        let mut input = std::mem::take(&mut self.input);
        let outcome = self.parse(&mut input);
        if !input.is_empty() {
            self.input = input;
        }
        outcome
    }

    fn parse(&mut self, input: &mut BytesMut) -> Result<(), Close> {
        self.shared.buffers.lend_requests(&mut self.out.requests);
        let outcome = self.connection.on_bytes(Instant::now(), input, &mut self.out);
        self.is_stalled = outcome.is_ok() && !self.out.has_room() && !input.is_empty();
        self.rhythm.judge(&self.out.requests, self.connection.owed());
        self.submit();
        outcome
    }

    fn may_read(&self) -> bool {
        !self.is_stalled && self.out.has_room() && !self.shared.service.is_paused(self.session)
    }

    async fn wait(&mut self, bell: &Bell, mut timer: Pin<&mut Sleep>) -> io::Result<Wake> {
        let is_resting = self.rhythm.is_resting();
        let may_read = self.may_read() && !is_resting;
        if !may_read {
            self.connection.on_held_back(Instant::now());
        }
        let Self { shared, stream, out, .. } = self;
        let wants_write = !out.bytes.is_empty() || stream.holds_output();
        poll_fn(|context| {
            if bell.poll(context).is_ready() {
                return Poll::Ready(Ok(Wake::News));
            }
            if wants_write && let Poll::Ready(ready) = stream.socket().poll_write_ready(context) {
                return Poll::Ready(ready.map(|()| Wake::Writable));
            }
            if may_read && let Poll::Ready(read) = poll_read(stream, context, &shared.buffers) {
                return Poll::Ready(read.map(Wake::Input));
            }
            timer.as_mut().poll(context).map(|()| Ok(Wake::Deadline))
        })
        .await
    }

    /// Moves the timer only when it would come too late: deadlines mostly move away.
    fn set_timer(&self, timer: Pin<&mut Sleep>) {
        let stall = self.stuck_since.map(|since| since + WRITE_STALL_MAX);
        let wanted = [self.connection.deadline(), stall, self.rhythm.rests_until];
        let wanted = wanted.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + NEVER);
        let wanted = tokio::time::Instant::from_std(wanted);
        if timer.is_elapsed() || wanted < timer.deadline() {
            timer.reset(wanted);
        }
    }

    fn on_deadline(&mut self) -> Result<(), Close> {
        let now = Instant::now();
        if self.stuck_since.is_some_and(|since| now >= since + WRITE_STALL_MAX) {
            let silence = u64::try_from(WRITE_STALL_MAX.as_millis()).unwrap_or(u64::MAX);
            return Err(Close::Silence(silence));
        }
        if self.connection.deadline().is_some_and(|deadline| deadline <= now) {
            self.shared.buffers.lend_output(&mut self.out.bytes);
            self.connection.on_deadline(now, &mut self.out)?;
        }
        Ok(())
    }

    /// Sends last words, says that no more will come, and takes what the peer still sends: closing
    /// a socket with unread input would tear the last words away from the peer. Bounded in time.
    async fn farewell(&mut self) {
        let last_words = async {
            while !self.write()? {
                self.stream.socket().writable().await?;
            }
            self.stream.close();
            while !self.stream.try_flush()? {
                self.stream.socket().writable().await?;
            }
            stream::linger(self.stream.socket()).await
        };
        if let Ok(Err(error)) = tokio::time::timeout(FAREWELL_MAX, last_words).await {
            tracing::debug!(%error, "the peer did not hear the last words");
        }
    }
}

/// Reads once into a lent buffer, which goes straight back when there was nothing to read.
fn poll_read<T: Stream>(
    stream: &mut T,
    context: &mut Context<'_>,
    buffers: &Buffers,
) -> Poll<io::Result<BytesMut>> {
    let mut input = buffers.take_input();
    match stream.poll_read(context, buffers, &mut input) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(input)),
        Poll::Ready(Err(error)) => {
            buffers.give_input(input);
            Poll::Ready(Err(error))
        }
        Poll::Pending => {
            buffers.give_input(input);
            Poll::Pending
        }
    }
}
