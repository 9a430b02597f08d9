//! [`Account`]: what a crash run found, and [`compare`], which takes everything out of the queues
//! and holds it against what was promised. Not here: making promises (`actors`).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::actors::{Claims, INPUTS, NEXT, RESULTS, declare, number};
use crate::client::{Address, Client, Event};

/// A queue that is silent for this long is empty.
const SILENCE: Duration = Duration::from_millis(400);

/// The sum of a crash run.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Account {
    /// All kills, those while starting included.
    pub(crate) kills: u32,
    pub(crate) kills_while_starting: u32,
    /// Inputs handed to a socket.
    pub(crate) published: u64,
    /// Inputs with a confirm.
    pub(crate) confirmed: u64,
    /// Inputs whose transaction was answered.
    pub(crate) committed: u64,
    /// Inputs without a confirm that were there nevertheless: their answer was cut off.
    pub(crate) stored_without_confirm: u64,
    /// Transactions without an answer that had happened nevertheless, counted in inputs.
    pub(crate) committed_without_answer: u64,
    /// Confirmed inputs of which there was no trace, and answered commits without their outcome.
    pub(crate) lost: u64,
    /// Inputs of which only a part of the transaction had happened.
    pub(crate) half: u64,
    /// Messages that were there twice.
    pub(crate) doubled: u64,
    /// Messages that nobody had published.
    pub(crate) invented: u64,
    /// Time to be ready after a kill.
    pub(crate) ready_ms_sum: u64,
    pub(crate) ready_ms_max: u64,
    pub(crate) seconds: f64,
    /// Resident memory of the server.
    pub(crate) peak_bytes: u64,
    pub(crate) end_bytes: u64,
    /// The folder, when it was kept.
    pub(crate) folder: Option<String>,
    /// The first few things that are wrong.
    pub(crate) findings: Vec<String>,
}

/// Findings that are told in words.
const FINDINGS_MAX: usize = 20;

impl Account {
    /// Whether every promise was kept.
    pub(crate) const fn is_kept(&self) -> bool {
        self.lost == 0 && self.half == 0 && self.doubled == 0 && self.invented == 0
    }

    /// Notes how long a start took.
    pub(super) fn note_start(&mut self, ready: Duration) {
        let ready_ms = u64::try_from(ready.as_millis()).unwrap_or(u64::MAX);
        self.ready_ms_sum += ready_ms;
        self.ready_ms_max = self.ready_ms_max.max(ready_ms);
    }

    fn find(&mut self, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what);
        }
    }

    /// The account for a person.
    pub(crate) fn text(&self) -> String {
        let starts = u64::from(self.kills - self.kills_while_starting).max(1);
        let (mean, worst) = (self.ready_ms_sum / starts, self.ready_ms_max);
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            writeln!(text, "  {name:<26} {value}").ok();
        };
        line("kills", format!("{} ({} while starting)", self.kills, self.kills_while_starting));
        line("inputs published", self.published.to_string());
        line("confirmed", self.confirmed.to_string());
        line("stored without confirm", self.stored_without_confirm.to_string());
        line("committed", self.committed.to_string());
        line("committed without answer", self.committed_without_answer.to_string());
        line("ready after a kill", format!("{mean} ms on average, {worst} ms at most"));
        line("time", format!("{:.1} s", self.seconds));
        line("HALF COMMITS", self.half.to_string());
        line("DOUBLED", self.doubled.to_string());
        line("INVENTED", self.invented.to_string());
        line("ACKNOWLEDGED AND LOST", self.lost.to_string());
        for finding in &self.findings {
            line("", finding.clone());
        }
        if let Some(folder) = &self.folder {
            line("kept in", folder.clone());
        }
        text
    }
}

/// How often each number lies in each queue.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    inputs: u32,
    results: u32,
    next: u32,
}

/// Takes everything out of the three queues and compares.
pub(super) fn compare(
    address: &Address,
    claims: &Claims,
    account: &mut Account,
) -> anyhow::Result<()> {
    let mut found: HashMap<u64, Found> = HashMap::new();
    for (queue, slot) in [
        (INPUTS, (|found| &mut found.inputs) as fn(&mut Found) -> &mut u32),
        (RESULTS, |found| &mut found.results),
        (NEXT, |found| &mut found.next),
    ] {
        for number in drain(address, queue)? {
            *slot(found.entry(number).or_default()) += 1;
        }
    }
    judge(&found, claims, account);
    Ok(())
}

/// Takes all messages out of a queue. In transactions, because an acknowledgement alone has no
/// answer: a later kill could bring its message back.
fn drain(address: &Address, queue: &str) -> anyhow::Result<Vec<u64>> {
    let mut client = Client::connect(address)?;
    declare(&mut client)?;
    client.tx_select()?;
    client.consume(queue, 1000, false)?;
    let mut numbers = Vec::new();
    let mut wait = SILENCE;
    let mut last = None;
    loop {
        match client.next_event(wait)? {
            Some(Event::Delivery(delivery)) => {
                numbers.push(number(&delivery.body)?);
                last = Some(delivery.tag);
                wait = Duration::ZERO;
            }
            Some(_) => {}
            None => {
                let Some(tag) = last.take() else { break };
                client.ack(tag, true);
                client.tx_commit()?;
                wait = SILENCE;
            }
        }
    }
    client.close();
    Ok(numbers)
}

fn judge(found: &HashMap<u64, Found>, claims: &Claims, account: &mut Account) {
    account.published += claims.end - claims.first;
    account.confirmed += claims.confirmed.len() as u64;
    account.committed += claims.committed.len() as u64;
    for number in &claims.confirmed {
        if !found.contains_key(number) {
            account.lost += 1;
            account.find(format!("input {number} was confirmed and is nowhere"));
        }
    }
    for number in &claims.committed {
        if found.get(number).is_none_or(|found| found.results == 0 || found.next == 0) {
            account.lost += 1;
            account.find(format!("the step of input {number} was answered and is not there"));
        }
    }
    for (number, found) in found {
        judge_one(*number, *found, claims, account);
    }
}

fn judge_one(number: u64, found: Found, claims: &Claims, account: &mut Account) {
    let Found { inputs, results, next } = found;
    if !(claims.first..claims.end).contains(&number) {
        account.invented += 1;
        account.find(format!("{number} was never published: {found:?}"));
    }
    if inputs > 1 || results > 1 || next > 1 {
        account.doubled += 1;
        account.find(format!("{number} is there more than once: {found:?}"));
    } else if (inputs, results, next) != (1, 0, 0) && (inputs, results, next) != (0, 1, 1) {
        account.half += 1;
        account.find(format!("the step of input {number} is half done: {found:?}"));
    }
    account.stored_without_confirm += u64::from(!claims.confirmed.contains(&number));
    let is_silent = results > 0 && !claims.committed.contains(&number);
    account.committed_without_answer += u64::from(is_silent);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs 1 and 2 confirmed, 1 committed, 3 published only.
    fn claims() -> Claims {
        Claims {
            first: 1,
            end: 4,
            confirmed: [1, 2].into(),
            committed: [1].into(),
            ..Claims::default()
        }
    }

    fn judged(found: &[(u64, [u32; 3])]) -> Account {
        let mut account = Account::default();
        let found = found.iter().map(|(number, [inputs, results, next])| {
            (*number, Found { inputs: *inputs, results: *results, next: *next })
        });
        judge(&found.collect(), &claims(), &mut account);
        account
    }

    #[test]
    fn a_kept_promise_is_seen_as_one() {
        for third in [None, Some((3, [1, 0, 0])), Some((3, [0, 1, 1]))] {
            let found: Vec<_> = [(1, [0, 1, 1]), (2, [1, 0, 0])].into_iter().chain(third).collect();
            let account = judged(&found);
            assert!(account.is_kept(), "{account:?}");
            assert_eq!(account.stored_without_confirm, u64::from(third.is_some()));
        }
    }

    #[test]
    fn each_broken_promise_is_caught() {
        let sound = [(1, [0, 1, 1]), (2, [1, 0, 0])];
        let counts =
            |account: &Account| [account.lost, account.half, account.doubled, account.invented];
        for (planted, expected) in [
            (vec![sound[0]], [1, 0, 0, 0]),
            (vec![(1, [1, 0, 0]), sound[1]], [1, 0, 0, 0]),
            (vec![(1, [0, 1, 0]), sound[1]], [1, 1, 0, 0]),
            (vec![(1, [1, 1, 1]), sound[1]], [0, 1, 0, 0]),
            (vec![sound[0], sound[1], (3, [0, 0, 1])], [0, 1, 0, 0]),
            (vec![sound[0], (2, [2, 0, 0])], [0, 0, 1, 0]),
            (vec![(1, [0, 2, 1]), sound[1]], [0, 0, 1, 0]),
            (vec![sound[0], sound[1], (9, [1, 0, 0])], [0, 0, 0, 1]),
        ] {
            let account = judged(&planted);
            assert_eq!(counts(&account), expected, "{planted:?}");
            assert!(!account.is_kept() && !account.findings.is_empty());
        }
    }
}
