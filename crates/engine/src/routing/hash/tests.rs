//! Shares by weight, stability under change, and a routing that never changes with the code.

use model::QueueId;
use model::table::{Value, put_field};

use super::*;

fn binding(queue: u32, weight: u32) -> Binding {
    Binding {
        source: Bytes::new(),
        kind: DestinationKind::Queue,
        destination: format!("q{queue}").into(),
        routing_key: weight.to_string().into(),
        arguments: Bytes::new(),
    }
}

fn spread(weights: &[u32]) -> Spread {
    let mut spread = Spread::new(&[]);
    for (queue, weight) in (0..).zip(weights) {
        spread.add(&binding(queue, *weight), Target::Queue(QueueId(queue)));
    }
    spread
}

fn pick(spread: &Spread, key: u32) -> u32 {
    match spread.find(format!("user.{key}").as_bytes(), &[]) {
        Some(Target::Queue(queue)) => queue.0,
        other => panic!("{other:?}"),
    }
}

const KEYS: u32 = 20_000;

#[test]
fn shares_follow_the_weights() {
    for weights in [&[1, 1, 1, 1][..], &[1, 2, 3], &[10, 1], &[1_000_000, 1_000_000, 500_000]] {
        let spread = spread(weights);
        let mut counts = vec![0_u32; weights.len()];
        for key in 0..KEYS {
            counts[pick(&spread, key) as usize] += 1;
        }
        let sum: u32 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let wanted = f64::from(KEYS) * f64::from(*weight) / f64::from(sum);
            let error = (f64::from(*count) - wanted).abs() / f64::from(KEYS);
            assert!(error < 0.012, "{weights:?}: {counts:?}, {count} for {wanted}");
        }
    }
}

#[test]
fn a_queue_that_comes_or_goes_moves_only_its_own_share() {
    let (three, four) = (spread(&[1, 1, 1]), spread(&[1, 1, 1, 1]));
    let moved: Vec<_> = (0..KEYS).filter(|key| pick(&three, *key) != pick(&four, *key)).collect();
    assert!(moved.iter().all(|key| pick(&four, *key) == 3));
    assert!(moved.len().abs_diff(KEYS as usize / 4) < KEYS as usize / 50, "{}", moved.len());
}

#[test]
fn a_changed_weight_moves_keys_one_way() {
    let (before, after) = (spread(&[1, 1, 1]), spread(&[1, 1, 2]));
    let moved = (0..KEYS).filter(|key| pick(&before, *key) != pick(&after, *key));
    assert!(moved.clone().all(|key| pick(&after, key) == 2));
    assert!(moved.count().abs_diff(KEYS as usize / 6) < KEYS as usize / 50);
}

#[test]
fn the_order_of_binding_does_not_matter() {
    let forward = spread(&[1, 5, 2, 9]);
    let mut backward = Spread::new(&[]);
    for (queue, weight) in [(3, 9), (2, 2), (1, 5), (0, 1)] {
        backward.add(&binding(queue, weight), Target::Queue(QueueId(queue)));
    }
    assert!((0..1_000).all(|key| pick(&forward, key) == pick(&backward, key)));
}

#[test]
fn bindings_are_removed_one_by_one() {
    let mut spread = spread(&[1]);
    spread.add(&binding(0, 1), Target::Queue(QueueId(0)));
    spread.remove(&binding(0, 1), Target::Queue(QueueId(0)));
    assert_eq!(pick(&spread, 1), 0);
    spread.remove(&binding(0, 1), Target::Queue(QueueId(0)));
    assert_eq!(spread.find(b"user.1", &[]), None);
}

#[test]
fn a_header_can_decide() {
    let mut arguments = Vec::new();
    put_field(&mut arguments, b"hash-header", Value::Text(b"tenant"));
    let mut spread = Spread::new(&arguments);
    for queue in 0..4 {
        spread.add(&binding(queue, 1), Target::Queue(QueueId(queue)));
    }
    let headers = |tenant: i64| {
        let mut headers = Vec::new();
        put_field(&mut headers, b"tenant", Value::Int(tenant));
        headers
    };
    let picks: Vec<_> = (0..64).map(|tenant| spread.find(b"k", &headers(tenant))).collect();
    assert!(picks.iter().any(|pick| *pick != picks[0]));
    assert_eq!(spread.find(b"k", &headers(7)), spread.find(b"other", &headers(7)));
    assert_eq!(spread.find(b"k", b"\x06tenantB\x07"), spread.find(b"k", &headers(7)));
    assert_eq!(spread.find(b"k", &[]), spread.find(b"other", &[]));
}

#[test]
fn weights() {
    for (text, expected) in [
        ("1", Some(1)),
        ("1000000", Some(1_000_000)),
        ("1000001", None),
        ("0", None),
        ("-1", None),
        ("", None),
        ("ten", None),
        ("1.5", None),
        ("99999999999999999999", None),
    ] {
        assert_eq!(weight(text.as_bytes()), expected, "{text}");
    }
}

/// A node that routes by replaying a log must choose as the one that wrote it: recorded once.
#[test]
fn choices_are_for_ever() {
    let spread = spread(&[1, 2, 3, 4]);
    let picks: Vec<_> = (0..16).map(|key| pick(&spread, key)).collect();
    assert_eq!(picks, [3, 3, 3, 3, 2, 3, 1, 0, 3, 3, 1, 3, 3, 2, 3, 1]);
}

#[test]
fn the_logarithm_is_right_and_falls() {
    let powers = (0..64).map(|bit| 1_u64 << bit);
    let mut draws: Vec<_> = powers.chain((1..1 << 12).map(|n| n << 52)).collect();
    draws.sort_unstable();
    let mut last = u64::MAX;
    for draw in draws {
        #[allow(clippy::cast_precision_loss, reason = "a test compares with floating point")]
        let (real, ours) =
            (-((draw | 1) as f64 / 2_f64.powi(64)).log2(), cost(draw) as f64 / 2_f64.powi(32));
        assert!((real - ours).abs() < 1e-5, "{draw}: {real} {ours}");
        assert!(cost(draw) <= last, "{draw}");
        last = cost(draw);
    }
    assert!(cost(u64::MAX) < 1 << 10, "{}", cost(u64::MAX));
}
