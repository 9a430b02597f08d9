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
use model::{Output, SessionId};
use tokio::io::Interest;
use tokio::time::Sleep;
use wire::{Close, Connection, OUTBOX_BYTES_MAX, Outbox, Peer, Service};

use crate::rhythm::Rhythm;
use crate::stream::{self, Socket, Stream};
use crate::{Buffers, Open};

#[cfg(test)]
mod tests;

/// A peer that takes no byte of a waiting output for so long is given up.
pub const WRITE_STALL_MAX: Duration = Duration::from_mins(1);
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
    /// The peer sends no more; it may still read.
    is_over: bool,
    /// Since when waiting output has not moved.
    stuck_since: Option<Instant>,
    rhythm: Rhythm,
    /// Counts the connection while it lives.
    _open: Open,
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
        is_over: false,
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
        self.open();
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

    /// Lets the door ask what it asks before anything else.
    fn open(&mut self) {
        self.shared.buffers.lend_requests(&mut self.out.requests);
        self.connection.on_open(Instant::now(), &mut self.out);
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
            let has_asked = self.submit();
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
            } else if !more && !has_asked {
                return Ok(Ok(()));
            }
        }
    }

    /// Whether input that was left in the buffer may be worth another look: there was no room for
    /// it, or the door waited for an answer that has come. After the end of input also an empty
    /// buffer is shown: the door may have waited for that to be able to end.
    fn may_resume(&mut self) -> bool {
        let has_news = std::mem::take(&mut self.has_news);
        (self.is_over || !self.input.is_empty()) && (self.is_stalled || has_news)
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

    /// Whether there was anything: it may be answered at once, and nobody rings for that.
    fn submit(&mut self) -> bool {
        let has_asked = !self.out.requests.is_empty();
        if has_asked {
            self.shared.service.submit(self.session, &mut self.out.requests);
        }
        self.shared.buffers.take_back_requests(&mut self.out.requests);
        has_asked
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
            return self.end_input();
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

    /// The door decides whether anything is still owed; what it left in the buffer stays there.
    fn end_input(&mut self) -> Result<(), Close> {
        self.is_over = true;
        self.shared.buffers.lend_output(&mut self.out.bytes);
        self.shared.buffers.lend_requests(&mut self.out.requests);
        let outcome = self.connection.on_end_of_input(Instant::now(), &mut self.out);
        self.submit();
        outcome
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

    /// Whether nothing will be read before the door has got on: a peer that goes is not seen then.
    fn is_deaf(&self) -> bool {
        self.is_over || !self.connection.wants_input(self.input.len())
    }

    async fn wait(&mut self, bell: &Bell, mut timer: Pin<&mut Sleep>) -> io::Result<Wake> {
        if self.is_deaf() {
            // On the heap: every connection would keep room for it otherwise.
            return Box::pin(self.wait_deaf(bell, timer)).await;
        }
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

    /// Waits without reading; that the connection is broken shows all the same.
    async fn wait_deaf(&mut self, bell: &Bell, mut timer: Pin<&mut Sleep>) -> io::Result<Wake> {
        self.connection.on_held_back(Instant::now());
        let wants_write = !self.out.bytes.is_empty() || self.stream.holds_output();
        let socket = self.stream.socket();
        let mut broken = pin!(socket.ready(Interest::ERROR));
        poll_fn(|context| {
            if bell.poll(context).is_ready() {
                return Poll::Ready(Ok(Wake::News));
            }
            if wants_write && let Poll::Ready(ready) = socket.poll_write_ready(context) {
                return Poll::Ready(ready.map(|()| Wake::Writable));
            }
            if let Poll::Ready(ready) = broken.as_mut().poll(context) {
                return Poll::Ready(ready.and(Err(io::ErrorKind::ConnectionReset.into())));
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
            self.shared.buffers.lend_requests(&mut self.out.requests);
            self.has_news = true;
            let outcome = self.connection.on_deadline(now, &mut self.out);
            self.submit();
            outcome?;
        }
        Ok(())
    }

    /// Sends last words, says that no more will come, and takes what the peer still sends: closing
    /// a socket with unread input would tear the last words away from the peer. Bounded in time.
    async fn farewell(&mut self) {
        let last_words = async {
            while !self.write()? {
                self.stream.socket().ready(Interest::WRITABLE).await?;
            }
            self.stream.close();
            while !self.stream.try_flush()? {
                self.stream.socket().ready(Interest::WRITABLE).await?;
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
