//! How many completions a second the server's own interface takes, without HTTP: acknowledge a job
//! by its name, store a result of 1 KiB by key, publish the next job, each one commit.
//!
//! One session, one thread, a real log in a folder of its own, every flush waited for. Usage:
//! `cargo run --release --example complete [-- memory]`; with `memory` the log is in memory and
//! what is left is the engine, the log's encoding and the pipeline.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use journal::disk::{Disk, MemoryDisk, RealDisk};
use journal::{Durability, Workers};
use model::{
    Enqueue, Envelope, Event, JobRef, Limits, Millis, Op, Output, Policy, RANK, Reply, Request,
    SessionId, StoreResult, Take, Ticket,
};
use replica::{Node, SessionInfo};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Millis = Millis(1_700_000_000_000);
/// Jobs of one round: taken together, completed together.
const ROUND: usize = 1000;
const ROUNDS: usize = 400;
const RESULT_BYTES: usize = 1024;

fn main() -> anyhow::Result<()> {
    let is_memory = std::env::args().nth(1).is_some_and(|word| word == "memory");
    let folder = tempfile::tempdir()?;
    let disk: Arc<dyn Disk> =
        if is_memory { Arc::new(MemoryDisk::default()) } else { Arc::new(RealDisk) };
    let dir = if is_memory { "/data".into() } else { folder.path().to_owned() };
    let mut bench = Bench::open(disk, dir)?;
    let mut spent = Duration::ZERO;
    for round in 0..ROUNDS {
        let jobs = bench.jobs(round)?;
        let begin = Instant::now();
        bench.complete(round, &jobs)?;
        spent += begin.elapsed();
    }
    let count = ROUND * ROUNDS;
    let micros = spent.as_secs_f64() * 1e6 / f64::from(u32::try_from(count)?);
    let rate = 1e6 / micros;
    anstream::println!("{count} completions: {micros:.2} us each, {rate:.0} a second");
    Ok(())
}

struct Bench {
    node: Node,
    session: SessionId,
}

impl Bench {
    fn open(disk: Arc<dyn Disk>, dir: std::path::PathBuf) -> anyhow::Result<Self> {
        let journal = journal::Options {
            dir,
            durability: Durability::Fsync,
            free_bytes_min: 0,
            seed: Some(7),
            ..journal::Options::default()
        };
        let options = replica::Options { journal, limits: Limits::default() };
        let mut count = 0;
        let entropy = Box::new(move || {
            count += 1;
            count
        });
        let (mut node, _) = Node::open(disk, options, Workers::Inline, NOW, entropy)?;
        let peer = Bytes::from_static(b"bench");
        let info = SessionInfo { peer, door: "work", ..SessionInfo::default() };
        let session = node.open_session(info, Rc::new(|| {}));
        let mut bench = Self { node, session };
        bench.ask(0, Request::OpenVhost(Bytes::from_static(b"/")));
        bench.ask(1, Request::OpenChannel { is_strict: false });
        bench.settle(2, &mut |_| {})?;
        Ok(bench)
    }

    fn ask(&mut self, channel: u16, request: Request) {
        let mut batch = vec![Envelope { channel, ticket: Ticket(1), request }];
        self.node.submit(NOW, self.session, &mut batch);
    }

    /// Turns until so many answers have come.
    fn settle(
        &mut self,
        mut answers: usize,
        look: &mut dyn FnMut(&Output<'_>),
    ) -> anyhow::Result<()> {
        for _ in 0..1000 {
            self.node.commit(NOW)?;
            self.node.run_pending();
            self.node.commit(NOW)?;
            let mut refused = None;
            self.node.collect(NOW, self.session, &mut |output| {
                if let Output::Reply { reply, .. } = &output {
                    answers = answers.saturating_sub(1);
                    if let Reply::Refused(refusal) = reply {
                        refused = Some(format!("{refusal:?}"));
                    }
                }
                look(&output);
                Ok::<_, std::convert::Infallible>(true)
            })?;
            if let Some(refusal) = refused {
                bail!("refused: {refusal}");
            }
            if answers == 0 {
                return Ok(());
            }
        }
        bail!("{answers} answers are missing")
    }

    /// Publishes jobs and takes them.
    fn jobs(&mut self, round: usize) -> anyhow::Result<Vec<JobRef>> {
        let queue = Bytes::from_static(b"work");
        for job in 0..ROUND {
            let body = Bytes::from(format!("job {round}/{job}"));
            let (queue, rank) = (queue.clone(), RANK);
            self.ask(1, Request::Enqueue(Enqueue { queue, body, rank, ..Enqueue::default() }));
        }
        self.settle(ROUND, &mut |_| {})?;
        let most = u32::try_from(ROUND)?;
        let take = Take { queues: vec![queue], most, lease_s: 600, waits: false };
        self.ask(1, Request::Take(Box::new(take)));
        let mut jobs = Vec::with_capacity(ROUND);
        self.settle(1, &mut |output| {
            if let Output::Event(Event::Taken { facts, .. }) = output {
                jobs.push(facts.job);
            }
        })?;
        ensure!(jobs.len() == ROUND, "only {} jobs were handed over", jobs.len());
        Ok(jobs)
    }

    /// Completes them in one batch, each with one commit, until all is durable.
    fn complete(&mut self, round: usize, jobs: &[JobRef]) -> anyhow::Result<()> {
        let value = Bytes::from_static(&[b'r'; RESULT_BYTES]);
        let mut batch = Vec::with_capacity(jobs.len());
        for (at, job) in jobs.iter().enumerate() {
            let store = StoreResult {
                // As many keys as an hour's work: the results of older rounds make room.
                key: Bytes::from(format!("result/{}/{at}", round % 20)),
                value: value.clone(),
                policy: Policy::LastWins,
                ..StoreResult::default()
            };
            let next = Enqueue {
                queue: Bytes::from_static(b"next"),
                body: Bytes::from_static(b"the next step"),
                rank: RANK,
                ..Enqueue::default()
            };
            let steps =
                vec![Op::Finish(*job), Op::Store(Box::new(store)), Op::Enqueue(Box::new(next))];
            let request = Request::Commit(steps);
            batch.push(Envelope { channel: 1, ticket: Ticket(1), request });
        }
        self.node.submit(NOW, self.session, &mut batch);
        self.settle(jobs.len(), &mut |_| {}).context("completing")
    }
}
