//! [`Role`]: what a client wants. One file per role; each tells the facts that its part of the
//! promises is judged by. Not here: connections (`link`), when a role has its turn (`clients`).

mod churner;
mod consumer;
mod digger;
mod gardener;
mod getter;
mod gleaner;
mod hand;
mod keeper;
mod publisher;
mod putter;
mod raker;
mod reeve;
mod sower;
mod worker;

use proto_amqp::table::Method;

pub(crate) use churner::Churner;
pub(crate) use consumer::{Consumer, Manner};
pub(crate) use digger::{Digger, Ways};
pub(crate) use gardener::Gardener;
pub(crate) use getter::Getter;
pub(crate) use gleaner::Gleaner;
pub(crate) use hand::{Hand, Skill};
pub(crate) use keeper::Keeper;
pub(crate) use publisher::{Habit, Publisher};
pub(crate) use putter::Putter;
pub(crate) use raker::Raker;
pub(crate) use reeve::Reeve;
pub(crate) use sower::Sower;
pub(crate) use worker::Worker;

use crate::fact::JobAnswered;
use crate::io::{Io, Letter};
use crate::speech::Door;

/// What a client wants.
pub(crate) trait Role {
    /// The connection and its channel 1 are open.
    fn opened(&mut self, io: &mut Io<'_>);
    /// A method without content came, on a channel.
    fn on_method(&mut self, _io: &mut Io<'_>, _channel: u16, _method: &Method<'_>) {}
    /// A whole message came.
    fn on_letter(&mut self, _io: &mut Io<'_>, _from: (u16, &Method<'_>), _letter: &Letter) {}
    /// The beanstalk door answered.
    fn on_answer(&mut self, _io: &mut Io<'_>, _answered: &JobAnswered) {}
    /// The workers' door said something about what was asked under this number.
    fn on_words(&mut self, _io: &mut Io<'_>, _number: u64, _words: &[&str]) {}
    /// The turn it asked for, or the stage changed.
    fn on_turn(&mut self, io: &mut Io<'_>);
    /// The connection broke.
    fn lost(&mut self, _io: &mut Io<'_>) {}
    /// The server answered the goodbye: everything asked for is done and durable.
    fn parted(&mut self, _io: &mut Io<'_>) {}
    /// Where it connects.
    fn door(&self) -> Door {
        Door::Amqp
    }
    /// In which stage it begins.
    fn begins(&self) -> crate::io::Stage {
        crate::io::Stage::Busy
    }
}
