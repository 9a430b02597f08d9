//! Rules about pages: every relative link leads somewhere, every page can be reached.
//!
//! Not here: links to other hosts, which no test of ours asks. A link is `](target)` outside of
//! code; a `#heading` in it is checked as well.

use std::collections::BTreeSet;

use super::Finding;
use super::rust::is_word;
use super::tree::{SourceFile, Tree};

/// Relative links that lead nowhere.
pub(super) fn links(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for page in tree.pages() {
        for link in relative_links(page) {
            if let Some(what) = broken(tree, page, &link) {
                found.push(Finding::new(&page.path, format!("link `{link}`: {what}")));
            }
        }
    }
    found
}

/// Pages under `docs/` to which no chain of links leads from a page in the root.
pub(super) fn reachable(tree: &Tree) -> Vec<Finding> {
    let roots = tree.pages().filter(|page| !page.path.contains('/'));
    let mut waiting: Vec<&SourceFile> = roots.collect();
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    while let Some(page) = waiting.pop() {
        if reached.insert(&page.path) {
            let targets = relative_links(page).into_iter();
            let targets = targets.filter_map(|link| resolve(&page.path, without_heading(&link)));
            waiting.extend(targets.filter_map(|path| tree.file(&path)));
        }
    }
    let docs = tree.pages().filter(|page| page.path.starts_with("docs/"));
    let lost = docs.filter(|page| !reached.contains(page.path.as_str()));
    lost.map(|page| Finding::new(&page.path, "no page links to it")).collect()
}

fn broken(tree: &Tree, page: &SourceFile, link: &str) -> Option<&'static str> {
    let file = without_heading(link);
    let Some(path) = resolve(&page.path, file) else { return Some("leaves the repository") };
    if !path.is_empty() && !tree.paths.contains(&path) {
        return Some("no such file");
    }
    let (_, heading) = link.split_once('#')?;
    let target = tree.file(&path).filter(|target| target.is_page())?;
    (!headings(&target.text).contains(heading)).then_some("no such heading")
}

fn without_heading(link: &str) -> &str {
    link.split_once('#').map_or(link, |(file, _)| file)
}

/// The targets of a page's links, without those to other hosts.
fn relative_links(page: &SourceFile) -> Vec<String> {
    let text = without_code(&page.text);
    let behind = text.split("](").skip(1);
    let targets = behind.filter_map(|rest| rest.split_once(')'));
    let targets = targets.filter_map(|(target, _)| target.split_whitespace().next());
    let is_relative = |target: &&str| !target.contains(':');
    targets.filter(is_relative).map(str::to_owned).collect()
}

/// The page without fenced blocks and without what stands between back-ticks.
fn without_code(text: &str) -> String {
    let mut kept = String::new();
    let mut is_fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            kept.extend(line.split('`').step_by(2));
            kept.push('\n');
        }
    }
    kept
}

/// A link's path from the root of the repository; `None` when it leaves that.
fn resolve(page: &str, link: &str) -> Option<String> {
    if link.is_empty() {
        return Some(page.to_owned());
    }
    let mut names: Vec<&str> = page.split('/').collect();
    names.pop();
    for name in link.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            _ => names.push(name),
        }
    }
    Some(names.join("/"))
}

/// The anchors that GitHub makes of a page's headings.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = text.lines().filter(|line| line.starts_with('#'));
    titles.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| is_word(*c) || matches!(c, ' ' | '-'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(found: Vec<Finding>) -> Vec<String> {
        found.into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_dead_link_is_found() {
        let tree = Tree::planted(&[
            ("README.md", "[a](docs/a.md) [host](https://example.org) `[b](gone.md)`"),
            ("docs/a.md", "[up](../README.md#the-house) [folder](../docs/) [gone](b.md)"),
            ("docs/c.md", "# The `c`, at last\n[here](#the-c-at-last) [not](#nowhere)"),
            ("docs/d.md", "```\n[x](gone.md)\n```\n[out](../../x.md)"),
        ]);
        let found = links(&tree);
        let what: Vec<_> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            what,
            [
                "link `../README.md#the-house`: no such heading",
                "link `b.md`: no such file",
                "link `#nowhere`: no such heading",
                "link `../../x.md`: leaves the repository",
            ]
        );
    }

    #[test]
    fn a_page_that_nothing_leads_to_is_found() {
        let tree = Tree::planted(&[
            ("README.md", "[a](docs/a.md)"),
            ("docs/a.md", "[b](internals/b.md#part)"),
            ("docs/internals/b.md", "[a](../a.md)"),
            ("docs/internals/lost.md", "[b](b.md) [other](lost-too.md)"),
            ("docs/internals/lost-too.md", ""),
        ]);
        let lost = ["docs/internals/lost.md", "docs/internals/lost-too.md"];
        assert_eq!(places(reachable(&tree)), lost);
    }
}
