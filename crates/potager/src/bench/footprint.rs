//! What idle things cost a server: connections, queues, stored messages, and logging in.
//! Not here: messages in flight (`load`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use proto_amqp::table::Method;

use super::figures::{Latencies, Phase, Shared, float};
use super::load::Queues;
use super::plan::Plan;
use super::process::ServerProcess;
use super::report::{CpuUse, Report, Sizes, Speed};
use super::{consumer, publisher};
use crate::client::{Address, Client, Link};

/// Declarations under way at a time.
const DECLARES: usize = 200;
/// Connections opened at a time in a storm.
const STORMERS: usize = 8;
/// How long idle things are watched.
const WATCH: Duration = Duration::from_secs(3);
/// How long a server may take to settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Opens connections with one channel each, watches them idle, lets them go.
pub(super) fn idle_connections(
    address: &Address,
    plan: &Plan,
    server: Option<&ServerProcess>,
) -> anyhow::Result<Report> {
    raise_file_limit(plan.count)?;
    let before = server.map(ServerProcess::resident_bytes);
    let began = Instant::now();
    let mut streams = Vec::with_capacity(plan.count);
    let mut name = String::new();
    for index in 0..plan.count {
        let opened = Link::connect(address).and_then(|mut link| {
            link.open_channel(1)?;
            Ok(link)
        });
        let link = opened.with_context(|| format!("opening connection {}", index + 1))?;
        if name.is_empty() {
            link.server().clone_into(&mut name);
        }
        streams.push(link.into_stream()?);
    }
    let took = began.elapsed();
    let mut report = counted(plan, took, before, server);
    report.server = name;
    report.idle_cpu_share = server.map(|server| {
        let (cpu_s, began) = (server.cpu_s(), Instant::now());
        std::thread::sleep(WATCH);
        (server.cpu_s() - cpu_s) / began.elapsed().as_secs_f64()
    });
    drop(streams);
    Ok(report)
}

/// A report with a speed of `count` in `took` and the server's memory before and now.
fn counted(
    plan: &Plan,
    took: Duration,
    before: Option<u64>,
    server: Option<&ServerProcess>,
) -> Report {
    std::thread::sleep(SETTLE);
    let after = server.map(ServerProcess::resident_bytes);
    let mut report = Report::new(plan);
    report.sizes = Some(Sizes {
        count: plan.count,
        per_s: float(plan.count as u64) / took.as_secs_f64(),
        bytes_each: before.zip(after).map(|(before, after)| {
            float(after.saturating_sub(before)) / float(plan.count.max(1) as u64)
        }),
    });
    report.resident_bytes = before.zip(after);
    report
}

fn raise_file_limit(count: usize) -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = count as u64 + 100;
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        setrlimit(Resource::Nofile, limit).context("raising the limit of open files")?;
        if limit.current < Some(wanted) {
            anyhow::bail!("{count} connections need `ulimit -n {wanted}` or more");
        }
    }
    Ok(())
}

/// Declares durable queues, many under way at a time, then deletes them.
pub(super) fn queues(
    address: &Address,
    plan: &Plan,
    server: Option<&ServerProcess>,
) -> anyhow::Result<Report> {
    let mut link = Link::connect(address)?;
    link.open_channel(1)?;
    let before = server.map(ServerProcess::resident_bytes);
    let cpu_before = server.map(ServerProcess::cpu_s);
    let prefix = format!("potager.bench.{}", std::process::id());
    let began = Instant::now();
    each_in_turn(&mut link, plan.count, |link, index| {
        let name = format!("{prefix}.{index}");
        let declare = Method::QueueDeclare {
            ticket: 0,
            queue: name.as_bytes(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: &[],
        };
        link.say(1, &declare);
    })?;
    let took = began.elapsed();
    let cpu_s = server.map(ServerProcess::cpu_s).zip(cpu_before).map(|(now, then)| now - then);
    let mut report = counted(plan, took, before, server);
    link.server().clone_into(&mut report.server);
    report.server_cpu = cpu_s.map(|cpu_s| CpuUse {
        us_per_message: cpu_s * 1e6 / float(plan.count.max(1) as u64),
        share: cpu_s / took.as_secs_f64(),
    });
    if !plan.is_kept {
        each_in_turn(&mut link, plan.count, |link, index| {
            let name = format!("{prefix}.{index}");
            let queue = name.as_bytes();
            let (if_unused, if_empty, nowait) = (false, false, false);
            link.say(1, &Method::QueueDelete { ticket: 0, queue, if_unused, if_empty, nowait });
        })?;
    }
    link.close();
    Ok(report)
}

/// Sends `count` methods and awaits their replies, [`DECLARES`] under way at a time.
fn each_in_turn(
    link: &mut Link,
    count: usize,
    say: impl Fn(&mut Link, usize),
) -> anyhow::Result<()> {
    let is_reply = |method: &Method<'_>| {
        matches!(method, Method::QueueDeclareOk { .. } | Method::QueueDeleteOk { .. })
    };
    let mut next = 0;
    while next < count {
        let batch = DECLARES.min(count - next);
        for index in next..next + batch {
            say(link, index);
        }
        for _ in 0..batch {
            link.call(1, "a declaration", is_reply)?;
        }
        next += batch;
    }
    Ok(())
}

/// Stores messages that nobody consumes, then drains them.
pub(super) fn backlog(
    address: &Address,
    plan: &Plan,
    server: Option<&ServerProcess>,
) -> anyhow::Result<Report> {
    let queues = Queues::declare(address, plan)?;
    let before = server.map(ServerProcess::resident_bytes);
    let began = Instant::now();
    let shared = Shared::new();
    let store = Plan { consumers: 0, ..plan.clone() };
    until(
        &shared,
        plan.count,
        |shared| shared.counts().confirmed,
        |shared| publisher::closed(address, &store, &queue_of(&queues)?, shared).map(drop),
    )?;
    let stored = shared.counts().confirmed;
    let took = began.elapsed();
    let mut report = counted(plan, took, before, server);
    report.server.clone_from(&queues.server);
    let drain = Shared::new();
    let began = Instant::now();
    let stored_count = usize::try_from(stored)?;
    until(
        &drain,
        stored_count,
        |shared| shared.counts().consumed,
        |shared| {
            let stream = consumer::prepare(address, plan, &queue_of(&queues)?)?;
            consumer::run(&stream, plan, shared).map(drop)
        },
    )?;
    let seconds = began.elapsed().as_secs_f64();
    let drained = float(drain.counts().consumed);
    report.speed = Some(Speed { consumed_per_s: drained / seconds, seconds, ..Speed::default() });
    queues.delete()?;
    Ok(report)
}

fn queue_of(queues: &Queues) -> anyhow::Result<String> {
    queues.names.first().cloned().context("no queue")
}

/// Lets one worker run until a counter reaches `count`, or the worker ends by itself.
fn until(
    shared: &Shared,
    count: usize,
    counter: impl Fn(&Shared) -> u64,
    work: impl FnOnce(&Shared) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(shared));
        while counter(shared) < count as u64 && !worker.is_finished() {
            std::thread::sleep(Duration::from_millis(2));
        }
        shared.enter(Phase::Stop);
        worker.join().map_err(|_| anyhow::anyhow!("a load thread failed"))?
    })
}

/// Opens and closes connections from several threads at once.
pub(super) fn storm(address: &Address, plan: &Plan) -> anyhow::Result<Report> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..STORMERS).map(|_| scope.spawn(|| one_stormer(address, plan, &next))).collect();
        let mut all = Latencies::new()?;
        for worker in workers {
            all.add(&worker.join().map_err(|_| anyhow::anyhow!("a load thread failed"))??);
        }
        anyhow::Ok(all)
    })?;
    let mut report = Report::new(plan);
    report.sizes = Some(Sizes {
        count: plan.count,
        per_s: float(plan.count as u64) / began.elapsed().as_secs_f64(),
        bytes_each: None,
    });
    report.confirm_us = latencies.summary();
    Ok(report)
}

fn one_stormer(address: &Address, plan: &Plan, next: &AtomicUsize) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new()?;
    while next.fetch_add(1, Ordering::Relaxed) < plan.count {
        let began = Instant::now();
        let client = Client::connect(address)?;
        latencies.record(u64::try_from(began.elapsed().as_nanos())?, 1);
        client.close();
    }
    Ok(latencies)
}
