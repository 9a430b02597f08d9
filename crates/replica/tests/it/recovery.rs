//! Recovery itself is cut, and the recovery after that, and the one after that.
//!
//! Lives here: the starts and their cuts. Not here: the story whose log is recovered
//! (`boundaries.rs`) and what must hold after each start (`sweep.rs`).

use journal::disk::FaultyDisk;
use model::Millis;

use crate::boundaries::survivor_sweep;
use crate::run::{Ledger, Run};
use crate::sweep::{Reference, Sweep};

/// Every so many cuts of the story are carried to the third depth.
const DEEP_STEP: u64 = 60;

struct Depths<'a> {
    sweep: &'a Sweep,
    reference: &'a Reference,
    now: Millis,
    /// Cuts made at each depth.
    cuts: [u64; 3],
}

impl Depths<'_> {
    /// Starts a node and lets it turn a few times; gives the disk operations that took, and what
    /// it promised.
    fn start(&self, disk: &FaultyDisk, ledger: &mut Ledger) -> u64 {
        if let Ok(mut run) = Run::open(disk.clone(), self.sweep.options.clone(), self.now) {
            ledger.promised = ledger.promised.max(run.rig.node.journal().durable());
            for _ in 0..3 {
                if run.turn().is_err() {
                    break;
                }
                ledger.promised = ledger.promised.max(run.ledger.promised);
            }
        }
        disk.operations()
    }

    /// Cuts every operation of the start that finds this disk, down to `depth` more starts.
    fn cut(&mut self, found: &FaultyDisk, ledger: &Ledger, depth: usize, context: &str) {
        let whole = self.start(&found.fork(), &mut ledger.clone());
        for at in 1..=whole {
            let disk = found.fork();
            disk.crash_at(at);
            let mut ledger = ledger.clone();
            self.start(&disk, &mut ledger);
            assert!(disk.is_crashed(), "{context}: the start is another one");
            // Everything unsynced is lost, is kept, or is torn at random.
            let seed = if at % 3 < 2 { at % 3 } else { at + 31 };
            let context = format!("{context}, then {at} with seed {seed}");
            let after = disk.after_power_loss(seed);
            self.cuts[depth] += 1;
            let (sweep, reference) = (self.sweep, self.reference);
            let check = (&ledger, self.now);
            let run = sweep.recover(after.fork(), check, reference, &context);
            if at == whole {
                sweep.go_on(run, &ledger, &context);
            }
            if depth + 1 < self.cuts.len() && at % 2 == 0 {
                self.cut(&after, &ledger, depth + 1, &context);
            }
        }
    }
}

/// Promise: P1, P11.
#[test]
fn a_recovery_that_is_cut_is_recovered_too() {
    let sweep = survivor_sweep();
    let reference = sweep.reference();
    let operations = sweep.operations();
    let mut cuts = [0; 3];
    for at in 1..=operations {
        let disk = sweep.disk();
        disk.crash_at(at);
        let (ledger, now, _) = sweep.run(&disk);
        let depth = if at % DEEP_STEP == 0 { 0 } else { 2 };
        let mut depths = Depths { sweep: &sweep, reference: &reference, now, cuts: [0; 3] };
        let context = format!("recovery, operation {at}");
        // First the power fails, or the process is killed: then what it wrote is still there, but
        // not safe before the recovery makes it so.
        let found = if at % 2 == 0 { disk.after_power_loss(at + 3) } else { disk.fork() };
        depths.cut(&found, &ledger, depth, &context);
        // Those that start at the last depth are cuts of the first recovery like the others.
        let made = depths.cuts;
        if depth == 2 {
            cuts[0] += made[2];
        } else {
            (0..3).for_each(|depth| cuts[depth] += made[depth]);
        }
    }
    eprintln!("recovery: {operations} operations, {cuts:?} cuts of first, second, third recovery");
    assert!(cuts[0] > 1000 && cuts[1] > 200 && cuts[2] > 200, "{cuts:?}");
}
