//! Results: one by key, pages of them in order of keys or of changes, and all of them as lines.

mod page;
mod single;

pub(crate) use page::{read_changes, read_export, read_list};
pub(crate) use single::{read_delete, read_get, read_put};

use bytes::Bytes;
use model::{RESULT_KEY_BYTES_MAX, ResultFacts, ResultRef};

use crate::answer::Object;
use crate::route::Request;
use crate::{Code, Failure, json, value};

/// The key in the path.
fn named(request: &Request<'_>) -> Result<Bytes, Failure> {
    let key = request.named();
    if key.is_empty() || key.len() > RESULT_KEY_BYTES_MAX {
        return Err(Failure::new(Code::NotFound, "there is no such result"));
    }
    Ok(key)
}

fn shown(facts: &ResultFacts, result: &ResultRef<'_>) -> String {
    let mut object = Object::new();
    object.bytes("key", &facts.key);
    object.number("revision", facts.revision.0);
    object.number("stored_ms", facts.stored.0);
    match facts.expires {
        Some(at) => object.number("expires_ms", at.0),
        None => object.null("expires_ms"),
    }
    match result.job {
        Some(job) => object.text("job", &job.to_string()),
        None => object.null("job"),
    }
    if result.worker.is_empty() {
        object.null("worker");
    } else {
        object.bytes("worker", result.worker);
    }
    match std::str::from_utf8(result.notes) {
        Ok(notes) if json::is_valid(notes) => {
            object.raw("notes", &notes.replace(['\n', '\r'], " "));
        }
        _ => object.null("notes"),
    }
    value::put(&mut object, result.content_type, result.value);
    object.end()
}
