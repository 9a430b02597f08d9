//! The course of a demonstration, whoever plays: when the worker is killed, when the server is,
//! and when it is over. Not here: the players (`builtin`, `celery`).

use std::time::{Duration, Instant};

use anyhow::bail;

use super::ledger::Times;
use super::progress::Progress;
use super::server::Server;

/// Part of the work after which a worker is killed.
const WORKER_KILL: f64 = 0.3;
/// Part of the work after which the server is killed.
const SERVER_KILL: f64 = 0.6;
/// Without anything finished for this long, the rest counts as lost.
const STUCK: Duration = Duration::from_secs(45);
/// How often the counters are looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Where the work stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    /// Part of the work that is done, 0 to 1.
    pub(super) share: f64,
    pub(super) published: u64,
    pub(super) confirmed: u64,
    /// Distinct tasks that are done.
    pub(super) finished: u64,
    /// All published, all confirmed, all done.
    pub(super) is_done: bool,
}

/// Who plays.
pub(super) trait Players {
    /// Where the work stands now.
    ///
    /// # Errors
    /// When a player has failed.
    fn status(&mut self) -> anyhow::Result<Status>;

    /// Kills one worker with SIGKILL and puts another in its place.
    ///
    /// # Errors
    /// When the other cannot be started.
    fn kill_worker(&mut self) -> anyhow::Result<()>;
}

/// Plays it through. `began` is when the first server was started.
pub(super) fn run(
    players: &mut impl Players,
    server: &mut Server,
    progress: &mut Progress,
    began: Instant,
) -> anyhow::Result<Times> {
    let mut times = Times::default();
    let mut watch = Watch { began, changed: Instant::now(), finished: 0 };
    let at = |instant: Instant| millis(instant.duration_since(began));

    watch.until(players, server, progress, |status| status.share >= WORKER_KILL)?;
    times.worker_killed_at_ms = at(Instant::now());
    players.kill_worker()?;
    progress.event("a worker was killed (SIGKILL); what it held runs elsewhere");

    let status = watch.until(players, server, progress, |status| status.share >= SERVER_KILL)?;
    let killed = Instant::now();
    times.server_killed_at_ms = at(killed);
    server.kill();
    let told = format!(
        "the server was killed (SIGKILL) with {} tasks confirmed and not yet done",
        status.confirmed.saturating_sub(status.finished)
    );
    progress.event(&told);
    let ready = server.restart(None)?.unwrap_or_default();
    times.ready_after_kill_ms = millis(ready);
    progress.event(&format!("the server was started again: ready after {} ms", millis(ready)));
    let before = players.status()?.finished;
    watch.until(players, server, progress, |status| status.finished > before || status.is_done)?;
    times.outage_ms = millis(killed.elapsed());

    watch.until(players, server, progress, |status| status.is_done)?;
    times.total_ms = at(Instant::now());
    Ok(times)
}

/// Looks at the players until something is so.
struct Watch {
    began: Instant,
    /// When the last task was finished.
    changed: Instant,
    finished: u64,
}

impl Watch {
    fn until(
        &mut self,
        players: &mut impl Players,
        server: &mut Server,
        progress: &mut Progress,
        is_so: impl Fn(&Status) -> bool,
    ) -> anyhow::Result<Status> {
        loop {
            let status = players.status()?;
            let Status { published, confirmed, finished, .. } = status;
            let seconds = self.began.elapsed().as_secs_f32();
            let told = format!(
                "{seconds:.1} s: {published} published, {confirmed} confirmed, {finished} done"
            );
            progress.tell(finished, &told);
            if is_so(&status) {
                return Ok(status);
            }
            if finished > self.finished {
                (self.finished, self.changed) = (finished, Instant::now());
            }
            if status.is_done {
                bail!("everything was done before anything could be killed: use more tasks");
            }
            if self.changed.elapsed() > STUCK {
                bail!("nothing was finished for {} s, after {told}", STUCK.as_secs());
            }
            server.check()?;
            std::thread::sleep(LOOK);
        }
    }
}

/// A duration as the ledger writes it.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
