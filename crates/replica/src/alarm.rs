//! [`Alarm`]: what is short. While one is on, sessions that publish are told and not read from;
//! everybody else goes on. Raised and cleared by `node` (disk) and the binary (memory).

/// A resource that is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The disk is nearly full.
    Disk,
    /// The process uses more memory than it was given.
    Memory,
}

impl Alarm {
    /// The reason as clients get to see it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Disk => "low on disk",
            Self::Memory => "low on memory",
        }
    }
}

/// The alarms that are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarms {
    is_disk: bool,
    is_memory: bool,
}

impl Alarms {
    /// Sets one; says whether that changed anything.
    pub(crate) fn set(&mut self, alarm: Alarm, is_on: bool) -> bool {
        let place = match alarm {
            Alarm::Disk => &mut self.is_disk,
            Alarm::Memory => &mut self.is_memory,
        };
        std::mem::replace(place, is_on) != is_on
    }

    pub(crate) const fn is_on(self, alarm: Alarm) -> bool {
        match alarm {
            Alarm::Disk => self.is_disk,
            Alarm::Memory => self.is_memory,
        }
    }

    /// The one to name, if any is on.
    pub(crate) const fn first(self) -> Option<Alarm> {
        if self.is_disk {
            Some(Alarm::Disk)
        } else if self.is_memory {
            Some(Alarm::Memory)
        } else {
            None
        }
    }
}
