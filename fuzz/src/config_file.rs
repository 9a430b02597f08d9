//! Any text as a configuration file, with flags and variables over it: every outcome is settings
//! or problems that name a place inside the text; never a panic.

use config::{Place, SETTINGS, Sources, TextFile, resolve};

use crate::source::Source;

/// Choices of flags and variables first, then the file.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let mut sources = Sources::default();
    for _ in 0..source.below(3) {
        let key = SETTINGS[source.below(SETTINGS.len())].key;
        let value = String::from_utf8_lossy(source.bytes(24)).into_owned();
        if source.is() {
            sources.flags.push((key.to_owned(), value));
        } else {
            let name = format!("POTAGER_{}", key.replace('.', "_").to_uppercase());
            sources.environment.push((name, value));
        }
    }
    let text = String::from_utf8_lossy(source.rest()).into_owned();
    let lines = text.split('\n').count();
    sources.file = Some(TextFile { path: "potager.toml".into(), text });
    match resolve(&sources) {
        Ok(resolved) => assert_eq!(resolved.values.len(), SETTINGS.len()),
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.message.is_empty());
                if let Place::File { line, column, .. } = problem.place {
                    assert!((1..=lines).contains(&line) && column >= 1, "{line}:{column}");
                }
            }
        }
    }
}
