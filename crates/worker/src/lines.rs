//! [`Lines`]: processes that stay and speak JSON lines, one in, one out. One that dies is started
//! again with the next item; the item it had fails with class `engine_died`. Not here: starting and
//! killing (`process`).
//!
//! ```text
//! in   {"id":"3-1","key":"row-1","queue":"q","attempt":1,"headers":{},"body":...}
//!      or "text", "base64"
//! out  {"body":...} or {"text":".."} or {"base64":".."}, with "notes":{..} if it likes
//!      {"error":{"class":"too_long","message":"..","final":false}}
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::api::{Item, Payload};
use crate::backoff::{Backoff, chance};
use crate::ending::{Ending, Failure, Perform};
use crate::lanes::Slot;
use crate::plan::Limits;
use crate::process::{Group, start, tail};
use crate::upstream::rounded;

/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// How long the last words of a dead process are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Processes that stay.
#[derive(Debug)]
pub(crate) struct Lines {
    words: Vec<String>,
    limits: Limits,
    notes: Map<String, Value>,
    /// Those that have nothing to do; never more than run at a time.
    idle: Mutex<Vec<Engine>>,
    backoff: Mutex<Backoff>,
}

/// One process; its group is killed when dropped.
#[derive(Debug)]
struct Engine {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: JoinHandle<String>,
    child: Child,
    group: Group,
}

/// How a conversation with a process failed.
enum Broken {
    Died,
    TooLarge,
}

#[derive(Serialize)]
struct In<'a> {
    id: &'a str,
    key: &'a str,
    queue: &'a str,
    attempt: u64,
    headers: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<&'a str>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Out {
    #[serde(default)]
    body: Option<Box<RawValue>>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    base64: Option<String>,
    #[serde(default)]
    notes: Map<String, Value>,
    #[serde(default)]
    error: Option<OutError>,
}

#[derive(Deserialize)]
struct OutError {
    class: String,
    #[serde(default)]
    message: String,
    #[serde(default, rename = "final")]
    is_final: bool,
}

impl Lines {
    /// No process yet: the first item starts one.
    pub(crate) fn new(words: Vec<String>, limits: Limits, notes: Map<String, Value>) -> Self {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        let (idle, backoff) = (Mutex::new(Vec::new()), Mutex::new(backoff));
        Self { words, limits, notes, idle, backoff }
    }

    fn engine(&self) -> std::io::Result<Engine> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| Engine::start(&self.words), Ok)
    }

    fn keep(&self, engine: Engine) {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner).succeeded();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(engine);
    }

    /// A process that does not live gets some rest before the next one is started.
    fn rest(&self, slot: &Slot) {
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        slot.hold(backoff.failed(chance(), None));
    }

    async fn run(&self, item: &Item, slot: &Slot) -> Ending {
        let mut engine = match self.engine() {
            Ok(engine) => engine,
            Err(error) => {
                self.rest(slot);
                return Ending::Interrupted(format!("cannot start the program: {error}"));
            }
        };
        let began = Instant::now();
        let answer = {
            let mut asking = std::pin::pin!(engine.ask(item));
            let soft = self.limits.soft.or(self.limits.hard).unwrap_or(Duration::MAX);
            if let Ok(answer) = timeout(soft, &mut asking).await {
                Some(answer)
            } else {
                tracing::warn!(item = item.id, soft_s = soft.as_secs(), "an item takes long");
                let left = self.limits.hard.map_or(Duration::MAX, |hard| hard.saturating_sub(soft));
                timeout(left, asking).await.ok()
            }
        };
        match answer {
            // The process goes with the engine: nobody knows what it would say next.
            None => Ending::Failed(Failure::timeout(began.elapsed())),
            Some(Ok(line)) => {
                self.keep(engine);
                self.conclude(&line, began.elapsed())
            }
            Some(Err(Broken::TooLarge)) => {
                let text = format!("the result is larger than {LINE_BYTES_MAX} bytes");
                Ending::Failed(Failure::new("answer_too_large", text))
            }
            Some(Err(Broken::Died)) => {
                self.rest(slot);
                Ending::Failed(Failure::new("engine_died", engine.last_words().await))
            }
        }
    }

    fn conclude(&self, line: &[u8], took: Duration) -> Ending {
        let bad = |text: String| Ending::Failed(Failure::new("bad_answer", text));
        let out: Out = match serde_json::from_slice(line) {
            Ok(out) => out,
            Err(error) => return bad(format!("{error}: {}", String::from_utf8_lossy(line))),
        };
        if let Some(error) = out.error {
            let failure = Failure::new(&error.class, error.message);
            return Ending::Failed(Failure { is_final: error.is_final, ..failure });
        }
        let payload = match (out.body, out.text, out.base64) {
            (Some(body), None, None) => Payload::Json(body),
            (None, Some(text), None) => Payload::Text(text),
            (None, None, Some(base64)) => match Base64::decode_vec(&base64) {
                Ok(bytes) => Payload::Bytes(bytes),
                Err(error) => return bad(format!("its base64 cannot be read: {error}")),
            },
            _ => return bad("expected one of body, text, base64 and error".to_owned()),
        };
        let count = |name: &str| out.notes.get(name).and_then(Value::as_u64).unwrap_or_default();
        let tokens = count("prompt_tokens").saturating_add(count("completion_tokens"));
        let mut notes = self.notes.clone();
        let _new = notes.insert("seconds".to_owned(), rounded(took));
        notes.extend(out.notes);
        Ending::Done { payload, notes, tokens }
    }
}

impl Perform for Lines {
    async fn perform(&self, item: Arc<Item>, slot: Slot) -> Ending {
        let began = Instant::now();
        let ending = self.run(&item, &slot).await;
        match &ending {
            Ending::Done { tokens, .. } => slot.finished(began.elapsed(), *tokens),
            Ending::Failed(_) | Ending::Interrupted(_) => slot.failed(),
        }
        ending
    }
}

impl Engine {
    fn start(words: &[String]) -> std::io::Result<Self> {
        let (mut child, group) = start(words, None)?;
        let lost = || std::io::Error::other("its pipes are missing");
        let stdin = child.stdin.take().ok_or_else(lost)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(lost)?);
        let stderr = tokio::spawn(tail(child.stderr.take()));
        Ok(Self { stdin, stdout, stderr, child, group })
    }

    async fn ask(&mut self, item: &Item) -> Result<Vec<u8>, Broken> {
        let line = line_of(item).map_err(|_| Broken::Died)?;
        self.stdin.write_all(&line).await.map_err(|_| Broken::Died)?;
        self.stdin.flush().await.map_err(|_| Broken::Died)?;
        let mut answer = Vec::new();
        let mut bounded = (&mut self.stdout).take(LINE_BYTES_MAX);
        match bounded.read_until(b'\n', &mut answer).await {
            Ok(_) if answer.ends_with(b"\n") => Ok(answer),
            Ok(_) if bounded.limit() == 0 => Err(Broken::TooLarge),
            Ok(_) | Err(_) => Err(Broken::Died),
        }
    }

    /// How it ended, and what it said before.
    async fn last_words(self) -> String {
        let Self { stdin, stdout, stderr, mut child, group } = self;
        drop((stdin, stdout));
        let status = timeout(LAST_WORDS, child.wait()).await;
        drop(group);
        let said = timeout(LAST_WORDS, stderr).await.ok().and_then(Result::ok).unwrap_or_default();
        match status {
            Ok(Ok(status)) => format!("the program ended ({status}): {}", said.trim()),
            Ok(Err(_)) | Err(_) => format!("the program closed its output: {}", said.trim()),
        }
    }
}

/// An item as one line.
fn line_of(item: &Item) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&In {
        id: &item.id,
        key: item.key(),
        queue: &item.queue,
        attempt: item.attempt,
        headers: &item.headers,
        body: item.body.as_deref(),
        text: item.text.as_deref(),
        base64: item.base64.as_deref(),
    })?;
    // The body is as somebody wrote it; a line's end in it is always between two of its words.
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{Health, Lanes};
    use crate::pace::Pace;

    fn lines(script: &str) -> (Lines, Arc<Lanes>) {
        let words = ["sh", "-c", script].map(str::to_owned).to_vec();
        let lanes = Lanes::new(["here".to_owned()], &Health::Up, || Pace::fixed(1));
        (Lines::new(words, Limits::default(), Map::new()), lanes)
    }

    fn item(id: &str) -> Arc<Item> {
        let body = RawValue::from_string("{\n\"n\": 1}".to_owned()).ok();
        Arc::new(Item { id: id.into(), body, ..Item::default() })
    }

    #[tokio::test]
    async fn one_process_does_many_items() {
        let answer = r#"{\"body\":[$n,$$],\"notes\":{\"completion_tokens\":5}}"#;
        let script = format!("n=0; while read line; do n=$((n+1)); echo \"{answer}\"; done");
        let (engines, lanes) = lines(&script);
        let mut seen = Vec::new();
        for id in ["a", "b", "c"] {
            let ending = engines.perform(item(id), lanes.take(None).unwrap()).await;
            let Ending::Done { payload: Payload::Json(raw), tokens: 5, .. } = ending else {
                panic!("{ending:?}")
            };
            let [count, pid]: [u64; 2] = serde_json::from_str(raw.get()).unwrap();
            seen.push((count, pid));
        }
        let pid = seen[0].1;
        assert_eq!(seen, [(1, pid), (2, pid), (3, pid)]);
        assert_eq!(lanes.figures()[0].tokens, 15);
    }

    #[tokio::test]
    async fn a_process_that_dies_is_started_again_after_a_rest() {
        let (engines, lanes) = lines("read line; echo oh >&2; exit 7");
        let ending = engines.perform(item("a"), lanes.take(None).unwrap()).await;
        let Ending::Failed(failure) = ending else { panic!("{ending:?}") };
        assert_eq!(failure.class, "engine_died");
        assert!(lanes.take(None).is_none() && lanes.next_release().is_some(), "no rest");
    }

    #[tokio::test]
    async fn errors_are_the_programs_own() {
        let answer = r#"{"error":{"class":"too_long","message":"m","final":true}}"#;
        let (engines, lanes) = lines(&format!("while read l; do echo '{answer}'; done"));
        let ending = engines.perform(item("a"), lanes.take(None).unwrap()).await;
        let expected = Failure { is_final: true, ..Failure::new("too_long", "m") };
        assert!(matches!(ending, Ending::Failed(failure) if failure == expected));
    }

    #[tokio::test]
    async fn nonsense_is_a_bad_answer() {
        let (engines, lanes) = lines("while read l; do echo nonsense; done");
        let ending = engines.perform(item("a"), lanes.take(None).unwrap()).await;
        assert!(matches!(ending, Ending::Failed(failure) if failure.class == "bad_answer"));
    }

    #[test]
    fn an_item_is_one_line() {
        let line = line_of(&item("a")).unwrap();
        assert_eq!(line.split(|byte| *byte == b'\n').count(), 2);
        assert!(line.ends_with(b"\"body\":{ \"n\": 1}}\n"));
    }
}
