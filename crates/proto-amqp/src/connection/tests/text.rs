//! Frames as text and back, by the kinds in `table::METHODS` alone: the transcripts' language, and
//! a second codec to hold the first one against.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use model::table::{self, Value};
use wire::Cursor;

use crate::{
    codec,
    table::{Entry, Kind, METHODS},
};

/// `0 connection.open virtual_host="/"`, `1 header size=3 properties=0000`, `1 body "abc"`,
/// `heartbeat`, `hex 0102` -> bytes.
pub(super) fn frame(line: &str) -> Vec<u8> {
    let mut words = Words { rest: line };
    let mut out = BytesMut::new();
    let first = words.word();
    match first.as_str() {
        "heartbeat" => codec::put_heartbeat(&mut out),
        "hex" => return unhex(words.rest),
        "text" => return words.string(),
        _ => {
            let channel = first.parse().unwrap_or_else(|_| panic!("no channel in {line:?}"));
            let name = words.word();
            match name.as_str() {
                "header" => put_header(&mut out, channel, &mut words),
                "body" => {
                    let body = words.string();
                    codec::put_frame(&mut out, codec::BODY, channel, |out| out.put_slice(&body));
                }
                _ => put_method(&mut out, channel, &name, &mut words),
            }
        }
    }
    out.to_vec()
}

fn put_header(out: &mut BytesMut, channel: u16, words: &mut Words<'_>) {
    let (mut size, mut properties) = (0_u64, vec![0, 0]);
    while let Some((name, value)) = words.argument() {
        match name.as_str() {
            "size" => size = value.parse().unwrap(),
            "properties" => properties = unhex(&value),
            other => panic!("header has no {other}"),
        }
    }
    codec::put_frame(out, codec::HEADER, channel, |out| {
        out.put_u16(60);
        out.put_u16(0);
        out.put_u64(size);
        out.put_slice(&properties);
    });
}

fn put_method(out: &mut BytesMut, channel: u16, name: &str, words: &mut Words<'_>) {
    let entry = METHODS.iter().find(|entry| entry.name == name);
    let entry = entry.unwrap_or_else(|| panic!("no method {name}"));
    let mut given = Vec::new();
    while let Some(argument) = words.argument() {
        let known = entry.arguments.iter().any(|(name, _)| *name == argument.0);
        assert!(known, "{name} has no argument {}", argument.0);
        given.push(argument);
    }
    let values = entry.arguments.iter().map(|(name, _)| {
        given.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.as_str())
    });
    let payload = payload(entry, &values.collect::<Vec<_>>());
    codec::put_frame(out, codec::METHOD, channel, |out| out.put_slice(&payload));
}

/// Class, method and arguments, by the table alone.
pub(super) fn payload(entry: &Entry, values: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u16(entry.class);
    out.put_u16(entry.method);
    let mut bits: Option<(usize, u8)> = None;
    for ((_, kind), value) in entry.arguments.iter().zip(values) {
        if *kind == Kind::bit {
            let (at, used) = bits.filter(|(_, used)| *used < 8).unwrap_or_else(|| {
                out.push(0);
                (out.len() - 1, 0)
            });
            out[at] |= u8::from(*value == "true") << used;
            bits = Some((at, used + 1));
            continue;
        }
        bits = None;
        let number = || if value.is_empty() { 0 } else { value.parse::<u64>().unwrap() };
        match kind {
            Kind::octet => out.put_u8(u8::try_from(number()).unwrap()),
            Kind::short => out.put_u16(u16::try_from(number()).unwrap()),
            Kind::long => out.put_u32(u32::try_from(number()).unwrap()),
            Kind::longlong => out.put_u64(number()),
            Kind::shortstr => {
                let text = unescape(value);
                out.put_u8(u8::try_from(text.len()).unwrap());
                out.put_slice(&text);
            }
            Kind::longstr => {
                let text = unescape(value);
                out.put_u32(u32::try_from(text.len()).unwrap());
                out.put_slice(&text);
            }
            Kind::table => {
                let content = table_content(&mut Words { rest: value.trim_matches(['{', '}']) });
                out.put_u32(u32::try_from(content.len()).unwrap());
                out.put_slice(&content);
            }
            Kind::bit => {}
        }
    }
    out
}

/// `name=I:5 other=S:"x" flag=t:true inner=F:{..}`; arrays are `A:[S:"x" I:1]`.
fn table_content(words: &mut Words<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((name, value)) = words.argument() {
        out.push(u8::try_from(name.len()).unwrap());
        out.extend_from_slice(name.as_bytes());
        put_value(&mut out, &value);
    }
    out
}

fn put_value(out: &mut Vec<u8>, text: &str) {
    let (tag, value) = text.split_once(':').unwrap_or((text, ""));
    let number = || value.parse::<i64>().unwrap_or_else(|_| panic!("no number in {text}"));
    out.push(tag.as_bytes()[0]);
    match tag {
        "t" => out.push(u8::from(value == "true")),
        "b" | "B" => out.push(number().to_be_bytes()[7]),
        "s" | "u" => out.extend_from_slice(&number().to_be_bytes()[6..]),
        "I" | "i" => out.extend_from_slice(&number().to_be_bytes()[4..]),
        "l" | "L" | "T" => out.extend_from_slice(&number().to_be_bytes()),
        "d" => out.extend_from_slice(&value.parse::<f64>().unwrap().to_be_bytes()),
        "S" | "x" => put_long(out, &unescape(value)),
        "F" => {
            put_long(out, &table_content(&mut Words { rest: value.trim_matches(['{', '}']) }));
        }
        "A" => {
            let mut words = Words { rest: value.trim_matches(['[', ']']) };
            let mut content = Vec::new();
            loop {
                let item = words.word();
                if item.is_empty() {
                    break;
                }
                put_value(&mut content, &item);
            }
            put_long(out, &content);
        }
        "V" => {}
        other => panic!("no value tag {other}"),
    }
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap());
    out.extend_from_slice(bytes);
}

/// Whole frames as lines; what is no frame stands as `raw`.
pub(super) fn lines(mut bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let Ok(Some(head)) = codec::peek(bytes, u32::MAX) else {
            lines.push(format!("raw {}", escape(bytes)));
            break;
        };
        let payload = head.payload(bytes);
        lines.push(match head.kind {
            codec::METHOD => method_line(head.channel, payload),
            codec::HEADER => {
                let header = codec::content_header(payload).unwrap();
                let properties = hex(header.properties);
                format!("{} header size={} properties={properties}", head.channel, header.body_size)
            }
            codec::BODY => format!("{} body {}", head.channel, escape(payload)),
            codec::HEARTBEAT => "heartbeat".to_owned(),
            kind => format!("frame of type {kind}"),
        });
        bytes = &bytes[head.total()..];
    }
    lines
}

fn method_line(channel: u16, payload: &[u8]) -> String {
    let mut cursor = Cursor::new(payload);
    let id = (cursor.u16().unwrap(), cursor.u16().unwrap());
    let entry = crate::table::entry(id.0, id.1).unwrap();
    let mut line = format!("{channel} {}", entry.name);
    let mut bits: Option<(u8, u8)> = None;
    for (name, kind) in entry.arguments {
        if *kind == Kind::bit {
            let (byte, used) =
                bits.filter(|(_, used)| *used < 8).unwrap_or_else(|| (cursor.u8().unwrap(), 0));
            bits = Some((byte, used + 1));
            if byte >> used & 1 == 1 {
                write!(line, " {name}").unwrap();
            }
            continue;
        }
        bits = None;
        let value = match kind {
            Kind::octet => cursor.u8().unwrap().to_string(),
            Kind::short => cursor.u16().unwrap().to_string(),
            Kind::long => cursor.u32().unwrap().to_string(),
            Kind::longlong => cursor.u64().unwrap().to_string(),
            Kind::shortstr => escape(cursor.short_string().unwrap()),
            Kind::longstr => escape(cursor.long_string().unwrap()),
            Kind::table => format!("{{{}}}", table_text(cursor.long_string().unwrap())),
            Kind::bit => String::new(),
        };
        write!(line, " {name}={value}").unwrap();
    }
    assert!(cursor.rest().is_empty(), "{line} has bytes left");
    line
}

/// The fields of a table, without their exact integer types.
pub(super) fn table_text(content: &[u8]) -> String {
    table::check(content).unwrap();
    let fields = table::fields(content);
    let texts = fields.map(|(name, value)| {
        let value = match value {
            Value::Text(text) => escape(text),
            Value::Table(inner) => format!("{{{}}}", table_text(inner)),
            other => format!("{other:?}"),
        };
        format!("{}={value}", String::from_utf8_lossy(name))
    });
    texts.collect::<Vec<_>>().join(" ")
}

pub(super) fn escape(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

/// The bytes of a quoted or bare word.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next().unwrap() {
            b'x' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'0' => out.push(0),
            other => out.push(other),
        }
    }
    out
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Splits a line at blanks outside quotes and brackets.
pub(super) struct Words<'a> {
    pub(super) rest: &'a str,
}

impl Words<'_> {
    /// The next word with its quotes; empty at the end.
    pub(super) fn word(&mut self) -> String {
        let text = self.rest.trim_start();
        let (mut depth, mut is_quoted, mut is_escaped) = (0_i32, false, false);
        let end = text.char_indices().find(|(_, letter)| {
            match letter {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                '{' | '[' if !is_quoted => depth += 1,
                '}' | ']' if !is_quoted => depth -= 1,
                ' ' if !is_quoted && depth == 0 => return true,
                _ => {}
            }
            false
        });
        let (word, rest) = text.split_at(end.map_or(text.len(), |(at, _)| at));
        let word = word.to_owned();
        self.rest = &self.rest[self.rest.len() - rest.len()..];
        word
    }

    /// The bytes of the next word.
    pub(super) fn string(&mut self) -> Vec<u8> {
        unescape(&self.word())
    }

    /// The next number.
    pub(super) fn number<T: std::str::FromStr>(&mut self) -> T {
        let word = self.word();
        word.parse().unwrap_or_else(|_| panic!("{word:?} is not a number"))
    }

    /// `name=value`, or `name` alone for `true`.
    pub(super) fn argument(&mut self) -> Option<(String, String)> {
        let word = self.word();
        if word.is_empty() {
            return None;
        }
        let (name, value) = word.split_once('=').unwrap_or((&word, "true"));
        Some((name.to_owned(), value.to_owned()))
    }
}
