//! [`World`]: the event loop. One thread, virtual time, one seed: the server, its disk, the network
//! and all clients take their turns here, and after every step the invariants look at what
//! happened.
//!
//! Lives here: the order of events and the way bytes take. Not here: what goes wrong (`faults`),
//! which stage comes when (`stages`), how the server starts and ends (`power`).

mod clients;
mod copying;
mod damage;
mod faults;
mod power;
mod stages;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use crate::clock::Clock;
use crate::dice::Dice;
use crate::fact::{ConnId, Fact, JobAnswer, Micros};
use crate::fault::Kind;
use crate::garden::Garden;
use crate::invariants::{Judge, Violation};
use crate::io::{Book, Stage};
use crate::line::Moment;
use crate::plan::{Plan, SECOND};
use crate::server::Server;
use crate::speech;
use crate::totals::Totals;
use crate::trace::Trace;

use clients::Client;
use copying::Copying;
use faults::Weather;
use traffic::Conn;

/// What happens next, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Event {
    /// The server ends a turn.
    Turn,
    /// The log's workers have done what waited.
    Disk,
    /// The server looks at its resources.
    Look,
    /// A connection reaches the server.
    Arrive(ConnId),
    /// Bytes, or an end, reach the server.
    Up(ConnId),
    /// A client has made room for bytes.
    Room(ConnId),
    /// A timer of the server's end.
    LineTimer(ConnId),
    /// Bytes, or an end, reach a client.
    Down(ConnId),
    /// A timer of a client's end.
    LinkTimer(ConnId),
    /// A role's turn.
    Role(usize),
    /// A client connects.
    Connect(usize),
    /// Something goes wrong.
    Fault,
    /// The server starts again.
    Restart,
    /// Time to look whether this stage is over.
    Stage,
}

impl Event {
    /// Waits while the server is paused.
    fn is_servers(self) -> bool {
        matches!(
            self,
            Self::Turn | Self::Disk | Self::Look | Self::Arrive(_) | Self::Up(_) | Self::Room(_)
        ) || matches!(self, Self::LineTimer(_))
    }
}

/// What one run is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Everything follows from it.
    pub seed: u64,
    /// Stop after so many steps.
    pub steps_max: Option<u64>,
    /// Print every step.
    pub is_traced: bool,
    /// Keep the last steps in words, for a report.
    pub is_kept: bool,
    /// Nothing but these faults.
    pub only: Option<Vec<Kind>>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of the run.
    pub seed: u64,
    /// The number of everything that happened.
    pub hash: u64,
    /// Virtual time at the end.
    pub now: Micros,
    /// What was broken, if anything.
    pub violation: Option<Violation>,
    /// The last steps in words, when they were kept.
    pub last: Vec<String>,
    /// Counts.
    pub totals: Totals,
}

/// See the module's head.
pub struct World {
    now: Micros,
    queue: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    sequence: u64,
    dice: Dice,
    trace: Trace,
    clock: Clock,
    garden: Garden,
    server: Server,
    conns: Vec<Conn>,
    clients: Vec<Client>,
    book: Book,
    facts: Vec<Fact>,
    judge: Judge,
    stage: Stage,
    stage_since: Micros,
    /// When a message last reached a client.
    last_delivery: Micros,
    /// Connections with input that the server did not want yet.
    waiting: BTreeSet<ConnId>,
    turn_at: Option<Micros>,
    /// A write or flush of the log itself has just failed.
    has_log_failed: bool,
    disk_at: Option<Micros>,
    weather: Weather,
    /// A backup under way.
    copying: Option<Copying>,
    violation: Option<Violation>,
    totals: Totals,
    steps_max: u64,
    seed: u64,
}

impl World {
    /// Lays everything out as the seed wants it.
    #[must_use]
    pub fn new(run: &Run) -> Self {
        let mut dice = Dice::new(run.seed);
        let plan = Plan::new(&mut dice.fork(), run.only.as_deref());
        let Plan { garden, setup, roles, .. } = &plan;
        let server = Server::new(setup.clone(), dice.fork());
        let judge = Judge::new(garden);
        let count = roles.len();
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            trace: Trace::new(run.is_kept, run.is_traced),
            clock: Clock::new(plan.drift_ppm),
            garden: garden.clone(),
            server,
            conns: Vec::new(),
            clients: Vec::new(),
            book: Book::default(),
            facts: Vec::new(),
            judge,
            stage: Stage::Planting,
            stage_since: 0,
            last_delivery: 0,
            waiting: BTreeSet::new(),
            turn_at: None,
            has_log_failed: false,
            disk_at: None,
            weather: Weather::new(&plan),
            copying: None,
            violation: None,
            totals: Totals::default(),
            steps_max: run.steps_max.unwrap_or(20_000_000),
            seed: run.seed,
            dice,
        };
        for role in plan.roles {
            let dice = world.dice.fork();
            world.clients.push(Client::new(role, dice, plan.heartbeat));
        }
        world.at(0, Event::Restart);
        world.at(SECOND / 2, Event::Look);
        world.at(world.weather.busy, Event::Stage);
        let first = world.dice.around(world.weather.fault_pause);
        world.at(first, Event::Fault);
        for client in 0..count {
            world.begin_client(client);
        }
        world
    }

    /// Runs to the end, the first violation or the limit of steps.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        while self.violation.is_none()
            && self.stage != Stage::Done
            && self.trace.steps() < self.steps_max
            && let Some(Reverse((at, _, event))) = self.queue.pop()
        {
            self.now = self.now.max(at);
            self.step(event);
            self.judge_facts();
        }
        self.totals.seeds = 1;
        self.totals.steps = self.trace.steps();
        self.totals.virtual_micros = self.now;
        self.totals.disk(&self.server.disk.tally());
        Outcome {
            seed: self.seed,
            hash: self.trace.hash(),
            now: self.now,
            violation: self.violation,
            last: self.trace.last().map(str::to_owned).collect(),
            totals: self.totals,
        }
    }

    fn step(&mut self, event: Event) {
        if event.is_servers() && self.now < self.weather.paused_until {
            self.at(self.weather.paused_until, event);
            return;
        }
        self.trace.note(self.now, &event);
        match event {
            Event::Turn => self.turn(),
            Event::Disk => self.work_on_disk(),
            Event::Look => self.look(),
            Event::Arrive(conn) => self.arrive(conn),
            Event::Up(conn) => self.serve(conn),
            Event::Room(conn) => self.pass(conn),
            Event::LineTimer(conn) => self.line_timer(conn),
            Event::Down(conn) => self.receive(conn),
            Event::LinkTimer(conn) => self.link_timer(conn),
            Event::Role(client) => self.role_turn(client),
            Event::Connect(client) => self.connect(client),
            Event::Fault => self.next_fault(),
            Event::Restart => self.restart(),
            Event::Stage => self.next_stage(),
        }
    }

    /// Lets every invariant hear what happened.
    fn judge_facts(&mut self) {
        if self.facts.is_empty() {
            return;
        }
        let mut is_yes = false;
        for fact in std::mem::take(&mut self.facts) {
            self.trace.note(self.now, &fact);
            self.totals.count(&fact);
            is_yes |= speech::is_yes(&fact);
            let is_delivery = match &fact {
                Fact::Delivered(_) => true,
                Fact::JobAnswered(it) => matches!(it.answer, JobAnswer::Reserved(..)),
                _ => false,
            };
            if is_delivery {
                self.last_delivery = self.now;
            }
            if self.violation.is_none() {
                self.violation = self.judge.hear(&fact, self.now);
            }
        }
        if is_yes {
            self.at_yes();
        }
    }

    fn at(&mut self, at: Micros, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at.max(self.now), self.sequence, event)));
    }

    fn moment(&mut self) -> Moment {
        Moment { now: self.now, wall: self.clock.show(self.now), base: self.server.base }
    }

    /// Makes sure that a turn ends within so long.
    fn want_turn(&mut self, delay: Micros) {
        let at = self.now + delay;
        if self.turn_at.is_none_or(|planned| planned > at) {
            self.turn_at = Some(at);
            self.at(at, Event::Turn);
        }
    }

    /// Lets the log's workers finish what waits, after a time that a flush takes.
    fn want_disk(&mut self) {
        let is_idle = self.server.node.as_ref().is_none_or(|node| node.journal().is_idle());
        if is_idle || self.disk_at.is_some() {
            return;
        }
        let at = self.now + 1 + self.dice.around(self.flush_time());
        self.disk_at = Some(at);
        self.at(at, Event::Disk);
    }

    /// The end of a turn of the server.
    fn turn(&mut self) {
        if self.turn_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.turn_at = None;
        let moment = self.moment();
        match self.server.turn(moment.wall) {
            Ok(deadline) => {
                if std::mem::take(&mut self.has_log_failed) {
                    self.facts.push(Fact::WentOn);
                }
                self.after_turn(moment, deadline);
                self.go_on_copying();
                self.go_on_stopping();
            }
            Err(fault) => self.storage_fault(&fault),
        }
    }

    fn after_turn(&mut self, moment: Moment, deadline: Option<model::Millis>) {
        let mut rung = self.server.rung.take();
        rung.sort_unstable();
        rung.dedup();
        for conn in rung {
            self.pass(conn);
        }
        for conn in std::mem::take(&mut self.waiting) {
            self.serve(conn);
        }
        if self.server.node.is_none() {
            return;
        }
        self.want_disk();
        let is_stopping = self.weather.stop_by.is_some();
        let longest = if is_stopping { SECOND / 10 } else { 5 * SECOND };
        let pause =
            deadline.map_or(longest, |at| at.0.saturating_sub(moment.wall.0).saturating_mul(1_000));
        self.want_turn(pause.clamp(1_000, longest));
    }

    /// The log's workers do what waits.
    fn work_on_disk(&mut self) {
        if self.disk_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.disk_at = None;
        self.tear_flush();
        let before = self.server.disk.tally();
        if let Some(node) = self.server.node.as_mut() {
            node.run_pending();
        }
        self.watch_log(&before);
        if self.server.disk.is_crashed() {
            self.power_loss();
            return;
        }
        self.want_turn(2);
    }

    /// About twice a second, as the binary does.
    fn look(&mut self) {
        if let Some(node) = self.server.node.as_mut() {
            node.measure_disk();
            if node.has_work() {
                self.want_turn(5);
            }
        }
        self.pass_weather();
        // An alarm rings bells, and nobody but a turn listens.
        if !self.server.rung.borrow().is_empty() {
            self.want_turn(5);
        }
        self.begin_copying();
        self.compare();
        if self.dice.chance(self.weather.compares / 2) {
            self.examine_power_cut();
        }
        self.at(self.now + SECOND / 2, Event::Look);
    }

    /// A failed write or flush of a segment must end the server.
    fn watch_log(&mut self, before: &journal::disk::Tally) {
        let after = self.server.disk.tally();
        let failed = |tally: &journal::disk::Tally| (tally.write_errors, tally.sync_errors);
        if self.weather.is_log_trouble && failed(before) != failed(&after) {
            self.has_log_failed = true;
            self.facts.push(Fact::DiskFailed);
        }
    }

    /// At a quiet moment a second node opens a copy of the disk: it must come to the same state.
    fn compare(&mut self) {
        let Some(node) = self.server.node.as_ref() else { return };
        let journal = node.journal();
        let is_quiet = journal.durable() == journal.next_lsn() && self.disk_at.is_none();
        if !is_quiet || self.weather.stop_by.is_some() || self.weather.is_fault_planned {
            return;
        }
        let (lsn, state) = (journal.next_lsn().0, node.engine().state_hash());
        self.facts.push(Fact::Quiet { lsn, state });
        if self.dice.chance(self.weather.compares) {
            self.replay_aside(state);
        }
    }
}
