//! The router against a naive model: random topologies, every answer asked twice, so that a stale
//! cache, a missed cascade or a wrong path shows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::topic::words;
use super::*;

const NAMES: [&str; 5] = ["amq.topic", "e1", "e2", "e3", "e4"];
const KEYS: [&str; 6] = ["", "a", "b", "a.b", "a.*", "#"];
const QUEUES: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Declare { name: usize, kind: usize, alternate: Option<usize>, is_auto_delete: bool },
    Delete(usize),
    Bind(usize, bool, usize, usize),
    Unbind(usize, bool, usize, usize),
    RemoveQueue(u32),
    DeclareQueue(u32),
    Route { name: usize, key: usize, extra: Option<usize> },
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let key = 0..KEYS.len();
    let link = (name.clone(), any::<bool>(), 0..4_usize, key.clone());
    prop_oneof![
        2 => (name.clone(), 0..3_usize, prop::option::of(name.clone()), any::<bool>()).prop_map(
            |(name, kind, alternate, is_auto_delete)| Step::Declare {
                name, kind, alternate, is_auto_delete
            }
        ),
        1 => name.clone().prop_map(Step::Delete),
        6 => link.clone().prop_map(|(a, b, c, d)| Step::Bind(a, b, c, d)),
        2 => link.prop_map(|(a, b, c, d)| Step::Unbind(a, b, c, d)),
        1 => (1..=QUEUES).prop_map(Step::RemoveQueue),
        1 => (1..=QUEUES).prop_map(Step::DeclareQueue),
        6 => (name, key.clone(), prop::option::of(key))
            .prop_map(|(name, key, extra)| Step::Route { name, key, extra }),
    ]
}

/// The same thing as sets and loops.
#[derive(Default)]
struct Naive {
    exchanges: BTreeMap<Bytes, ExchangeSpec>,
    bindings: BTreeSet<Binding>,
    queues: BTreeMap<Bytes, u32>,
}

impl Naive {
    fn has(&self, binding: &Binding) -> bool {
        self.exchanges.contains_key(&binding.source)
            && match binding.kind {
                DestinationKind::Queue => self.queues.contains_key(&binding.destination),
                DestinationKind::Exchange => self.exchanges.contains_key(&binding.destination),
            }
    }

    /// Drops what lost an end; auto-delete exchanges go when they had bindings and have none.
    fn settle(&mut self, before: &BTreeSet<Bytes>) {
        let mut sources = before.clone();
        loop {
            let dead: Vec<_> = self.bindings.iter().filter(|b| !self.has(b)).cloned().collect();
            for binding in dead {
                self.bindings.remove(&binding);
            }
            let left = self.sources();
            let gone: Vec<_> = sources
                .iter()
                .filter(|name| !left.contains(*name))
                .filter(|name| self.exchanges.get(*name).is_some_and(|spec| spec.is_auto_delete))
                .cloned()
                .collect();
            if gone.is_empty() {
                return;
            }
            sources = left;
            for name in gone {
                self.exchanges.remove(&name);
            }
        }
    }

    fn sources(&self) -> BTreeSet<Bytes> {
        self.bindings.iter().map(|binding| binding.source.clone()).collect()
    }

    fn route(&self, from: &str, keys: &[&str]) -> Option<Vec<u32>> {
        self.exchanges.get(from.as_bytes())?;
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut work = vec![bytes(from)];
        while let Some(name) = work.pop() {
            let Some(spec) = self.exchanges.get(&name) else { continue };
            if !seen.insert(name.clone()) {
                continue;
            }
            let matching: Vec<_> = self
                .bindings
                .iter()
                .filter(|binding| binding.source == name)
                .filter(|binding| keys.iter().any(|key| is_match(spec.kind, binding, key)))
                .collect();
            if matching.is_empty() {
                work.extend(spec.alternate.clone());
            }
            for binding in matching {
                match binding.kind {
                    DestinationKind::Queue => _ = found.insert(self.queues[&binding.destination]),
                    DestinationKind::Exchange => work.push(binding.destination.clone()),
                }
            }
        }
        Some(found.into_iter().collect())
    }
}

fn is_match(kind: ExchangeKind, binding: &Binding, key: &str) -> bool {
    fn topic(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&b"#", rest)), _) => (0..=key.len()).any(|skip| topic(rest, &key[skip..])),
            (Some((&word, rest)), Some((&first, tail))) => {
                (word == b"*" || word == first) && topic(rest, tail)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
    match kind {
        ExchangeKind::Direct => binding.routing_key == key,
        ExchangeKind::Topic => {
            let pattern: Vec<_> = words(&binding.routing_key).collect();
            topic(&pattern, &words(key.as_bytes()).collect::<Vec<_>>())
        }
        ExchangeKind::Fanout | ExchangeKind::Headers | ExchangeKind::ConsistentHash => true,
    }
}

fn link(source: usize, is_queue: bool, destination: usize, key: usize) -> Binding {
    if is_queue {
        to_queue(NAMES[source], &format!("q{}", destination % 3 + 1), KEYS[key])
    } else {
        to_exchange(NAMES[source], NAMES[destination], KEYS[key])
    }
}

fn perform(router: &mut Router, naive: &mut Naive, step: &Step) {
    let before = naive.sources();
    match *step {
        Step::Declare { name, kind, alternate, is_auto_delete } => {
            let kind = [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic][kind];
            let alternate = alternate.map(|name| bytes(NAMES[name]));
            let spec = ExchangeSpec { alternate, is_auto_delete, ..spec(kind) };
            let name = bytes(NAMES[name]);
            if router.check_declare(&name, &spec) == Ok(Declared::New) {
                router.declare_exchange(&name, spec.clone());
                naive.exchanges.insert(name, spec);
            }
        }
        Step::Delete(name) => {
            let name = bytes(NAMES[name]);
            if router.check_delete(&name, false).is_ok() {
                router.delete_exchange(&name, Cascade::Follow);
                naive.exchanges.remove(&name);
            }
        }
        Step::Bind(source, is_queue, destination, key) => {
            let binding = link(source, is_queue, destination, key);
            let is_new = naive.has(&binding) && naive.bindings.insert(binding.clone());
            assert_eq!(router.bind(&binding).unwrap_or(false), is_new);
        }
        Step::Unbind(source, is_queue, destination, key) => {
            let binding = link(source, is_queue, destination, key);
            let removed = router.unbind(&binding, Cascade::Follow).unwrap();
            assert_eq!(!removed.bindings.is_empty(), naive.bindings.remove(&binding));
        }
        Step::RemoveQueue(id) => {
            let name = bytes(&format!("q{id}"));
            router.remove_queue(&name, Cascade::Follow);
            naive.queues.remove(&name);
        }
        Step::DeclareQueue(id) => {
            let name = bytes(&format!("q{id}"));
            router.declare_queue(name.clone(), QueueId(id));
            naive.queues.insert(name, id);
        }
        Step::Route { name, key, extra } => {
            let mut keys = vec![KEYS[key]];
            keys.extend(extra.map(|key| KEYS[key]));
            let expected = naive.route(NAMES[name], &keys);
            let extra_keys: Vec<_> = extra.map(|key| bytes(KEYS[key])).into_iter().collect();
            let request = RouteRequest {
                exchange: NAMES[name].as_bytes(),
                routing_key: KEYS[key].as_bytes(),
                headers: None,
                extra_keys: &extra_keys,
            };
            for _ in 0..2 {
                let mut out = Vec::new();
                let found = router.route(request, &mut out).ok();
                let found = found.map(|_| out.iter().map(|queue| queue.0).collect::<Vec<_>>());
                assert_eq!(found, expected);
            }
        }
    }
    naive.settle(&before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_router_agrees_with_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut router = router(QUEUES);
        let mut naive = Naive::default();
        naive.exchanges.insert(bytes("amq.topic"), spec(ExchangeKind::Topic));
        for id in 1..=QUEUES {
            naive.queues.insert(bytes(&format!("q{id}")), id);
        }
        for step in steps {
            perform(&mut router, &mut naive, &step);
            let bindings: BTreeSet<_> = router.bindings().cloned().collect();
            prop_assert_eq!(&bindings, &naive.bindings);
            let names: Vec<_> = router
                .durable_exchanges()
                .map(|exchange| exchange.name().clone())
                .collect();
            let expected: Vec<_> =
                naive.exchanges.keys().filter(|name| *name != "amq.topic").cloned().collect();
            prop_assert_eq!(names, expected);
        }
        // A router rebuilt from what a snapshot keeps answers alike.
        let mut rebuilt = Router::new();
        for exchange in router.durable_exchanges() {
            rebuilt.declare_exchange(exchange.name(), exchange.spec().clone());
        }
        for (name, id) in &naive.queues {
            rebuilt.declare_queue(name.clone(), QueueId(*id));
        }
        for binding in router.durable_bindings() {
            prop_assert_eq!(rebuilt.bind(binding), Ok(true));
        }
        for name in naive.exchanges.keys() {
            let name = std::str::from_utf8(name).unwrap();
            for key in KEYS {
                prop_assert_eq!(route(&mut rebuilt, name, key), route(&mut router, name, key));
            }
        }
    }
}
