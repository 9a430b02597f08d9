//! Plans carried out: what the node is asked for each, and which reply becomes which response.
//! Called by `handle` once the request is allowed.

mod permissions;

use bytes::Bytes;
use model::{Admin, Cell, Reply, Request as Ask, Row, Tag};
use net::http::{Response, StatusCode};
use replica::Actor;
use serde_json::{Value, json};

use super::{
    HttpState, Node,
    guard::User,
    metrics,
    render::{self, Failure},
    route::{Action, Kind, Page, Query},
};
use crate::commands::version::VERSION;

/// What prometheus-client writes.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const INDEX: &str = "\
potager\n
/health/live      the process runs
/health/ready     it takes work
/metrics          numbers of the whole server (OpenMetrics)
/metrics/detailed numbers of every queue
/api/overview     management, with login; see docs/operate/http.md\n";

/// Pages without login.
///
/// # Errors
/// The node does not answer as it should.
pub(super) async fn page<N: Node>(
    state: &HttpState<N>,
    page: Page,
) -> Result<Response<Bytes>, Failure> {
    let now = state.node.stats();
    Ok(match page {
        Page::Index => render::text(StatusCode::OK, "text/plain; charset=utf-8", INDEX.into()),
        Page::Metrics => {
            render::text(StatusCode::OK, METRICS_TYPE, metrics::server(now, state.durability))
        }
        Page::DetailedMetrics => {
            // The page is for everybody who may reach the door, so the server itself asks.
            let rows = rows_as(state, Actor::System, Kind::Queues).await?;
            render::text(StatusCode::OK, METRICS_TYPE, metrics::queues(&rows))
        }
        Page::Live => render::json(StatusCode::OK, &json!({ "status": "ok" })),
        Page::Ready => ready(&now),
    })
}

/// Alarms do not make the server unready: it still hands out and settles.
fn ready(stats: &metrics::NodeStats) -> Response<Bytes> {
    let mut alarms = Vec::new();
    if stats.is_memory_alarm {
        alarms.push("memory");
    }
    if stats.is_disk_alarm {
        alarms.push("disk");
    }
    if stats.is_stopping {
        let body = json!({ "status": "stopping", "alarms": alarms });
        return render::json(StatusCode::SERVICE_UNAVAILABLE, &body);
    }
    render::json(StatusCode::OK, &json!({ "status": "ok", "alarms": alarms }))
}

/// The management API.
///
/// # Errors
/// The node refused, or what was asked for is not there.
pub(super) async fn api<N: Node>(
    state: &HttpState<N>,
    user: &User,
    action: Action,
) -> Result<Response<Bytes>, Failure> {
    match action {
        Action::WhoAmI => {
            let name = Cell::Text(user.name.clone());
            let row = vec![("name", name), ("tags", Cell::Text(user.tags.clone()))];
            Ok(render::json(StatusCode::OK, &render::row(Kind::Users, &row)))
        }
        Action::Overview => Ok(render::json(StatusCode::OK, &overview(state, user))),
        Action::List(query) => list(state, user, query).await,
        Action::DeleteQueue { vhost, name, if_unused, if_empty } => {
            let request = Ask::DeleteQueue { name, if_unused, if_empty };
            done(&state.node.ask(user.actor(), Some(vhost), request).await)
        }
        Action::PurgeQueue { vhost, name } => {
            done(&state.node.ask(user.actor(), Some(vhost), Ask::PurgeQueue(name)).await)
        }
        Action::PutUser { name, password, tags } => {
            put_user(state, user, (name, password, tags)).await
        }
        Action::DeleteUser(name) => done(&admin(state, user, Admin::DeleteUser(name)).await),
        Action::PutVhost(name) => put_vhost(state, user, name).await,
        Action::DeleteVhost(name) => done(&admin(state, user, Admin::DeleteVhost(name)).await),
        Action::Permissions(action) => permissions::perform(state, user, action).await,
    }
}

/// Asks for administration in the user's name.
async fn admin<N: Node>(state: &HttpState<N>, user: &User, request: Admin) -> Reply {
    state.node.ask(user.actor(), None, Ask::Admin(Box::new(request))).await
}

fn done(reply: &Reply) -> Result<Response<Bytes>, Failure> {
    done_with(reply, StatusCode::NO_CONTENT)
}

/// An empty response with this status, when it was done.
///
/// # Errors
/// It was not.
fn done_with(reply: &Reply, status: StatusCode) -> Result<Response<Bytes>, Failure> {
    if let Reply::Done | Reply::Deleted { .. } = reply {
        return Ok(render::empty(status));
    }
    Err(odd(reply))
}

/// A refusal in HTTP's words; anything else is not what was asked for.
fn odd(reply: &Reply) -> Failure {
    if let Reply::Refused(refusal) = reply {
        return Failure::of(refusal);
    }
    tracing::error!(?reply, "the engine gave another reply than asked for");
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the server gave no fitting reply")
}

/// What a listing shows to the user.
///
/// # Errors
/// They may not see it.
async fn rows<N: Node>(state: &HttpState<N>, user: &User, kind: Kind) -> Result<Vec<Row>, Failure> {
    rows_as(state, user.actor(), kind).await
}

async fn rows_as<N: Node>(
    state: &HttpState<N>,
    actor: Actor,
    kind: Kind,
) -> Result<Vec<Row>, Failure> {
    let request = Ask::Admin(Box::new(Admin::List(kind.listing())));
    let reply = state.node.ask(actor, None, request).await;
    if let Reply::Listing(rows) = reply { Ok(rows) } else { Err(odd(&reply)) }
}

/// Whether a row says this in that column.
fn is(row: &Row, column: &str, wanted: &[u8]) -> bool {
    row.iter().any(|(name, cell)| {
        *name == column && matches!(cell, Cell::Text(text) if text.as_ref() == wanted)
    })
}

/// Refuses when a thing is named that the user cannot see: they are told apart only to whom
/// everything is shown.
///
/// # Errors
/// It is not there, or not for them.
async fn check_there<N: Node>(
    state: &HttpState<N>,
    user: &User,
    kind: Kind,
    name: Option<&Bytes>,
) -> Result<(), Failure> {
    let Some(name) = name else { return Ok(()) };
    if rows(state, user, kind).await?.iter().any(|row| is(row, "name", name)) {
        return Ok(());
    }
    if Tag::Monitoring.is_in(&user.tags) {
        return Err(Failure::not_found());
    }
    let text = "User not authorised to access virtual host";
    Err(Failure::new(StatusCode::UNAUTHORIZED, text))
}

async fn list<N: Node>(
    state: &HttpState<N>,
    user: &User,
    query: Query,
) -> Result<Response<Bytes>, Failure> {
    check_there(state, user, Kind::Vhosts, query.vhost.as_ref()).await?;
    let mut rows = rows(state, user, query.of).await?;
    if query.of == Kind::Connections {
        // Each question of this door is a session of its own; those are not clients.
        rows.retain(|row| !is(row, "protocol", b"http"));
    }
    if let Some(vhost) = &query.vhost {
        rows.retain(|row| is(row, "vhost", vhost));
    }
    if let Some(name) = &query.name {
        let found = rows.iter().find(|row| is(row, "name", name)).ok_or_else(Failure::not_found)?;
        return Ok(render::json(StatusCode::OK, &render::row(query.of, found)));
    }
    let render = |rows: &[Row]| -> Vec<Value> {
        rows.iter().map(|row| render::row(query.of, row)).collect()
    };
    let Some((number, size)) = query.page else {
        return Ok(render::json(StatusCode::OK, &render(&rows).into()));
    };
    let total = rows.len();
    let pages = rows.chunks(size).collect::<Vec<_>>();
    let items = pages.get(number - 1).map(|rows| render(rows)).unwrap_or_default();
    let body = json!({
        "items": items,
        "item_count": items.len(),
        "filtered_count": total,
        "total_count": total,
        "page": number,
        "page_size": size,
        "page_count": pages.len(),
    });
    Ok(render::json(StatusCode::OK, &body))
}

async fn put_vhost<N: Node>(
    state: &HttpState<N>,
    user: &User,
    name: Bytes,
) -> Result<Response<Bytes>, Failure> {
    let is_there = rows(state, user, Kind::Vhosts).await?.iter().any(|row| is(row, "name", &name));
    let status = if is_there { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
    done_with(&admin(state, user, Admin::PutVhost(name)).await, status)
}

/// Creates a user, or changes what is given: a new password keeps the tags, new tags keep the
/// password.
async fn put_user<N: Node>(
    state: &HttpState<N>,
    user: &User,
    (name, password, tags): (Bytes, Option<Bytes>, Option<Bytes>),
) -> Result<Response<Bytes>, Failure> {
    let rows = rows(state, user, Kind::Users).await?;
    let before = rows.iter().find(|row| is(row, "name", &name));
    let Some(password) = password else {
        let (Some(tags), Some(_)) = (tags, before) else {
            return Err(Failure::bad_request("password is missing"));
        };
        return done(&admin(state, user, Admin::SetTags { name, tags }).await);
    };
    let kept = before.and_then(|row| {
        let cell = row.iter().find(|(column, _)| *column == "tags").map(|(_, cell)| cell.clone());
        if let Some(Cell::Text(tags)) = cell { Some(tags) } else { None }
    });
    let hash = state.logins.hash(password).await;
    let password_hash = hash.map_err(|text| Failure::bad_request(&text))?;
    let tags = tags.or(kept).unwrap_or_default();
    let status = if before.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
    done_with(&admin(state, user, Admin::PutUser { name, password_hash, tags }).await, status)
}

/// Figures of the whole server are for those who may see all of it.
fn overview<N: Node>(state: &HttpState<N>, user: &User) -> Value {
    let mut overview = json!({
        "product_name": "Potager",
        "product_version": VERSION,
        "management_version": VERSION,
        // What this API is compatible with; tools read it before they ask for anything else.
        "rabbitmq_version": "3.13.0",
        "node": "potager@localhost",
        "cluster_name": "potager",
        "durability": state.durability.word(),
    });
    if !Tag::Monitoring.is_in(&user.tags) {
        return overview;
    }
    let now = state.node.stats();
    let figures = json!({
        "object_totals": {
            "connections": now.connections,
            "channels": now.channels,
            "consumers": now.consumers,
            "queues": now.queues,
            "exchanges": now.exchanges,
        },
        "queue_totals": {
            "messages": now.messages_ready + now.messages_unsettled,
            "messages_ready": now.messages_ready,
            "messages_unacknowledged": now.messages_unsettled,
        },
        "message_stats": {
            "publish": now.published,
            "confirm": now.confirmed,
            "deliver_get": now.delivered,
            "redeliver": now.redelivered,
            "ack": now.acknowledged,
            "return_unroutable": now.returned,
        },
    });
    if let (Value::Object(all), Value::Object(figures)) = (&mut overview, figures) {
        all.extend(figures);
    }
    overview
}
