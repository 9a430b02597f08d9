//! [`Writer`]: outcomes as JSON lines, CSV or Parquet. A file appears under its name only when it
//! is whole. Not here: where outcomes come from (`run`, `manage`).

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::value::RawValue;

use super::Format;
use super::outcome::Outcome;

/// The columns of tables.
const COLUMNS: [&str; 6] = ["id", "text", "result", "error", "message", "notes"];
const SCHEMA: &str = "message outcomes {
    REQUIRED BYTE_ARRAY id (UTF8);
    OPTIONAL BYTE_ARRAY text (UTF8);
    OPTIONAL BYTE_ARRAY result (UTF8);
    OPTIONAL BYTE_ARRAY error (UTF8);
    OPTIONAL BYTE_ARRAY message (UTF8);
    OPTIONAL BYTE_ARRAY notes (UTF8);
}";
/// Rows and bytes of a row group: it is in memory until it is written.
const GROUP: (usize, usize) = (10_000, 32 << 20);

/// Writes outcomes.
pub(super) struct Writer {
    sink: Sink,
    /// The file that is written, and its name once it is whole.
    file: Option<(PathBuf, PathBuf)>,
}

enum Sink {
    Jsonl(Box<dyn Write>),
    Csv { to: Box<csv::Writer<Box<dyn Write>>>, is_raw: bool },
    Parquet { to: Box<SerializedFileWriter<File>>, rows: Vec<[Option<String>; 6]>, bytes: usize },
}

impl Writer {
    /// Begins a file. Cells of CSV that a spreadsheet would run as formulas get a `'` before them
    /// unless `is_raw`.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn create(path: &Path, format: Format, is_raw: bool) -> anyhow::Result<Self> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial);
        let file = file.with_context(|| format!("writing {}", partial.display()))?;
        let sink = if format == Format::Parquet {
            let schema = Arc::new(parse_message_type(SCHEMA)?);
            let level = Compression::ZSTD(ZstdLevel::try_new(3)?);
            let properties = WriterProperties::builder().set_compression(level).build();
            let to = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
            Sink::Parquet { to: Box::new(to), rows: Vec::new(), bytes: 0 }
        } else {
            Self::lines(Box::new(BufWriter::new(file)), format, is_raw)?
        };
        Ok(Self { sink, file: Some((partial, path.to_owned())) })
    }

    /// Writes to standard output.
    ///
    /// # Errors
    /// The format cannot be a stream.
    pub(super) fn to_stdout(format: Format, is_raw: bool) -> anyhow::Result<Self> {
        if format == Format::Parquet {
            bail!("Parquet needs a file: name one with --out");
        }
        let out = Box::new(BufWriter::new(std::io::stdout()));
        Ok(Self { sink: Self::lines(out, format, is_raw)?, file: None })
    }

    fn lines(to: Box<dyn Write>, format: Format, is_raw: bool) -> anyhow::Result<Sink> {
        if format != Format::Csv {
            return Ok(Sink::Jsonl(to));
        }
        let mut to = csv::Writer::from_writer(to);
        to.write_record(COLUMNS)?;
        Ok(Sink::Csv { to: Box::new(to), is_raw })
    }

    /// Adds one.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn add(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        match &mut self.sink {
            Sink::Jsonl(to) => {
                serde_json::to_writer(&mut *to, outcome).context("writing the output")?;
                to.write_all(b"\n").context("writing the output")
            }
            Sink::Csv { to, is_raw } => {
                let cells = cells(outcome).map(|cell| {
                    let cell = cell.unwrap_or_default();
                    if *is_raw { cell } else { harmless(cell) }
                });
                to.write_record(&cells).context("writing the output")
            }
            Sink::Parquet { to, rows, bytes } => {
                let cells = cells(outcome);
                *bytes += cells.iter().flatten().map(String::len).sum::<usize>();
                rows.push(cells);
                if rows.len() >= GROUP.0 || *bytes >= GROUP.1 {
                    *bytes = 0;
                    write_group(to, std::mem::take(rows))?;
                }
                Ok(())
            }
        }
    }

    /// Makes the file whole and gives it its name.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self.sink {
            Sink::Jsonl(mut to) => to.flush().context("writing the output")?,
            Sink::Csv { mut to, .. } => to.flush().context("writing the output")?,
            Sink::Parquet { mut to, rows, .. } => {
                if !rows.is_empty() {
                    write_group(&mut to, rows)?;
                }
                to.close().map(drop).context("writing the output")?;
            }
        }
        let Some((partial, path)) = self.file else { return Ok(()) };
        File::open(&partial)?.sync_all().context("writing the output")?;
        fs::rename(&partial, &path).with_context(|| format!("writing {}", path.display()))
    }
}

fn cells(outcome: &Outcome) -> [Option<String>; 6] {
    let error = outcome.error.as_ref();
    let text = |raw: &RawValue| raw.get().to_owned();
    [
        Some(outcome.id.clone()),
        outcome.text.clone(),
        outcome.result.as_deref().map(text),
        error.map(|error| error.class.clone()),
        error.map(|error| error.message.clone()),
        outcome.notes.as_deref().map(text),
    ]
}

/// What a spreadsheet would take for a formula becomes text for it. Numbers stay.
fn harmless(cell: String) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula && cell.parse::<f64>().is_err() { format!("'{cell}") } else { cell }
}

/// Writes one group, column by column. Level 0 is a cell without value.
fn write_group(
    to: &mut SerializedFileWriter<File>,
    mut rows: Vec<[Option<String>; 6]>,
) -> anyhow::Result<()> {
    let mut group = to.next_row_group()?;
    let mut at = 0;
    while let Some(mut column) = group.next_column()? {
        let cells = rows.iter_mut().map(|row| row.get_mut(at).and_then(Option::take));
        let cells: Vec<Option<String>> = cells.collect();
        let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
        let values: Vec<ByteArray> =
            cells.into_iter().flatten().map(|cell| ByteArray::from(cell.into_bytes())).collect();
        let levels = if at == 0 { None } else { Some(levels.as_slice()) };
        column.typed::<ByteArrayType>().write_batch(&values, levels, None)?;
        column.close()?;
        at += 1;
    }
    group.close().map(drop).context("writing the output")
}
