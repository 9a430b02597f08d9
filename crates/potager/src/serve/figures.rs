//! The counters of the running node in the shape the HTTP door shows them (`http::NodeStats`).

use std::future::Future;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use journal::Latency;
use model::{Reply, Request};
use replica::Actor;
use replica::Alarm;

use super::Desk;
use crate::http::{self, NodeStats};

impl http::Node for Desk {
    fn ask(
        &self,
        actor: Actor,
        vhost: Option<Bytes>,
        request: Request,
    ) -> impl Future<Output = Reply> {
        Self::ask(self, actor, vhost, request)
    }

    fn work(&self, user: Bytes, call: gateway::Call) -> impl Future<Output = gateway::Answer> {
        self.hall().call(user, call)
    }

    fn stats(&self) -> NodeStats {
        let mut stats = self.server().read(collect).unwrap_or_default();
        stats.is_stopping = self.server().is_stopping();
        stats.certificate_expiry_s = self.server().certificate_ends.get().map(seconds_to);
        stats
    }

    fn backup(&self) -> Result<net::http::Body, replica::NoBackup> {
        super::backup::stream(self.server_rc())
    }
}

/// Negative for a time that is over.
fn seconds_to(end: SystemTime) -> i64 {
    let whole = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match end.duration_since(SystemTime::now()) {
        Ok(left) => whole(left),
        Err(over) => whole(over.duration()).saturating_neg(),
    }
}

fn collect(node: &replica::Node) -> NodeStats {
    let log = node.journal().stats();
    let engine = node.engine().counters();
    let tally = node.tally();
    let sessions = node.session_count() as u64;
    NodeStats {
        published: tally.published,
        confirmed: tally.confirmed,
        rejected: tally.rejected,
        returned: tally.returned,
        dropped: engine.dropped,
        delivered: tally.delivered,
        redelivered: tally.redelivered,
        acknowledged: engine.acknowledged,
        commits: tally.commits,
        connections: sessions,
        connections_opened: tally.sessions,
        connections_closed: tally.sessions.saturating_sub(sessions),
        channels: engine.channels,
        consumers: engine.consumers,
        queues: engine.queues,
        exchanges: engine.exchanges,
        vhosts: engine.vhosts,
        messages_ready: engine.ready,
        messages_unsettled: engine.unsettled,
        log_blocks: log.blocks,
        log_written_bytes: log.written_bytes,
        log_segments: log.segments,
        log_survivor_files: log.survivor_files,
        log_survivor_bytes: log.survivor_bytes,
        log_disk_bytes: log.disk_bytes,
        log_cache_bytes: log.cache_bytes,
        durable_lsn: node.journal().durable().0,
        checkpoint_lsn: log.checkpoint.0,
        flush: flush(&log.sync),
        disk_free_bytes: log.free_bytes,
        is_disk_alarm: node.is_alarmed(Alarm::Disk),
        is_memory_alarm: node.is_alarmed(Alarm::Memory),
        is_stopping: false,
        certificate_expiry_s: None,
    }
}

fn flush(sync: &Latency) -> http::Latency {
    http::Latency { buckets: sync.buckets.to_vec(), total_us: sync.total_us }
}
