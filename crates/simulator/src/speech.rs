//! [`Speech`]: a client's end of a connection, whichever door it is at. Not here: what is said
//! there (`link`, `tap`), when it connects (`world::clients`, which calls this).

use bytes::BytesMut;

use crate::caller::Caller;
use crate::fact::{Fact, JobAsk, JobWish, Micros, WorkFact};
use crate::io::Io;
use crate::link::{Link, Over};
use crate::roles::Role;
use crate::tap::Tap;

/// The door that a client comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Amqp,
    Beanstalk,
    Work,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) enum Speech {
    Amqp(Box<Link>),
    Beanstalk(Box<Tap>),
    Work(Box<Caller>),
}

impl Speech {
    pub(crate) fn new(door: Door, now: Micros, heartbeat: Micros) -> Self {
        match door {
            Door::Amqp => Self::Amqp(Box::new(Link::new(now, heartbeat))),
            Door::Beanstalk => Self::Beanstalk(Box::new(Tap::new(now))),
            Door::Work => Self::Work(Box::new(Caller::new(now))),
        }
    }

    /// What a client says before anything else, unasked.
    pub(crate) fn greet(&mut self, role: &mut dyn Role, io: &mut Io<'_>) {
        match self {
            Self::Amqp(_) => {}
            Self::Beanstalk(_) => io.ask(JobWish::Hello),
            // There is nothing to wait for.
            Self::Work(_) => role.opened(io),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Amqp(link) => link.is_open(),
            Self::Beanstalk(tap) => tap.is_open(),
            Self::Work(caller) => !caller.is_leaving(),
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        match self {
            Self::Amqp(link) => link.is_leaving(),
            Self::Beanstalk(tap) => tap.is_leaving(),
            Self::Work(caller) => caller.is_leaving(),
        }
    }

    pub(crate) fn close(&mut self, now: Micros) -> bool {
        match self {
            Self::Amqp(link) => link.close(),
            Self::Beanstalk(tap) => tap.close(now),
            Self::Work(caller) => caller.close(now),
        }
    }

    pub(crate) fn expect(&mut self, now: Micros, asks: Vec<JobAsk>) {
        if let Self::Beanstalk(tap) = self {
            tap.expect(now, asks);
        }
    }

    pub(crate) fn on_bytes(
        &mut self,
        bytes: &BytesMut,
        role: &mut dyn Role,
        io: &mut Io<'_>,
    ) -> Result<(), Over> {
        match self {
            Self::Amqp(link) => link.on_bytes(bytes, role, io),
            Self::Beanstalk(tap) => tap.on_bytes(bytes, role, io),
            Self::Work(caller) => caller.on_bytes(bytes, role, io),
        }
    }

    /// The server closed; that is how the beanstalk door answers a goodbye.
    pub(crate) fn on_end(&self) -> Over {
        match self {
            Self::Beanstalk(tap) if tap.is_leaving() => Over::Goodbye,
            Self::Work(caller) if caller.is_leaving() => Over::Goodbye,
            Self::Amqp(_) | Self::Beanstalk(_) | Self::Work(_) => Over::Told,
        }
    }

    pub(crate) fn deadline(&self) -> Micros {
        match self {
            Self::Amqp(link) => link.deadline(),
            Self::Beanstalk(tap) => tap.deadline(),
            Self::Work(caller) => caller.deadline(),
        }
    }

    pub(crate) fn on_time(&mut self, now: Micros) -> Result<(), Over> {
        match self {
            Self::Amqp(link) => link.on_time(now),
            Self::Beanstalk(tap) => tap.on_time(now),
            Self::Work(caller) => caller.on_time(now),
        }
    }

    pub(crate) fn out(&mut self) -> &mut BytesMut {
        match self {
            Self::Amqp(link) => &mut link.out,
            Self::Beanstalk(tap) => &mut tap.out,
            Self::Work(caller) => &mut caller.out,
        }
    }

    pub(crate) fn on_written(&mut self, now: Micros) {
        if let Self::Amqp(link) = self {
            link.on_written(now);
        }
    }

    pub(crate) fn last_words(&self) -> &str {
        match self {
            Self::Amqp(link) => &link.last_words,
            Self::Beanstalk(tap) => &tap.last_words,
            Self::Work(caller) => &caller.last_words,
        }
    }
}

/// What counts as a yes: the cruellest moment for a power cut.
pub(crate) fn is_yes(fact: &Fact) -> bool {
    use crate::fact::JobAnswer::{Inserted, Kicked, Yes};
    match fact {
        Fact::Confirmed(..)
        | Fact::Settled(_)
        | Fact::Work(WorkFact::PutDone(_) | WorkFact::Stored { .. }) => true,
        Fact::JobAnswered(answered) => match &answered.ask.wish {
            JobWish::Put { .. }
            | JobWish::Delete(_)
            | JobWish::Release { .. }
            | JobWish::Bury { .. }
            | JobWish::Kick { .. }
            | JobWish::KickJob(_) => matches!(answered.answer, Yes | Inserted(_) | Kicked(_)),
            _ => false,
        },
        _ => false,
    }
}
