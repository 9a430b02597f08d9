//! Load against any beanstalkd server: put, reserve and delete in batches, or one by one; or jobs
//! that are put and stay. One blocking thread per client.
//!
//! Here: the plan, the threads and the report. Not here: bytes (`talk`).

mod talk;

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use self::talk::Talk;
use super::figures::{Latencies, Percentiles, Phase, Shared, float};
use super::process::{ServerProcess, cpu_of_this_process};
use super::report::{CpuUse, Sizes, latency_text, mebi, rounded};

/// Largest batch: its answers must fit into the sockets' buffers, because nothing is read before
/// the whole batch is written.
pub(crate) const PIPELINE_MAX: u16 = 1000;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `HOST:PORT`.
    Port(String, u16),
    /// `unix:PATH`.
    File(std::path::PathBuf),
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::File(path.into()));
        }
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts.ok_or("expected HOST:PORT or unix:PATH")?;
        Ok(Self::Port(host.trim_matches(['[', ']']).to_owned(), port))
    }
}

/// Everything that decides a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) place: Place,
    pub(crate) clients: u16,
    /// Commands of a kind that are sent together; 1 waits for each answer.
    pub(crate) pipeline: u16,
    pub(crate) size_bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) tube: String,
    /// The server's process; `None` looks for it.
    pub(crate) pid: Option<u32>,
    /// So many jobs are put and left there, and nothing else is done.
    pub(crate) fill: Option<u64>,
}

/// What one run found. What was not measured is `None`.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    /// As the server says in its `stats`.
    server: String,
    clients: u16,
    pipeline: u16,
    size_bytes: usize,
    /// Jobs put, reserved and deleted in the time; of a fill, put.
    jobs: u64,
    seconds: f64,
    jobs_per_s: f64,
    /// A whole round: a batch of puts, one of reserves, one of deletes.
    round_us: Option<Percentiles>,
    /// The batch of puts in it.
    put_us: Option<Percentiles>,
    client_cpu: Option<CpuUse>,
    server_cpu: Option<CpuUse>,
    /// Before and after.
    resident_bytes: Option<(u64, u64)>,
    sizes: Option<Sizes>,
}

impl Report {
    /// The report for a person.
    pub(crate) fn text(&self) -> String {
        let Self { clients, pipeline, size_bytes, .. } = self;
        let (s, each) = (if *clients == 1 { "" } else { "s" }, rounded(self.jobs_per_s));
        let mut text = format!(
            "{clients} client{s}, {pipeline} at a time, {size_bytes} bytes, on {}\n",
            self.server
        );
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            writeln!(text, "  {name:<18} {value}").ok();
        };
        line("jobs/s", format!("{each} ({} in {:.1} s)", self.jobs, self.seconds));
        for (name, latency) in [("round", &self.round_us), ("puts of a round", &self.put_us)] {
            if let Some(latency) = latency {
                line(name, latency_text(latency));
            }
        }
        for (name, cpu) in [("server CPU", &self.server_cpu), ("client CPU", &self.client_cpu)] {
            if let Some(CpuUse { us_per_message, share }) = cpu {
                let share = share * 100.0;
                line(name, format!("{us_per_message:.2} us a job, {share:.0} % of a core"));
            }
        }
        if let Some((before, after)) = self.resident_bytes {
            line("server memory", format!("{} before, {} after", mebi(before), mebi(after)));
        }
        if let Some(bytes) = self.sizes.as_ref().and_then(|sizes| sizes.bytes_each) {
            line("memory of a job", format!("{bytes:.0} B"));
        }
        text
    }
}

/// Runs a plan to its end.
///
/// # Errors
/// When the server cannot be reached, refuses, or goes away.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Report> {
    let mut first = Talk::begin(plan)?;
    let server = first.version()?;
    let process = plan.pid.map(ServerProcess::of).or_else(|| match &plan.place {
        Place::Port(host, port) => ServerProcess::find_at(host, *port),
        Place::File(_) => None,
    });
    let mut report = match plan.fill {
        Some(count) => fill(plan, &mut first, count, process.as_ref())?,
        None => flow(plan, process.as_ref())?,
    };
    report.server = server;
    Ok(report)
}

/// What is known at one moment.
struct Moment {
    at: Instant,
    jobs: u64,
    client_s: f64,
    server_s: Option<f64>,
    server_bytes: Option<u64>,
}

impl Moment {
    fn now(jobs: u64, server: Option<&ServerProcess>) -> Self {
        Self {
            at: Instant::now(),
            jobs,
            client_s: cpu_of_this_process(),
            server_s: server.map(ServerProcess::cpu_s),
            server_bytes: server.map(ServerProcess::resident_bytes),
        }
    }
}

fn between(plan: &Plan, before: &Moment, after: &Moment) -> Report {
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let jobs = after.jobs - before.jobs;
    let cpu = |spent_s: f64| CpuUse {
        us_per_message: spent_s * 1e6 / float(jobs.max(1)),
        share: spent_s / seconds,
    };
    Report {
        server: String::new(),
        clients: plan.clients,
        pipeline: plan.pipeline,
        size_bytes: plan.size_bytes,
        jobs,
        seconds,
        jobs_per_s: float(jobs) / seconds,
        round_us: None,
        put_us: None,
        client_cpu: Some(cpu(after.client_s - before.client_s)),
        server_cpu: before.server_s.zip(after.server_s).map(|(before, after)| cpu(after - before)),
        resident_bytes: before.server_bytes.zip(after.server_bytes),
        sizes: None,
    }
}

fn fill(
    plan: &Plan,
    talk: &mut Talk,
    count: u64,
    server: Option<&ServerProcess>,
) -> anyhow::Result<Report> {
    let before = Moment::now(0, server);
    let mut left = count;
    while left > 0 {
        let batch = usize::try_from(left.min(plan.pipeline.into()))?;
        talk.put(batch)?;
        left -= batch as u64;
    }
    let after = Moment::now(count, server);
    let mut report = between(plan, &before, &after);
    let grown = report.resident_bytes.map(|(before, after)| after.saturating_sub(before));
    report.sizes = Some(Sizes {
        count: usize::try_from(count)?,
        per_s: report.jobs_per_s,
        bytes_each: grown.map(|bytes| float(bytes) / float(count.max(1))),
    });
    Ok(report)
}

/// Latencies of whole rounds and of the puts in them.
type Record = (Latencies, Latencies);

fn flow(plan: &Plan, server: Option<&ServerProcess>) -> anyhow::Result<Report> {
    let shared = Shared::new();
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 0..plan.clients {
            let mut talk = Talk::begin(plan)?;
            let shared = &shared;
            workers.push(scope.spawn(move || {
                let done = rounds(&mut talk, plan, shared);
                if done.is_err() {
                    // The others need not go on.
                    shared.enter(Phase::Stop);
                }
                done
            }));
        }
        let moment = || Moment::now(shared.counts().consumed, server);
        wait(plan.warm_up, &shared);
        let before = moment();
        if shared.phase() == Phase::WarmUp {
            shared.enter(Phase::Measure);
        }
        wait(plan.duration, &shared);
        let after = moment();
        shared.enter(Phase::Stop);
        let (mut whole, mut puts) = (Latencies::new()?, Latencies::new()?);
        for worker in workers {
            let (one, of_puts) = worker.join().map_err(|_| anyhow!("a load thread failed"))??;
            whole.add(&one);
            puts.add(&of_puts);
        }
        let mut report = between(plan, &before, &after);
        (report.round_us, report.put_us) = (whole.summary(), puts.summary());
        Ok(report)
    })
}

/// Waits, or until a worker has failed.
fn wait(duration: Duration, shared: &Shared) {
    let until = Instant::now() + duration;
    while Instant::now() < until && shared.phase() != Phase::Stop {
        let left = until.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

fn rounds(talk: &mut Talk, plan: &Plan, shared: &Shared) -> anyhow::Result<Record> {
    let (mut whole, mut puts) = (Latencies::new()?, Latencies::new()?);
    let batch = usize::from(plan.pipeline);
    while shared.phase() != Phase::Stop {
        let began_ns = shared.now_ns();
        talk.put(batch)?;
        let put_ns = shared.now_ns();
        talk.reserve(batch)?;
        talk.delete()?;
        let done_ns = shared.now_ns();
        shared.consumed.fetch_add(batch as u64, Ordering::Relaxed);
        if shared.phase() == Phase::Measure {
            whole.record(done_ns - began_ns, 1);
            puts.record(put_ns - began_ns, 1);
        }
    }
    Ok((whole, puts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ports_and_files() {
        let port = |host: &str, port| Ok(Place::Port(host.to_owned(), port));
        assert_eq!("127.0.0.1:11300".parse(), port("127.0.0.1", 11300));
        assert_eq!("[::1]:7".parse(), port("::1", 7));
        assert_eq!("unix:/run/b".parse(), Ok(Place::File("/run/b".into())));
        for text in ["unix:", "11300", "host:", "host:x"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_report_tells_what_was_measured() {
        let plan = Plan {
            place: Place::Port("h".into(), 1),
            clients: 2,
            pipeline: 10,
            size_bytes: 100,
            warm_up: Duration::ZERO,
            duration: Duration::ZERO,
            tube: "t".into(),
            pid: None,
            fill: None,
        };
        let at = Instant::now();
        let moment = |jobs, seconds| Moment {
            at: at + Duration::from_secs(seconds),
            jobs,
            client_s: float(seconds) / 2.0,
            server_s: None,
            server_bytes: Some(jobs * 100),
        };
        let report = between(&plan, &moment(100, 1), &moment(2100, 3));
        assert!((report.jobs_per_s - 1000.0).abs() < 0.1, "{report:?}");
        assert_eq!(report.resident_bytes, Some((10_000, 210_000)));
        let text = report.text();
        assert!(
            text.contains("1,000 (2000 in 2.0 s)") && text.contains("500.00 us a job"),
            "{text}"
        );
        assert!(!text.contains("server CPU") && !text.contains("round"), "{text}");
    }
}
