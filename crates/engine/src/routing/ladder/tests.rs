//! The ladder's arithmetic, and recognition against a topology built as kombu builds it.

use model::ExchangeSpec;
use proptest::prelude::*;

use super::super::tests::{bytes, declare, route, spec, to_exchange, to_queue};
use super::super::{Cascade, Router};
use super::*;

/// As `calculate_routing_key` does.
fn key(delay: u64, rest: &str) -> String {
    let digits: Vec<_> = format!("{delay:028b}").chars().map(String::from).collect();
    format!("{}.{rest}", digits.join("."))
}

/// As `declare_native_delayed_delivery_exchanges_and_queues` does; queue ids are level + 1.
fn build(router: &mut Router, prefix: &str) {
    let name = |level: u32| format!("{prefix}celery_delayed_{level}");
    for level in 0..28 {
        declare(router, &name(level), spec(ExchangeKind::Topic));
        router.declare_queue(bytes(&name(level)), QueueId(level + 1));
    }
    let delivery = format!("{prefix}celery_delayed_delivery");
    declare(router, &delivery, spec(ExchangeKind::Topic));
    for level in 0..28 {
        let stars = "*.".repeat(27 - level as usize);
        let below = if level == 0 { delivery.clone() } else { name(level - 1) };
        let wait = to_queue(&name(level), &name(level), &format!("{stars}1.#"));
        let pass = to_exchange(&name(level), &below, &format!("{stars}0.#"));
        assert_eq!(router.bind(&wait), Ok(true));
        assert_eq!(router.bind(&pass), Ok(true));
    }
}

#[test]
fn a_countdown_is_read_and_nothing_else_is() {
    let five = key(5, "q.t");
    let ladder = parse(b"celery_delayed_27", five.as_bytes()).unwrap();
    assert_eq!((ladder.delay_seconds, ladder.routing_key), (5, five.as_bytes()));
    assert_eq!(ladder.exchange(), "celery_delayed_delivery");
    let most = key((1 << 28) - 1, "q");
    assert_eq!(parse(b"celery_delayed_27", most.as_bytes()).unwrap().delay_seconds, 268_435_455);
    for (exchange, key) in [
        ("celery_delayed_27", key(0, "q")),
        ("celery_delayed_28", key(5, "q")),
        ("celery_delayed_027", key(5, "q")),
        ("celery_delayed_", key(5, "q")),
        ("celery_delayed_delivery", key(5, "q")),
        ("celery_delayed_99999999999999999999", key(5, "q")),
        ("celery27", key(5, "q")),
        ("27", key(5, "q")),
        ("", key(5, "q")),
        ("celery_delayed_27", String::from("q")),
        ("celery_delayed_27", String::new()),
        ("celery_delayed_27", "1.".repeat(26) + "1"),
        ("celery_delayed_27", key(5, "q").replacen('0', "2", 1)),
        ("celery_delayed_27", key(5, "q").replacen("0.", "00.", 1)),
    ] {
        assert_eq!(parse(exchange.as_bytes(), key.as_bytes()), None, "{exchange} {key}");
    }
}

#[test]
fn a_lower_entry_looks_at_fewer_digits() {
    let all = key((1 << 27) | 5, "q");
    assert_eq!(parse(b"celery_delayed_26", all.as_bytes()).unwrap().delay_seconds, 5);
    assert_eq!(parse(b"celery_delayed_1", all.as_bytes()).unwrap().delay_seconds, 1);
    assert_eq!(parse(b"celery_delayed_27", all.as_bytes()).unwrap().delay_seconds, (1 << 27) | 5);
    let starred = all.replacen('1', "any", 1);
    assert_eq!(parse(b"celery_delayed_26", starred.as_bytes()).unwrap().delay_seconds, 5);
    assert_eq!(parse(b"celery_delayed_27", starred.as_bytes()), None);
}

#[test]
fn a_prefix_belongs_to_every_name() {
    let mut router = Router::new();
    build(&mut router, "app_");
    let key = key(9, "q");
    let ladder = router.ladder(b"app_celery_delayed_27", key.as_bytes()).unwrap();
    assert_eq!(ladder.exchange(), "app_celery_delayed_delivery");
    assert_eq!(router.ladder(b"celery_delayed_27", key.as_bytes()), None);
}

#[test]
fn only_a_whole_ladder_is_one() {
    let key = key(5, "q");
    let stands =
        |router: &mut Router| router.ladder(b"celery_delayed_27", key.as_bytes()).is_some();
    let mut router = Router::new();
    assert!(!stands(&mut router));
    build(&mut router, "");
    assert!(stands(&mut router));
    let ladder = parse(b"celery_delayed_27", key.as_bytes()).unwrap();
    let queues: Vec<_> = (1..=28).map(QueueId).collect();
    assert_eq!(router.ladder_queues(&ladder).unwrap(), queues);

    let spy = to_queue("celery_delayed_3", "celery_delayed_4", "#");
    router.bind(&spy).unwrap();
    assert!(!stands(&mut router), "somebody listens in");
    router.unbind(&spy, Cascade::Follow).unwrap();
    assert!(stands(&mut router));

    router.remove_queue(b"celery_delayed_9", Cascade::Follow);
    assert!(!stands(&mut router), "a level is gone");
    assert!(router.ladder(b"celery_delayed_8", key.as_bytes()).is_some(), "not below it");
    router.declare_queue(bytes("celery_delayed_9"), QueueId(10));
    assert!(!stands(&mut router), "unbound");
    let stars = "*.".repeat(18);
    let wait = to_queue("celery_delayed_9", "celery_delayed_9", &format!("{stars}1.#"));
    router.bind(&wait).unwrap();
    assert!(stands(&mut router));

    router.delete_exchange(b"celery_delayed_delivery", Cascade::Follow);
    assert!(!stands(&mut router));
}

#[test]
fn a_plain_exchange_in_the_ladder_breaks_it() {
    let mut router = Router::new();
    let plain = ExchangeSpec { is_delayed: true, ..spec(ExchangeKind::Topic) };
    build(&mut router, "");
    router.delete_exchange(b"celery_delayed_0", Cascade::Follow);
    declare(&mut router, "celery_delayed_0", plain);
    let stars = "*.".repeat(27);
    router.bind(&to_queue("celery_delayed_0", "celery_delayed_0", &format!("{stars}1.#"))).unwrap();
    let pass = to_exchange("celery_delayed_0", "celery_delayed_delivery", &format!("{stars}0.#"));
    router.bind(&pass).unwrap();
    let up =
        to_exchange("celery_delayed_1", "celery_delayed_0", &format!("{}0.#", "*.".repeat(26)));
    router.bind(&up).unwrap();
    let key = key(5, "q");
    assert_eq!(router.ladder(b"celery_delayed_27", key.as_bytes()), None);
}

proptest! {
    /// Walks the real topology: route, wait in the queue it names, go on one level lower.
    #[test]
    fn the_short_cut_waits_as_long_as_the_ladder(delay in 1..(1_u64 << 28), level in 0..28_u32) {
        let mut router = Router::new();
        build(&mut router, "");
        router.declare_queue(bytes("app"), QueueId(100));
        router.bind(&to_queue("celery_delayed_delivery", "app", "#.app")).unwrap();
        let key = key(delay, "app");
        let entry = format!("celery_delayed_{level}");
        let mut waited = 0;
        let mut at = entry.clone();
        loop {
            let queues = route(&mut router, &at, &key);
            prop_assert_eq!(queues.len(), 1, "at {}", at);
            if queues[0] == 100 {
                break;
            }
            let level = queues[0] - 1;
            waited += 1_u64 << level;
            at = match level {
                0 => String::from("celery_delayed_delivery"),
                _ => format!("celery_delayed_{}", level - 1),
            };
        }
        let seen = router.ladder(entry.as_bytes(), key.as_bytes());
        prop_assert_eq!(seen.map_or(0, |ladder| ladder.delay_seconds), waited);
        prop_assert_eq!(seen.is_some(), waited > 0);
    }
}
