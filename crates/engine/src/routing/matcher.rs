//! One exchange's bindings in the shape its kind matches fastest. Which exchange leads on to
//! which is the router's walk; what a pattern means stands in `topic`, `headers` and `hash`.

use bytes::Bytes;
use model::{Binding, ExchangeKind};

use super::RouteRequest;
use super::hash::Spread;
use super::headers::Rules;
use super::target::{Target, TargetSet};
use super::topic::Trie;
use crate::map::Map;

/// See the module.
#[derive(Debug)]
pub(super) enum Matcher {
    /// Routing key equals binding key.
    Direct(Map<Bytes, TargetSet>),
    /// Every binding.
    Fanout(TargetSet),
    /// Patterns of words.
    Topic(Box<Trie>),
    /// Tables.
    Headers(Rules),
    /// Weights.
    Hash(Spread),
}

/// What an answer depends on besides the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dependence {
    /// Nothing.
    Nothing,
    /// The routing key.
    Key,
    /// More than that: not to be remembered.
    More,
}

impl Matcher {
    /// An empty one for a new exchange.
    pub(super) fn new(kind: ExchangeKind, arguments: &[u8]) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(Map::default()),
            ExchangeKind::Fanout => Self::Fanout(TargetSet::default()),
            ExchangeKind::Topic => Self::Topic(Box::default()),
            ExchangeKind::Headers => Self::Headers(Rules::default()),
            ExchangeKind::ConsistentHash => Self::Hash(Spread::new(arguments)),
        }
    }

    /// Adds a binding that was checked and is new.
    pub(super) fn add(&mut self, binding: &Binding, target: Target) {
        match self {
            Self::Direct(keys) => {
                keys.entry(binding.routing_key.clone()).or_default().add(target);
            }
            Self::Fanout(targets) => targets.add(target),
            Self::Topic(trie) => trie.add(&binding.routing_key, target),
            Self::Headers(rules) => rules.add(&binding.arguments, target),
            Self::Hash(spread) => spread.add(binding, target),
        }
    }

    /// Removes a binding that was added before.
    pub(super) fn remove(&mut self, binding: &Binding, target: Target) {
        match self {
            Self::Direct(keys) => {
                if let Some(targets) = keys.get_mut(&binding.routing_key) {
                    targets.remove(target);
                    if targets.is_empty() {
                        keys.remove(&binding.routing_key);
                    }
                }
            }
            Self::Fanout(targets) => targets.remove(target),
            Self::Topic(trie) => trie.remove(&binding.routing_key, target),
            Self::Headers(rules) => rules.remove(&binding.arguments, target),
            Self::Hash(spread) => spread.remove(binding, target),
        }
    }

    /// What the answers of [`Matcher::find`] depend on.
    pub(super) const fn dependence(&self) -> Dependence {
        match self {
            Self::Fanout(_) => Dependence::Nothing,
            Self::Headers(_) => Dependence::More,
            Self::Hash(spread) if spread.reads_headers() => Dependence::More,
            Self::Direct(_) | Self::Topic(_) | Self::Hash(_) => Dependence::Key,
        }
    }

    /// Appends the targets of a message, some perhaps more than once.
    pub(super) fn find(&mut self, request: &RouteRequest<'_>, out: &mut Vec<Target>) {
        match self {
            Self::Direct(keys) => {
                for key in request.keys() {
                    if let Some(targets) = keys.get(key) {
                        targets.append_to(out);
                    }
                }
            }
            Self::Fanout(targets) => targets.append_to(out),
            Self::Topic(trie) => {
                for key in request.keys() {
                    trie.find(key, out);
                }
            }
            Self::Headers(rules) => rules.find(request.headers.unwrap_or_default(), out),
            Self::Hash(spread) => {
                let headers = request.headers.unwrap_or_default();
                out.extend(spread.find(request.routing_key, headers));
            }
        }
    }
}
