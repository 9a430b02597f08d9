//! The trie against a naive recursive matcher, and its cost against hostile patterns.

use model::QueueId;
use proptest::prelude::*;

use super::*;

fn target(id: u32) -> Target {
    Target::Queue(QueueId(id))
}

fn trie(patterns: &[&str]) -> Trie {
    let mut trie = Trie::default();
    for (id, pattern) in (0..).zip(patterns) {
        trie.add(&Bytes::copy_from_slice(pattern.as_bytes()), target(id));
    }
    trie
}

fn find(trie: &mut Trie, key: &str) -> Vec<Target> {
    let mut out = Vec::new();
    trie.find(key.as_bytes(), &mut out);
    out.sort_unstable();
    out.dedup();
    out
}

/// What the specification says, word by word.
fn is_match(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&b"#", rest)), None) => is_match(rest, key),
        (Some((&b"#", rest)), Some((_, tail))) => is_match(rest, key) || is_match(pattern, tail),
        (Some((&word, rest)), Some((&first, tail))) => {
            (word == b"*" || word == first) && is_match(rest, tail)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn oracle(pattern: &str, key: &str) -> bool {
    let pattern: Vec<_> = words(pattern.as_bytes()).collect();
    let key: Vec<_> = words(key.as_bytes()).collect();
    is_match(&pattern, &key)
}

#[test]
fn words_and_wildcards() {
    for (pattern, key, expected) in [
        ("", "", true),
        ("", "a", false),
        ("#", "", true),
        ("*", "", false),
        ("#", "a.b.c", true),
        ("a.#", "a", true),
        ("#.a", "a", true),
        ("a.#.b", "a.b", true),
        ("a.#.b", "a.x.y.b", true),
        ("a.#.b", "a.x.y.c", false),
        ("*.*", "a.b", true),
        ("*.*", "a", false),
        ("*.*", ".", true),
        (".", ".", true),
        ("a..b", "a.b", false),
        ("a.*.b", "a..b", true),
        ("#.#", "", true),
        ("#.*", "", false),
        ("#.*.#", "a", true),
        ("*.#.*", "a", false),
        ("a*", "ab", false),
        ("a*", "a*", true),
        ("lazy.#", "lazy.pink.rabbit", true),
    ] {
        let found = !find(&mut trie(&[pattern]), key).is_empty();
        assert_eq!(found, expected, "{pattern:?} {key:?}");
        assert_eq!(oracle(pattern, key), expected, "oracle: {pattern:?} {key:?}");
    }
}

#[test]
fn hostile_patterns_stay_cheap() {
    let key = ["a"; 127].join(".");
    for pattern in [
        ["#"; 100].join("."),
        ["#.*"; 60].join("."),
        ["#.a"; 60].join("."),
        ["#.a.*"; 40].join("."),
        format!("{}.b", ["#.a"; 60].join(".")),
    ] {
        let mut trie = trie(&[&pattern]);
        let cost = trie.find(key.as_bytes(), &mut Vec::new());
        let most = 128 * trie.nodes.len();
        assert!(cost <= most, "{cost} states for {most} allowed, pattern {pattern}");
        assert!(most <= 128 * 128, "{most}");
    }
}

#[test]
fn many_patterns_cost_only_where_they_match() {
    let patterns: Vec<_> = (0..1_000).map(|n| format!("stock.{n}.#")).collect();
    let names: Vec<_> = patterns.iter().map(String::as_str).collect();
    let mut trie = trie(&names);
    let mut out = Vec::new();
    let cost = trie.find(b"stock.77.nyse.usd", &mut out);
    assert_eq!(out, [target(77)]);
    assert!(cost < 12, "{cost}");
}

#[test]
fn equal_patterns_are_counted() {
    let (plain, doubled) = (Bytes::from_static(b"a.#"), Bytes::from_static(b"a.#.#"));
    let mut trie = Trie::default();
    trie.add(&plain, target(1));
    trie.add(&doubled, target(1));
    trie.remove(&plain, target(1));
    assert_eq!(find(&mut trie, "a.b"), [target(1)]);
    trie.remove(&doubled, target(1));
    assert_eq!(find(&mut trie, "a.b"), []);
    assert_eq!(trie.edges.len(), 0);
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let mut trie = trie(&["a.b"]);
    trie.remove(&Bytes::from_static(b"a.c"), target(0));
    trie.remove(&Bytes::from_static(b"*"), target(0));
    assert_eq!(find(&mut trie, "a.b"), [target(0)]);
}

/// Short words from a small alphabet, so that things meet.
fn text(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..7).prop_map(|words| words.join("."))
}

proptest! {
    #[test]
    fn the_trie_agrees_with_the_oracle(
        patterns in prop::collection::vec(text(&["a", "b", "", "*", "#", "#"]), 1..12),
        gone in prop::collection::vec(any::<bool>(), 12),
        keys in prop::collection::vec(text(&["a", "b", "c", ""]), 1..12),
    ) {
        let names: Vec<_> = patterns.iter().map(String::as_str).collect();
        let mut trie = trie(&names);
        let mut left = Vec::new();
        for (id, (pattern, gone)) in (0..).zip(patterns.iter().zip(gone)) {
            if gone {
                trie.remove(&Bytes::copy_from_slice(pattern.as_bytes()), target(id));
            } else {
                left.push((id, pattern));
            }
        }
        for key in &keys {
            let expected: Vec<_> = left
                .iter()
                .filter(|(_, pattern)| oracle(pattern, key))
                .map(|(id, _)| target(*id))
                .collect();
            prop_assert_eq!(find(&mut trie, key), expected, "key {:?}", key);
        }
        for (id, pattern) in left {
            trie.remove(&Bytes::copy_from_slice(pattern.as_bytes()), target(id));
        }
        prop_assert_eq!(trie.edges.len(), 0);
        prop_assert_eq!(trie.free.len() + 1, trie.nodes.len());
    }
}
