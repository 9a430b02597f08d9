//! Administration while the server is stopped: opens the data directory, commits, closes.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use config::Settings;
use model::{Admin, Envelope, Output, Refusal, Reply, Request, Ticket};
use replica::{Node, SessionInfo};

use super::{journal_options, random, server};

/// Turns after which an answer must have come; there are no threads to wait for.
const TURNS_MAX: u32 = 10_000;

/// Applies administrative requests to a data directory that no server uses.
///
/// # Errors
/// When the directory is in use or damaged, or a request is refused.
pub(crate) fn offline(dir: &Path, admins: Vec<Admin>) -> anyhow::Result<Vec<Reply>> {
    let settings = Settings { data_dir: dir.to_owned(), ..Settings::default() };
    let options = replica::Options { journal: journal_options(&settings), limits: settings.limits };
    let workers = journal::Workers::Threads { wake: Arc::new(|| {}) };
    let disk = Arc::new(journal::RealDisk);
    let (mut node, _) = Node::open(disk, options, workers, server::now(), random::source()?)
        .with_context(|| format!("could not open the data directory {}", dir.display()))?;
    let session = node.open_session(SessionInfo::default(), std::rc::Rc::new(|| {}));
    let mut replies = Vec::new();
    for admin in admins {
        let request = Request::Admin(Box::new(admin));
        let mut batch = vec![Envelope { channel: 0, ticket: Ticket(1), request }];
        node.submit(server::now(), session, &mut batch);
        replies.push(answer(&mut node, session)?);
    }
    node.close()?;
    Ok(replies)
}

fn answer(node: &mut Node, session: model::SessionId) -> anyhow::Result<Reply> {
    for _ in 0..TURNS_MAX {
        let mut found = None;
        node.collect(server::now(), session, &mut |output| {
            if let Output::Reply { reply, .. } = output {
                found = Some(reply);
            }
            Ok::<_, std::convert::Infallible>(true)
        })?;
        match found {
            Some(Reply::Refused(refusal)) => bail!("refused: {}", explain(&refusal)),
            Some(reply) => return Ok(reply),
            None => {
                node.commit(server::now())?;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
    bail!("the log did not become durable in time")
}

/// For people; what administration can meet.
fn explain(refusal: &Refusal) -> String {
    let text = String::from_utf8_lossy;
    if let Refusal::NotFound { noun, name } = refusal {
        return format!("there is no {} '{}'", noun.word(), text(name));
    }
    if let Refusal::InvalidPattern { pattern, reason } = refusal {
        return format!("'{}' is no regular expression: {reason}", text(pattern));
    }
    format!("{refusal:?}")
}
