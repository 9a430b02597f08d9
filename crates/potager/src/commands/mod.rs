//! One file per command: its arguments and what it does. Parsing and the list of commands stand in
//! `cli.rs`; what a server is made of in `serve/`.

pub(crate) mod bench;
pub(crate) mod check_config;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod serve;
pub(crate) mod version;
