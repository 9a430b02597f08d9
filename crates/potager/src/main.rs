//! The `potager` binary: the command line, and the only place that knows every door.
//!
//! Lives here: the list of modules and the allocator. Not here: commands (`commands/`), the
//! assembled server (`serve/`), the HTTP door (`http/`).

mod banner;
mod batch;
mod bench;
mod cli;
mod client;
mod commands;
mod demo;
mod exit;
mod http;
mod logging;
mod login;
mod output;
mod password;
mod serve;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}
