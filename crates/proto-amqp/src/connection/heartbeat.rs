//! Time: heartbeats in both directions, and the ends of handshake and goodbye. Nothing is noted
//! per message but two instants; deadlines are worked out when asked for.
//! Source: AMQP 0-9-1 4.2.7; `RabbitMQ` "Detecting dead TCP connections with heartbeats".

use std::time::{Duration, Instant};

use wire::{Close, Outbox};

use super::{Connection, Phase};
use crate::codec;

impl Connection {
    /// Half of what was negotiated; `None` without heartbeats.
    fn beat(&self) -> Option<Duration> {
        let is_beating = self.heartbeat_s > 0
            && matches!(self.phase, Phase::Open | Phase::Entering | Phase::Running);
        is_beating.then(|| Duration::from_millis(u64::from(self.heartbeat_s) * 500))
    }

    /// When a heartbeat is due.
    fn next_beat(&self) -> Option<Instant> {
        self.last_written.checked_add(self.beat()?)
    }

    /// When the peer counts as gone: two whole intervals of silence. A publisher that is held
    /// back is not read, so its silence means nothing.
    fn silent_at(&self) -> Option<Instant> {
        if self.blocked.is_some() {
            return None;
        }
        self.last_read.checked_add(self.beat()?.saturating_mul(4))
    }

    /// The earliest of all.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.expires, self.next_beat(), self.silent_at()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Instant, out: &mut Outbox) -> Result<(), Close> {
        if self.expires.is_some_and(|at| at <= now) {
            return Err(match &self.phase {
                Phase::Closing(close) => (**close).clone(),
                Phase::Leaving(_) => Close::Done,
                _ => Close::Violation("handshake took too long".to_owned()),
            });
        }
        if self.silent_at().is_some_and(|at| at <= now) {
            let silence = now.saturating_duration_since(self.last_read).as_millis();
            return Err(Close::Silence(u64::try_from(silence).unwrap_or(u64::MAX)));
        }
        if self.next_beat().is_some_and(|at| at <= now) {
            codec::put_heartbeat(&mut out.bytes);
            self.last_written = now;
        }
        Ok(())
    }
}
