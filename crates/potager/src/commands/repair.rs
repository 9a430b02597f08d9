//! `potager repair`: what is wrong with the data directory of a stopped server, what would be
//! lost, and putting it right. What is read and rebuilt is `replica`'s business.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use journal::{Disk, ReadOnlyDisk, RealDisk};
use model::Limits;
use replica::{Examined, QueueFound, Unrepaired};
use serde_json::{Value, json};

use crate::{exit, output};

pub(crate) const EXAMPLE: &str = "\
Example:
  potager repair --dry-run potager-data    what is damaged and what is lost; changes nothing
  potager repair potager-data              asks, then keeps what is good and starts from there

Exit codes: 0 nothing is wrong, or it is repaired; 3 damaged, and not (yet) repaired.";

/// Positions of lost messages that are shown to people; `--json` has all.
const SHOWN_MAX: usize = 8;

/// Arguments of `repair`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The data directory of a server that does not run
    #[arg(value_name = "DATA_DIR")]
    dir: PathBuf,
    /// Only look
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.dir.is_dir() {
        bail!("{} is no data directory", args.dir.display());
    }
    refuse_while_running(&args.dir)?;
    let disk: Arc<dyn Disk> = Arc::new(ReadOnlyDisk);
    let found = replica::examine(disk, &args.dir, Limits::default())?;
    if found.survey.is_exchanging && !args.dry_run {
        // It was agreed to before.
        return repair(args);
    }
    if args.dry_run || found.is_clean() || found.obstacle().is_some() {
        show(&found, args.json, None)?;
        return Ok(if found.is_clean() { ExitCode::SUCCESS } else { exit::storage() });
    }
    if !args.json {
        show(&found, false, None)?;
    }
    let question = format!("repair {} by giving up what is lost?", args.dir.display());
    output::confirm(&question, args.yes)?;
    repair(args)
}

/// Repairs, and says where the old files are.
fn repair(args: &Args) -> anyhow::Result<ExitCode> {
    let options = journal::Options { dir: args.dir.clone(), ..journal::Options::default() };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (found, aside) =
        replica::repair(&disk, &options, Limits::default()).map_err(|unrepaired| {
            match unrepaired {
                // The kind of fault decides the exit code.
                Unrepaired::Disk(fault) => anyhow::Error::new(fault),
                other @ Unrepaired::NoState(_) => anyhow::Error::new(other),
            }
        })?;
    if args.json {
        show(&found, true, aside.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    let dir = args.dir.display();
    output::note(&match aside {
        Some(aside) => format!(
            "repaired; the server starts on {dir} again. The old files are in {}: keep them until \
             nothing is missing",
            aside.display()
        ),
        None => format!("the repair of {dir} that was interrupted is finished"),
    });
    Ok(ExitCode::SUCCESS)
}

/// A server that writes would make nonsense of what is read. Takes nothing and writes nothing.
fn refuse_while_running(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join("lock");
    let Ok(file) = std::fs::File::open(&path) else { return Ok(()) };
    let operation = rustix::fs::FlockOperation::NonBlockingLockShared;
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "a server runs on {} (process {}); stop it first",
                dir.display(),
                output::printable(pid.trim())
            )
        }
        Err(error) => Err(error).with_context(|| format!("could not look at {}", path.display())),
    }
}

fn show(found: &Examined, is_json: bool, aside: Option<&Path>) -> anyhow::Result<()> {
    if is_json {
        output::json(&as_json(found, aside))?;
        return Ok(());
    }
    let survey = &found.survey;
    let rows: Vec<Vec<String>> = survey.files.iter().map(file_row).collect();
    output::table(&["file", "kind", "bytes", "blocks", "records", "positions"], &rows)?;
    for problem in &survey.problems {
        output::line(&format!(
            "damaged: {} at byte {}: {}; good up to position {}",
            problem.file.display(),
            problem.offset,
            problem.detail,
            problem.last_good
        ))?;
    }
    if survey.is_torn {
        output::line("the log ends in an unfinished write, as after a crash; that is no damage")?;
    }
    output::line(&format!("the log is good up to position {}", survey.end))?;
    if survey.reach > survey.end {
        output::line(&format!(
            "lost: positions {} to {}, with at least {} record(s) that could be read but hang in \
             the air",
            survey.end, survey.reach, survey.stranded
        ))?;
    }
    show_queues(found)?;
    if found.is_clean() {
        output::line("nothing is wrong")?;
    } else if let Some(why) = found.obstacle() {
        output::line(&format!("cannot be repaired: {why}; restore the directory from a backup"))?;
    }
    Ok(())
}

fn show_queues(found: &Examined) -> anyhow::Result<()> {
    let Ok(queues) = &found.queues else { return Ok(()) };
    let row = |queue: &QueueFound| {
        let lost = queue.lost.len().to_string();
        vec![queue.vhost.clone(), queue.name.clone(), queue.kept.to_string(), lost]
    };
    let rows: Vec<Vec<String>> = queues.iter().map(row).collect();
    if !rows.is_empty() {
        output::table(&["vhost", "queue", "messages kept", "messages lost"], &rows)?;
    }
    for queue in queues.iter().filter(|queue| !queue.lost.is_empty()) {
        let shown = queue.lost.iter().take(SHOWN_MAX).map(|lsn| lsn.0.to_string());
        let shown: Vec<String> = shown.collect();
        let more = queue.lost.len().saturating_sub(SHOWN_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        output::line(&format!(
            "lost from {}: the message(s) at position {}{more}",
            output::printable(&queue.name),
            shown.join(", ")
        ))?;
    }
    Ok(())
}

fn file_row(file: &journal::FileReport) -> Vec<String> {
    let range = file.range.as_ref().map(|range| format!("{}..{}", range.start, range.end));
    vec![
        file.name.clone(),
        file.kind.to_string(),
        file.bytes.to_string(),
        file.blocks.to_string(),
        file.records.to_string(),
        range.unwrap_or_default(),
    ]
}

fn as_json(found: &Examined, aside: Option<&Path>) -> Value {
    let survey = &found.survey;
    let files = survey.files.iter().map(|file| {
        json!({
            "name": file.name,
            "kind": file.kind.to_string(),
            "bytes": file.bytes,
            "blocks": file.blocks,
            "records": file.records,
            "first": file.range.as_ref().map(|range| range.start.0),
            "end": file.range.as_ref().map(|range| range.end.0),
        })
    });
    let problems = survey.problems.iter().map(|problem| {
        json!({
            "file": problem.file.display().to_string(),
            "offset": problem.offset,
            "last_good": problem.last_good.0,
            "detail": problem.detail,
        })
    });
    let queues = found.queues.iter().flatten().map(|queue| {
        json!({
            "vhost": queue.vhost,
            "name": queue.name,
            "kept": queue.kept,
            "lost": queue.lost.len(),
            "lost_positions": queue.lost.iter().map(|lsn| lsn.0).collect::<Vec<_>>(),
        })
    });
    json!({
        "clean": found.is_clean(),
        "torn": survey.is_torn,
        "files": files.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
        "good_up_to": survey.end.0,
        "reached": survey.reach.0,
        "stranded_records": survey.stranded,
        "queues": queues.collect::<Vec<_>>(),
        "obstacle": found.obstacle(),
        "repaired": aside.is_some(),
        "old_files": aside.map(|path| path.display().to_string()),
    })
}
