//! [`Cursor`]: reads integers and slices from the front of a byte slice, never past its end.
//! Field tables are `model::table`'s; frames are each door's `codec.rs`.

/// Input ended before the value did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("input ends inside a value")]
pub struct Short;

/// A reading position in a slice. All integers are big endian.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`Short`] when there are fewer; nothing is consumed then. So for all methods here.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Short)?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Short`].
    pub fn u8(&mut self) -> Result<u8, Short> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`Short`].
    pub fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`Short`].
    pub fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`Short`].
    pub fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_be_bytes)
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`Short`].
    pub fn slice(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(Short)?;
        self.rest = tail;
        Ok(head)
    }

    /// A string with one length byte.
    ///
    /// # Errors
    /// [`Short`].
    pub fn short_string(&mut self) -> Result<&'a [u8], Short> {
        let mut ahead = *self;
        let length = usize::from(ahead.u8()?);
        let text = ahead.slice(length)?;
        *self = ahead;
        Ok(text)
    }

    /// A string or table content with four length bytes.
    ///
    /// # Errors
    /// [`Short`].
    pub fn long_string(&mut self) -> Result<&'a [u8], Short> {
        let mut ahead = *self;
        let length = usize::try_from(ahead.u32()?).map_err(|_| Short)?;
        let text = ahead.slice(length)?;
        *self = ahead;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_never_past_the_end() {
        let mut cursor = Cursor::new(b"\x01\x00\x02\x03abc\x00\x00\x00\x02xyz");
        assert_eq!(cursor.u8(), Ok(1));
        assert_eq!(cursor.u16(), Ok(2));
        assert_eq!(cursor.short_string(), Ok(&b"abc"[..]));
        assert_eq!(cursor.long_string(), Ok(&b"xy"[..]));
        assert_eq!(cursor.u32(), Err(Short));
        assert_eq!(cursor.rest(), b"z");
        assert_eq!(Cursor::new(b"\x05abc").short_string(), Err(Short));
    }
}
