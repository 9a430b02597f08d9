//! Metrics as `OpenMetrics` text. Names follow `RabbitMQ`'s where one exists, with `potager_` for
//! `rabbitmq_`, so that a board is moved by replacing the prefix. `/metrics` has a fixed number of
//! series whatever clients do; `/metrics/detailed` has some for every queue, up to a limit.

use std::fmt;

use config::Durability;
use model::{Cell, Row};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::process::{self, Process};
use crate::commands::version::VERSION;

/// Queues shown by `/metrics/detailed`; how many were left out is a metric of its own.
const DETAILED_QUEUES_MAX: usize = 10_000;

/// Counters of the running node. Totals count since the start of the process.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct NodeStats {
    /// Messages that entered an exchange.
    pub(crate) published: u64,
    /// Confirms sent for them.
    pub(crate) confirmed: u64,
    /// Publishes refused by a full queue.
    pub(crate) rejected: u64,
    /// Mandatory messages that no queue took.
    pub(crate) returned: u64,
    /// Messages that no queue took and nobody wanted back.
    pub(crate) dropped: u64,
    /// Messages handed out, by consuming or getting.
    pub(crate) delivered: u64,
    /// Those of them that were handed out before.
    pub(crate) redelivered: u64,
    /// Deliveries settled as done.
    pub(crate) acknowledged: u64,
    /// Atomic commits (transactions).
    pub(crate) commits: u64,
    /// Open connections.
    pub(crate) connections: u64,
    /// Connections opened.
    pub(crate) connections_opened: u64,
    /// Connections closed.
    pub(crate) connections_closed: u64,
    /// Open channels.
    pub(crate) channels: u64,
    /// Consumers.
    pub(crate) consumers: u64,
    /// Queues.
    pub(crate) queues: u64,
    /// Exchanges.
    pub(crate) exchanges: u64,
    /// Virtual hosts.
    pub(crate) vhosts: u64,
    /// Messages ready in all queues.
    pub(crate) messages_ready: u64,
    /// Messages handed out and not settled, of all queues.
    pub(crate) messages_unsettled: u64,
    /// Log blocks written.
    pub(crate) log_blocks: u64,
    /// Bytes written to the log, padding included.
    pub(crate) log_written_bytes: u64,
    /// Segment files of the ring.
    pub(crate) log_segments: u64,
    /// Survivor files.
    pub(crate) log_survivor_files: u64,
    /// Their bytes.
    pub(crate) log_survivor_bytes: u64,
    /// Bytes of all files of the data directory.
    pub(crate) log_disk_bytes: u64,
    /// Memory of the log's cache.
    pub(crate) log_cache_bytes: u64,
    /// Everything before this position is durable.
    pub(crate) durable_lsn: u64,
    /// Position of the newest durable checkpoint.
    pub(crate) checkpoint_lsn: u64,
    /// Time of the final flush of each commit.
    pub(crate) flush: Latency,
    /// Free bytes of the data directory's disk.
    pub(crate) disk_free_bytes: u64,
    /// The disk is short: publishing is held back.
    pub(crate) is_disk_alarm: bool,
    /// Memory is short: publishing is held back.
    pub(crate) is_memory_alarm: bool,
    /// The server is about to end.
    pub(crate) is_stopping: bool,
    /// Seconds until the certificate of the TLS doors ceases to hold; `None` without TLS.
    pub(crate) certificate_expiry_s: Option<i64>,
}

/// A histogram over powers of two of a microsecond.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latency {
    /// `buckets[i]` counts durations below 2^i microseconds that are in no earlier bucket; the
    /// last one is everything longer.
    pub(crate) buckets: Vec<u64>,
    /// Their sum in microseconds.
    pub(crate) total_us: u64,
}

/// The text of `/metrics`.
pub(super) fn server(stats: NodeStats, durability: Durability) -> String {
    encode(Server { stats, durability, process: process::read() })
}

/// The text of `/metrics/detailed`: counts of every queue.
pub(super) fn queues(rows: &[Row]) -> String {
    encode(Queues { rows: rows.iter().map(QueueRow::read).collect() })
}

fn encode(collector: impl Collector) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));
    let mut out = String::new();
    if let Err(error) = text::encode(&mut out, &registry) {
        tracing::error!(%error, "metrics could not be written");
    }
    out
}

#[derive(Debug)]
struct Server {
    stats: NodeStats,
    durability: Durability,
    process: Process,
}

/// A counter: name without the `_total` that the format adds, help, value.
type Number = (&'static str, &'static str, u64);

impl Server {
    fn counters(&self) -> [Number; 13] {
        let s = &self.stats;
        [
            ("potager_global_messages_received", "Messages that entered an exchange", s.published),
            ("potager_global_messages_confirmed", "Publisher confirms sent", s.confirmed),
            ("potager_global_messages_rejected", "Publishes refused by a full queue", s.rejected),
            (
                "potager_global_messages_unroutable_returned",
                "Mandatory messages that no queue took",
                s.returned,
            ),
            (
                "potager_global_messages_unroutable_dropped",
                "Messages that no queue took and nobody wanted back",
                s.dropped,
            ),
            ("potager_global_messages_delivered", "Messages handed out", s.delivered),
            (
                "potager_global_messages_redelivered",
                "Messages handed out that may have been handed out before",
                s.redelivered,
            ),
            ("potager_global_messages_acknowledged", "Deliveries settled", s.acknowledged),
            ("potager_commits", "Transactions committed", s.commits),
            ("potager_connections_opened", "Connections opened", s.connections_opened),
            ("potager_connections_closed", "Connections closed", s.connections_closed),
            ("potager_log_blocks_written", "Blocks written to the log", s.log_blocks),
            ("potager_log_written_bytes", "Bytes written to the log", s.log_written_bytes),
        ]
    }

    fn gauges(&self) -> [Number; 20] {
        let s = &self.stats;
        let disk_alarm = u64::from(s.is_disk_alarm);
        let memory_alarm = u64::from(s.is_memory_alarm);
        let unsettled = s.messages_unsettled;
        [
            ("potager_connections", "Open connections", s.connections),
            ("potager_channels", "Open channels", s.channels),
            ("potager_consumers", "Consumers", s.consumers),
            ("potager_queues", "Queues", s.queues),
            ("potager_exchanges", "Exchanges", s.exchanges),
            ("potager_vhosts", "Virtual hosts", s.vhosts),
            ("potager_queue_messages_ready", "Messages ready in all queues", s.messages_ready),
            ("potager_queue_messages_unacked", "Messages handed out and not settled", unsettled),
            ("potager_queue_messages", "Messages in all queues", s.messages_ready + unsettled),
            ("potager_log_segments", "Segment files of the log's ring", s.log_segments),
            ("potager_log_survivor_files", "Survivor files of the log", s.log_survivor_files),
            ("potager_log_survivor_bytes", "Bytes of the survivor files", s.log_survivor_bytes),
            ("potager_log_disk_bytes", "Bytes of the data directory", s.log_disk_bytes),
            ("potager_log_cache_bytes", "Memory of the log's cache", s.log_cache_bytes),
            ("potager_log_durable_lsn", "Everything before it is durable", s.durable_lsn),
            ("potager_log_checkpoint_lsn", "Position of the last checkpoint", s.checkpoint_lsn),
            ("potager_disk_space_available_bytes", "Free bytes of the disk", s.disk_free_bytes),
            (
                "potager_alarms_free_disk_space_watermark",
                "1 while the disk is short and publishing is held back",
                disk_alarm,
            ),
            (
                "potager_alarms_memory_used_watermark",
                "1 while memory is short and publishing is held back",
                memory_alarm,
            ),
            ("potager_stopping", "1 while the server is about to end", u64::from(s.is_stopping)),
        ]
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let of = &self.process;
        for (name, help, number) in [
            ("process_resident_memory_bytes", "Resident memory", of.resident_bytes),
            ("process_open_fds", "Open files and sockets", of.open_files),
            ("process_max_fds", "Files and sockets that may be open", of.files_max),
            ("process_threads", "Threads", of.threads),
        ] {
            if let Some(number) = number {
                gauge(encoder, (name, help, number))?;
            }
        }
        let Some(cpu_s) = of.cpu_s else { return Ok(()) };
        let help = "Processor time used";
        let kind = MetricType::Counter;
        let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, kind)?;
        ConstCounter::new(cpu_s).encode(metric)
    }

    fn flush(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let flush = &self.stats.flush;
        let last = flush.buckets.len().saturating_sub(1);
        let bound = |power: usize| match i32::try_from(power) {
            Ok(exponent) if power < last => 2_f64.powi(exponent) / 1e6,
            _ => f64::INFINITY,
        };
        let mut buckets: Vec<(f64, u64)> =
            flush.buckets.iter().enumerate().map(|(at, count)| (bound(at), *count)).collect();
        if buckets.is_empty() {
            buckets.push((f64::INFINITY, 0));
        }
        let help = "Time of the flush that ends a commit";
        let name = "potager_log_flush_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let sum = seconds(flush.total_us);
        metric.encode_histogram::<NoLabels>(sum, flush.buckets.iter().sum(), &buckets, None)
    }
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a century fit")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

impl Collector for Server {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, number) in self.counters() {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(number).encode(metric)?;
        }
        for number in self.gauges() {
            gauge(&mut encoder, number)?;
        }
        if let Some(seconds) = self.stats.certificate_expiry_s {
            let name = "potager_tls_certificate_expiry_seconds";
            let help = "Time until the server's certificate ends, negative once it has";
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(seconds).encode(metric)?;
        }
        self.flush(&mut encoder)?;
        self.process(&mut encoder)?;
        let labels = [("version", VERSION), ("durability", self.durability.word())];
        let kind = MetricType::Gauge;
        let help = "What runs here";
        let mut metric = encoder.encode_descriptor("potager_build_info", help, None, kind)?;
        ConstGauge::new(1_i64).encode(metric.encode_family(&labels)?)
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, (name, help, number): Number) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX)).encode(metric)
}

/// Says the label type where a metric has none.
struct NoLabels;

impl EncodeLabelSet for NoLabels {
    fn encode(&self, _: &mut LabelSetEncoder<'_>) -> fmt::Result {
        Ok(())
    }
}

#[derive(Debug)]
struct Queues {
    rows: Vec<QueueRow>,
}

#[derive(Debug)]
struct QueueRow {
    vhost: String,
    name: String,
    ready: u64,
    unsettled: u64,
    consumers: u64,
    ready_bytes: u64,
}

impl QueueRow {
    fn read(row: &Row) -> Self {
        let find = |name: &str| row.iter().find(|(column, _)| *column == name).map(|(_, c)| c);
        let text = |name: &str| match find(name) {
            Some(Cell::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            Some(Cell::Number(_) | Cell::Flag(_)) | None => String::new(),
        };
        let number = |name: &str| match find(name) {
            Some(Cell::Number(number)) => *number,
            Some(Cell::Text(_) | Cell::Flag(_)) | None => 0,
        };
        Self {
            vhost: text("vhost"),
            name: text("name"),
            ready: number("messages_ready"),
            unsettled: number("messages_unacknowledged"),
            consumers: number("consumers"),
            ready_bytes: number("message_bytes_ready"),
        }
    }
}

impl Collector for Queues {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        type Read = fn(&QueueRow) -> u64;
        let metrics: [(&str, &str, Read); 5] = [
            ("messages_ready", "Messages ready", |row| row.ready),
            ("messages_unacked", "Messages handed out and not settled", |row| row.unsettled),
            ("messages", "Messages", |row| row.ready + row.unsettled),
            ("messages_ready_bytes", "Bytes of ready messages", |row| row.ready_bytes),
            ("consumers", "Consumers", |row| row.consumers),
        ];
        for (suffix, help, read) in metrics {
            let name = format!("potager_detailed_queue_{suffix}");
            let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for row in self.rows.iter().take(DETAILED_QUEUES_MAX) {
                let labels = [("vhost", row.vhost.as_str()), ("queue", row.name.as_str())];
                let number = i64::try_from(read(row)).unwrap_or(i64::MAX);
                ConstGauge::new(number).encode(metric.encode_family(&labels)?)?;
            }
        }
        let left_out = self.rows.len().saturating_sub(DETAILED_QUEUES_MAX);
        let left_out = u64::try_from(left_out).unwrap_or(u64::MAX);
        let help = "Queues that this page leaves out";
        gauge(&mut encoder, ("potager_detailed_queues_left_out", help, left_out))
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
