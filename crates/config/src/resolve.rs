//! Layers: flag over environment over file over default, with the origin of every value kept.
//! Nothing is read from the process here; the caller hands over text, so that tests need none.

use std::path::PathBuf;

use crate::{
    Place, Problem, SETTINGS, Setting, Settings, Value, file,
    problem::{nearest, unknown_key},
};

/// Everything that may set something, as text.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file, if there is one.
    pub file: Option<TextFile>,
    /// Environment variables; those that do not begin with `POTAGER_` are ignored.
    pub environment: Vec<(String, String)>,
    /// Flags as (key, value): `--amqp off` is `("amqp.listen", "off")`.
    pub flags: Vec<(String, String)>,
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct TextFile {
    /// Where from, for messages.
    pub path: PathBuf,
    /// What stands in it.
    pub text: String,
}

/// Which layer set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The table.
    Default,
    /// A file, a variable or a flag.
    Set(Place),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Set(place) => place.fmt(f),
        }
    }
}

/// One value with its origin.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// Which setting.
    pub setting: &'static Setting,
    /// Its value.
    pub value: Value,
    /// Who set it.
    pub origin: Origin,
}

/// The finished settings.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What the server runs with.
    pub settings: Settings,
    /// The same, setting by setting in table order, with origins.
    pub values: Vec<Resolution>,
    /// Worth a warning, but not wrong: variables that begin like ours and name no setting.
    pub warnings: Vec<Problem>,
}

/// Variables that begin with our prefix and are not settings.
const OTHER_VARIABLES: [&str; 2] = ["POTAGER_CONFIG", "POTAGER_PASSWORD"];
const PREFIX: &str = "POTAGER_";

/// Lays the layers over each other.
///
/// # Errors
/// Everything that is wrong in any layer, also where a higher layer would have won.
pub fn resolve(sources: &Sources) -> Result<Resolved, Vec<Problem>> {
    let mut found = match &sources.file {
        Some(file) => file::read(&file.path, &file.text),
        None => file::Found::default(),
    };
    let mut warnings = Vec::new();
    read_environment(&sources.environment, &mut found, &mut warnings);
    read_flags(&sources.flags, &mut found);
    if !found.problems.is_empty() {
        return Err(found.problems);
    }
    Ok(lay(&found.values, warnings))
}

fn read_environment(
    variables: &[(String, String)],
    found: &mut file::Found,
    warnings: &mut Vec<Problem>,
) {
    for (name, text) in variables {
        let ours = name.starts_with(PREFIX) && !OTHER_VARIABLES.contains(&name.as_str());
        if !ours {
            continue;
        }
        let place = Place::Environment(name.clone());
        match SETTINGS.iter().find(|setting| setting.variable() == *name) {
            Some(setting) => push(found, setting, text, place),
            None => warnings.push(Problem { place, message: unknown_variable(name) }),
        }
    }
}

/// A container platform may set variables for a service that happens to be called like us
/// (`POTAGER_SERVICE_HOST`), so an unknown one must not stop the server.
fn unknown_variable(name: &str) -> String {
    let key = name.trim_start_matches(PREFIX).to_ascii_lowercase().replace("__", ".");
    let meant = nearest(&key).and_then(|key| SETTINGS.iter().find(|setting| setting.key == key));
    match meant {
        Some(setting) => format!("names no setting, ignored; did you mean {}?", setting.variable()),
        None => "names no setting, ignored".into(),
    }
}

fn read_flags(flags: &[(String, String)], found: &mut file::Found) {
    for (key, text) in flags {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) {
            push(found, setting, text, Place::Flag(setting.flag_text()));
        } else {
            let place = Place::Flag(format!("--set {key}={text}"));
            found.problems.push(Problem { place, message: unknown_key(key) });
        }
    }
}

fn push(found: &mut file::Found, setting: &'static Setting, text: &str, place: Place) {
    match setting.kind.read_text(text) {
        Ok(value) => found.values.push((setting.key, value, place)),
        Err(message) => found.problems.push(Problem { place, message }),
    }
}

/// The last one to name a key wins: `found` is in rising order of precedence.
fn lay(found: &[(&'static str, Value, Place)], warnings: Vec<Problem>) -> Resolved {
    let mut settings = Settings::default();
    let values = SETTINGS.iter().filter_map(|setting| {
        let set = found.iter().rev().find(|(key, ..)| *key == setting.key);
        let (value, origin) = match set {
            Some((_, value, place)) => (value.clone(), Origin::Set(place.clone())),
            None => (setting.kind.read_text(setting.default).ok()?, Origin::Default),
        };
        (setting.put)(&mut settings, &value);
        Some(Resolution { setting, value, origin })
    });
    let values = values.collect();
    Resolved { settings, values, warnings }
}
