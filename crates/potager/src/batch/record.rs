//! What the server keeps of a batch besides items and results: its [`Record`], and which item is
//! which row, in parts. They are results below `potager.batch/NAME`. Called by `publish` (writes)
//! and `manage` (reads).

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Api, RECORDS};

/// What is known of a batch by its name alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Where its items are.
    pub(super) queue: String,
    /// How many it has.
    pub(super) items: u64,
    /// The input's name.
    pub(super) input: String,
}

/// Keys with the server's ids of their items.
pub(super) type Part = Vec<(String, String)>;

fn key(name: &str) -> String {
    format!("{RECORDS}/{name}")
}

impl Record {
    /// Stores it.
    pub(super) async fn put(&self, api: &Api, name: &str) -> anyhow::Result<()> {
        api.put(&key(name), self).await
    }

    /// That of a name.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn find(api: &Api, name: &str) -> anyhow::Result<Self> {
        super::check_name(name)?;
        let found = api.result(&key(name)).await?;
        let shown = crate::output::printable(name);
        found.ok_or_else(|| {
            anyhow!("the server knows no batch '{shown}'; `potager batch run` says the name")
        })
    }
}

/// Stores which items are which rows.
pub(super) async fn put_part(api: &Api, name: &str, at: u64, part: &Part) -> anyhow::Result<()> {
    api.put(&format!("{}/{at:08}", key(name)), part).await
}

/// Every key with its item, part by part.
pub(super) async fn parts(api: &Api, name: &str) -> anyhow::Result<Part> {
    #[derive(Deserialize)]
    struct Stored<'a> {
        key: String,
        #[serde(borrow)]
        body: Option<&'a RawValue>,
    }
    let (prefix, mut after) = (format!("{}/", key(name)), String::new());
    let mut all = Part::new();
    loop {
        let page = api.list(&prefix, &after).await?;
        for raw in &page.results {
            let stored: Stored<'_> = serde_json::from_str(raw.get())?;
            if let Some(body) = stored.body {
                let part: Part = serde_json::from_str(body.get())?;
                all.extend(part);
            }
            after = stored.key;
        }
        if !page.more || page.results.is_empty() {
            return Ok(all);
        }
    }
}
