//! The fuzz targets as plain functions: bytes in, a panic when something is wrong. One file each.
//!
//! Lives here: the table of targets. Not here: who makes the bytes. Two drivers call the same
//! functions: libFuzzer (`fuzz_targets/`, guided by coverage) and `bin/drive.rs`, a seeded
//! generator for machines that cannot build libFuzzer.

pub mod amqp_connection;
pub mod amqp_frames;
pub mod beanstalk_connection;
pub mod config_file;
pub mod engine_apply;
pub mod engine_replay;
pub mod engine_snapshot;
pub mod field_table;
pub mod http_route;
pub mod journal_open;
pub mod message_record;
pub mod permissions;
pub mod properties;
mod reseal;
pub mod routing;
pub mod sasl;
mod source;
mod tape;
pub mod work_call;

/// A target: its name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. `fuzz_targets/<name>.rs` and `corpus/<name>/` go by the same names.
pub const TARGETS: &[Target] = &[
    ("amqp_connection", amqp_connection::run),
    ("amqp_frames", amqp_frames::run),
    ("beanstalk_connection", beanstalk_connection::run),
    ("config_file", config_file::run),
    ("engine_apply", engine_apply::run),
    ("engine_replay", engine_replay::run),
    ("engine_snapshot", engine_snapshot::run),
    ("field_table", field_table::run),
    ("http_route", http_route::run),
    ("journal_open", journal_open::run),
    ("message_record", message_record::run),
    ("permissions", permissions::run),
    ("properties", properties::run),
    ("routing", routing::run),
    ("sasl", sasl::run),
    ("work_call", work_call::run),
];
