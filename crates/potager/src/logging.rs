//! Structured logs on standard error: text on a terminal, JSON otherwise, unless set. Escaping of
//! control characters is the subscriber's. Started once, by `commands::serve`.

use std::io::IsTerminal;

use config::{LogFormat, Logging};
use tracing_subscriber::{EnvFilter, fmt};

use crate::exit::Usage;

/// Changes the levels of the process's log.
pub(crate) type SetLevels = Box<dyn Fn(&str) -> anyhow::Result<()>>;

/// Starts logging for the process; what is returned changes its levels later.
///
/// # Errors
/// [`Usage`] for a level that cannot be read; otherwise logging was started before.
pub(crate) fn start(logging: &Logging) -> anyhow::Result<SetLevels> {
    let filter = filter_of(&logging.level)?;
    let is_terminal = std::io::stderr().is_terminal();
    let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let writer = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let (started, levels): (_, SetLevels) = if is_json(logging.format, is_terminal) {
        let writer = writer.json().flatten_event(true).with_current_span(false);
        let writer = writer.with_filter_reloading();
        let handle = writer.reload_handle();
        let set = move |levels: &str| Ok(handle.reload(filter_of(levels)?)?);
        (writer.try_init(), Box::new(set))
    } else {
        let writer = writer.with_ansi(has_colour).with_filter_reloading();
        let handle = writer.reload_handle();
        let set = move |levels: &str| Ok(handle.reload(filter_of(levels)?)?);
        (writer.try_init(), Box::new(set))
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    Ok(levels)
}

fn filter_of(levels: &str) -> Result<EnvFilter, Usage> {
    EnvFilter::try_new(levels)
        .map_err(|error| Usage(format!("logging.level {levels:?} cannot be used: {error}")))
}

fn is_json(format: LogFormat, is_terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_for_machines_unless_set() {
        assert!(is_json(LogFormat::Auto, false));
        assert!(!is_json(LogFormat::Auto, true));
        assert!(is_json(LogFormat::Json, true));
        assert!(!is_json(LogFormat::Text, false));
    }

    #[test]
    fn every_level_the_settings_accept_is_a_filter() {
        for level in ["off", "warn", "info,proto_amqp=debug", "trace"] {
            assert!(EnvFilter::try_new(level).is_ok(), "{level}");
        }
    }
}
