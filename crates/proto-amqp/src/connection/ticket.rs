//! Tickets: what was asked, packed into the number that comes back with the answer, so that a
//! connection remembers nothing per request.
//!
//! | bits | meaning |
//! |---|---|
//! | 0-7 | [`Ask`] |
//! | 8 | the client wants no answer (`nowait`) |
//! | 9-40 | [`Ask::Consume`], [`Ask::Cancel`]: number of the consumer |

use model::{ConsumerId, Ticket};

/// What was asked of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ask {
    Login,
    Vhost,
    OpenChannel,
    /// The peer knows already that the channel is closed.
    CloseQuietly,
    /// Tell the peer why the channel is closed.
    CloseThenTell,
    /// The peer closed the channel: answer.
    CloseThenAnswer,
    /// The peer closed the connection.
    CloseAndLeave,
    /// Nothing: the answer only has to come in its turn. So the four after it.
    Flow,
    Access,
    ConfirmSelect,
    TxSelect,
    TxRollback,
    DeclareExchange,
    DeleteExchange,
    BindExchange,
    UnbindExchange,
    DeclareQueue,
    BindQueue,
    PurgeQueue,
    DeleteQueue,
    UnbindQueue,
    SetCredit,
    Consume,
    Cancel,
    Publish,
    Get,
    Ack,
    Reject,
    Nack,
    Recover,
    RecoverQuietly,
    Commit,
}

impl Ask {
    const ALL: [Self; 32] = [
        Self::Login,
        Self::Vhost,
        Self::OpenChannel,
        Self::CloseQuietly,
        Self::CloseThenTell,
        Self::CloseThenAnswer,
        Self::CloseAndLeave,
        Self::Flow,
        Self::Access,
        Self::ConfirmSelect,
        Self::TxSelect,
        Self::TxRollback,
        Self::DeclareExchange,
        Self::DeleteExchange,
        Self::BindExchange,
        Self::UnbindExchange,
        Self::DeclareQueue,
        Self::BindQueue,
        Self::PurgeQueue,
        Self::DeleteQueue,
        Self::UnbindQueue,
        Self::SetCredit,
        Self::Consume,
        Self::Cancel,
        Self::Publish,
        Self::Get,
        Self::Ack,
        Self::Reject,
        Self::Nack,
        Self::Recover,
        Self::RecoverQuietly,
        Self::Commit,
    ];

    /// Class and method of the frame that led to the request.
    pub(super) const fn cause(self) -> (u16, u16) {
        match self {
            Self::Login => (10, 11),
            Self::Vhost => (10, 40),
            Self::OpenChannel => (20, 10),
            Self::CloseQuietly | Self::CloseThenTell | Self::CloseThenAnswer => (20, 40),
            Self::CloseAndLeave => (10, 50),
            Self::Flow => (20, 20),
            Self::Access => (30, 10),
            Self::ConfirmSelect => (85, 10),
            Self::TxSelect => (90, 10),
            Self::TxRollback => (90, 30),
            Self::DeclareExchange => (40, 10),
            Self::DeleteExchange => (40, 20),
            Self::BindExchange => (40, 30),
            Self::UnbindExchange => (40, 40),
            Self::DeclareQueue => (50, 10),
            Self::BindQueue => (50, 20),
            Self::PurgeQueue => (50, 30),
            Self::DeleteQueue => (50, 40),
            Self::UnbindQueue => (50, 50),
            Self::SetCredit => (60, 10),
            Self::Consume => (60, 20),
            Self::Cancel => (60, 30),
            Self::Publish => (60, 40),
            Self::Get => (60, 70),
            Self::Ack => (60, 80),
            Self::Reject => (60, 90),
            Self::Nack => (60, 120),
            Self::Recover => (60, 110),
            Self::RecoverQuietly => (60, 100),
            Self::Commit => (90, 20),
        }
    }

    /// Ends a channel.
    pub(super) const fn is_close(self) -> bool {
        matches!(
            self,
            Self::CloseQuietly | Self::CloseThenTell | Self::CloseThenAnswer | Self::CloseAndLeave
        )
    }
}

/// What rides along in a ticket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Data {
    /// The client wants no answer.
    pub(super) nowait: bool,
    /// Which consumer.
    pub(super) consumer: ConsumerId,
}

/// A ticket without data.
pub(super) const fn plain(ask: Ask) -> Ticket {
    Ticket(ask as u64)
}

/// A ticket that notes whether an answer is wanted.
pub(super) const fn with_nowait(ask: Ask, nowait: bool) -> Ticket {
    Ticket(ask as u64 | (nowait as u64) << 8)
}

/// A ticket about a consumer.
pub(super) const fn of_consumer(ask: Ask, nowait: bool, consumer: ConsumerId) -> Ticket {
    Ticket(with_nowait(ask, nowait).0 | (consumer.0 as u64) << 9)
}

/// The reverse of the three above.
pub(super) fn read(ticket: Ticket) -> (Ask, Data) {
    let ask = Ask::ALL.get((ticket.0 & 0xFF) as usize).copied().unwrap_or(Ask::CloseQuietly);
    let consumer = ConsumerId(u32::try_from((ticket.0 >> 9) & 0xFFFF_FFFF).unwrap_or_default());
    (ask, Data { nowait: ticket.0 & 0x100 != 0, consumer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ticket_reads_back() {
        for (index, ask) in Ask::ALL.into_iter().enumerate() {
            assert_eq!(ask as usize, index, "ALL must follow the order of the enum");
            let consumer = ConsumerId(u32::MAX - 1);
            let (read_ask, data) = read(of_consumer(ask, true, consumer));
            assert_eq!((read_ask, data), (ask, Data { nowait: true, consumer }));
        }
        assert_eq!(read(plain(Ask::Publish)), (Ask::Publish, Data::default()));
    }
}
