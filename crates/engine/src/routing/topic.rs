//! Topic patterns: a trie of words, walked as a nondeterministic automaton. Words stand between
//! dots; `*` is one word, `#` any number of words. Called by the matcher; knows no exchange.
//!
//! Cost of a look-up: at most (words of the key) x (nodes alive), each node once per word, whatever
//! the patterns look like. Nothing recurses.
//!
//! Source: AMQP 0-9-1 3.1.3.3; the empty key has no words. Source: observed, RabbitMQ 3.10.8.

use bytes::Bytes;
use hashbrown::Equivalent;

use super::target::{Target, TargetSet};
use crate::map::Map;

const ROOT: u32 = 0;

/// Bindings of one topic exchange.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// Places in `nodes` that are free again.
    free: Vec<u32>,
    /// Literal words: (node, word) to child. `*` and `#` children stand in the node.
    edges: Map<Edge, u32>,
    /// Number of the current word over all look-ups; see [`Node::round`].
    round: u64,
    current: Vec<u32>,
    next: Vec<u32>,
}

#[derive(Debug, Default)]
struct Node {
    /// How many bindings pass through or end here; the node goes away at 0.
    uses: u32,
    star: Option<u32>,
    many: Option<u32>,
    /// This node is somebody's `#` child: any word leads back to it.
    is_many: bool,
    /// The last round that made this node alive.
    round: u64,
    targets: TargetSet,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Edge {
    node: u32,
    word: Bytes,
}

/// [`Edge`] without owning the word; hashes alike.
#[derive(Hash)]
struct EdgeRef<'a> {
    node: u32,
    word: &'a [u8],
}

impl Equivalent<Edge> for EdgeRef<'_> {
    fn equivalent(&self, edge: &Edge) -> bool {
        self.node == edge.node && self.word == edge.word
    }
}

/// One element of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Word(Bytes),
    Star,
    Many,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node { uses: 1, ..Node::default() }],
            free: Vec::new(),
            edges: Map::default(),
            round: 0,
            current: Vec::new(),
            next: Vec::new(),
        }
    }
}

impl Trie {
    /// Adds one binding.
    pub(super) fn add(&mut self, pattern: &Bytes, target: Target) {
        let mut at = ROOT;
        for step in steps(pattern) {
            at = match self.child(at, &step) {
                Some(child) => child,
                None => self.grow(at, step),
            };
            if let Some(node) = self.node_mut(at) {
                node.uses += 1;
            }
        }
        if let Some(node) = self.node_mut(at) {
            node.targets.add(target);
        }
    }

    /// Removes one binding that was added before, and the branches only it used.
    pub(super) fn remove(&mut self, pattern: &Bytes, target: Target) {
        let steps = steps(pattern);
        let mut path = Vec::with_capacity(steps.len());
        let mut at = ROOT;
        for step in steps {
            let Some(child) = self.child(at, &step) else { return };
            path.push((at, step, child));
            at = child;
        }
        if let Some(node) = self.node_mut(at) {
            node.targets.remove(target);
        }
        for (parent, step, child) in path.into_iter().rev() {
            let Some(node) = self.node_mut(child) else { return };
            node.uses -= 1;
            if node.uses == 0 {
                self.unlink(parent, step);
                self.free.push(child);
            }
        }
    }

    /// Appends the targets of every pattern that matches `key`, some perhaps more than once.
    /// Returns how many states were visited: the cost, for tests.
    pub(super) fn find(&mut self, key: &[u8], out: &mut Vec<Target>) -> usize {
        let mut cost = 1;
        let mut current = std::mem::take(&mut self.current);
        let mut next = std::mem::take(&mut self.next);
        current.clear();
        self.round += 1;
        self.enter(Some(ROOT), &mut current);
        for word in words(key) {
            self.round += 1;
            next.clear();
            for &at in &current {
                cost += 1;
                let Some(node) = self.nodes.get(at as usize) else { continue };
                let (star, stays) = (node.star, node.is_many.then_some(at));
                let literal = self.edges.get(&EdgeRef { node: at, word }).copied();
                self.enter(literal, &mut next);
                self.enter(star, &mut next);
                self.enter(stays, &mut next);
            }
            std::mem::swap(&mut current, &mut next);
        }
        for &at in &current {
            if let Some(node) = self.nodes.get(at as usize) {
                node.targets.append_to(out);
            }
        }
        self.current = current;
        self.next = next;
        cost
    }

    /// Makes a node alive in this round, and its `#` child with it (`#` may be no word at all).
    fn enter(&mut self, node: Option<u32>, alive: &mut Vec<u32>) {
        let mut node = node;
        while let Some(at) = node {
            let round = self.round;
            let Some(found) = self.node_mut(at) else { return };
            if found.round == round {
                return;
            }
            found.round = round;
            node = found.many;
            alive.push(at);
        }
    }

    fn node_mut(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(at as usize)
    }

    fn child(&self, at: u32, step: &Step) -> Option<u32> {
        let node = self.nodes.get(at as usize)?;
        match step {
            Step::Word(word) => self.edges.get(&EdgeRef { node: at, word }).copied(),
            Step::Star => node.star,
            Step::Many => node.many,
        }
    }

    /// Adds a child; returns its place.
    fn grow(&mut self, parent: u32, step: Step) -> u32 {
        let node = Node { is_many: step == Step::Many, ..Node::default() };
        let child = if let Some(place) = self.free.pop() {
            if let Some(slot) = self.node_mut(place) {
                *slot = node;
            }
            place
        } else {
            self.nodes.push(node);
            // Bounded far below by the limit on bindings times 128 words.
            u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
        };
        self.set_child(parent, step, Some(child));
        child
    }

    fn unlink(&mut self, parent: u32, step: Step) {
        self.set_child(parent, step, None);
    }

    fn set_child(&mut self, parent: u32, step: Step, child: Option<u32>) {
        match (step, child) {
            (Step::Word(word), Some(child)) => {
                self.edges.insert(Edge { node: parent, word }, child);
            }
            (Step::Word(word), None) => {
                self.edges.remove(&EdgeRef { node: parent, word: &word });
            }
            (Step::Star, child) => {
                if let Some(node) = self.node_mut(parent) {
                    node.star = child;
                }
            }
            (Step::Many, child) => {
                if let Some(node) = self.node_mut(parent) {
                    node.many = child;
                }
            }
        }
    }
}

/// The words of a key or pattern.
pub(super) fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let count = if key.is_empty() { 0 } else { usize::MAX };
    key.split(|byte| *byte == b'.').take(count)
}

/// A pattern in its normal form: in a run of wildcards that holds a `#`, the stars come first and
/// one `#` ends it (`#.*.#` says the same as `*.#`). So no `#` ever follows another.
fn steps(pattern: &Bytes) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut has_many = false;
    for word in words(pattern) {
        match word {
            b"#" => has_many = true,
            b"*" => steps.push(Step::Star),
            _ => {
                if std::mem::take(&mut has_many) {
                    steps.push(Step::Many);
                }
                steps.push(Step::Word(pattern.slice_ref(word)));
            }
        }
    }
    if has_many {
        steps.push(Step::Many);
    }
    steps
}

#[cfg(test)]
mod tests;
