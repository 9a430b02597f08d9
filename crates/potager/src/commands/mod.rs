//! One file per command: its arguments and what it does. Parsing and the list of commands stand in
//! `cli.rs`; what a server is made of in `serve/`.

mod amqp;
pub(crate) mod api;
pub(crate) mod backup;
pub(crate) mod batch;
pub(crate) mod beanstalkd;
pub(crate) mod bench;
pub(crate) mod check_config;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod get;
mod offline;
pub(crate) mod permissions;
mod place;
pub(crate) mod publish;
pub(crate) mod queues;
pub(crate) mod repair;
pub(crate) mod serve;
pub(crate) mod tokens;
pub(crate) mod users;
pub(crate) mod version;
pub(crate) mod vhosts;
pub(crate) mod work;
