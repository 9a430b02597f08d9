//! Any history of requests over several sessions, with time that passes, reads answered late or
//! never, restarts and power cuts. What must hold: nothing panics, the log alone and any snapshot
//! with the records behind it give the state that is there, what is needed is listed as needed,
//! every delivery is of something that was published, in order, not after it was settled
//! ([`ledger`]), a job is found by its id, in a state it may have, until it is deleted
//! ([`job_ledger`]), and nothing is held once everything is gone.

mod acts;
mod job_ledger;
mod jobs;
mod ledger;

use bytes::Bytes;
use engine::{Effects, Engine, Handout, Place, Push, Resume, SessionInfo};
use model::{
    Admin, Envelope, JobId, Limits, Log, Lsn, Millis, Reply, Request, SessionId, Stamp, Ticket,
};

use crate::source::Source;
use crate::tape::Tape;
use job_ledger::JobLedger;
use ledger::Ledger;

/// Sessions that come and go.
const SESSIONS: usize = 3;
/// Channels of each.
const CHANNELS: u16 = 2;
/// Steps of one history.
const STEPS_MAX: usize = 400;
/// All positions.
const ALL: std::ops::Range<Lsn> = Lsn::ZERO..Lsn(u64::MAX);

/// Steps until the input ends.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let mut world = World::new(source.u8());
    for _ in 0..STEPS_MAX {
        if source.is_empty() {
            break;
        }
        world.step(&mut source);
    }
    world.survey();
    world.check();
    world.finish();
}

struct World {
    engine: Engine,
    limits: Limits,
    tape: Tape,
    now: u64,
    ticket: u64,
    /// Generation of each session's slot.
    generations: [u32; SESSIONS],
    /// Which virtual host each session is in.
    vhosts: [u8; SESSIONS],
    consumers: u32,
    reads: Vec<engine::Read>,
    /// Bytes handed to each session and not reported as taken.
    untaken: [u64; SESSIONS],
    /// A snapshot and how many records it covers.
    snapshot: Option<(Vec<u8>, usize)>,
    ledger: Ledger,
    jobs: JobLedger,
    /// Sessions work with jobs, too.
    has_jobs: bool,
    /// Nothing acts by itself and no message is in a queue twice: the ledger may be strict.
    is_plain: bool,
}

impl World {
    fn new(flavour: u8) -> Self {
        let mut limits = Limits::default();
        if flavour & 2 != 0 {
            limits.undelivered_bytes_max = 600;
            limits.queues_max = 5;
            limits.volatile_bytes_max = 2_000;
            limits.consumers_max = 3;
            limits.job_queue_length_max = Some(6);
            limits.job_deliveries_max = Some(2);
        }
        let mut world = Self {
            engine: Engine::new(limits),
            limits,
            tape: Tape::default(),
            now: 1_000_000,
            ticket: 0,
            generations: [1; SESSIONS],
            vhosts: [0; SESSIONS],
            consumers: 0,
            reads: Vec::new(),
            untaken: [0; SESSIONS],
            snapshot: None,
            ledger: Ledger::default(),
            jobs: JobLedger::default(),
            has_jobs: flavour & 4 != 0,
            is_plain: flavour & 1 == 0,
        };
        world.jobs.is_limited = limits.job_deliveries_max.is_some();
        (0..SESSIONS).for_each(|session| world.enter(session));
        world
    }

    fn id(&self, session: usize) -> SessionId {
        let slot = u32::try_from(session).expect("few sessions");
        SessionId::from_parts(slot, self.generations[session])
    }

    fn stamp(&mut self) -> Stamp {
        self.ticket += 1;
        Stamp { now: Millis(self.now), nonce: self.ticket.wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }

    /// Opens a session in the second virtual host, if it is the last one and the host is there.
    fn enter(&mut self, session: usize) {
        self.engine.open_session(self.id(session), SessionInfo::default());
        self.untaken[session] = 0;
        let second = Request::OpenVhost(Bytes::from_static(b"second"));
        self.vhosts[session] = 0;
        if session + 1 == SESSIONS && !self.send(session, 0, second) {
            self.vhosts[session] = 1;
        } else {
            assert!(!self.send(session, 0, Request::OpenVhost(Bytes::from_static(b"/"))));
        }
        for channel in 1..=CHANNELS {
            self.send(session, channel, Request::OpenChannel { is_strict: false });
        }
        if self.has_jobs {
            self.watch(session);
        }
    }

    /// Asks and takes in what follows; returns whether it was refused.
    fn send(&mut self, session: usize, channel: u16, request: Request) -> bool {
        let at = self.stamp();
        let ticket = Ticket(self.ticket);
        let from = (self.id(session), channel);
        let note = self.ledger.note(from, self.vhosts[session], ticket, &request);
        self.jobs.note(from, self.vhosts[session], ticket, &request);
        let ends_vhost = matches!(&request, Request::Admin(admin)
            if matches!(&**admin, Admin::DeleteVhost(_)));
        let envelope = Envelope { channel, ticket, request };
        let mut out = Effects::default();
        self.engine.apply(at, from.0, envelope, &mut self.tape, &mut out);
        let is_refused = out.outputs.iter().any(|output| {
            matches!(&output.push, Push::Reply { ticket: of, reply: Reply::Refused(_), .. }
                if *of == ticket)
        });
        if !is_refused {
            if ends_vhost {
                self.jobs.vhost_gone(1);
            }
            self.jobs.happened(&note);
            self.ledger.happened(note);
        }
        self.take_in(out);
        is_refused
    }

    fn take_in(&mut self, mut out: Effects) {
        assert!(!self.tape.is_in_group(), "a group was left open");
        // One behind the end is "after what I may have written"; the pipeline cuts it.
        let end = self.tape.next_lsn().plus(1);
        // What was given back may be handed over before its holder is told.
        for output in &out.outputs {
            assert!(output.gate <= end, "of a log up to {end}: {output:?}");
            if let Push::Reply { ticket, reply, .. } = &output.push {
                let stored = |id| number_at(&self.tape, id);
                self.jobs.answered(*ticket, reply, self.now, stored);
            }
        }
        for output in out.outputs.drain(..) {
            let (consumer, delivery, ticket) = match output.push {
                Push::Deliver { consumer, delivery } => (Some(consumer), delivery, Ticket(0)),
                Push::Got { ticket, delivery, .. } => (None, delivery, ticket),
                Push::Job { ticket, facts, bytes, .. } => {
                    self.weigh(output.session, bytes);
                    self.jobs.shown(ticket, &facts, self.now);
                    continue;
                }
                _ => continue,
            };
            let from = (output.session, delivery.channel);
            self.weigh(output.session, delivery.bytes);
            let id = self.identify(&delivery);
            if self.jobs.is_claim(ticket) {
                self.ledger.tagged(from, delivery.tag);
                let Place::Log(lsn) = delivery.place else { panic!("{delivery:?} is no job") };
                self.jobs.got(ticket, (JobId::from(lsn), id), &delivery, self.now);
                continue;
            }
            let seen = (delivery.tag, id, delivery.is_redelivered);
            self.ledger.delivered(from, consumer, ticket, seen, self.is_plain);
        }
        self.reads.append(&mut out.reads);
        for login in out.logins.drain(..) {
            let is_ok = login.token % 2 == 0;
            let what = Resume::Verified { session: login.session, token: login.token, is_ok };
            let at = self.stamp();
            let mut more = Effects::default();
            self.engine.resume(at, what, &mut self.tape, &mut more);
            self.take_in(more);
        }
    }

    fn weigh(&mut self, session: SessionId, bytes: u32) {
        let slot = session.slot();
        if session == self.id(slot) {
            self.untaken[slot] += u64::from(bytes);
        }
    }

    /// The number in a message's body.
    fn identify(&self, handout: &Handout) -> u64 {
        let stored = match &handout.place {
            Place::Log(lsn) => self.tape.payload(*lsn),
            Place::Memory(bytes) => bytes,
        };
        number_in(stored).expect("a stored message of ours")
    }

    /// Lets time pass and does what is due then, a bounded number of times.
    fn wait(&mut self, ms: u64) {
        self.now += ms;
        for _ in 0..6 {
            if self.engine.next_deadline().is_none_or(|due| due.0 > self.now) {
                return;
            }
            let at = self.stamp();
            let mut out = Effects::default();
            self.engine.tick(at, &mut self.tape, &mut out);
            self.take_in(out);
        }
    }

    /// Answers one read, in any order.
    fn answer(&mut self, nth: usize) {
        if self.reads.is_empty() {
            return;
        }
        let read = self.reads.remove(nth % self.reads.len());
        let payload = self.tape.payload(read.lsn).to_vec();
        let what = Resume::Record { token: read.token, lsn: read.lsn, payload: &payload };
        let at = self.stamp();
        let mut out = Effects::default();
        self.engine.resume(at, what, &mut self.tape, &mut out);
        self.take_in(out);
    }

    /// The session's connection has taken everything it was handed.
    fn take(&mut self, session: usize) {
        let id = self.id(session);
        let bytes = std::mem::take(&mut self.untaken[session]);
        if self.engine.taken(id, bytes) {
            let at = self.stamp();
            let mut out = Effects::default();
            self.engine.resume(at, Resume::Room(id), &mut self.tape, &mut out);
            self.take_in(out);
        }
    }

    fn close(&mut self, session: usize) {
        let id = self.id(session);
        self.ledger.left(id);
        self.jobs.left(id);
        let at = self.stamp();
        let mut out = Effects::default();
        self.engine.close_session(at, id, &mut self.tape, &mut out);
        self.generations[session] += 1;
        self.take_in(out);
    }

    fn replayed(&self) -> Engine {
        let mut engine = Engine::new(self.limits);
        for (lsn, kind, _, payload) in &self.tape.records {
            engine.replay(*lsn, *kind, payload).expect("own record");
        }
        engine
    }

    /// The process ends and starts again; of the log the first `keep` records are there.
    fn restart(&mut self, keep: usize) {
        let lost = self.tape.truncate(keep);
        let kept = self.tape.records.len();
        self.snapshot.take_if(|(_, covered)| *covered > kept);
        self.engine = self.replayed();
        let at = self.stamp();
        self.engine.recovered(at);
        self.reads.clear();
        self.ledger.restarted(lost > 0);
        let kept = |id: JobId| self.tape.get(Lsn(id.0)).is_some();
        self.jobs.restarted(self.now, lost > 0, kept);
        for session in 0..SESSIONS {
            self.generations[session] += 1;
            self.enter(session);
        }
    }

    /// The log alone, and snapshots, give the state that is there.
    fn check(&self) {
        let hash = self.engine.state_hash();
        let replayed = self.replayed();
        assert_eq!(replayed.state_hash(), hash, "replay gives another state");
        let mut bytes = Vec::new();
        self.engine.snapshot().write(&mut bytes).expect("a Vec takes everything");
        let restored = Engine::restore(&bytes, self.limits).expect("own snapshot");
        assert_eq!(restored.state_hash(), hash, "a snapshot gives another state");
        let (mut live, mut others) = (Vec::new(), Vec::new());
        self.engine.live(ALL, &mut live);
        for other in [&replayed, &restored] {
            other.live(ALL, &mut others);
            assert!(others.iter().all(|lsn| live.contains(lsn)), "{others:?} in {live:?}");
        }
        assert!(self.engine.usage(ALL).records >= live.len() as u64);
        if let Some((bytes, covered)) = &self.snapshot {
            let mut engine = Engine::restore(bytes, self.limits).expect("own snapshot");
            for (lsn, kind, _, payload) in &self.tape.records[*covered..] {
                engine.replay(*lsn, *kind, payload).expect("own record");
            }
            assert_eq!(engine.state_hash(), hash, "an old snapshot and the records behind it");
        }
    }

    /// Everybody leaves, everything comes to rest, every queue is deleted: nothing may be held.
    fn finish(&mut self) {
        (0..SESSIONS).for_each(|session| self.close(session));
        for _ in 0..3_000 {
            self.wait(20);
            self.answer(0);
            if self.reads.is_empty() && self.engine.next_deadline().is_none() {
                break;
            }
        }
        self.check();
        for session in [0, SESSIONS - 1] {
            self.enter(session);
            for name in acts::QUEUES.into_iter().chain(acts::JOB_QUEUES) {
                let name = Bytes::from_static(name.as_bytes());
                let (if_unused, if_empty) = (false, false);
                self.send(session, 1, Request::DeleteQueue { name, if_unused, if_empty });
            }
        }
        assert_eq!(self.engine.usage(ALL).records, 0, "records are held for nothing");
        self.check();
    }
}

/// The number in the body of a stored message.
fn number_in(stored: &[u8]) -> Option<u64> {
    let message = engine::message(stored)?;
    message.body.first_chunk::<8>().map(|number| u64::from_le_bytes(*number))
}

/// The same of the message at a job's position.
fn number_at(tape: &Tape, id: JobId) -> Option<u64> {
    number_in(tape.get(Lsn(id.0))?)
}
