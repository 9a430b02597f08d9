//! The verbs as data: with which bytes the line of each begins, and what stands behind them.
//! What they do is `connection`'s; how arguments are read is `codec`'s, which calls `split`.

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the protocol's own words")]
pub enum Verb {
    Put,
    Peek,
    PeekReady,
    PeekDelayed,
    PeekBuried,
    ReserveWithTimeout,
    ReserveJob,
    ReserveBatch,
    Reserve,
    Delete,
    Release,
    Bury,
    Kick,
    KickJob,
    Touch,
    StatsJob,
    StatsTube,
    Stats,
    Use,
    Watch,
    Ignore,
    ListTubesWatched,
    ListTubeUsed,
    ListTubes,
    Quit,
    PauseTube,
    DeleteBatch,
    Login,
}

/// What stands behind a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing: the line ends.
    Nothing,
    /// Whatever it is, it is not looked at.
    Anything,
    /// An id.
    Id,
    /// An id and a priority.
    IdPriority,
    /// An id, a priority and a delay.
    IdPriorityDelay,
    /// The name of a tube, the whole rest of the line.
    Tube,
    /// The name of a tube and a number of seconds.
    TubeSeconds,
    /// A number of seconds; what follows is not looked at.
    Seconds,
    /// A number as C's `strtoul` reads it; what follows is not looked at.
    Bound,
    /// How many, 1 to 1000.
    Count,
    /// Ids, 1 to 1000.
    Ids,
    /// Priority, delay, time to run, bytes, suffixes; then a body.
    Job,
    /// A name and a password.
    Login,
}

/// One verb.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Which.
    pub verb: Verb,
    /// The line of the command begins so.
    pub prefix: &'static str,
    /// What follows.
    pub form: Form,
}

const fn entry(verb: Verb, prefix: &'static str, form: Form) -> Entry {
    Entry { verb, prefix, form }
}

/// All verbs. A line belongs to the first one whose prefix it begins with, so that `reservefoo` is
/// a bad `reserve` and `quitting` quits. Source: `beanstalkd` 1.13, `which_cmd`.
///
/// Deviation(BEAN-008): `reserve-batch`, `delete-batch` and `login` are commands, where the
/// original says `BAD_FORMAT`, `UNKNOWN_COMMAND` and `UNKNOWN_COMMAND`.
pub const VERBS: [Entry; 28] = [
    entry(Verb::Put, "put ", Form::Job),
    entry(Verb::Peek, "peek ", Form::Id),
    entry(Verb::PeekReady, "peek-ready", Form::Nothing),
    entry(Verb::PeekDelayed, "peek-delayed", Form::Nothing),
    entry(Verb::PeekBuried, "peek-buried", Form::Nothing),
    entry(Verb::ReserveWithTimeout, "reserve-with-timeout ", Form::Seconds),
    entry(Verb::ReserveJob, "reserve-job ", Form::Id),
    entry(Verb::ReserveBatch, "reserve-batch ", Form::Count),
    entry(Verb::Reserve, "reserve", Form::Nothing),
    entry(Verb::Delete, "delete ", Form::Id),
    entry(Verb::Release, "release ", Form::IdPriorityDelay),
    entry(Verb::Bury, "bury ", Form::IdPriority),
    entry(Verb::Kick, "kick ", Form::Bound),
    entry(Verb::KickJob, "kick-job ", Form::Id),
    entry(Verb::Touch, "touch ", Form::Id),
    entry(Verb::StatsJob, "stats-job ", Form::Id),
    entry(Verb::StatsTube, "stats-tube ", Form::Tube),
    entry(Verb::Stats, "stats", Form::Nothing),
    entry(Verb::Use, "use ", Form::Tube),
    entry(Verb::Watch, "watch ", Form::Tube),
    entry(Verb::Ignore, "ignore ", Form::Tube),
    entry(Verb::ListTubesWatched, "list-tubes-watched", Form::Nothing),
    entry(Verb::ListTubeUsed, "list-tube-used", Form::Nothing),
    entry(Verb::ListTubes, "list-tubes", Form::Nothing),
    entry(Verb::Quit, "quit", Form::Anything),
    entry(Verb::PauseTube, "pause-tube", Form::TubeSeconds),
    entry(Verb::DeleteBatch, "delete-batch ", Form::Ids),
    entry(Verb::Login, "login ", Form::Login),
];

/// The verb a line begins with, and what follows it; `None` for no command of ours.
pub(crate) fn split(line: &[u8]) -> Option<(Verb, &[u8])> {
    // What comes by the million.
    match line {
        [b'p', b'u', b't', b' ', rest @ ..] => return Some((Verb::Put, rest)),
        [b'd', b'e', b'l', b'e', b't', b'e', b' ', rest @ ..] => return Some((Verb::Delete, rest)),
        b"reserve" => return Some((Verb::Reserve, b"")),
        _ => {}
    }
    VERBS
        .iter()
        .find_map(|entry| line.strip_prefix(entry.prefix.as_bytes()).map(|rest| (entry.verb, rest)))
}

/// The bytes a line of this verb begins with.
pub(crate) fn prefix(verb: Verb) -> &'static str {
    VERBS.iter().find(|entry| entry.verb == verb).map_or("", |entry| entry.prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_says_what_the_table_says() {
        for entry in &VERBS {
            for tail in ["", " ", "x", "1 2 3"] {
                let line = format!("{}{tail}", entry.prefix);
                let by_table = VERBS.iter().find(|other| line.starts_with(other.prefix)).unwrap();
                let (verb, rest) = split(line.as_bytes()).unwrap();
                assert_eq!(verb, by_table.verb, "{line}");
                assert_eq!(rest, &line.as_bytes()[by_table.prefix.len()..]);
            }
        }
    }

    #[test]
    fn no_verb_hides_another() {
        for entry in &VERBS {
            assert_eq!(split(entry.prefix.as_bytes()), Some((entry.verb, &b""[..])));
            assert_eq!(prefix(entry.verb), entry.prefix);
        }
        for line in ["", "put", "peek", "use", "kick", "qui", "list-tube", " stats", "STATS"] {
            assert_eq!(split(line.as_bytes()), None, "{line:?}");
        }
    }
}
