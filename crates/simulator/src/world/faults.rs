//! What goes wrong, and when: every kind of fault of `fault::Kind` is done here or begun here.
//!
//! Not here: ends and starts of the server (`power`), damaged files (`damage`).

use std::io::ErrorKind;

use journal::disk::{FailedSync, Operation, Trouble};

use crate::fact::{ConnId, Fact, Micros};
use crate::fault::Kind;
use crate::plan::{Plan, SECOND};

use super::{Event, World};

/// So long after the last disturbance publishers have a right to an answer: by then the longest
/// heartbeat has told both ends which connections are dead.
const ROUGH: Micros = 30 * SECOND;

/// What is wrong at the moment, and what the plan says about it.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent things that are armed or not")]
pub(super) struct Weather {
    kinds: Vec<Kind>,
    pub(super) fault_pause: Micros,
    pub(super) busy: Micros,
    pub(super) flush: Micros,
    pub(super) latency: Micros,
    pub(super) window: usize,
    pub(super) compares: u64,
    pub(super) paused_until: Micros,
    pub(super) slow_link_until: Micros,
    pub(super) slow_disk_until: Micros,
    full_until: Micros,
    short_until: Micros,
    memory_until: Micros,
    /// Something has gone wrong that no alarm tells of.
    rough_until: Micros,
    pub(super) restart_at: Option<Micros>,
    /// The next yes that a client reads is followed by a power cut.
    pub(super) is_power_armed: bool,
    /// The next flush meets a power cut.
    pub(super) is_tear_armed: bool,
    /// A storage fault was planned and may end the server.
    pub(super) is_fault_planned: bool,
    /// All that is planned for the disk hits the log itself, which must end the server.
    pub(super) is_log_trouble: bool,
    /// An orderly stop is under way and ends the server at this time at the latest.
    pub(super) stop_by: Option<Micros>,
}

impl Weather {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            kinds: plan.faults.clone(),
            fault_pause: plan.fault_pause,
            busy: plan.busy,
            flush: plan.flush,
            latency: plan.latency,
            window: plan.window,
            compares: plan.compares,
            paused_until: 0,
            slow_link_until: 0,
            slow_disk_until: 0,
            full_until: 0,
            short_until: 0,
            memory_until: 0,
            rough_until: 0,
            restart_at: None,
            is_power_armed: false,
            is_tear_armed: false,
            is_fault_planned: false,
            is_log_trouble: false,
            stop_by: None,
        }
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Nothing has gone wrong for a while but what an alarm tells of.
    pub(super) fn is_smooth(&self, now: Micros) -> bool {
        now > self.rough_until
    }
}

impl World {
    /// How long a flush takes now, about.
    pub(super) fn flush_time(&self) -> Micros {
        let slow = if self.now < self.weather.slow_disk_until { 200 } else { 1 };
        self.weather.flush.saturating_mul(slow).min(3 * SECOND)
    }

    /// Something goes wrong, then the next is planned.
    pub(super) fn next_fault(&mut self) {
        if !self.stage_is_stormy() {
            return;
        }
        let kinds = self.weather.kinds.clone();
        if let Some(kind) = self.dice.pick(&kinds).copied() {
            self.trace.note(self.now, &kind);
            if !matches!(kind, Kind::DiskFull | Kind::MemoryShort) {
                self.weather.rough_until = self.now + ROUGH;
            }
            if self.break_something(kind) {
                self.totals.fault(kind);
            }
        }
        let pause = self.dice.around(self.weather.fault_pause).max(1);
        self.at(self.now + pause, Event::Fault);
    }

    /// Does it; says whether it is to be counted now (some count when they strike).
    fn break_something(&mut self, kind: Kind) -> bool {
        let is_up = self.server.node.is_some();
        let now = self.now;
        let long = self.dice.within(SECOND / 10..10 * SECOND);
        match kind {
            Kind::Power if is_up => self.power_loss(),
            Kind::Kill if is_up => self.kill(),
            Kind::Stop if is_up => self.begin_stop(),
            Kind::PowerInFlush if is_up => self.weather.is_tear_armed = true,
            Kind::PowerAtYes => {
                self.weather.is_power_armed = true;
                return false;
            }
            Kind::Reset | Kind::LostUp | Kind::LostDown | Kind::SlowReader => {
                return self.break_connection(kind);
            }
            Kind::SlowLink => {
                self.weather.slow_link_until = now + long;
                self.weather.rough_until = now + long + ROUGH;
            }
            Kind::SlowDisk => {
                self.weather.slow_disk_until = now + long;
                self.weather.rough_until = now + long + ROUGH;
            }
            Kind::Pause if is_up => {
                self.weather.paused_until = now + long;
                self.weather.rough_until = now + long + ROUGH;
            }
            Kind::ClockForward | Kind::ClockBack => self.set_clock(kind),
            Kind::WriteError | Kind::SyncError | Kind::ReadError => {
                self.plan_trouble(kind);
                return false;
            }
            Kind::ShortWrites => {
                let bytes = usize::try_from(self.dice.within(1..6_000)).unwrap_or(1);
                self.server.disk.set_write_bytes_max(Some(bytes));
                self.weather.short_until = now + long;
                return false;
            }
            Kind::DiskFull => {
                let left = self.dice.below(1 << 20);
                let used = self.server.disk.used_bytes();
                self.server.disk.set_capacity(Some(used + left));
                self.weather.full_until = now + long;
            }
            Kind::MemoryShort => self.weather.memory_until = now + long,
            Kind::BitRot if is_up => self.examine_bit_rot(),
            Kind::Misdirected if is_up => self.examine_lie(),
            _ => return false,
        }
        true
    }

    fn set_clock(&mut self, kind: Kind) {
        const HOUR_MS: u64 = 3_600_000;
        let scale = *self.dice.pick(&[SECOND / 1_000, HOUR_MS, 365 * 24 * HOUR_MS]).unwrap_or(&1);
        let by = i64::try_from(1 + self.dice.below(scale)).unwrap_or(1);
        if kind == Kind::ClockBack {
            self.facts.push(Fact::SetBack);
            // Time stands still for the server until the clock has caught up; people notice hours.
            self.clock.jump(-by.min(20_000));
        } else {
            self.clock.jump(by);
        }
    }

    /// A call of the disk is going to fail.
    fn plan_trouble(&mut self, kind: Kind) {
        let operations: &[Operation] = match kind {
            Kind::WriteError => &[Operation::Write, Operation::Allocate, Operation::Create],
            Kind::SyncError => &[Operation::Sync, Operation::SyncDir, Operation::Rename],
            _ => &[Operation::Read],
        };
        let names = ["log-", "log-", "", "survivor", "checkpoint", "segment.tmp"];
        let errors = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::TimedOut];
        let (Some(operation), Some(name), Some(error)) =
            (self.dice.pick(operations), self.dice.pick(&names), self.dice.pick(&errors))
        else {
            return;
        };
        let how = [FailedSync::Keep, FailedSync::Forget, FailedSync::Revert];
        if let Some(how) = self.dice.pick(&how) {
            self.server.disk.on_failed_sync(*how);
        }
        let is_log = *name == "log-" && matches!(operation, Operation::Write | Operation::Sync);
        let is_only = !self.weather.is_fault_planned || self.weather.is_log_trouble;
        self.weather.is_log_trouble = is_log && is_only;
        self.weather.is_fault_planned = true;
        self.server.disk.plan(Trouble {
            operation: *operation,
            name: (*name).to_owned(),
            after: self.dice.below(20),
            times: 1 + self.dice.below(3),
            error: *error,
        });
    }

    /// Breaks one of the open connections.
    fn break_connection(&mut self, kind: Kind) -> bool {
        let open: Vec<ConnId> = self.clients.iter().filter_map(|client| client.conn).collect();
        let Some(conn) = self.dice.pick(&open).copied() else { return false };
        let (now, roll) = (self.now, self.dice.roll());
        let slow = self.dice.within(SECOND / 10..8 * SECOND);
        let Some(there) = self.conns.get_mut(conn as usize) else { return false };
        match kind {
            Kind::Reset => {
                let kept = |bytes: usize| usize::try_from(roll % (bytes as u64 + 1)).unwrap_or(0);
                let (up, down) = (kept(there.pipe.up.bytes()), kept(there.pipe.down.bytes()));
                there.pipe.up.cut(now, up);
                there.pipe.down.cut(now, down);
                self.at(now, Event::Up(conn));
                self.at(now, Event::Down(conn));
            }
            Kind::LostUp => there.pipe.up.lose(),
            Kind::LostDown => there.pipe.down.lose(),
            _ => {
                let client = there.client;
                if let Some(client) = self.clients.get_mut(client) {
                    client.slow_until = now + slow;
                }
            }
        }
        true
    }

    /// Ends what was to last for a while. Called about twice a second.
    pub(super) fn pass_weather(&mut self) {
        let now = self.now;
        if now >= self.weather.full_until {
            self.server.disk.set_capacity(None);
        }
        if now >= self.weather.short_until {
            self.server.disk.set_write_bytes_max(None);
        }
        if let Some(node) = self.server.node.as_mut() {
            node.set_alarm(replica::Alarm::Memory, now < self.weather.memory_until);
        }
        let is_on = self.server.node.as_ref().is_some_and(|node| node.alarm().is_some());
        if is_on != self.totals.is_alarmed {
            self.totals.is_alarmed = is_on;
            self.facts.push(Fact::Alarm(is_on));
        }
    }

    /// A new disk knows nothing of the limits of the old.
    pub(super) fn limit_disk(&mut self) {
        if self.now < self.weather.full_until {
            let used = self.server.disk.used_bytes();
            self.server.disk.set_capacity(Some(used));
        }
    }

    /// A fault of the log that nothing explains is a fault of the product.
    pub(super) fn expects_fault(&self) -> bool {
        self.weather.is_fault_planned || self.now < self.weather.full_until + SECOND
    }

    /// Everything is well again, and stays so.
    pub(super) fn heal(&mut self) {
        self.weather.slow_link_until = 0;
        self.weather.slow_disk_until = 0;
        self.weather.paused_until = self.weather.paused_until.min(self.now + 1);
        self.weather.is_tear_armed = false;
        self.weather.is_power_armed = false;
        self.weather.full_until = 0;
        self.weather.short_until = 0;
        self.weather.memory_until = 0;
        self.server.disk.heal();
        self.server.disk.set_capacity(None);
        self.server.disk.set_write_bytes_max(None);
        self.clock.mend(self.now);
        for client in &mut self.clients {
            client.slow_until = 0;
        }
    }
}
