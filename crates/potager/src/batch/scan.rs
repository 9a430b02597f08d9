//! [`Slots`]: where every item of a batch stands, in few bytes each, and [`scan`], which reads the
//! whole input once before anything is sent. Not here: sending (`publish`), results (`follow`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use blake2::{Blake2b, Digest, digest::consts::U32};

use super::read::{BadRow, Rows};
use super::recipe::{Item, print_of};
use super::{Format, ROWS_MAX, Recipe};

/// Bad rows that are shown.
const SHOWN_MAX: usize = 20;

/// Where one item stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// It was not sent in this run.
    #[default]
    Open,
    /// The server has it.
    Sent,
    /// Its result is in the spool.
    Done,
    /// Why it failed is in the spool.
    Failed,
}

/// One item, without key and body.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    pub(super) state: State,
    /// A hash of its body: one key must not mean two things.
    body: u64,
    /// Where its end lies in the spool.
    pub(super) at: u64,
    pub(super) bytes: u32,
    /// The server's id, once it was sent.
    pub(super) job: Option<Box<str>>,
}

/// All items.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    by_key: HashMap<u128, u32>,
}

impl Slots {
    /// Which item has a key.
    pub(super) fn find(&self, key: &str) -> Option<usize> {
        self.by_key.get(&print_of(key.as_bytes())).and_then(|at| usize::try_from(*at).ok())
    }

    pub(super) fn get(&self, at: usize) -> Option<&Slot> {
        self.all.get(at)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Slot> {
        self.all.get_mut(at)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.all.iter_mut()
    }

    /// Notes an item; an equal one that is there already is the same.
    ///
    /// # Errors
    /// Another body has its key.
    pub(super) fn add(&mut self, item: &Item) -> Result<(), String> {
        let wide = print_of(item.body.get().as_bytes());
        // The lower half is enough to tell two bodies of one key apart.
        let body = u64::try_from(wide & u128::from(u64::MAX)).unwrap_or_default();
        let next = u32::try_from(self.all.len()).map_err(|_| "too many rows".to_owned())?;
        match self.by_key.entry(print_of(item.key.as_bytes())) {
            Entry::Vacant(place) => {
                place.insert(next);
                self.all.push(Slot { body, ..Slot::default() });
                Ok(())
            }
            Entry::Occupied(place) => {
                let at = usize::try_from(*place.get()).unwrap_or(usize::MAX);
                let is_same = self.all.get(at).is_some_and(|slot| slot.body == body);
                let text = "another row has the same key and says something else";
                if is_same { Ok(()) } else { Err(format!("{text} (key '{}')", item.key)) }
            }
        }
    }
}

/// What one reading of the input found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) slots: Slots,
    /// Rows, bad ones included.
    pub(super) rows: u64,
    pub(super) bad: u64,
    /// The first of them.
    shown: Vec<BadRow>,
}

/// Reads every row once.
///
/// # Errors
/// The input cannot be read, or has too many rows.
pub(super) fn scan(path: &Path, format: Format, recipe: &Recipe) -> anyhow::Result<Scan> {
    let mut found = Scan::default();
    let mut rows = Rows::open(path, format)?;
    while let Some((line, row)) = rows.next()? {
        found.rows += 1;
        if found.rows > u64::try_from(ROWS_MAX)? {
            bail!("{} has more than {ROWS_MAX} rows; split it", path.display());
        }
        let added = row.and_then(|row| {
            let item = recipe.item(&row).and_then(|item| found.slots.add(&item));
            item.map_err(|why| BadRow { line, why })
        });
        if let Err(bad) = added {
            found.bad += 1;
            if found.shown.len() < SHOWN_MAX {
                found.shown.push(bad);
            }
        }
    }
    Ok(found)
}

impl Scan {
    /// The first bad rows, one in each line.
    pub(super) fn complaint(&self, path: &Path) -> String {
        let lines = self.shown.iter().map(|bad| {
            crate::output::printable(&format!("{}:{}: {}", path.display(), bad.line, bad.why))
        });
        let mut lines: Vec<String> = lines.collect();
        let rest = self.bad.saturating_sub(lines.len() as u64);
        if rest > 0 {
            lines.push(format!("and {rest} more"));
        }
        lines.join("\n  ")
    }
}

/// A name for a batch that nobody named: the file's, and a hash of all that decides its items.
///
/// # Errors
/// The file cannot be read.
pub(super) fn name_of(path: &Path, recipe: &Recipe) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let mut hasher = Blake2b::<U32>::new();
    hasher.update(recipe.print());
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
    let digest = hasher.finalize();
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let stem: String = stem.chars().map(plain).take(24).collect();
    let hash: String = super::recipe::hex(&digest).chars().take(12).collect();
    Ok(format!("{stem}-{hash}"))
}
