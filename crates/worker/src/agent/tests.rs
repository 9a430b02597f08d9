//! The agent against a server and a machine that are played here, on paused time: what is asked, in
//! which order, and when. Real sockets are in the crate's `tests`.

use std::sync::Mutex;

use bytes::Bytes;
use serde_json::Map;
use tokio::sync::mpsc;

use super::*;
use crate::api::{Batch, Payload, lease_of};
use crate::api::{Call, ClaimAsk, ReleaseAsk, RenewAsk, Said};
use crate::lanes::{Health, Slot};
use crate::pace::Pace;
use crate::plan::Work;
use crate::plan::tests::plan;
use crate::stop::Stop;

/// What the worker asked, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Claim(usize),
    Renew(Vec<String>),
    Complete(Vec<String>),
    Fail(Vec<String>),
    Release(Vec<String>),
    ReleaseAll,
    Look(String),
}

/// A server that is played: items to hand out, and whether it is there.
struct Stage {
    queue: Mutex<VecDeque<Item>>,
    is_away: Mutex<bool>,
    lost: Mutex<Vec<String>>,
    done_elsewhere: Mutex<Vec<String>>,
    asked: mpsc::Sender<Asked>,
    returned: tokio::sync::Notify,
}

impl Stage {
    fn hear(&self, asked: Asked) -> Result<(), Trouble> {
        self.asked.try_send(asked).unwrap();
        let away = Trouble::Away { detail: "away".into(), retry_after: None };
        if *self.is_away.lock().unwrap() { Err(away) } else { Ok(()) }
    }

    fn set_away(&self, is_away: bool) {
        *self.is_away.lock().unwrap() = is_away;
    }
}

fn ids(leases: &[Lease]) -> Vec<String> {
    let mut ids: Vec<String> = leases.iter().map(|lease| lease.id.clone()).collect();
    ids.sort();
    ids
}

impl Server for Stage {
    async fn claim(&self, ask: ClaimAsk) -> Result<Claimed, Trouble> {
        self.hear(Asked::Claim(ask.most))?;
        let items: Vec<Item> = {
            let mut queue = self.queue.lock().unwrap();
            let count = queue.len().min(ask.most);
            queue.drain(..count).collect()
        };
        if items.is_empty() {
            let wait = Duration::from_secs(ask.wait_s);
            let _empty = tokio::time::timeout(wait, self.returned.notified()).await;
            let items = self.queue.lock().unwrap().drain(..).collect();
            return Ok(Claimed { items, idle: None });
        }
        Ok(Claimed { items, idle: None })
    }

    async fn renew(&self, ask: RenewAsk, _: Duration) -> Result<Renewed, Trouble> {
        self.hear(Asked::Renew(ids(&ask.items)))?;
        let lost = self.lost.lock().unwrap().clone();
        let lost = lost.into_iter().map(crate::api::Lost::Id).collect();
        Ok(Renewed { held: ask.items, lost })
    }

    async fn deliver(&self, call: Call, body: Bytes) -> Result<Vec<Said>, Trouble> {
        let batch: Batch = serde_json::from_slice(&body).unwrap();
        let ids: Vec<String> = batch.items.iter().map(|raw| lease_of(raw).unwrap().id).collect();
        self.hear(match call {
            Call::Complete => Asked::Complete(ids.clone()),
            Call::Fail => Asked::Fail(ids.clone()),
        })?;
        if call == Call::Complete && ids.iter().any(|id| id.starts_with("bad")) {
            return Err(Trouble::Refused { code: "bad_request".into(), message: "no".into() });
        }
        if ids.iter().any(|id| id.starts_with("again")) && call == Call::Fail {
            let again = Item { attempt: 2, ..item(&ids[0], "take 1") };
            self.queue.lock().unwrap().push_back(again);
            self.returned.notify_one();
            // Whoever claims hears of it before this is answered.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let said = |id| Said { id, outcome: Some("done".into()), error: None };
        Ok(ids.into_iter().map(said).collect())
    }

    async fn release(&self, ask: ReleaseAsk) -> Result<(), Trouble> {
        self.hear(if ask.all { Asked::ReleaseAll } else { Asked::Release(ids(&ask.items)) })
    }

    async fn is_open(&self, id: &str) -> Result<bool, Trouble> {
        self.hear(Asked::Look(id.to_owned()))?;
        Ok(!self.done_elsewhere.lock().unwrap().contains(&id.to_owned()))
    }
}

/// A machine that is played: the item's text says what happens.
struct Machine;

impl Perform for Machine {
    async fn perform(&self, item: Arc<Item>, _slot: Slot) -> Ending {
        let text = item.text.clone().unwrap_or_default();
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("take", seconds) => {
                tokio::time::sleep(Duration::from_secs(seconds.parse().unwrap())).await;
                let payload = Payload::of(b"1".to_vec());
                Ending::Done { payload, notes: Map::new(), tokens: 3 }
            }
            ("fail", class) => Ending::Failed(Failure::new(class, "m")),
            ("interrupt", why) => Ending::Interrupted(why.to_owned()),
            (other, _) => panic!("what is {other}?"),
        }
    }
}

/// Everything on the stage, and the worker running.
struct Play {
    stage: Arc<Stage>,
    asked: mpsc::Receiver<Asked>,
    stop: Stop,
    worker: tokio::task::JoinHandle<Snapshot>,
    dir: tempfile::TempDir,
}

fn item(id: &str, text: &str) -> Item {
    Item { id: id.into(), attempt: 1, text: Some(text.into()), ..Item::default() }
}

impl Play {
    fn begin(items: &[(&str, &str)]) -> Self {
        Self::begin_in(tempfile::tempdir().unwrap(), items, false, |_| {})
    }

    fn begin_in(
        dir: tempfile::TempDir,
        items: &[(&str, &str)],
        is_away: bool,
        change: impl FnOnce(&mut Rules),
    ) -> Self {
        let (sender, asked) = mpsc::channel(1000);
        let stage = Arc::new(Stage {
            queue: Mutex::new(items.iter().map(|(id, text)| item(id, text)).collect()),
            is_away: Mutex::new(is_away),
            lost: Mutex::default(),
            done_elsewhere: Mutex::default(),
            asked: sender,
            returned: tokio::sync::Notify::new(),
        });
        let (spool, name, found) = Spool::open(dir.path(), Some("w"), "box").unwrap();
        let mut rules = Rules::of(&plan(Work::Exec(vec!["x".into()])), name);
        change(&mut rules);
        let lanes = Lanes::new(["here".to_owned()], &Health::Up, || Pace::fixed(2));
        let server = Arc::clone(&stage);
        let spool = Arc::new(spool);
        let parts = Parts { server, performer: Arc::new(Machine), lanes, spool, found };
        let agent = Agent::new(parts, rules, Instant::now());
        let stop = Stop::new();
        let orders = stop.orders();
        let worker =
            tokio::spawn(async move { agent.run(orders, Vec::new, |_| {}).await.unwrap() });
        Self { stage, asked, stop, worker, dir }
    }

    /// Waits for a question and passes over others.
    async fn until(&mut self, wanted: Asked) {
        let mut seen = Vec::new();
        while let Some(asked) = self.asked.recv().await {
            if asked == wanted {
                return;
            }
            seen.push(asked);
            assert!(seen.len() < 500, "waited for {wanted:?}, saw {seen:?}");
        }
        panic!("the worker is gone; waited for {wanted:?}, saw {seen:?}");
    }

    async fn next(&mut self) -> Asked {
        self.asked.recv().await.unwrap()
    }

    async fn end(self) -> (Snapshot, tempfile::TempDir, Vec<Asked>) {
        self.stop.press();
        let snapshot = self.worker.await.unwrap();
        let (mut asked, mut rest) = (self.asked, Vec::new());
        while let Ok(one) = asked.try_recv() {
            rest.push(one);
        }
        (snapshot, self.dir, rest)
    }
}

fn names(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// Files that wait in the spool.
fn waiting_files(dir: &tempfile::TempDir) -> usize {
    let files = std::fs::read_dir(dir.path().join("w")).unwrap();
    files
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "batch"))
        .count()
}

#[tokio::test(start_paused = true)]
async fn items_are_claimed_run_and_completed() {
    let mut play = Play::begin(&[("a", "take 5"), ("b", "take 5"), ("c", "fail too_long")]);
    assert_eq!(play.next().await, Asked::ReleaseAll, "what an earlier worker held goes back");
    assert_eq!(play.next().await, Asked::Claim(3), "two run, one waits");
    play.until(Asked::Fail(names(&["c"]))).await;
    let (snapshot, dir, rest) = play.end().await;
    assert_eq!((snapshot.done, snapshot.failed, snapshot.tokens), (2, 1, 6));
    assert_eq!(snapshot.failures["too_long"], 1);
    assert_eq!(rest.last(), Some(&Asked::ReleaseAll), "{rest:?}");
    assert_eq!(waiting_files(&dir), 0);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_failed_may_come_back_before_its_failure_is_answered() {
    let mut play = Play::begin(&[("again", "fail x")]);
    let began = Instant::now();
    play.until(Asked::Fail(names(&["again"]))).await;
    play.until(Asked::Complete(names(&["again"]))).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let (snapshot, _, _) = play.end().await;
    assert_eq!((snapshot.done, snapshot.failed, snapshot.undelivered), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn one_heartbeat_renews_everything_three_times_per_lease() {
    let mut play = Play::begin(&[("a", "take 125"), ("b", "take 125"), ("c", "take 1")]);
    let began = Instant::now();
    for beat in 1..=6 {
        play.until(Asked::Renew(names(&["a", "b", "c"]))).await;
        assert_eq!(began.elapsed().as_secs(), beat * 20);
    }
    let (snapshot, _, rest) = play.end().await;
    assert!(
        rest.contains(&Asked::Release(names(&["c"]))),
        "what had not begun goes back: {rest:?}"
    );
    assert_eq!(snapshot.done, 2);
}

#[tokio::test(start_paused = true)]
async fn results_wait_for_a_server_that_is_away() {
    let mut play = Play::begin(&[("a", "take 5"), ("b", "take 5")]);
    play.until(Asked::Claim(3)).await;
    play.stage.set_away(true);
    for _ in 0..4 {
        play.until(Asked::Complete(names(&["a", "b"]))).await;
    }
    assert_eq!(waiting_files(&play.dir), 1);
    play.stage.set_away(false);
    play.until(Asked::Complete(names(&["a", "b"]))).await;
    let (snapshot, dir, _) = play.end().await;
    assert_eq!((snapshot.done, snapshot.undelivered), (2, 0));
    assert_eq!(waiting_files(&dir), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_worker_delivers_what_a_killed_one_left() {
    let mut play = Play::begin(&[("a", "take 5")]);
    play.until(Asked::Claim(3)).await;
    play.stage.set_away(true);
    play.until(Asked::Complete(names(&["a"]))).await;
    play.worker.abort();
    assert!(play.worker.await.unwrap_err().is_cancelled());
    let dir = play.dir;
    assert_eq!(waiting_files(&dir), 1);
    let mut second = Play::begin_in(dir, &[("b", "take 1")], false, |_| {});
    assert_eq!(second.next().await, Asked::Complete(names(&["a"])), "before anything else");
    assert_eq!(second.next().await, Asked::ReleaseAll);
    second.until(Asked::Complete(names(&["b"]))).await;
    assert_eq!(waiting_files(&second.end().await.1), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_goes_on_unless_it_is_done_elsewhere() {
    let mut play = Play::begin(&[("a", "take 50"), ("b", "take 50"), ("c", "take 1")]);
    *play.stage.lost.lock().unwrap() = names(&["a", "b", "c"]);
    *play.stage.done_elsewhere.lock().unwrap() = names(&["a"]);
    play.until(Asked::Look("a".into())).await;
    play.until(Asked::Look("b".into())).await;
    play.until(Asked::Complete(names(&["b"]))).await;
    let (snapshot, _, _) = play.end().await;
    assert_eq!((snapshot.done, snapshot.interrupted, snapshot.done_before), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_what_is_short_and_gives_back_the_rest() {
    let mut play = Play::begin(&[("short", "take 8"), ("long", "take 100"), ("idle", "take 1")]);
    play.until(Asked::Claim(3)).await;
    tokio::task::yield_now().await;
    let began = Instant::now();
    let (snapshot, _, rest) = play.end().await;
    assert_eq!(began.elapsed().as_secs(), 10, "as long as a drain may take");
    assert_eq!((snapshot.done, snapshot.interrupted), (1, 1));
    assert!(rest.contains(&Asked::Release(names(&["idle"]))), "{rest:?}");
    assert!(rest.contains(&Asked::Complete(names(&["short"]))), "{rest:?}");
    assert!(rest.contains(&Asked::Release(names(&["long"]))), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_order_ends_at_once() {
    let mut play = Play::begin(&[("a", "take 100")]);
    play.until(Asked::Claim(3)).await;
    play.stop.press();
    let began = Instant::now();
    let _ended = play.end().await;
    assert_eq!(began.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_a_server_leaves_results_in_the_spool() {
    let mut play = Play::begin(&[("a", "take 5")]);
    play.until(Asked::Claim(3)).await;
    tokio::task::yield_now().await;
    play.stage.set_away(true);
    let (snapshot, dir, _) = play.end().await;
    assert_eq!((snapshot.done, snapshot.undelivered), (1, 1));
    assert_eq!(waiting_files(&dir), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_cannot_run_anything_does_not_burn_through_the_queue() {
    let items: Vec<(String, &str)> = (0..50).map(|n| (format!("i{n}"), "interrupt no")).collect();
    let items: Vec<(&str, &str)> = items.iter().map(|(id, text)| (id.as_str(), *text)).collect();
    let mut play = Play::begin(&items);
    let began = Instant::now();
    for _ in 0..6 {
        loop {
            if matches!(play.next().await, Asked::Claim(_)) {
                break;
            }
        }
    }
    assert!(began.elapsed() > Duration::from_secs(5), "{:?}", began.elapsed());
    play.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_bad_result_does_not_hold_up_the_others() {
    let mut play = Play::begin(&[("bad", "take 1"), ("good", "take 1")]);
    play.until(Asked::Complete(names(&["bad", "good"]))).await;
    play.until(Asked::Complete(names(&["bad"]))).await;
    play.until(Asked::Complete(names(&["good"]))).await;
    play.until(Asked::Fail(names(&["bad"]))).await;
    let (snapshot, dir, _) = play.end().await;
    assert_eq!(snapshot.failures["result_refused"], 1);
    assert_eq!(waiting_files(&dir), 0);
    let kept = std::fs::read_dir(dir.path().join("w")).unwrap();
    assert_eq!(
        kept.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "refused"))
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_ends_when_it_was_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let idle = Some(Duration::from_secs(90));
    let play = Play::begin_in(dir, &[("a", "take 10")], false, |rules| rules.ending.idle = idle);
    let began = Instant::now();
    let snapshot = play.worker.await.unwrap();
    assert_eq!((snapshot.done, snapshot.state), (1, "ended"));
    assert_eq!(began.elapsed().as_secs(), 100);
}

#[tokio::test(start_paused = true)]
async fn the_drain_file_ends_the_worker() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("spot-notice");
    let drain_file = Some(file.clone());
    let mut play = Play::begin_in(dir, &[], false, |rules| rules.ending.drain_file = drain_file);
    play.until(Asked::Claim(3)).await;
    std::fs::write(&file, "").unwrap();
    assert_eq!(play.worker.await.unwrap().state, "ended");
}

#[tokio::test(start_paused = true)]
async fn a_bug_in_one_item_is_that_items_failure() {
    let mut play = Play::begin(&[("a", "nonsense"), ("b", "take 1")]);
    play.until(Asked::Fail(names(&["a"]))).await;
    let (snapshot, _, _) = play.end().await;
    assert_eq!(snapshot.failures["worker_bug"], 1);
}
