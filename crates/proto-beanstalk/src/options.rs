//! [`Options`]: what an operator may set about this door. Filled from `config` by the binary; read
//! only, shared by all connections.

use bytes::Bytes;

/// Settings of the door.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our own version, shown in `stats`.
    pub version: String,
    /// Largest body of a job in bytes.
    pub job_bytes_max: u32,
    /// Nothing is done for a client before it has logged in.
    pub needs_login: bool,
    /// The virtual host whose queues are the tubes.
    pub vhost: Bytes,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            job_bytes_max: 65_535,
            needs_login: false,
            vhost: Bytes::from_static(b"/"),
        }
    }
}
