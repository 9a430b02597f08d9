//! [`Reader`]: checks a backup while it is read, so that a flipped bit or a missing end is found
//! before anything is made of it. Called by crate `replica` for verifying and restoring.

use std::io::{self, Read};

use blake2::digest::{FixedOutput, Update};
use model::Lsn;

use super::{BROKEN_OFF, Digest, END, END_BYTES, FILE_HEAD, HEAD, Head, MAGIC, PAYLOAD_BYTES_MAX};
use super::{RECORDS, SECTION_HEAD, STATE, Summary, VERSION, section_crc};
use crate::layout::Frame;
use crate::record::RecordRef;

/// Why a file is not a good backup.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    /// Another kind of file.
    #[error("this is not a backup of potager")]
    Foreign,
    /// Written by a newer release.
    #[error(
        "the backup has format version {found} and this release reads versions up to {known}; use \
         the release that wrote it"
    )]
    Version {
        /// The version it carries.
        found: u32,
        /// The newest version this build reads.
        known: u32,
    },
    /// The file ends before its end section.
    #[error(
        "the backup is cut off after {bytes} bytes: it was not written to its end; take another"
    )]
    Cut {
        /// Bytes that are there.
        bytes: u64,
    },
    /// Something does not verify.
    #[error("the backup is damaged at byte {offset} ({detail}); use another copy")]
    Damaged {
        /// Where the section starts that does not verify.
        offset: u64,
        /// What is wrong.
        detail: &'static str,
    },
    /// The server gave the backup up.
    #[error("the server broke the backup off: {reason}")]
    BrokenOff {
        /// What the server said.
        reason: String,
    },
    /// It cannot be read.
    #[error("could not read the backup: {0}")]
    Read(#[from] io::Error),
}

/// The next thing in a backup.
#[derive(Debug)]
pub enum Part<'a> {
    /// A piece of the owner's bytes.
    State(&'a [u8]),
    /// A record; positions rise.
    Record(RecordRef<'a>),
    /// Everything was there and verified.
    End(Summary),
}

/// See the module's head.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    head: Head,
    /// Bytes read, and where the section at hand starts.
    offset: u64,
    section_at: u64,
    chain: u32,
    digest: Digest,
    kind: u8,
    payload: Vec<u8>,
    /// How much of the payload was handed out.
    used: usize,
    last: Option<Lsn>,
    state_bytes: u64,
    records: u64,
    record_bytes: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`Unsound`]: it is no backup, or not one that this release reads.
    pub fn open(from: R) -> Result<Self, Unsound> {
        let head = Head { lsn: Lsn::ZERO, began_ms: 0 };
        let mut this = Self {
            from,
            head,
            offset: 0,
            section_at: 0,
            chain: 0,
            digest: Digest::default(),
            kind: HEAD,
            payload: Vec::new(),
            used: 0,
            last: None,
            state_bytes: 0,
            records: 0,
            record_bytes: 0,
        };
        this.file_head()?;
        this.section()?;
        let mut numbers = Numbers(&this.payload);
        let (lsn, began_ms) = (Lsn(numbers.take()), numbers.take());
        if this.kind != HEAD || this.payload.len() != 16 {
            return Err(this.damaged("the head is missing"));
        }
        this.head = Head { lsn, began_ms };
        this.used = this.payload.len();
        Ok(this)
    }

    /// What the backup says first.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The next part. After [`Part::End`] there is none.
    ///
    /// # Errors
    /// [`Unsound`]: the file must not be used.
    pub fn next_part(&mut self) -> Result<Part<'_>, Unsound> {
        let mut before = self.kind;
        while self.used >= self.payload.len() {
            if self.kind == END {
                return Err(self.damaged("something was read behind the end"));
            }
            self.section()?;
            if self.kind < before {
                return Err(self.damaged("sections are out of order"));
            }
            before = self.kind;
        }
        match self.kind {
            STATE => {
                self.used = self.payload.len();
                self.state_bytes += self.payload.len() as u64;
                Ok(Part::State(&self.payload))
            }
            RECORDS => self.record().map(Part::Record),
            END => self.end().map(Part::End),
            _ => Err(self.damaged("a section of an unknown kind")),
        }
    }

    fn file_head(&mut self) -> Result<(), Unsound> {
        let mut bytes = [0; FILE_HEAD];
        let count = self.fill(&mut bytes)?;
        let (magic, rest) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            let is_start =
                count < MAGIC.len() && MAGIC.starts_with(magic.get(..count).unwrap_or_default());
            return Err(if is_start {
                Unsound::Cut { bytes: self.offset }
            } else {
                Unsound::Foreign
            });
        }
        if count < FILE_HEAD {
            return Err(Unsound::Cut { bytes: self.offset });
        }
        let found = rest.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if found > VERSION {
            return Err(Unsound::Version { found, known: VERSION });
        }
        self.chain = crc32c::crc32c(&bytes);
        self.digest.update(&bytes);
        Ok(())
    }

    /// Reads and verifies the next section.
    fn section(&mut self) -> Result<(), Unsound> {
        self.section_at = self.offset;
        self.used = 0;
        let mut head = [0; SECTION_HEAD];
        if self.fill(&mut head)? < SECTION_HEAD {
            return Err(Unsound::Cut { bytes: self.offset });
        }
        let [length, crc, kind] = *head.as_chunks::<4>().0 else {
            return Err(self.damaged("a section has no head"));
        };
        let bytes = u32::from_le_bytes(length);
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX);
        if wanted > PAYLOAD_BYTES_MAX {
            return Err(self.damaged("a section is longer than any can be"));
        }
        self.payload.clear();
        let read = (&mut self.from).take(bytes.into()).read_to_end(&mut self.payload)?;
        self.offset += read as u64;
        if read < wanted {
            return Err(Unsound::Cut { bytes: self.offset });
        }
        let found = section_crc(self.chain, length, kind, &self.payload);
        if found != u32::from_le_bytes(crc) {
            return Err(self.damaged("a section does not verify"));
        }
        let [kind, ..] = kind;
        (self.chain, self.kind) = (found, kind);
        if kind == BROKEN_OFF {
            let reason = String::from_utf8_lossy(&self.payload).into_owned();
            return Err(Unsound::BrokenOff { reason });
        }
        if kind != END {
            self.digest.update(&head);
            self.digest.update(&self.payload);
        }
        Ok(())
    }

    fn record(&mut self) -> Result<RecordRef<'_>, Unsound> {
        let rest = self.payload.get(self.used..).unwrap_or_default();
        let entry = rest.split_first_chunk::<8>().and_then(|(lsn, rest)| {
            let lsn = Lsn(u64::from_le_bytes(*lsn));
            Frame::parse(lsn, rest).map(|(frame, after)| (frame, rest.len() - after.len()))
        });
        let Some((frame, length)) = entry.filter(|(frame, _)| frame.is_good()) else {
            return Err(self.damaged("a record does not verify"));
        };
        let lsn = frame.lsn;
        if self.last.is_some_and(|last| last >= lsn) || lsn >= self.head.lsn {
            return Err(self.damaged("a record is out of order"));
        }
        let start = self.used + (length - frame.payload.len()) + 8;
        let (kind, end) = (frame.head.kind, start + frame.payload.len());
        self.last = Some(lsn);
        self.used = end;
        self.records += 1;
        self.record_bytes += length as u64;
        let payload = self.payload.get(start..end).unwrap_or_default();
        Ok(RecordRef { lsn, kind, payload })
    }

    fn end(&mut self) -> Result<Summary, Unsound> {
        self.used = self.payload.len();
        if self.fill(&mut [0])? > 0 {
            return Err(self.damaged("there is something behind the end"));
        }
        let mut numbers = Numbers(&self.payload);
        let mut summary = Summary {
            lsn: Lsn(numbers.take()),
            state_bytes: numbers.take(),
            state_hash: numbers.take(),
            records: numbers.take(),
            record_bytes: numbers.take(),
            digest: [0; 32],
            file_bytes: self.offset,
        };
        let digest: [u8; 32] = std::mem::take(&mut self.digest).finalize_fixed().into();
        if self.payload.len() != END_BYTES || numbers.0 != digest {
            return Err(self.damaged("the digest of the file does not verify"));
        }
        summary.digest = digest;
        let found = (self.head.lsn, self.state_bytes, self.records, self.record_bytes);
        let said = (summary.lsn, summary.state_bytes, summary.records, summary.record_bytes);
        if found != said {
            return Err(self.damaged("the end counts something else than was there"));
        }
        Ok(summary)
    }

    /// Fills as much of `bytes` as there is and says how much.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, Unsound> {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.from.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    fn damaged(&self, detail: &'static str) -> Unsound {
        Unsound::Damaged { offset: self.section_at, detail }
    }
}

/// Takes numbers one after the other; zero past the end, where a length check fails anyway.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take(&mut self) -> u64 {
        let Some((bytes, rest)) = self.0.split_first_chunk::<8>() else { return 0 };
        self.0 = rest;
        u64::from_le_bytes(*bytes)
    }
}
