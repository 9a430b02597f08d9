//! Just enough of Rust's syntax to measure it: what is code, where a function ends.
//!
//! [`mask`] blanks comments and literals and keeps every line where it is, so that counting
//! braces and looking for words is honest. Not a parser: no types, no expressions. Called by
//! `tree` when a file is read and by the rules about sizes and words.

/// A function found in masked source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name.
    pub(super) name: String,
    /// The line of its `fn`, counted from 1.
    pub(super) line: usize,
    /// Lines from `fn` to the closing brace, both included.
    pub(super) length: usize,
}

/// The text with comments, strings and characters replaced by blanks, line by line the same.
pub(super) fn mask(text: &str) -> String {
    let mut cursor = Cursor { chars: text.chars().collect(), at: 0, out: String::new() };
    while let Some(c) = cursor.peek(0) {
        match (c, cursor.peek(1)) {
            ('/', Some('/')) => cursor.blank_until(|cursor| cursor.peek(0) == Some('\n')),
            ('/', Some('*')) => cursor.blank_block_comment(),
            ('"', _) => cursor.blank_string(),
            ('\'', _) => cursor.blank_char_or_keep_lifetime(),
            _ if is_word(c) => cursor.keep_word(),
            _ => cursor.keep(),
        }
    }
    cursor.out
}

/// Every function with a body in masked source, nested ones too.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some((before, after)) = split_at_fn(rest) {
        line += before.matches('\n').count();
        let name: String = after.trim_start().chars().take_while(|c| is_word(*c)).collect();
        if let Some(length) = body_lines(after).filter(|_| !name.is_empty()) {
            found.push(Function { name, line, length });
        }
        rest = after;
    }
    found
}

/// Lines of production code: those before an inline test module, else all.
pub(super) fn production_lines(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let is_inline_module = |at: usize| {
        lines
            .iter()
            .skip(at + 1)
            .find(|line| !line.is_empty() && !line.starts_with("#["))
            .is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    let starts_tests =
        |(at, line): &(usize, &&str)| **line == "#[cfg(test)]" && is_inline_module(*at);
    lines.iter().enumerate().find(starts_tests).map_or(lines.len(), |(at, _)| at)
}

/// Whether `word` stands in `code` with no letter, digit or `_` beside it.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        let after = code.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Whether this character can stand inside a name.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text up to the next keyword `fn`, and the text behind it.
fn split_at_fn(code: &str) -> Option<(&str, &str)> {
    code.match_indices("fn").find_map(|(at, _)| {
        let (before, after) = (code.get(..at)?, code.get(at + 2..)?);
        let is_keyword = !before.chars().next_back().is_some_and(is_word)
            && after.chars().next().is_some_and(char::is_whitespace);
        is_keyword.then_some((before, after))
    })
}

/// Lines to the end of the body of the function whose name comes next; `None` without a body.
fn body_lines(after_fn: &str) -> Option<usize> {
    let mut lines = 1;
    let mut braces = 0_usize;
    let mut brackets = 0_usize;
    for c in after_fn.chars() {
        match c {
            '\n' => lines += 1,
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' if braces <= 1 => return (braces == 1).then_some(lines),
            '}' => braces -= 1,
            _ => {}
        }
    }
    None
}

/// A place in a text, and what was made of the part before it.
struct Cursor {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Cursor {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn keep(&mut self) {
        self.out.extend(self.peek(0));
        self.at += 1;
    }

    fn blank(&mut self) {
        if let Some(c) = self.peek(0) {
            self.out.push(if c == '\n' { '\n' } else { ' ' });
        }
        self.at += 1;
    }

    fn blank_until(&mut self, is_end: impl Fn(&Self) -> bool) {
        while self.peek(0).is_some() && !is_end(self) {
            self.blank();
        }
    }

    fn blank_block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.blank();
                    continue;
                }
            }
            self.blank();
            self.blank();
            if depth == 0 {
                return;
            }
        }
    }

    /// Blanks `"..."` with its escapes.
    fn blank_string(&mut self) {
        self.blank();
        while let Some(c) = self.peek(0) {
            self.blank();
            match c {
                '\\' => self.blank(),
                '"' => return,
                _ => {}
            }
        }
    }

    /// Blanks `'x'` and `'\n'`, keeps the `'` of a lifetime.
    fn blank_char_or_keep_lifetime(&mut self) {
        if self.peek(1) == Some('\\') {
            for _ in 0..3 {
                self.blank();
            }
            self.blank_until(|cursor| cursor.peek(0) == Some('\''));
            self.blank();
        } else if self.peek(2) == Some('\'') {
            for _ in 0..3 {
                self.blank();
            }
        } else {
            self.keep();
        }
    }

    /// Keeps a name or number; behind an `r` or `br` that opens one, blanks a raw string.
    fn keep_word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(is_word) {
            self.keep();
        }
        let word: String = self.chars.iter().take(self.at).skip(start).collect();
        if matches!(word.as_str(), "r" | "br" | "cr") {
            let hashes = self.chars.iter().skip(self.at).take_while(|c| **c == '#').count();
            if self.peek(hashes) == Some('"') {
                self.blank_raw_string(hashes);
            }
        }
    }

    fn blank_raw_string(&mut self, hashes: usize) {
        for _ in 0..=hashes {
            self.blank();
        }
        let is_closed = |cursor: &Self| {
            cursor.peek(0) == Some('"') && (1..=hashes).all(|n| cursor.peek(n) == Some('#'))
        };
        self.blank_until(is_closed);
        for _ in 0..=hashes {
            self.blank();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_keeps_lines_and_blanks_comments_and_literals() {
        let text =
            "let a = \"{ // \\\" }\"; // fn x() {\nlet b = '{'; /* { /* } */\n} */ let c = '\\'';";
        let masked = mask(text);
        assert_eq!(masked.lines().count(), text.lines().count());
        assert!(!masked.contains(['{', '}', '"', '/']), "{masked}");
        assert!(masked.contains("let a ="), "{masked}");
        assert!(masked.contains("let c ="), "{masked}");
    }

    #[test]
    fn masking_knows_raw_strings_lifetimes_and_raw_names() {
        let masked = mask(r##"fn f<'a>(r#type: &'a str) { let s = br#"} " }"#; } fn g() {}"##);
        assert!(masked.contains("<'a>(r#type: &'a str) {"), "{masked}");
        assert_eq!(masked.matches('}').count(), 2, "{masked}");
        assert_eq!(functions(&masked).len(), 2, "{masked}");
    }

    #[test]
    fn functions_are_measured_with_their_signature() {
        let text = [
            "fn one() {}",
            "trait T {",
            "    fn two(&self) -> [u8; 2];",
            "}",
            "async fn three<F>(",
            "    work: F,",
            ")",
            "where",
            "    F: Fn(&str) -> bool,",
            "{",
            "    fn four() {",
            "    }",
            "}",
        ];
        let found = functions(&mask(&text.join("\n")));
        let flat: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.length)).collect();
        assert_eq!(flat, [("one", 1, 1), ("three", 5, 9), ("four", 11, 2)]);
    }

    #[test]
    fn a_pointer_to_a_function_is_not_one() {
        assert_eq!(functions("type Work = fn (u8) -> u8;\nlet x: fn(&str) = y;"), []);
    }

    #[test]
    fn production_ends_at_an_inline_test_module() {
        let inline = "one\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests {\n}\n";
        assert_eq!(production_lines(inline), 1);
        assert_eq!(production_lines("#[cfg(test)]\nmod tests;\ntwo\nthree\n"), 4);
        assert_eq!(production_lines("#[cfg(test)]\nfn only_in_tests() {\n}\n"), 3);
    }

    #[test]
    fn words_have_borders() {
        assert!(has_word("use tokio::net;", "tokio"));
        assert!(!has_word("use tokio_util;", "tokio"));
        assert!(!has_word("", "tokio"));
    }
}
