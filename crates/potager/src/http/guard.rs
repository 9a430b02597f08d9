//! Who may ask at all: names in `Host` and `Origin`, the login, and a tag of this door. Called by
//! `handle` before anything is done.

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use model::{Credentials, Proof, Refusal, Reply, Request as Ask, Tag};
use net::http::{HeaderMap, Method, Request, StatusCode, header};
use replica::Actor;

use super::{Node, render::Failure};

/// Longest `Authorization` value that is decoded.
const LOGIN_BYTES_MAX: usize = 4096;

/// How the names of users begin that are tokens.
pub(crate) const TOKEN_USER: &str = "token-";
/// The tag of users that are tokens.
pub(crate) const TOKEN_TAG: &str = "token";

/// A user who logged in.
#[derive(Debug)]
pub(super) struct User {
    /// Name.
    pub(super) name: Bytes,
    /// Comma-separated.
    pub(super) tags: Bytes,
}

impl User {
    /// In whose name the node is asked.
    pub(super) fn actor(&self) -> Actor {
        Actor::User(self.name.clone())
    }
}

/// Refuses requests that a browser was tricked into: on a loopback door only local names may
/// stand in `Host` (otherwise a foreign name that resolves to 127.0.0.1 would make us a part of
/// its site), and what changes something must not come from another site.
///
/// # Errors
/// Such a request.
pub(super) fn check_names(request: &Request<Bytes>, is_loopback: bool) -> Result<(), Failure> {
    let headers = request.headers();
    let host =
        text(headers, header::HOST).or_else(|| request.uri().authority().map(ToString::to_string));
    if let Some(host) = &host
        && is_loopback
        && !is_local(host)
    {
        return Err(Failure::new(
            StatusCode::MISDIRECTED_REQUEST,
            "this door listens on loopback only and answers to localhost, 127.0.0.1 and [::1]",
        ));
    }
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let origin = text(headers, header::ORIGIN);
    let is_foreign =
        |origin: &String| origin.split_once("://").map(|(_, place)| place) != host.as_deref();
    if !is_reading && origin.as_ref().is_some_and(is_foreign) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "changes from another site are refused"));
    }
    Ok(())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    // A header that is not text is no local name; it must not count as absent.
    headers.get(name).map(|value| value.to_str().unwrap_or("?").to_owned())
}

/// `localhost`, names below it, and loopback addresses, with or without port.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    let is_loopback = name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    is_loopback || name == "localhost" || name.ends_with(".localhost")
}

/// Reads the login of a request: HTTP basic authentication.
///
/// # Errors
/// There is none, or it cannot be read.
pub(super) fn login(headers: &HeaderMap, is_loopback: bool) -> Result<Credentials, Failure> {
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| Failure::login("log in"))?;
    let text = value.to_str().ok().filter(|text| text.len() <= LOGIN_BYTES_MAX);
    let (scheme, encoded) = text
        .and_then(|text| text.split_once(' '))
        .ok_or_else(|| Failure::login("the login cannot be read"))?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return token(encoded.trim(), is_loopback);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Failure::login("only basic authentication and tokens are known"));
    }
    let decoded = Base64::decode_vec(encoded.trim()).ok();
    let at = decoded.as_ref().and_then(|bytes| bytes.iter().position(|byte| *byte == b':'));
    let (Some(decoded), Some(at)) = (decoded, at) else {
        return Err(Failure::login("the login cannot be read"));
    };
    let decoded = Bytes::from(decoded);
    let proof = Proof::Password(decoded.slice(at + 1..));
    Ok(Credentials { user: decoded.slice(..at), proof, is_loopback })
}

/// A token is a user with a long password: `pt_NAME_SECRET`.
fn token(text: &str, is_loopback: bool) -> Result<Credentials, Failure> {
    let parts = text.strip_prefix("pt_").and_then(|rest| rest.split_once('_'));
    let (name, secret) = parts.ok_or_else(|| Failure::login("the token cannot be read"))?;
    let user = Bytes::from(format!("{TOKEN_USER}{name}"));
    let proof = Proof::Password(Bytes::copy_from_slice(secret.as_bytes()));
    Ok(Credentials { user, proof, is_loopback })
}

/// Checks a login with the node.
///
/// # Errors
/// The login is wrong; the answer does not say in which part.
pub(super) async fn enter<N: Node>(node: &N, login: Credentials) -> Result<User, Failure> {
    let name = login.user.clone();
    let reply = node.ask(Actor::Stranger, None, Ask::Authenticate(login)).await;
    if let Reply::Authenticated { tags } = reply {
        return Ok(User { name, tags });
    }
    Err(Failure::login("login failed"))
}

/// Whoever has none of the tags of this door stays outside; what the others may do, the engine
/// says.
///
/// # Errors
/// The user has no such tag.
pub(super) fn authorize(user: &User) -> Result<(), Failure> {
    if Tag::Management.is_in(&user.tags) {
        return Ok(());
    }
    Err(Failure::of(&Refusal::TagMissing(Tag::Management)))
}
