//! Which method and path means what: a request becomes a [`Plan`] or a [`Failure`]. Nothing is
//! asked or changed here, so that every path can be tested alone.
//!
//! Source: `RabbitMQ` 3.13 management HTTP API, the subset named in `docs/operate/http.md`.

// Named, because the fuzz targets read this file from elsewhere.
#[path = "route/permissions.rs"]
pub(super) mod permissions;

use bytes::Bytes;
use model::{Listing, limits::NAME_BYTES_MAX};
use net::http::{Method, Request, StatusCode};
use serde_json::Value;

use super::{path, render::Failure};

/// Largest body: the same as `net::http` lets through.
const BODY_BYTES_MAX: usize = net::http::BODY_BYTES_MAX;
/// Largest page of a paged listing.
const PAGE_ITEMS_MAX: usize = 500;

/// What a request wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// For everybody who may reach the door.
    Page(Page),
    /// For users who log in.
    Api(Action),
    /// Everything the server holds, for administrators.
    Backup,
}

/// Pages without login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// What there is.
    Index,
    /// Numbers of the whole server.
    Metrics,
    /// Numbers of every queue.
    DetailedMetrics,
    /// The process runs.
    Live,
    /// The process takes work.
    Ready,
}

/// What the management API can do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Who am I?
    WhoAmI,
    /// Totals.
    Overview,
    /// Things of one kind.
    List(Query),
    /// Remove a queue.
    DeleteQueue {
        /// Where.
        vhost: Bytes,
        /// Which.
        name: Bytes,
        /// Only without consumers.
        if_unused: bool,
        /// Only without messages.
        if_empty: bool,
    },
    /// Remove a queue's ready messages.
    PurgeQueue {
        /// Where.
        vhost: Bytes,
        /// Which.
        name: Bytes,
    },
    /// Create or change a user; `None` keeps what is there.
    PutUser {
        /// Who.
        name: Bytes,
        /// The new password.
        password: Option<Bytes>,
        /// The new tags, comma-separated.
        tags: Option<Bytes>,
    },
    /// Remove a user.
    DeleteUser(Bytes),
    /// Create a virtual host.
    PutVhost(Bytes),
    /// Remove a virtual host with everything in it.
    DeleteVhost(Bytes),
    /// About permissions.
    Permissions(permissions::Action),
}

/// A listing and what of it is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Of what; users when nothing else is said.
    pub(super) of: Kind,
    /// Only in this virtual host.
    pub(super) vhost: Option<Bytes>,
    /// Exactly this one; its absence is an error.
    pub(super) name: Option<Bytes>,
    /// Number (from 1) and size of the page, when the client asks for pages.
    pub(super) page: Option<(usize, usize)>,
}

/// Kinds of listings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Users,
    Vhosts,
    Queues,
    Exchanges,
    Bindings,
    Connections,
    Consumers,
    Permissions,
    TopicPermissions,
}

impl Kind {
    /// Paths below `/api` of those that `permissions` does not read.
    pub(super) const ALL: [(&'static str, Self); 7] = [
        ("users", Self::Users),
        ("vhosts", Self::Vhosts),
        ("queues", Self::Queues),
        ("exchanges", Self::Exchanges),
        ("bindings", Self::Bindings),
        ("connections", Self::Connections),
        ("consumers", Self::Consumers),
    ];

    fn of(word: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, _)| name.as_bytes() == word).map(|(_, kind)| kind)
    }

    /// As the engine calls it.
    pub(super) const fn listing(self) -> Listing {
        match self {
            Self::Users => Listing::Users,
            Self::Vhosts => Listing::Vhosts,
            Self::Queues => Listing::Queues,
            Self::Exchanges => Listing::Exchanges,
            Self::Bindings => Listing::Bindings,
            Self::Connections => Listing::Connections,
            Self::Consumers => Listing::Consumers,
            Self::Permissions => Listing::Permissions,
            Self::TopicPermissions => Listing::TopicPermissions,
        }
    }

    /// Things of this kind live in a virtual host.
    const fn has_vhost(self) -> bool {
        matches!(self, Self::Queues | Self::Exchanges | Self::Bindings | Self::Consumers)
    }

    /// One of them can be named alone.
    const fn has_name(self) -> bool {
        matches!(self, Self::Users | Self::Vhosts | Self::Queues | Self::Exchanges)
    }
}

/// Finds out what a request wants.
///
/// # Errors
/// Unknown paths, methods a path does not take, names and bodies that cannot be.
pub(super) fn route(request: &Request<Bytes>) -> Result<Plan, Failure> {
    if request.body().len() > BODY_BYTES_MAX {
        return Err(Failure::too_large(BODY_BYTES_MAX));
    }
    let uri = request.uri();
    let segments = path::segments(uri.path()).ok_or_else(|| {
        Failure::bad_request("the path is too long or has a broken percent-encoding")
    })?;
    let words: Vec<&[u8]> = segments.iter().map(AsRef::as_ref).collect();
    if let [b"api", b"backup"] = words.as_slice() {
        return match *request.method() {
            Method::GET => Ok(Plan::Backup),
            _ => Err(Failure::method_not_allowed("GET")),
        };
    }
    if let [b"api", rest @ ..] = words.as_slice() {
        let query = uri.query().unwrap_or("");
        return api(request, query, rest).map(Plan::Api);
    }
    let page = match words.as_slice() {
        [b""] => Page::Index,
        [b"metrics"] => Page::Metrics,
        [b"metrics", b"detailed"] => Page::DetailedMetrics,
        [b"health", b"live"] => Page::Live,
        [b"health", b"ready"] => Page::Ready,
        _ => return Err(Failure::not_found()),
    };
    match *request.method() {
        Method::GET | Method::HEAD => Ok(Plan::Page(page)),
        _ => Err(Failure::method_not_allowed("GET, HEAD")),
    }
}

fn api(request: &Request<Bytes>, query: &str, words: &[&[u8]]) -> Result<Action, Failure> {
    if let Some(action) = permissions::route(request.method(), words, request.body()) {
        return action.map(Action::Permissions);
    }
    match (request.method(), words) {
        (&Method::GET | &Method::HEAD, words) => read(query, words),
        (&Method::PUT, [b"users", name]) => put_user(named(name)?, request.body()),
        (&Method::PUT, [b"vhosts", name]) => Ok(Action::PutVhost(named(name)?)),
        (&Method::DELETE, words) => delete(query, words),
        (_, words) if read(query, words).is_ok() => {
            Err(Failure::method_not_allowed(allowed(words)))
        }
        _ => Err(Failure::not_found()),
    }
}

fn read(query: &str, words: &[&[u8]]) -> Result<Action, Failure> {
    let (kind, rest) = match words {
        [b"whoami"] => return Ok(Action::WhoAmI),
        [b"overview"] => return Ok(Action::Overview),
        [word, rest @ ..] => (Kind::of(word).ok_or_else(Failure::not_found)?, rest),
        [] => return Err(Failure::not_found()),
    };
    let mut wanted = Query { of: kind, page: page(query)?, ..Query::default() };
    match (rest, kind.has_vhost(), kind.has_name()) {
        ([], ..) => {}
        ([vhost], true, _) => wanted.vhost = Some(named(vhost)?),
        ([name], false, true) => wanted.name = Some(named(name)?),
        ([vhost, name], true, true) => {
            wanted.vhost = Some(named(vhost)?);
            wanted.name = Some(named(name)?);
        }
        _ => return Err(Failure::not_found()),
    }
    Ok(Action::List(wanted))
}

fn delete(query: &str, words: &[&[u8]]) -> Result<Action, Failure> {
    match words {
        [b"queues", vhost, name, b"contents"] => {
            Ok(Action::PurgeQueue { vhost: named(vhost)?, name: named(name)? })
        }
        [b"queues", vhost, name] => Ok(Action::DeleteQueue {
            vhost: named(vhost)?,
            name: named(name)?,
            if_unused: is_set(query, "if-unused"),
            if_empty: is_set(query, "if-empty"),
        }),
        [b"users", name] => Ok(Action::DeleteUser(named(name)?)),
        [b"vhosts", name] => Ok(Action::DeleteVhost(named(name)?)),
        words if read(query, words).is_ok() => Err(Failure::method_not_allowed(allowed(words))),
        _ => Err(Failure::not_found()),
    }
}

fn allowed(words: &[&[u8]]) -> &'static str {
    match words {
        [b"users" | b"vhosts", _] => "GET, HEAD, PUT, DELETE",
        [b"queues", _, _] => "GET, HEAD, DELETE",
        _ => "GET, HEAD",
    }
}

/// A name from a path: what the engine could not keep or a terminal could not show is refused.
pub(super) fn named(segment: &[u8]) -> Result<Bytes, Failure> {
    let text = std::str::from_utf8(segment).ok();
    let is_name = |text: &str| {
        !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control)
    };
    if text.is_some_and(is_name) {
        return Ok(Bytes::copy_from_slice(segment));
    }
    let limit = NAME_BYTES_MAX;
    let text = format!("a name has 1 to {limit} bytes of UTF-8 without control characters");
    Err(Failure::bad_request(&text))
}

fn is_set(query: &str, name: &str) -> bool {
    path::parameter(query, name).is_some_and(|value| value == "true")
}

fn page(query: &str) -> Result<Option<(usize, usize)>, Failure> {
    let number = |name: &str, default: usize| {
        let Some(text) = path::parameter(query, name) else { return Ok(default) };
        let parsed = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        parsed
            .filter(|number| *number > 0)
            .ok_or_else(|| Failure::bad_request(&format!("{name} must be a whole number from 1")))
    };
    if path::parameter(query, "page").is_none() {
        return Ok(None);
    }
    let size = number("page_size", 100)?.min(PAGE_ITEMS_MAX);
    Ok(Some((number("page", 1)?, size)))
}

/// `{"password": "..", "tags": "a,b"}`; tags may also be a list. A hash is refused: its parameters
/// would let a caller choose what a login costs.
fn put_user(name: Bytes, body: &[u8]) -> Result<Action, Failure> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(&format!("the body is not JSON: {error}")))?;
    let Value::Object(fields) = &body else {
        return Err(Failure::bad_request("the body must be a JSON object"));
    };
    if fields.contains_key("password_hash") {
        return Err(Failure::bad_request("password_hash is not accepted; send password"));
    }
    let password = match fields.get("password") {
        None => None,
        Some(Value::String(text)) => Some(Bytes::copy_from_slice(text.as_bytes())),
        Some(_) => return Err(Failure::bad_request("password must be a string")),
    };
    let tags = fields.get("tags").map(tags).transpose()?;
    Ok(Action::PutUser { name, password, tags })
}

fn tags(value: &Value) -> Result<Bytes, Failure> {
    let wrong = || Failure::bad_request("tags must be a string or a list of strings");
    let list: Vec<&str> = match value {
        Value::String(text) => text.split(',').collect(),
        Value::Array(items) => {
            items.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(wrong)?
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return Err(wrong()),
    };
    let list: Vec<&str> = list.into_iter().map(str::trim).filter(|tag| !tag.is_empty()).collect();
    let is_tag = |tag: &&str| tag.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let text = list.join(",");
    if !list.iter().all(is_tag) || text.len() > NAME_BYTES_MAX {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "tags are words of letters and digits"));
    }
    Ok(text.into())
}
