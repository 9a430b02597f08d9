//! Truth tables of `x-match`, how values compare, and the merge against looking up each name.
//! Which exchange is asked at all is the router's and tested there.

use model::QueueId;
use proptest::prelude::*;

use super::*;

fn table(entries: &[(&str, Value<'_>)]) -> Bytes {
    let mut table = Vec::new();
    for (name, value) in entries {
        put_field(&mut table, name.as_bytes(), *value);
    }
    table.into()
}

fn is_match(binding: &[(&str, Value<'_>)], headers: &[(&str, Value<'_>)]) -> bool {
    let mut rules = Rules::default();
    rules.add(&table(binding), Target::Queue(QueueId(1)));
    let mut out = Vec::new();
    rules.find(&table(headers), &mut out);
    out == [Target::Queue(QueueId(1))]
}

const A: (&str, Value<'_>) = ("a", Value::Int(1));
const B: (&str, Value<'_>) = ("b", Value::Text(b"two"));
const X: (&str, Value<'_>) = ("x-hint", Value::Bool(true));

#[test]
fn every_mode_against_every_set_of_headers() {
    // Per mode: none, a, b, a+b, x, a+x, b+x, a+b+x; the binding asks for a, b and x.
    let t = true;
    for (mode, expected) in [
        (None, [false, false, false, t, false, false, false, t]),
        (Some("all"), [false, false, false, t, false, false, false, t]),
        (Some("any"), [false, t, t, t, false, t, t, t]),
        (Some("all-with-x"), [false, false, false, false, false, false, false, t]),
        (Some("any-with-x"), [false, t, t, t, t, t, t, t]),
    ] {
        for (bits, expected) in (0_u8..).zip(expected) {
            let mut binding = vec![B, X, A];
            binding.extend(mode.map(|mode| ("x-match", Value::Text(mode.as_bytes()))));
            let sets = [(1, A), (2, B), (4, X)];
            let headers: Vec<_> =
                sets.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, entry)| *entry).collect();
            assert_eq!(is_match(&binding, &headers), expected, "{mode:?} {headers:?}");
        }
    }
}

#[test]
fn a_binding_that_asks_for_nothing() {
    let any = ("x-match", Value::Text(b"any"));
    assert!(is_match(&[], &[]));
    assert!(is_match(&[], &[A]));
    assert!(is_match(&[X], &[A]), "x- headers do not count in all");
    assert!(!is_match(&[any], &[]));
    assert!(!is_match(&[any, X], &[X]), "nor in any");
}

#[test]
fn values() {
    let nested = table(&[A]);
    for (wanted, found, expected) in [
        (Value::Int(5), Value::Uint(5), true),
        (Value::Int(5), Value::Int(6), false),
        (Value::Int(5), Value::Text(b"5"), false),
        (Value::Void, Value::Text(b"anything"), true),
        (Value::Void, Value::Void, true),
        (Value::Text(b""), Value::Void, false),
        (Value::Text(b"a"), Value::Text(b"a"), true),
        (Value::Text(b"a"), Value::Text(b"A"), false),
        (Value::Bool(true), Value::Bool(true), true),
        (Value::Bool(true), Value::Int(1), false),
        (Value::Float(0.5), Value::Float(0.5), true),
        (Value::Timestamp(9), Value::Timestamp(9), true),
        (Value::Timestamp(9), Value::Int(9), true),
        (Value::Int(5), Value::Float(5.0), true),
        (Value::Float(5.0), Value::Int(5), true),
        (Value::Float(5.5), Value::Int(5), false),
        (Value::Float(f64::NAN), Value::Int(0), false),
        (Value::Float(1e300), Value::Int(i64::MAX), false),
        (Value::Int((1 << 53) + 1), Value::Float(9_007_199_254_740_992.0), false),
        (Value::Bytes(b"a"), Value::Text(b"a"), true),
        (Value::Int(0), Value::Void, false),
        (Value::Table(&nested), Value::Table(&nested), true),
    ] {
        assert_eq!(is_match(&[("k", wanted)], &[("k", found)]), expected, "{wanted:?} {found:?}");
    }
    assert!(!is_match(&[("k", Value::Void)], &[]), "no value still asks for presence");
}

#[test]
fn integers_of_any_width_are_one_number() {
    let mut rules = Rules::default();
    rules.add(&table(&[("n", Value::Int(7))]), Target::Queue(QueueId(1)));
    let widths = [
        &b"\x01nb\x07"[..],
        b"\x01ns\0\x07",
        b"\x01nI\0\0\0\x07",
        b"\x01nl\0\0\0\0\0\0\0\x07",
        b"\x01nB\x07",
    ];
    for headers in widths {
        let mut out = Vec::new();
        rules.find(headers, &mut out);
        assert_eq!(out.len(), 1, "{headers:?}");
    }
}

#[test]
fn the_first_of_two_equal_names_counts() {
    let headers = [("a", Value::Int(1)), ("a", Value::Int(2))];
    assert!(is_match(&[("a", Value::Int(1))], &headers));
    assert!(!is_match(&[("a", Value::Int(2))], &headers));
}

#[test]
fn x_match_must_say_something_known() {
    let mode_of = |value| mode(&table(&[("x-match", value)]));
    assert!(mode_of(Value::Text(b"any-with-x")).is_some());
    assert!(mode_of(Value::Text(b"some")).is_none());
    assert!(mode_of(Value::Int(1)).is_none());
}

#[test]
fn a_rule_is_removed_by_its_arguments() {
    let (one, two) = (table(&[A]), table(&[B]));
    let mut rules = Rules::default();
    rules.add(&one, Target::Queue(QueueId(1)));
    rules.add(&two, Target::Queue(QueueId(1)));
    rules.remove(&one, Target::Queue(QueueId(2)));
    rules.remove(&one, Target::Queue(QueueId(1)));
    let mut out = Vec::new();
    rules.find(&table(&[A]), &mut out);
    assert_eq!(out, []);
    rules.find(&table(&[B]), &mut out);
    assert_eq!(out.len(), 1);
}

proptest! {
    #[test]
    fn the_merge_agrees_with_looking_up_each(
        wanted in prop::collection::vec((0..6_u8, 0..2_i64), 0..6),
        found in prop::collection::vec((0..6_u8, 0..2_i64), 0..6),
        is_any in any::<bool>(),
    ) {
        let names = ["a", "b", "ba", "c", "", "zz"];
        let entries = |list: &[(u8, i64)]| -> Vec<_> {
            list.iter().map(|(name, n)| (names[usize::from(*name)], Value::Int(*n))).collect()
        };
        let (mut binding, headers) = (entries(&wanted), entries(&found));
        let bound = table(&binding);
        let sent = table(&headers);
        let mut counted: Vec<_> =
            wanted.iter().map(|(name, _)| names[usize::from(*name)]).collect();
        counted.sort_unstable();
        counted.dedup();
        let mut each = counted.iter().map(|name| {
            let name = name.as_bytes();
            find(&sent, name).is_some_and(|value| find(&bound, name) == Some(value))
        });
        let expected = if is_any { each.any(|is| is) } else { each.all(|is| is) };
        let mode = if is_any { &b"any"[..] } else { b"all" };
        binding.push(("x-match", Value::Text(mode)));
        prop_assert_eq!(is_match(&binding, &headers), expected);
    }
}
