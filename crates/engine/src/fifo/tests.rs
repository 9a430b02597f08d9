//! The line of entries against an ordered map: order, places of returned entries, coded size, and
//! that a frozen line thaws into the same one. What queues do with lines is tested from outside.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn entry(lsn: u64, body: u32, expires: u64) -> Entry {
    Entry { stored: Stored::Log(Lsn(lsn)), expires, body, head: 60, returns: 0, lease_s: 0 }
}

fn content(line: &Fifo) -> Vec<(u64, u64, u32, u64)> {
    let mut out = Vec::new();
    line.for_each(&mut |seq, entry| {
        out.push((seq, entry.stored.lsn().unwrap().0, entry.body, entry.expires));
    });
    out
}

#[test]
fn equal_messages_cost_one_byte_each() {
    let mut line = Fifo::default();
    for index in 0..100_000_u64 {
        line.push(entry(index * 1_100, 1024, NEVER));
    }
    let bytes: usize = line.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    assert!(bytes < 110_000, "{bytes} bytes for 100,000 entries");
    assert_eq!(line.pop().unwrap().entry.stored.lsn(), Some(Lsn(0)));
}

#[test]
fn a_returned_entry_comes_first_and_is_marked() {
    let mut line = Fifo::default();
    for index in 1..=3 {
        line.push(entry(index, 1, NEVER));
    }
    let first = line.pop().unwrap();
    let second = line.pop().unwrap();
    assert!(!first.is_redelivered);
    line.put_back(second.seq, second.entry);
    line.put_back(first.seq, first.entry);
    let order: Vec<(u64, bool)> =
        std::iter::from_fn(|| line.pop()).map(|taken| (taken.seq, taken.is_redelivered)).collect();
    assert_eq!(order, [(0, true), (1, true), (2, false)]);
}

#[test]
fn a_short_line_reuses_its_tail() {
    let mut line = Fifo::default();
    for index in 0..10_000 {
        line.push(entry(index, 1, NEVER));
        line.push(entry(index, 1, NEVER));
        line.pop();
        line.pop();
    }
    assert!(line.peek().is_none() && line.chunks.is_empty());
    assert!(line.tail.capacity() <= 64, "{}", line.tail.capacity());
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64, u32, Option<u64>),
    Pop,
    Return(usize),
    Take(u64),
    Freeze,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u64>(), any::<u32>(), proptest::option::of(0..NEVER))
            .prop_map(|(lsn, body, expires)| Step::Push(lsn, body, expires)),
        3 => (0..100_u64, 1000..1003_u32).prop_map(|(lsn, body)| Step::Push(lsn, body, None)),
        3 => Just(Step::Pop),
        2 => (0..8_usize).prop_map(Step::Return),
        1 => (0..3000_u64).prop_map(Step::Take),
        1 => Just(Step::Freeze),
    ]
}

/// What the line should be: all entries in it by number.
#[derive(Default)]
struct Naive {
    ready: BTreeMap<u64, (u64, u32, u64)>,
    out: Vec<(u64, Entry)>,
    next: u64,
}

proptest! {
    #[test]
    fn behaves_like_an_ordered_map(
        start in 0..2500_u64,
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut line = Fifo::default();
        let mut naive = Naive::default();
        let filler = (0..start).map(|index| Step::Push(index * 7, 9, None));
        for step in filler.chain(steps) {
            match step {
                Step::Push(lsn, body, expires) => {
                    let expires = expires.unwrap_or(NEVER);
                    let seq = line.push(entry(lsn, body, expires));
                    prop_assert_eq!(seq, naive.next);
                    naive.ready.insert(seq, (lsn, body, expires));
                    naive.next += 1;
                }
                Step::Pop => {
                    let peeked = line.peek().and_then(|entry| entry.stored.lsn());
                    let taken = line.pop();
                    let expected = naive.ready.pop_first();
                    prop_assert_eq!(taken.as_ref().map(|taken| taken.seq), expected.map(|it| it.0));
                    prop_assert_eq!(peeked.map(|lsn| lsn.0), expected.map(|it| it.1.0));
                    naive.out.extend(taken.map(|taken| (taken.seq, taken.entry)));
                }
                Step::Return(index) => {
                    if index < naive.out.len() {
                        let (seq, entry) = naive.out.swap_remove(index);
                        let lsn = entry.stored.lsn().unwrap().0;
                        naive.ready.insert(seq, (lsn, entry.body, entry.expires));
                        line.put_back(seq, entry);
                    }
                }
                Step::Take(seq) => {
                    let lsn = line.take(seq).map(|entry| entry.stored.lsn().unwrap().0);
                    prop_assert_eq!(lsn, naive.ready.remove(&seq).map(|it| it.0));
                }
                Step::Freeze => {
                    line = Fifo::thaw(line.freeze()).unwrap();
                }
            }
            prop_assert_eq!(line.peek().is_none(), naive.ready.is_empty());
        }
        let expected: Vec<_> =
            naive.ready.iter().map(|(seq, it)| (*seq, it.0, it.1, it.2)).collect();
        prop_assert_eq!(content(&line), expected);
        let runs: u64 = line.ready_runs().iter().map(|run| run.1).sum();
        prop_assert_eq!(runs, naive.ready.len() as u64);
        let mut live = Vec::new();
        line.live(&(Lsn(10)..Lsn(90)), &mut live);
        let inside = naive.ready.values().filter(|it| (10..90).contains(&it.0)).count();
        prop_assert_eq!(live.len(), inside);
    }
}
