//! Exit codes, and what is printed when a command fails. Documented in
//! `docs/operate/exit-codes.md` and at the end of `potager --help`.

use std::{io, process::ExitCode};

use replica::Startup;

use crate::output;

/// The exit codes, one line each, for the end of the help.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  failed; the message says what to do next
  2  the command line or a setting is wrong
  3  storage fault: the log cannot be trusted or written";

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const STORAGE: u8 = 3;

/// The command line or a setting is wrong: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Prints an error with its causes to standard error and picks the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    if error.is::<output::Closed>() || causes.any(|e| e.kind() == io::ErrorKind::BrokenPipe) {
        // The reader of our output went away (`potager ... | head`): nothing went wrong.
        return ExitCode::SUCCESS;
    }
    output::note(&format!("error: {error:#}"));
    ExitCode::from(code_of(error))
}

fn code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Usage>() {
            return USAGE;
        }
        match (cause.downcast_ref::<journal::Fault>(), cause.downcast_ref::<Startup>()) {
            (Some(fault), _) | (None, Some(Startup::Journal(fault))) => {
                return code_of_fault(fault);
            }
            (None, Some(Startup::Read { .. } | Startup::Engine(_))) => return STORAGE,
            (None, None) => {}
        }
    }
    FAILED
}

/// A directory that another process uses is no fault of the storage.
const fn code_of_fault(fault: &journal::Fault) -> u8 {
    if matches!(fault, journal::Fault::Locked { .. }) { FAILED } else { STORAGE }
}

/// Exit code 2 for a command that has said already what is wrong.
pub(crate) fn usage() -> ExitCode {
    ExitCode::from(USAGE)
}

/// Exit code 3 for a command that has said already what is damaged.
pub(crate) fn storage() -> ExitCode {
    ExitCode::from(STORAGE)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_cause_decides_the_code() {
        let usage = Err::<(), _>(Usage("no".into())).context("while starting").unwrap_err();
        assert_eq!(code_of(&usage), USAGE);
        assert_eq!(code_of(&anyhow::anyhow!("x")), FAILED);
    }

    #[test]
    fn a_storage_fault_is_told_from_a_directory_in_use() {
        let damaged = || journal::Fault::Damaged {
            file: "log".into(),
            offset: 1,
            last_good: model::Lsn(2),
            detail: "checksum",
        };
        let locked = journal::Fault::Locked { dir: "data".into(), pid: 1 };
        assert_eq!(code_of(&anyhow::Error::new(damaged())), STORAGE);
        let starting = anyhow::Error::new(Startup::Journal(damaged())).context("while starting");
        assert_eq!(code_of(&starting), STORAGE);
        assert_eq!(code_of(&anyhow::Error::new(Startup::Journal(locked))), FAILED);
    }

    #[test]
    fn help_and_page_list_the_same_codes() {
        let page = include_str!("../../../docs/operate/exit-codes.md");
        for line in HELP.lines().skip(1) {
            let code = line.trim().split(' ').next().unwrap();
            assert!(page.contains(&format!("| {code} |")), "{code} is missing in the page");
        }
    }
}
