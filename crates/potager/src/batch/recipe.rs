//! [`Recipe`]: what a row becomes: the body of its item, and its key. Pure: the same row gives the
//! same body and key in every run. Not here: reading rows (`read`), sending items (`publish`).

use blake2::{Blake2b, Digest, digest::consts::U32};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::read::Row;
use super::template::{missing, shown};
use super::{KEY_BYTES_MAX, Template};

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// A column.
    Column(String),
    /// A hash of the item's body: equal rows are one item.
    Content,
}

/// What rows become.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// Makes the prompt of a chat request; `None` sends rows as they are.
    pub(crate) template: Option<Template>,
    /// The template as it was written, for the name.
    pub(crate) template_text: Option<String>,
    /// The message before the prompt.
    pub(crate) system: Option<String>,
    /// The model that is asked for.
    pub(crate) model: Option<String>,
    /// Further fields of every request.
    pub(crate) fields: Map<String, Value>,
    /// Where workers post it.
    pub(crate) endpoint: Option<String>,
    pub(crate) keys: Keys,
}

/// A row as an item.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: String,
    pub(super) body: Box<RawValue>,
}

impl Recipe {
    /// What a row becomes.
    ///
    /// # Errors
    /// A column is missing, or the key cannot be one.
    pub(super) fn item(&self, row: &Row) -> Result<Item, String> {
        let body = self.body(row)?;
        let key = match &self.keys {
            Keys::Content => hex(&hash(&[body.get().as_bytes()])[..16]),
            Keys::Column(name) => {
                let cell = row.columns.get(name).ok_or_else(|| missing(name, &row.columns))?;
                check_key(shown(cell))?
            }
        };
        Ok(Item { key, body })
    }

    fn body(&self, row: &Row) -> Result<Box<RawValue>, String> {
        let raw = |value: &Value| to_raw_value(value).map_err(|error| error.to_string());
        let Some(template) = &self.template else {
            return match &row.text {
                Some(text) => RawValue::from_string(text.clone()).map_err(|e| e.to_string()),
                None => to_raw_value(&row.columns).map_err(|error| error.to_string()),
            };
        };
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.push(json!({"role": "user", "content": template.fill(&row.columns)?}));
        let mut body = self.fields.clone();
        if let Some(model) = &self.model {
            body.insert("model".to_owned(), json!(model));
        }
        body.insert("messages".to_owned(), Value::Array(messages));
        raw(&Value::Object(body))
    }

    /// A hash of everything that decides what rows become.
    pub(super) fn print(&self) -> [u8; 32] {
        let text = |text: &Option<String>| json!(text).to_string();
        let fields = Value::Object(self.fields.clone()).to_string();
        let parts = [
            text(&self.template_text),
            text(&self.system),
            text(&self.model),
            fields,
            text(&self.endpoint),
        ];
        let keys = format!("{:?}", self.keys);
        let parts: Vec<&[u8]> =
            parts.iter().map(String::as_bytes).chain([keys.as_bytes()]).collect();
        hash(&parts)
    }
}

fn check_key(key: String) -> Result<String, String> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(format!("a key has 1 to {KEY_BYTES_MAX} bytes without control characters"));
    }
    Ok(key)
}

/// A hash of parts; where one ends counts.
pub(super) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2b::<U32>::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The first half of a hash as a number.
pub(super) fn print_of(bytes: &[u8]) -> u128 {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(hash(&[bytes])) {
        *to = from;
    }
    u128::from_le_bytes(half)
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
