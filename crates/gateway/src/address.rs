//! Paths and queries: cut first and decoded afterwards, so that `%2f` stays one segment and `..`
//! means nothing. Called by `route`.

use bytes::Bytes;

use crate::{Failure, fields};

/// Most segments of a path that are looked at.
const SEGMENTS_MAX: usize = 8;

/// The decoded segments of a path.
///
/// # Errors
/// An escape is broken, or there are too many.
pub(crate) fn segments(path: &str) -> Result<Vec<Bytes>, Failure> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.split('/').count() > SEGMENTS_MAX {
        return Err(Failure::new(crate::Code::NotFound, "there is no such path"));
    }
    let decoded: Option<_> = path.split('/').map(|segment| decode(segment, false)).collect();
    decoded.ok_or_else(|| Failure::bad("the path has a broken percent escape"))
}

/// The parameters of a query, each of which must be known and stand there once.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(Bytes, Bytes)>);

impl Query {
    /// # Errors
    /// An unknown parameter, a second one, or a broken escape.
    pub(crate) fn parse(query: &str, known: &[&str]) -> Result<Self, Failure> {
        let mut found: Vec<(Bytes, Bytes)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name, true), decode(value, true)) else {
                return Err(Failure::bad("the query has a broken percent escape"));
            };
            let shown = String::from_utf8_lossy(&name).into_owned();
            if name != "vhost" && !known.iter().any(|known| name == known) {
                return Err(Failure::bad(format!("unknown parameter '{shown}'")));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(Failure::bad(format!("the parameter '{shown}' stands there twice")));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    pub(crate) fn get(&self, name: &str) -> Option<Bytes> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    }

    /// A decimal number.
    ///
    /// # Errors
    /// It is none, or too large.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = std::str::from_utf8(&value).unwrap_or_default();
        let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_decimal);
        number.map(Some).ok_or_else(|| Failure::bad(format!("'{name}' must be a whole number")))
    }

    /// A number within limits, or the default.
    ///
    /// # Errors
    /// It is none, or outside.
    pub(crate) fn within(
        &self,
        name: &str,
        (least, most): (u32, u32),
        default: u32,
    ) -> Result<u32, Failure> {
        let Some(number) = self.number(name)? else { return Ok(default) };
        fields::within(name, number, (least, most))
    }
}

/// Undoes percent-encoding; `+` is a space in queries only.
fn decode(text: &str, is_query: bool) -> Option<Bytes> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if is_query => b' ',
            byte => byte,
        });
    }
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_slash_stays_in_its_segment() {
        assert_eq!(segments("/work/v1/results/a%2fb/").unwrap(), ["work", "v1", "results", "a/b"]);
        assert_eq!(segments("/a/../b").unwrap(), ["a", "..", "b"], "dots have no meaning");
        assert_eq!(segments("/a/%00").unwrap(), ["a", "\0"]);
    }

    #[test]
    fn broken_escapes_are_refused() {
        for path in ["/%", "/%2", "/%zz", "/%+1", "/a/b/c/d/e/f/g/h/i"] {
            assert!(segments(path).is_err(), "{path}");
        }
        assert!(Query::parse("after=%", &["after"]).is_err());
    }

    #[test]
    fn a_query_has_known_names_once() {
        let query = Query::parse("vhost=%2f&after=7&prefix=a+b%21&", &["after", "prefix"]).unwrap();
        assert_eq!(query.get("vhost").unwrap(), "/");
        assert_eq!(query.get("prefix").unwrap(), "a b!");
        assert_eq!(query.number("after").unwrap(), Some(7));
        assert_eq!(query.within("most", (1, 9), 5).unwrap(), 5);
        assert!(query.within("after", (1, 6), 5).is_err());
        assert!(Query::parse("a=1", &["after"]).is_err());
        assert!(Query::parse("vhost=a&vhost=b", &[]).is_err());
        for odd in ["after=", "after=-1", "after=+1", "after=1e3", "after=99999999999999999999"] {
            let query = Query::parse(odd, &["after"]).unwrap();
            assert!(query.number("after").is_err(), "{odd}");
        }
    }
}
