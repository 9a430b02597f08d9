//! The dial-out worker: claims items from a Potager server, runs them on model servers beside it or
//! as processes, renews their leases, delivers results. Nothing listens.
//!
//! Source: `docs/protocols/work.md`. For users: `docs/operate/worker.md`.
//!
//! ```text
//! Worker::open -> Agent::run:
//!     claim -> lanes -> Perform (upstream, process, lines) -> spool -> deliver
//! ```
//!
//! Here: putting it together. Not here: the command line, showing figures (the binary); the
//! server's side of the API (`gateway`). One thread is enough for it, and expected.

mod agent;
mod api;
mod appetite;
mod backoff;
mod client;
mod ending;
mod fault;
mod figures;
mod hardware;
mod heartbeat;
mod lanes;
mod lines;
mod pace;
mod plan;
mod probe;
mod process;
mod server;
mod spool;
mod stop;
#[cfg(test)]
mod tests;
mod transport;
mod upstream;
mod verdict;

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use client::{Client, Reply, Unanswered, escape};
pub use fault::Fault;
pub use figures::{LaneFigures, Snapshot};
pub use hardware::{Gpu, Hardware};
pub use plan::{
    Concurrency, EndingPlan, HttpPlan, Limits, Plan, Policy, SpoolPlan, Token, Work, split_command,
};
pub use stop::Stop;

use agent::{Agent, Parts, Rules};
use ending::Perform;
use lanes::{Health, Lanes};
use lines::Lines;
use pace::Pace;
use process::Exec;
use server::Remote;
use spool::{Spool, Stored};
use transport::{Transport, Way};
use upstream::Upstream;

/// A worker that is ready to start: its spool is open, nothing was asked yet.
#[derive(Debug)]
pub struct Worker {
    plan: Plan,
    name: String,
    spool: Spool,
    found: Vec<Stored>,
    survey: hardware::Survey,
    hardware: Hardware,
}

impl Worker {
    /// Looks at the machine and opens the spool.
    ///
    /// # Errors
    /// The plan cannot work, or the spool cannot be used.
    pub fn open(plan: Plan) -> Result<Self, Fault> {
        plan.check()?;
        let survey = hardware::Survey::new();
        let hardware = survey.hardware();
        let (spool, name, found) =
            Spool::open(&plan.spool.dir, plan.name.as_deref(), &hardware.machine)?;
        Ok(Self { plan, name, spool, found, survey, hardware })
    }

    /// Its name at the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it runs on.
    pub const fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// Batches of results that an earlier worker could not deliver.
    pub fn undelivered(&self) -> usize {
        self.found.len()
    }

    /// Works until `stop` is pressed; `tell` gets figures at the start, at the plan's interval, and
    /// at the end. Needs a tokio runtime with time, network and signals.
    ///
    /// # Errors
    /// The server does not let the worker in, or certificates cannot be read.
    pub async fn run(self, stop: &Stop, tell: impl FnMut(&Snapshot)) -> Result<Snapshot, Fault> {
        let remote = Remote::new(&self.plan, Transport::new(&self.plan, Way::ByEnvironment)?);
        let gpu = self.hardware.gpus.first().map(|gpu| gpu.name.as_str());
        let notes = process::notes_of(&self.hardware.machine, gpu);
        match self.plan.work.clone() {
            Work::Http(http) => {
                let names = http.upstreams.iter().map(ToString::to_string);
                let pace = pace_of(self.plan.concurrency, None);
                let lanes = Lanes::new(names, &Health::Unproven, pace);
                let transport = Transport::new(&self.plan, Way::Direct)?;
                let _probes = probes(&http, &lanes, &transport);
                let limits = self.plan.limits;
                let plan = http;
                let upstream =
                    Upstream { plan, limits, lanes: Arc::clone(&lanes), transport, notes };
                self.work(remote, upstream, lanes, (stop, tell)).await
            }
            Work::Exec(words) => {
                let lanes = here(self.plan.concurrency, hardware::cpus());
                let exec = Exec { words, limits: self.plan.limits, notes };
                self.work(remote, exec, lanes, (stop, tell)).await
            }
            Work::Lines(words) => self.run_lines(remote, words, notes, (stop, tell)).await,
        }
    }

    async fn run_lines(
        self,
        remote: Remote,
        words: Vec<String>,
        notes: Map<String, Value>,
        user: (&Stop, impl FnMut(&Snapshot)),
    ) -> Result<Snapshot, Fault> {
        let lanes = here(self.plan.concurrency, 1);
        let performer = Lines::new(words, self.plan.limits, notes);
        self.work(remote, performer, lanes, user).await
    }

    async fn work<P: Perform>(
        self,
        remote: Remote,
        performer: P,
        lanes: Arc<Lanes>,
        (stop, tell): (&Stop, impl FnMut(&Snapshot)),
    ) -> Result<Snapshot, Fault> {
        let rules = Rules::of(&self.plan, self.name);
        let parts = Parts {
            server: Arc::new(remote),
            performer: Arc::new(performer),
            lanes,
            spool: Arc::new(self.spool),
            found: self.found,
        };
        let agent = Agent::new(parts, rules, Instant::now());
        let survey = self.survey;
        Box::pin(agent.run(stop.orders(), move || survey.gpus(), tell)).await
    }
}

fn pace_of(concurrency: Concurrency, auto: Option<usize>) -> impl Fn() -> Pace {
    move || match (concurrency, auto) {
        (Concurrency::Fixed(count), _) | (Concurrency::Auto, Some(count)) => Pace::fixed(count),
        (Concurrency::Auto, None) => Pace::adaptive(),
    }
}

/// This machine as the one lane.
fn here(concurrency: Concurrency, auto: usize) -> Arc<Lanes> {
    let name = ["processes".to_owned()];
    Lanes::new(name, &Health::Up, pace_of(concurrency, Some(auto)))
}

/// One probe for each model server; they end when the set is dropped.
fn probes(plan: &HttpPlan, lanes: &Arc<Lanes>, transport: &Transport) -> JoinSet<()> {
    let plan = Arc::new(plan.clone());
    let mut set = JoinSet::new();
    for at in 0..plan.upstreams.len() {
        let (plan, lanes) = (Arc::clone(&plan), Arc::clone(lanes));
        let _running = set.spawn(probe::watch(plan, lanes, transport.clone(), at));
    }
    set
}
