//! [`Tap`]: the client's end of a beanstalk connection: requests to bytes, bytes to answers, each
//! with what it answers.
//!
//! Not here: what a client wants (`roles`), when it connects (`clients`).

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use model::JobId;
use proto_beanstalk::codec::{self, Command, Line, Put, Tail};

use crate::fact::{Fact, JobAnswer, JobAnswered, JobAsk, JobWish, Micros, Stand};
use crate::garden::Garden;
use crate::io::Io;
use crate::letter;
use crate::link::Over;
use crate::plan::SECOND;
use crate::roles::Role;

/// A client that has heard no answer for so long gives up.
const PATIENCE: Micros = 20 * SECOND;
/// It has said goodbye and waits so long for the server to close.
const FAREWELL: Micros = 3 * SECOND;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    input: BytesMut,
    pub(crate) out: BytesMut,
    /// Asked and not answered, and when.
    asked: VecDeque<(Micros, JobAsk)>,
    is_open: bool,
    /// When it said goodbye.
    left_at: Option<Micros>,
    last_read: Micros,
    /// The last answer that was no yes, for the trace.
    pub(crate) last_words: String,
}

impl Tap {
    pub(crate) fn new(now: Micros) -> Self {
        Self { last_read: now, ..Self::default() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open && self.left_at.is_none()
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.left_at.is_some()
    }

    /// Says goodbye; false when it has already.
    pub(crate) fn close(&mut self, now: Micros) -> bool {
        let is_open = self.left_at.is_none();
        if is_open {
            self.left_at = Some(now);
            Command::Quit.write(&mut self.out);
        }
        is_open
    }

    /// What was written and is to be answered.
    pub(crate) fn expect(&mut self, now: Micros, asks: Vec<JobAsk>) {
        if self.asked.is_empty() {
            self.last_read = now;
        }
        self.asked.extend(asks.into_iter().map(|ask| (now, ask)));
    }

    /// Bytes came.
    pub(crate) fn on_bytes(
        &mut self,
        bytes: &BytesMut,
        role: &mut dyn Role,
        io: &mut Io<'_>,
    ) -> Result<(), Over> {
        self.last_read = io.now;
        self.input.extend_from_slice(bytes);
        while let Some(said) = self.next_said()? {
            let (_, ask) = self.asked.pop_front().ok_or(Over::Nonsense)?;
            let answer = match read(&said) {
                Ok(answer) => answer,
                Err(detail) => {
                    io.tell(Fact::Garbled { place: 0, detail: format!("a job: {detail}") });
                    return Err(Over::Nonsense);
                }
            };
            if let JobAnswer::No(words) = &answer {
                self.last_words.clone_from(words);
            }
            let is_hello = ask.wish == JobWish::Hello;
            let (log_ms, is_stale) = (io.log_ms, io.is_stale);
            let answered = JobAnswered { ask, answer, log_ms, is_stale };
            io.tell(Fact::JobAnswered(answered.clone()));
            if is_hello {
                self.is_open = true;
                role.opened(io);
            } else {
                role.on_answer(io, &answered);
            }
        }
        Ok(())
    }

    /// The next whole answer: its words and its body.
    fn next_said(&mut self) -> Result<Option<Said>, Over> {
        let end = match codec::first_line(&self.input, 0) {
            Line::Whole(end) => end,
            Line::Partial(_) => return Ok(None),
            Line::TooLong => return Err(Over::Nonsense),
        };
        let line = String::from_utf8_lossy(self.input.get(..end).unwrap_or_default()).into_owned();
        let has_body = ["RESERVED ", "FOUND ", "OK "].iter().any(|word| line.starts_with(word));
        let mut whole = end + codec::LINE_END.len();
        let from = whole;
        if has_body {
            let size = line.rsplit(' ').next().and_then(|size| size.parse::<usize>().ok());
            whole += size.ok_or(Over::Nonsense)? + codec::LINE_END.len();
        }
        if self.input.len() < whole {
            return Ok(None);
        }
        let mut said = self.input.split_to(whole);
        said.advance(from);
        said.truncate(said.len().saturating_sub(codec::LINE_END.len()));
        Ok(Some(Said { line, body: said.freeze() }))
    }

    /// When [`Tap::on_time`] wants to be called.
    pub(crate) fn deadline(&self) -> Micros {
        let asked = self.asked.front().map(|(at, _)| self.last_read.max(*at) + PATIENCE);
        let left = self.left_at.map(|at| at + FAREWELL);
        asked.into_iter().chain(left).min().unwrap_or(Micros::MAX)
    }

    /// Gives the server up, or what it still had to say.
    pub(crate) fn on_time(&mut self, now: Micros) -> Result<(), Over> {
        if self.left_at.is_some_and(|at| now >= at + FAREWELL) {
            return Err(Over::Goodbye);
        }
        if now >= self.deadline() { Err(Over::Silence) } else { Ok(()) }
    }
}

/// A line and what follows it.
#[derive(Debug)]
struct Said {
    line: String,
    body: Bytes,
}

/// Reads an answer; the error says what is wrong with a body.
fn read(said: &Said) -> Result<JobAnswer, &'static str> {
    let mut words = said.line.split(' ');
    let word = words.next().unwrap_or_default();
    let number = words.next().and_then(|number| number.parse::<u64>().ok());
    let id = JobId(number.unwrap_or_default());
    Ok(match (word, number) {
        ("INSERTED", Some(_)) => JobAnswer::Inserted(id),
        ("RESERVED", Some(_)) => JobAnswer::Reserved(id, letter::read(&said.body)?.0),
        ("FOUND", Some(_)) => JobAnswer::Found(id, letter::read(&said.body)?.0),
        ("KICKED", Some(count)) => JobAnswer::Kicked(u32::try_from(count).unwrap_or(u32::MAX)),
        (
            "DELETED" | "RELEASED" | "BURIED" | "TOUCHED" | "KICKED" | "PAUSED" | "USING"
            | "WATCHING",
            _,
        ) => JobAnswer::Yes,
        ("NOT_FOUND", _) => JobAnswer::NotFound,
        ("TIMED_OUT", _) => JobAnswer::TimedOut,
        ("DEADLINE_SOON", _) => JobAnswer::DeadlineSoon,
        ("OK", _) => described(&String::from_utf8_lossy(&said.body)),
        _ => JobAnswer::No(said.line.clone()),
    })
}

/// `stats-job`; any other list is a yes.
fn described(body: &str) -> JobAnswer {
    let value = |key: &str| {
        body.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ").map(str::to_owned))
    };
    let stand = match value("state").as_deref() {
        Some("ready") => Stand::Ready,
        Some("reserved") => Stand::Reserved,
        Some("delayed") => Stand::Delayed,
        Some("buried") => Stand::Buried,
        _ => return JobAnswer::Yes,
    };
    let rank = value("pri").and_then(|rank| rank.parse().ok()).unwrap_or_default();
    JobAnswer::Described { stand, rank }
}

/// Writes a request; the body of a job has about so many bytes.
pub(crate) fn write(wish: &JobWish, garden: &Garden, bytes: usize, out: &mut BytesMut) {
    let name = |tube: &u8| garden.tube(*tube).as_bytes();
    match wish {
        JobWish::Hello => Command::ListTubeUsed.write(out),
        JobWish::Use(tube) => Command::Use(name(tube)).write(out),
        JobWish::Put { job, rank, delay_s, ttr_s, .. } => {
            let body = letter::write(*job, None, bytes);
            let put = Put {
                priority: *rank,
                delay_s: *delay_s,
                ttr_s: *ttr_s,
                body_bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
                tail: Tail::Nothing,
            };
            Command::Put(put).write(out);
            codec::put_body(out, &body);
        }
        JobWish::Watch(tube) => Command::Watch(name(tube)).write(out),
        JobWish::Ignore(tube) => Command::Ignore(name(tube)).write(out),
        JobWish::Reserve { timeout_s: None, .. } => Command::Reserve.write(out),
        JobWish::Reserve { timeout_s: Some(seconds), .. } => {
            Command::ReserveWithTimeout(*seconds).write(out);
        }
        JobWish::ReserveJob(id) => Command::ReserveJob(id.0).write(out),
        JobWish::Delete(id) => Command::Delete(id.0).write(out),
        JobWish::Release { id, rank, delay_s } => {
            Command::Release { id: id.0, priority: *rank, delay_s: *delay_s }.write(out);
        }
        JobWish::Bury { id, rank } => Command::Bury { id: id.0, priority: *rank }.write(out),
        JobWish::Touch(id) => Command::Touch(id.0).write(out),
        JobWish::Peek(id) => Command::Peek(id.0).write(out),
        JobWish::PeekReady(_) => Command::PeekReady.write(out),
        JobWish::PeekDelayed(_) => Command::PeekDelayed.write(out),
        JobWish::PeekBuried(_) => Command::PeekBuried.write(out),
        JobWish::Kick { most, .. } => Command::Kick(*most).write(out),
        JobWish::KickJob(id) => Command::KickJob(id.0).write(out),
        JobWish::StatsJob(id) => Command::StatsJob(id.0).write(out),
        JobWish::StatsTube(tube) => Command::StatsTube(name(tube)).write(out),
        JobWish::Pause { tube, delay_s } => {
            Command::PauseTube { tube: name(tube), delay_s: *delay_s }.write(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str, body: &[u8]) -> Said {
        Said { line: line.to_owned(), body: Bytes::copy_from_slice(body) }
    }

    #[test]
    fn answers_are_read_and_a_damaged_body_is_seen() {
        let body = letter::write(7, None, 30);
        let yes = JobAnswer::Reserved(JobId(99), 7);
        assert_eq!(read(&said("RESERVED 99 30", &body)), Ok(yes));
        assert!(read(&said("FOUND 99 29", &body[1..])).is_err());
        assert_eq!(read(&said("KICKED", b"")), Ok(JobAnswer::Yes));
        assert_eq!(read(&said("KICKED 3", b"")), Ok(JobAnswer::Kicked(3)));
        let stats = b"---\nid: 1\nstate: buried\npri: 5\n";
        let buried = JobAnswer::Described { stand: Stand::Buried, rank: 5 };
        assert_eq!(read(&said("OK 30", stats)), Ok(buried));
    }
}
