//! A message's property list in its one stored shape. It equals the AMQP 0-9-1 basic properties,
//! so that door passes bytes through untouched; other doors build theirs with [`Builder`].
//! Meaning of single headers: `engine` (x-death) and each door's `map.rs`.
//!
//! Layout: `u16` flags (big endian), then each present property in the order of the bits, bit 15
//! first. Bit 0 (continuation) must be 0. Source: AMQP 0-9-1 4.2.6.1 and 1.8.1.
//!
//! | bit | property | type | | bit | property | type |
//! |---|---|---|---|---|---|---|
//! | 15 | content-type | short | | 8 | expiration | short |
//! | 14 | content-encoding | short | | 7 | message-id | short |
//! | 13 | headers | table | | 6 | timestamp | u64 |
//! | 12 | delivery-mode | u8 | | 5 | type | short |
//! | 11 | priority | u8 | | 4 | user-id | short |
//! | 10 | correlation-id | short | | 3 | app-id | short |
//! | 9 | reply-to | short | | 2 | cluster-id | short |

use bytes::Bytes;

use crate::table;

/// The bit of each property in the flags word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Property {
    /// Short string.
    ContentType = 15,
    /// Short string.
    ContentEncoding = 14,
    /// Field table.
    Headers = 13,
    /// 1 transient, 2 persistent.
    DeliveryMode = 12,
    /// 0-255.
    Priority = 11,
    /// Short string.
    CorrelationId = 10,
    /// Short string.
    ReplyTo = 9,
    /// Short string: decimal milliseconds.
    Expiration = 8,
    /// Short string.
    MessageId = 7,
    /// Seconds since 1970.
    Timestamp = 6,
    /// Short string.
    Type = 5,
    /// Short string.
    UserId = 4,
    /// Short string.
    AppId = 3,
    /// Short string.
    ClusterId = 2,
}

/// Why a property list cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// A length points past the end.
    #[error("a property list ends inside a property")]
    Truncated,
    /// Bytes stand after the last property.
    #[error("a property list has bytes after its last property")]
    Trailing,
    /// Bits 0 or 1 are set.
    #[error("a property list has unknown flags {0:#06x}")]
    UnknownFlags(u16),
    /// The header table is malformed.
    #[error(transparent)]
    Table(#[from] table::TableError),
}

/// A checked property list, read in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Properties<'a> {
    flags: u16,
    /// Where each property's value starts and ends, by bit.
    spans: [(u32, u32); 16],
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Reads the positions of all properties and checks the header table.
    ///
    /// # Errors
    /// When the list is not exactly one well-formed property list. An empty slice is the empty
    /// list.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PropertiesError> {
        let Some((head, _)) = bytes.split_first_chunk::<2>() else {
            return if bytes.is_empty() {
                Ok(Self::default())
            } else {
                Err(PropertiesError::Truncated)
            };
        };
        let flags = u16::from_be_bytes(*head);
        if flags & 0b11 != 0 {
            return Err(PropertiesError::UnknownFlags(flags));
        }
        let mut list = Self { flags, spans: [(0, 0); 16], bytes };
        let mut at = 2_usize;
        let mut left = flags;
        while left != 0 {
            let bit = left.ilog2();
            left &= !(1 << bit);
            at = list.measure(bit, at).ok_or(PropertiesError::Truncated)?;
        }
        if at != bytes.len() {
            return Err(PropertiesError::Trailing);
        }
        if let Some(headers) = list.headers() {
            table::check(headers)?;
        }
        Ok(list)
    }

    /// Notes the span of the property `bit` whose encoding begins at `at`; returns its end.
    fn measure(&mut self, bit: u32, at: usize) -> Option<usize> {
        let rest = self.bytes.get(at..)?;
        let (prefix, length) = match bit {
            13 => {
                let (length, _) = rest.split_first_chunk::<4>()?;
                (4, usize::try_from(u32::from_be_bytes(*length)).ok()?)
            }
            12 | 11 => (0, 1),
            6 => (0, 8),
            _ => (1, usize::from(*rest.first()?)),
        };
        let start = at.checked_add(prefix)?;
        let end = start.checked_add(length)?;
        if end > self.bytes.len() {
            return None;
        }
        let span = (u32::try_from(start).ok()?, u32::try_from(end).ok()?);
        *self.spans.get_mut(usize::try_from(bit).ok()?)? = span;
        Some(end)
    }

    /// Whether the property is present.
    #[must_use]
    pub const fn has(&self, property: Property) -> bool {
        self.flags & (1 << property as u8) != 0
    }

    /// The raw value bytes of a property (without length prefix).
    #[must_use]
    pub fn get(&self, property: Property) -> Option<&'a [u8]> {
        if !self.has(property) {
            return None;
        }
        let (start, end) = self.spans.get(usize::from(property as u8))?;
        self.bytes.get(usize::try_from(*start).ok()?..usize::try_from(*end).ok()?)
    }

    /// Content of the header table.
    #[must_use]
    pub fn headers(&self) -> Option<&'a [u8]> {
        self.get(Property::Headers)
    }

    /// The value of one header.
    #[must_use]
    pub fn header(&self, name: &[u8]) -> Option<table::Value<'a>> {
        table::find(self.headers()?, name)
    }

    /// `delivery-mode`.
    #[must_use]
    pub fn delivery_mode(&self) -> Option<u8> {
        self.get(Property::DeliveryMode)?.first().copied()
    }

    /// `priority`.
    #[must_use]
    pub fn priority(&self) -> Option<u8> {
        self.get(Property::Priority)?.first().copied()
    }
}

/// Writes property lists: from nothing, or from another list with some properties replaced.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    values: [Option<Bytes>; 16],
}

impl Builder {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts from a copy of `list`.
    #[must_use]
    pub fn from_list(list: &Properties<'_>) -> Self {
        let mut builder = Self::default();
        for (bit, slot) in builder.values.iter_mut().enumerate() {
            if list.flags & (1 << bit) != 0 {
                let (start, end) = list.spans.get(bit).copied().unwrap_or_default();
                let span = start as usize..end as usize;
                *slot = list.bytes.get(span).map(Bytes::copy_from_slice);
            }
        }
        builder
    }

    /// Sets a property to raw value bytes (a table's content, a string, one byte, eight bytes).
    #[must_use]
    pub fn with(mut self, property: Property, value: impl Into<Bytes>) -> Self {
        if let Some(slot) = self.values.get_mut(usize::from(property as u8)) {
            *slot = Some(value.into());
        }
        self
    }

    /// Removes a property.
    #[must_use]
    pub fn without(mut self, property: Property) -> Self {
        if let Some(slot) = self.values.get_mut(usize::from(property as u8)) {
            *slot = None;
        }
        self
    }

    /// The finished list. Short strings are cut at 255 bytes.
    #[must_use]
    pub fn build(&self) -> Bytes {
        let mut out = vec![0, 0];
        let mut flags = 0_u16;
        for bit in (2..16_u32).rev() {
            let Some(Some(value)) = self.values.get(bit as usize) else { continue };
            flags |= 1 << bit;
            match bit {
                13 => {
                    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(value);
                }
                12 | 11 | 6 => out.extend_from_slice(value),
                _ => {
                    let text = value.get(..255).unwrap_or(value);
                    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                    out.extend_from_slice(text);
                }
            }
        }
        if let Some(head) = out.first_chunk_mut::<2>() {
            *head = flags.to_be_bytes();
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Value, put_field};

    fn sample() -> Bytes {
        let mut headers = Vec::new();
        put_field(&mut headers, b"task", Value::Text(b"add"));
        Builder::new()
            .with(Property::ContentType, &b"application/json"[..])
            .with(Property::Headers, headers)
            .with(Property::DeliveryMode, vec![2])
            .with(Property::Timestamp, 7_u64.to_be_bytes().to_vec())
            .with(Property::ReplyTo, &b"answers"[..])
            .build()
    }

    #[test]
    fn a_built_list_reads_back() {
        let bytes = sample();
        let list = Properties::parse(&bytes).unwrap();
        assert_eq!(list.get(Property::ContentType), Some(&b"application/json"[..]));
        assert_eq!(list.header(b"task"), Some(Value::Text(b"add")));
        assert_eq!(list.delivery_mode(), Some(2));
        assert_eq!(list.get(Property::Timestamp), Some(&7_u64.to_be_bytes()[..]));
        assert_eq!(list.get(Property::UserId), None);
        assert_eq!(Builder::from_list(&list).build(), bytes);
    }

    #[test]
    fn one_property_can_be_replaced() {
        let bytes = sample();
        let list = Properties::parse(&bytes).unwrap();
        let changed = Builder::from_list(&list)
            .with(Property::ReplyTo, &b"elsewhere"[..])
            .without(Property::Timestamp)
            .build();
        let list = Properties::parse(&changed).unwrap();
        assert_eq!(list.get(Property::ReplyTo), Some(&b"elsewhere"[..]));
        assert!(!list.has(Property::Timestamp));
    }

    #[test]
    fn every_cut_and_extra_byte_is_refused() {
        let bytes = sample();
        for cut in 1..bytes.len() {
            assert!(Properties::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(Properties::parse(&longer).unwrap_err(), PropertiesError::Trailing);
        assert!(matches!(Properties::parse(&[0, 1]), Err(PropertiesError::UnknownFlags(1))));
    }
}
