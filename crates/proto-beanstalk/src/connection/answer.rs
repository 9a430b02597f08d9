//! Replies and events -> bytes. Not here: what was asked (`ask`, `claim`, `body`), the bodies of
//! `stats` (`yaml`), what a refusal says (`map`).

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "the arm for what needs no more than its word is the point of each match"
)]

use bytes::BytesMut;
use model::{Delivery, JobFacts, JobId, MessageRef, Millis, Refusal, Reply, Ticket};
use wire::{Close, Outbox};

use super::{Connection, login, ticket::Ask};
use crate::{Counted, codec, map, yaml};

impl Connection {
    /// Writes the answer to what was asked.
    pub(super) fn answer(&mut self, ask: Ask, reply: Reply, out: &mut Outbox) -> Result<(), Close> {
        // What comes by the million.
        match (ask, &reply) {
            (Ask::Put, Reply::Enqueued { job, .. }) => {
                line(b"INSERTED ", job.0, out);
                return Ok(());
            }
            (Ask::Delete, Reply::Done) => {
                out.bytes.extend_from_slice(b"DELETED\r\n");
                return Ok(());
            }
            _ => {}
        }
        self.note_claimed(ask);
        let note = if ask.has_note() { self.take_note() } else { Vec::new() };
        match (ask, reply) {
            (Ask::BatchDelete | Ask::LastBatchDelete, reply) => {
                self.on_batch_delete(ask, &reply, out);
            }
            (Ask::BatchClaim, _) => self.on_batch_claim(|_| false, out),
            (_, Reply::Refused(refusal)) => return self.refused(ask, &refusal, (note, out)),
            (Ask::Login, Reply::Authenticated { .. }) => self.on_authenticated(out),
            (Ask::Login, _) => return login::refuse("login not answered".to_owned(), out),
            (Ask::Vhost, Reply::Done) => self.on_entered(out),
            (Ask::FirstWatch, Reply::Watching { .. }) => self.watched.push(b"default".to_vec()),
            (Ask::Channel | Ask::FirstUse, Reply::Done) => {}
            (Ask::Say, _) => out.bytes.extend_from_slice(&note),
            (Ask::Use | Ask::Watch | Ask::Ignore, reply) => self.on_tube(ask, (note, reply), out),
            (Ask::ListTubeUsed, Reply::Done) => {
                self.host.count(Counted::ListTubeUsed);
                using(&self.used_answered, out);
            }
            (Ask::ListTubesWatched, Reply::Done) => {
                self.host.count(Counted::ListTubesWatched);
                let names = self.watched.iter().map(Vec::as_slice);
                ok(&yaml::list(names), out);
            }
            (Ask::Stats, Reply::WorkFacts(facts)) => {
                let host_facts = self.host_facts.pop_front().unwrap_or_default();
                ok(&yaml::stats(&facts, &host_facts, &*self.host, &self.options), out);
            }
            (ask, reply) => plain(ask, &reply, out),
        }
        Ok(())
    }

    /// The engine says no.
    #[cold]
    fn refused(
        &mut self,
        ask: Ask,
        refusal: &Refusal,
        (note, out): (Vec<u8>, &mut Outbox),
    ) -> Result<(), Close> {
        let is_logging_in = self.phase.is_waiting();
        match ask {
            Ask::Login => return login::refuse("login refused".to_owned(), out),
            Ask::Vhost if is_logging_in => {
                let vhost = map::printable(&self.options.vhost);
                return login::refuse(format!("virtual host '{vhost}' refused"), out);
            }
            Ask::Vhost | Ask::Channel => {
                let vhost = map::printable(&self.options.vhost);
                return login::give_up(format!("virtual host '{vhost}' refused"), out);
            }
            // Whoever may not use the first tube says another one.
            Ask::FirstUse | Ask::FirstWatch => return Ok(()),
            Ask::Say => {
                out.bytes.extend_from_slice(&note);
                return Ok(());
            }
            Ask::Use => {
                self.uses_asked = self.uses_asked.saturating_sub(1);
                if self.uses_asked == 0 {
                    self.used = self.used_answered.clone();
                }
            }
            Ask::Stats => drop(self.host_facts.pop_front()),
            Ask::Watch => self.watches_asked = self.watches_asked.saturating_sub(1),
            _ => {}
        }
        out.bytes.extend_from_slice(map::refusal(ask.about(), refusal));
        Ok(())
    }

    /// `use`, `watch` and `ignore` of the tube that was noted.
    fn on_tube(&mut self, ask: Ask, (tube, reply): (Vec<u8>, Reply), out: &mut Outbox) {
        match (ask, reply) {
            (Ask::Use, Reply::Done) => {
                self.uses_asked = self.uses_asked.saturating_sub(1);
                using(&tube, out);
                self.used_answered = tube.into();
            }
            (Ask::Watch, Reply::Watching { count, .. }) => {
                self.watches_asked = self.watches_asked.saturating_sub(1);
                if !self.watched.contains(&tube) {
                    self.watched.push(tube);
                }
                line(b"WATCHING ", count.into(), out);
            }
            (Ask::Ignore, Reply::Watching { is_last: true, .. }) => {
                out.bytes.extend_from_slice(b"NOT_IGNORED\r\n");
            }
            (Ask::Ignore, Reply::Watching { count, .. }) => {
                // The last one takes the free place, as in the original.
                if let Some(at) = self.watched.iter().position(|watched| *watched == tube) {
                    self.watched.swap_remove(at);
                }
                line(b"WATCHING ", count.into(), out);
            }
            (ask, reply) => plain(ask, &reply, out),
        }
    }

    fn on_batch_delete(&mut self, ask: Ask, reply: &Reply, out: &mut Outbox) {
        if matches!(reply, Reply::Done) {
            self.batch_deleted += 1;
        } else {
            self.batch_missing += 1;
        }
        if ask == Ask::LastBatchDelete {
            out.bytes.extend_from_slice(b"DELETED_BATCH ");
            codec::put_number(&mut out.bytes, self.batch_deleted.into());
            line(b" ", self.batch_missing.into(), out);
            (self.batch_deleted, self.batch_missing) = (0, 0);
        }
    }

    /// A job was claimed.
    pub(super) fn got(&mut self, ticket: Ticket, delivery: &Delivery<'_>, out: &mut Outbox) {
        let id = delivery.job.unwrap_or_default();
        let body = delivery.message.body;
        if ticket == Ask::BatchClaim.ticket() {
            let write = |bytes: &mut BytesMut| {
                put_job(b"RESERVED ", (id, body), bytes);
                true
            };
            self.on_batch_claim(write, out);
            return;
        }
        if let Some(ask) = Ask::read(ticket) {
            self.note_claimed(ask);
        }
        put_job(b"RESERVED ", (id, body), &mut out.bytes);
    }
}

/// A job was looked at.
pub(super) fn job(
    ticket: Ticket,
    facts: &JobFacts,
    published: Millis,
    (message, out): (&MessageRef<'_>, &mut Outbox),
) {
    if ticket == Ask::StatsJob.ticket() {
        ok(&yaml::stats_job(facts, published), out);
    } else {
        put_job(b"FOUND ", (facts.id, message.body), &mut out.bytes);
    }
}

/// Answers that say the same whatever the connection remembers.
fn plain(ask: Ask, reply: &Reply, out: &mut Outbox) {
    let text: &[u8] = match (ask, reply) {
        (Ask::Put, Reply::Rejected) => map::OUT_OF_MEMORY,
        (Ask::Claim | Ask::PatientClaim | Ask::TimedClaim, Reply::Empty) => map::TIMED_OUT,
        (Ask::Claim | Ask::PatientClaim | Ask::TimedClaim, Reply::LeaseEnding) => {
            map::DEADLINE_SOON
        }
        (_, Reply::Empty) => map::NOT_FOUND,
        (Ask::Touch, Reply::Done) => b"TOUCHED\r\n",
        (Ask::KickJob, Reply::Done) => b"KICKED\r\n",
        (Ask::Pause, Reply::Done) => b"PAUSED\r\n",
        (Ask::Release | Ask::Bury, Reply::Released { is_buried: true }) => b"BURIED\r\n",
        (Ask::Release | Ask::Bury, Reply::Released { is_buried: false }) => b"RELEASED\r\n",
        (Ask::Kick, Reply::Kicked { count }) => return line(b"KICKED ", *count, out),
        (Ask::StatsTube, Reply::QueueFacts(facts)) => return ok(&yaml::stats_tube(facts), out),
        (Ask::ListTubes, Reply::Names(names)) => {
            return ok(&yaml::list(names.iter().map(AsRef::as_ref)), out);
        }
        // The engine's mistake; the client must not wait for ever.
        _ => map::INTERNAL_ERROR,
    };
    out.bytes.extend_from_slice(text);
}

/// `WORD number`.
fn line(word: &[u8], number: u64, out: &mut Outbox) {
    out.bytes.extend_from_slice(word);
    codec::put_number(&mut out.bytes, number);
    codec::put_body(&mut out.bytes, b"");
}

fn using(tube: &[u8], out: &mut Outbox) {
    out.bytes.extend_from_slice(b"USING ");
    codec::put_body(&mut out.bytes, tube);
}

/// `OK`, the size of a body, the body.
fn ok(body: &str, out: &mut Outbox) {
    line(b"OK ", body.len() as u64, out);
    codec::put_body(&mut out.bytes, body.as_bytes());
}

/// `WORD id size`, the body.
fn put_job(word: &[u8], (id, body): (JobId, &[u8]), out: &mut BytesMut) {
    out.reserve(word.len().saturating_add(body.len()).saturating_add(48));
    out.extend_from_slice(word);
    codec::put_number(out, id.0);
    out.extend_from_slice(b" ");
    codec::put_number(out, body.len() as u64);
    codec::put_body(out, b"");
    codec::put_body(out, body);
}
