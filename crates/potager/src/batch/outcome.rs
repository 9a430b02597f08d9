//! [`Outcome`]: how one row ended, as it stands in outputs, and [`Spool`], where ends wait on the
//! disk until all are there. Not here: formats of files (`write`).

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// Why a row has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// One word.
    pub(crate) class: String,
    /// For people.
    pub(crate) message: String,
    /// How often it was tried.
    pub(crate) attempts: u64,
}

/// How one row ended.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// The row's key.
    pub(super) id: String,
    /// The text of a chat answer, or a result that is text.
    pub(super) text: Option<String>,
    pub(super) result: Option<Box<RawValue>>,
    pub(super) notes: Option<Box<RawValue>>,
    pub(super) error: Option<Failure>,
}

/// A result as the server shows it, as far as batches look.
#[derive(Debug, Deserialize)]
pub(super) struct Shown<'a> {
    #[serde(borrow)]
    pub(super) key: Cow<'a, str>,
    #[serde(default)]
    pub(super) deleted: bool,
    #[serde(default, borrow)]
    pub(super) notes: Option<&'a RawValue>,
    #[serde(default, borrow)]
    body: Option<&'a RawValue>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default, borrow)]
    base64: Option<&'a RawValue>,
}

/// What notes say about effort.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Effort {
    #[serde(default)]
    pub(super) cost: Option<f64>,
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

impl Effort {
    /// What notes say; nothing when they say it in another way.
    pub(super) fn of(notes: Option<&RawValue>) -> Self {
        notes.and_then(|notes| serde_json::from_str(notes.get()).ok()).unwrap_or_default()
    }

    pub(super) fn tokens(&self) -> u64 {
        self.prompt_tokens.unwrap_or(0).saturating_add(self.completion_tokens.unwrap_or(0))
    }
}

impl Outcome {
    /// A row with a result, as the server showed it.
    ///
    /// # Errors
    /// It is not shown like one.
    pub(super) fn done(id: String, shown: &str) -> anyhow::Result<Self> {
        let shown: Shown<'_> = serde_json::from_str(shown).context("reading a result")?;
        let (text, result) = match (shown.body, shown.text, shown.base64) {
            (Some(body), ..) => (answer_text(body), Some(body.to_owned())),
            (None, Some(text), _) => {
                let result = to_raw_value(&text)?;
                (Some(text), Some(result))
            }
            (None, None, Some(base64)) => {
                let result = format!("{{\"base64\":{base64}}}");
                (None, Some(RawValue::from_string(result)?))
            }
            (None, None, None) => (None, None),
        };
        Ok(Self { id, text, result, notes: shown.notes.map(RawValue::to_owned), error: None })
    }

    /// A row without one.
    pub(super) const fn failed(id: String, failure: Failure) -> Self {
        Self { id, text: None, result: None, notes: None, error: Some(failure) }
    }
}

/// What a model says, in the shapes of chats and completions.
fn answer_text(body: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        choices: Vec<Choice>,
    }
    #[derive(Deserialize)]
    struct Choice {
        message: Option<Message>,
        text: Option<String>,
    }
    #[derive(Deserialize)]
    struct Message {
        content: Option<Value>,
    }
    let answer: Answer = serde_json::from_str(body.get()).ok()?;
    let choice = answer.choices.into_iter().next()?;
    match choice.message.and_then(|message| message.content) {
        Some(Value::String(text)) => Some(text),
        _ => choice.text,
    }
}

/// Ends of rows on the disk, in a file without a name that goes with the process.
pub(super) struct Spool {
    file: BufWriter<File>,
    at: u64,
}

impl Spool {
    /// A new one beside the output, or in the temporary place.
    ///
    /// # Errors
    /// No file can be made there.
    pub(super) fn new(beside: Option<&Path>) -> anyhow::Result<Self> {
        let dir = beside.and_then(Path::parent).filter(|dir| !dir.as_os_str().is_empty());
        let file = match (beside, dir) {
            (Some(_), Some(dir)) => tempfile::tempfile_in(dir),
            (Some(_), None) => tempfile::tempfile_in("."),
            (None, _) => tempfile::tempfile(),
        };
        let file = file.context("making a temporary file beside the output")?;
        Ok(Self { file: BufWriter::with_capacity(1 << 18, file), at: 0 })
    }

    /// Adds one; says where it lies.
    pub(super) fn add(&mut self, text: &str) -> anyhow::Result<(u64, u32)> {
        let at = self.at;
        self.file.write_all(text.as_bytes()).context("writing the temporary file")?;
        self.at += text.len() as u64;
        Ok((at, u32::try_from(text.len())?))
    }

    /// Reads one again.
    pub(super) fn read(&mut self, at: u64, bytes: u32) -> anyhow::Result<String> {
        self.file.flush()?;
        let mut text = vec![0; usize::try_from(bytes)?];
        self.file.get_ref().read_exact_at(&mut text, at).context("reading the temporary file")?;
        Ok(String::from_utf8(text)?)
    }
}
