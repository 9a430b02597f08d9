//! `GET /api/backup`: the whole server as one stream, for administrators. What it holds and how it
//! is taken is crate `replica`'s; sending it is `serve::backup`'s.

use model::{Refusal, Tag};
use net::http::{Body, Response, StatusCode, header};
use replica::NoBackup;

use super::{HttpState, Node, guard::User, render::Failure};

/// A backup is of no kind that browsers know; they keep it.
const KIND: &str = "application/octet-stream";

/// Starts a backup for an administrator.
///
/// # Errors
/// Somebody else asks, or there cannot be a backup now.
pub(super) fn perform<N: Node>(
    state: &HttpState<N>,
    user: &User,
) -> Result<Response<Body>, Failure> {
    if !Tag::Administrator.is_in(&user.tags) {
        return Err(Failure::of(&Refusal::TagMissing(Tag::Administrator)));
    }
    let body = state.node.backup().map_err(|why| Failure::new(status(&why), &why.to_string()))?;
    let name = String::from_utf8_lossy(&user.name).into_owned();
    tracing::info!(user = name, "an administrator takes a backup");
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, KIND),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"potager.backup\""),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    Ok(response)
}

const fn status(why: &NoBackup) -> StatusCode {
    match why {
        NoBackup::Busy => StatusCode::CONFLICT,
        NoBackup::DiskLow => StatusCode::INSUFFICIENT_STORAGE,
        NoBackup::Unreadable(_) | NoBackup::Missing(_) | NoBackup::Ended => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}
