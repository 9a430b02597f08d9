//! Rules about size: production lines per file, lines per function, columns per line.
//!
//! Not here: how the lines are counted (`rust`), arguments per function (clippy does that).

use super::tree::{SourceFile, Tree};
use super::{Finding, rust};

/// Production lines of a file above which it fails.
const FILE_LINES_MAX: usize = 800;

/// Production lines of a file above which it is worth a note.
const FILE_LINES_NOTED: usize = 500;

/// Lines of a function, signature included.
const FUNCTION_LINES_MAX: usize = 70;

/// Columns of a line of Rust.
const LINE_COLUMNS_MAX: usize = 100;

/// Files above the limit.
pub(super) fn files(tree: &Tree) -> Vec<Finding> {
    above(tree, FILE_LINES_MAX)
}

/// Files that are on their way to the limit.
pub(super) fn large_files(tree: &Tree) -> Vec<Finding> {
    above(tree, FILE_LINES_NOTED)
}

/// Functions above the limit, tests included.
pub(super) fn functions(tree: &Tree) -> Vec<Finding> {
    tree.rust_files().flat_map(functions_of).collect()
}

/// Lines above the limit; one with an address in it cannot be broken and passes.
pub(super) fn lines(tree: &Tree) -> Vec<Finding> {
    tree.rust_files().flat_map(lines_of).collect()
}

fn above(tree: &Tree, most: usize) -> Vec<Finding> {
    tree.rust_files()
        .filter(|file| !file.is_test())
        .map(|file| (file, rust::production_lines(&file.code)))
        .filter(|(_, lines)| *lines > most)
        .map(|(file, lines)| {
            Finding::new(&file.path, format!("{lines} production lines, above {most}"))
        })
        .collect()
}

fn functions_of(file: &SourceFile) -> Vec<Finding> {
    let mut found = rust::functions(&file.code);
    found.retain(|function| function.length > FUNCTION_LINES_MAX);
    let finding = |function: rust::Function| {
        let rust::Function { name, line, length } = function;
        let what = format!("{length} lines from line {line}, at most {FUNCTION_LINES_MAX}");
        Finding::new(format!("{}#{name}", file.path), what)
    };
    found.into_iter().map(finding).collect()
}

fn lines_of(file: &SourceFile) -> Vec<Finding> {
    let is_long =
        |line: &str| line.chars().count() > LINE_COLUMNS_MAX && !line.contains(concat!(":", "//"));
    let numbered = file.text.lines().enumerate().filter(|(_, line)| is_long(line));
    numbered
        .map(|(at, _)| {
            let what = format!("line {} is longer than {LINE_COLUMNS_MAX} columns", at + 1);
            Finding::new(&file.path, what)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planted(path: &str, text: &str) -> Tree {
        Tree::planted(&[(path, text)])
    }

    #[test]
    fn a_long_file_is_found_but_not_its_tests() {
        let code = "let x = 1;\n".repeat(FILE_LINES_MAX);
        let path = "crates/wire/src/long.rs";
        assert_eq!(files(&planted(path, &code)), []);
        assert_eq!(files(&planted(path, &format!("{code}let y = 1;\n"))).len(), 1);
        let with_tests = format!("{code}#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(files(&planted(path, &with_tests)), []);
        assert_eq!(files(&planted("crates/wire/src/tests.rs", &code.repeat(2))), []);
        assert_eq!(large_files(&planted(path, &code)).len(), 1);
    }

    #[test]
    fn a_long_function_is_found_by_name() {
        let body = "    work();\n".repeat(FUNCTION_LINES_MAX - 2);
        let path = "crates/wire/src/long.rs";
        assert_eq!(functions(&planted(path, &format!("fn fits() {{\n{body}}}\n"))), []);
        let found = functions(&planted(path, &format!("fn long() {{\n\n{body}}}\n")));
        assert_eq!(found[0].place, "crates/wire/src/long.rs#long");
    }

    #[test]
    fn a_long_line_is_found_unless_it_holds_an_address() {
        let path = "crates/wire/src/wide.rs";
        assert_eq!(lines(&planted(path, &"x".repeat(LINE_COLUMNS_MAX))), []);
        assert_eq!(lines(&planted(path, &"x".repeat(LINE_COLUMNS_MAX + 1))).len(), 1);
        let address = format!("// https://{}", "x".repeat(LINE_COLUMNS_MAX));
        assert_eq!(lines(&planted(path, &address)), []);
    }
}
