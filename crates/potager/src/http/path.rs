//! Paths and queries: cut at `/` first and decoded afterwards, so that `%2f` (the virtual host
//! `/`) stays one segment and `..` means nothing. Called by `route`.

use bytes::Bytes;

/// Most segments of a path that are looked at.
const SEGMENTS_MAX: usize = 8;

/// The decoded segments; `None` when an escape is broken or there are too many.
pub(super) fn segments(path: &str) -> Option<Vec<Bytes>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.split('/').count() > SEGMENTS_MAX {
        return None;
    }
    path.split('/').map(|segment| decode(segment, false)).collect()
}

/// The first value of a query parameter, decoded; `None` when it is absent or broken.
pub(super) fn parameter(query: &str, name: &str) -> Option<Bytes> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| decode(value, true)).flatten()
    })
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
        let found = segments("/api/queues/%2f/a%20b").unwrap();
        assert_eq!(found, ["api", "queues", "/", "a b"]);
        assert_eq!(segments("/api/queues/").unwrap(), ["api", "queues"]);
        assert_eq!(segments("/a/../b").unwrap(), ["a", "..", "b"], "dots have no meaning");
    }

    #[test]
    fn broken_escapes_are_refused() {
        for path in ["/%", "/%2", "/%zz", "/%+1", "/a/b/c/d/e/f/g/h/i"] {
            assert_eq!(segments(path), None, "{path}");
        }
    }

    #[test]
    fn queries() {
        assert_eq!(parameter("a=1&b=x+y%21", "b").unwrap(), "x y!");
        assert_eq!(parameter("a=1&if-empty", "if-empty").unwrap(), "");
        assert_eq!(parameter("a=1", "b"), None);
    }
}
