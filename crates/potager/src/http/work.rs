//! The way of the work API through this door: who asks, the call, and its answer as a response.
//! What calls mean is `gateway`'s, what carries them out the node's.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use gateway::{Answer, Call, Code, Failure, Incoming, Under};
use model::{Admin, Cell, Listing, Reply, Request as Ask, Row};
use net::http::{Body, Request, Response, StatusCode, header};
use replica::Actor;

use super::{HttpState, Node, guard, render};

/// The user of local programs while there is no token.
const GUEST: &[u8] = b"guest";
/// The one page for which nobody has to log in.
const PAGE: &str = "/work/v1/openapi.json";

/// Answers one request.
pub(super) async fn handle<N: Node + Clone + 'static>(
    state: &Rc<HttpState<N>>,
    request: Request<Bytes>,
    peer: SocketAddr,
) -> Response<Body> {
    match carry_out(state, request, peer).await {
        Ok((user, answer)) => response(state, user, answer),
        Err(failure) => head(&failure.into()).map(Body::from),
    }
}

async fn carry_out<N: Node>(
    state: &HttpState<N>,
    request: Request<Bytes>,
    peer: SocketAddr,
) -> Result<(Bytes, Answer), Failure> {
    guard::check_names(&request, state.is_loopback).map_err(|failure| of(&failure))?;
    let is_open = request.uri().path() == PAGE;
    let user = if is_open { Bytes::new() } else { enter(state, &request, peer).await? };
    let (request, body) = request.into_parts();
    let parsed = Call::parse(&Incoming {
        method: request.method.as_str(),
        path: request.uri.path(),
        query: request.uri.query().unwrap_or_default(),
        body,
    });
    let call = match parsed {
        Ok(call) if is_open && *call.under() != Under::Nobody => {
            return Err(Failure::new(Code::Login, "log in"));
        }
        Ok(call) => call,
        Err(answer) => return Ok((user, *answer)),
    };
    let answer = state.node.work(user.clone(), call).await;
    Ok((user, answer))
}

/// What the guard says, in the words of this API.
fn of(failure: &render::Failure) -> Failure {
    let code = match failure.status {
        StatusCode::UNAUTHORIZED => Code::Login,
        StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => Code::NotPermitted,
        _ => Code::BadRequest,
    };
    Failure::new(code, &*failure.reason)
}

/// The user who asks, let in.
async fn enter<N: Node>(
    state: &HttpState<N>,
    request: &Request<Bytes>,
    peer: SocketAddr,
) -> Result<Bytes, Failure> {
    let is_loopback = peer.ip().to_canonical().is_loopback();
    if request.headers().contains_key(header::AUTHORIZATION) {
        let login = guard::login(request.headers(), is_loopback).map_err(|it| of(&it))?;
        let user = guard::enter(&state.node, login).await.map_err(|it| of(&it))?;
        return Ok(user.name);
    }
    if is_loopback && is_open_house(&state.node).await {
        return Ok(Bytes::from_static(GUEST));
    }
    Err(Failure::new(Code::Login, "log in with a token (potager tokens add) or as a user"))
}

/// There is no token yet, and the user of local programs is there.
async fn is_open_house<N: Node>(node: &N) -> bool {
    let users = Ask::Admin(Box::new(Admin::List(Listing::Users)));
    let Reply::Listing(users) = node.ask(Actor::System, None, users).await else { return false };
    let has_token = |row: &Row| {
        text(row, "tags").split(|byte| *byte == b',').any(|tag| tag == guard::TOKEN_TAG.as_bytes())
    };
    let is_guest = |row: &Row| text(row, "name") == GUEST;
    users.iter().any(is_guest) && !users.iter().any(has_token)
}

fn text<'a>(row: &'a Row, column: &str) -> &'a [u8] {
    let cell = row.iter().find(|(name, _)| *name == column).map(|(_, cell)| cell);
    if let Some(Cell::Text(text)) = cell { text } else { b"" }
}

/// An answer as a response; one that goes on is made while the client takes it.
fn response<N: Node + Clone + 'static>(
    state: &Rc<HttpState<N>>,
    user: Bytes,
    mut answer: Answer,
) -> Response<Body> {
    let Some(next) = answer.next.take() else { return head(&answer).map(Body::from) };
    let (sender, body) = net::http::stream();
    let (first, node) = (answer.body.clone(), state.node.clone());
    tokio::task::spawn_local(async move {
        let (mut piece, mut next) = (first, Some(next));
        loop {
            // Without its end the client does not take a part for the whole.
            if sender.send(piece).await.is_err() {
                return;
            }
            let Some(call) = next.take() else { break };
            let more = node.work(user.clone(), *call).await;
            if more.status != 200 {
                return;
            }
            (piece, next) = (more.body, more.next);
        }
        // The client may be gone by now.
        sender.finish().await.ok();
    });
    head(&answer).map(|_| body)
}

/// Status, headers and the body that is there. What a client stored is shown as what it says it
/// is, but no browser runs it.
fn head(answer: &Answer) -> Response<Bytes> {
    let mut response = render::text(
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        "application/octet-stream",
        String::new(),
    );
    let headers = response.headers_mut();
    if let Ok(kind) = header::HeaderValue::from_bytes(&answer.content_type)
        && !answer.content_type.is_empty()
    {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    let policy = "default-src 'none'; frame-ancestors 'none'; sandbox";
    headers.insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(policy));
    if let Some(allow) = answer.allow {
        headers.insert(header::ALLOW, header::HeaderValue::from_static(allow));
    }
    if answer.wants_login {
        let value = "Bearer realm=\"Potager\", Basic realm=\"Potager\"";
        headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(value));
    }
    if let Some(seconds) = answer.retry_after_s {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
    }
    let body = answer.body.clone();
    response.map(|_| body)
}
