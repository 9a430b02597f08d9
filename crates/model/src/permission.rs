//! Rights: what may be done ([`Verb`]), the expressions that say with what ([`Permission`],
//! [`TopicPermission`]) and the words for groups of people ([`Tag`]). What each request needs, and
//! whether somebody has it, is the engine's business.

use bytes::Bytes;

/// What may be done with an exchange or a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Create and delete it.
    Configure,
    /// Put messages in: publish to an exchange, let a queue or exchange be bound.
    Write,
    /// Take messages out: consume, get and purge a queue, bind from an exchange.
    Read,
}

impl Verb {
    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// What a user may do in one virtual host: a regular expression for each verb, found anywhere in
/// a name unless it is anchored. An empty one matches only the empty name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Names of what may be created and deleted.
    pub configure: Bytes,
    /// Names of what may be written to.
    pub write: Bytes,
    /// Names of what may be read from.
    pub read: Bytes,
}

impl Permission {
    /// Everything.
    #[must_use]
    pub fn full() -> Self {
        let all = Bytes::from_static(b".*");
        Self { configure: all.clone(), write: all.clone(), read: all }
    }
}

/// Which routing keys a user may use at one topic exchange, as in [`Permission`]; `{username}` and
/// `{vhost}` stand for those names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPermission {
    /// Routing keys of messages.
    pub write: Bytes,
    /// Routing keys of bindings.
    pub read: Bytes,
}

/// What a user's tag lets them do beside sending and receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Administer everything.
    Administrator,
    /// See everything.
    Monitoring,
    /// See what is in the virtual hosts they may enter. Every other tag but the last includes it.
    Management,
    /// Publish in other users' names.
    Impersonator,
}

impl Tag {
    /// The word that users carry.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Monitoring => "monitoring",
            Self::Management => "management",
            Self::Impersonator => "impersonator",
        }
    }

    /// Whether a comma-separated list has this tag or one that includes it.
    ///
    /// Source: `RabbitMQ` "Management plugin: permissions"; there are no policies yet, so
    /// `policymaker` is `management` and no more.
    #[must_use]
    pub fn is_in(self, tags: &[u8]) -> bool {
        let words: &[&[u8]] = match self {
            Self::Administrator => &[b"administrator"],
            Self::Monitoring => &[b"administrator", b"monitoring"],
            Self::Management => &[b"administrator", b"monitoring", b"policymaker", b"management"],
            Self::Impersonator => &[b"impersonator"],
        };
        tags.split(|byte| *byte == b',').any(|tag| words.contains(&tag.trim_ascii()))
    }
}
