//! [`Plan`]: what one seed is about. Swarm testing: every seed turns on a random few of the fault
//! kinds and a random mix of work, so that seeds differ and no fault drowns the others.
//!
//! Not here: doing any of it (`world`).

use std::sync::Arc;

use model::Limits;

use crate::dice::Dice;
use crate::fact::{Micros, Place, Tube};
use crate::fault::Kind;
use crate::garden::{Garden, Use};
use crate::roles::{
    Churner, Consumer, Digger, Gardener, Getter, Gleaner, Habit, Hand, Keeper, Manner, Publisher,
    Putter, Raker, Reeve, Role, Skill, Sower, Ways, Worker,
};
use crate::server::Setup;

/// One second of virtual time.
pub(crate) const SECOND: Micros = 1_000_000;

/// See the module's head.
pub(crate) struct Plan {
    pub(crate) garden: Garden,
    pub(crate) setup: Setup,
    pub(crate) roles: Vec<Box<dyn Role>>,
    /// Fault kinds of this seed.
    pub(crate) faults: Vec<Kind>,
    /// Mean time between faults.
    pub(crate) fault_pause: Micros,
    /// How long work and faults go on.
    pub(crate) busy: Micros,
    /// How long a flush takes.
    pub(crate) flush: Micros,
    /// How long a byte travels.
    pub(crate) latency: Micros,
    /// Bytes that fit between two ends.
    pub(crate) window: usize,
    pub(crate) heartbeat: Micros,
    pub(crate) drift_ppm: i64,
    /// Compares the disk with the node, so many times out of a hundred quiet moments.
    pub(crate) compares: u64,
}

impl Plan {
    /// Follows from the seed alone. `only`: nothing but these fault kinds.
    pub(crate) fn new(dice: &mut Dice, only: Option<&[Kind]>) -> Self {
        let garden = Garden::lay_out(dice);
        let mut faults: Vec<Kind> = Vec::new();
        // One seed in ten has none: the work itself must be right.
        let share = if dice.chance(10) { 0 } else { dice.within(10..60) };
        faults.extend(Kind::ALL.iter().copied().filter(|_| dice.chance(share)));
        if let Some(only) = only {
            faults = only.to_vec();
        }
        let mut roles = roles(&garden, dice);
        let has_drift = faults.contains(&Kind::ClockDrift);
        let mut plan = Self {
            setup: setup(dice),
            roles: Vec::new(),
            fault_pause: dice.within(SECOND / 4..8 * SECOND),
            busy: dice.within(10 * SECOND..50 * SECOND),
            flush: dice.within(50..8_000),
            latency: dice.within(10..3_000),
            window: usize::try_from(dice.within(2_048..65_536)).unwrap_or(8_192),
            heartbeat: dice.within(2..12) * SECOND,
            drift_ppm: if has_drift { dice.within(0..2_000).cast_signed() - 1_000 } else { 0 },
            compares: dice.below(20),
            garden,
            faults,
        };
        hands(&mut roles, dice);
        plan.roles = roles;
        plan
    }
}

/// Small sizes, so that segments roll, bodies grow cold and checkpoints happen all the time.
fn setup(dice: &mut Dice) -> Setup {
    // Not smaller: publishes are refused once an eighth of the reserve (two segments) is left, and
    // that must hold what one connection sends in one go. By default it is 16 MiB.
    let segment_bytes = 4096 * dice.within(64..128);
    let journal = journal::Options {
        dir: "/data".into(),
        segment_bytes,
        segments_max: u32::try_from(dice.within(4..10)).unwrap_or(6),
        cache_bytes: usize::try_from(dice.below(256 * 1024)).unwrap_or(0),
        checkpoint_bytes: dice.within(16 * 1024..512 * 1024),
        free_bytes_min: 1 << 20,
        pace_bytes: 4096 * dice.within(1..64),
        seed: Some(dice.roll()),
        ..journal::Options::default()
    };
    let limits = Limits {
        message_bytes_max: 8 * 1024,
        commit_bytes_max: 24 * 1024,
        commit_ops_max: 64,
        undelivered_bytes_max: u32::try_from(dice.within(1_024..64 * 1024)).unwrap_or(8_192),
        ..Limits::default()
    };
    let door = proto_amqp::Options { limits, frame_max: 4096, ..proto_amqp::Options::default() };
    let tubes =
        proto_beanstalk::Options { job_bytes_max: 4096, ..proto_beanstalk::Options::default() };
    Setup { journal, limits, door: Arc::new(door), tubes: Arc::new(tubes) }
}

fn roles(garden: &Garden, dice: &mut Dice) -> Vec<Box<dyn Role>> {
    let mut roles: Vec<Box<dyn Role>> = vec![Box::new(Gardener::default())];
    for route in &garden.routes {
        for _ in 0..dice.within(1..3) {
            let habit = Habit {
                route: route.clone(),
                has_confirms: dice.chance(75),
                window: usize::try_from(dice.within(1..60)).unwrap_or(1),
                pause: dice.within(50_000..2 * SECOND),
                burst: dice.within(1..8),
                bytes_max: dice.within(1..2_500),
            };
            roles.push(Box::new(Publisher::new(habit)));
        }
    }
    for place in garden.places() {
        let Some(bed) = garden.get(place) else { continue };
        let count = match bed.purpose {
            Use::Input | Use::Outcome | Use::Churn => 0,
            Use::Dead | Use::Next => dice.below(2),
            _ => dice.within(1..4),
        };
        for _ in 0..count {
            roles.push(Box::new(Consumer::new(manner(place, dice))));
        }
        special(&mut roles, (place, bed.purpose), dice);
    }
    tubes(&mut roles, garden, dice);
    roles.push(Box::new(Gleaner::default()));
    roles
}

/// Clients of the beanstalk door. Every tube has at least one who works there to the end.
fn tubes(roles: &mut Vec<Box<dyn Role>>, garden: &Garden, dice: &mut Dice) {
    let all: Vec<Tube> = (0..garden.tubes.len()).filter_map(|at| Tube::try_from(at).ok()).collect();
    if all.is_empty() {
        return;
    }
    for tube in &all {
        for _ in 0..dice.within(1..3) {
            let pause = dice.within(50_000..2 * SECOND);
            let is_plain = dice.chance(30);
            roles.push(Box::new(Putter::new(*tube, pause, dice.within(1..8), is_plain)));
        }
        for _ in 0..dice.within(1..3) {
            let others = all.iter().copied().filter(|other| other != tube && dice.chance(30));
            let also = others.collect();
            roles.push(Box::new(Digger::new(*tube, also, ways(dice))));
        }
        if dice.chance(60) {
            let pause = dice.within(20_000..2 * SECOND);
            roles.push(Box::new(Keeper::new(*tube, pause, dice.chance(50))));
        }
    }
    roles.push(Box::new(Raker::default()));
}

/// Workers without a connection of their own, in every second seed.
fn hands(roles: &mut Vec<Box<dyn Role>>, dice: &mut Dice) {
    if dice.chance(50) {
        return;
    }
    for _ in 0..dice.within(1..3) {
        let pause = dice.within(50_000..2 * SECOND);
        roles.push(Box::new(Sower::new(pause, dice.within(1..8))));
    }
    for _ in 0..dice.within(1..4) {
        let is_gentle = dice.chance(30);
        let mut share = |most: u64| if is_gentle { 0 } else { dice.below(most) };
        let skill = Skill {
            fails: share(20),
            releases: share(20),
            forgets: share(15),
            renews: 5 + share(30),
            leaves: share(4),
            hands: usize::try_from(dice.within(1..8)).unwrap_or(1),
            lease_s: dice.within(1..10),
            pause: dice.within(5_000..SECOND / 2),
        };
        roles.push(Box::new(Hand::new(skill)));
    }
    roles.push(Box::new(Reeve::default()));
}

fn ways(dice: &mut Dice) -> Ways {
    let is_gentle = dice.chance(30);
    // Works long on a job and touches it again and again.
    let is_slow = dice.chance(25);
    let mut share = |most: u64| if is_gentle { 0 } else { dice.below(most) };
    Ways {
        releases: share(30),
        buries: share(20),
        touches: if is_slow { 50 } else { share(20) },
        forgets: if is_slow { 35 } else { share(10) },
        leaves: share(5),
        wanders: share(10),
        waits: share(60),
        hands: usize::try_from(dice.within(1..6)).unwrap_or(1),
        pause: dice.within(5_000..SECOND / 2),
    }
}

/// Those who do more than consume from a queue.
fn special(roles: &mut Vec<Box<dyn Role>>, (place, purpose): (Place, Use), dice: &mut Dice) {
    let pause = dice.within(10_000..SECOND);
    match purpose {
        Use::Input => {
            for _ in 0..dice.within(1..4) {
                let prefetch = u16::try_from(dice.within(1..20)).unwrap_or(1);
                let pause = dice.within(5_000..SECOND / 2);
                roles.push(Box::new(Worker::new(place, pause, dice.below(15), prefetch)));
            }
        }
        Use::Churn => roles.push(Box::new(Churner::new(place, pause))),
        Use::Work | Use::Timed | Use::Limited | Use::Priority if dice.chance(30) => {
            roles.push(Box::new(Getter::new(place, pause)));
        }
        _ => {}
    }
}

fn manner(place: Place, dice: &mut Dice) -> Manner {
    let is_gentle = dice.chance(40);
    let mut share = |most: u64| if is_gentle { 0 } else { dice.below(most) };
    Manner {
        place,
        returns: share(30),
        rejects: share(10),
        multiples: share(40),
        leaves: share(4),
        cancels: share(4),
        prefetch: u16::try_from(dice.within(1..40)).unwrap_or(1),
        pause: dice.within(5_000..SECOND / 2),
    }
}
