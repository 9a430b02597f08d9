//! A stream of messages for a while: threads, phases, and the figures between two moments.
//!
//! One blocking thread per publisher and per consumer, each with a connection of its own. Not
//! here: what a thread does (`publisher`, `consumer`).

use std::thread::{Scope, ScopedJoinHandle};

use super::figures::{Counts, Latencies, Phase, Shared, float};
use super::plan::Plan;
use super::process::{ServerProcess, cpu_of_this_process};
use super::report::{CpuUse, Report, Speed};
use super::{consumer, publisher};
use crate::client::{Address, Client, QueueSpec};

/// Runs a plan of the stream kind.
pub(super) fn run(
    address: &Address,
    plan: &Plan,
    server: Option<&ServerProcess>,
) -> anyhow::Result<Report> {
    let queues = Queues::declare(address, plan)?;
    let outcome = flow(address, plan, &queues.names, server);
    // The load's own fault says more than one of tidying up after it.
    let tidied = queues.delete();
    let mut report = outcome?;
    tidied?;
    report.server.clone_from(&queues.server);
    Ok(report)
}

/// The queues of one run.
pub(super) struct Queues {
    address: Address,
    pub(super) names: Vec<String>,
    /// Product and version.
    pub(super) server: String,
}

impl Queues {
    /// Declares as many as the plan says, under names that no other run has.
    pub(super) fn declare(address: &Address, plan: &Plan) -> anyhow::Result<Self> {
        let mut client = Client::connect(address)?;
        let mut names = Vec::new();
        let quorum = [("x-queue-type", model::table::Value::Text(b"quorum"))];
        for index in 0..plan.queues.max(1) {
            let name = format!("potager.bench.{}.{index}", std::process::id());
            client.declare_queue(&QueueSpec {
                name: &name,
                is_durable: plan.is_durable,
                arguments: if plan.is_quorum { &quorum } else { &[] },
                ..QueueSpec::default()
            })?;
            names.push(name);
        }
        let server = client.server().to_owned();
        client.close();
        Ok(Self { address: address.clone(), names, server })
    }

    /// Deletes them with what is in them.
    pub(super) fn delete(&self) -> anyhow::Result<()> {
        let mut client = Client::connect(&self.address)?;
        for name in &self.names {
            client.delete_queue(name)?;
        }
        client.close();
        Ok(())
    }
}

type Worker<'scope> = ScopedJoinHandle<'scope, anyhow::Result<Latencies>>;

fn flow(
    address: &Address,
    plan: &Plan,
    queues: &[String],
    server: Option<&ServerProcess>,
) -> anyhow::Result<Report> {
    let shared = Shared::new();
    std::thread::scope(|scope| {
        let consuming = start_consumers(scope, address, plan, (queues, &shared))?;
        let publishing = start_publishers(scope, address, plan, (queues, &shared));
        let workers: Vec<&Worker<'_>> = consuming.iter().chain(&publishing).collect();
        pause(plan.warm_up, &workers);
        let before = Moment::now(&shared, server);
        shared.enter(Phase::Measure);
        pause(plan.duration, &workers);
        let after = Moment::now(&shared, server);
        shared.enter(Phase::Stop);
        let confirms = gather(publishing)?;
        let deliveries = gather(consuming)?;
        let mut report = between(plan, &before, &after);
        report.confirm_us = confirms.summary();
        report.delivery_us = deliveries.summary();
        Ok(report)
    })
}

fn start_consumers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    address: &Address,
    plan: &'scope Plan,
    (queues, shared): (&[String], &'scope Shared),
) -> anyhow::Result<Vec<Worker<'scope>>> {
    let mut workers = Vec::new();
    for queue in queues.iter().cycle().take(plan.consumers) {
        let stream = consumer::prepare(address, plan, queue)?;
        workers.push(scope.spawn(move || consumer::run(&stream, plan, shared)));
    }
    Ok(workers)
}

fn start_publishers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    address: &'scope Address,
    plan: &'scope Plan,
    (queues, shared): (&'scope [String], &'scope Shared),
) -> Vec<Worker<'scope>> {
    let rate = plan.rate.map(|rate| f64::from(rate) / float(plan.publishers.max(1) as u64));
    let start = |queue: &'scope String| {
        scope.spawn(move || match rate {
            Some(rate) => publisher::open(address, plan, queue, (rate, shared)),
            None => publisher::closed(address, plan, queue, shared),
        })
    };
    queues.iter().cycle().take(plan.publishers).map(start).collect()
}

/// Waits, or until a worker has ended, which only an error makes it do.
fn pause(duration: std::time::Duration, workers: &[&Worker<'_>]) {
    let until = std::time::Instant::now() + duration;
    while std::time::Instant::now() < until && !workers.iter().any(|worker| worker.is_finished()) {
        let left = until.saturating_duration_since(std::time::Instant::now());
        std::thread::sleep(left.min(std::time::Duration::from_millis(50)));
    }
}

fn gather(workers: Vec<Worker<'_>>) -> anyhow::Result<Latencies> {
    let mut all = Latencies::new()?;
    for worker in workers {
        let one = worker.join().map_err(|_| anyhow::anyhow!("a load thread failed"))??;
        all.add(&one);
    }
    Ok(all)
}

/// Counters and processor times at one moment.
struct Moment {
    at_ns: u64,
    counts: Counts,
    /// Seconds of processor time.
    client_s: f64,
    server_s: Option<f64>,
    server_bytes: Option<u64>,
}

impl Moment {
    fn now(shared: &Shared, server: Option<&ServerProcess>) -> Self {
        Self {
            at_ns: shared.now_ns(),
            counts: shared.counts(),
            client_s: cpu_of_this_process(),
            server_s: server.map(ServerProcess::cpu_s),
            server_bytes: server.map(ServerProcess::resident_bytes),
        }
    }
}

fn between(plan: &Plan, before: &Moment, after: &Moment) -> Report {
    let seconds = float(after.at_ns - before.at_ns) / 1e9;
    let counts = after.counts.since(before.counts);
    let per_second = |count: u64| float(count) / seconds;
    let messages = if plan.is_confirmed {
        counts.confirmed
    } else if plan.consumers > 0 {
        counts.consumed
    } else {
        counts.published
    };
    let cpu = |spent_s: f64| CpuUse {
        us_per_message: spent_s * 1e6 / float(messages.max(1)),
        share: spent_s / seconds,
    };
    let mut report = Report::new(plan);
    report.speed = Some(Speed {
        messages_per_s: per_second(messages),
        published_per_s: per_second(counts.published),
        confirmed_per_s: per_second(counts.confirmed),
        consumed_per_s: per_second(counts.consumed),
        seconds,
    });
    report.client_cpu = Some(cpu(after.client_s - before.client_s));
    report.server_cpu = before.server_s.zip(after.server_s).map(|(b, a)| cpu(a - b));
    report.resident_bytes = before.server_bytes.zip(after.server_bytes);
    report
}
