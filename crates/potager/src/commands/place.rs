//! [`Place`]: where administration happens, for `users`, `vhosts` and `permissions`: through the
//! management API of a running server, or in the data directory of a stopped one. Not a command.

use std::path::PathBuf;

use hyper::Method;
use model::{Admin, Cell, Listing, Row};
use serde_json::{Map, Value};

use super::{api, offline};

/// A running server, or the data of one that is stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    #[command(flatten)]
    server: api::Server,
    /// Work in this data directory of a stopped server, without asking one
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// One change, in both languages.
pub(crate) struct Change<'a> {
    pub(crate) method: Method,
    /// Segments below `/api`.
    pub(crate) path: &'a [&'a str],
    pub(crate) body: Option<Value>,
    pub(crate) admin: Admin,
}

impl Place {
    /// Nobody answers here: the data directory is changed itself.
    pub(crate) const fn is_offline(&self) -> bool {
        self.data_dir.is_some()
    }

    /// Makes a change.
    ///
    /// # Errors
    /// The server or the directory refuses.
    pub(crate) fn change(&self, change: Change<'_>) -> anyhow::Result<()> {
        let Change { method, path, body, admin } = change;
        match &self.data_dir {
            Some(dir) => offline::change(dir, admin),
            None => self.server.call(method, &api::path(path), body.as_ref()).map(drop),
        }
    }

    /// The things at a path, as JSON objects with the columns of the listing.
    ///
    /// # Errors
    /// As [`Place::change`].
    pub(crate) fn list(&self, path: &[&str], of: Listing) -> anyhow::Result<Vec<Value>> {
        if let Some(dir) = &self.data_dir {
            return Ok(offline::list(dir, of)?.iter().map(object).collect());
        }
        let answer = self.server.call(Method::GET, &api::path(path), None)?;
        if let Value::Array(items) = answer {
            return Ok(items);
        }
        Ok(vec![answer])
    }
}

fn object(row: &Row) -> Value {
    let columns: Map<String, Value> = row
        .iter()
        .map(|(column, cell)| {
            let value = match cell {
                Cell::Text(text) => String::from_utf8_lossy(text).into(),
                Cell::Number(number) => (*number).into(),
                Cell::Flag(is) => (*is).into(),
            };
            ((*column).to_owned(), value)
        })
        .collect();
    Value::Object(columns)
}

/// A text field of an object; empty when it is absent.
pub(crate) fn text(object: &Value, field: &str) -> String {
    object.get(field).and_then(Value::as_str).unwrap_or("").to_owned()
}
