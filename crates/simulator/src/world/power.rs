//! Ends and beginnings of the server: kill, power loss, storage faults, orderly stops, recovery.

use journal::Fault;
use journal::disk::FaultyDisk;
use replica::Startup;

use crate::fact::{ConnId, Crash, Fact, Micros};
use crate::fault::Kind;
use crate::plan::SECOND;

use super::{Event, World};

/// As in the binary: how long clients may take to say goodbye.
const GOODBYE_MAX: Micros = 4 * SECOND;

impl World {
    /// The node is dropped with everything it had in memory.
    fn end_server(&mut self, how: Crash, is_told: bool) {
        let was_up = self.server.node.take().is_some();
        self.copying = None;
        self.turn_at = None;
        self.disk_at = None;
        self.weather.is_power_armed = false;
        self.weather.is_tear_armed = false;
        self.weather.is_fault_planned = false;
        self.weather.is_log_trouble = false;
        self.has_log_failed = false;
        self.weather.paused_until = 0;
        self.weather.stop_by = None;
        if was_up {
            self.totals.crashes += 1;
            self.drop_lines(how, is_told);
        }
        let pause = self.dice.within(SECOND / 50..2 * SECOND);
        self.weather.restart_at = Some(self.now + pause);
        self.at(self.now + pause, Event::Restart);
    }

    /// The process is killed.
    pub(super) fn kill(&mut self) {
        self.end_server(Crash::Kill, true);
        let disk = self.server.disk.fork();
        self.change_disk(disk);
    }

    /// The power fails; the disk decides what it kept.
    pub(super) fn power_loss(&mut self) {
        let is_told = self.dice.chance(50);
        self.end_server(Crash::Power, is_told);
        self.lose_unsynced();
    }

    fn lose_unsynced(&mut self) {
        let seed = self.dice.roll();
        // Losing everything and keeping everything are likely enough to be met often.
        let seed = match seed % 8 {
            0 | 1 => 0,
            2 => 1,
            _ => seed,
        };
        let disk = self.server.disk.after_power_loss(seed);
        self.change_disk(disk);
    }

    /// A new disk begins with an empty tally.
    fn change_disk(&mut self, disk: FaultyDisk) {
        let tally = self.server.disk.tally();
        self.totals.disk(&tally);
        self.server.disk = disk;
        self.limit_disk();
    }

    /// The node has met a storage fault and ends.
    pub(super) fn storage_fault(&mut self, fault: &Fault) {
        if self.server.disk.is_crashed() {
            self.power_loss();
            return;
        }
        self.trace.note(self.now, &fault.to_string());
        if !self.expects_fault() {
            self.facts.push(Fact::Stuck(format!("the log ended without cause: {fault}")));
            return;
        }
        self.end_server(Crash::Fault, true);
        if self.dice.chance(50) {
            self.lose_unsynced();
        } else {
            let disk = self.server.disk.fork();
            self.change_disk(disk);
        }
    }

    /// The server is asked to stop.
    pub(super) fn begin_stop(&mut self) {
        if let Some(node) = self.server.node.as_mut().filter(|_| self.weather.stop_by.is_none()) {
            node.shut_down("the server is stopping");
            self.weather.stop_by = Some(self.now + GOODBYE_MAX);
            // What they have goes back, whether they have heard or not.
            for conn in self.server.lines.keys() {
                self.facts.push(Fact::Dismissed(*conn));
                if let Some(there) = self.conns.get_mut(*conn as usize) {
                    there.is_told_to_go = true;
                }
            }
            self.want_turn(5);
        }
    }

    /// Moves an orderly stop on. Called at the end of every turn.
    pub(super) fn go_on_stopping(&mut self) {
        let Some(by) = self.weather.stop_by else { return };
        let is_late = self.now >= by;
        if !self.server.lines.is_empty() && !is_late {
            return;
        }
        let conns: Vec<ConnId> = self.server.lines.keys().copied().collect();
        for conn in conns {
            self.close_line(conn, true);
        }
        let Some(mut node) = self.server.node.take() else { return };
        self.copying = None;
        let wall = self.clock.show(self.now);
        let mut outcome = node.prepare_close();
        for _ in 0..64 {
            if outcome.is_err() || node.is_quiet() {
                break;
            }
            outcome = node.commit(wall).map(|_| ());
            node.run_pending();
        }
        let outcome = outcome.and_then(|()| node.close());
        if self.server.disk.is_crashed() {
            self.server.lines.clear();
            self.facts.push(Fact::Crashed(Crash::Power));
            self.power_loss();
            return;
        }
        if let Err(fault) = outcome
            && !self.expects_fault()
        {
            self.facts.push(Fact::Stuck(format!("an orderly stop failed: {fault}")));
        }
        self.totals.crashes += 1;
        self.facts.push(Fact::Crashed(Crash::Stop));
        self.end_server(Crash::Stop, true);
        let disk = self.server.disk.fork();
        self.change_disk(disk);
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
        } else if self.expects_fault() {
            // Somebody looks after the disk.
            self.server.disk.heal();
            self.end_server(Crash::Fault, true);
        } else {
            self.facts.push(Fact::Stuck(format!("the server does not start: {startup}")));
        }
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
