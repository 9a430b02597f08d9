//! Any request of the HTTP door: method, path, query and body become a plan or a refusal, never a
//! panic; names that get through are names that the engine can keep.
//!
//! The door lives in a binary, so its two files that read what a client sent are taken in by path;
//! [`render`] stands in for the one that writes answers.

use bytes::Bytes;
use net::http::{Method, Request, Uri};

use crate::source::Source;

#[path = "../../crates/potager/src/http/path.rs"]
mod path;
#[path = "../../crates/potager/src/http/route.rs"]
#[allow(dead_code, reason = "what carries plans out is not here")]
mod route;

/// The refusals of the door, without how they are written.
mod render {
    use net::http::StatusCode;

    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Failure(StatusCode, String);

    impl Failure {
        pub(super) fn new(status: StatusCode, reason: &str) -> Self {
            Self(status, reason.to_owned())
        }

        pub(super) fn not_found() -> Self {
            Self::new(StatusCode::NOT_FOUND, "")
        }

        pub(super) fn bad_request(reason: &str) -> Self {
            Self::new(StatusCode::BAD_REQUEST, reason)
        }

        pub(super) fn method_not_allowed(allow: &'static str) -> Self {
            Self::new(StatusCode::METHOD_NOT_ALLOWED, allow)
        }

        pub(super) fn too_large(limit: usize) -> Self {
            Self::new(StatusCode::PAYLOAD_TOO_LARGE, &limit.to_string())
        }

        pub(super) fn status(&self) -> StatusCode {
            self.0
        }
    }
}

/// Method, then the path up to a zero byte, then the body.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let methods = [Method::GET, Method::PUT, Method::DELETE, Method::POST, Method::HEAD];
    let method = methods[source.below(methods.len())].clone();
    let prefix = source.pick(&["/", "/api/", "/api/users/", "/api/queues/", "/api/vhosts/"]);
    let rest = source.rest();
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let Ok(uri) = Uri::try_from([prefix.as_bytes(), &rest[..end]].concat()) else { return };
    let body = Bytes::copy_from_slice(rest.get(end + 1..).unwrap_or_default());
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    match route::route(&request) {
        Ok(route::Plan::Api(action)) => check(&action),
        Ok(route::Plan::Page(_)) => assert!(!request.uri().path().starts_with("/api")),
        Ok(_) => {}
        Err(failure) => assert!(failure.status().is_client_error()),
    }
}

fn check(action: &route::Action) {
    use route::Action;
    match action {
        Action::DeleteQueue { vhost, name, .. } | Action::PurgeQueue { vhost, name } => {
            is_name(vhost);
            is_name(name);
        }
        Action::PutUser { name, .. }
        | Action::DeleteUser(name)
        | Action::PutVhost(name)
        | Action::DeleteVhost(name) => is_name(name),
        Action::List(query) => {
            query.vhost.iter().chain(&query.name).for_each(is_name);
            if let Some((number, size)) = query.page {
                assert!(number >= 1 && (1..=500).contains(&size));
            }
        }
        Action::WhoAmI | Action::Overview | Action::Permissions(_) => {}
    }
}

fn is_name(name: &Bytes) {
    let text = std::str::from_utf8(name).expect("a name is text");
    assert!((1..=255).contains(&text.len()) && !text.contains(char::is_control), "{text:?}");
}
