//! The HTTP door: metrics, health, and a management API in the shape that `RabbitMQ`'s tools and
//! scripts know. Off the critical path; nothing here holds a message.
//!
//! Lives here: [`handle`], the one road from request to response. Not here: sockets and HTTP
//! itself (`net::http`), the queue state: asked for through [`Node`] in the user's name, so that
//! the engine says what they may do. Which path means what is `route`, who comes in at all is
//! `guard`, what comes out `render` and `metrics`.

mod backup;
mod guard;
mod metrics;
mod path;
mod perform;
mod process;
mod render;
mod route;
#[cfg(test)]
mod tests;
mod work;

use std::{future::Future, net::SocketAddr, rc::Rc};

use bytes::Bytes;
use config::{Durability, Settings};
use model::{Reply, Request as Ask};
use net::http::{Body, Request, Response};
use replica::{Actor, NoBackup};

pub(crate) use guard::{TOKEN_TAG, TOKEN_USER};
pub(crate) use metrics::{Latency, NodeStats};

use crate::login::Logins;

/// The server behind this door.
pub(crate) trait Node {
    /// Asks one thing in somebody's name, in a virtual host when it needs one; always answers.
    fn ask(&self, actor: Actor, vhost: Option<Bytes>, request: Ask) -> impl Future<Output = Reply>;
    /// Carries out a call of the work API in a user's name; always answers.
    fn work(&self, user: Bytes, call: gateway::Call) -> impl Future<Output = gateway::Answer>;
    /// The counters of this moment.
    fn stats(&self) -> NodeStats;
    /// Starts a backup and hands its stream over.
    ///
    /// # Errors
    /// There cannot be one now.
    fn backup(&self) -> Result<Body, NoBackup>;
}

/// What all requests of the door share.
pub(crate) struct HttpState<N> {
    node: N,
    /// Hashes new passwords; logins are checked by the node.
    logins: Logins,
    durability: Durability,
    /// The door listens on a loopback address, so only local names may stand in `Host`.
    is_loopback: bool,
}

impl<N: Node> HttpState<N> {
    pub(crate) fn new(node: N, settings: &Settings) -> Self {
        Self {
            node,
            logins: Logins::new(),
            durability: settings.durability,
            is_loopback: settings.http.listen.is_some_and(|at| at.ip().is_loopback()),
        }
    }
}

/// Answers one request; `peer` is the other end of its connection.
pub(crate) async fn handle<N: Node + Clone + 'static>(
    state: Rc<HttpState<N>>,
    request: Request<Bytes>,
    peer: SocketAddr,
) -> Response<Body> {
    if gateway::is_ours(request.uri().path()) {
        return work::handle(&state, request, peer).await;
    }
    match answer(&state, &request, peer).await {
        Ok(response) => response,
        Err(failure) => render::failure(&failure).map(Body::from),
    }
}

async fn answer<N: Node>(
    state: &HttpState<N>,
    request: &Request<Bytes>,
    peer: SocketAddr,
) -> Result<Response<Body>, render::Failure> {
    guard::check_names(request, state.is_loopback)?;
    let response = match route::route(request)? {
        route::Plan::Page(page) => perform::page(state, page).await?,
        route::Plan::Api(action) => {
            let user = enter(state, request, peer).await?;
            perform::api(state, &user, action).await?
        }
        route::Plan::Backup => {
            let user = enter(state, request, peer).await?;
            return backup::perform(state, &user);
        }
    };
    Ok(response.map(Body::from))
}

/// The user who asks, let in.
async fn enter<N: Node>(
    state: &HttpState<N>,
    request: &Request<Bytes>,
    peer: SocketAddr,
) -> Result<guard::User, render::Failure> {
    let is_loopback = peer.ip().to_canonical().is_loopback();
    let login = guard::login(request.headers(), is_loopback)?;
    let user = guard::enter(&state.node, login).await?;
    guard::authorize(&user)?;
    Ok(user)
}
