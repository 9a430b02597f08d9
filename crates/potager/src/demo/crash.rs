//! The ledger under many kills: publishers with confirms and workers with transactions, while the
//! server is killed at random moments and started again on the same data.
//!
//! Every input is acknowledged, its result published and the next step published in one
//! `tx.commit`. In pauses between kills everything is taken out and compared by number
//! (`audit`): nothing acknowledged may be missing, and of each transaction all or nothing must be
//! there. Not here: the demonstration with tasks (`conduct`).

mod actors;
mod audit;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use self::actors::{Claims, Stage};
pub(crate) use self::audit::Account;
use super::folder::Folder;
use super::progress::Progress;
use super::server::Server;

/// Kills between two audits: bounds what has to be remembered.
const ROUND_KILLS: u32 = 50;
/// The server lives at least and at most this long after it was ready.
const LIFE: (Duration, Duration) = (Duration::from_millis(15), Duration::from_millis(250));
/// One start in this many is itself killed, within this time.
const EARLY_KILLS: (u32, Duration) = (8, Duration::from_millis(12));

/// What one run does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CrashOptions {
    pub(crate) kills: u32,
    /// Stop earlier when this has passed.
    pub(crate) duration: Option<Duration>,
    pub(crate) is_kept: bool,
}

/// Runs it; a broken promise is in the account, with the folder kept.
///
/// # Errors
/// When the server cannot be started or ends by itself, or a client meets something else than a
/// lost connection.
pub(crate) fn run(options: &CrashOptions) -> anyhow::Result<Account> {
    let mut folder = Folder::create(options.is_kept)?;
    let mut server = Server::start(folder.join("server"))?;
    let mut progress = Progress::new(options.kills.into());
    let mut account = Account::default();
    let began = Instant::now();
    let is_time_up = || options.duration.is_some_and(|duration| began.elapsed() > duration);
    while account.kills < options.kills && account.is_kept() && !is_time_up() {
        let kills = ROUND_KILLS.min(options.kills - account.kills);
        let first = account.published + 1;
        let stage = Stage::new(server.address()?, first);
        let claims = round(&stage, &mut server, &mut account, (kills, &mut progress))?;
        audit::compare(&server.address()?, &claims, &mut account)?;
    }
    progress.end();
    account.seconds = began.elapsed().as_secs_f64();
    (account.end_bytes, account.peak_bytes) = server.memory();
    if !account.is_kept() {
        folder.keep();
    }
    account.folder = folder.kept();
    Ok(account)
}

/// Kills the server `kills` times under load; returns what the actors were promised.
fn round(
    stage: &Stage,
    server: &mut Server,
    account: &mut Account,
    (kills, progress): (u32, &mut Progress),
) -> anyhow::Result<Claims> {
    std::thread::scope(|scope| {
        let actors = stage.spawn(scope);
        let killed = kill_often(server, account, (kills, progress));
        if killed.is_ok() {
            // Whatever is under way may end well before everybody leaves.
            std::thread::sleep(LIFE.1);
        }
        stage.is_over.store(true, Ordering::Relaxed);
        let mut claims = Claims::default();
        for actor in actors {
            claims.add(actor.join().map_err(|_| anyhow!("a client failed"))??);
        }
        killed.map(|()| claims)
    })
}

fn kill_often(
    server: &mut Server,
    account: &mut Account,
    (kills, progress): (u32, &mut Progress),
) -> anyhow::Result<()> {
    let target = account.kills + kills;
    while account.kills < target {
        std::thread::sleep(between(LIFE.0, LIFE.1)?);
        server.check()?;
        server.kill();
        account.kills += 1;
        let is_early = getrandom::u32()?.is_multiple_of(EARLY_KILLS.0);
        if is_early && account.kills < target {
            let limit = between(Duration::ZERO, EARLY_KILLS.1)?;
            if server.restart(Some(limit))?.is_none() {
                account.kills += 1;
                account.kills_while_starting += 1;
            } else {
                continue;
            }
        }
        let ready = server.restart(None)?.unwrap_or_default();
        account.note_start(ready);
        let message = format!("{} kills, ready after {} ms", account.kills, ready.as_millis());
        progress.tell(account.kills.into(), &message);
    }
    Ok(())
}

/// A random duration.
fn between(least: Duration, most: Duration) -> anyhow::Result<Duration> {
    let part = f64::from(getrandom::u32()?) / f64::from(u32::MAX);
    Ok(least + most.saturating_sub(least).mul_f64(part))
}
