//! The table as text: the commented default file and the reference page. Both are generated, and
//! a test compares the page that is checked in.

use std::fmt::Write;

use crate::{SETTINGS, Setting};

const PAGE_HEAD: &str = "\
# Settings

Generated from the table in `crates/config/src/table.rs`; `potager config reference` prints it.
Whoever is new here begins with the [quick start](quickstart.md).

A setting is looked for in this order, and the first hit wins: flag, environment, file, default.

* **File**: TOML, named by `--config FILE` or `POTAGER_CONFIG`. A key that does not exist is an
  error with its line and column. `potager config default` prints a commented file to begin with,
  `potager check-config FILE` checks one.
* **Environment**: `POTAGER_` and the key in capitals, with two underscores for the dot:
  `amqp.listen` is `POTAGER_AMQP__LISTEN`. An unknown name is warned about and ignored.
* **Flag**: the few that have their own are named below; every other is
  `--set key=value`, which may stand more than once.
* `potager config explain` shows each value that is in force and who set it.

Settings that take effect while running are read again on SIGHUP (`systemctl reload potager`):
all of them when the file is good, none when it is not. What needs a restart is named in the log.

Numbers of bytes take `KiB`, `MiB` and `GiB`: `\"64 MiB\"`.

";

/// The reference page, as it stands in `docs/operate/settings.md`.
#[must_use]
pub fn reference_page() -> String {
    let mut page = PAGE_HEAD.to_owned();
    let mut section = None;
    for setting in SETTINGS {
        if section != Some(setting.section()) {
            section = Some(setting.section());
            let title = if setting.section().is_empty() { "server" } else { setting.section() };
            page.push_str("## ");
            page.push_str(title);
            page.push_str("\n\n");
        }
        describe(&mut page, setting);
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn describe(page: &mut String, setting: &Setting) {
    let default = match setting.default {
        "" => "none".to_owned(),
        text => format!("`{text}`"),
    };
    let when = if setting.is_reloadable { "while running" } else { "at the next start" };
    // Writing to a String cannot fail.
    write!(
        page,
        "**`{}`**: {}\n\n* {}; default {default}; takes effect {when}\n* `{}`, `{}`\n\n",
        setting.key,
        setting.doc,
        setting.kind.expects(),
        setting.variable(),
        setting.flag_text(),
    )
    .unwrap_or_default();
}

/// A configuration file with every setting, commented out at its default.
#[must_use]
pub fn default_file() -> String {
    let mut file = String::from(
        "# Potager's settings. Everything here is a default: remove the # to change it.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        if section != setting.section() {
            section = setting.section();
            writeln!(file, "\n[{section}]").unwrap_or_default();
        }
        let value = setting.kind.read_text(setting.default).ok();
        let value = value.and_then(|value| value.to_toml()).unwrap_or_else(|| "\"\"".into());
        let expects = setting.kind.expects();
        writeln!(file, "\n# {}\n# {expects}", setting.doc).unwrap_or_default();
        writeln!(file, "#{} = {value}", setting.name()).unwrap_or_default();
    }
    file
}

impl Setting {
    /// The part before the dot; empty for settings that have none.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }
}
