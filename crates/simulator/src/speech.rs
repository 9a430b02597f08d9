//! [`Speech`]: a client's end of a connection, whichever door it is at. Not here: what is said
//! there (`link`, `tap`), when it connects (`world::clients`, which calls this).

use bytes::BytesMut;

use crate::fact::{Fact, JobAsk, JobWish, Micros};
use crate::io::Io;
use crate::link::{Link, Over};
use crate::roles::Role;
use crate::tap::Tap;

/// The door that a client comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Amqp,
    Beanstalk,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) enum Speech {
    Amqp(Box<Link>),
    Beanstalk(Box<Tap>),
}

impl Speech {
    pub(crate) fn new(door: Door, now: Micros, heartbeat: Micros) -> Self {
        match door {
            Door::Amqp => Self::Amqp(Box::new(Link::new(now, heartbeat))),
            Door::Beanstalk => Self::Beanstalk(Box::new(Tap::new(now))),
        }
    }

    /// What a client says before anything else, unasked.
    pub(crate) fn greet(&mut self, io: &mut Io<'_>) {
        if let Self::Beanstalk(_) = self {
            io.ask(JobWish::Hello);
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Amqp(link) => link.is_open(),
            Self::Beanstalk(tap) => tap.is_open(),
        }
    }

    pub(crate) fn is_leaving(&self) -> bool {
        match self {
            Self::Amqp(link) => link.is_leaving(),
            Self::Beanstalk(tap) => tap.is_leaving(),
        }
    }

    pub(crate) fn close(&mut self, now: Micros) -> bool {
        match self {
            Self::Amqp(link) => link.close(),
            Self::Beanstalk(tap) => tap.close(now),
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
        }
    }

    /// The server closed; that is how the beanstalk door answers a goodbye.
    pub(crate) fn on_end(&self) -> Over {
        match self {
            Self::Beanstalk(tap) if tap.is_leaving() => Over::Goodbye,
            Self::Amqp(_) | Self::Beanstalk(_) => Over::Told,
        }
    }

    pub(crate) fn deadline(&self) -> Micros {
        match self {
            Self::Amqp(link) => link.deadline(),
            Self::Beanstalk(tap) => tap.deadline(),
        }
    }

    pub(crate) fn on_time(&mut self, now: Micros) -> Result<(), Over> {
        match self {
            Self::Amqp(link) => link.on_time(now),
            Self::Beanstalk(tap) => tap.on_time(now),
        }
    }

    pub(crate) fn out(&mut self) -> &mut BytesMut {
        match self {
            Self::Amqp(link) => &mut link.out,
            Self::Beanstalk(tap) => &mut tap.out,
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
        }
    }
}

/// What counts as a yes: the cruellest moment for a power cut.
pub(crate) fn is_yes(fact: &Fact) -> bool {
    use crate::fact::JobAnswer::{Inserted, Kicked, Yes};
    match fact {
        Fact::Confirmed(..) | Fact::Settled(_) => true,
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
