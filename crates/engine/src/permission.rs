//! Permission rows with their compiled expressions, and the questions they answer. Which question
//! a request is, is `authorize.rs`; how rows are written down, `record.rs`.
//!
//! Expressions are searched for anywhere in a name, over bytes, with the `regex` crate: time linear
//! in the name, and no look-around or back-references.
//! Source: `RabbitMQ` "Access control"; an empty expression is `^$`.
//!
//! Deviation(AMQP-105): an expression with look-around or back-references, one longer than 1 kB, or
//! one that needs more than 64 kB is refused when it is set; in `RabbitMQ` it costs time with every
//! use, or silently allows nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{Permission, Refusal, TopicPermission, Verb, VhostId};
use regex::bytes::{Regex, RegexBuilder};

/// Longest expression.
const PATTERN_BYTES_MAX: usize = 1024;
/// Most memory of a compiled expression.
const COMPILED_BYTES_MAX: usize = 64 * 1024;
/// Most memory of what matching an expression remembers.
const CACHE_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of groups.
const NESTING_MAX: u32 = 32;

/// One expression.
#[derive(Clone, Debug)]
enum Pattern {
    /// `.*`: what most rows say.
    All,
    /// Empty, or `^$`.
    OnlyEmpty,
    Expression(Regex),
}

impl Pattern {
    fn compile(text: &[u8]) -> Result<Self, String> {
        match text {
            b".*" => return Ok(Self::All),
            b"" | b"^$" => return Ok(Self::OnlyEmpty),
            _ => {}
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("it has more than {PATTERN_BYTES_MAX} bytes"));
        }
        let text = str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
        let expression = RegexBuilder::new(text)
            .unicode(false)
            .nest_limit(NESTING_MAX)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .build();
        expression.map(Self::Expression).map_err(|error| explain(&error))
    }

    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::OnlyEmpty => name.is_empty(),
            Self::Expression(expression) => expression.is_match(name),
        }
    }
}

/// The last line of the error, which says what is wrong; those before it draw the place.
fn explain(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(max) = error {
        return format!("compiled, it needs more than {max} bytes of memory");
    }
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

fn compile(text: &Bytes) -> Result<Pattern, Refusal> {
    Pattern::compile(text)
        .map_err(|reason| Refusal::InvalidPattern { pattern: text.clone(), reason })
}

/// What a user may do in one virtual host.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// As given. Persisted.
    pub text: Permission,
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

impl Row {
    /// # Errors
    /// An expression is not one.
    pub(crate) fn new(text: Permission) -> Result<Self, Refusal> {
        let (configure, write) = (compile(&text.configure)?, compile(&text.write)?);
        let read = compile(&text.read)?;
        Ok(Self { text, configure, write, read })
    }

    /// Every right.
    fn full() -> Self {
        let (configure, write, read) = (Pattern::All, Pattern::All, Pattern::All);
        Self { text: Permission::full(), configure, write, read }
    }

    pub(crate) fn allows(&self, verb: Verb, name: &[u8]) -> bool {
        match verb {
            Verb::Configure => self.configure.matches(name),
            Verb::Write => self.write.matches(name),
            Verb::Read => self.read.matches(name),
        }
    }
}

/// Which routing keys a user may use at one exchange.
#[derive(Clone, Debug)]
pub(crate) struct TopicRow {
    /// As given, with its placeholders. Persisted.
    pub text: TopicPermission,
    write: Pattern,
    read: Pattern,
}

impl TopicRow {
    /// # Errors
    /// An expression is not one.
    pub(crate) fn new(text: TopicPermission, user: &[u8], vhost: &[u8]) -> Result<Self, Refusal> {
        let compiled = |given: &Bytes| {
            let pattern = fill_in(given, user, vhost);
            Pattern::compile(&pattern)
                .map_err(|reason| Refusal::InvalidPattern { pattern: given.clone(), reason })
        };
        let (write, read) = (compiled(&text.write)?, compiled(&text.read)?);
        Ok(Self { text, write, read })
    }

    /// Nobody checks what may be configured about a key.
    pub(crate) fn allows(&self, verb: Verb, key: &[u8]) -> bool {
        match verb {
            Verb::Write => self.write.matches(key),
            Verb::Read => self.read.matches(key),
            Verb::Configure => false,
        }
    }
}

/// Puts the names where their placeholders stand, as plain text.
///
/// Source: `RabbitMQ` 4.3.3, `rabbit_auth_backend_internal.erl`.
///
/// Deviation(AMQP-106): a name in a topic permission is plain text, as in `RabbitMQ` 4.3.3 and
/// later; before, a user called `.*` got every key.
fn fill_in(pattern: &[u8], user: &[u8], vhost: &[u8]) -> Vec<u8> {
    let pattern = String::from_utf8_lossy(pattern);
    let plain = |name: &[u8]| regex::escape(&String::from_utf8_lossy(name));
    // One name's braces must not become the other's placeholder.
    let parts = pattern.split("{username}").map(|part| part.replace("{vhost}", &plain(vhost)));
    parts.collect::<Vec<_>>().join(&plain(user)).into_bytes()
}

/// All rows. Persisted but for the generation.
#[derive(Debug, Default)]
pub(crate) struct Rights {
    rows: BTreeMap<(Bytes, VhostId), Row>,
    topics: BTreeMap<(Bytes, VhostId, Bytes), TopicRow>,
    /// Rises with every change, so that what was found out before counts no more.
    generation: u64,
}

impl Rights {
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn row(&self, user: &Bytes, vhost: VhostId) -> Option<&Row> {
        self.rows.get(&(user.clone(), vhost))
    }

    pub(crate) fn topic_row(
        &self,
        user: &Bytes,
        vhost: VhostId,
        exchange: &Bytes,
    ) -> Option<&TopicRow> {
        self.topics.get(&(user.clone(), vhost, exchange.clone()))
    }

    pub(crate) fn set(&mut self, user: Bytes, vhost: VhostId, row: Row) {
        self.generation += 1;
        self.rows.insert((user, vhost), row);
    }

    pub(crate) fn set_full(&mut self, user: Bytes, vhost: VhostId) {
        self.set(user, vhost, Row::full());
    }

    pub(crate) fn clear(&mut self, user: &Bytes, vhost: VhostId) {
        self.generation += 1;
        self.rows.remove(&(user.clone(), vhost));
    }

    pub(crate) fn set_topic(
        &mut self,
        (user, vhost, exchange): (Bytes, VhostId, Bytes),
        row: TopicRow,
    ) {
        self.generation += 1;
        self.topics.insert((user, vhost, exchange), row);
    }

    /// Without an exchange: all of the user in the virtual host.
    pub(crate) fn clear_topics(&mut self, user: &Bytes, vhost: VhostId, exchange: Option<&Bytes>) {
        self.generation += 1;
        self.topics.retain(|(whose, place, at), _| {
            whose != user || *place != vhost || exchange.is_some_and(|it| it != at)
        });
    }

    pub(crate) fn forget_user(&mut self, user: &Bytes) {
        self.generation += 1;
        self.rows.retain(|(whose, _), _| whose != user);
        self.topics.retain(|(whose, ..), _| whose != user);
    }

    pub(crate) fn forget_vhost(&mut self, vhost: VhostId) {
        self.generation += 1;
        self.rows.retain(|(_, place), _| *place != vhost);
        self.topics.retain(|(_, place, _), _| *place != vhost);
    }

    /// In order of user and virtual host.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = (&Bytes, VhostId, &Permission)> {
        self.rows.iter().map(|((user, vhost), row)| (user, *vhost, &row.text))
    }

    /// In order of user, virtual host and exchange.
    pub(crate) fn topic_rows(
        &self,
    ) -> impl ExactSizeIterator<Item = (&Bytes, VhostId, &Bytes, &TopicPermission)> {
        self.topics.iter().map(|((user, vhost, exchange), row)| (user, *vhost, exchange, &row.text))
    }
}
