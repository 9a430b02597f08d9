//! One publisher: prepared frames out, confirms in.
//!
//! Closed loop ([`closed`]): a window of unconfirmed messages, refilled by one write per read.
//! Open loop ([`open`]): messages leave by the clock, whatever the server does; latency counts
//! from the moment a message was due, so that a stalled server cannot hide its stall. Not here:
//! which queues there are (`load`).

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::BytesMut;
use proto_amqp::codec::{self, METHOD};
use proto_amqp::table::Method;

use super::figures::{Latencies, Phase, Shared};
use super::plan::Plan;
use super::scan::{Scanner, Tracker, is_settlement};
use crate::client::{Address, Link};

/// The channel that carries the load.
const CHANNEL: u16 = 1;
/// Messages per write when no confirm paces the writer.
const BURST: usize = 64;
/// How far an unconfirmed publisher may be ahead of the consumers, in messages.
const AHEAD_MAX: u64 = 100_000;
/// How often waiting threads look whether the run is over.
const LOOK: Duration = Duration::from_millis(100);
/// How long unanswered publishes are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Copies of one message, one behind the other, each with its own time stamp.
struct Volley {
    bytes: Vec<u8>,
    stride: usize,
    /// Where in each copy the stamp lies: the first 8 bytes of the body.
    stamp_at: usize,
}

impl Volley {
    fn new(queue: &str, plan: &Plan, count: usize, frame_bytes_max: u32) -> Self {
        let mut bytes = BytesMut::new();
        let publish = Method::BasicPublish {
            ticket: 0,
            exchange: &[],
            routing_key: queue.as_bytes(),
            mandatory: false,
            immediate: false,
        };
        publish.put(&mut bytes, CHANNEL);
        let method_bytes = bytes.len();
        let body = vec![b'p'; plan.size_bytes.max(8)];
        // Flags with only delivery-mode: 2 is persistent.
        let properties = [0x10, 0x00, if plan.is_durable { 2 } else { 1 }];
        codec::put_content(&mut bytes, CHANNEL, &properties, &body, frame_bytes_max);
        let stride = bytes.len();
        // Method, then a header frame of 8 + 12 + 3 bytes, then 7 bytes of the body frame's head.
        let stamp_at = method_bytes + 8 + 12 + properties.len() + 7;
        Self { bytes: bytes.repeat(count.max(1)), stride, stamp_at }
    }

    /// How many messages one write can carry.
    fn capacity(&self) -> usize {
        self.bytes.len() / self.stride
    }

    /// Sends `count` messages in one write, stamped with what `stamp` says for each.
    fn fire(
        &mut self,
        mut stream: &TcpStream,
        count: usize,
        stamp: impl Fn(u64) -> u64,
    ) -> anyhow::Result<()> {
        let bytes = self.bytes.get_mut(..count * self.stride).unwrap_or_default();
        for (index, message) in (0_u64..).zip(bytes.chunks_exact_mut(self.stride)) {
            if let Some(slot) = message.get_mut(self.stamp_at..self.stamp_at + 8) {
                slot.copy_from_slice(&stamp(index).to_be_bytes());
            }
        }
        stream.write_all(bytes).context("sending to the server")
    }
}

/// Logs in and prepares the channel; returns the socket and the largest frame allowed.
fn prepare(address: &Address, is_confirmed: bool) -> anyhow::Result<(TcpStream, u32)> {
    let mut link = Link::connect(address)?;
    link.open_channel(CHANNEL)?;
    if is_confirmed {
        link.say(CHANNEL, &Method::ConfirmSelect { nowait: false });
        link.call(CHANNEL, "confirm.select", |method| {
            matches!(method, Method::ConfirmSelectOk {})
        })?;
    }
    let frame_bytes_max = link.frame_bytes_max();
    Ok((link.into_stream()?, frame_bytes_max))
}

/// Publishes as fast as the window allows until the run stops; returns the confirm latencies.
pub(super) fn closed(
    address: &Address,
    plan: &Plan,
    queue: &str,
    shared: &Shared,
) -> anyhow::Result<Latencies> {
    let (stream, frame_bytes_max) = prepare(address, plan.is_confirmed)?;
    if !plan.is_confirmed {
        let volley = Volley::new(queue, plan, BURST, frame_bytes_max);
        return unconfirmed(&stream, volley, plan, shared);
    }
    stream.set_read_timeout(Some(LOOK))?;
    let mut volley = Volley::new(queue, plan, plan.window, frame_bytes_max);
    let mut window = Window::new(plan.window)?;
    let mut scanner = Scanner::new();
    let mut stopped_at = None;
    loop {
        let now_ns = shared.now_ns();
        if shared.phase() == Phase::Stop {
            let since = *stopped_at.get_or_insert(now_ns);
            let is_late = now_ns - since > u64::try_from(PATIENCE.as_nanos())?;
            if window.outstanding == 0 || is_late {
                return Ok(window.latencies);
            }
        } else {
            let room = window.room().min(volley.capacity());
            if room > 0 {
                volley.fire(&stream, room, |_| now_ns)?;
                window.sent(room, now_ns);
                shared.published.fetch_add(room as u64, Ordering::Relaxed);
            }
        }
        if scanner.fill(&stream)? == 0 {
            continue;
        }
        let is_measured = shared.phase() == Phase::Measure;
        let now_ns = shared.now_ns();
        let before = window.outstanding;
        scanner.visit(|kind, payload| {
            if kind == METHOD && is_settlement(payload) {
                window.settle(payload, is_measured.then_some(now_ns));
            }
        })?;
        shared.confirmed.fetch_add((before - window.outstanding) as u64, Ordering::Relaxed);
    }
}

/// What a closed-loop publisher knows about its unconfirmed messages.
struct Window {
    limit: usize,
    outstanding: usize,
    /// Number of the last publish.
    last: u64,
    tracker: Tracker,
    /// When each was sent, by number modulo length; longer than the window because answers may
    /// come out of order.
    sent_at: Vec<u64>,
    latencies: Latencies,
}

impl Window {
    fn new(limit: usize) -> anyhow::Result<Self> {
        Ok(Self {
            limit,
            outstanding: 0,
            last: 0,
            tracker: Tracker::default(),
            sent_at: vec![0; (limit * 4).next_power_of_two()],
            latencies: Latencies::new()?,
        })
    }

    fn room(&self) -> usize {
        let span = usize::try_from(self.last - self.tracker.low()).unwrap_or(usize::MAX);
        let slots = self.sent_at.len().saturating_sub(span);
        slots.min(self.limit.saturating_sub(self.outstanding))
    }

    fn slot(sent_at: &[u64], number: u64) -> usize {
        usize::try_from(number).unwrap_or(0) & (sent_at.len() - 1)
    }

    fn sent(&mut self, count: usize, now_ns: u64) {
        for _ in 0..count {
            self.last += 1;
            let slot = Self::slot(&self.sent_at, self.last);
            if let Some(sent_at) = self.sent_at.get_mut(slot) {
                *sent_at = now_ns;
            }
        }
        self.outstanding += count;
    }

    /// Notes one answer; with `now_ns` its latencies are recorded, equal ones at once.
    fn settle(&mut self, payload: &[u8], now_ns: Option<u64>) {
        let Self { sent_at, latencies, outstanding, .. } = self;
        self.tracker.settle(payload, |first, last| {
            let count = usize::try_from(last - first + 1).unwrap_or(0);
            *outstanding = outstanding.saturating_sub(count);
            let Some(now_ns) = now_ns else { return };
            let mut run = (0_u64, 0_u64);
            for number in first..=last {
                let at = sent_at.get(Self::slot(sent_at, number)).copied().unwrap_or(now_ns);
                if at != run.0 {
                    if run.1 > 0 {
                        latencies.record(now_ns.saturating_sub(run.0), run.1);
                    }
                    run = (at, 0);
                }
                run.1 += 1;
            }
            latencies.record(now_ns.saturating_sub(run.0), run.1);
        });
    }
}

/// Publishes without confirms; only the socket, and how far the consumers are behind, slow it.
fn unconfirmed(
    stream: &TcpStream,
    mut volley: Volley,
    plan: &Plan,
    shared: &Shared,
) -> anyhow::Result<Latencies> {
    let burst = volley.capacity();
    while shared.phase() != Phase::Stop {
        let counts = shared.counts();
        if plan.consumers > 0 && counts.published > counts.consumed + AHEAD_MAX {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        let now_ns = shared.now_ns();
        volley.fire(stream, burst, |_| now_ns)?;
        shared.published.fetch_add(burst as u64, Ordering::Relaxed);
    }
    Latencies::new()
}

/// Publishes `rate` messages per second by the clock; returns the confirm latencies.
pub(super) fn open(
    address: &Address,
    plan: &Plan,
    queue: &str,
    (rate, shared): (f64, &Shared),
) -> anyhow::Result<Latencies> {
    let (stream, frame_bytes_max) = prepare(address, plan.is_confirmed)?;
    stream.set_read_timeout(Some(LOOK))?;
    let volley = Volley::new(queue, plan, BURST, frame_bytes_max);
    let schedule = Schedule { began_ns: shared.now_ns(), rate };
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| by_the_clock(&stream, volley, &schedule, (&sent, shared)));
        let latencies = if plan.is_confirmed {
            answers(&stream, &schedule, &sent, shared)
        } else {
            Latencies::new()
        };
        let written = writing.join().map_err(|_| anyhow::anyhow!("the writing thread failed"))?;
        written.and(latencies)
    })
}

/// When which message is due.
struct Schedule {
    began_ns: u64,
    /// Messages per second of this publisher.
    rate: f64,
}

impl Schedule {
    /// When message `number` (from 1) is due.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive")]
    fn due_ns(&self, number: u64) -> u64 {
        self.began_ns + (super::figures::float(number) / self.rate * 1e9) as u64
    }

    /// How many are due by `now_ns`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive")]
    fn due_by(&self, now_ns: u64) -> u64 {
        let passed = super::figures::float(now_ns.saturating_sub(self.began_ns));
        (passed * self.rate / 1e9) as u64
    }
}

fn by_the_clock(
    stream: &TcpStream,
    mut volley: Volley,
    schedule: &Schedule,
    (sent, shared): (&AtomicU64, &Shared),
) -> anyhow::Result<()> {
    let mut last = 0_u64;
    while shared.phase() != Phase::Stop {
        let now_ns = shared.now_ns();
        let due = schedule.due_by(now_ns).saturating_sub(last);
        let count = usize::try_from(due)?.min(volley.capacity());
        if count == 0 {
            let wait_ns = schedule.due_ns(last + 1).saturating_sub(now_ns);
            std::thread::sleep(Duration::from_nanos(wait_ns).min(LOOK));
            continue;
        }
        volley.fire(stream, count, |index| schedule.due_ns(last + 1 + index))?;
        last += count as u64;
        sent.store(last, Ordering::Release);
        shared.published.fetch_add(count as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads confirms until all that was sent is answered or patience ends.
fn answers(
    stream: &TcpStream,
    schedule: &Schedule,
    sent: &AtomicU64,
    shared: &Shared,
) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let (mut tracker, mut scanner) = (Tracker::default(), Scanner::new());
    let mut quiet = Duration::ZERO;
    loop {
        if shared.phase() == Phase::Stop {
            let is_done = tracker.low() >= sent.load(Ordering::Acquire) && !quiet.is_zero();
            if is_done || quiet > PATIENCE {
                return Ok(latencies);
            }
        }
        if scanner.fill(stream)? == 0 {
            quiet += LOOK;
            continue;
        }
        quiet = Duration::ZERO;
        let (now_ns, is_measured) = (shared.now_ns(), shared.phase() == Phase::Measure);
        let mut count = 0;
        scanner.visit(|kind, payload| {
            if kind == METHOD && is_settlement(payload) {
                tracker.settle(payload, |first, last| {
                    count += last - first + 1;
                    for number in first..=last {
                        if is_measured {
                            latencies.record(now_ns.saturating_sub(schedule.due_ns(number)), 1);
                        }
                    }
                });
            }
        })?;
        shared.confirmed.fetch_add(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_lies_in_the_first_bytes_of_the_body() {
        for size_bytes in [8, 100, 20_000] {
            let plan = Plan { size_bytes, ..Plan::default() };
            let volley = Volley::new("some.queue", &plan, 3, 4096);
            assert_eq!(volley.capacity(), 3);
            for copy in volley.bytes.chunks_exact(volley.stride) {
                let stamp = &copy[volley.stamp_at..volley.stamp_at + 8];
                assert_eq!(stamp, b"pppppppp");
                assert_ne!(copy[volley.stamp_at - 1], b'p');
            }
        }
    }

    #[test]
    fn the_schedule_is_exact_over_long_runs() {
        let schedule = Schedule { began_ns: 5, rate: 30_000.0 };
        assert_eq!(schedule.due_ns(30_000 * 60), 60_000_000_005);
        assert_eq!(schedule.due_by(60_000_000_005), 30_000 * 60);
        assert_eq!(schedule.due_by(0), 0);
    }

    #[test]
    fn the_window_opens_as_answers_come() {
        let mut window = Window::new(4).unwrap();
        window.sent(4, 10);
        assert_eq!(window.room(), 0);
        let ack = |number: u8, bits: u8| [0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, number, bits];
        window.settle(&ack(2, 0), Some(1010));
        assert_eq!(window.room(), 1);
        window.settle(&ack(4, 1), Some(1010));
        assert_eq!(window.room(), 4);
        assert!((window.latencies.summary().unwrap().p50 - 1.0).abs() < 0.01);
    }
}
