//! The power fails: what of the unsynced changes is on the medium afterwards.
//!
//! Lives here: the patterns of [`Tear`]. Not here: when it happens; the caller decides that.

use super::plan::Tear;
use super::state::{Change, Inode, Pending, Tree, apply_names};

/// Unit in which an unsynced write may be lost on its own.
pub(super) const SECTOR_BYTES: usize = 512;

/// A small generator; good enough to pick which sectors survive.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn coin(&mut self) -> bool {
        self.roll().is_multiple_of(2)
    }

    /// A number from 0 to `most`, both included.
    fn up_to(&mut self, most: usize) -> usize {
        let most = most as u64;
        usize::try_from(self.roll() % most.saturating_add(1)).unwrap_or(0)
    }
}

/// The files as the next boot finds them.
pub(super) fn after(tree: &Tree, tear: Tear, seed: u64) -> Tree {
    let mut dice = Dice::new(seed);
    let mut medium = tree.clone();
    let mut changes = std::mem::take(&mut medium.pending_names);
    let cut = dice.up_to(changes.len());
    match tear {
        Tear::None => changes.clear(),
        Tear::All => {}
        Tear::Prefix | Tear::Sectors => changes.truncate(cut),
        Tear::Suffix => drop(changes.drain(..cut)),
        Tear::Writes => changes.retain(|_| dice.coin()),
    }
    for change in &changes {
        apply_names(&mut medium.durable_names, change);
    }
    let mut pieces = pieces(&mut medium, tear);
    pick(&mut pieces, tear, &mut dice);
    for (file, piece) in &pieces {
        medium.store(*file, &piece.change, piece.lie.as_ref());
    }
    boot(medium)
}

/// All unsynced changes in the order in which they were made, cut as small as they may tear.
fn pieces(tree: &mut Tree, tear: Tear) -> Vec<(u64, Pending)> {
    let mut pieces = Vec::new();
    for (file, inode) in &mut tree.files {
        for pending in std::mem::take(&mut inode.pending) {
            match pending.change {
                // A lie is told about the whole write.
                Change::Write(offset, ref data)
                    if tear != Tear::Writes && pending.lie.is_none() =>
                {
                    for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                        let offset = offset.saturating_add(index * SECTOR_BYTES);
                        let change = Change::Write(offset, sector.to_vec());
                        pieces.push((*file, Pending { change, lie: None, ..pending }));
                    }
                }
                Change::Write(..) | Change::Length(_) => pieces.push((*file, pending)),
            }
        }
    }
    pieces.sort_by_key(|(_, piece)| piece.order);
    pieces
}

/// Leaves those that survive.
fn pick(pieces: &mut Vec<(u64, Pending)>, tear: Tear, dice: &mut Dice) {
    let cut = dice.up_to(pieces.len());
    match tear {
        Tear::None => pieces.clear(),
        Tear::All => {}
        Tear::Prefix => pieces.truncate(cut),
        Tear::Suffix => drop(pieces.drain(..cut)),
        Tear::Writes | Tear::Sectors => pieces.retain(|_| dice.coin()),
    }
}

/// Only what is durable is there.
fn boot(mut medium: Tree) -> Tree {
    medium.names.clone_from(&medium.durable_names);
    let mut files = std::mem::take(&mut medium.files);
    for (path, file) in &medium.names {
        if let Some(inode) = files.remove(file) {
            let durable = inode.durable;
            let live = durable.clone();
            let inode = Inode { name: path.clone(), live, durable, pending: Vec::new() };
            medium.files.insert(*file, inode);
        }
    }
    medium
}
