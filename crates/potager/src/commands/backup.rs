//! `potager backup ...`: everything a server holds in one file; whether such a file is whole; a
//! data directory made of one. How a backup is taken and checked is crate `replica`'s.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use model::Limits;
use replica::{Restored, verify_backup};
use serde_json::json;

use super::api;
use crate::exit::Usage;
use crate::output;

pub(crate) const EXAMPLE: &str = "\
Example:
  potager backup create --to /backup/monday.potager
  potager backup verify /backup/monday.potager
  potager backup restore /backup/monday.potager --data-dir /var/lib/potager";

const CREATE_EXAMPLE: &str = "Example:\n  potager backup create --to /backup/monday.potager";
const VERIFY_EXAMPLE: &str = "Example:\n  potager backup verify /backup/monday.potager --json";
const RESTORE_EXAMPLE: &str =
    "Example:\n  potager backup restore /backup/monday.potager --data-dir ./restored";

/// Written bytes after which the file is flushed.
const PACE_BYTES: usize = 8 << 20;

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Take a backup of a running server, or of the data of a stopped one
    #[command(after_help = CREATE_EXAMPLE)]
    Create(Create),
    /// Check every byte of a backup, and that nothing is missing in it
    #[command(after_help = VERIFY_EXAMPLE)]
    Verify {
        /// The backup
        file: PathBuf,
    },
    /// Make a data directory of a backup; a server started with it goes on from there
    #[command(after_help = RESTORE_EXAMPLE)]
    Restore {
        /// The backup
        file: PathBuf,
        /// The directory to make; it must be empty or not exist
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// The file to write; it holds messages and password hashes, so only its owner may read it
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Back up this data directory of a stopped server, without asking one
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    server: api::Server,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Create(create) => show(&create.to, &take(create)?, args.json)?,
        Verb::Verify { file } => show(file, &verify(file)?, args.json)?,
        Verb::Restore { file, data_dir } => {
            let restored = crate::serve::restore(file, data_dir).with_context(|| {
                format!("could not restore {} to {}", file.display(), data_dir.display())
            })?;
            show(file, &restored, args.json)?;
            let shown = data_dir.display();
            output::note(&format!("restored; start it with: potager serve --data-dir {shown}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes a backup under another name, checks what was written, and only then gives it its name.
fn take(create: &Create) -> anyhow::Result<Restored> {
    let file = &create.to;
    let refuse_existing = || {
        if file.exists() && !create.force {
            let text = format!("{} exists; name another file or add --force", file.display());
            return Err(anyhow::Error::new(Usage(text)));
        }
        Ok(())
    };
    refuse_existing()?;
    let unfinished = Unfinished::create(file)?;
    let restored = unfinished.fill(create)?;
    refuse_existing()?;
    unfinished.keep(file)?;
    Ok(restored)
}

/// A file that goes away unless it is kept.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    fn create(target: &Path) -> anyhow::Result<Self> {
        let mut name = OsString::from(".");
        name.push(target.file_name().context("--to must name a file")?);
        name.push(format!(".{}.unfinished", std::process::id()));
        let path = target.with_file_name(name);
        let options = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = options.with_context(|| format!("could not create {}", path.display()))?;
        Ok(Self { path, file })
    }

    fn fill(&self, create: &Create) -> anyhow::Result<Restored> {
        let mut out = BufWriter::with_capacity(1 << 20, Paced { file: &self.file, unsynced: 0 });
        match &create.data_dir {
            Some(dir) if !dir.is_dir() => {
                let text = format!("{} is no data directory of a server", dir.display());
                return Err(Usage(text).into());
            }
            Some(dir) => crate::serve::offline_backup(dir, &mut out)?,
            None => create.server.download("/api/backup", &mut out).or_else(|error| {
                // The end of the stream may say why it ends.
                out.flush()?;
                Err(verify(&self.path).err().filter(is_told).unwrap_or(error))
            })?,
        }
        out.flush().with_context(|| format!("could not write {}", self.path.display()))?;
        drop(out);
        let synced = self.file.sync_all();
        synced.with_context(|| format!("could not write {}", self.path.display()))?;
        verify(&self.path).context("the backup that was just written is not sound")
    }

    fn keep(self, target: &Path) -> anyhow::Result<()> {
        let kept = fs::rename(&self.path, target).and_then(|()| {
            let above = target.parent().filter(|above| !above.as_os_str().is_empty());
            File::open(above.unwrap_or_else(|| Path::new(".")))?.sync_all()
        });
        kept.with_context(|| format!("could not give {} its name", target.display()))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Kept files have another name by now.
        let _gone = fs::remove_file(&self.path);
    }
}

/// Flushes every few megabytes: one large flush at the end would hold up those of a server on
/// the same disk.
struct Paced<'a> {
    file: &'a File,
    unsynced: usize,
}

impl Write for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced = self.unsynced.saturating_add(written);
        if self.unsynced >= PACE_BYTES {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether a backup says itself why it was broken off.
fn is_told(error: &anyhow::Error) -> bool {
    let unfit = error.downcast_ref::<replica::Unfit>();
    matches!(unfit, Some(replica::Unfit::File(journal::backup::Unsound::BrokenOff { .. })))
}

fn verify(file: &Path) -> anyhow::Result<Restored> {
    let opened = File::open(file).with_context(|| format!("could not open {}", file.display()))?;
    let checked = verify_backup(BufReader::new(opened), Limits::default());
    checked.with_context(|| file.display().to_string())
}

fn show(file: &Path, restored: &Restored, is_json: bool) -> anyhow::Result<()> {
    let summary = &restored.summary;
    let digest = hex(summary.digest);
    let hash = format!("{:016x}", summary.state_hash);
    if is_json {
        output::json(&json!({
            "file": file.display().to_string(),
            "file_bytes": summary.file_bytes,
            "lsn": summary.lsn.0,
            "began_ms": restored.head.began_ms,
            "queues": restored.queues,
            "messages": summary.records,
            "message_bytes": summary.record_bytes,
            "state_bytes": summary.state_bytes,
            "state_hash": hash,
            "digest": digest,
        }))?;
        return Ok(());
    }
    let lines = [
        ("file", file.display().to_string()),
        ("file bytes", summary.file_bytes.to_string()),
        ("log position", summary.lsn.to_string()),
        ("durable queues", restored.queues.to_string()),
        ("messages", summary.records.to_string()),
        ("message bytes", summary.record_bytes.to_string()),
        ("state hash", hash),
        ("digest", digest),
    ];
    for (name, value) in lines {
        output::line(&format!("{name:<15}{value}"))?;
    }
    Ok(())
}

/// A digest as `b2sum` prints it.
fn hex(digest: [u8; 32]) -> String {
    let (high, low) = digest.split_at(16);
    let number = |half: &[u8]| half.iter().fold(0_u128, |all, byte| (all << 8) | u128::from(*byte));
    format!("{:032x}{:032x}", number(high), number(low))
}
