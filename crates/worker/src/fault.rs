//! [`Fault`]: why a worker cannot start or has to end. What happens to single items is no fault.

use std::path::PathBuf;

/// Why a worker cannot start or has to end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It was told something that cannot work.
    #[error("{0}")]
    Plan(String),
    /// The server does not let it in.
    #[error(
        "the server refuses the worker: {0}; give it a token that may use its queues with \
         --token-file or $POTAGER_TOKEN"
    )]
    Login(String),
    /// A worker of this name runs on this machine.
    #[error(
        "a worker called '{name}' uses {} already; give this one another --name or --spool",
        dir.display()
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Its part of the spool.
        dir: PathBuf,
    },
    /// The spool cannot be used.
    #[error("cannot use the spool {}: {error}; name another folder with --spool", path.display())]
    Spool {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The authorities that sign certificates cannot be read.
    #[error("cannot use the certificates in {}: {detail}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The TLS library refuses its own settings.
    #[error("cannot prepare TLS: {0}")]
    Tls(String),
}
