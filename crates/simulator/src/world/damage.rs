//! Copies of the disk, looked at aside; the run itself goes on with its own.
//!
//! Damaged files: two copies, one of them damaged, are opened and compared. The damaged one must be
//! refused by name or be right in everything. Power cuts: a copy loses and tears what was not
//! flushed; it must open and hold everything that was promised.

use std::sync::Arc;

use journal::disk::{FaultyDisk, Lie, PlannedLie};
use journal::{Survey, Workers};
use model::{
    Envelope, Event as Told, Lsn, Millis, Output, Publish, Reply, Request, SessionId, Ticket,
};
use replica::{Node, SessionInfo, Startup};

use crate::dice::Dice;
use crate::fact::Fact;
use crate::letter;

use super::World;

/// Messages published aside while a write goes elsewhere.
const ASIDE: u32 = 12;
/// Rounds within which one thing aside is answered.
const ROUNDS: u32 = 32;

/// A node of its own on a copy of the disk, driven without any protocol.
struct Aside {
    node: Node,
    session: SessionId,
    wall: Millis,
    /// Hash of what the disk holds: the first turn may already tidy up.
    opened: u64,
}

/// What came back from a question.
enum Answer {
    Body(Vec<u8>),
    Nothing,
    /// The node has named a fault and ended.
    Ended,
}

impl Aside {
    /// Refused is always allowed for a damaged disk.
    fn open(world: &World, disk: &FaultyDisk, wall: Millis) -> Result<Self, Startup> {
        let setup = &world.server.setup;
        let options = replica::Options { journal: setup.journal.clone(), limits: setup.limits };
        let mut dice = Dice::new(world.seed);
        let entropy = Box::new(move || dice.roll());
        let disk = Arc::new(disk.clone());
        let (mut node, _) = Node::open(disk, options, Workers::Inline, wall, entropy)?;
        let opened = node.engine().state_hash();
        let session = node.open_session(SessionInfo::default(), std::rc::Rc::new(|| {}));
        let mut aside = Self { node, session, wall, opened };
        aside.ask(Request::OpenVhost("/".into()));
        aside.ask(Request::OpenChannel { is_strict: false });
        Ok(aside)
    }

    /// Asks and waits; publishes without confirm are not answered.
    fn ask(&mut self, request: Request) -> Answer {
        let mut batch = vec![Envelope { channel: 1, ticket: Ticket(1), request }];
        self.node.submit(self.wall, self.session, &mut batch);
        let mut answer = None;
        for _ in 0..ROUNDS {
            if self.node.commit(self.wall).is_err() {
                return Answer::Ended;
            }
            let outcome = self.node.collect(self.wall, self.session, &mut |output| {
                match output {
                    Output::Event(Told::Got { delivery, .. }) => {
                        answer = Some(Answer::Body(delivery.message.body.to_vec()));
                    }
                    Output::Reply { reply, .. } => {
                        let is_answer = !matches!(reply, Reply::Unroutable(_));
                        answer = is_answer.then_some(Answer::Nothing);
                    }
                    Output::Event(_) => {}
                }
                Ok::<_, std::convert::Infallible>(true)
            });
            debug_assert!(outcome.is_ok(), "the sink never fails");
            if let Some(answer) = answer {
                return answer;
            }
            self.node.run_pending();
        }
        Answer::Nothing
    }

    fn state(&self) -> (u64, u64) {
        (self.node.journal().next_lsn().0, self.node.engine().state_hash())
    }
}

fn not_opened(what: &str, why: &Startup) -> Fact {
    Fact::Stuck(format!("{what} does not open: {why}"))
}

impl World {
    /// Opens a copy of the disk as a second server would after a kill, and compares.
    pub(super) fn replay_aside(&mut self, node: u64) {
        let wall = self.clock.show(self.now);
        let copy = self.server.disk.fork();
        match Aside::open(self, &copy, wall) {
            Ok(aside) => self.facts.push(Fact::Compared { node, replay: aside.opened }),
            Err(why) => self.facts.push(not_opened("a copy of the disk", &why)),
        }
    }

    /// What a power cut would leave of the disk now, and what a second one in the middle of a flush
    /// would: both must open and hold whatever was promised.
    pub(super) fn examine_power_cut(&mut self) {
        let Some(node) = self.server.node.as_ref() else { return };
        let promised = node.journal().durable();
        let copy = self.server.disk.after_power_loss(self.dice.roll());
        let Some(mut aside) = self.open_after_cut(&copy, promised) else { return };
        copy.crash_at(copy.operations() + 1 + self.dice.below(6));
        for number in 0..ASIDE {
            let mut publish = Publish { routing_key: "work".into(), ..Publish::default() };
            publish.body = letter::write(number, None, 2_000).into();
            publish.options.wants_confirm = true;
            if matches!(aside.ask(Request::Publish(publish)), Answer::Ended) {
                break;
            }
        }
        let promised = aside.node.journal().durable();
        drop(aside);
        let copy = copy.after_power_loss(self.dice.roll());
        if let Some(mut aside) = self.open_after_cut(&copy, promised)
            && self.dice.chance(50)
        {
            self.read_all(&mut aside, false);
        }
    }

    fn open_after_cut(&mut self, copy: &FaultyDisk, promised: Lsn) -> Option<Aside> {
        let wall = self.clock.show(self.now);
        let aside = match Aside::open(self, copy, wall) {
            Ok(aside) => aside,
            Err(why) => {
                let lost = format!("the log up to {promised}, after a power cut ({why}),");
                self.facts.push(Fact::Missing(lost));
                return None;
            }
        };
        let end = aside.node.journal().next_lsn();
        if end < promised {
            let lost = format!("the log from {end} to {promised}, after a power cut,");
            self.facts.push(Fact::Missing(lost));
            return None;
        }
        Some(aside)
    }

    /// Flips a bit of some file of a copy, as it would lie there after a kill.
    pub(super) fn examine_bit_rot(&mut self) {
        let sound = self.server.disk.after_power_loss(1);
        let rotten = sound.fork();
        let paths: Vec<_> = rotten
            .paths()
            .into_iter()
            .filter(|path| rotten.bytes(path).is_some_and(|bytes| !bytes.is_empty()))
            .collect();
        let Some(path) = self.dice.pick(&paths).cloned() else { return };
        let bytes = rotten.bytes(&path).unwrap_or_default();
        // Half of the time where something is written for sure.
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64;
        let most = if self.dice.chance(50) { last + 1 } else { bytes.len() as u64 };
        let bit = self.dice.below(most * 8);
        if !rotten.flip_bit(&path, bit) {
            return;
        }
        self.compare_damaged(&sound, &rotten);
    }

    /// One of several writes goes elsewhere; the commits behind it prove that it is missing.
    pub(super) fn examine_lie(&mut self) {
        let wall = self.clock.show(self.now);
        let honest = self.server.disk.after_power_loss(1);
        let lying = honest.fork();
        let offset = 4096 * self.dice.below(16);
        let lie = if self.dice.chance(50) { Lie::Lost } else { Lie::Offset(offset) };
        let after = self.dice.below(u64::from(ASIDE) / 2);
        for (disk, is_lying) in [(&honest, false), (&lying, true)] {
            let mut aside = match Aside::open(self, disk, wall) {
                Ok(aside) => aside,
                Err(why) => return self.facts.push(not_opened("a sound copy", &why)),
            };
            if is_lying {
                lying.plan_lie(PlannedLie { name: "log-".to_owned(), after, lie: lie.clone() });
            }
            for number in 0..ASIDE {
                let mut publish = Publish { routing_key: "work".into(), ..Publish::default() };
                publish.body = letter::write(number, None, 64).into();
                publish.options.wants_confirm = true;
                if matches!(aside.ask(Request::Publish(publish)), Answer::Ended) {
                    return;
                }
            }
        }
        self.totals.disk(&lying.tally());
        self.trace.note(self.now, &format!("{lie:?} after {after}"));
        self.compare_damaged(&honest.after_power_loss(1), &lying.after_power_loss(1));
    }

    /// Opens both; what the damaged one serves must be what the sound one has.
    fn compare_damaged(&mut self, sound: &FaultyDisk, damaged: &FaultyDisk) {
        let wall = self.clock.show(self.now);
        // Before the copy is opened: a start writes a statement of its own.
        let survey = Survey::take(Arc::new(sound.fork()), &self.server.setup.journal.dir);
        let Ok(Lsn(proven)) = survey.map(|survey| survey.proven) else {
            self.facts.push(Fact::Stuck("a sound copy cannot be surveyed".to_owned()));
            return;
        };
        let sound = match Aside::open(self, sound, wall) {
            Ok(sound) => sound,
            Err(why) => return self.facts.push(not_opened("a sound copy", &why)),
        };
        let Ok(mut damaged) = Aside::open(self, damaged, wall) else { return };
        let (right, found) = (sound.state(), damaged.state());
        self.facts.push(Fact::Examined { proven, right, found });
        self.read_all(&mut damaged, true);
    }

    /// Everything that a disk serves must prove itself. A damaged one may end it by naming a fault.
    fn read_all(&mut self, aside: &mut Aside, may_end: bool) {
        for place in self.garden.places() {
            let Some(bed) = self.garden.get(place) else { continue };
            let queue = bytes::Bytes::copy_from_slice(bed.name.as_bytes());
            loop {
                let get = Request::Get { queue: queue.clone(), no_ack: true };
                let body = match aside.ask(get) {
                    Answer::Body(body) => body,
                    Answer::Ended if !may_end => {
                        let lost = format!("a message of {}, after a power cut", bed.name);
                        self.facts.push(Fact::Missing(lost));
                        return;
                    }
                    Answer::Ended | Answer::Nothing => break,
                };
                if let Err(detail) = letter::read(&body) {
                    let detail = format!("a damaged file was served: {detail}");
                    self.facts.push(Fact::Garbled { place, detail });
                    return;
                }
            }
        }
    }
}
