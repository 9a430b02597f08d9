//! What changes while the server runs: SIGHUP reads settings and certificates again, and
//! certificates are read when their files change. All of it or nothing: a mistake leaves everything
//! as it was and a line in the log.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use config::{Changes, Settings};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Start;
use super::doors::Terms;
use super::tls::{self, Tls};

/// How often the files of certificates are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Everything that can change.
struct Reloader {
    start: Start,
    terms: Rc<Terms>,
    tls: Option<Rc<Tls>>,
    /// Resident memory above which publishing is held back; 0 is a share of the machine's.
    memory_bytes_max: Rc<Cell<u64>>,
}

/// Waits for changes as long as the server runs.
///
/// # Errors
/// The signal cannot be waited for.
pub(super) fn run(
    start: Start,
    terms: Rc<Terms>,
    tls: Option<Rc<Tls>>,
    memory_bytes_max: Rc<Cell<u64>>,
) -> anyhow::Result<()> {
    let hangup = signal(SignalKind::hangup())?;
    let mut reloader = Reloader { start, terms, tls, memory_bytes_max };
    tokio::task::spawn_local(async move { reloader.watch(hangup).await });
    Ok(())
}

impl Reloader {
    async fn watch(&mut self, mut hangup: Signal) {
        loop {
            let has_files = self.tls.is_some();
            tokio::select! {
                _ = hangup.recv() => self.on_hangup(),
                () = tokio::time::sleep(LOOK_EVERY), if has_files => self.on_look(),
            }
        }
    }

    fn on_hangup(&mut self) {
        match self.reload() {
            Ok(changes) => tracing::info!(
                applied = changes.applied.join(" "),
                needs_restart = changes.waiting.join(" "),
                "settings and certificates were read again"
            ),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "reading again failed; everything stays as it was");
            }
        }
    }

    /// All or nothing: what can fail comes before anything is changed.
    fn reload(&mut self) -> anyhow::Result<Changes> {
        let mut resolved = self.start.resolved.clone();
        let changes = config::adopt(&mut resolved, &(self.start.reread)()?);
        let settings = &resolved.settings;
        let keys = self.tls.as_ref().map(|_| tls::read(settings)).transpose()?;
        if changes.applied.contains(&"logging.level") {
            (self.start.set_levels)(&settings.logging.level)?;
        }
        self.terms.replace(settings);
        self.memory_bytes_max.set(settings.alarm.memory_bytes_max);
        if let (Some(tls), Some(keys)) = (&self.tls, &keys) {
            tls.has_changed(settings);
            tls.adopt(settings, keys);
        }
        self.start.resolved = resolved;
        Ok(changes)
    }

    /// The files of certificates, and how long the certificate still holds.
    fn on_look(&self) {
        let Some(tls) = &self.tls else { return };
        tls.warn_of_end();
        let settings: &Settings = &self.start.resolved.settings;
        if !tls.has_changed(settings) {
            return;
        }
        match tls::read(settings) {
            Ok(keys) => {
                tls.adopt(settings, &keys);
                tracing::info!("the TLS files changed; new connections use them");
            }
            Err(error) => {
                let error = error.to_string();
                tracing::error!(error, "the TLS files changed and cannot be used; the old stay");
            }
        }
    }
}
