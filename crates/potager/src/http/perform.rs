//! Plans carried out: what the node is asked for each, and which reply becomes which response.
//! Called by `handle` once the request is allowed.

use bytes::Bytes;
use model::{Admin, Cell, Reply, Request as Ask, Row};
use net::http::{Response, StatusCode};
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
            let rows = rows(state, Kind::Queues).await?;
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
        Action::Overview => Ok(render::json(StatusCode::OK, &overview(state))),
        Action::List(query) => list(state, query).await,
        Action::DeleteQueue { vhost, name, if_unused, if_empty } => {
            let request = Ask::DeleteQueue { name, if_unused, if_empty };
            done(&state.node.ask(Some(vhost), request).await)
        }
        Action::PurgeQueue { vhost, name } => {
            done(&state.node.ask(Some(vhost), Ask::PurgeQueue(name)).await)
        }
        Action::PutUser { name, password, tags } => put_user(state, name, password, tags).await,
        Action::DeleteUser(name) => done(&admin(state, Admin::DeleteUser(name)).await),
        Action::PutVhost(name) => put_vhost(state, name).await,
        Action::DeleteVhost(name) => done(&admin(state, Admin::DeleteVhost(name)).await),
    }
}

async fn admin<N: Node>(state: &HttpState<N>, request: Admin) -> Reply {
    state.node.ask(None, Ask::Admin(Box::new(request))).await
}

fn done(reply: &Reply) -> Result<Response<Bytes>, Failure> {
    done_with(reply, StatusCode::NO_CONTENT)
}

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

async fn rows<N: Node>(state: &HttpState<N>, kind: Kind) -> Result<Vec<Row>, Failure> {
    let reply = admin(state, Admin::List(kind.listing())).await;
    if let Reply::Listing(rows) = reply { Ok(rows) } else { Err(odd(&reply)) }
}

fn is(row: &Row, column: &str, wanted: &[u8]) -> bool {
    row.iter().any(|(name, cell)| {
        *name == column && matches!(cell, Cell::Text(text) if text.as_ref() == wanted)
    })
}

async fn list<N: Node>(state: &HttpState<N>, query: Query) -> Result<Response<Bytes>, Failure> {
    let mut rows = rows(state, query.of).await?;
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

async fn put_vhost<N: Node>(state: &HttpState<N>, name: Bytes) -> Result<Response<Bytes>, Failure> {
    let is_there = rows(state, Kind::Vhosts).await?.iter().any(|row| is(row, "name", &name));
    let status = if is_there { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
    done_with(&admin(state, Admin::PutVhost(name)).await, status)
}

/// Creates a user, or changes what is given: a new password keeps the tags.
async fn put_user<N: Node>(
    state: &HttpState<N>,
    name: Bytes,
    password: Option<Bytes>,
    tags: Option<Bytes>,
) -> Result<Response<Bytes>, Failure> {
    let rows = rows(state, Kind::Users).await?;
    let before = rows.iter().find(|row| is(row, "name", &name));
    let Some(password) = password else {
        let text = "password is missing; tags alone cannot be changed";
        return Err(Failure::bad_request(text));
    };
    let kept = before.and_then(|row| {
        let cell = row.iter().find(|(column, _)| *column == "tags").map(|(_, cell)| cell.clone());
        if let Some(Cell::Text(tags)) = cell { Some(tags) } else { None }
    });
    let hash = state.logins.hash(password).await;
    let password_hash = hash.map_err(|text| Failure::bad_request(&text))?;
    let tags = tags.or(kept).unwrap_or_default();
    let status = if before.is_some() { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
    done_with(&admin(state, Admin::PutUser { name, password_hash, tags }).await, status)
}

fn overview<N: Node>(state: &HttpState<N>) -> Value {
    let now = state.node.stats();
    json!({
        "product_name": "Potager",
        "product_version": VERSION,
        "management_version": VERSION,
        // What this API is compatible with; tools read it before they ask for anything else.
        "rabbitmq_version": "3.13.0",
        "node": "potager@localhost",
        "cluster_name": "potager",
        "durability": state.durability.word(),
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
    })
}
