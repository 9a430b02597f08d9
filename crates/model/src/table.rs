//! Field tables: the name-value lists of arguments and headers, in the one shape that clients
//! send and the log stores. Reading never recurses and never allocates. Which arguments mean
//! what is each door's `map.rs`; the property list around a header table is [`crate::properties`].
//!
//! Layout of a table's content (its own `u32` length stands before it and is not part of it):
//!
//! | size | type | meaning |
//! |---|---|---|
//! | 1 | u8 | length of the name |
//! | n | bytes | name |
//! | 1 | u8 | tag, see [`Value`] |
//! | .. | by tag | value |
//!
//! An array's content is the same without names. Source: AMQP 0-9-1 4.2.5.5, with the tags that
//! `RabbitMQ` and its clients really use (`RabbitMQ` "Protocol errata").

use crate::limits::{TABLE_DEPTH_MAX, TABLE_ENTRIES_MAX};

/// One value of a table or array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `t`: boolean.
    Bool(bool),
    /// `b s I l`: signed integers of 8, 16, 32, 64 bits; also read from `L`.
    Int(i64),
    /// `B u i`: unsigned integers of 8, 16, 32 bits.
    Uint(u64),
    /// `f d`: floating point of 32 or 64 bits.
    Float(f64),
    /// `D`: decimal, scale and unscaled value.
    Decimal(u8, i32),
    /// `S`: long string; any bytes.
    Text(&'a [u8]),
    /// `x`: byte array.
    Bytes(&'a [u8]),
    /// `A`: array content, read with [`items`].
    Array(&'a [u8]),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`: table content, read with [`fields`].
    Table(&'a [u8]),
    /// `V`: no value.
    Void,
}

impl<'a> Value<'a> {
    /// The number, whichever integer type carries it.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::Int(value) => Some(value),
            Self::Uint(value) => i64::try_from(value).ok(),
            Self::Bool(_)
            | Self::Float(_)
            | Self::Decimal(..)
            | Self::Text(_)
            | Self::Bytes(_)
            | Self::Array(_)
            | Self::Timestamp(_)
            | Self::Table(_)
            | Self::Void => None,
        }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&'a [u8]> {
        if let Self::Text(text) = *self { Some(text) } else { None }
    }
}

/// Why a table cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A length points past the end.
    #[error("a field table ends inside a value")]
    Truncated,
    /// The tag is not one we know.
    #[error("a field table has a value of unknown type {0:#04x}")]
    UnknownTag(u8),
    /// Nested deeper than [`TABLE_DEPTH_MAX`].
    #[error("a field table is nested deeper than {TABLE_DEPTH_MAX} levels")]
    TooDeep,
    /// More entries than [`TABLE_ENTRIES_MAX`].
    #[error("a field table has more than {TABLE_ENTRIES_MAX} entries")]
    TooManyEntries,
}

/// Checks a whole table, nested ones included, without recursion.
///
/// # Errors
/// The first thing that is wrong. After `Ok`, [`fields`] yields every entry.
pub fn check(content: &[u8]) -> Result<(), TableError> {
    let mut ends = [(0_usize, false); TABLE_DEPTH_MAX];
    let mut depth = 0_usize;
    let mut end = content.len();
    let mut is_table = true;
    let mut at = 0_usize;
    let mut entries = 0_usize;
    loop {
        while at == end {
            let Some(outer) = depth.checked_sub(1) else { return Ok(()) };
            depth = outer;
            (end, is_table) = ends.get(outer).copied().ok_or(TableError::TooDeep)?;
        }
        entries += 1;
        if entries > TABLE_ENTRIES_MAX {
            return Err(TableError::TooManyEntries);
        }
        let mut rest = content.get(at..end).ok_or(TableError::Truncated)?;
        if is_table {
            take_short(&mut rest).ok_or(TableError::Truncated)?;
        }
        let value = take_value(&mut rest)?;
        at = end - rest.len();
        if let Value::Table(inner) | Value::Array(inner) = value {
            *ends.get_mut(depth).ok_or(TableError::TooDeep)? = (end, is_table);
            depth += 1;
            end = at;
            at -= inner.len();
            is_table = matches!(value, Value::Table(_));
        }
    }
}

/// The entries of a table; stops at the first thing it cannot read (see [`check`]).
#[must_use]
pub const fn fields(content: &[u8]) -> Fields<'_> {
    Fields { rest: content }
}

/// The values of an array; stops at the first thing it cannot read.
#[must_use]
pub const fn items(content: &[u8]) -> Items<'_> {
    Items { rest: content }
}

/// The value of the first entry with this name.
#[must_use]
pub fn find<'a>(content: &'a [u8], name: &[u8]) -> Option<Value<'a>> {
    fields(content).find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Iterator of [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = take_short(&mut self.rest)?;
        let value = take_value(&mut self.rest).ok()?;
        Some((name, value))
    }
}

/// Iterator of [`items`].
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        take_value(&mut self.rest).ok()
    }
}

/// Appends one entry. Names longer than 255 bytes are cut; values longer than 4 GiB cannot occur.
pub fn put_field(out: &mut Vec<u8>, name: &[u8], value: Value<'_>) {
    let name = name.get(..usize::from(u8::MAX)).unwrap_or(name);
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name);
    put_value(out, value);
}

/// Appends one value with its tag: an item of an array. Integers get the 64-bit tag `l`.
pub fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Bool(is) => out.extend_from_slice(&[b't', u8::from(is)]),
        Value::Int(number) => put_tagged(out, b'l', &number.to_be_bytes()),
        Value::Uint(number) => {
            put_tagged(out, b'l', &i64::try_from(number).unwrap_or(i64::MAX).to_be_bytes());
        }
        Value::Float(number) => put_tagged(out, b'd', &number.to_be_bytes()),
        Value::Decimal(scale, number) => {
            put_tagged(out, b'D', &[scale]);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Text(bytes) => put_long(out, b'S', bytes),
        Value::Bytes(bytes) => put_long(out, b'x', bytes),
        Value::Array(bytes) => put_long(out, b'A', bytes),
        Value::Timestamp(seconds) => put_tagged(out, b'T', &seconds.to_be_bytes()),
        Value::Table(bytes) => put_long(out, b'F', bytes),
        Value::Void => out.push(b'V'),
    }
}

fn put_tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn put_long(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    put_tagged(out, tag, &length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [length] = take::<1>(rest)?;
    let (head, tail) = rest.split_at_checked(usize::from(length))?;
    *rest = tail;
    Some(head)
}

fn take_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_be_bytes(take(rest)?)).ok()?;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn take_value<'a>(rest: &mut &'a [u8]) -> Result<Value<'a>, TableError> {
    let [tag] = take::<1>(rest).ok_or(TableError::Truncated)?;
    let value = match tag {
        b'S' => take_long(rest).map(Value::Text),
        b't' => take::<1>(rest).map(|byte| Value::Bool(byte != [0])),
        b'b' => take(rest).map(|bytes| Value::Int(i64::from(i8::from_be_bytes(bytes)))),
        b'B' => take(rest).map(|bytes| Value::Uint(u64::from(u8::from_be_bytes(bytes)))),
        b's' => take(rest).map(|bytes| Value::Int(i64::from(i16::from_be_bytes(bytes)))),
        b'u' => take(rest).map(|bytes| Value::Uint(u64::from(u16::from_be_bytes(bytes)))),
        b'I' => take(rest).map(|bytes| Value::Int(i64::from(i32::from_be_bytes(bytes)))),
        b'i' => take(rest).map(|bytes| Value::Uint(u64::from(u32::from_be_bytes(bytes)))),
        b'l' | b'L' => take(rest).map(|bytes| Value::Int(i64::from_be_bytes(bytes))),
        b'f' => take(rest).map(|bytes| Value::Float(f64::from(f32::from_be_bytes(bytes)))),
        b'd' => take(rest).map(|bytes| Value::Float(f64::from_be_bytes(bytes))),
        b'D' => take_decimal(rest),
        b'x' => take_long(rest).map(Value::Bytes),
        b'A' => take_long(rest).map(Value::Array),
        b'T' => take(rest).map(|bytes| Value::Timestamp(u64::from_be_bytes(bytes))),
        b'F' => take_long(rest).map(Value::Table),
        b'V' => Some(Value::Void),
        _ => return Err(TableError::UnknownTag(tag)),
    };
    value.ok_or(TableError::Truncated)
}

fn take_decimal<'a>(rest: &mut &[u8]) -> Option<Value<'a>> {
    let [scale] = take::<1>(rest)?;
    Some(Value::Decimal(scale, i32::from_be_bytes(take(rest)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_comes_back() {
        let values = [
            Value::Bool(true),
            Value::Int(-7),
            Value::Float(1.5),
            Value::Decimal(2, -150),
            Value::Text(b"text"),
            Value::Bytes(b"\0\xFF"),
            Value::Timestamp(1 << 40),
            Value::Void,
        ];
        let mut array = Vec::new();
        for value in values {
            put_value(&mut array, value);
        }
        let mut table = Vec::new();
        put_field(&mut table, b"list", Value::Array(&array));
        put_field(&mut table, b"n", Value::Uint(9));
        assert_eq!(check(&table), Ok(()));
        let Some(Value::Array(content)) = find(&table, b"list") else { panic!("no list") };
        assert_eq!(items(content).collect::<Vec<_>>(), values);
        assert_eq!(find(&table, b"n"), Some(Value::Int(9)));
    }

    #[test]
    fn depth_is_limited_and_costs_no_stack() {
        for (depth, expected) in [
            (TABLE_DEPTH_MAX, Ok(())),
            (TABLE_DEPTH_MAX + 1, Err(TableError::TooDeep)),
            (3_000, Err(TableError::TooDeep)),
        ] {
            let mut table = Vec::new();
            for _ in 0..depth {
                let mut outer = Vec::new();
                put_field(&mut outer, b"", Value::Table(&table));
                table = outer;
            }
            assert_eq!(check(&table), expected, "depth {depth}");
        }
    }

    #[test]
    fn a_cut_anywhere_is_truncated() {
        let mut inner = Vec::new();
        put_field(&mut inner, b"k", Value::Text(b"value"));
        let mut table = Vec::new();
        put_field(&mut table, b"inner", Value::Table(&inner));
        for cut in 1..table.len() {
            assert!(check(&table[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn too_many_entries_and_unknown_tags_are_refused() {
        let mut table = Vec::new();
        for _ in 0..=TABLE_ENTRIES_MAX {
            put_field(&mut table, b"k", Value::Void);
        }
        assert_eq!(check(&table), Err(TableError::TooManyEntries));
        assert_eq!(check(b"\x01kZ"), Err(TableError::UnknownTag(b'Z')));
    }
}
