//! Where requests enter: whoever may not ask is turned away (`authorize.rs`), then comes the only
//! match over what requests do. What each does is one function in the file of its verb; here are
//! only the rules that hold for all of them.

use model::{Admin, Envelope, Log, Refusal, Reply, Request, SessionId};

use crate::Engine;
use crate::channel::{Asker, Turn};
use crate::settle::{End, Which};
use crate::user::User;

impl Engine {
    /// Handles a request unless its channel is broken; a refusal breaks a strict channel.
    pub(crate) fn handle<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        from: SessionId,
        envelope: Envelope,
    ) {
        let Envelope { channel, ticket, .. } = envelope;
        let asker = Asker { session: from, channel, ticket };
        let open = self.sessions.channel(from, channel);
        let is_broken = open.is_some_and(|it| it.is_broken);
        if is_broken && !matches!(envelope.request, Request::CloseChannel) {
            return;
        }
        let generation = self.state.rights.generation();
        let is_granted = open.is_some_and(|it| it.granted.covers(&envelope.request, generation));
        let refused =
            if is_granted { None } else { self.authorize(asker, &envelope.request).err() };
        // The request is moved once only, and not into a closure first: this is the hot road.
        let outcome = match refused {
            None => self.answer(turn, asker, envelope.request),
            Some(refusal) => Err(refusal),
        };
        if let Err(refusal) = outcome {
            if let Some(channel) = self.sessions.channel_mut(from, channel) {
                channel.is_broken |= channel.is_strict;
            }
            // What the refusal saw may not be durable yet.
            let gate = turn.log.next_lsn();
            turn.reply(asker, gate, Reply::Refused(Box::new(refusal)));
        }
    }

    fn answer<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        request: Request,
    ) -> Result<(), Refusal> {
        match request {
            Request::Publish(publish) => self.publish(turn, asker, publish),
            Request::Ack { tag, is_multiple } => {
                self.settle(turn, asker, Which { tag, is_multiple }, End::Ack)
            }
            Request::Release { tag, is_multiple, is_requeue } => {
                let end = End::of_release(is_requeue);
                self.settle(turn, asker, Which { tag, is_multiple }, end)
            }
            Request::Commit(ops) => self.commit(turn, asker, ops),
            Request::Echo => {
                turn.reply(asker, model::Lsn::ZERO, Reply::Done);
                Ok(())
            }
            Request::Enqueue(job) => self.enqueue(turn, asker, &job),
            Request::Claim { is_timed } => self.claim(turn, asker, is_timed),
            Request::Job(id, verb) => self.job(turn, asker, (id, verb)),
            Request::Withdraw => self.withdraw(turn, asker),
            Request::Work(work) => self.work(turn, asker, *work),
            Request::Take(take) => self.take(turn, asker, &take),
            Request::Renew { lease_s, claims } => self.renew_all(turn, asker, (lease_s, &claims)),
            Request::GiveBack(give) => self.give_back_job(turn, asker, &give),
            Request::Inspect(job) => self.inspect(turn, asker, job),
            Request::Results(question) => self.results(turn, asker, *question),
            Request::Get { queue, no_ack } => self.get(turn, asker, (queue, no_ack)),
            Request::Consume(consume) => self.consume(turn, asker, *consume),
            Request::Cancel(id) => self.cancel(turn, asker, id),
            Request::SetCredit { count, is_channel_wide } => {
                self.set_credit(turn, asker, (count, is_channel_wide))
            }
            Request::Recover => self.recover(turn, asker),
            Request::DeclareQueue(declare) => self.declare_queue(turn, asker, *declare),
            Request::LookupQueue(name) => self.lookup_queue(turn, asker, name),
            Request::DeleteQueue { name, if_unused, if_empty } => {
                self.delete_queue(turn, asker, (name, if_unused, if_empty))
            }
            Request::PurgeQueue(name) => self.purge_queue(turn, asker, &name),
            Request::DeclareExchange(declare) => self.declare_exchange(turn, asker, *declare),
            Request::LookupExchange(name) => self.lookup_exchange(turn, asker, name),
            Request::DeleteExchange { name, if_unused } => {
                self.delete_exchange(turn, asker, (name, if_unused))
            }
            Request::Bind(binding) => self.bind(turn, asker, &binding),
            Request::Unbind(binding) => self.unbind(turn, asker, &binding),
            Request::OpenChannel { is_strict } => self.open_channel(turn, asker, is_strict),
            Request::CloseChannel => {
                let gate = self.end_channel(turn, asker.session, asker.channel);
                turn.reply(asker, gate, Reply::Done);
                Ok(())
            }
            Request::OpenVhost(name) => self.open_vhost(turn, asker, name),
            Request::Authenticate(credentials) => {
                self.authenticate(turn, asker, credentials);
                Ok(())
            }
            Request::Admin(admin) => self.administer(turn, asker, *admin),
        }
    }

    fn administer<L: Log>(
        &mut self,
        turn: &mut Turn<'_, L>,
        asker: Asker,
        admin: Admin,
    ) -> Result<(), Refusal> {
        match admin {
            Admin::PutUser { name, password_hash, tags } => {
                let user = User { hash: password_hash, tags, is_unrestricted: false };
                self.put_user(turn, asker, (name, user));
                Ok(())
            }
            Admin::SetTags { name, tags } => self.set_tags(turn, asker, (name, tags)),
            Admin::DeleteUser(name) => self.delete_user(turn, asker, &name),
            Admin::PutVhost(name) => self.put_vhost(turn, asker, &name),
            Admin::DeleteVhost(name) => self.delete_vhost(turn, asker, name),
            Admin::SetPermission { user, vhost, permission } => {
                self.set_permission(turn, asker, (user, vhost, permission))
            }
            Admin::ClearPermission { user, vhost } => {
                self.clear_permission(turn, asker, (user, vhost))
            }
            Admin::SetTopicPermission { user, vhost, exchange, permission } => {
                self.set_topic_permission(turn, asker, (user, vhost, exchange, permission))
            }
            Admin::ClearTopicPermission { user, vhost, exchange } => {
                self.clear_topic_permission(turn, asker, (user, vhost, exchange))
            }
            Admin::List(listing) => {
                let rows = self.list(listing, &self.sight(asker));
                let gate = turn.log.next_lsn();
                turn.reply(asker, gate, Reply::Listing(rows));
                Ok(())
            }
        }
    }
}
