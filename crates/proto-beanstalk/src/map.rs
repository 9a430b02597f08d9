//! The door's words <-> the model's: what the peer is told when the engine says no, and what looks
//! like another protocol. Pure functions; the state machine in `connection` calls them.
//!
//! Tube is queue, job is a message with an id, priority is rank, time to run is a lease; the rest
//! of the mapping needs no words of its own.

use model::Refusal;

pub(crate) const BAD_FORMAT: &[u8] = b"BAD_FORMAT\r\n";
pub(crate) const UNKNOWN_COMMAND: &[u8] = b"UNKNOWN_COMMAND\r\n";
pub(crate) const OUT_OF_MEMORY: &[u8] = b"OUT_OF_MEMORY\r\n";
pub(crate) const INTERNAL_ERROR: &[u8] = b"INTERNAL_ERROR\r\n";
pub(crate) const NOT_FOUND: &[u8] = b"NOT_FOUND\r\n";
pub(crate) const JOB_TOO_BIG: &[u8] = b"JOB_TOO_BIG\r\n";
pub(crate) const EXPECTED_CRLF: &[u8] = b"EXPECTED_CRLF\r\n";
pub(crate) const DRAINING: &[u8] = b"DRAINING\r\n";
pub(crate) const TIMED_OUT: &[u8] = b"TIMED_OUT\r\n";
pub(crate) const DEADLINE_SOON: &[u8] = b"DEADLINE_SOON\r\n";
/// Not a word of the original.
pub(crate) const ACCESS_REFUSED: &[u8] = b"ACCESS_REFUSED\r\n";
/// Not a word of the original.
pub(crate) const LOGGED_IN: &[u8] = b"LOGGED_IN\r\n";

/// What a request was about, as far as its refusal is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// A new job.
    NewJob,
    /// A job or a tube that must be there.
    Existing,
    /// Anything else.
    Other,
}

/// What the peer is told when the engine says no.
///
/// Deviation(BEAN-012): the id of a job is the position of its record in the log: ids rise, are
/// never used again, also not after a restart, and leave gaps; the original counts 1, 2, 3 anew
/// with every start without a log.
///
/// Deviation(BEAN-010): a full tube, and a server short of disk or memory, say `OUT_OF_MEMORY`. To
/// a user without the permission a job or a tube is `NOT_FOUND`; what needs neither says
/// `INTERNAL_ERROR`.
pub(crate) fn refusal(about: About, refusal: &Refusal) -> &'static [u8] {
    match refusal {
        Refusal::LimitReached { limit } if about == About::NewJob && is_size(limit) => JOB_TOO_BIG,
        Refusal::LimitReached { .. } | Refusal::Unavailable { .. } => OUT_OF_MEMORY,
        Refusal::NotFound { .. } => NOT_FOUND,
        Refusal::NotPermitted { .. }
        | Refusal::Inequivalent { .. }
        | Refusal::Locked { .. }
        | Refusal::InUse { .. }
        | Refusal::NotEmpty { .. }
        | Refusal::TagMissing(_)
        | Refusal::InvalidPattern { .. }
        | Refusal::AccessRefused { .. }
        | Refusal::ExclusiveConsumer { .. }
        | Refusal::UnknownDelivery { .. }
        | Refusal::UnknownJob { .. }
        | Refusal::JobHeldElsewhere { .. }
        | Refusal::SingleActiveConsumer { .. }
        | Refusal::NotOpen => match about {
            About::Existing => NOT_FOUND,
            About::NewJob | About::Other => INTERNAL_ERROR,
        },
    }
}

/// Whether a limit is one of bytes; there are others (queues).
fn is_size(limit: &str) -> bool {
    limit.starts_with("bytes")
}

/// Whether a line was written by an HTTP client: a request line, or the header that every request
/// has. A page that somebody is made to open could otherwise have jobs put.
///
/// Deviation(BEAN-001): an HTTP request line, or a line that begins with `Host:`, ends the
/// connection; the original says `UNKNOWN_COMMAND` and reads on.
pub(crate) fn is_http(line: &[u8]) -> bool {
    if line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"host:")) {
        return true;
    }
    let method = line.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let Some([b' ', target @ ..]) = line.get(method..) else { return false };
    let has_version = || target.windows(6).any(|window| window == b" HTTP/");
    method > 0 && (matches!(target, [b'/' | b'*', ..]) || has_version())
}

/// A name for the log.
pub(crate) fn printable(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::{Noun, Verb};

    use super::*;

    #[test]
    fn refusals_become_words_of_the_protocol() {
        let limit = |limit: &str| Refusal::LimitReached { limit: limit.to_owned() };
        let not_permitted = Refusal::NotPermitted {
            user: Bytes::new(),
            verb: Verb::Write,
            noun: Noun::Queue,
            name: Bytes::new(),
            key: None,
        };
        for (about, from, word) in [
            (About::NewJob, limit("bytes of one message (9)"), JOB_TOO_BIG),
            (About::NewJob, limit("queues (9)"), OUT_OF_MEMORY),
            (About::Other, limit("bytes"), OUT_OF_MEMORY),
            (About::NewJob, Refusal::Unavailable { reason: "disk" }, OUT_OF_MEMORY),
            (About::NewJob, not_permitted.clone(), INTERNAL_ERROR),
            (About::Existing, not_permitted.clone(), NOT_FOUND),
            (About::Other, not_permitted, INTERNAL_ERROR),
        ] {
            assert_eq!(refusal(about, &from), word, "{about:?} {from:?}");
        }
    }

    #[test]
    fn http_is_recognised() {
        for line in [
            "GET / HTTP/1.1",
            "DELETE /x",
            "POST /",
            "PROPFIND x HTTP/1.1",
            "Host: a",
            "host:",
            "PRI *",
        ] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in
            ["", "get /", "PUT 1 2 3 4", "hos", "GET", "GET ", "DELETE 1", "Accept: */*", " /"]
        {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }
}
