//! Replies as JSON, in the shape and words of `RabbitMQ`'s management API, and failures with their
//! status codes. Pure; called by `perform`.

use bytes::Bytes;
use model::{
    Cell, Refusal, Row,
    limits::TABLE_DEPTH_MAX,
    table::{self, Value as Field},
};
use net::http::{Response, StatusCode, header};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;

use super::route::Kind;

/// Why a request is not answered as asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    /// For people.
    pub(super) reason: String,
    /// Methods that would be right, for 405.
    allow: Option<&'static str>,
    /// Whether logging in may help.
    wants_login: bool,
}

impl Failure {
    pub(super) fn new(status: StatusCode, reason: &str) -> Self {
        Self { status, reason: reason.to_owned(), allow: None, wants_login: false }
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    pub(super) fn bad_request(reason: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let text = format!("this path takes {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, &text) }
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let text = format!("a request body may have at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, &text)
    }

    pub(super) fn login(reason: &str) -> Self {
        Self { wants_login: true, ..Self::new(StatusCode::UNAUTHORIZED, reason) }
    }

    /// What the engine's refusal is in HTTP.
    pub(super) fn of(refusal: &Refusal) -> Self {
        let name = String::from_utf8_lossy;
        match refusal {
            Refusal::NotFound { .. } => Self::not_found(),
            Refusal::NotPermitted { user, verb, noun, name: of, .. } => {
                let (user, verb, noun) = (name(user), verb.word(), noun.word());
                let text =
                    format!("{verb} access to {noun} '{}' refused for user '{user}'", name(of));
                Self::new(StatusCode::UNAUTHORIZED, &text)
            }
            Refusal::TagMissing(tag) => {
                let text = format!("Not {} user", tag.word());
                Self::new(StatusCode::UNAUTHORIZED, &text)
            }
            Refusal::InvalidPattern { pattern, reason } => {
                let text = format!("'{}' is no regular expression: {reason}", name(pattern));
                Self::bad_request(&text)
            }
            Refusal::AccessRefused { reason } => Self::new(StatusCode::FORBIDDEN, reason),
            Refusal::Unavailable { reason } => Self::new(StatusCode::SERVICE_UNAVAILABLE, reason),
            Refusal::InUse { noun, name: of } => {
                Self::bad_request(&format!("{} '{}' in use", noun.word(), name(of)))
            }
            Refusal::NotEmpty { queue } => {
                Self::bad_request(&format!("queue '{}' is not empty", name(queue)))
            }
            Refusal::Locked { queue } => {
                Self::bad_request(&format!("queue '{}' belongs to another connection", name(queue)))
            }
            Refusal::LimitReached { limit } => {
                Self::bad_request(&format!("a limit is reached: {limit}"))
            }
            Refusal::Inequivalent { .. }
            | Refusal::ExclusiveConsumer { .. }
            | Refusal::UnknownDelivery { .. }
            | Refusal::UnknownJob { .. }
            | Refusal::JobHeldElsewhere { .. }
            | Refusal::SingleActiveConsumer { .. }
            | Refusal::NotOpen => Self::bad_request(&format!("refused: {refusal:?}")),
        }
    }

    /// The short word that clients of this API look at.
    fn word(&self) -> &'static str {
        match self.status {
            StatusCode::NOT_FOUND => "Object Not Found",
            StatusCode::UNAUTHORIZED => "not_authorized",
            StatusCode::METHOD_NOT_ALLOWED => "Method Not Allowed",
            StatusCode::FORBIDDEN => "access_refused",
            StatusCode::SERVICE_UNAVAILABLE => "service_unavailable",
            _ => "bad_request",
        }
    }
}

/// A failure as a response.
pub(super) fn failure(failure: &Failure) -> Response<Bytes> {
    let body = json!({ "error": failure.word(), "reason": failure.reason });
    let mut response = json(failure.status, &body);
    let headers = response.headers_mut();
    if let Some(allow) = failure.allow {
        headers.insert(header::ALLOW, header::HeaderValue::from_static(allow));
    }
    if failure.wants_login {
        let value = header::HeaderValue::from_static("Basic realm=\"Potager\"");
        headers.insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

/// A JSON response.
pub(super) fn json(status: StatusCode, body: &Value) -> Response<Bytes> {
    text(status, "application/json", body.to_string())
}

/// A response without body.
pub(super) fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// A response of any content type; never kept by caches, never guessed at by browsers.
pub(super) fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// Columns of the engine's listings and their names in the management API, where they differ.
const COLUMNS: [(&str, &str); 3] =
    [("peer", "name"), ("tag", "consumer_tag"), ("prefetch", "prefetch_count")];

/// One row of a listing as an object of the management API.
pub(super) fn row(kind: Kind, row: &Row) -> Value {
    let mut object = Map::new();
    for (column, cell) in row {
        let name = COLUMNS.iter().find(|(ours, _)| ours == column).map_or(*column, |(_, api)| api);
        object.insert(name.to_owned(), value(column, cell));
    }
    match kind {
        Kind::Queues => {
            object.insert("state".into(), "running".into());
        }
        Kind::Users => {
            let tags = text_of(&object, "tags");
            let tags: Vec<&str> = tags.split(',').filter(|tag| !tag.is_empty()).collect();
            object.insert("tags".into(), json!(tags));
        }
        Kind::Bindings => {
            let key = text_of(&object, "routing_key");
            let key = if key.is_empty() { "~".to_owned() } else { key };
            object.insert("properties_key".into(), key.into());
        }
        Kind::Connections => connection(&mut object),
        Kind::Consumers => consumer(&mut object),
        Kind::Vhosts | Kind::Exchanges | Kind::Permissions | Kind::TopicPermissions => {}
    }
    Value::Object(object)
}

fn text_of(object: &Map<String, Value>, name: &str) -> String {
    object.get(name).and_then(Value::as_str).unwrap_or("").to_owned()
}

fn connection(object: &mut Map<String, Value>) {
    let peer: Option<SocketAddr> = text_of(object, "name").parse().ok();
    if let Some(peer) = peer {
        object.insert("peer_host".into(), peer.ip().to_string().into());
        object.insert("peer_port".into(), peer.port().into());
    }
    let protocol = text_of(object, "protocol");
    if matches!(&*protocol, "amqp" | "amqps") {
        object.insert("ssl".into(), (protocol == "amqps").into());
        object.insert("protocol".into(), "AMQP 0-9-1".into());
    }
    let is_paused = object.remove("paused") == Some(Value::Bool(true));
    object.insert("state".into(), if is_paused { "flow" } else { "running" }.into());
}

/// The API nests whose consumer it is and where it sits.
fn consumer(object: &mut Map<String, Value>) {
    let queue = json!({ "name": text_of(object, "queue"), "vhost": text_of(object, "vhost") });
    object.insert("queue".into(), queue);
    let connection = object.remove("name").unwrap_or_default();
    let channel = object.remove("channel").unwrap_or_default();
    let details = json!({ "connection_name": connection, "number": channel });
    object.insert("channel_details".into(), details);
}

fn value(column: &str, cell: &Cell) -> Value {
    match cell {
        Cell::Text(table) if column == "arguments" => arguments(table, TABLE_DEPTH_MAX),
        Cell::Text(bytes) => String::from_utf8_lossy(bytes).into(),
        Cell::Number(number) => (*number).into(),
        Cell::Flag(is) => (*is).into(),
    }
}

/// A field table as JSON; nothing is deeper than `depth`, which the door has checked before.
fn arguments(content: &[u8], depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else { return Value::Null };
    let entries = table::fields(content)
        .map(|(name, field)| (String::from_utf8_lossy(name).into_owned(), argument(&field, depth)));
    Value::Object(entries.collect())
}

fn argument(field: &Field<'_>, depth: usize) -> Value {
    match *field {
        Field::Bool(is) => is.into(),
        Field::Int(number) => number.into(),
        Field::Uint(number) | Field::Timestamp(number) => number.into(),
        Field::Float(number) => number.into(),
        Field::Decimal(scale, number) => format!("{number}e-{scale}").into(),
        Field::Text(bytes) | Field::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
        Field::Array(content) => {
            let Some(depth) = depth.checked_sub(1) else { return Value::Null };
            table::items(content).map(|item| argument(&item, depth)).collect()
        }
        Field::Table(content) => arguments(content, depth),
        Field::Void => Value::Null,
    }
}
