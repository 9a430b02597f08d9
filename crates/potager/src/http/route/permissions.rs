//! Paths and bodies of permissions. What is done for them is `perform/permissions.rs`.
//!
//! | path below `/api` | methods |
//! |---|---|
//! | `permissions`, `topic-permissions` | GET |
//! | `permissions/VHOST/USER`, `topic-permissions/VHOST/USER` | GET, PUT, DELETE |
//! | `topic-permissions/VHOST/USER/EXCHANGE` | DELETE |
//! | `users/USER/permissions`, `users/USER/topic-permissions` | GET |
//! | `vhosts/VHOST/permissions`, `vhosts/VHOST/topic-permissions` | GET |
//!
//! Source: `RabbitMQ` 3.13, `rabbit_mgmt_wm_permission.erl` and its neighbours.

use bytes::Bytes;
use model::{Permission, TopicPermission};
use net::http::Method;
use serde_json::Value;

use super::{Failure, Kind, named};

/// What is wanted of the permissions.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Action {
    /// Rows of one kind.
    List {
        of: Kind,
        /// Only in this virtual host.
        vhost: Option<Bytes>,
        /// Only of this user.
        user: Option<Bytes>,
    },
    /// Create or change a row.
    Set(Place, Permission),
    /// Restrict routing keys at an exchange.
    SetTopic(Place, Bytes, TopicPermission),
    /// Remove a row.
    Clear(Place),
    /// Lift restrictions of routing keys, at one exchange or at all.
    ClearTopic(Place, Option<Bytes>),
}

/// Whose permission, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Place {
    pub(in super::super) vhost: Bytes,
    pub(in super::super) user: Bytes,
}

const ROW: &[u8] = b"permissions";
const TOPIC: &[u8] = b"topic-permissions";

fn kind(word: &[u8]) -> Option<Kind> {
    match word {
        ROW => Some(Kind::Permissions),
        TOPIC => Some(Kind::TopicPermissions),
        _ => None,
    }
}

/// What a request means, when its path is one of permissions.
pub(in super::super) fn route(
    method: &Method,
    words: &[&[u8]],
    body: &[u8],
) -> Option<Result<Action, Failure>> {
    let is_get = matches!(*method, Method::GET | Method::HEAD);
    let get_only = || Failure::method_not_allowed("GET, HEAD");
    match words {
        [word] | [b"users" | b"vhosts", _, word] => {
            let of = kind(word)?;
            if !is_get {
                return Some(Err(get_only()));
            }
            Some(list(of, words))
        }
        [word, vhost, user] => {
            let of = kind(word)?;
            Some(at(method, of, (vhost, user), body))
        }
        [TOPIC, vhost, user, exchange] if *method == Method::DELETE => {
            let clear = || Ok(Action::ClearTopic(place(vhost, user)?, Some(named(exchange)?)));
            Some(clear())
        }
        _ => None,
    }
}

fn list(of: Kind, words: &[&[u8]]) -> Result<Action, Failure> {
    let (mut vhost, mut user) = (None, None);
    match words {
        [b"users", name, _] => user = Some(named(name)?),
        [_, name, _] => vhost = Some(named(name)?),
        _ => {}
    }
    Ok(Action::List { of, vhost, user })
}

fn place(vhost: &[u8], user: &[u8]) -> Result<Place, Failure> {
    Ok(Place { vhost: named(vhost)?, user: named(user)? })
}

fn at(
    method: &Method,
    of: Kind,
    (vhost, user): (&[u8], &[u8]),
    body: &[u8],
) -> Result<Action, Failure> {
    let place = place(vhost, user)?;
    let is_topic = of == Kind::TopicPermissions;
    match *method {
        Method::GET | Method::HEAD => {
            Ok(Action::List { of, vhost: Some(place.vhost), user: Some(place.user) })
        }
        Method::PUT if is_topic => {
            let [exchange, write, read] = texts(body, ["exchange", "write", "read"])?;
            // The default exchange is a direct one, but its name is a name like any other here.
            Ok(Action::SetTopic(place, exchange, TopicPermission { write, read }))
        }
        Method::PUT => {
            let [configure, write, read] = texts(body, ["configure", "write", "read"])?;
            Ok(Action::Set(place, Permission { configure, write, read }))
        }
        Method::DELETE if is_topic => Ok(Action::ClearTopic(place, None)),
        Method::DELETE => Ok(Action::Clear(place)),
        _ => Err(Failure::method_not_allowed("GET, HEAD, PUT, DELETE")),
    }
}

/// The strings of a JSON object, all of which must be there.
fn texts<const COUNT: usize>(body: &[u8], names: [&str; COUNT]) -> Result<[Bytes; COUNT], Failure> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(&format!("the body is not JSON: {error}")))?;
    let missing = names.iter().find(|name| body.get(name).and_then(Value::as_str).is_none());
    if let Some(name) = missing {
        return Err(Failure::bad_request(&format!("key_missing: {name}, a string")));
    }
    Ok(names.map(|name| {
        let text = body.get(name).and_then(Value::as_str).unwrap_or_default();
        Bytes::copy_from_slice(text.as_bytes())
    }))
}
