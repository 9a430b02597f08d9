//! One consumer: deliveries in, one acknowledgement of several per read out.
//! Not here: what the latencies mean (`docs/performance.md`), which queue (`load`).

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use bytes::BytesMut;
use proto_amqp::codec::{BODY, HEADER, METHOD};
use proto_amqp::table::Method;

use super::figures::{Latencies, Phase, Shared};
use super::plan::Plan;
use super::scan::{Scanner, delivery_tag};
use crate::client::{Address, Link};

const CHANNEL: u16 = 1;
/// How often a waiting consumer looks whether the run is over.
const LOOK: Duration = Duration::from_millis(100);

/// Opens a consumer; returns its socket.
pub(super) fn prepare(address: &Address, plan: &Plan, queue: &str) -> anyhow::Result<TcpStream> {
    let mut link = Link::connect(address)?;
    link.open_channel(CHANNEL)?;
    if !plan.is_auto_ack {
        let prefetch_count = plan.prefetch;
        link.say(CHANNEL, &Method::BasicQos { prefetch_size: 0, prefetch_count, global: false });
        link.call(CHANNEL, "basic.qos", |method| matches!(method, Method::BasicQosOk {}))?;
    }
    // The reply is left to the scanner: deliveries may follow it in the same packet.
    let consume = Method::BasicConsume {
        ticket: 0,
        queue: queue.as_bytes(),
        consumer_tag: b"c",
        no_local: false,
        no_ack: plan.is_auto_ack,
        exclusive: false,
        nowait: false,
        arguments: &[],
    };
    link.say(CHANNEL, &consume);
    let stream = link.into_stream()?;
    stream.set_read_timeout(Some(LOOK))?;
    Ok(stream)
}

/// Consumes until the run stops and nothing arrives any more; returns the time from publish
/// (or from when it was due) to delivery.
pub(super) fn run(
    mut stream: &TcpStream,
    plan: &Plan,
    shared: &Shared,
) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let mut scanner = Scanner::new();
    let mut ack = BytesMut::new();
    loop {
        if scanner.fill(stream)? == 0 {
            if shared.phase() == Phase::Stop {
                return Ok(latencies);
            }
            continue;
        }
        let (now_ns, is_measured) = (shared.now_ns(), shared.phase() == Phase::Measure);
        let batch = read_batch(&mut scanner, |stamp| {
            if is_measured {
                latencies.record(now_ns.saturating_sub(stamp), 1);
            }
        })?;
        shared.consumed.fetch_add(batch.messages, Ordering::Relaxed);
        if let Some(tag) = batch.last_tag
            && !plan.is_auto_ack
        {
            ack.clear();
            Method::BasicAck { delivery_tag: tag, multiple: true }.put(&mut ack, CHANNEL);
            stream.write_all(&ack).context("acknowledging")?;
        }
    }
}

/// What one read brought.
struct Batch {
    messages: u64,
    /// The last delivery; the rest of its body may still be on the way.
    last_tag: Option<u64>,
}

/// Visits the frames that are there and hands over each message's stamp.
fn read_batch(scanner: &mut Scanner, mut stamp: impl FnMut(u64)) -> anyhow::Result<Batch> {
    let mut batch = Batch { messages: 0, last_tag: None };
    let mut is_first_body = false;
    scanner.visit(|kind, payload| match kind {
        METHOD => {
            if let Some(tag) = delivery_tag(payload) {
                batch.last_tag = Some(tag);
            }
        }
        HEADER => {
            batch.messages += 1;
            is_first_body = true;
        }
        BODY if std::mem::take(&mut is_first_body) => {
            if let Some((first, _)) = payload.split_first_chunk::<8>() {
                stamp(u64::from_be_bytes(*first));
            }
        }
        _ => {}
    })?;
    Ok(batch)
}
