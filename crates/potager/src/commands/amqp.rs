//! What `publish` and `get` share: the `--url` of an AMQP server and a connection whose failure
//! says what to do. Not a command; the protocol is `crate::client`'s.

use std::io;

use crate::client::{Address, Client, Fault};

/// Help of `--url`.
pub(crate) const URL_HELP: &str = "The server, as in amqp://ann:secret@host:5672/vhost, or amqps:// for TLS; parts may be left \
     out, and a password that is comes from $POTAGER_PASSWORD";

/// Connects and opens a channel.
///
/// # Errors
/// The client's fault, with the next step where there is one.
pub(crate) fn connect(address: &Address) -> anyhow::Result<Client> {
    Client::connect(address).map_err(|fault| match advice(&fault, address) {
        Some(advice) => anyhow::Error::new(fault).context(advice),
        None => fault.into(),
    })
}

fn advice(fault: &Fault, address: &Address) -> Option<String> {
    match fault {
        Fault::ConnectionClosed { code: 403, .. } => Some(format!(
            "cannot log in as '{}'; correct the user and password in --url, or make the user with \
             `potager users add` (guest may log in from the server's own machine only)",
            address.user
        )),
        Fault::ConnectionClosed { code: 530, .. } => Some(format!(
            "cannot use the virtual host '{}'; correct it in --url, or make it with `potager \
             vhosts add`",
            address.vhost
        )),
        Fault::Socket { source, .. } if source.kind() == io::ErrorKind::InvalidData => Some(
            "cannot trust the server, or it does not speak TLS; if its certificate is signed by \
             an authority of its own, name that with --ca-file"
                .to_owned(),
        ),
        Fault::Socket { .. } => {
            Some("no server answers; start one with `potager serve`, or correct --url".to_owned())
        }
        Fault::Address(_)
        | Fault::ConnectionClosed { .. }
        | Fault::ChannelClosed { .. }
        | Fault::HungUp(_)
        | Fault::Protocol(_)
        | Fault::Silence(_)
        | Fault::TooLong(_) => None,
    }
}
