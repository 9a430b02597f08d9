//! Random stories against a naive model: a list of records.
//!
//! Lives here: the property test. Not here: anything that must happen for certain.

use journal::disk::FaultyDisk;
use proptest::prelude::*;

use crate::owner::Owner;
use crate::rig::open;

/// One step of a story. Numbers pick among what is there.
#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Settle(usize),
    Exchange(usize, usize),
    Turn,
    /// The process is killed and starts again.
    Kill,
    /// The power fails with this seed.
    PowerLoss(u64),
    /// The process stops as it should and starts again.
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_usize..12_000).prop_map(Step::Publish),
        4 => any::<usize>().prop_map(Step::Settle),
        2 => (any::<usize>(), 0_usize..4_000).prop_map(|(nth, bytes)| Step::Exchange(nth, bytes)),
        8 => Just(Step::Turn),
        1 => Just(Step::Kill),
        1 => (0_u64..1000).prop_map(Step::PowerLoss),
        1 => Just(Step::Close),
    ];
    proptest::collection::vec(step, 1..250)
}

fn nth(owner: &Owner, which: usize) -> Option<model::Lsn> {
    let count = owner.needed.0.len();
    owner.needed.0.keys().nth(which.checked_rem(count)?).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_what_was_promised_is_there(steps in steps()) {
        let mut disk = FaultyDisk::new();
        let mut owner = Owner::default();
        let (mut journal, _) = open(&disk).expect("open");
        for step in steps {
            match step {
                Step::Publish(bytes) => {
                    // As an owner must: nothing is published while the ring is short.
                    if journal.room() == journal::Room::Free {
                        owner.publish(&mut journal, bytes).expect("publish");
                    } else {
                        owner.turn(&mut journal).expect("turn");
                    }
                }
                Step::Settle(which) => {
                    if let Some(lsn) = nth(&owner, which) {
                        owner.settle(&mut journal, lsn).expect("settle");
                    }
                }
                Step::Exchange(which, bytes) => {
                    if let Some(lsn) = nth(&owner, which) {
                        owner.exchange(&mut journal, lsn, bytes).expect("exchange");
                    }
                }
                Step::Turn => owner.turn(&mut journal).expect("turn"),
                Step::Kill => {
                    drop(journal);
                    journal = owner.recover(&disk);
                }
                Step::PowerLoss(seed) => {
                    drop(journal);
                    disk = disk.after_power_loss(seed);
                    journal = owner.recover(&disk);
                }
                Step::Close => {
                    let end = journal.next_lsn();
                    owner.promised = owner.promised.max(end.min(journal.durable()));
                    journal.close().expect("close");
                    journal = owner.recover(&disk);
                }
            }
        }
        owner.settle_down(&mut journal).expect("settle down");
        prop_assert_eq!(journal.durable(), journal.next_lsn());
        drop(journal);
        owner.recover(&disk);
    }
}
