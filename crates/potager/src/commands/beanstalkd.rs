//! `potager beanstalkd`, and `potager` under the name `beanstalkd`: the server for a script that
//! starts the original. Same options, same exit codes, one door; what the options say becomes
//! settings here. What differs is told in `docs/operate/beanstalkd.md`.
//!
//! Rooms: `options` (the command line as the original reads it), `user` (becoming somebody else).

mod options;
mod user;

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use config::{Resolved, Sources};

use self::options::{Options, Wrong};
use super::version::VERSION;
use crate::exit::{self, Usage};
use crate::serve::{CannotListen, Start};
use crate::{logging, output};

/// What the program is called when it is to behave so.
pub(crate) const NAME: &str = "beanstalkd";

pub(crate) const EXAMPLE: &str = "\
Example:
  potager beanstalkd -l 127.0.0.1 -p 11300 -b /var/lib/jobs
  ln -s /usr/bin/potager /usr/local/bin/beanstalkd

Options as of beanstalkd: `potager beanstalkd -h`.";

/// The version of the protocol's document that is spoken.
const PROTOCOL: &str = "1.13";
/// The original's exit codes. Source: observed, beanstalkd 1.12.
const EXIT_USAGE: u8 = 5;
const EXIT_DIRECTORY: u8 = 10;
const EXIT_USER: u8 = 33;
const EXIT_LISTEN: u8 = 111;

/// The original is gone at once; this much is granted for last words.
const GOODBYE_MAX: Duration = Duration::from_millis(50);
/// Largest job: `limits.message_bytes_max` cannot be set higher.
const JOB_BYTES_MAX: u64 = 32 << 20;
/// Beside what a job needs, a segment holds what surrounds it.
const SEGMENT_OVERHEAD: u64 = 8 << 20;
/// The log's own default, and its bounds.
const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Arguments of `beanstalkd`, for the list of commands; they are read by [`run`].
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As of beanstalkd
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

/// As a command of `potager`.
pub(crate) fn run_command(args: &Args) -> anyhow::Result<ExitCode> {
    run(&args.options)
}

/// Runs the server, or says what the options ask for.
///
/// # Errors
/// Only what the original has no exit code for.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let texts: Vec<String> =
        arguments.iter().map(|text| text.to_string_lossy().into_owned()).collect();
    let options = match options::read(&texts) {
        Ok(options) => options,
        Err(wrong) => return Ok(explain(&wrong)?),
    };
    for note in &options.notes {
        complain(note);
    }
    let start = match prepare(&options) {
        Ok(start) => start,
        Err(refused) => {
            complain(&refused.reason);
            return Ok(ExitCode::from(refused.code));
        }
    };
    if options.verbosity > 0 {
        output::line(&format!("pid {}", std::process::id()))?;
    }
    Ok(crate::serve::run(start).unwrap_or_else(|error| failed(&error)))
}

/// The ends that are no start: version, help, a mistake.
fn explain(wrong: &Wrong) -> Result<ExitCode, output::Closed> {
    match wrong {
        Wrong::Version => {
            output::line(&format!("{NAME} {PROTOCOL} (Potager {VERSION})"))?;
            Ok(ExitCode::SUCCESS)
        }
        Wrong::Help => {
            output::note(options::USAGE);
            Ok(ExitCode::SUCCESS)
        }
        Wrong::Mistake(reason) => {
            complain(reason);
            output::note(options::USAGE);
            Ok(ExitCode::from(EXIT_USAGE))
        }
    }
}

fn complain(reason: &str) {
    output::note(&format!("{NAME}: {reason}"));
}

fn failed(error: &anyhow::Error) -> ExitCode {
    let cannot_listen = error.is::<CannotListen>();
    if !cannot_listen && !error.is::<Usage>() {
        return exit::report(error);
    }
    complain(&format!("{error:#}"));
    ExitCode::from(if cannot_listen { EXIT_LISTEN } else { EXIT_USAGE })
}

/// Why the server is not started.
struct Refused {
    code: u8,
    reason: String,
}

fn refused(code: u8) -> impl Fn(anyhow::Error) -> Refused {
    move |error| Refused { code, reason: format!("{error:#}") }
}

/// Everything that comes before the server; while this is the only thread, because rights are
/// given up thread by thread.
fn prepare(options: &Options) -> Result<Start, Refused> {
    let place = place(options).map_err(refused(EXIT_LISTEN))?;
    if let Some(name) = &options.user {
        user::become_user(name).map_err(refused(EXIT_USER))?;
    }
    if let Some(dir) = &options.dir {
        check_directory(Path::new(dir)).map_err(refused(EXIT_DIRECTORY))?;
    }
    let resolved = resolve(options, &place).map_err(refused(EXIT_USAGE))?;
    let set_levels = logging::start(&resolved.settings.logging);
    let set_levels = set_levels.map_err(refused(EXIT_USAGE))?;
    let again = resolved.clone();
    let reread = Box::new(move || Ok(again.clone()));
    Ok(Start { resolved, reread, set_levels, is_quiet: true, goodbye_max: GOODBYE_MAX })
}

/// Where to listen, as a setting says it. A name is looked up; its first address counts.
fn place(options: &Options) -> anyhow::Result<String> {
    let host = &options.listen;
    if host.starts_with("unix:") {
        return Ok(host.clone());
    }
    let wrong = || format!("cannot listen on {host} port {}", options.port);
    let port: u16 = options.port.parse().with_context(wrong)?;
    let mut found = (host.trim_matches(['[', ']']), port).to_socket_addrs().with_context(wrong)?;
    let address: SocketAddr = found.next().with_context(wrong)?;
    Ok(address.to_string())
}

/// As with the original, the directory has to be there. What it wrote itself cannot be read, and
/// must not look as if it were gone.
fn check_directory(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot open {shown}"))?;
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read {shown}"))?.file_name();
        let name = name.to_string_lossy();
        anyhow::ensure!(
            !name.starts_with("binlog."),
            "{shown} holds {name}, a log of the original beanstalkd that cannot be read here; let \
             the old server work its jobs off, or name another directory"
        );
    }
    Ok(())
}

/// The options as settings; whatever else is set on this machine does not count.
fn resolve(options: &Options, place: &str) -> anyhow::Result<Resolved> {
    let job_bytes = options.job_bytes_max.clamp(1, JOB_BYTES_MAX);
    let message_bytes = job_bytes.max(16 << 20);
    let needed = message_bytes + SEGMENT_OVERHEAD;
    let segment = options.segment_bytes.unwrap_or(SEGMENT_BYTES);
    let durability = match (&options.dir, options.never_syncs) {
        (None, _) => "memory",
        (Some(_), true) => "os",
        (Some(_), false) => "fsync",
    };
    let level = match options.verbosity {
        0 => "error",
        1 => "info",
        _ => "debug",
    };
    let pairs = [
        ("data_dir", options.dir.clone().unwrap_or_else(|| ".".to_owned())),
        ("durability", durability.to_owned()),
        ("amqp.listen", "off".to_owned()),
        ("beanstalk.listen", place.to_owned()),
        ("beanstalk.job_bytes_max", job_bytes.to_string()),
        ("http.listen", "off".to_owned()),
        ("tls.mode", "off".to_owned()),
        ("limits.message_bytes_max", message_bytes.to_string()),
        ("limits.commit_bytes_max", message_bytes.to_string()),
        ("log.segment_bytes", segment.clamp(needed, SEGMENT_BYTES_MAX).to_string()),
        ("logging.format", "text".to_owned()),
        ("logging.level", level.to_owned()),
    ];
    let flags = pairs.map(|(key, text)| (key.to_owned(), text)).to_vec();
    config::resolve(&Sources { flags, ..Sources::default() }).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Usage(lines.join("; ")).into()
    })
}

/// Whether a program called like this is to behave so.
pub(crate) fn is_name(program: &std::ffi::OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == NAME)
}

#[cfg(test)]
mod tests {
    use config::{Durability, Endpoint, Settings};

    use super::*;

    fn settings(line: &[&str]) -> Settings {
        let texts: Vec<String> = line.iter().map(|text| (*text).to_owned()).collect();
        let options = options::read(&texts).unwrap();
        let place = place(&options).unwrap();
        resolve(&options, &place).unwrap().settings
    }

    #[test]
    fn without_options_it_is_the_original_in_memory() {
        let settings = settings(&[]);
        assert_eq!(settings.beanstalk.listen, Endpoint::At("0.0.0.0:11300".parse().unwrap()));
        assert_eq!(settings.durability, Durability::Memory);
        assert_eq!(settings.beanstalk.job_bytes_max, 65_535);
        assert_eq!((settings.amqp.listen, settings.http.listen), (None, None));
        assert!(!settings.beanstalk.needs_login);
    }

    #[test]
    fn a_directory_is_durable_unless_told_otherwise() {
        assert_eq!(settings(&["-b", "/d"]).durability, Durability::Fsync);
        assert_eq!(settings(&["-b", "/d", "-f", "50"]).durability, Durability::Fsync);
        assert_eq!(settings(&["-b", "/d", "-F"]).durability, Durability::Os);
        assert_eq!(settings(&["-b", "/d"]).data_dir, Path::new("/d"));
    }

    #[test]
    fn sizes_are_brought_within_what_is_possible() {
        let huge = settings(&["-z", "1073741824"]);
        assert_eq!(u64::from(huge.beanstalk.job_bytes_max), JOB_BYTES_MAX);
        assert_eq!(u64::from(huge.limits.message_bytes_max), JOB_BYTES_MAX);
        assert_eq!(settings(&["-s", "4096"]).log.segment_bytes, 24 << 20);
        assert_eq!(settings(&["-s", "104857600"]).log.segment_bytes, 104_857_600);
        assert_eq!(settings(&[]).log.segment_bytes, SEGMENT_BYTES);
    }

    #[test]
    fn places_are_files_addresses_and_names() {
        let listen = |line: &[&str]| settings(line).beanstalk.listen.to_string();
        assert_eq!(listen(&["-l", "unix:/run/b", "-p", "7"]), "unix:/run/b");
        assert_eq!(listen(&["-l127.0.0.1", "-p7"]), "127.0.0.1:7");
        assert_eq!(listen(&["-l", "::1"]), "[::1]:11300");
        assert!(listen(&["-l", "localhost"]).ends_with(":11300"));
        let options = options::read(&["-p".to_owned(), "abc".to_owned()]).unwrap();
        assert!(place(&options).is_err());
    }

    #[test]
    fn the_originals_own_log_is_not_taken_for_an_empty_directory() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_directory(folder.path()).is_ok());
        assert!(check_directory(&folder.path().join("none")).is_err());
        std::fs::write(folder.path().join("binlog.1"), "x").unwrap();
        let reason = check_directory(folder.path()).unwrap_err().to_string();
        assert!(reason.contains("binlog.1") && reason.contains("another directory"), "{reason}");
    }

    #[test]
    fn the_name_of_the_program_decides() {
        assert!(is_name("/usr/bin/beanstalkd".as_ref()) && is_name("beanstalkd".as_ref()));
        assert!(!is_name("/beanstalkd/potager".as_ref()));
    }
}
