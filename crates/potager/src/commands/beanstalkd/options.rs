//! The original's command line: flags of one letter, their values beside them or after them.
//!
//! Source: observed, beanstalkd 1.12, every flag, alone and wrong; `beanstalkd(1)`.

/// The end of a mistake, and the answer to `-h`.
pub(super) const USAGE: &str = "\
Use: beanstalkd [OPTIONS]

Options:
 -b DIR   keep jobs in this directory, which must be there (default: in memory only)
 -f MS    accepted; whatever it says, a job is on disk before its put is answered
 -F       never fsync: a power cut loses jobs
 -l ADDR  listen on address (default is 0.0.0.0), or unix:PATH
 -p PORT  listen on port (default is 11300)
 -u USER  become user and group
 -z BYTES set the maximum job size in bytes (default is 65535);
          max allowed is 33554432 bytes
 -s BYTES set the size of each segment file of the log (default is 67108864);
          less than 24 MiB and more than 1 GiB are brought to these
 -v       show version information
 -V       increase verbosity
 -h       show this help";

/// Largest job that can be asked for.
const JOB_BYTES_MAX: u64 = super::JOB_BYTES_MAX;

/// What the options ask for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Where jobs are kept; `None` is nowhere.
    pub(super) dir: Option<String>,
    pub(super) never_syncs: bool,
    /// A host, an address or `unix:PATH`.
    pub(super) listen: String,
    pub(super) port: String,
    pub(super) user: Option<String>,
    pub(super) job_bytes_max: u64,
    pub(super) segment_bytes: Option<u64>,
    pub(super) verbosity: u32,
    /// To be said, but no reason not to start.
    pub(super) notes: Vec<String>,
}

/// Why no server is to be started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Version,
    Help,
    Mistake(String),
}

/// Reads the options as the original does: from left to right, the first mistake ends it.
pub(super) fn read(arguments: &[String]) -> Result<Options, Wrong> {
    let mut options = Options {
        dir: None,
        never_syncs: false,
        listen: "0.0.0.0".to_owned(),
        port: "11300".to_owned(),
        user: None,
        job_bytes_max: 65_535,
        segment_bytes: None,
        verbosity: 0,
        notes: Vec::new(),
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let flags = argument.strip_prefix('-').filter(|flags| !flags.is_empty());
        let flags = flags.ok_or_else(|| mistake("unknown argument", argument))?;
        let mut before = '-';
        for (at, flag) in flags.char_indices() {
            let after = flags.get(at + flag.len_utf8()..).unwrap_or_default();
            if "bflpsuz".contains(flag) {
                let value =
                    if after.is_empty() { rest.next().map(String::as_str) } else { Some(after) };
                let value = value
                    .ok_or_else(|| mistake("flag requires an argument", &format!("-{flag}")))?;
                options.set(flag, value)?;
                break;
            }
            options.raise(flag).ok_or_else(|| match flag {
                'v' => Wrong::Version,
                'h' => Wrong::Help,
                _ => mistake("unknown flag", &format!("{before}{flag}{after}")),
            })?;
            before = flag;
        }
    }
    Ok(options)
}

fn mistake(what: &str, place: &str) -> Wrong {
    Wrong::Mistake(format!("{what}: {place}"))
}

impl Options {
    /// A flag with a value.
    fn set(&mut self, flag: char, value: &str) -> Result<(), Wrong> {
        match flag {
            'b' => self.dir = Some(value.to_owned()),
            'l' => value.clone_into(&mut self.listen),
            'p' => value.clone_into(&mut self.port),
            'u' => self.user = Some(value.to_owned()),
            's' => self.segment_bytes = Some(size(value)?),
            'z' => {
                self.job_bytes_max = size(value)?;
                if self.job_bytes_max > JOB_BYTES_MAX {
                    self.notes.push(format!("maximum job size was set to {JOB_BYTES_MAX}"));
                }
            }
            // `-f MS`: its number must be one; what is asked for is kept in any case.
            _ => {
                size(value)?;
                self.never_syncs = false;
            }
        }
        Ok(())
    }

    /// A flag without one; `None` when there is no such flag that a server runs with.
    fn raise(&mut self, flag: char) -> Option<()> {
        match flag {
            'F' => self.never_syncs = true,
            'V' => self.verbosity += 1,
            'c' | 'n' => {
                self.notes.push(format!("-{flag} flag was removed. binlog is always compacted."));
            }
            _ => return None,
        }
        Some(())
    }
}

/// A number of bytes; the original takes a negative one for a huge one.
fn size(text: &str) -> Result<u64, Wrong> {
    match text.parse::<i128>() {
        Ok(number) => Ok(u64::try_from(number).unwrap_or(u64::MAX)),
        Err(_) => Err(mistake("invalid size", text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Options, Wrong> {
        read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn wrong(line: &str) -> String {
        match of(line).unwrap_err() {
            Wrong::Mistake(text) => text,
            other @ (Wrong::Version | Wrong::Help) => format!("{other:?}"),
        }
    }

    #[test]
    fn values_stand_beside_their_flag_or_after_it() {
        let apart = of("-b /d -l ::1 -p 7 -u ann -z 9 -s 8 -V").unwrap();
        assert_eq!(apart, of("-b/d -l::1 -p7 -uann -z9 -s8 -V").unwrap());
        assert_eq!(apart.dir.as_deref(), Some("/d"));
        assert_eq!((apart.listen.as_str(), apart.port.as_str()), ("::1", "7"));
        assert_eq!((apart.job_bytes_max, apart.segment_bytes), (9, Some(8)));
        assert_eq!(of("-VVp 7").unwrap().verbosity, 2);
        assert_eq!(of("-VVp 7").unwrap().port, "7");
    }

    #[test]
    fn mistakes_are_named_as_the_original_does() {
        assert_eq!(wrong("-x"), "unknown flag: -x");
        assert_eq!(wrong("-Vx"), "unknown flag: Vx");
        assert_eq!(wrong("--"), "unknown flag: --");
        assert_eq!(wrong("--version"), "unknown flag: --version");
        assert_eq!(wrong("-b"), "flag requires an argument: -b");
        assert_eq!(wrong("-V extra"), "unknown argument: extra");
        assert_eq!(wrong("-"), "unknown argument: -");
        assert_eq!(wrong("-z abc"), "invalid size: abc");
        assert_eq!(wrong("-f abc"), "invalid size: abc");
        assert_eq!(of("-V -v -x"), Err(Wrong::Version));
        assert_eq!(of("-h"), Err(Wrong::Help));
    }

    #[test]
    fn the_later_word_about_syncing_counts() {
        assert!(of("-f 0 -F").unwrap().never_syncs);
        assert!(!of("-F -f0").unwrap().never_syncs);
        assert!(!of("-f -1").unwrap().never_syncs);
    }

    #[test]
    fn what_has_no_effect_is_said() {
        assert_eq!(of("-c").unwrap().notes, ["-c flag was removed. binlog is always compacted."]);
        assert_eq!(of("-z 2000000000").unwrap().notes.len(), 1);
        assert_eq!(of("-z 1000").unwrap().notes, Vec::<String>::new());
    }
}
