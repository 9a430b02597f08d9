//! Renew: one call for every lease of a worker, and the truth about what it holds. When leases end
//! is the engine's.

use std::collections::BTreeSet;

use model::{Held, Millis, Reply, Request as Question};
use serde::Deserialize;

use super::{Asks, Call, Task, Under, unhoped};
use crate::answer::{Answer, Object, quoted};
use crate::json::{self, Items};
use crate::route::Request;
use crate::{Failure, fields};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    worker: String,
    lease_s: Option<u64>,
    #[serde(default, borrow)]
    items: Items<'a>,
}

struct Renew {
    lease_s: u32,
    claims: Vec<Held>,
    /// Ids that were never given to anybody.
    odd: Vec<String>,
    answer: Option<Answer>,
}

pub(crate) fn read(request: &Request<'_>) -> Result<Call, Failure> {
    let query = request.query(&[])?;
    let body: Body<'_> = json::read(&request.body)?;
    let lease_s = fields::lease(body.lease_s)?;
    let (claims, odd) = fields::held(&body.items)?;
    let under = Under::Worker { name: fields::worker(&body.worker)?, lease_s };
    Ok(Call::new(&query, under, Renew { lease_s, claims, odd, answer: None }))
}

impl Task for Renew {
    fn start(&mut self, asks: &mut Asks, _now: Millis) {
        let claims = self.claims.clone();
        asks.ask(0, Question::Renew { lease_s: self.lease_s, claims });
    }

    fn on_reply(&mut self, _asks: &mut Asks, _ticket: usize, reply: Reply) {
        let Reply::Renewed(held) = reply else {
            self.answer = Some(unhoped(&reply).into());
            return;
        };
        let has: BTreeSet<_> = held.iter().map(|held| held.job).collect();
        let lost = self.claims.iter().filter(|claim| !has.contains(&claim.job));
        let lost = lost.map(|claim| quoted(&claim.job.to_string()));
        let mut object = Object::new();
        object.list("held", held.iter().map(|held| shown(*held)));
        object.list("lost", lost.chain(self.odd.iter().map(|id| quoted(id))));
        self.answer = Some(Answer::json(object.end()));
    }

    fn answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }
}

fn shown(held: Held) -> String {
    let mut object = Object::new();
    object.text("id", &held.job.to_string());
    object.number("attempt", held.attempt);
    object.end()
}
