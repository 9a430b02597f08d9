//! [`Template`]: a text with `{column}` in it, filled from a row. `{{` and `}}` are braces.
//! Not here: what the text becomes (`recipe`).

use serde_json::{Map, Value};

use crate::exit::Usage;

/// A text with columns in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Column(String),
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// A brace has no partner, or names nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, Usage> {
        let wrong = |what: &str| {
            Usage(format!("the template {what}; a column is {{name}}, a brace itself {{{{ or }}}}"))
        };
        let (mut parts, mut plain) = (Vec::new(), String::new());
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    plain.push(c);
                }
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some('}') => break,
                            Some('{') | None => return Err(wrong("has a '{' without its '}'")),
                            Some(c) => name.push(c),
                        }
                    }
                    let name = name.trim().to_owned();
                    if name.is_empty() {
                        return Err(wrong("has an empty {}"));
                    }
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                    parts.push(Part::Column(name));
                }
                '}' => return Err(wrong("has a '}' without its '{'")),
                c => plain.push(c),
            }
        }
        parts.push(Part::Text(plain));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { parts })
    }

    /// Fills it. Values in it are not looked at again: a `{` in a cell is a `{`.
    ///
    /// # Errors
    /// The row has no such column; the text says which it has.
    pub(crate) fn fill(&self, row: &Map<String, Value>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Column(name) => match row.get(name) {
                    Some(value) => text.push_str(&shown(value)),
                    None => return Err(missing(name, row)),
                },
            }
        }
        Ok(text)
    }
}

/// A cell as text: strings as they are, nothing for null, JSON for the rest.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// That a column is missing, and what there is.
pub(super) fn missing(name: &str, row: &Map<String, Value>) -> String {
    let known: Vec<&str> = row.keys().map(String::as_str).take(20).collect();
    format!("there is no column '{name}'; there are: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: &str, row: &Value) -> Result<String, String> {
        Template::parse(template).unwrap().fill(row.as_object().unwrap())
    }

    #[test]
    fn columns_are_filled_once() {
        let row = json!({"a": "x{b}", "b": 1.5, "c d": null, "e": [1, "z"]});
        assert_eq!(fill("<{a}|{ b }|{c d}|{e}>", &row).unwrap(), "<x{b}|1.5||[1,\"z\"]>");
        assert_eq!(fill("{{a}} }}{{ {{{a}}}", &row).unwrap(), "{a} }{ {x{b}}");
        assert_eq!(fill("", &row).unwrap(), "");
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_are_there() {
        let error = fill("{nope}", &json!({"a": 1, "b": 2})).unwrap_err();
        assert!(error.contains("'nope'") && error.contains("a, b"), "{error}");
    }

    #[test]
    fn braces_without_partner_are_refused() {
        for wrong in ["{", "}", "{a", "a}", "{}", "{ }", "{a{b}}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
