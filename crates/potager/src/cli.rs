//! The command line: one enum of commands, and settings as flags made from the table. What a
//! command does stands in `commands/`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use config::{Resolved, SETTINGS, Sources, TextFile};

use crate::{
    commands::{
        backup, batch, beanstalkd, bench, check_config, completions, config as config_command,
        demo, get, permissions, publish, queues, repair, serve, tokens, users, version, vhosts,
        work,
    },
    exit::{self, Usage},
    output,
};

const ABOUT: &str = "Message broker and task queue over one durable log; speaks AMQP 0-9-1.";
const EXAMPLE: &str = "\
Example:
  potager serve                        start a server in ./potager-data
  celery -A app worker --broker=amqp:// and any other AMQP client connects to it";

#[derive(Debug, Parser)]
#[command(name = "potager", version, about = ABOUT, max_term_width = 100)]
#[command(after_help = format!("{EXAMPLE}\n\n{}", exit::HELP))]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    #[command(after_help = serve::EXAMPLE)]
    Serve(serve::Args),
    /// Send messages, from arguments, a file or standard input
    #[command(after_help = publish::EXAMPLE)]
    Publish(publish::Args),
    /// Show or take messages of a queue
    #[command(after_help = get::EXAMPLE)]
    Get(get::Args),
    /// List, empty or remove queues
    #[command(after_help = queues::EXAMPLE)]
    Queues(queues::Args),
    /// Add, change, remove or list users
    #[command(after_help = users::EXAMPLE)]
    Users(users::Args),
    /// Say what users may do in which virtual host
    #[command(after_help = permissions::EXAMPLE)]
    Permissions(permissions::Args),
    /// Add, remove or list virtual hosts
    #[command(after_help = vhosts::EXAMPLE)]
    Vhosts(vhosts::Args),
    /// Back a server up, check a backup, make a data directory of one
    #[command(after_help = backup::EXAMPLE)]
    Backup(backup::Args),
    /// Give programs access to the work API
    #[command(after_help = tokens::EXAMPLE)]
    Tokens(tokens::Args),
    /// Examine a damaged data directory, and put it right
    #[command(after_help = repair::EXAMPLE)]
    Repair(repair::Args),
    /// Work for a server: claim items, run them here, deliver results
    #[command(after_help = work::EXAMPLE)]
    Work(Box<work::Args>),
    /// Send a file of rows to workers and get their results as a file
    #[command(after_help = batch::EXAMPLE)]
    Batch(batch::Args),
    /// Show on this machine that nothing acknowledged is lost
    #[command(after_help = demo::EXAMPLE)]
    Demo(demo::Args),
    /// Measure any AMQP or beanstalkd server from outside
    #[command(after_help = bench::EXAMPLE)]
    Bench(bench::Args),
    /// Run as a drop-in for beanstalkd, with its options
    #[command(after_help = beanstalkd::EXAMPLE, disable_version_flag = true)]
    Beanstalkd(beanstalkd::Args),
    /// Check a configuration file
    #[command(after_help = check_config::EXAMPLE)]
    CheckConfig(check_config::Args),
    /// Show settings: those in force, the defaults, the reference
    #[command(after_help = config_command::EXAMPLE)]
    Config(config_command::Args),
    /// Print a completion script for a shell
    #[command(after_help = completions::EXAMPLE)]
    Completions(completions::Args),
    /// Print the version
    #[command(after_help = version::EXAMPLE)]
    Version(version::Args),
}

/// Parses the command line and runs the command.
///
/// # Errors
/// Whatever made the command fail; `exit::report` turns it into words and a code.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(options) = as_beanstalkd(&words) {
        return beanstalkd::run(options);
    }
    match Cli::try_parse().unwrap_or_else(|error| without_password(error).exit()).command {
        Command::Serve(args) => serve::run(&args),
        Command::Publish(args) => publish::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Queues(args) => queues::run(&args),
        Command::Users(args) => users::run(&args),
        Command::Permissions(args) => permissions::run(&args),
        Command::Tokens(args) => tokens::run(&args),
        Command::Vhosts(args) => vhosts::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Work(args) => work::run(&args),
        Command::Batch(args) => batch::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Beanstalkd(args) => beanstalkd::run_command(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Config(args) => config_command::run(&args),
        Command::Completions(args) => completions::run(&args, &mut Cli::command()),
        Command::Version(args) => version::run(&args),
    }
}

/// The options of a program that is called `beanstalkd`, or of the command, which clap would
/// understand in its own way; its `--help` is clap's.
fn as_beanstalkd(words: &[OsString]) -> Option<&[OsString]> {
    match words {
        [program, options @ ..] if beanstalkd::is_name(program) => Some(options),
        [_, command, options @ ..] if command == beanstalkd::NAME => {
            options.first().is_none_or(|option| option != "--help").then_some(options)
        }
        _ => None,
    }
}

/// Keeps a refused URL's password from being repeated on the terminal and in whatever records it.
fn without_password(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && let Some((_, place)) = value.rsplit_once('@')
    {
        let shown = ContextValue::String(format!("..@{place}"));
        error.insert(ContextKind::InvalidValue, shown);
    }
    error
}

/// The settings' flags: `--config`, one flag for each setting that has its own, and `--set`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingArgs {
    config: Option<PathBuf>,
    flags: Vec<(String, String)>,
}

const SET: &str = "set";
const CONFIG: &str = "config";

impl Args for SettingArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Configuration file (TOML) [env: POTAGER_CONFIG]");
        let own = SETTINGS.iter().filter_map(|setting| {
            let default = match setting.default {
                "" => String::new(),
                text => format!(" [default: {text}]"),
            };
            let help = format!("{}{default}", setting.doc.trim_end_matches('.'));
            let value = setting.kind.placeholder();
            Some(Arg::new(setting.key).long(setting.flag?).value_name(value).help(help))
        });
        let set =
            Arg::new(SET).long(SET).value_name("KEY=VALUE").action(ArgAction::Append).help(
                "Any setting by its key; may be repeated (`potager config default` lists them)",
            );
        command.arg(file).args(own).arg(set)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let own = SETTINGS.iter().filter_map(|setting| {
            setting.flag?;
            let text = matches.get_one::<String>(setting.key)?;
            Some((setting.key.to_owned(), text.clone()))
        });
        let mut flags: Vec<_> = own.collect();
        for pair in matches.get_many::<String>(SET).into_iter().flatten() {
            let (key, text) = pair.split_once('=').ok_or_else(|| {
                let text = format!("--set {pair}: expected KEY=VALUE, e.g. amqp.heartbeat_s=30\n");
                clap::Error::raw(clap::error::ErrorKind::ValueValidation, text)
            })?;
            flags.push((key.to_owned(), text.to_owned()));
        }
        Ok(Self { config: matches.get_one(CONFIG).cloned(), flags })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl SettingArgs {
    /// Reads the file and the environment and lays the layers over each other. Warnings are
    /// printed.
    ///
    /// # Errors
    /// [`Usage`], when anything in any layer is wrong.
    pub(crate) fn resolve(&self) -> anyhow::Result<Resolved> {
        let environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
            .collect();
        let named = environment.iter().find(|(name, _)| name == "POTAGER_CONFIG");
        let path = self.config.clone().or_else(|| Some(PathBuf::from(&named?.1)));
        let file = path.map(read_file).transpose()?;
        let sources = Sources { file, environment, flags: self.flags.clone() };
        let resolved = config::resolve(&sources).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Usage(lines.join("\n  "))
        })?;
        for warning in &resolved.warnings {
            output::note(&format!("warning: {warning}"));
        }
        Ok(resolved)
    }
}

/// Reads a configuration file.
///
/// # Errors
/// [`Usage`]: it cannot be read, and why.
pub(crate) fn read_file(path: PathBuf) -> Result<TextFile, Usage> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(TextFile { path, text }),
        Err(error) => Err(Usage(format!(
            "cannot read the configuration file {}: {error}; `potager config default` prints one \
             to begin with",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        for inner in command.get_subcommands() {
            paths(inner, &format!("{path} {}", inner.get_name()), found);
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_has_an_example_and_at_most_60_lines() {
        let mut found = Vec::new();
        paths(&Cli::command(), "potager", &mut found);
        assert!(found.len() > 5);
        for path in found {
            let line = path.split(' ').chain(["--help"]);
            let help = Cli::try_parse_from(line).unwrap_err().to_string();
            assert!(help.contains("Example"), "{path} has no example");
            assert!(help.lines().count() <= 60, "{path} has {} lines", help.lines().count());
        }
    }

    #[test]
    fn flags_reach_the_settings() {
        let line = ["potager", "serve", "--amqp", "off", "--set", "amqp.heartbeat_s=7"];
        let Command::Serve(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("another command");
        };
        let settings = args.settings.resolve().unwrap().settings;
        assert_eq!(settings.amqp.listen, None);
        assert_eq!(settings.amqp.heartbeat_s, 7);
    }

    #[test]
    fn a_set_without_value_is_refused_with_an_example() {
        let error = Cli::try_parse_from(["potager", "serve", "--set", "amqp"]).unwrap_err();
        assert!(error.to_string().contains("KEY=VALUE"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    /// Promise: P20.
    #[test]
    fn a_refused_url_does_not_show_its_password() {
        let line = ["potager", "publish", "--queue", "q", "--url", "http://ann:hidden@h:1"];
        let error = without_password(Cli::try_parse_from(line).unwrap_err()).to_string();
        assert!(!error.contains("hidden") && error.contains("..@h:1"), "{error}");
    }

    #[test]
    fn a_door_at_a_socket_file_is_accepted() {
        let line = ["potager", "serve", "--beanstalk", "unix:/run/jobs"];
        let Command::Serve(args) = Cli::try_parse_from(line).unwrap().command else {
            panic!("another command");
        };
        let settings = args.settings.resolve().unwrap().settings;
        assert_eq!(settings.beanstalk.listen, config::Endpoint::File("/run/jobs".into()));
    }
}
