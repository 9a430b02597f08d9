//! Permissions read and changed, in the user's name. Which path means what is
//! `route/permissions.rs`. Called by `perform`.

use bytes::Bytes;
use model::{Admin, Refusal, Reply, Row};
use net::http::{Response, StatusCode};
use serde_json::Value;

use super::super::{
    HttpState, Node,
    guard::User,
    render::{self, Failure},
    route::{
        Kind,
        permissions::{Action, Place},
    },
};

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
    let reply = super::admin(state, by, admin).await;
    // As in the original, a name that leads nowhere is the request's fault here.
    if let Reply::Refused(refusal) = &reply
        && let Refusal::NotFound { noun, .. } = &**refusal
    {
        return Err(Failure::bad_request(&format!("{}_not_found", noun.word())));
    }
    let is_new = is_set && !is_there;
    super::done_with(&reply, if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT })
}

async fn rows<N: Node>(
    state: &HttpState<N>,
    by: &User,
    of: Kind,
    (vhost, user): (Option<&Bytes>, Option<&Bytes>),
) -> Result<Vec<Row>, Failure> {
    let mut rows = super::rows(state, by, of).await?;
    rows.retain(|row| {
        let fits = |column, wanted: Option<&Bytes>| {
            wanted.is_none_or(|wanted| super::is(row, column, wanted))
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
            super::check_there(state, by, kind, name).await?;
        }
    }
    let body = match (is_one_place, of, shown) {
        (true, _, shown) if shown.is_empty() => return Err(Failure::not_found()),
        (true, Kind::Permissions, shown) => shown.into_iter().next().unwrap_or_default(),
        (_, _, shown) => Value::Array(shown),
    };
    Ok(render::json(StatusCode::OK, &body))
}
