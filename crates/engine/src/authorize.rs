//! Who may do what: every request passes here before it does anything. [`needs`] is the table of
//! what each request needs; a request without a line does not compile. The answer comes from the
//! user's rows in `permission.rs`, as they are at that moment.
//!
//! Not here: limits of the object itself (an exclusive queue's owner, internal exchanges), which
//! stand with the object.
//!
//! Source: `RabbitMQ` 4.3, `rabbit_channel.erl`; the outcomes, observed, `RabbitMQ` 3.10.8.
//!
//! Deviation(AMQP-103): a passive declare needs any of the three rights on the object, and every
//! key in CC and BCC is checked like the routing key, as in `RabbitMQ` 4.3.1 and later; 3.10 checks
//! neither.
//!
//! Deviation(AMQP-104): a change of permissions counts from the next request on, and consumers that
//! lost their right are cancelled; `RabbitMQ` remembers twelve answers per channel and goes on
//! delivering.

use std::borrow::Cow;

use bytes::Bytes;
use model::{
    Admin, Binding, DestinationKind, ExchangeKind, Listing, Noun, Op, Publish, Refusal, Request,
    Results, Tag, Verb, VhostId, Work,
};

use crate::Engine;
use crate::channel::Asker;
use crate::effects::Actor;
use crate::publish::extra_keys;
use crate::reply_to;

/// How the default exchange is called in permissions.
const DEFAULT_EXCHANGE: &[u8] = b"amq.default";

/// How the names of results begin in permissions.
const RESULT: &[u8] = b"result.";

/// What a right is about.
#[derive(Clone, Copy, Debug)]
enum Object<'a> {
    Queue(&'a Bytes),
    Exchange(&'a Bytes),
    /// By its key.
    Result(&'a Bytes),
}

impl Object<'_> {
    const fn noun(self) -> Noun {
        match self {
            Self::Queue(_) => Noun::Queue,
            Self::Exchange(_) => Noun::Exchange,
            Self::Result(_) => Noun::Result,
        }
    }

    fn name(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Exchange(name) if name.is_empty() => DEFAULT_EXCHANGE.into(),
            Self::Queue(name) | Self::Exchange(name) => Cow::Borrowed(&name[..]),
            Self::Result(key) => [RESULT, key].concat().into(),
        }
    }
}

/// What a request needs.
#[derive(Clone, Copy, Debug)]
enum Needs<'a> {
    /// Strangers may.
    Nothing,
    /// Everybody who is logged in may.
    Login,
    /// A permission row in this virtual host.
    Entry(&'a Bytes),
    One(Verb, Object<'a>),
    /// Any of the three rights.
    Any(Object<'a>),
    /// Configure; and when the object is new and is to lead to an exchange: to read the object
    /// and write to the exchange.
    Declare(Object<'a>, Option<&'a Bytes>),
    /// To write to the destination and read from the source, also by its key.
    Binding(&'a Binding),
    /// To write to the exchange, also by the keys.
    Publish(&'a Publish),
    /// To write to the default exchange.
    Enqueue,
    /// To read from each of these queues.
    Take(&'a [Bytes]),
    /// What each step needs.
    Steps(&'a [Op]),
    Tag(Tag),
}

fn needs(request: &Request) -> Needs<'_> {
    match request {
        Request::Authenticate(_) => Needs::Nothing,
        Request::OpenVhost(name) => Needs::Entry(name),
        // What a channel has in hand was given to it.
        Request::OpenChannel { .. }
        | Request::CloseChannel
        | Request::SetCredit { .. }
        | Request::Cancel(_)
        | Request::Ack { .. }
        | Request::Release { .. }
        | Request::Recover
        | Request::Claim { .. }
        | Request::Withdraw
        // What is in which queue shows only when it is found.
        | Request::Job(..)
        | Request::Renew { .. }
        | Request::GiveBack(_)
        | Request::Inspect(_)
        | Request::Echo => Needs::Login,
        Request::Take(take) => Needs::Take(&take.queues),
        Request::Results(question) => result_needs(question),
        Request::Enqueue(_) => Needs::Enqueue,
        Request::Work(work) => work_needs(work),
        Request::DeclareExchange(declare) => {
            Needs::Declare(Object::Exchange(&declare.name), declare.spec.alternate.as_ref())
        }
        Request::LookupExchange(name) => Needs::Any(Object::Exchange(name)),
        Request::DeleteExchange { name, .. } => Needs::One(Verb::Configure, Object::Exchange(name)),
        Request::DeclareQueue(declare) => {
            let letters = declare.spec.options.dead_letter_exchange.as_ref();
            Needs::Declare(Object::Queue(&declare.name), letters)
        }
        // Who knows a reply address was given it.
        Request::LookupQueue(name) if name.starts_with(reply_to::QUEUE) => Needs::Login,
        Request::LookupQueue(name) => Needs::Any(Object::Queue(name)),
        Request::DeleteQueue { name, .. } => Needs::One(Verb::Configure, Object::Queue(name)),
        Request::PurgeQueue(queue) | Request::Get { queue, .. } => {
            Needs::One(Verb::Read, Object::Queue(queue))
        }
        Request::Bind(binding) | Request::Unbind(binding) => Needs::Binding(binding),
        Request::Publish(publish) => Needs::Publish(publish),
        // Answers come to the channel itself.
        Request::Consume(consume) if consume.queue == reply_to::QUEUE => Needs::Login,
        Request::Consume(consume) => Needs::One(Verb::Read, Object::Queue(&consume.queue)),
        Request::Commit(steps) => Needs::Steps(steps),
        Request::Admin(admin) => Needs::Tag(admin_needs(admin)),
    }
}

fn work_needs(work: &Work) -> Needs<'_> {
    match work {
        Work::Watch(name)
        | Work::LookFirst(name, _)
        | Work::Kick(name, _)
        | Work::Pause(name, _)
        | Work::DescribeQueue(name) => Needs::One(Verb::Read, Object::Queue(name)),
        // To use a queue is nothing yet; the others show what may be read. Who makes a queue that
        // is not there must be allowed to configure it: `Engine::check_queue`.
        Work::Use(_) | Work::Ignore(_) | Work::Describe | Work::ListQueues => Needs::Login,
    }
}

fn result_needs(question: &Results) -> Needs<'_> {
    match question {
        Results::Get(key) => Needs::One(Verb::Read, Object::Result(key)),
        Results::Put(result) => Needs::One(Verb::Write, Object::Result(&result.key)),
        Results::Delete(key) => Needs::One(Verb::Write, Object::Result(key)),
        // Only what may be read is shown: `Engine::may_result`.
        Results::List { .. } | Results::Changes { .. } => Needs::Login,
    }
}

fn step_needs(step: &Op) -> Needs<'_> {
    match step {
        Op::Publish(publish) => Needs::Publish(publish),
        Op::Enqueue(_) => Needs::Enqueue,
        Op::Store(result) => Needs::One(Verb::Write, Object::Result(&result.key)),
        // Whose job it is, or what may be read: `Engine::check_finish`.
        Op::Ack { .. } | Op::Release { .. } | Op::Finish(_) => Needs::Login,
    }
}

/// Source: `RabbitMQ` "Management plugin: permissions".
const fn admin_needs(admin: &Admin) -> Tag {
    match admin {
        Admin::PutUser { .. }
        | Admin::SetTags { .. }
        | Admin::DeleteUser(_)
        | Admin::PutVhost(_)
        | Admin::DeleteVhost(_)
        | Admin::SetPermission { .. }
        | Admin::ClearPermission { .. }
        | Admin::SetTopicPermission { .. }
        | Admin::ClearTopicPermission { .. } => Tag::Administrator,
        Admin::List(listing) => match listing {
            Listing::Users | Listing::Permissions | Listing::TopicPermissions => Tag::Administrator,
            // What of it they see is `Sight`.
            Listing::Vhosts
            | Listing::Queues
            | Listing::Exchanges
            | Listing::Bindings
            | Listing::Connections
            | Listing::Consumers => Tag::Management,
        },
    }
}

/// The last publish of a channel that was allowed, whatever its key: the next one to the same
/// exchange is not looked at again until some right changes.
#[derive(Debug)]
pub(crate) struct Granted {
    generation: u64,
    exchange: Box<[u8]>,
}

impl Default for Granted {
    fn default() -> Self {
        Self { generation: u64::MAX, exchange: Box::default() }
    }
}

impl Granted {
    /// Whether an open channel need not ask.
    pub(crate) fn covers(&self, request: &Request, generation: u64) -> bool {
        if let Request::Publish(publish) = request {
            return self.generation == generation && *self.exchange == *publish.exchange;
        }
        // A job is published to the default exchange.
        if let Request::Enqueue(_) = request {
            return self.generation == generation && self.exchange.is_empty();
        }
        // Only who is logged in has a channel.
        matches!(
            request,
            Request::Ack { .. }
                | Request::Release { .. }
                | Request::Claim { .. }
                | Request::Job(..)
                | Request::Withdraw
        )
    }
}

/// A user in a virtual host.
struct Who {
    user: Bytes,
    vhost: VhostId,
}

impl Engine {
    /// Whether the asker may do this. Changes nothing but what the channel remembers.
    pub(crate) fn authorize(&mut self, asker: Asker, request: &Request) -> Result<(), Refusal> {
        let session = self.sessions.get(asker.session).ok_or(Refusal::NotOpen)?;
        let needs = needs(request);
        let user = match (&session.actor, needs) {
            (Actor::System, _) | (_, Needs::Nothing) | (Actor::User(_), Needs::Login) => {
                return Ok(());
            }
            (Actor::Stranger, _) => return Err(Refusal::NotOpen),
            (Actor::User(user), _) => user.clone(),
        };
        if let Needs::Tag(tag) = needs {
            return self.check_tag(&user, tag);
        } else if let Needs::Entry(name) = needs {
            return self.check_entry(user, name);
        }
        let who = Who { user, vhost: session.vhost.ok_or(Refusal::NotOpen)? };
        self.check(&who, needs)?;
        if let Needs::Publish(publish) = needs {
            self.remember(asker, &who, &publish.exchange);
        } else if matches!(needs, Needs::Enqueue) {
            self.remember(asker, &who, &Bytes::new());
        }
        Ok(())
    }

    fn check(&self, who: &Who, needs: Needs<'_>) -> Result<(), Refusal> {
        match needs {
            Needs::One(verb, object) => self.check_right(who, verb, object),
            Needs::Any(object) => {
                let verbs = [Verb::Read, Verb::Write];
                if verbs.into_iter().any(|verb| self.check_right(who, verb, object).is_ok()) {
                    return Ok(());
                }
                self.check_right(who, Verb::Configure, object)
            }
            Needs::Declare(object, leads_to) => {
                self.check_right(who, Verb::Configure, object)?;
                let Some(exchange) = leads_to.filter(|_| !self.is_there(who.vhost, object)) else {
                    return Ok(());
                };
                self.check_right(who, Verb::Read, object)?;
                self.check_right(who, Verb::Write, Object::Exchange(exchange))
            }
            Needs::Enqueue => self.check_right(who, Verb::Write, Object::Exchange(&Bytes::new())),
            Needs::Binding(binding) => {
                let destination = match binding.kind {
                    DestinationKind::Queue => Object::Queue(&binding.destination),
                    DestinationKind::Exchange => Object::Exchange(&binding.destination),
                };
                self.check_right(who, Verb::Write, destination)?;
                self.check_right(who, Verb::Read, Object::Exchange(&binding.source))?;
                self.check_key(who, Verb::Read, &binding.source, &binding.routing_key)
            }
            Needs::Publish(publish) => {
                self.check_right(who, Verb::Write, Object::Exchange(&publish.exchange))?;
                let keys = std::iter::once(&publish.routing_key).chain(extra_keys(publish));
                let mut keys = keys.map(|key| (&publish.exchange, key));
                keys.try_for_each(|(exchange, key)| self.check_key(who, Verb::Write, exchange, key))
            }
            Needs::Take(queues) => {
                let mut queues = queues.iter().map(Object::Queue);
                queues.try_for_each(|queue| self.check_right(who, Verb::Read, queue))
            }
            Needs::Steps(steps) => {
                steps.iter().try_for_each(|step| self.check(who, step_needs(step)))
            }
            Needs::Nothing | Needs::Login | Needs::Entry(_) | Needs::Tag(_) => Ok(()),
        }
    }

    fn check_right(&self, who: &Who, verb: Verb, object: Object<'_>) -> Result<(), Refusal> {
        let row = self.state.rights.row(&who.user, who.vhost);
        let is_allowed = match row {
            Some(row) => row.allows(verb, &object.name()),
            None => self.is_unrestricted(&who.user),
        };
        if is_allowed {
            return Ok(());
        }
        Err(Refusal::NotPermitted {
            user: who.user.clone(),
            verb,
            noun: object.noun(),
            name: Bytes::copy_from_slice(&object.name()),
            key: None,
        })
    }

    /// Topic exchanges only, and only where the user has a row for it.
    fn check_key(
        &self,
        who: &Who,
        verb: Verb,
        exchange: &Bytes,
        key: &Bytes,
    ) -> Result<(), Refusal> {
        let Some(row) = self.state.rights.topic_row(&who.user, who.vhost, exchange) else {
            return Ok(());
        };
        let found = self.state.vhost(who.vhost).and_then(|vhost| vhost.router.exchange(exchange));
        let is_topic = found.is_some_and(|exchange| exchange.spec().kind == ExchangeKind::Topic);
        if !is_topic || row.allows(verb, key) {
            return Ok(());
        }
        Err(Refusal::NotPermitted {
            user: who.user.clone(),
            verb,
            noun: Noun::Exchange,
            name: Bytes::copy_from_slice(exchange),
            key: Some(Bytes::copy_from_slice(key)),
        })
    }

    fn is_there(&self, vhost: VhostId, object: Object<'_>) -> bool {
        let Some(vhost) = self.state.vhost(vhost) else { return false };
        match object {
            Object::Queue(name) => vhost.router.queue(name).is_some(),
            Object::Exchange(name) => vhost.router.exchange(name).is_some(),
            Object::Result(key) => vhost.results.get(key).is_some(),
        }
    }

    fn is_unrestricted(&self, user: &Bytes) -> bool {
        self.state.users.get(user).is_some_and(|user| user.is_unrestricted)
    }

    /// A virtual host that is not there is refused with other words, by who looks for it.
    fn check_entry(&self, user: Bytes, name: &Bytes) -> Result<(), Refusal> {
        let Some(id) = self.state.vhost_ids.get(name) else { return Ok(()) };
        if self.may_enter(&user, *id) {
            return Ok(());
        }
        let name = Bytes::copy_from_slice(name);
        let (verb, noun) = (Verb::Read, Noun::Vhost);
        Err(Refusal::NotPermitted { user, verb, noun, name, key: None })
    }

    fn may_enter(&self, user: &Bytes, vhost: VhostId) -> bool {
        self.state.rights.row(user, vhost).is_some() || self.is_unrestricted(user)
    }

    fn check_tag(&self, user: &Bytes, tag: Tag) -> Result<(), Refusal> {
        let found = self.state.users.get(user);
        if found.is_some_and(|user| tag.is_in(&user.tags)) {
            return Ok(());
        }
        Err(Refusal::TagMissing(tag))
    }

    /// The next publish to this exchange need not be looked at, unless its key matters.
    #[cold]
    fn remember(&mut self, asker: Asker, who: &Who, exchange: &Bytes) {
        if self.state.rights.topic_row(&who.user, who.vhost, exchange).is_some() {
            return;
        }
        let generation = self.state.rights.generation();
        if let Some(channel) = self.sessions.channel_mut(asker.session, asker.channel) {
            channel.granted = Granted { generation, exchange: Box::from(&**exchange) };
        }
    }

    /// Whether the asker has a right on a queue of its virtual host: for what a request comes
    /// upon, and could not name.
    pub(crate) fn check_queue(
        &self,
        asker: Asker,
        verb: Verb,
        queue: &Bytes,
    ) -> Result<(), Refusal> {
        let session = self.sessions.get(asker.session).ok_or(Refusal::NotOpen)?;
        let Actor::User(user) = &session.actor else { return Ok(()) };
        let vhost = session.vhost.ok_or(Refusal::NotOpen)?;
        self.check_right(&Who { user: user.clone(), vhost }, verb, Object::Queue(queue))
    }

    /// Whether the asker has a right on a result of its virtual host.
    pub(crate) fn may_result(&self, asker: Asker, verb: Verb, key: &Bytes) -> bool {
        let Some(session) = self.sessions.get(asker.session) else { return false };
        let Actor::User(user) = &session.actor else { return true };
        let Some(vhost) = session.vhost else { return false };
        self.check_right(&Who { user: user.clone(), vhost }, verb, Object::Result(key)).is_ok()
    }

    /// Whether a session may still read from a queue.
    pub(crate) fn may_read(&self, user: &Bytes, vhost: VhostId, queue: &Bytes) -> bool {
        let who = Who { user: user.clone(), vhost };
        self.check_right(&who, Verb::Read, Object::Queue(queue)).is_ok()
    }

    /// The user in whose name a session asks.
    pub(crate) fn user_of(&self, asker: Asker) -> Option<&Bytes> {
        self.sessions.get(asker.session)?.actor.user()
    }

    /// What a listing shows to whoever asks.
    pub(crate) fn sight(&self, asker: Asker) -> Sight {
        let Some(user) = self.user_of(asker) else { return Sight::Everything };
        if self.check_tag(user, Tag::Monitoring).is_ok() {
            return Sight::Everything;
        }
        let vhosts = self.state.vhost_ids.values().copied();
        let vhosts = vhosts.filter(|vhost| self.may_enter(user, *vhost)).collect();
        Sight::Of { user: user.clone(), vhosts }
    }
}

/// How much of a listing somebody sees.
#[derive(Debug)]
pub(crate) enum Sight {
    Everything,
    /// What is in these virtual hosts, and their own connections.
    Of {
        user: Bytes,
        vhosts: Vec<VhostId>,
    },
}

impl Sight {
    pub(crate) fn has_vhost(&self, vhost: VhostId) -> bool {
        match self {
            Self::Everything => true,
            Self::Of { vhosts, .. } => vhosts.contains(&vhost),
        }
    }

    pub(crate) fn has_session_of(&self, actor: &Actor) -> bool {
        match self {
            Self::Everything => true,
            Self::Of { user, .. } => actor.user() == Some(user),
        }
    }
}
