//! [`Fault`]: everything that can go wrong between this client and a server, in words for the
//! person at the command line. Not here: what the caller does about it.

use std::io;

use proto_amqp::codec::FrameError;
use proto_amqp::table::MethodError;

/// Why a call of the client failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The URL cannot be read.
    #[error("{0}")]
    Address(String),
    /// The socket failed.
    #[error("{doing}")]
    Socket {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server closed the connection in words.
    #[error("the server closed the connection: {code} {text}")]
    ConnectionClosed {
        /// Reply code.
        code: u16,
        /// Reply text.
        text: String,
    },
    /// The server closed the channel in words.
    #[error("the server refused: {code} {text}")]
    ChannelClosed {
        /// Reply code.
        code: u16,
        /// Reply text.
        text: String,
    },
    /// The server hung up without a word.
    #[error("the server closed the socket {0}")]
    HungUp(&'static str),
    /// The server does not speak the protocol as expected.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// No reply in time.
    #[error("no reply to {0} in time")]
    Silence(&'static str),
    /// A name or value that the protocol cannot carry.
    #[error("{0}")]
    TooLong(&'static str),
}

impl Fault {
    /// Wraps an error of the socket.
    pub(crate) fn socket(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Socket { doing, source }
    }

    /// Whether the connection is gone, so that trying again with a new one may help.
    pub(crate) fn is_disconnect(&self) -> bool {
        matches!(
            self,
            Self::Socket { .. }
                | Self::HungUp(_)
                | Self::Silence(_)
                | Self::ConnectionClosed { code: 320, .. }
        )
    }
}

impl From<MethodError> for Fault {
    fn from(error: MethodError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}
