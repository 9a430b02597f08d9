//! Backups in and out of a node: the stream of a running server, the file of a stopped one, and a
//! data directory made of a file. What a backup is and what keeps it whole is crate `replica`'s.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use config::Settings;
use journal::{Disk, RealDisk, Workers};
use model::Lsn;
use net::http::{Body, BodySender};
use replica::{Answer, Backup, InlineBackup, NoBackup, Node, Restored, Step, restore_backup};
use tokio::sync::Notify;

use super::server::{Server, now};
use super::{journal_options, random};

/// A client that takes nothing for so long is gone.
const SLOW_MAX: Duration = Duration::from_mins(1);

/// Starts a backup whose bytes are made as fast as the client takes them.
///
/// # Errors
/// There cannot be one now.
pub(super) fn stream(server: Rc<Server>) -> Result<Body, NoBackup> {
    let news = Rc::new(Notify::new());
    let bell = Rc::clone(&news);
    let wake = Rc::new(move || bell.notify_one());
    let begun = server.with(|node| node.begin_backup(now(), wake));
    let backup = begun.unwrap_or(Err(NoBackup::Ended))?;
    let (sender, body) = net::http::stream();
    let taken = Taken { server, news };
    tokio::task::spawn_local(async move {
        if taken.send(backup, &sender).await
            && let Err(broken) = sender.finish().await
        {
            tracing::warn!(%broken, "the client of a backup went away at its end");
        }
    });
    Ok(body)
}

/// A backup of a running server; nothing is kept for it any more when this is dropped.
struct Taken {
    server: Rc<Server>,
    news: Rc<Notify>,
}

impl Taken {
    /// Sends a backup; whether it is whole. If not, the client is gone or was told why.
    async fn send(&self, mut backup: Backup, sender: &BodySender) -> bool {
        let mut answer = None;
        loop {
            let given = answer.take();
            // Checksums and the digest of a megabyte take a millisecond: not on this thread.
            let stepped = tokio::task::spawn_blocking(move || {
                let step = backup.step(given);
                (backup, step)
            });
            let Ok((same, step)) = stepped.await else { return false };
            backup = same;
            let why = match step {
                Ok(Step::Bytes(bytes)) => {
                    if !pass(bytes, sender).await {
                        return false;
                    }
                    continue;
                }
                Ok(Step::Done(bytes, summary)) => {
                    let (lsn, messages) = (summary.lsn, summary.records);
                    let is_whole = pass(bytes, sender).await;
                    tracing::info!(%lsn, messages, is_whole, "a backup was sent");
                    return is_whole;
                }
                Ok(Step::Fetch(wanted)) => match self.fetch(wanted).await {
                    Ok(fetched) => {
                        answer = Some(fetched);
                        continue;
                    }
                    Err(why) => why,
                },
                Err(why) => why,
            };
            tracing::warn!(%why, "a backup is broken off");
            pass(backup.break_off(&why.to_string()), sender).await;
            return false;
        }
    }

    async fn fetch(&self, wanted: Vec<Lsn>) -> Result<Answer, NoBackup> {
        self.server.with(|node| node.fetch_for_backup(wanted));
        loop {
            let answer = self.server.with(Node::take_for_backup);
            match answer.unwrap_or(Some(Err(NoBackup::Ended))) {
                Some(answer) => return answer,
                None => self.news.notified().await,
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.server.with(Node::end_backup);
    }
}

/// Whether the client took it, or has room for it.
async fn pass(bytes: Vec<u8>, sender: &BodySender) -> bool {
    let sent = tokio::time::timeout(SLOW_MAX, sender.send(Bytes::from(bytes))).await;
    let is_sent = matches!(sent, Ok(Ok(())));
    if !is_sent {
        tracing::warn!("the client of a backup went away or took nothing for a minute");
    }
    is_sent
}

/// Backs a stopped server's data directory up.
///
/// # Errors
/// The directory is in use or damaged, or `out` cannot be written.
pub(crate) fn offline_backup(dir: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let disk = Arc::new(RealDisk);
    let (mut node, _) =
        Node::open(disk, options(dir), Workers::Inline, now(), random::source()?)
            .with_context(|| format!("could not open the data directory {}", dir.display()))?;
    let mut backup = InlineBackup::begin(&mut node, now(), usize::MAX)?;
    let mut bytes = Vec::new();
    loop {
        let is_whole = backup.poll(&mut node, &mut bytes)?.is_some();
        out.write_all(&bytes)?;
        bytes.clear();
        if is_whole {
            return Ok(node.close()?);
        }
        // Without threads a turn does all that was asked for; the second takes the answer.
        node.commit(now())?;
        node.run_pending();
        node.commit(now())?;
    }
}

/// Makes a data directory of a backup.
///
/// # Errors
/// The backup is not sound, the directory is not empty, or the disk says no.
pub(crate) fn restore(file: &Path, dir: &Path) -> anyhow::Result<Restored> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let open = || File::open(file).map(BufReader::new);
    Ok(restore_backup(open, &disk, &options(dir), (now(), random::source()?))?)
}

fn options(dir: &Path) -> replica::Options {
    let settings = Settings { data_dir: dir.to_owned(), ..Settings::default() };
    replica::Options { journal: journal_options(&settings), limits: settings.limits }
}
