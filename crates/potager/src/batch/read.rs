//! [`Rows`]: reads rows one by one from JSON lines, CSV or Parquet. A row that cannot be read is
//! an item of its own with its line, and the next one follows. Not here: what becomes of rows.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, anyhow};
use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use serde_json::{Map, Value};

use super::Format;

/// Longest line of a file, and largest row: a call to the server has at most 20 MiB.
pub(super) const ROW_BYTES_MAX: usize = 16 << 20;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Its columns by name.
    pub(super) columns: Map<String, Value>,
    /// Its JSON as it was written, where it was.
    pub(super) text: Option<String>,
}

/// A row that cannot be read or used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadRow {
    /// Its line in the file, counted from one; in Parquet its number.
    pub(super) line: u64,
    pub(super) why: String,
}

/// The rows of a file, in its order.
pub(super) struct Rows {
    source: Source,
}

enum Source {
    Jsonl { from: BufReader<File>, line: u64 },
    Csv { from: csv::Reader<BufReader<File>>, columns: Vec<String> },
    Parquet { from: RowIter<'static>, line: u64 },
}

impl Rows {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be read, or is not of its format at all.
    pub(super) fn open(path: &Path, format: Format) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
        let what = || format!("{} cannot be read as {format:?}", path.display());
        let source = match format {
            Format::Jsonl => Source::Jsonl { from: BufReader::new(file), line: 0 },
            Format::Csv => {
                let mut from = csv::Reader::from_reader(BufReader::new(file));
                let columns = from.headers().with_context(what)?;
                let columns: Vec<String> = columns.iter().map(str::to_owned).collect();
                if let Some(first) = first_twice(&columns) {
                    return Err(anyhow!("two columns are called '{first}'")).with_context(what);
                }
                Source::Csv { from, columns }
            }
            Format::Parquet => {
                let reader = SerializedFileReader::new(file).with_context(what)?;
                Source::Parquet { from: RowIter::from_file_into(Box::new(reader)), line: 0 }
            }
        };
        Ok(Self { source })
    }

    /// The next row, and its line; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read on.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(u64, Result<Row, BadRow>)>> {
        match &mut self.source {
            Source::Jsonl { from, line } => next_jsonl(from, line),
            Source::Csv { from, columns } => next_csv(from, columns),
            Source::Parquet { from, line } => {
                let Some(row) = from.next() else { return Ok(None) };
                *line += 1;
                let value = row.with_context(|| format!("row {line}"))?.to_json_value();
                let row = object(value, None).map_err(|why| BadRow { line: *line, why });
                Ok(Some((*line, row)))
            }
        }
    }
}

fn first_twice(columns: &[String]) -> Option<&String> {
    let mut seen = std::collections::HashSet::new();
    columns.iter().find(|column| !seen.insert(*column))
}

/// Empty lines are passed over.
fn next_jsonl(
    from: &mut BufReader<File>,
    line: &mut u64,
) -> anyhow::Result<Option<(u64, Result<Row, BadRow>)>> {
    loop {
        let mut bytes = Vec::new();
        let most = u64::try_from(ROW_BYTES_MAX)?;
        let count = from.by_ref().take(most).read_until(b'\n', &mut bytes)?;
        if count == 0 {
            return Ok(None);
        }
        *line += 1;
        let bad = |why: String| Ok(Some((*line, Err(BadRow { line: *line, why }))));
        if count == ROW_BYTES_MAX && !bytes.ends_with(b"\n") {
            from.skip_until(b'\n')?;
            return bad(format!("the line is longer than {ROW_BYTES_MAX} bytes"));
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { return bad("it is not UTF-8".into()) };
        // A byte order mark at the beginning, as some programs write it.
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        let value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => return bad(error.to_string()),
        };
        let row = object(value, Some(text.to_owned()));
        return Ok(Some((*line, row.map_err(|why| BadRow { line: *line, why }))));
    }
}

fn next_csv(
    from: &mut csv::Reader<BufReader<File>>,
    columns: &[String],
) -> anyhow::Result<Option<(u64, Result<Row, BadRow>)>> {
    let mut record = csv::StringRecord::new();
    let begin = from.position().line();
    match from.read_record(&mut record) {
        Ok(false) => Ok(None),
        Ok(true) => {
            let line = record.position().map_or(begin, csv::Position::line);
            if record.as_slice().len() > ROW_BYTES_MAX {
                let why = format!("the row is longer than {ROW_BYTES_MAX} bytes");
                return Ok(Some((line, Err(BadRow { line, why }))));
            }
            let cells = record.iter().map(Value::from);
            let columns = columns.iter().cloned().zip(cells).collect();
            Ok(Some((line, Ok(Row { columns, text: None }))))
        }
        Err(error) if matches!(error.kind(), csv::ErrorKind::Io(_)) => Err(error.into()),
        Err(error) => {
            let line = error.position().map_or(begin, csv::Position::line);
            Ok(Some((line, Err(BadRow { line, why: error.to_string() }))))
        }
    }
}

fn object(value: Value, text: Option<String>) -> Result<Row, String> {
    if let Value::Object(columns) = value {
        return Ok(Row { columns, text });
    }
    let start: String = value.to_string().chars().take(40).collect();
    Err(format!("a JSON object is expected, not {start}"))
}
