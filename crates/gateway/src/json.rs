//! Reading JSON that anybody may have sent: depth and surrogates are looked at in one pass
//! without recursion before `serde_json` sees it, lists have a limit while they are read, and each
//! item of a list is read alone, so that a wrong one harms no other. Called by every call.

use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Code, DEPTH_MAX, Failure, ITEMS_MAX};

/// Reads a whole body; an empty one is an empty object.
///
/// # Errors
/// It is not JSON, too deep, or not what is expected.
pub(crate) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| bad_json("the body is not UTF-8"))?;
    let text = if text.trim_ascii().is_empty() { "{}" } else { text };
    check(text).map_err(|odd| bad_json(odd.message()))?;
    serde_json::from_str(text).map_err(|error| failure(&error))
}

/// What `serde_json` says, by kind.
fn failure(error: &serde_json::Error) -> Failure {
    let code = if error.is_data() { Code::BadRequest } else { Code::BadJson };
    Failure::new(code, error.to_string())
}

fn bad_json(message: &str) -> Failure {
    Failure::new(Code::BadJson, message)
}

/// Whether a text is JSON that may be shown as it is.
pub(crate) fn is_valid(text: &str) -> bool {
    check(text).is_ok() && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// What [`check`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    /// Nested deeper than [`DEPTH_MAX`].
    Deep,
    /// Half a character: `\ud800` without its other half.
    Surrogate,
}

impl Odd {
    const fn message(self) -> &'static str {
        match self {
            Self::Deep => "the JSON is nested deeper than 64 levels",
            Self::Surrogate => "the JSON has half a surrogate pair",
        }
    }
}

/// Looks for what a JSON parser would overlook, in text that may be anything.
///
/// # Errors
/// The first such thing.
pub(crate) fn check(text: &str) -> Result<(), Odd> {
    let mut depth = 0_usize;
    let mut bytes = text.as_bytes();
    while let Some((byte, rest)) = bytes.split_first() {
        bytes = rest;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(Odd::Deep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => bytes = check_string(bytes)?,
            _ => {}
        }
    }
    Ok(())
}

/// Goes through a string; returns what is behind it.
fn check_string(mut bytes: &[u8]) -> Result<&[u8], Odd> {
    let mut is_high_open = false;
    while let Some((byte, rest)) = bytes.split_first() {
        bytes = rest;
        let mut is_high = false;
        if *byte == b'\\' {
            let escape = bytes.first().copied();
            bytes = bytes.get(1..).unwrap_or_default();
            if let (Some(b'u'), Some(unit)) = (escape, unit(bytes)) {
                bytes = bytes.get(4..).unwrap_or_default();
                let is_low = (0xDC00..0xE000).contains(&unit);
                if is_low != is_high_open {
                    return Err(Odd::Surrogate);
                }
                is_high_open = false;
                is_high = (0xD800..0xDC00).contains(&unit);
                if is_low {
                    continue;
                }
            }
        }
        if is_high_open {
            return Err(Odd::Surrogate);
        }
        if *byte == b'"' {
            return Ok(bytes);
        }
        is_high_open = is_high;
    }
    Ok(bytes)
}

/// Four hexadecimal digits.
fn unit(bytes: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(bytes.get(..4)?).ok()?;
    digits.chars().try_fold(0, |sum, digit| Some(sum * 16 + digit.to_digit(16)?))
}

/// A field that may be `null` and is then there all the same.
///
/// # Errors
/// What the parser says.
pub(crate) fn present<'de, D>(from: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: Deserializer<'de>,
{
    <&RawValue>::deserialize(from).map(Some)
}

/// One item of a list, still as text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a>(&'a str);

impl<'a> Item<'a> {
    /// # Errors
    /// It is not what is expected.
    pub(crate) fn read<T: Deserialize<'a>>(&self) -> Result<T, Failure> {
        serde_json::from_str(self.0).map_err(|error| Failure::bad(error.to_string()))
    }

    /// The item's text.
    pub(crate) const fn text(&self) -> &'a str {
        self.0
    }
}

/// A list of at most `MAX` items that are read later.
#[derive(Debug, Default)]
pub(crate) struct Items<'a, const MAX: usize = ITEMS_MAX>(Vec<Item<'a>>);

impl<'a, const MAX: usize> Items<'a, MAX> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = Item<'a>> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Items<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Take<const MAX: usize>;

        impl<'de, const MAX: usize> Visitor<'de> for Take<MAX> {
            type Value = Vec<Item<'de>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut found = Vec::new();
                while let Some(item) = list.next_element::<&RawValue>()? {
                    if found.len() == MAX {
                        return Err(serde::de::Error::invalid_length(MAX + 1, &self));
                    }
                    found.push(Item(item.get()));
                }
                Ok(found)
            }
        }

        from.deserialize_seq(Take::<MAX>).map(Items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check(&nested(DEPTH_MAX)), Ok(()));
        assert_eq!(check(&nested(DEPTH_MAX + 1)), Err(Odd::Deep));
        assert_eq!(check(&"[".repeat(1_000_000)), Err(Odd::Deep));
        assert_eq!(check(&format!("\"\\\"{}\"", nested(1000))), Ok(()));
        assert_eq!(check(&"[],".repeat(1000)), Ok(()));
    }

    #[test]
    fn half_a_character_is_found() {
        for good in
            [r#""\ud83d\ude00""#, r#""\u0041\\ud800""#, r#""\\\\""#, r#""\n\"\ud83d\ude00x""#]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800x\udc00""#,
            r#""\ud800\ud800\udc00""#,
            r#""\ud800\n""#,
            r#"["\ud800\u0041"]"#,
        ] {
            assert_eq!(check(bad), Err(Odd::Surrogate), "{bad}");
        }
    }

    #[test]
    fn a_list_has_a_limit() {
        let list = |count: usize| format!("[{}1]", "1,".repeat(count - 1));
        assert_eq!(read::<Items<'_>>(list(ITEMS_MAX).as_bytes()).unwrap().len(), ITEMS_MAX);
        let failure = read::<Items<'_>>(list(ITEMS_MAX + 1).as_bytes()).unwrap_err();
        assert_eq!(failure.code, Code::BadRequest);
        assert_eq!(read::<Items<'_, 2>>(b"[1,1]").unwrap().len(), 2);
        let failure = read::<Items<'_, 2>>(b"[1,1,1]").unwrap_err();
        assert!(failure.message.contains("at most 2 items"), "{}", failure.message);
    }

    #[test]
    fn what_is_not_json_is_told_from_what_is_not_expected() {
        let code = |body: &[u8]| read::<Items<'_>>(body).unwrap_err().code;
        assert_eq!(code(b"[1,"), Code::BadJson);
        assert_eq!(code(b"\xff"), Code::BadJson);
        assert_eq!(code(b"{}"), Code::BadRequest);
        assert_eq!(code(b"[] []"), Code::BadJson);
    }
}
