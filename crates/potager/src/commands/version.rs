//! `potager version`: which build this is. The number is the workspace's; the banner, the API
//! and the metrics show it too.

use std::process::ExitCode;

use serde_json::json;

use crate::output;

pub(crate) const EXAMPLE: &str = "Example:\n  potager version --json";

/// Three parts, as clients want it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    if args.json {
        let version = VERSION;
        output::json(&json!({ "version": version, "os": os, "architecture": architecture }))?;
    } else {
        output::line(&format!("potager {VERSION} ({os}, {architecture})"))?;
    }
    Ok(ExitCode::SUCCESS)
}
