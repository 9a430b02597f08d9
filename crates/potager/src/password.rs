//! Passwords: hashing them for storage (argon2id, PHC string), comparing, and asking a person for
//! one. Never taken from an argument: those show in process listings and shell histories. Who may
//! log in when is `login`.

use std::{
    io::{BufRead, IsTerminal, Read},
    path::Path,
};

use anyhow::{Context, bail};
use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::output;

/// Longest password in bytes; AMQP's PLAIN cannot carry much more before login.
pub(crate) const BYTES_MAX: usize = 1024;

/// A hash of nobody's password with the same cost, so that an unknown user takes as long.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$cG90YWdlci1ub2JvZHk$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes a password for storage: argon2id with 19 MiB, two passes, one lane and a random salt.
/// Takes some 20 ms of a core: never on the server's main thread.
///
/// # Errors
/// The password is empty or too long, or the system gives no random salt.
pub(crate) fn hash(password: &[u8]) -> anyhow::Result<String> {
    if password.is_empty() || password.len() > BYTES_MAX {
        bail!("a password has 1 to {BYTES_MAX} bytes, this one has {}", password.len());
    }
    match Argon2::default().hash_password(password) {
        Ok(hash) => Ok(hash.to_string()),
        Err(error) => bail!("cannot hash the password: {error}"),
    }
}

/// Whether the password belongs to the stored hash; takes equally long without one. Compares in
/// constant time.
pub(crate) fn matches(password: &[u8], hash: Option<&[u8]>) -> bool {
    let stored = hash.and_then(|hash| std::str::from_utf8(hash).ok());
    let parsed = stored.and_then(|text| PasswordHash::new(text).ok());
    let is_known = parsed.is_some();
    let Some(phc) = parsed.or_else(|| PasswordHash::new(NOBODY).ok()) else { return false };
    let is_equal = Argon2::default().verify_password(password, &phc).is_ok();
    is_known && is_equal && !password.is_empty()
}

/// Gets a password from a file, from a pipe, or by asking twice on the terminal.
///
/// # Errors
/// It cannot be read, is empty, or was typed differently the second time.
pub(crate) fn obtain(file: Option<&Path>, is_new: bool) -> anyhow::Result<Vec<u8>> {
    let text = match file {
        Some(path) => std::fs::read(path)
            .with_context(|| format!("cannot read the password file {}", path.display()))?,
        None if std::io::stdin().is_terminal() => ask_twice(is_new)?,
        None => {
            let mut text = Vec::new();
            let limit = u64::try_from(BYTES_MAX + 2).unwrap_or(u64::MAX);
            std::io::stdin().lock().take(limit).read_until(b'\n', &mut text)?;
            text
        }
    };
    let password = without_line_end(&text);
    if password.is_empty() {
        let flag = if is_new { "--password-file" } else { "--user-password-file" };
        bail!("the password is empty; type one, pipe one in, or use {flag}");
    }
    Ok(password.to_vec())
}

fn ask_twice(is_new: bool) -> anyhow::Result<Vec<u8>> {
    let first = ask("password: ")?;
    if is_new && ask("the same again: ")? != first {
        bail!("the two passwords differ; nothing was changed");
    }
    Ok(first)
}

/// One line from the terminal, not shown while it is typed.
fn ask(prompt: &str) -> anyhow::Result<Vec<u8>> {
    output::prompt(prompt);
    let stdin = std::io::stdin();
    let shown = tcgetattr(&stdin).context("cannot read the terminal's settings")?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Now, &shown)?;
    read.context("cannot read the password")?;
    Ok(line.into_bytes())
}

fn without_line_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weak on purpose: the real cost would make tests without optimisation slow.
    fn cheap(password: &[u8]) -> String {
        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        Argon2::from(params).hash_password(password).unwrap().to_string()
    }

    #[test]
    fn a_hash_opens_to_its_password_only() {
        let stored = hash(b"secret").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(matches(b"secret", Some(stored.as_bytes())));
        assert_ne!(stored, hash(b"secret").unwrap(), "the salt is random");
        let stored = cheap(b"secret");
        for wrong in [b"Secret".as_slice(), b"secret\0", b"", b"secre"] {
            assert!(!matches(wrong, Some(stored.as_bytes())));
        }
    }

    #[test]
    fn an_unknown_user_costs_as_much_and_is_refused() {
        let phc = PasswordHash::new(NOBODY).unwrap();
        let params = argon2::Params::try_from(&phc).unwrap();
        assert_eq!(params.m_cost(), argon2::Params::DEFAULT.m_cost());
        assert_eq!(params.t_cost(), argon2::Params::DEFAULT.t_cost());
        assert!(!matches(b"", None));
    }

    #[test]
    fn stored_nonsense_is_refused() {
        for stored in [b"".as_slice(), b"plain", b"$argon2id$v=19$m=1", b"\xff\xfe"] {
            assert!(!matches(b"plain", Some(stored)));
        }
    }

    #[test]
    fn the_empty_password_opens_nothing() {
        let stored = cheap(b"");
        assert!(!matches(b"", Some(stored.as_bytes())));
        assert!(hash(b"").is_err());
        assert!(hash(&[b'x'; BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_password_file_may_end_with_a_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        for (text, expected) in [("pw", "pw"), ("pw\n", "pw"), ("pw\r\n", "pw"), (" p w ", " p w ")]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(obtain(Some(&path), true).unwrap(), expected.as_bytes());
        }
        std::fs::write(&path, "\n").unwrap();
        assert!(obtain(Some(&path), true).is_err());
    }
}
