//! The house's rules as tests: one per rule over the real checkout, and the verdict itself.
//!
//! That each rule finds what it is for is tested beside the rule, on planted violations. Here:
//! that the checkout as it stands breaks none, so that `cargo test` alone says so.

use std::sync::LazyLock;

use super::*;

static CHECKOUT: LazyLock<Tree> =
    LazyLock::new(|| Tree::read(&Workspace::find().unwrap()).unwrap());

fn assert_holds(name: &str) {
    let rules: Vec<Rule> = RULES
        .iter()
        .filter(|rule| rule.name == name)
        .map(|rule| Rule { name: rule.name, check: rule.check })
        .collect();
    assert_eq!(rules.len(), 1, "no rule called {name}");
    let own = EXCEPTIONS.iter().filter(|known| known.rule == name);
    let own: Vec<Exception> = own.map(Exception::clone).collect();
    let verdict = judge(&CHECKOUT, &rules, &own);
    let lines = verdict.iter().map(|(_, finding)| format!("{}: {}", finding.place, finding.what));
    assert!(verdict.is_empty(), "\n{}", lines.collect::<Vec<_>>().join("\n"));
}

macro_rules! one_test_per_rule {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                assert_holds(stringify!($name));
            }
        )*
    };
}

mod rule {
    use super::assert_holds;

    one_test_per_rule! {
        arrows guards lock_size lock_contents reasons unused_dependencies file_size function_size
        line_length heads names licences leftovers endless_channels foreign_text clippy_files
        engine_bans codec_lint links reachable_pages promises
    }

    #[test]
    fn every_rule_has_its_test() {
        let names: Vec<_> = super::RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(TESTED, names);
    }
}

#[test]
fn every_exception_names_a_rule_and_a_reason() {
    for known in EXCEPTIONS {
        assert!(RULES.iter().any(|rule| rule.name == known.rule), "{}", known.rule);
        assert!(known.reason.len() > 20, "{}: {}", known.rule, known.place);
    }
}

#[test]
fn an_exception_silences_its_own_place_only() {
    let tree = Tree::planted(&[("a.rs", ""), ("b.rs", "")]);
    let known = Exception { rule: "heads", place: "a.rs", reason: "planted" };
    let rules = [Rule { name: "heads", check: files::heads }];
    let places: Vec<_> =
        judge(&tree, &rules, &[known]).into_iter().map(|(_, finding)| finding.place).collect();
    assert_eq!(places, ["b.rs"]);
}

#[test]
fn a_stale_exception_is_found() {
    let known = Exception { rule: "heads", place: "gone.rs", reason: "planted" };
    let rules = [Rule { name: "heads", check: files::heads }];
    let verdict = judge(&Tree::default(), &rules, &[known]);
    assert_eq!(verdict.len(), 1);
    assert!(verdict[0].1.what.starts_with("stale exception"));
}
