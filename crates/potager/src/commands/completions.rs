//! `potager completions SHELL`: a completion script made from the command line's own description.

use std::{io::Write, process::ExitCode};

use clap_complete::Shell;

use crate::output;

pub(crate) const EXAMPLE: &str = "\
Example:
  potager completions bash > ~/.local/share/bash-completion/completions/potager";

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, command: &mut clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "potager", &mut script);
    let mut out = anstream::stdout().lock();
    out.write_all(&script).and_then(|()| out.flush()).map_err(|_| output::Closed)?;
    Ok(ExitCode::SUCCESS)
}
