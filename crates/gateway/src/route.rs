//! Which method and path means which call. Nothing is asked here; how paths and queries are decoded
//! is `address`. Called by [`Call::parse`].

use bytes::Bytes;

use crate::address::{Query, segments};
use crate::call::{Call, claim, complete, give_back, job, publish, queue, renew, result};
use crate::{Answer, Code, Failure, openapi};

/// A request as it came in, without what HTTP adds.
#[derive(Clone, Debug)]
pub struct Incoming<'a> {
    /// E.g. `POST`.
    pub method: &'a str,
    /// As it was sent, still encoded.
    pub path: &'a str,
    /// Without the question mark; may be empty.
    pub query: &'a str,
    /// All of it.
    pub body: Bytes,
}

/// A call before anything was asked.
pub(crate) struct Request<'a> {
    /// Segments below `/work/v1`.
    pub(crate) rest: &'a [Bytes],
    pub(crate) query: &'a str,
    pub(crate) body: Bytes,
}

type Read = fn(&Request<'_>) -> Result<Call, Failure>;

/// One path with one method. `*` stands for any segment.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static [&'static str],
    read: Read,
}

const fn route(method: &'static str, path: &'static [&'static str], read: Read) -> Route {
    Route { method, path, read }
}

/// Every path below `/work/v1`.
pub(crate) const ROUTES: &[Route] = &[
    route("POST", &["publish"], publish::read),
    route("POST", &["claim"], claim::read),
    route("POST", &["renew"], renew::read),
    route("POST", &["complete"], complete::read),
    route("POST", &["fail"], give_back::read_fail),
    route("POST", &["release"], give_back::read_release),
    route("GET", &["jobs", "*"], job::read_look),
    route("DELETE", &["jobs", "*"], job::read_delete),
    route("POST", &["jobs", "*", "retry"], job::read_retry),
    route("GET", &["queues"], queue::read_list),
    route("GET", &["queues", "*"], queue::read_one),
    route("POST", &["queues", "*", "retry"], queue::read_retry),
    route("POST", &["queues", "*", "pause"], queue::read_pause),
    route("GET", &["results"], result::read_list),
    route("GET", &["results", "*"], result::read_get),
    route("PUT", &["results", "*"], result::read_put),
    route("DELETE", &["results", "*"], result::read_delete),
    route("GET", &["changes"], result::read_changes),
    route("GET", &["export"], result::read_export),
    route("GET", &["openapi.json"], openapi::read),
];

/// Whether a path belongs to this API.
#[must_use]
pub fn is_ours(path: &str) -> bool {
    path == "/send_workq_message"
        || path == "/send_workq_message/"
        || path == "/work"
        || path.starts_with("/work/")
}

/// The call that a request is.
///
/// # Errors
/// It is none: the answer says why.
pub(crate) fn find(incoming: &Incoming<'_>) -> Result<Call, Box<Answer>> {
    look(incoming).map_err(|failure| Box::new(failure.into()))
}

fn look(incoming: &Incoming<'_>) -> Result<Call, Failure> {
    let all = segments(incoming.path)?;
    let request = |rest| Request { rest, query: incoming.query, body: incoming.body.clone() };
    let (method, not_found) = (incoming.method, Failure::new(Code::NotFound, "no such path"));
    if let [first] = all.as_slice()
        && first == "send_workq_message"
    {
        if method != "POST" {
            return Err(Failure::new(Code::Method("POST"), "this path takes POST"));
        }
        return publish::read_messages(&request(&[]));
    }
    let rest = match all.as_slice() {
        [work, version, rest @ ..] if work == "work" && version == "v1" => rest,
        _ => return Err(not_found),
    };
    let fits = |route: &&Route| {
        route.path.len() == rest.len()
            && route.path.iter().zip(rest).all(|(want, is)| *want == "*" || is == want)
    };
    let mut found = ROUTES.iter().filter(fits).peekable();
    if found.peek().is_none() {
        return Err(not_found);
    }
    match found.find(|route| route.method == method) {
        Some(route) => (route.read)(&request(rest)),
        None => Err(wrong_method(rest)),
    }
}

fn wrong_method(rest: &[Bytes]) -> Failure {
    let first = rest.first().map_or(&b""[..], |first| first);
    let allow = match (first, rest.len()) {
        (b"jobs", 2) => "GET, DELETE",
        (b"results", 2) => "GET, PUT, DELETE",
        (b"queues", 1 | 2) | (b"results" | b"changes" | b"export" | b"openapi.json", _) => "GET",
        _ => "POST",
    };
    Failure::new(Code::Method(allow), format!("this path takes {allow}"))
}

impl Request<'_> {
    /// The query, whose parameters must be known.
    ///
    /// # Errors
    /// See [`Query::parse`].
    pub(crate) fn query(&self, known: &[&str]) -> Result<Query, Failure> {
        Query::parse(self.query, known)
    }

    /// The segment that a `*` stood for.
    pub(crate) fn named(&self) -> Bytes {
        self.rest.get(1).cloned().unwrap_or_default()
    }
}
