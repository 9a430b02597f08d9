//! Facts about workers without a connection of their own: what goes into their queue, what they say
//! of it, and what is read back.

use super::MessageId;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WorkFact {
    /// An input was sent to the workers' queue.
    Put(MessageId),
    /// The server said yes to it.
    PutDone(MessageId),
    /// A worker was handed an input.
    Taken {
        /// Which.
        input: MessageId,
        /// It was asked for after so many asks of the whole run.
        asked: u32,
    },
    /// A worker sent the completion of an input: its result and what follows.
    Step {
        /// The input.
        input: MessageId,
        /// The result's message.
        result: MessageId,
        /// The follower's message.
        next: MessageId,
    },
    /// The server said that the result is stored.
    Stored {
        /// The input.
        input: MessageId,
        /// The result's message.
        result: MessageId,
        /// So many asks were made before.
        asked: u32,
    },
    /// The server said that the key had a result already, of an input that was open.
    KeptFirst(MessageId),
    /// The server said that the input is finished.
    FinishedBefore(MessageId),
    /// At the end this result stands under the key of this input.
    Result {
        /// The input.
        input: MessageId,
        /// The result's message.
        result: MessageId,
    },
    /// At the end this input is left in its queue.
    LeftInput(MessageId),
    /// At the end this follower is in its queue.
    LeftNext(MessageId),
    /// All of that has been read.
    ReadBack,
}
