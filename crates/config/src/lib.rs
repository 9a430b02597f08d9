//! One table of settings. It feeds the configuration file, the environment, the flags, the help
//! and the reference page, so that none of them can disagree with another.
//!
//! Lives here: the table, how a value is read and checked, and which layer wins. Not here: files
//! and processes (the binary reads the file and the environment and hands over their text), and
//! any meaning of a setting. Called by the binary only; everybody else is given plain values.

mod file;
mod page;
mod problem;
mod reload;
mod resolve;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use page::{default_file, reference_page};
pub use problem::{Place, Problem};
pub use reload::{Changes, adopt};
pub use resolve::{Origin, Resolution, Resolved, Sources, TextFile, resolve};
pub use settings::{
    Alarm, Amqp, Auth, Beanstalk, ClientCertificates, ClientName, Durability, Endpoint, Guest,
    Http, Identity, Journal, LogFormat, Logging, Settings, Tls, TlsListen, TlsMode,
};
pub use table::{SETTINGS, Setting};
pub use value::{Kind, Value};
