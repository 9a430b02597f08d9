//! Permissions over HTTP: paths, bodies, and what the node is asked for each. The rest of the
//! management API is `route` and `perform`.
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
use model::{Admin, Permission, Refusal, Reply, Row, TopicPermission};
use net::http::{Method, Response, StatusCode};
use serde_json::Value;

use super::{
    HttpState, Node,
    guard::User,
    perform,
    render::{self, Failure},
    route::{Kind, named},
};

/// What is wanted of the permissions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
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
pub(super) struct Place {
    pub(super) vhost: Bytes,
    pub(super) user: Bytes,
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
pub(super) fn route(
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

/// Does it, in the user's name.
///
/// # Errors
/// The node refused, or what was asked for is not there.
pub(super) async fn perform<N: Node>(
    state: &HttpState<N>,
    by: &User,
    action: Action,
) -> Result<Response<Bytes>, Failure> {
    let (of, place, admin) = match action {
        Action::List { of, vhost, user } => {
            return answer(state, by, of, (vhost.as_ref(), user.as_ref())).await;
        }
        Action::Set(Place { vhost, user }, permission) => {
            let place = Place { vhost: vhost.clone(), user: user.clone() };
            (Kind::Permissions, place, Admin::SetPermission { user, vhost, permission })
        }
        Action::SetTopic(Place { vhost, user }, exchange, permission) => {
            let place = Place { vhost: vhost.clone(), user: user.clone() };
            let admin = Admin::SetTopicPermission { user, vhost, exchange, permission };
            (Kind::TopicPermissions, place, admin)
        }
        Action::Clear(place) => {
            let Place { vhost, user } = place.clone();
            (Kind::Permissions, place, Admin::ClearPermission { user, vhost })
        }
        Action::ClearTopic(place, exchange) => {
            let Place { vhost, user } = place.clone();
            let admin = Admin::ClearTopicPermission { user, vhost, exchange };
            (Kind::TopicPermissions, place, admin)
        }
    };
    let place = (Some(&place.vhost), Some(&place.user));
    let is_there = !rows(state, by, of, place).await?.is_empty();
    let is_set = matches!(admin, Admin::SetPermission { .. } | Admin::SetTopicPermission { .. });
    if !is_set && !is_there {
        return Err(Failure::not_found());
    }
    let reply = perform::admin(state, by, admin).await;
    // As in the original, a name that leads nowhere is the request's fault here.
    if let Reply::Refused(refusal) = &reply
        && let Refusal::NotFound { noun, .. } = &**refusal
    {
        return Err(Failure::bad_request(&format!("{}_not_found", noun.word())));
    }
    let is_new = is_set && !is_there;
    perform::done_with(&reply, if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT })
}

async fn rows<N: Node>(
    state: &HttpState<N>,
    by: &User,
    of: Kind,
    (vhost, user): (Option<&Bytes>, Option<&Bytes>),
) -> Result<Vec<Row>, Failure> {
    let mut rows = perform::rows(state, by, of).await?;
    rows.retain(|row| {
        let fits = |column, wanted: Option<&Bytes>| {
            wanted.is_none_or(|wanted| perform::is(row, column, wanted))
        };
        fits("vhost", vhost) && fits("user", user)
    });
    Ok(rows)
}

async fn answer<N: Node>(
    state: &HttpState<N>,
    by: &User,
    of: Kind,
    (vhost, user): (Option<&Bytes>, Option<&Bytes>),
) -> Result<Response<Bytes>, Failure> {
    let rows = rows(state, by, of, (vhost, user)).await?;
    let shown: Vec<Value> = rows.iter().map(|row| render::row(of, row)).collect();
    let is_one_place = vhost.is_some() && user.is_some();
    if !is_one_place {
        for (kind, name) in [(Kind::Users, user), (Kind::Vhosts, vhost)] {
            perform::check_there(state, by, kind, name).await?;
        }
    }
    let body = match (is_one_place, of, shown) {
        (true, _, shown) if shown.is_empty() => return Err(Failure::not_found()),
        (true, Kind::Permissions, shown) => shown.into_iter().next().unwrap_or_default(),
        (_, _, shown) => Value::Array(shown),
    };
    Ok(render::json(StatusCode::OK, &body))
}
