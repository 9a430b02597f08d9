//! Ends and beginnings of the server: kill, power loss, storage faults, recovery.

use journal::Fault;
use replica::Startup;

use crate::fact::{Crash, Fact, Micros};
use crate::fault::Kind;
use crate::plan::SECOND;

use super::{Event, World};

impl World {
    /// The node is dropped with everything it had in memory.
    fn end_server(&mut self, how: Crash, is_told: bool) {
        let was_up = self.server.node.take().is_some();
        self.turn_at = None;
        self.disk_at = None;
        self.weather.is_power_armed = false;
        if was_up {
            self.totals.crashes += 1;
            self.drop_lines(how, is_told);
        }
        let pause = self.dice.within(SECOND / 50..2 * SECOND);
        self.plan_restart(pause);
    }

    fn plan_restart(&mut self, pause: Micros) {
        self.weather.restart_at = Some(self.now + pause);
        self.at(self.now + pause, Event::Restart);
    }

    /// The process is killed.
    pub(super) fn kill(&mut self) {
        self.end_server(Crash::Kill, true);
        self.keep_tally();
        self.server.disk = self.server.disk.fork();
    }

    /// The power fails; the disk decides what it kept.
    pub(super) fn power_loss(&mut self) {
        let is_told = self.dice.chance(50);
        self.end_server(Crash::Power, is_told);
        self.keep_tally();
        let seed = self.dice.roll();
        // Losing everything and keeping everything are likely enough to be met often.
        let seed = match seed % 8 {
            0 | 1 => 0,
            2 => 1,
            _ => seed,
        };
        self.server.disk = self.server.disk.after_power_loss(seed);
    }

    /// A new disk begins with an empty tally.
    fn keep_tally(&mut self) {
        let tally = self.server.disk.tally();
        self.totals.disk(&tally);
    }

    /// The node has met a storage fault and ended.
    pub(super) fn storage_fault(&mut self, fault: &Fault) {
        if self.server.disk.is_crashed() {
            self.power_loss();
            return;
        }
        self.trace.note(self.now, &fault.to_string());
        if self.weather.expects_fault() {
            self.end_server(Crash::Fault, true);
            self.keep_tally();
            let seed = self.dice.roll();
            self.server.disk = self.server.disk.after_power_loss(seed);
        } else {
            self.facts.push(Fact::Stuck(format!("the log ended without cause: {fault}")));
        }
    }

    /// The server starts again.
    pub(super) fn restart(&mut self) {
        if self.server.node.is_some() || self.weather.restart_at.is_some_and(|at| at > self.now) {
            return;
        }
        self.weather.restart_at = None;
        if self.weather.has(Kind::PowerInRecovery) && self.stage_is_stormy() && self.dice.chance(40)
        {
            let operation = 1 + self.dice.below(12);
            self.totals.fault(Kind::PowerInRecovery);
            self.server.disk.crash_at(self.server.disk.operations() + operation);
        }
        let moment = self.moment();
        match self.server.open(moment.wall) {
            Ok(_) => self.opened(),
            Err(startup) => self.not_opened(&startup),
        }
    }

    fn opened(&mut self) {
        let Some(node) = self.server.node.as_ref() else { return };
        let state = node.engine().state_hash();
        let lsn = node.journal().next_lsn().0;
        self.facts.push(Fact::Recovered { lsn, state });
        self.want_turn(1);
        self.want_disk();
    }

    fn not_opened(&mut self, startup: &Startup) {
        self.server.node = None;
        if self.server.disk.is_crashed() {
            self.power_loss();
            return;
        }
        self.facts.push(Fact::Stuck(format!("the server does not start: {startup}")));
    }

    /// A power cut is planned for the middle of the next flush.
    pub(super) fn tear_flush(&mut self) {
        if std::mem::take(&mut self.weather.is_tear_armed) {
            let operation = 1 + self.dice.below(6);
            self.server.disk.crash_at(self.server.disk.operations() + operation);
        }
    }

    /// A client has read a yes: the cruellest moment for a power cut.
    pub(super) fn at_yes(&mut self) {
        if std::mem::take(&mut self.weather.is_power_armed) && self.server.node.is_some() {
            self.totals.fault(Kind::PowerAtYes);
            self.power_loss();
        }
    }
}
