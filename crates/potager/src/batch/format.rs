//! [`Format`]: what a file of rows is written in. Not here: reading (`read`), writing (`write`).

use std::path::Path;

use crate::exit::Usage;

/// What a file is written in. Its variants have no doc comments: they would double every help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    // One JSON object in each line
    Jsonl,
    // Comma-separated values, the first line names the columns
    Csv,
    // Apache Parquet
    Parquet,
}

impl Format {
    /// The one that is said, or that of the file's ending.
    ///
    /// # Errors
    /// The ending is not known.
    pub(crate) fn of(path: &Path, said: Option<Self>) -> Result<Self, Usage> {
        if let Some(format) = said {
            return Ok(format);
        }
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            Some("csv") => Ok(Self::Csv),
            Some("parquet" | "pq") => Ok(Self::Parquet),
            _ => Err(Usage(format!(
                "{}: the ending says no format; name one with --format jsonl, csv or parquet",
                path.display()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_the_format_unless_somebody_does() {
        let of = |path: &str| Format::of(Path::new(path), None).ok();
        assert_eq!(of("a.JSONL"), Some(Format::Jsonl));
        assert_eq!(of("a.csv"), Some(Format::Csv));
        assert_eq!(of("a.b.parquet"), Some(Format::Parquet));
        assert_eq!((of("a.txt"), of("a")), (None, None));
        let said = Format::of(Path::new("a.txt"), Some(Format::Csv)).ok();
        assert_eq!(said, Some(Format::Csv));
    }
}
