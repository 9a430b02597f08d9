//! One file per command: its arguments and what it does. Parsing and the list of commands stand in
//! `cli.rs`; what a server is made of in `serve/`.

pub(crate) mod api;
pub(crate) mod bench;
pub(crate) mod check_config;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod get;
mod offline;
pub(crate) mod publish;
pub(crate) mod queues;
pub(crate) mod serve;
pub(crate) mod users;
pub(crate) mod version;
pub(crate) mod vhosts;

/// Help of `--url` where it names an AMQP server.
const URL_HELP: &str = "The server, as in amqp://ann:secret@host:5672/vhost; parts may be left out";
