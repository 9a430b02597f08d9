//! [`Plan`]: everything a worker is told before it starts. Filled by the command line.
//! Not here: doing any of it.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use crate::Fault;

/// Shortest and longest lease that the server gives.
const LEASE: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_hours(1);

/// Longest name of a worker, in characters, as the server takes it.
const NAME_CHARS_MAX: usize = 128;

/// What a worker is to do, for whom, and within which limits.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server's HTTP door: scheme, host and port.
    pub server: Uri,
    /// Virtual host of the queues.
    pub vhost: String,
    /// What the worker shows at the door.
    pub token: Token,
    /// PEM file with the authority that signs the server's certificate; `None` is whom the
    /// system trusts.
    pub ca_file: Option<PathBuf>,
    /// Where items come from.
    pub queues: Vec<String>,
    /// Who the server says has the items; `None` takes one from the machine and the spool.
    pub name: Option<String>,
    /// How items are run.
    pub work: Work,
    /// How many at a time.
    pub concurrency: Concurrency,
    /// How long items are ours without a renewal.
    pub lease: Duration,
    /// How long one item may run.
    pub limits: Limits,
    /// Which of two results of one key stays.
    pub policy: Policy,
    /// Where results wait for the server.
    pub spool: SpoolPlan,
    /// When and how the worker ends.
    pub ending: EndingPlan,
    /// What the machine costs, for the figures.
    pub price_per_hour: Option<f64>,
    /// Time between two reports of figures.
    pub status_every: Duration,
}

/// What the worker shows at the door.
#[derive(Clone)]
pub enum Token {
    /// Nothing: loopback, while the server has no token at all.
    None,
    /// A token.
    Text(String),
    /// A file with a token; read anew for every call, so that it may be replaced.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// How items are run.
#[derive(Clone, Debug)]
pub enum Work {
    /// Posted to one of several model servers.
    Http(HttpPlan),
    /// One process for each item: program and arguments.
    Exec(Vec<String>),
    /// Processes that stay and speak JSON lines: program and arguments.
    Lines(Vec<String>),
}

/// Model servers beside the worker.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    /// Their addresses; a path in one is where its items are posted.
    pub upstreams: Vec<Uri>,
    /// What a probe asks for; `None` tries `/health`, then `/v1/models`.
    pub health_path: Option<String>,
    /// Where an item is posted that names no path, at a server whose address has none.
    pub path: String,
}

/// How many items run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// Found out, for each model server; the number of processors for processes, one for
    /// processes that stay.
    Auto,
    /// As many, for each model server, or processes in all.
    Fixed(usize),
}

/// How long one item may run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// After this a process is asked to end; elsewhere it is only written to the log.
    pub soft: Option<Duration>,
    /// After this the item is stopped and fails with class `timeout`.
    pub hard: Option<Duration>,
}

/// Which of two results of one key stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The one that was there.
    First,
    /// The newer one.
    Last,
}

/// Where results wait for the server.
#[derive(Clone, Debug)]
pub struct SpoolPlan {
    /// A folder; each worker has one of its own in it.
    pub dir: PathBuf,
    /// Bytes above which no further items are claimed.
    pub bytes_max: u64,
}

/// When and how a worker ends.
#[derive(Clone, Debug)]
pub struct EndingPlan {
    /// How long running items get when the worker is told to end.
    pub drain: Duration,
    /// The worker ends in order once this file is there.
    pub drain_file: Option<PathBuf>,
    /// The worker ends in order when there was nothing to do for this long.
    pub idle: Option<Duration>,
}

impl Plan {
    /// Looks for what cannot work.
    ///
    /// # Errors
    /// [`Fault::Plan`] with what is wrong and what to write instead.
    pub fn check(&self) -> Result<(), Fault> {
        let wrong = |text: &str| Err(Fault::Plan(text.to_owned()));
        if !matches!(self.server.scheme_str(), Some("http" | "https")) {
            return wrong("the server's address needs http:// or https:// before it");
        }
        if self.queues.is_empty() {
            return wrong("no queue is named; add --queue NAME");
        }
        if !LEASE.contains(&self.lease) {
            return wrong("a lease is between 5 and 3600 seconds");
        }
        if self.concurrency == Concurrency::Fixed(0) {
            return wrong("at least one item has to run at a time");
        }
        let name_chars = self.name.as_ref().map(|name| name.chars().count());
        if name_chars.is_some_and(|chars| chars == 0 || chars > NAME_CHARS_MAX) {
            return wrong("a worker's name has 1 to 128 characters");
        }
        if self.limits.soft.zip(self.limits.hard).is_some_and(|(soft, hard)| soft >= hard) {
            return wrong("the soft limit has to be shorter than the hard one");
        }
        match &self.work {
            Work::Http(plan) if plan.upstreams.is_empty() => wrong("no model server is named"),
            Work::Http(plan) => plan.check(),
            Work::Exec(words) | Work::Lines(words) if words.is_empty() => {
                wrong("no program is named")
            }
            Work::Exec(_) | Work::Lines(_) => Ok(()),
        }
    }
}

impl HttpPlan {
    fn check(&self) -> Result<(), Fault> {
        for upstream in &self.upstreams {
            let has_host = upstream.host().is_some();
            if !has_host || !matches!(upstream.scheme_str(), Some("http" | "https")) {
                let text = format!("{upstream}: expected http://HOST:PORT");
                return Err(Fault::Plan(text));
            }
        }
        let paths = self.health_path.iter().chain([&self.path]);
        match paths.into_iter().find(|path| !path.starts_with('/')) {
            Some(path) => Err(Fault::Plan(format!("{path}: a path begins with /"))),
            None => Ok(()),
        }
    }
}

/// Splits a command as a shell would, without one: quotes and backslashes count, nothing else.
///
/// # Errors
/// A quote is not closed, or nothing is there.
pub fn split_command(text: &str) -> Result<Vec<String>, Fault> {
    match shlex::split(text) {
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => Err(Fault::Plan("the command is empty".to_owned())),
        None => Err(Fault::Plan(format!("{text}: a quote is not closed"))),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plan that works, for tests to change.
    pub(crate) fn plan(work: Work) -> Plan {
        Plan {
            server: Uri::from_static("http://127.0.0.1:1"),
            vhost: "/".into(),
            token: Token::None,
            ca_file: None,
            queues: vec!["prompts".into()],
            name: Some("w".into()),
            work,
            concurrency: Concurrency::Fixed(2),
            lease: Duration::from_mins(1),
            limits: Limits::default(),
            policy: Policy::First,
            spool: SpoolPlan { dir: "spool".into(), bytes_max: 1 << 20 },
            ending: EndingPlan { drain: Duration::from_secs(10), drain_file: None, idle: None },
            price_per_hour: None,
            status_every: Duration::from_secs(10),
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let good = plan(Work::Exec(vec!["cat".into()]));
        assert!(good.check().is_ok());
        let mut changes: Vec<Plan> = vec![good; 6];
        changes[0].queues.clear();
        changes[1].lease = Duration::from_secs(4);
        changes[2].concurrency = Concurrency::Fixed(0);
        changes[3].name = Some(String::new());
        let second = Some(Duration::from_secs(1));
        changes[4].limits = Limits { soft: second, hard: second };
        changes[5].work = Work::Lines(Vec::new());
        for plan in changes {
            assert!(plan.check().is_err(), "{plan:?}");
        }
    }

    #[test]
    fn a_command_is_split_without_a_shell() {
        let words = split_command("run.sh --name 'two words' $HOME").unwrap();
        assert_eq!(words, ["run.sh", "--name", "two words", "$HOME"]);
        assert!(split_command("a 'b").is_err() && split_command(" ").is_err());
    }

    #[test]
    fn a_token_is_not_shown() {
        assert!(!format!("{:?}", Token::Text("hidden".into())).contains("hidden"));
    }
}
