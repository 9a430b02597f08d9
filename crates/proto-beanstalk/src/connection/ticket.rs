//! Tickets: what was asked, as the number that comes back with the answer, so that a connection
//! remembers nothing per request.

use model::Ticket;

use crate::map::About;

/// What was asked of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Ask {
    Login,
    Vhost,
    Channel,
    FirstUse,
    FirstWatch,
    Put,
    /// A claim that is withdrawn at once: its answer comes in its turn.
    Claim,
    /// A claim that waits.
    PatientClaim,
    /// A claim that waits until the connection's deadline.
    TimedClaim,
    /// One claim of a `reserve-batch`.
    BatchClaim,
    ReserveJob,
    Delete,
    /// One job of a `delete-batch`.
    BatchDelete,
    /// Its last one.
    LastBatchDelete,
    Release,
    Bury,
    Touch,
    KickJob,
    Peek,
    StatsJob,
    Use,
    Watch,
    Ignore,
    Kick,
    Pause,
    StatsTube,
    Stats,
    ListTubes,
    ListTubeUsed,
    ListTubesWatched,
    /// Nothing: a text of the door's own has its turn.
    Say,
    /// A withdrawal: it has no answer, and a refusal of it is none.
    Withdraw,
}

impl Ask {
    const ALL: [Self; 32] = [
        Self::Login,
        Self::Vhost,
        Self::Channel,
        Self::FirstUse,
        Self::FirstWatch,
        Self::Put,
        Self::Claim,
        Self::PatientClaim,
        Self::TimedClaim,
        Self::BatchClaim,
        Self::ReserveJob,
        Self::Delete,
        Self::BatchDelete,
        Self::LastBatchDelete,
        Self::Release,
        Self::Bury,
        Self::Touch,
        Self::KickJob,
        Self::Peek,
        Self::StatsJob,
        Self::Use,
        Self::Watch,
        Self::Ignore,
        Self::Kick,
        Self::Pause,
        Self::StatsTube,
        Self::Stats,
        Self::ListTubes,
        Self::ListTubeUsed,
        Self::ListTubesWatched,
        Self::Say,
        Self::Withdraw,
    ];

    pub(super) const fn ticket(self) -> Ticket {
        Ticket(self as u64)
    }

    /// The reverse; `None` for a number that is no ticket of ours.
    pub(super) fn read(ticket: Ticket) -> Option<Self> {
        usize::try_from(ticket.0).ok().and_then(|index| Self::ALL.get(index)).copied()
    }

    /// Has a note of the connection's own, which its answer takes.
    pub(super) const fn has_note(self) -> bool {
        matches!(self, Self::Use | Self::Watch | Self::Ignore | Self::Say)
    }

    /// What its refusal is about.
    pub(super) const fn about(self) -> About {
        match self {
            Self::Put => About::NewJob,
            Self::ReserveJob
            | Self::Delete
            | Self::BatchDelete
            | Self::LastBatchDelete
            | Self::Release
            | Self::Bury
            | Self::Touch
            | Self::KickJob
            | Self::Peek
            | Self::StatsJob
            | Self::Pause
            | Self::StatsTube => About::Existing,
            Self::Login
            | Self::Vhost
            | Self::Channel
            | Self::FirstUse
            | Self::FirstWatch
            | Self::Claim
            | Self::PatientClaim
            | Self::TimedClaim
            | Self::BatchClaim
            | Self::Use
            | Self::Watch
            | Self::Ignore
            | Self::Kick
            | Self::Stats
            | Self::ListTubes
            | Self::ListTubeUsed
            | Self::ListTubesWatched
            | Self::Say
            | Self::Withdraw => About::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ticket_reads_back() {
        for ask in Ask::ALL {
            assert_eq!(Ask::read(ask.ticket()), Some(ask), "ALL must follow the order of the enum");
        }
        assert_eq!(Ask::read(Ticket(Ask::ALL.len() as u64)), None);
        assert_eq!(Ask::read(Ticket(u64::MAX)), None);
    }
}
