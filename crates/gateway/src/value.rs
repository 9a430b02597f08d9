//! Values that travel in JSON: as JSON, as text or in base64, and back. Whichever it was, the
//! bytes and the media type are what every other door sees. Header tables of messages, too.

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use model::limits::{TABLE_BYTES_MAX, TABLE_DEPTH_MAX, TABLE_ENTRIES_MAX};
use model::table::{self, Value as Field};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::answer::{JSON, Object, quoted};
use crate::{Failure, json};

/// Longest media type in bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// A value as it was sent.
pub(crate) struct Sent<'a> {
    pub(crate) body: Option<&'a RawValue>,
    pub(crate) text: Option<String>,
    pub(crate) base64: Option<String>,
    pub(crate) content_type: Option<String>,
}

impl Sent<'_> {
    /// Its bytes (slices of `whole` where they can be) and its media type.
    ///
    /// # Errors
    /// There is none, or more than one, or it cannot be read.
    pub(crate) fn take(self, whole: &Bytes) -> Result<(Bytes, Bytes), Failure> {
        let (bytes, kind) = match (self.body, self.text, self.base64) {
            (Some(body), None, None) => (part(whole, body.get()), JSON),
            (None, Some(text), None) => (Bytes::from(text), "text/plain"),
            (None, None, Some(text)) => {
                let decoded = Base64::decode_vec(&text);
                let wrong = |_| Failure::bad("'base64' cannot be decoded");
                (Bytes::from(decoded.map_err(wrong)?), "application/octet-stream")
            }
            _ => {
                let text = "exactly one of 'body', 'text' and 'base64' must be there";
                return Err(Failure::bad(text));
            }
        };
        let kind = match self.content_type {
            None => Bytes::from_static(kind.as_bytes()),
            Some(kind) => content_type(kind)?,
        };
        Ok((bytes, kind))
    }
}

/// # Errors
/// It is longer than short strings are, or could not stand in a header.
fn content_type(kind: String) -> Result<Bytes, Failure> {
    let is_plain = kind.bytes().all(|byte| (b' '..0x7f).contains(&byte));
    if kind.is_empty() || kind.len() > CONTENT_TYPE_BYTES_MAX || !is_plain {
        let text = "'content_type' must have 1 to 255 printable ASCII characters";
        return Err(Failure::bad(text));
    }
    Ok(kind.into())
}

/// A text that stands in `whole`, without a copy.
pub(crate) fn part(whole: &Bytes, text: &str) -> Bytes {
    let start = text.as_ptr().addr().checked_sub(whole.as_ptr().addr());
    let range = start.and_then(|start| Some((start, start.checked_add(text.len())?)));
    match range {
        Some((start, end)) if end <= whole.len() => whole.slice(start..end),
        _ => Bytes::copy_from_slice(text.as_bytes()),
    }
}

/// Writes a value into an object.
pub(crate) fn put(object: &mut Object, content_type: &[u8], value: &[u8]) {
    let text = std::str::from_utf8(value).ok();
    match text {
        Some(text) if is_json(content_type) && json::is_valid(text) => {
            // Between tokens a line end is a space; inside of strings there is none.
            let text = text.trim_ascii();
            if text.contains(['\n', '\r']) {
                object.raw("body", &text.replace(['\n', '\r'], " "));
            } else {
                object.raw("body", text);
            }
        }
        Some(text) => object.text("text", text),
        None => object.text("base64", &Base64::encode_string(value)),
    }
    object.bytes("content_type", content_type);
}

/// Source: RFC 6838 4.2.8 for the suffix.
fn is_json(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    let kind = kind.trim_ascii().to_ascii_lowercase();
    kind == JSON.as_bytes() || kind.ends_with(b"+json")
}

/// The header table of a message, from a JSON object of texts, numbers and booleans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers(Vec<u8>);

impl Headers {
    /// `None` when there are none.
    pub(crate) fn into_table(self) -> Option<Bytes> {
        (!self.0.is_empty()).then(|| self.0.into())
    }
}

/// A number keeps its kind: with a fraction or an exponent it is a float.
#[derive(serde::Deserialize)]
#[serde(untagged, expecting = "a header must be a text, a number or a boolean")]
enum Scalar {
    Flag(bool),
    Whole(i64),
    Float(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Take;

        impl<'de> Visitor<'de> for Take {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of texts, numbers and booleans")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let wrong = |text: String| serde::de::Error::custom(text);
                let mut out = Vec::new();
                let mut seen = std::collections::BTreeSet::new();
                while let Some((name, value)) = map.next_entry::<String, Scalar>()? {
                    if name.is_empty() || name.len() > usize::from(u8::MAX) {
                        return Err(wrong("the name of a header must have 1 to 255 bytes".into()));
                    }
                    table::put_field(
                        &mut out,
                        name.as_bytes(),
                        match &value {
                            Scalar::Flag(is) => Field::Bool(*is),
                            Scalar::Whole(number) => Field::Int(*number),
                            Scalar::Float(number) if is_whole(*number) => {
                                return Err(wrong("a header's number is too large".into()));
                            }
                            Scalar::Float(number) => Field::Float(*number),
                            Scalar::Text(text) => Field::Text(text.as_bytes()),
                        },
                    );
                    if !seen.insert(name) {
                        return Err(wrong("a header stands there twice".into()));
                    }
                    if out.len() > TABLE_BYTES_MAX || seen.len() > TABLE_ENTRIES_MAX {
                        return Err(wrong("there are too many headers".into()));
                    }
                }
                Ok(out)
            }
        }

        from.deserialize_map(Take).map(Headers)
    }
}

/// Beyond this a float stands for many whole numbers: one that was meant is lost.
fn is_whole(number: f64) -> bool {
    number.abs() >= 9e15 && number.fract() == 0.0
}

/// A header table as a JSON object; nothing is deeper than [`TABLE_DEPTH_MAX`].
pub(crate) fn headers(content: &[u8]) -> String {
    object(content, TABLE_DEPTH_MAX)
}

fn object(content: &[u8], depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "null".to_owned() };
    let mut object = Object::new();
    let mut seen = std::collections::BTreeSet::new();
    for (name, field) in table::fields(content) {
        // A second one of a name would make JSON that parsers disagree about.
        if seen.insert(name) {
            object.raw(&String::from_utf8_lossy(name), &scalar(&field, depth));
        }
    }
    object.end()
}

fn scalar(field: &Field<'_>, depth: usize) -> String {
    match *field {
        Field::Bool(is) => is.to_string(),
        Field::Int(number) => number.to_string(),
        Field::Uint(number) | Field::Timestamp(number) => number.to_string(),
        Field::Float(number) => {
            serde_json::to_string(&number).unwrap_or_else(|_| "null".to_owned())
        }
        Field::Decimal(scale, number) => quoted(&format!("{number}e-{scale}")),
        Field::Text(bytes) | Field::Bytes(bytes) => quoted(&String::from_utf8_lossy(bytes)),
        Field::Array(content) => {
            let Some(depth) = depth.checked_sub(1) else { return "null".to_owned() };
            let items: Vec<_> = table::items(content).map(|item| scalar(&item, depth)).collect();
            format!("[{}]", items.join(","))
        }
        Field::Table(content) => object(content, depth),
        Field::Void => "null".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: &str, value: &[u8]) -> String {
        let mut object = Object::new();
        put(&mut object, kind.as_bytes(), value);
        object.end()
    }

    #[test]
    fn a_value_is_shown_as_what_it_is() {
        let json = |value: &[u8]| shown("application/json; charset=utf-8", value);
        assert!(json(b" {\"a\":\n1e400} ").starts_with(r#"{"body":{"a": 1e400},"#));
        assert!(json(b"{\"a\"").starts_with(r#"{"text":"{\"a\"","#));
        assert!(json(b"\"\\ud800\"").starts_with(r#"{"text":"#));
        assert!(json("[".repeat(100_000).as_bytes()).starts_with(r#"{"text":"#));
        assert!(shown("text/plain", b"1").starts_with(r#"{"text":"1","#));
        assert!(shown("image/svg+xml", b"1").starts_with(r#"{"text":"1","#));
        assert!(shown("application/vnd.x+json", b"1").starts_with(r#"{"body":1,"#));
        assert_eq!(shown("", b"\xff"), r#"{"base64":"/w==","content_type":""}"#);
    }

    fn table_of(text: &str) -> Result<String, String> {
        let headers: Result<Headers, _> = serde_json::from_str(text);
        let headers = headers.map_err(|error| error.to_string())?;
        Ok(super::headers(&headers.0))
    }

    #[test]
    fn headers_go_there_and_back() {
        let text = r#"{"a":"x","b":1,"c":-2.5,"d":true,"e":9223372036854775807}"#;
        assert_eq!(table_of(text).unwrap(), text);
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":[]}"#,
            r#"{"a":null}"#,
            r#"{"":1}"#,
            "[]",
            "1",
            r#"{"a":18446744073709551615}"#,
            r#"{"a":1e400}"#,
            r#"{"a":"\ud800"}"#,
        ] {
            assert!(table_of(bad).is_err(), "{bad}");
        }
        let long = format!("{{\"{}\":1}}", "x".repeat(256));
        assert!(table_of(&long).is_err());
    }

    #[test]
    fn a_deep_table_is_cut() {
        let mut inner = Vec::new();
        for _ in 0..2 * TABLE_DEPTH_MAX {
            let mut outer = Vec::new();
            table::put_field(&mut outer, b"t", Field::Table(&inner));
            inner = outer;
        }
        assert!(json::is_valid(&headers(&inner)));
    }

    #[test]
    fn a_part_of_the_whole_is_no_copy() {
        let whole = Bytes::from_static(b"abcdef");
        let text = std::str::from_utf8(&whole[2..4]).unwrap();
        assert_eq!(part(&whole, text).as_ptr(), whole[2..].as_ptr());
        assert_eq!(part(&whole, "elsewhere"), "elsewhere");
    }
}
