//! [`Ledger`]: what is certain about every job, from what clients asked and were told.
//!
//! Lives here: the one place that knows what a request may do to a job. A request without an
//! answer makes a job uncertain; an answer makes it certain again if nothing else has touched the
//! job meanwhile. Answers travel at different speeds, so nothing is concluded from the order in
//! which two clients hear something, only from a request that left after an answer had arrived.
//! Not an invariant itself: those of jobs look a fact up here before they let the ledger hear it.
//!
//! Its clock is the number of the newest request: what was asked with `number >= since` was asked
//! after `since` was noted.

use std::collections::BTreeMap;

use model::JobId;

use crate::fact::{ConnId, Fact, JobAnswer, JobAnswered, JobAsk, JobWish, MessageId, Stand, Tube};

/// Where a job certainly is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rest {
    #[default]
    Unknown,
    /// Ready, unless a reservation that waits has it.
    Ready,
    /// Not before this time on the wall clock.
    Delayed(u64),
    /// The burial was asked for at `from` and had happened by `by`.
    Buried {
        from: u32,
        by: u32,
    },
    Held(Hold),
    /// Its deletion was answered before this.
    Gone(u32),
}

/// A job that a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) conn: ConnId,
    /// Its time to run is not over before.
    pub(crate) until_ms: u64,
    /// The server's clock was no later when the client heard of it.
    pub(crate) got_ms: u64,
}

/// A job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) tube: Tube,
    ttr_ms: u64,
    put_ms: u64,
    /// `None`: in doubt.
    pub(crate) rank: Option<u32>,
    pub(crate) rest: Rest,
    /// `rest` is known since.
    pub(crate) since: u32,
    /// Times that somebody asked for or heard of a change.
    touched: u32,
    /// Requests that name it and have no answer.
    open: u32,
    claims: u32,
    /// A crash may undo what it is: it was taken by its number, or a clock that was set back may
    /// make it wait again.
    is_soft: bool,
    was_delayed: bool,
}

/// A put as it was asked for.
#[derive(Clone, Copy, Debug)]
struct Plan {
    tube: Tube,
    rank: u32,
    delay_s: u32,
    ttr_s: u32,
    shown_ms: u64,
    /// Kicks of the tube by then.
    kicks: u32,
}

/// A request without an answer.
#[derive(Clone, Debug)]
struct Open {
    conn: ConnId,
    wish: JobWish,
    before: Rest,
    rank: Option<u32>,
    touched: u32,
    /// Of a kick: what was buried, as far as known.
    buried: Vec<(JobId, Rest, u32, u32)>,
    /// Of a kick: that is all of it. Otherwise: nothing else was under way when it was asked.
    is_complete: bool,
    kicks: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kicks {
    count: u32,
    open: u32,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    jobs: BTreeMap<JobId, Known>,
    plans: BTreeMap<MessageId, Plan>,
    open: BTreeMap<u32, Open>,
    kicks: BTreeMap<Tube, Kicks>,
    /// One more than the newest request's number.
    now: u32,
    /// What was shown before this request means nothing: the clock was set back.
    set_back: u32,
}

impl Ledger {
    pub(crate) fn get(&self, id: JobId) -> Option<&Known> {
        self.jobs.get(&id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (JobId, &Known)> {
        self.jobs.iter().map(|(id, known)| (*id, known))
    }

    /// The clock.
    pub(crate) const fn now(&self) -> u32 {
        self.now
    }

    /// Where the job of this answer certainly was, if nothing has touched it since it was asked.
    pub(crate) fn before(&self, answered: &JobAnswered) -> Option<Rest> {
        let open = self.open.get(&answered.ask.number)?;
        let known = self.jobs.get(&answered.ask.wish.id()?)?;
        (known.touched == open.touched && known.open <= 1).then_some(open.before)
    }

    /// How many a kick must find at least.
    pub(crate) fn certain_kicks(&self, answered: &JobAnswered) -> usize {
        let Some(open) = self.open.get(&answered.ask.number) else { return 0 };
        let JobWish::Kick { tube, .. } = open.wish else { return 0 };
        if !self.is_only_kick(tube, open) {
            return 0;
        }
        open.buried.iter().filter(|(id, _, touched, _)| self.is_untouched(*id, *touched)).count()
    }

    /// The earliest time at which a reservation that was just told of can have been made.
    pub(crate) fn claimed_ms(&self, ask: &JobAsk, known: &Known) -> u64 {
        let asked = self.shown(ask);
        if known.claims == 0 { asked.max(known.put_ms) } else { asked }
    }

    /// When a reservation that was just told of runs out, at the earliest.
    pub(crate) fn lease_end(&self, ask: &JobAsk, known: &Known) -> u64 {
        match self.claimed_ms(ask, known) {
            0 => 0,
            from => from + known.ttr_ms,
        }
    }

    /// What the clock showed when this was asked; 0 when that means nothing.
    fn shown(&self, ask: &JobAsk) -> u64 {
        if ask.number < self.set_back { 0 } else { ask.shown_ms }
    }

    fn is_untouched(&self, id: JobId, touched: u32) -> bool {
        self.jobs.get(&id).is_some_and(|known| known.touched == touched && known.open == 0)
    }

    fn is_only_kick(&self, tube: Tube, open: &Open) -> bool {
        let kicks = self.kicks.get(&tube).copied().unwrap_or_default();
        kicks.count == open.kicks && kicks.open == 1
    }

    fn kicks(&self, tube: Tube) -> Kicks {
        self.kicks.get(&tube).copied().unwrap_or_default()
    }

    /// Takes a fact in.
    pub(crate) fn hear(&mut self, fact: &Fact) {
        match fact {
            Fact::JobAsked(ask) => self.asked(ask),
            Fact::JobAnswered(answered) => self.answered(answered),
            Fact::Ended(conn) | Fact::Dismissed(conn) => {
                self.ended(*conn, matches!(fact, Fact::Ended(_)));
            }
            Fact::Crashed(_) => self.crashed(),
            Fact::SetBack => self.set_back(),
            _ => {}
        }
    }

    fn asked(&mut self, ask: &JobAsk) {
        self.now = self.now.max(ask.number + 1);
        let mut open = Open {
            conn: ask.conn,
            wish: ask.wish.clone(),
            before: Rest::Unknown,
            rank: None,
            touched: 0,
            buried: Vec::new(),
            is_complete: false,
            kicks: 0,
        };
        match &ask.wish {
            JobWish::Put { job, tube, rank, delay_s, ttr_s } => {
                let (tube, rank, delay_s, ttr_s) = (*tube, *rank, *delay_s, *ttr_s);
                let kicks = self.kicks(tube).count;
                let shown_ms = ask.shown_ms;
                self.plans.insert(*job, Plan { tube, rank, delay_s, ttr_s, shown_ms, kicks });
            }
            JobWish::Kick { tube, .. } => self.begin_kick(*tube, &mut open),
            wish => {
                let Some(known) = wish.id().and_then(|id| self.jobs.get_mut(&id)) else { return };
                open.before = known.rest;
                open.rank = known.rank;
                let kicks = self.kicks.get(&known.tube).copied().unwrap_or_default();
                (open.kicks, open.is_complete) = (kicks.count, known.open + kicks.open == 0);
                known.is_soft |= matches!(wish, JobWish::ReserveJob(_));
                if is_change(wish) {
                    known.touched += 1;
                    known.open += 1;
                    if disturbs(wish, known.rest, ask.conn) {
                        known.rest = Rest::Unknown;
                    }
                    if matches!(wish, JobWish::Release { .. } | JobWish::Bury { .. }) {
                        known.rank = None;
                    }
                }
                open.touched = known.touched;
            }
        }
        self.open.insert(ask.number, open);
    }

    fn begin_kick(&mut self, tube: Tube, open: &mut Open) {
        let kicks = self.kicks.entry(tube).or_default();
        kicks.count += 1;
        kicks.open += 1;
        open.kicks = kicks.count;
        open.is_complete = true;
        for (id, known) in self.jobs.iter_mut().filter(|(_, known)| known.tube == tube) {
            match known.rest {
                Rest::Buried { .. } if known.open == 0 => {
                    open.buried.push((*id, known.rest, known.touched, known.since));
                    known.rest = Rest::Unknown;
                }
                Rest::Buried { .. } | Rest::Delayed(_) => known.rest = Rest::Unknown,
                Rest::Unknown => open.is_complete = false,
                Rest::Ready | Rest::Held(_) | Rest::Gone(_) => {}
            }
            open.is_complete &= known.open == 0 || matches!(known.rest, Rest::Gone(_));
        }
    }

    fn answered(&mut self, answered: &JobAnswered) {
        let JobAnswered { ask, answer, log_ms, is_stale } = answered;
        let open = self.open.remove(&ask.number);
        if let (Some(open), Some(id)) = (&open, ask.wish.id())
            && is_change(&open.wish)
            && let Some(known) = self.jobs.get_mut(&id)
        {
            known.open = known.open.saturating_sub(1);
        }
        match (&ask.wish, answer) {
            (JobWish::Put { job, .. }, JobAnswer::Inserted(id)) => self.inserted(*id, *job, ask),
            (_, JobAnswer::Reserved(id, job)) => {
                self.learn(*id, *job);
                if !is_stale {
                    self.reserved(*id, ask, *log_ms);
                }
            }
            (_, JobAnswer::Found(id, job)) => self.learn(*id, *job),
            (JobWish::Delete(id), JobAnswer::Yes) => {
                if let Some(known) = self.jobs.get_mut(id) {
                    (known.rest, known.since) = (Rest::Gone(self.now), self.now);
                }
            }
            (JobWish::Touch(id), JobAnswer::Yes) => self.touched(*id, ask),
            (JobWish::Kick { tube, .. }, answer) => {
                if let Some(open) = open {
                    self.end_kick(*tube, &open, answer);
                }
            }
            (wish, answer) => {
                if let (Some(open), Some(id)) = (open, wish.id()) {
                    self.changed(id, (ask, answer), &open);
                }
            }
        }
    }

    fn inserted(&mut self, id: JobId, job: MessageId, ask: &JobAsk) {
        if self.jobs.contains_key(&id) {
            return;
        }
        self.learn(id, job);
        let shown = self.shown(ask);
        let (now, Some(plan)) = (self.now, self.plans.get(&job).copied()) else { return };
        let kicks = self.kicks(plan.tube);
        let Some(known) = self.jobs.get_mut(&id) else { return };
        known.since = now;
        known.rest = match u64::from(plan.delay_s) * 1_000 {
            0 => Rest::Ready,
            delay if kicks.count == plan.kicks && kicks.open == 0 && shown > 0 => {
                Rest::Delayed(shown + delay)
            }
            _ => Rest::Unknown,
        };
    }

    /// A job that is heard of for the first time.
    fn learn(&mut self, id: JobId, job: MessageId) {
        let Some(plan) = self.plans.get(&job).copied() else { return };
        let since = self.now;
        self.jobs.entry(id).or_insert_with(|| Known {
            tube: plan.tube,
            ttr_ms: u64::from(plan.ttr_s.max(1)) * 1_000,
            put_ms: plan.shown_ms,
            rank: Some(plan.rank),
            since,
            was_delayed: plan.delay_s > 0,
            ..Known::default()
        });
    }

    fn reserved(&mut self, id: JobId, ask: &JobAsk, log_ms: u64) {
        let Some(known) = self.jobs.get(&id) else { return };
        let until_ms = self.lease_end(ask, known);
        let now = self.now;
        // It may have ended what it hears of only now.
        let has_asked = self.open.values().any(|open| {
            open.conn == ask.conn && open.wish.id() == Some(id) && is_change(&open.wish)
        });
        let Some(known) = self.jobs.get_mut(&id) else { return };
        known.claims += 1;
        known.touched += 1;
        if matches!(known.rest, Rest::Gone(_)) {
            return;
        }
        known.since = now;
        known.rest = if log_ms < until_ms && !has_asked {
            Rest::Held(Hold { conn: ask.conn, until_ms, got_ms: log_ms })
        } else {
            Rest::Unknown
        };
    }

    fn touched(&mut self, id: JobId, ask: &JobAsk) {
        let shown = self.shown(ask);
        let Some(known) = self.jobs.get_mut(&id) else { return };
        if let Rest::Held(hold) = &mut known.rest
            && hold.conn == ask.conn
            && shown > 0
        {
            hold.until_ms = hold.until_ms.max(shown + known.ttr_ms);
        }
    }

    /// The answer to a request that names a job.
    fn changed(&mut self, id: JobId, (ask, answer): (&JobAsk, &JobAnswer), open: &Open) {
        let (now, shown) = (self.now, self.shown(ask));
        let Some(known) = self.jobs.get_mut(&id) else { return };
        let kicks = self.kicks.get(&known.tube).copied().unwrap_or_default();
        if known.touched != open.touched || known.open > 0 || matches!(known.rest, Rest::Gone(_)) {
            return;
        }
        let is_own = matches!(open.before, Rest::Held(hold) if hold.conn == ask.conn);
        match (&ask.wish, answer) {
            (JobWish::Release { rank, delay_s, .. }, JobAnswer::Yes) => {
                known.rank = Some(*rank);
                (known.is_soft, known.was_delayed) = (false, *delay_s > 0);
                known.since = now;
                known.rest = match u64::from(*delay_s) * 1_000 {
                    _ if !is_own => Rest::Unknown,
                    0 => Rest::Ready,
                    delay if kicks.open == 0 && kicks.count == open.kicks && shown > 0 => {
                        Rest::Delayed(shown + delay)
                    }
                    _ => Rest::Unknown,
                };
            }
            (JobWish::Bury { rank, .. }, JobAnswer::Yes) => {
                known.rank = Some(*rank);
                (known.is_soft, known.was_delayed) = (false, false);
                known.since = now;
                let is_quiet = kicks.open == 0 && kicks.count == open.kicks;
                known.rest = if is_own && is_quiet {
                    Rest::Buried { from: ask.number, by: now }
                } else {
                    Rest::Unknown
                };
            }
            (JobWish::KickJob(_), JobAnswer::Yes) => {
                (known.is_soft, known.was_delayed) = (false, false);
                (known.rest, known.since) = (Rest::Ready, now);
            }
            (JobWish::StatsJob(_), JobAnswer::Described { stand, rank }) if open.is_complete => {
                known.rank = known.rank.or(Some(*rank));
                let is_quiet = kicks.open == 0 && kicks.count == open.kicks;
                if *stand == Stand::Buried && known.rest == Rest::Unknown && is_quiet {
                    (known.rest, known.since) = (Rest::Buried { from: 0, by: now }, now);
                }
            }
            (JobWish::Release { .. } | JobWish::Bury { .. }, JobAnswer::NotFound) => {
                known.rank = open.rank;
            }
            _ => {}
        }
    }

    /// If everything that was buried is known, so is what was kicked.
    fn end_kick(&mut self, tube: Tube, open: &Open, answer: &JobAnswer) {
        let is_only = self.is_only_kick(tube, open);
        if let Some(kicks) = self.kicks.get_mut(&tube) {
            kicks.open = kicks.open.saturating_sub(1);
        }
        let JobAnswer::Kicked(count) = answer else { return };
        let is_whole =
            |(id, _, touched, _): &(JobId, Rest, u32, u32)| self.is_untouched(*id, *touched);
        if !is_only || !open.is_complete || !open.buried.iter().all(is_whole) {
            return;
        }
        let (now, count) = (self.now, usize::try_from(*count).unwrap_or(usize::MAX));
        for (id, rest, _, since) in &open.buried {
            let Rest::Buried { from, by } = *rest else { continue };
            let others = open.buried.iter().filter(|(other, ..)| other != id);
            let (mut sure, mut perhaps) = (0, 0);
            for (_, other, ..) in others {
                let Rest::Buried { from: other_from, by: other_by } = *other else { continue };
                sure += usize::from(other_by <= from);
                perhaps += usize::from(other_from < by);
            }
            let Some(known) = self.jobs.get_mut(id) else { continue };
            if perhaps < count {
                (known.rest, known.since) = (Rest::Ready, now);
                (known.is_soft, known.was_delayed) = (false, false);
            } else if sure >= count {
                (known.rest, known.since) = (*rest, *since);
            }
        }
    }

    /// What a connection asked may have been done; what it had is ready again. `is_over`: by now.
    fn ended(&mut self, conn: ConnId, is_over: bool) {
        let (of_it, rest) =
            std::mem::take(&mut self.open).into_iter().partition(|(_, open)| open.conn == conn);
        self.open = rest;
        self.forget(of_it);
        let now = self.now;
        for known in self.jobs.values_mut() {
            if matches!(known.rest, Rest::Held(hold) if hold.conn == conn) {
                let is_ready = is_over && !known.is_soft && known.open == 0;
                known.rest = if is_ready { Rest::Ready } else { Rest::Unknown };
                known.since = now;
                known.touched += 1;
            }
        }
    }

    fn forget(&mut self, opens: BTreeMap<u32, Open>) {
        for open in opens.into_values() {
            if let JobWish::Kick { tube, .. } = open.wish
                && let Some(kicks) = self.kicks.get_mut(&tube)
            {
                kicks.open = kicks.open.saturating_sub(1);
                kicks.count += 1;
            }
            if !is_change(&open.wish) {
                continue;
            }
            let known = open.wish.id().and_then(|id| self.jobs.get_mut(&id));
            let Some(known) = known else { continue };
            known.open = known.open.saturating_sub(1);
            known.touched += 1;
            if disturbs(&open.wish, known.rest, open.conn) {
                known.rest = Rest::Unknown;
            }
        }
    }

    fn crashed(&mut self) {
        let opens = std::mem::take(&mut self.open);
        self.forget(opens);
        let now = self.now;
        for known in self.jobs.values_mut() {
            match known.rest {
                Rest::Held(_) | Rest::Ready if known.is_soft => known.rest = Rest::Unknown,
                Rest::Held(_) => known.rest = Rest::Ready,
                Rest::Unknown
                | Rest::Ready
                | Rest::Delayed(_)
                | Rest::Buried { .. }
                | Rest::Gone(_) => continue,
            }
            known.since = now;
            known.touched += 1;
        }
    }

    fn set_back(&mut self) {
        self.set_back = self.now;
        for known in self.jobs.values_mut() {
            known.put_ms = 0;
            known.is_soft |= known.was_delayed;
            // A delay that was over may begin again with the next start.
            let may_wait = known.rest == Rest::Ready && known.was_delayed;
            if may_wait || matches!(known.rest, Rest::Held(_) | Rest::Delayed(_)) {
                known.rest = Rest::Unknown;
            }
        }
        for plan in self.plans.values_mut() {
            plan.shown_ms = 0;
        }
    }
}

/// Whether it may change where a job is.
fn is_change(wish: &JobWish) -> bool {
    matches!(
        wish,
        JobWish::ReserveJob(_)
            | JobWish::Delete(_)
            | JobWish::Release { .. }
            | JobWish::Bury { .. }
            | JobWish::KickJob(_)
    )
}

/// Whether it may change where a job that rests there is.
fn disturbs(wish: &JobWish, rest: Rest, conn: ConnId) -> bool {
    match (rest, wish) {
        (Rest::Gone(_), _)
        | (Rest::Held(_), JobWish::KickJob(_) | JobWish::ReserveJob(_))
        | (Rest::Ready, JobWish::KickJob(_)) => false,
        (Rest::Held(hold), _) => hold.conn == conn,
        _ => true,
    }
}
