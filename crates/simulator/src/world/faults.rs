//! What goes wrong, and when: every kind of fault of `fault::Kind` is done here.

use crate::fact::{ConnId, Fact, Micros};
use crate::fault::Kind;
use crate::plan::{Plan, SECOND};

use super::{Event, World};

/// What is wrong at the moment, and what the plan says about it.
#[derive(Debug)]
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
    pub(super) full_until: Option<Micros>,
    pub(super) is_memory_short: bool,
    pub(super) restart_at: Option<Micros>,
    /// The next yes that a client reads is followed by a power cut.
    pub(super) is_power_armed: bool,
    /// The next flush meets a power cut.
    pub(super) is_tear_armed: bool,
    /// A storage fault was planned and may end the server.
    is_fault_planned: bool,
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
            full_until: None,
            is_memory_short: false,
            restart_at: None,
            is_power_armed: false,
            is_tear_armed: false,
            is_fault_planned: false,
        }
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }

    pub(super) fn expects_fault(&self) -> bool {
        self.is_fault_planned
    }
}

impl World {
    /// How long a flush takes now, about.
    pub(super) fn flush_time(&self) -> Micros {
        let slow = if self.now < self.weather.slow_disk_until { 200 } else { 1 };
        self.weather.flush.saturating_mul(slow)
    }

    /// Something goes wrong, then the next is planned.
    pub(super) fn next_fault(&mut self) {
        self.watch_planting();
        if !self.stage_is_stormy() {
            return;
        }
        let kinds = self.weather.kinds.clone();
        if let Some(kind) = self.dice.pick(&kinds).copied() {
            self.break_something(kind);
        }
        let pause = self.dice.around(self.weather.fault_pause).min(2 * SECOND);
        self.at(self.now + pause.max(1), Event::Fault);
    }

    fn break_something(&mut self, kind: Kind) {
        self.trace.note(self.now, &kind);
        let is_up = self.server.node.is_some();
        let done = match kind {
            Kind::Power if is_up => {
                self.power_loss();
                true
            }
            Kind::PowerInFlush => {
                self.weather.is_tear_armed = true;
                true
            }
            Kind::PowerAtYes => {
                self.weather.is_power_armed = true;
                false
            }
            Kind::Kill if is_up => {
                self.kill();
                true
            }
            Kind::Reset | Kind::LostUp | Kind::LostDown | Kind::SlowReader => {
                self.break_connection(kind)
            }
            _ => false,
        };
        if done {
            self.totals.fault(kind);
        }
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

    /// Everything is well again, and stays so.
    pub(super) fn heal(&mut self) {
        self.weather.slow_link_until = 0;
        self.weather.slow_disk_until = 0;
        self.weather.is_tear_armed = false;
        self.weather.is_power_armed = false;
        self.weather.full_until = None;
        self.weather.is_memory_short = false;
        self.server.disk.heal();
        self.server.disk.set_free_bytes(None);
        self.clock.mend(self.now);
        for client in &mut self.clients {
            client.slow_until = 0;
        }
    }

    /// Tells when a resource alarm begins or ends.
    pub(super) fn watch_alarm(&mut self) {
        let is_on = self.server.node.as_ref().is_some_and(|node| node.alarm().is_some());
        if is_on != self.totals.is_alarmed {
            self.totals.is_alarmed = is_on;
            self.facts.push(Fact::Alarm(is_on));
        }
    }
}
