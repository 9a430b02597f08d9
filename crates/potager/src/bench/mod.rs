//! `potager bench`: load against any AMQP 0-9-1 or beanstalkd server, measured from outside.
//!
//! Lives here: for AMQP the scenarios (`plan`), the generator (`load`, `publisher`, `consumer`,
//! `scan`), sizes of idle things (`footprint`) and the report; for beanstalkd all of that in
//! `beanstalk`; what the machine says (`process`, `flush`). Not here: comparing two servers
//! (`bench/compare.py`, `bench/compare_beanstalk.py`), and anything that knows which server it
//! talks to. How to read the figures: `docs/performance.md`.

pub(crate) mod beanstalk;
mod consumer;
mod figures;
mod flush;
mod footprint;
mod load;
mod plan;
mod process;
mod publisher;
mod report;
mod scan;

pub(crate) use figures::float;
pub(crate) use plan::{Plan, SCENARIOS, Shape};
pub(crate) use process::ServerProcess;
pub(crate) use report::Report;

use crate::client::Address;

/// Runs one plan to its end.
///
/// # Errors
/// When the server cannot be reached, refuses, or goes away.
pub(crate) fn run(address: &Address, plan: &Plan) -> anyhow::Result<Report> {
    let disk = plan.flush_dir.as_deref().map(flush::measure).transpose()?;
    let server = ServerProcess::find(address);
    let mut report = match plan.shape {
        Shape::Stream => load::run(address, plan, server.as_ref())?,
        Shape::IdleConnections => footprint::idle_connections(address, plan, server.as_ref())?,
        Shape::Queues => footprint::queues(address, plan, server.as_ref())?,
        Shape::Backlog => footprint::backlog(address, plan, server.as_ref())?,
        Shape::Storm => footprint::storm(address, plan)?,
    };
    report.disk = disk;
    Ok(report)
}
