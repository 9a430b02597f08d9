//! The door's words <-> the model's: error codes and texts, arguments, properties, server-made
//! names. Pure functions; the state machine in `connection` calls them.

mod arguments;
mod names;
mod properties;
mod refusal;

pub(crate) use arguments::{
    check_binding, consumer_priority, exchange_spec, is_predeclared_exchange, queue_options,
};
pub(crate) use names::{Names, name, printable, without_line_breaks};
pub(crate) use properties::{
    REPLY_TO, is_plain, read_properties, with_delivery_count, with_reply_to,
};
pub(crate) use refusal::refusal;

/// Reply codes. Source: AMQP 0-9-1 1.2; 506 and 541 as `RabbitMQ` uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum Code {
    NoRoute = 312,
    ConnectionForced = 320,
    AccessRefused = 403,
    NotFound = 404,
    ResourceLocked = 405,
    PreconditionFailed = 406,
    FrameError = 501,
    SyntaxError = 502,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    ResourceError = 506,
    NotAllowed = 530,
    NotImplemented = 540,
    InternalError = 541,
}

impl Code {
    /// The specification's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "NO_ROUTE",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// Closes the connection, not only the channel.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        !matches!(
            self,
            Self::NoRoute
                | Self::AccessRefused
                | Self::NotFound
                | Self::ResourceLocked
                | Self::PreconditionFailed
        )
    }
}

/// A protocol error on its way to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// Explanation without the code's name.
    pub(crate) text: String,
    /// Class and method that caused it; zeros when none did.
    pub(crate) cause: (u16, u16),
}

impl Failure {
    /// A failure whose cause is filled in later, see [`Failure::because_of`].
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), cause: (0, 0) }
    }

    /// Names the method, unless one is named already.
    pub(crate) fn because_of(mut self, cause: (u16, u16)) -> Self {
        if self.cause == (0, 0) {
            self.cause = cause;
        }
        self
    }

    /// `NAME - explanation`, what the peer is told.
    pub(crate) fn reply_text(&self) -> String {
        format!("{} - {}", self.code.name(), self.text)
    }
}

/// Shorthand for the most frequent failure.
pub(crate) fn precondition(text: impl Into<String>) -> Failure {
    Failure::new(Code::PreconditionFailed, text)
}

#[cfg(test)]
mod tests;
