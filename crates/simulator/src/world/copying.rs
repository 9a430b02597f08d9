//! Backups of the running server: begun at a random moment, taken a step per turn while work goes
//! on, and read back whole.

use replica::InlineBackup;

use crate::fact::Fact;

use super::World;

/// A backup under way.
pub(super) struct Copying {
    backup: InlineBackup,
    file: Vec<u8>,
    /// Hash of the node's state when it began.
    state: u64,
}

impl World {
    /// Begins a backup at times.
    pub(super) fn begin_copying(&mut self) {
        let is_wanted = self.dice.chance(4) && self.copying.is_none();
        let records_max = usize::try_from(1 + self.dice.below(60)).unwrap_or(1);
        let wall = self.clock.show(self.now);
        let Some(node) = self.server.node.as_mut().filter(|_| is_wanted) else { return };
        let state = node.engine().state_hash();
        // It may be refused: the disk is full, or the server is stopping.
        if let Ok(backup) = InlineBackup::begin(node, wall, records_max) {
            self.copying = Some(Copying { backup, file: Vec::new(), state });
            self.want_turn(100);
        }
    }

    /// Moves a backup on. Called at the end of every turn.
    pub(super) fn go_on_copying(&mut self) {
        let (Some(node), Some(copying)) = (self.server.node.as_mut(), self.copying.as_mut()) else {
            return;
        };
        match copying.backup.poll(node, &mut copying.file) {
            Ok(None) => {
                self.want_disk();
                self.want_turn(500);
            }
            Ok(Some(_)) => {
                let limits = self.server.setup.limits;
                let read = replica::verify_backup(copying.file.as_slice(), limits);
                let (state, copy) = (copying.state, read.ok().map(|read| read.state_hash));
                self.copying = None;
                self.facts.push(Fact::BackedUp { state, copy });
            }
            // A read of the disk failed, or space is short: there is no backup then.
            Err(_) => self.copying = None,
        }
    }
}
