//! `potager serve`: settings, logging, then the server (`crate::serve`) until it is told to stop.

use std::process::ExitCode;

use anyhow::bail;

use crate::{
    cli::SettingArgs,
    logging,
    serve::{GOODBYE_MAX, Start},
};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager serve --data-dir /var/lib/potager --amqp 0.0.0.0:5672

SIGTERM or Ctrl-C stops it in order, a second one at once; SIGHUP reads settings again.
All settings: `potager config default`; those in force: `potager config explain`.";

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Every setting that has a flag.
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
}

/// Fewer open files than this do not even do for the server's own.
const FILES_MIN: u64 = 64;

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let resolved = args.settings.resolve()?;
    let files_max = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if let Some(files_max) = files_max.filter(|files_max| *files_max < FILES_MIN) {
        bail!(
            "only {files_max} files may be open (`ulimit -n`); allow at least {FILES_MIN}, and one \
             for each connection"
        );
    }
    let set_levels = logging::start(&resolved.settings.logging)?;
    let again = args.settings.clone();
    crate::serve::run(Start {
        resolved,
        reread: Box::new(move || again.resolve()),
        set_levels,
        is_quiet: false,
        goodbye_max: GOODBYE_MAX,
    })
}
