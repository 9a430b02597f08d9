//! The configuration file: TOML text to (key, value, place), every problem with its line and
//! column. Opening the file is the binary's business. Called by `resolve.rs`.

use std::path::Path;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    Kind, Place, Problem, SETTINGS, Value,
    problem::{nearest, unknown_key},
};

/// Everything a file sets, in the table's words.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) values: Vec<(&'static str, Value, Place)>,
    pub(crate) problems: Vec<Problem>,
}

/// Reads a whole file; goes on after a problem so that one run shows them all.
pub(crate) fn read(path: &Path, text: &str) -> Found {
    let mut reader = Reader { path, text, found: Found::default() };
    match DeTable::parse(text) {
        Ok(table) => reader.table("", table.get_ref()),
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            reader.report(offset, format!("not TOML: {}", error.message().trim_end()));
        }
    }
    reader.found.problems.sort_by_key(|problem| order(&problem.place));
    reader.found
}

/// The parser's table is sorted by name; people read a file from the top.
const fn order(place: &Place) -> (usize, usize) {
    match place {
        Place::File { line, column, .. } => (*line, *column),
        Place::Environment(_) | Place::Flag(_) => (0, 0),
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    found: Found,
}

impl Reader<'_> {
    /// Recursion is bounded: sections are one level deep, anything deeper is reported, not entered.
    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = if section.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{section}.{}", name.get_ref())
            };
            let start = name.span().start;
            match (value.get_ref(), SETTINGS.iter().find(|setting| setting.key == key)) {
                (_, Some(setting)) => self.value(setting.key, setting.kind, value),
                (DeValue::Table(inner), None) if is_section(&key) => self.table(&key, inner),
                (DeValue::Table(_), None) => self.report(start, unknown_section(&key)),
                (_, None) => self.report(start, unknown_key(&key)),
            }
        }
    }

    fn value(&mut self, key: &'static str, kind: Kind, value: &Spanned<DeValue<'_>>) {
        let start = value.span().start;
        let text = match value.get_ref() {
            DeValue::String(text) if kind.takes_string() => Ok(text.to_string()),
            DeValue::Integer(number) if kind.takes_integer() => {
                i128::from_str_radix(number.as_str(), number.radix())
                    .map(|number| number.to_string())
                    .map_err(|_| number.to_string())
            }
            DeValue::Boolean(is) if matches!(kind, Kind::Flag) => Ok(is.to_string()),
            other @ (DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => Err(other.type_str().to_owned()),
        };
        let read = match text {
            Ok(text) => kind.read_text(&text),
            Err(odd) => Err(format!("{odd} is not accepted; expected {}", kind.expects())),
        };
        match read {
            Ok(value) => {
                let place = self.place(start);
                self.found.values.push((key, value, place));
            }
            Err(message) => self.report(start, format!("{key}: {message}")),
        }
    }

    fn report(&mut self, offset: usize, message: String) {
        let place = self.place(offset);
        self.found.problems.push(Problem { place, message });
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let last_line = before.rsplit('\n').next().unwrap_or("");
        let line = before.matches('\n').count() + 1;
        Place::File { path: self.path.into(), line, column: last_line.chars().count() + 1 }
    }
}

fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.key.split_once('.').is_some_and(|(s, _)| s == name))
}

fn unknown_section(name: &str) -> String {
    let mut sections: Vec<_> =
        SETTINGS.iter().filter_map(|setting| Some(setting.key.split_once('.')?.0)).collect();
    sections.dedup();
    nearest(name).map_or_else(
        || format!("unknown section [{name}]; there are {}", sections.join(", ")),
        |_| unknown_key(name),
    )
}
