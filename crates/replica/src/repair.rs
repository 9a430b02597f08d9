//! Examining a data directory that does not open, and making one that does out of what is good.
//!
//! Lives here: what the good part of the log means (which messages are there, which are lost, in
//! which queues), and forgetting those that are lost. Not here: reading damaged files
//! (`journal::Survey`), exchanging files (`journal::Repair`). Called by the binary.
//!
//! What cannot be read is never made up: a message whose body is gone is taken out of its queues
//! as if it had been acknowledged, and named.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use engine::{Effects, Engine, Place, Push, Resume, SessionInfo};
use journal::backup::Rebuild;
use journal::{Disk, Fault, Located, Repair, Survey};
use model::{
    Admin, Cell, Consume, ConsumerId, Envelope, Limits, Listing, Log, Lsn, Millis, Record, Reply,
    Request, Row, SessionId, Stamp, Ticket,
};

use crate::checkpoint::{self, BadState};

/// Answers may come over several turns, because the engine shares its work out.
const IDLE_TURNS: u32 = 3;

/// Why a directory could not be repaired. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Unrepaired {
    /// The files cannot be read or written, or another process has them.
    #[error(transparent)]
    Disk(#[from] Fault),
    /// The state cannot be rebuilt.
    #[error("{0}; restore the directory from a backup")]
    NoState(String),
}

/// A queue after the repair.
#[derive(Clone, Debug)]
pub struct QueueFound {
    /// Its virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// Messages that are there.
    pub kept: u64,
    /// Positions of messages that are lost.
    pub lost: Vec<Lsn>,
}

/// What a directory holds.
#[derive(Debug)]
pub struct Examined {
    /// The files, and what is wrong with them.
    pub survey: Survey,
    /// Queues and their messages; `Err`: why that cannot be told.
    pub queues: Result<Vec<QueueFound>, String>,
    /// Messages lost that are in no queue now: delayed ones, and dead letters on their way.
    pub unplaced: Vec<Lsn>,
    /// Needed records that can be read.
    located: Vec<Located>,
    engine: Engine,
    /// Where the log goes on after a repair.
    next: Lsn,
}

impl Examined {
    /// Whether a server starts on the directory as it is, and everything in it can be read.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.survey.is_clean()
            && self.lost() == 0
            && self.unplaced.is_empty()
            && self.queues.is_ok()
    }

    /// Messages that are lost for certain; those behind a gap in the log are not known.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let queues = self.queues.iter().flatten();
        queues.map(|queue| queue.lost.len() as u64).sum::<u64>()
    }

    /// Why [`repair`] would refuse.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        if let Err(why) = &self.queues {
            return Some(why.clone());
        }
        let unplaced = self.unplaced.len();
        let why = "message(s) that are delayed or on their way to a dead-letter exchange are lost";
        (unplaced > 0).then(|| format!("{unplaced} {why}"))
    }
}

/// Reads a directory and changes nothing; `disk` may be read-only.
///
/// # Errors
/// [`Fault::Version`] and [`Fault::Io`]: it cannot even be examined.
pub fn examine(disk: Arc<dyn Disk>, dir: &Path, limits: Limits) -> Result<Examined, Fault> {
    let mut survey = Survey::take(disk, dir)?;
    // No queue pauses because a consumer is slow: nobody consumes here.
    let limits = Limits { undelivered_bytes_max: u32::MAX, ..limits };
    let (engine, queues) = match rebuild_state(&mut survey, limits) {
        Ok(engine) => (engine, Ok(Vec::new())),
        Err(why) => (Engine::new(limits), Err(why)),
    };
    let next = survey.reach.max(survey.end);
    let mut examined =
        Examined { survey, queues, unplaced: Vec::new(), located: Vec::new(), engine, next };
    if examined.queues.is_ok() {
        examined.weigh()?;
    }
    Ok(examined)
}

/// The state at the end of the good part of the log.
fn rebuild_state(survey: &mut Survey, limits: Limits) -> Result<Engine, String> {
    if !survey.has_state {
        return Err("no good checkpoint is left, and the log does not reach back to its \
                    beginning"
            .to_owned());
    }
    let mut engine = Engine::new(limits);
    if let Some(mut file) = survey.take_checkpoint() {
        let mut bytes = Vec::new();
        let read = io::Read::read_to_end(&mut file, &mut bytes);
        read.map_err(|error| format!("the checkpoint cannot be read: {error}"))?;
        let restored = checkpoint::read(&bytes, limits);
        engine = restored.map_err(|bad: BadState| format!("the checkpoint is unusable: {bad}"))?;
    }
    let replayed: Result<(), Stop> = survey.replay(|record| {
        let replayed = engine.replay(record.lsn, record.kind, record.payload);
        replayed.map_err(|damage| Stop(format!("the log is unusable: {damage}")))
    });
    replayed.map_err(|stop| stop.0)?;
    Ok(engine)
}

/// Why a replay ended.
struct Stop(String);

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string())
    }
}

impl Examined {
    /// Finds the bodies of all messages, and forgets the messages that have none.
    fn weigh(&mut self) -> Result<(), Fault> {
        let mut needed = Vec::new();
        self.engine.live(Lsn::ZERO..Lsn(u64::MAX), &mut needed);
        self.located = self.survey.locate(&needed)?;
        let mut found = self.located.iter().map(|at| at.lsn).peekable();
        let missing: Vec<Lsn> =
            needed.into_iter().filter(|lsn| found.next_if_eq(lsn).is_none()).collect();
        let mut clerk = Clerk::new(&mut self.engine, self.next);
        let queues = clerk.queues(&missing);
        self.next = clerk.log.next;
        self.engine.live(Lsn::ZERO..Lsn(u64::MAX), &mut self.unplaced);
        self.unplaced.retain(|lsn| missing.binary_search(lsn).is_ok());
        self.queues = Ok(queues);
        Ok(())
    }
}

/// Puts a directory right that [`examine`] found damaged: with what is good in it, and without
/// what is lost. Gives the folder in which the old files are; `None` when all that was left to do
/// was to finish a repair that had been interrupted.
///
/// # Errors
/// [`Unrepaired`]; when a fault of the disk interrupts the exchange of the files, the directory
/// refuses to open until the repair is run again.
pub fn repair(
    disk: &Arc<dyn Disk>,
    options: &journal::Options,
    limits: Limits,
) -> Result<(Examined, Option<PathBuf>), Unrepaired> {
    let under_way = Repair::begin(Arc::clone(disk), &options.dir)?;
    let examined = examine(Arc::clone(disk), &options.dir, limits)?;
    if examined.is_clean() {
        return Ok((examined, None));
    }
    if let Some(why) = examined.obstacle() {
        return Err(Unrepaired::NoState(why));
    }
    let staging = journal::Options { dir: under_way.staging(), ..options.clone() };
    let mut rebuild = Rebuild::begin(Arc::clone(disk), staging, examined.next)?;
    examined.survey.read(&examined.located, |record| rebuild.record(record))?;
    let snapshot = examined.engine.snapshot();
    rebuild.finish(Box::new(move |out| checkpoint::write(&snapshot, out)))?;
    let aside = under_way.exchange()?;
    Ok((examined, Some(aside)))
}

/// A log that only counts: what is decided here reaches the disk as a checkpoint.
struct Counting {
    next: Lsn,
}

impl Log for Counting {
    fn next_lsn(&self) -> Lsn {
        self.next
    }

    fn append(&mut self, record: Record<'_>) -> Lsn {
        let lsn = self.next;
        let payload: usize = record.parts.iter().map(|part| part.len()).sum();
        self.next = lsn.plus(journal::RECORD_HEAD_BYTES + payload as u64);
        lsn
    }
}

/// Asks the engine as a client would: that is the only way in.
struct Clerk<'a> {
    engine: &'a mut Engine,
    log: Counting,
    effects: Effects,
    sessions: u32,
}

/// Before any time to live ends: nothing expires in a repair.
const NEVER: Stamp = Stamp { now: Millis(0), nonce: 0 };

impl<'a> Clerk<'a> {
    fn new(engine: &'a mut Engine, next: Lsn) -> Self {
        Self { engine, log: Counting { next }, effects: Effects::default(), sessions: 0 }
    }

    fn session(&mut self) -> SessionId {
        self.sessions += 1;
        let id = SessionId::from_parts(self.sessions, 1);
        self.engine.open_session(id, SessionInfo::default());
        id
    }

    fn ask(&mut self, id: SessionId, request: Request) {
        let envelope = Envelope { channel: 1, ticket: Ticket(1), request };
        self.engine.apply(NEVER, id, envelope, &mut self.log, &mut self.effects);
    }

    fn rows(&mut self) -> Vec<Row> {
        let id = self.session();
        self.ask(id, Request::Admin(Box::new(Admin::List(Listing::Queues))));
        let outputs = std::mem::take(&mut self.effects.outputs);
        let rows = outputs.into_iter().find_map(|output| {
            let Push::Reply { reply: Reply::Listing(rows), .. } = output.push else { return None };
            Some(rows)
        });
        rows.unwrap_or_default()
    }

    /// All queues; from each, the messages in `missing` are taken out.
    fn queues(&mut self, missing: &[Lsn]) -> Vec<QueueFound> {
        let mut found = Vec::new();
        for row in self.rows() {
            let (vhost, name) = (text(&row, "vhost"), text(&row, "name"));
            let shown = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            let mut queue = QueueFound {
                vhost: shown(&vhost),
                name: shown(&name),
                kept: number(&row, "messages"),
                lost: Vec::new(),
            };
            if !missing.is_empty() && queue.kept > 0 {
                queue.lost = self.forget(vhost, name, missing);
                queue.kept = queue.kept.saturating_sub(queue.lost.len() as u64);
            }
            found.push(queue);
        }
        found
    }

    /// Takes everything in a queue, and settles what is missing. The rest is still the queue's:
    /// nothing says in the log, or in a snapshot, that somebody holds it.
    fn forget(&mut self, vhost: Bytes, queue: Bytes, missing: &[Lsn]) -> Vec<Lsn> {
        let id = self.session();
        self.ask(id, Request::OpenVhost(vhost));
        self.ask(id, Request::OpenChannel { is_strict: false });
        self.ask(id, Request::SetCredit { count: 0, is_channel_wide: false });
        let consume = Consume {
            queue,
            id: ConsumerId(1),
            label: Bytes::new(),
            no_ack: false,
            is_exclusive: false,
            priority: 0,
        };
        self.ask(id, Request::Consume(Box::new(consume)));
        let mut lost = BTreeMap::new();
        let mut idle = 0;
        while idle < IDLE_TURNS {
            idle += 1;
            let mut bytes = 0_u64;
            for output in std::mem::take(&mut self.effects.outputs) {
                if let Push::Deliver { delivery, .. } = output.push {
                    idle = 0;
                    bytes = bytes.saturating_add(u64::from(delivery.bytes));
                    if let Place::Log(lsn) = delivery.place
                        && missing.binary_search(&lsn).is_ok()
                    {
                        lost.insert(delivery.tag, lsn);
                    }
                }
            }
            self.engine.taken(id, bytes);
            let room = Resume::Room(id);
            self.engine.resume(NEVER, room, &mut self.log, &mut self.effects);
        }
        for tag in lost.keys() {
            self.ask(id, Request::Ack { tag: *tag, is_multiple: false });
        }
        self.effects.outputs.clear();
        lost.into_values().collect()
    }
}

fn text(row: &Row, column: &str) -> Bytes {
    match row.iter().find(|(name, _)| *name == column) {
        Some((_, Cell::Text(text))) => text.clone(),
        Some((_, Cell::Number(_) | Cell::Flag(_))) | None => Bytes::new(),
    }
}

fn number(row: &Row, column: &str) -> u64 {
    match row.iter().find(|(name, _)| *name == column) {
        Some((_, Cell::Number(number))) => *number,
        Some((_, Cell::Text(_) | Cell::Flag(_))) | None => 0,
    }
}
