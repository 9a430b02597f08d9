//! Asks model servers whether they are up: often while they are not, now and then while they are.
//! A server gets its first item after its first good answer; while it says that it is loading, it
//! ends what it has and gets no more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, Uri};

use crate::lanes::{Health, Lanes};
use crate::plan::HttpPlan;
use crate::transport::{NoAnswer, Transport};

/// What is asked for when the user names nothing.
const PATHS: [&str; 2] = ["/health", "/v1/models"];
/// Pause between two probes of a server that is up, and of one that is not.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1));
/// How long an answer may take: a busy server answers late.
const PATIENCE: Duration = Duration::from_secs(10);
/// Late answers in a row after which a server counts as down.
const LATE_MAX: u32 = 3;
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What a probe found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Up,
    /// It answers, and says that it is not ready.
    NotReady(String),
    /// Nobody answers.
    Gone(String),
    /// The answer did not come in time.
    Late,
}

/// Probes one server until dropped.
pub(crate) async fn watch(plan: Arc<HttpPlan>, lanes: Arc<Lanes>, transport: Transport, at: usize) {
    let Some(server) = plan.upstreams.get(at) else { return };
    let mut late = 0;
    let mut is_up = false;
    loop {
        let found = look(server, plan.health_path.as_deref(), &transport).await;
        late = if found == Found::Late { late + 1 } else { 0 };
        if let Some(health) = health_of(&found, is_up, late) {
            is_up = health == Health::Up;
            if lanes.set_health(at, health) {
                tracing::info!(upstream = %server, is_up, ?found, "a model server changed");
            }
        }
        tokio::time::sleep(if is_up { PAUSE.0 } else { PAUSE.1 }).await;
    }
}

/// What a finding makes of a server; `None` leaves it as it is.
fn health_of(found: &Found, is_up: bool, late: u32) -> Option<Health> {
    match found {
        Found::Up => Some(Health::Up),
        Found::NotReady(why) | Found::Gone(why) => Some(Health::Down(why.clone())),
        Found::Late if is_up && late < LATE_MAX => None,
        Found::Late => Some(Health::Down("it does not answer in time".to_owned())),
    }
}

async fn look(server: &Uri, path: Option<&str>, transport: &Transport) -> Found {
    let named = path.as_slice();
    let paths = if named.is_empty() { &PATHS[..] } else { named };
    let mut found = Found::Gone("there is nothing to ask for".to_owned());
    for path in paths {
        let Some(request) = request(server, path) else { continue };
        found = match transport.send(request, ANSWER_BYTES_MAX, Some(PATIENCE)).await {
            Ok(answer) if answer.status.is_success() => return Found::Up,
            // A login is asked for: somebody is there.
            Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => return Found::Up,
            Ok(answer) => {
                let found = Found::NotReady(format!("{path} answers {}", answer.status));
                if answer.status != StatusCode::NOT_FOUND {
                    return found;
                }
                found
            }
            Err(NoAnswer::Late(_)) => return Found::Late,
            Err(NoAnswer::TooLarge(_)) => return Found::Up,
            Err(fault) => return Found::Gone(fault.to_string()),
        };
    }
    found
}

fn request(server: &Uri, path: &str) -> Option<Request<Full<Bytes>>> {
    let mut parts = server.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    Request::get(Uri::from_parts(parts).ok()?).body(Full::default()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_may_be_late_now_and_then() {
        assert_eq!(health_of(&Found::Late, true, 1), None);
        assert!(matches!(health_of(&Found::Late, true, LATE_MAX), Some(Health::Down(_))));
        assert!(matches!(health_of(&Found::Late, false, 1), Some(Health::Down(_))));
        assert_eq!(health_of(&Found::Up, false, 0), Some(Health::Up));
        let loading = Found::NotReady("503".into());
        assert!(matches!(health_of(&loading, true, 0), Some(Health::Down(_))));
    }
}
