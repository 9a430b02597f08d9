//! [`Kind`]: the things that go wrong, by name. Doing them is `world::faults`' business.

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The power fails: what was not flushed is lost, torn, reordered or kept.
    Power,
    /// The power fails during some write, sync or rename of the log.
    PowerInFlush,
    /// The power fails at the moment when a client has read a yes.
    PowerAtYes,
    /// The power fails again while the server recovers.
    PowerInRecovery,
    /// The process is killed; what it wrote stays with the system.
    Kill,
    /// The process is asked to stop.
    Stop,
    /// A connection breaks, at any byte.
    Reset,
    /// What a client sends arrives nowhere any more.
    LostUp,
    /// What the server sends arrives nowhere any more.
    LostDown,
    /// A client does not read for a while.
    SlowReader,
    /// Bytes travel slowly for a while.
    SlowLink,
    /// The server does nothing for a while.
    Pause,
    /// The wall clock is set forward.
    ClockForward,
    /// The wall clock is set back.
    ClockBack,
    /// The wall clock is too fast or too slow.
    ClockDrift,
    /// Flushes take long for a while.
    SlowDisk,
    /// A write of the log fails.
    WriteError,
    /// A flush of the log fails.
    SyncError,
    /// A read fails.
    ReadError,
    /// Writes take only part of what they are given.
    ShortWrites,
    /// The disk is full for a while.
    DiskFull,
    /// Memory is short for a while.
    MemoryShort,
    /// A bit of a file flips.
    BitRot,
    /// A write lands elsewhere.
    Misdirected,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::Power,
        Self::PowerInFlush,
        Self::PowerAtYes,
        Self::PowerInRecovery,
        Self::Kill,
        Self::Stop,
        Self::Reset,
        Self::LostUp,
        Self::LostDown,
        Self::SlowReader,
        Self::SlowLink,
        Self::Pause,
        Self::ClockForward,
        Self::ClockBack,
        Self::ClockDrift,
        Self::SlowDisk,
        Self::WriteError,
        Self::SyncError,
        Self::ReadError,
        Self::ShortWrites,
        Self::DiskFull,
        Self::MemoryShort,
        Self::BitRot,
        Self::Misdirected,
    ];
}
