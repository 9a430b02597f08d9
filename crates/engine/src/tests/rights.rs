//! Who may do what: every kind of request by every kind of user, changes that take effect at once,
//! and the side doors. The same over AMQP stands in the conformance suite `rights`.

use super::*;
use crate::effects::Actor;
use model::{Noun, Tag, Verb};

const USER: SessionId = SessionId::from_parts(3, 1);

fn admin(request: Admin) -> Request {
    Request::Admin(Box::new(request))
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn permission([configure, write, read]: [&str; 3]) -> Permission {
    Permission { configure: bytes(configure), write: bytes(write), read: bytes(read) }
}

fn set(user: &str, texts: [&str; 3]) -> Request {
    let (user, vhost) = (bytes(user), "/".into());
    admin(Admin::SetPermission { user, vhost, permission: permission(texts) })
}

fn set_topic(user: &str, exchange: &str, [write, read]: [&str; 2]) -> Request {
    let permission = TopicPermission { write: bytes(write), read: bytes(read) };
    let (user, vhost, exchange) = (bytes(user), "/".into(), bytes(exchange));
    admin(Admin::SetTopicPermission { user, vhost, exchange, permission })
}

fn put_tagged(name: &str, tags: &str) -> Request {
    let (name, password_hash) = (bytes(name), "hash".into());
    admin(Admin::PutUser { name, password_hash, tags: bytes(tags) })
}

impl World {
    /// A world with exchanges `x` (direct) and `t` (topic), queue `q`, and the user `user` in
    /// [`USER`] with these permissions.
    fn with_user(texts: [&str; 3]) -> Self {
        let mut world = Self::new();
        world.exchange("x", ExchangeKind::Direct);
        world.exchange("t", ExchangeKind::Topic);
        world.durable("q");
        world.done(ALICE, put_tagged("user", ""));
        world.done(ALICE, set("user", texts));
        world.enter_as(USER, "user");
        world
    }

    fn act_as(&mut self, session: SessionId, user: &str) {
        let actor = Actor::User(bytes(user));
        self.engine.open_session(session, SessionInfo { actor, ..SessionInfo::default() });
    }

    fn enter_as(&mut self, session: SessionId, user: &str) {
        self.act_as(session, user);
        self.done(session, Request::OpenVhost("/".into()));
        self.open(session, 1);
    }

    /// Whether a request of the user passes: anything but a refusal for lack of rights.
    fn passes(&mut self, mut request: Request) -> bool {
        if let Request::Publish(publish) = &mut request {
            publish.options.wants_confirm = true;
        }
        self.outputs.clear();
        self.send(USER, 1, request);
        !self.outputs.drain(..).any(|output| {
            let Push::Reply { reply: Reply::Refused(refusal), .. } = output.push else {
                return false;
            };
            matches!(*refusal, Refusal::NotPermitted { .. } | Refusal::TagMissing(_))
        })
    }
}

/// Which rights let a request pass: those of the six roles below, as letters of `fcwrt-`.
struct Case {
    name: &'static str,
    request: fn() -> Request,
    passes: &'static str,
}

/// Roles by letter: full; configure, write or read only; restricted to topics `a.*`; none at all.
const ROLES: [(char, [&str; 3]); 6] = [
    ('f', [".*", ".*", ".*"]),
    ('c', [".*", "", ""]),
    ('w', ["", ".*", ""]),
    ('r', ["", "", ".*"]),
    ('t', [".*", ".*", ".*"]),
    ('-', ["", "", ""]),
];

const fn case(name: &'static str, passes: &'static str, request: fn() -> Request) -> Case {
    Case { name, request, passes }
}

fn bind_exchanges(source: &str, destination: &str, key: &str) -> Box<Binding> {
    Box::new(Binding { kind: DestinationKind::Exchange, ..binding(source, destination, key) })
}

fn queue_with_letters(name: &str) -> Request {
    let dead_letter_exchange = Some("x".into());
    declare(name, durable(QueueOptions { dead_letter_exchange, ..QueueOptions::default() }))
}

fn exchange_with_alternate(name: &str) -> Request {
    let spec = ExchangeSpec { alternate: Some("x".into()), ..exchange_spec(ExchangeKind::Fanout) };
    declare_exchange(name, spec)
}

fn copied(key: &str) -> Request {
    let mut message = publish("t", "a.b", "x");
    message.options.extra_keys = Some(Box::new(vec![bytes(key)]));
    Request::Publish(message)
}

const CASES: &[Case] = &[
    case("open channel", "fcwrt-", || Request::OpenChannel { is_strict: false }),
    case("close channel", "fcwrt-", || Request::CloseChannel),
    case("credit", "fcwrt-", || Request::SetCredit { count: 1, is_channel_wide: false }),
    case("cancel", "fcwrt-", || Request::Cancel(ConsumerId(1))),
    case("ack", "fcwrt-", || Request::Ack { tag: 0, is_multiple: true }),
    case("release", "fcwrt-", || Request::Release { tag: 0, is_multiple: true, is_requeue: true }),
    case("recover", "fcwrt-", || Request::Recover),
    case("echo", "fcwrt-", || Request::Echo),
    case("empty commit", "fcwrt-", || Request::Commit(Vec::new())),
    case("commit acks", "fcwrt-", || Request::Commit(vec![Op::Ack { tag: 0, is_multiple: true }])),
    case("commit", "fwt", || Request::Commit(vec![Op::Publish(publish("x", "q", "x"))])),
    case("commit topics", "fw", || Request::Commit(vec![Op::Publish(publish("t", "z", "x"))])),
    case("exchange", "fct", || declare_exchange("n", exchange_spec(ExchangeKind::Direct))),
    case("exchange again", "fct", || declare_exchange("x", exchange_spec(ExchangeKind::Direct))),
    case("alternate", "ft", || exchange_with_alternate("n")),
    case("alternate, no new exchange", "fct", || exchange_with_alternate("x")),
    case("look for exchange", "fcwrt", || Request::LookupExchange("x".into())),
    case("delete exchange", "fct", || Request::DeleteExchange {
        name: "x".into(),
        if_unused: false,
    }),
    case("queue", "fct", || declare("n", durable(QueueOptions::default()))),
    case("queue again", "fct", || declare("q", durable(QueueOptions::default()))),
    case("dead letters", "ft", || queue_with_letters("n")),
    case("dead letters, no new queue", "fct", || queue_with_letters("q")),
    case("look for queue", "fcwrt", || Request::LookupQueue("q".into())),
    case("look for nothing", "fcwrt", || Request::LookupQueue("none".into())),
    case("look for answers", "fcwrt-", || Request::LookupQueue("amq.rabbitmq.reply-to.1".into())),
    case("delete queue", "fct", || Request::DeleteQueue {
        name: "q".into(),
        if_unused: false,
        if_empty: false,
    }),
    case("purge", "frt", || Request::PurgeQueue("q".into())),
    case("bind", "ft", || Request::Bind(Box::new(binding("x", "q", "k")))),
    case("unbind", "ft", || Request::Unbind(Box::new(binding("x", "q", "k")))),
    case("bind exchanges", "ft", || Request::Bind(bind_exchanges("x", "t", "k"))),
    case("unbind exchanges", "ft", || Request::Unbind(bind_exchanges("x", "t", "k"))),
    case("bind topic", "ft", || Request::Bind(Box::new(binding("t", "q", "a.b")))),
    case("bind other topic", "f", || Request::Bind(Box::new(binding("t", "q", "z")))),
    case("unbind other topic", "f", || Request::Unbind(Box::new(binding("t", "q", "z")))),
    case("publish", "fwt", || Request::Publish(publish("x", "q", "x"))),
    case("publish to nothing", "fwt", || Request::Publish(publish("none", "q", "x"))),
    case("publish to queue", "fwt", || Request::Publish(publish("", "q", "x"))),
    case("publish topic", "fwt", || Request::Publish(publish("t", "a.b", "x"))),
    case("publish other topic", "fw", || Request::Publish(publish("t", "z", "x"))),
    case("publish with copy", "fwt", || copied("a.c")),
    case("publish with other copy", "fw", || copied("z")),
    case("answer", "fwt", || Request::Publish(publish("", "amq.rabbitmq.reply-to.1", "x"))),
    case("consume", "frt", || Request::Consume(Box::new(consume("q", 1)))),
    case("consume answers", "fcwrt-", || {
        let consume = consume("amq.rabbitmq.reply-to", 1);
        Request::Consume(Box::new(Consume { no_ack: true, ..consume }))
    }),
    case("get", "frt", || Request::Get { queue: "q".into(), no_ack: true }),
    case("put user", "", || put_tagged("other", "")),
    case("list queues", "", || admin(Admin::List(Listing::Queues))),
];

#[test]
fn every_request_by_every_role() {
    for Case { name, request, passes } in CASES {
        for (letter, texts) in ROLES {
            let mut world = World::with_user(texts);
            // The commit of nothing settles what is there.
            world.put("q", "x");
            let topics = if letter == 't' { ["^a\\.", "^a\\."] } else { [".*", ".*"] };
            world.done(ALICE, set_topic("user", "t", topics));
            let expected = passes.contains(letter);
            assert_eq!(world.passes(request()), expected, "{name} by {letter}");
            world.check_state();
        }
    }
}

/// Every request but logging in.
#[test]
fn a_stranger_may_do_nothing() {
    for Case { name, request, .. } in CASES {
        let mut world = World::with_user([".*"; 3]);
        let stranger = SessionId::from_parts(4, 1);
        let info = SessionInfo { actor: Actor::Stranger, ..SessionInfo::default() };
        world.engine.open_session(stranger, info);
        assert_eq!(world.refusal(stranger, request()), Refusal::NotOpen, "{name}");
        let enter = Request::OpenVhost("/".into());
        assert_eq!(world.refusal(stranger, enter), Refusal::NotOpen);
    }
}

#[test]
fn refusals_say_who_what_and_where() {
    let mut world = World::with_user(["", "^(t|x)$", "q"]);
    let mut expect = |request: Request, verb: Verb, noun: Noun, name: &str, key: Option<&str>| {
        let expected = Refusal::NotPermitted {
            user: "user".into(),
            verb,
            noun,
            name: bytes(name),
            key: key.map(bytes),
        };
        assert_eq!(world.refusal(USER, request), expected);
    };
    let message = |exchange, key| Request::Publish(publish(exchange, key, "x"));
    expect(Request::PurgeQueue("r".into()), Verb::Read, Noun::Queue, "r", None);
    expect(message("", "q"), Verb::Write, Noun::Exchange, "amq.default", None);
    let bind = Request::Bind(bind_exchanges("t", "x", "k"));
    expect(bind, Verb::Read, Noun::Exchange, "t", None);
    world.done(ALICE, set_topic("user", "t", ["^a$", ""]));
    let refusal = world.refusal(USER, Request::Publish(publish("t", "z", "x")));
    let (user, name, key) = ("user".into(), "t".into(), Some("z".into()));
    let (verb, noun) = (Verb::Write, Noun::Exchange);
    assert_eq!(refusal, Refusal::NotPermitted { user, verb, noun, name, key });
}

/// Without a row there is no way in; the rows of one virtual host say nothing about others.
#[test]
fn a_vhost_is_entered_by_who_has_a_row() {
    let mut world = World::with_user(["", "", ""]);
    world.done(ALICE, admin(Admin::PutVhost("shop".into())));
    let refusal = world.refusal(USER, Request::OpenVhost("shop".into()));
    assert!(matches!(refusal, Refusal::NotPermitted { noun: Noun::Vhost, .. }), "{refusal:?}");
    let refusal = world.refusal(USER, Request::OpenVhost("none".into()));
    assert!(matches!(refusal, Refusal::NotFound { noun: Noun::Vhost, .. }), "{refusal:?}");
    let (user, vhost): (Bytes, Bytes) = ("user".into(), "shop".into());
    let permission = Permission::full();
    world.done(ALICE, admin(Admin::SetPermission { user, vhost, permission }));
    world.done(USER, Request::OpenVhost("shop".into()));
    assert!(world.passes(declare("mine", durable(QueueOptions::default()))));
    let message = || Request::Publish(publish("amq.direct", "mine", "x"));
    assert!(world.passes(message()));
    world.done(USER, Request::OpenVhost("/".into()));
    assert!(!world.passes(message()), "what a channel remembers is of one virtual host");
    assert!(!world.passes(declare("mine", durable(QueueOptions::default()))));
    world.check_state();
}

/// Expressions are searched for anywhere, and an empty one is the empty name.
#[test]
fn expressions_are_not_anchored() {
    let mut world = World::with_user(["", "", "q"]);
    for (pattern, name, expected) in [
        ("q", "my-q-1", true),
        ("^q", "my-q", false),
        ("^q$", "q", true),
        ("^(q|r)-", "r-1", true),
        ("a.c", "abc", true),
        ("", "q", false),
        ("", "", true),
        ("^$", "", true),
        (".*", "", true),
        ("(?i)QUEUE", "my queue", true),
        ("[[:digit:]]{2}", "a12", true),
        ("\\w+\\.\\d", "x.1", true),
    ] {
        world.done(ALICE, set("user", ["", "", pattern]));
        let passes = world.passes(Request::PurgeQueue(bytes(name)));
        assert_eq!(passes, expected, "{pattern} in {name}");
    }
}

#[test]
fn what_is_no_expression_is_refused_and_says_why() {
    let mut world = World::with_user(["", "", ""]);
    let before = world.engine.state_hash();
    let huge = "a".repeat(2000);
    let hungry = "(((a{30}){30}){30})".to_owned();
    let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
    for (pattern, why) in [
        ("(", "unclosed group"),
        ("(?=a)b", "look-around"),
        ("(?<!a)b", "look-around"),
        ("(a)\\1", "backreferences"),
        (huge.as_str(), "1024 bytes"),
        (hungry.as_str(), "memory"),
        (deep.as_str(), "nest"),
    ] {
        for texts in [[pattern, "", ""], ["", pattern, ""], ["", "", pattern]] {
            let Refusal::InvalidPattern { pattern: named, reason } =
                world.refusal(ALICE, set("user", texts))
            else {
                panic!("{pattern} is taken")
            };
            assert_eq!(named, pattern);
            assert!(reason.contains(why), "{pattern}: {reason}");
        }
        let refusal = world.refusal(ALICE, set_topic("user", "t", [pattern, ""]));
        assert!(matches!(refusal, Refusal::InvalidPattern { .. }));
    }
    assert_eq!(world.engine.state_hash(), before);
}

/// A user's name is text in a topic permission, whatever it looks like.
#[test]
fn names_are_filled_into_topic_permissions_as_text() {
    let mut world = World::new();
    world.exchange("t", ExchangeKind::Topic);
    for (name, key, expected) in [
        ("ann", "u.ann.x", true),
        ("ann", "u.bob.x", false),
        (".*", "u.bob.x", false),
        (".*", "u..*.x", true),
        ("{vhost}", "u./.x", false),
        ("{vhost}", "u.{vhost}.x", true),
    ] {
        world.done(ALICE, put_tagged(name, ""));
        world.done(ALICE, set(name, [".*"; 3]));
        world.done(ALICE, set_topic(name, "t", ["^u\\.{username}\\.", "^{vhost}$"]));
        world.enter_as(USER, name);
        let passes = world.passes(Request::Publish(publish("t", key, "x")));
        assert_eq!(passes, expected, "{key} by {name}");
        assert!(world.passes(Request::LookupQueue("x".into())));
        let bind = |key| Request::Bind(Box::new(binding("t", "none", key)));
        assert!(world.passes(bind("/")) && !world.passes(bind("{vhost}")));
        world.close(USER);
    }
}

/// What a channel remembers about its last publish does not outlive the right to it.
#[test]
fn a_right_that_is_taken_ends_at_once() {
    let mut world = World::with_user([".*"; 3]);
    let message = || Request::Publish(publish("x", "q", "x"));
    for _ in 0..3 {
        assert!(world.passes(message()));
    }
    world.done(ALICE, set("user", [".*", "^none$", ".*"]));
    assert!(!world.passes(message()));
    world.done(ALICE, set("user", [".*", "^x$", ".*"]));
    assert!(world.passes(message()));
    assert!(!world.passes(Request::Publish(publish("t", "q", "x"))));
    assert!(world.passes(message()));
    world.done(ALICE, set_topic("user", "x", ["^q$", ""]));
    assert!(world.passes(Request::Publish(publish("x", "z", "x"))), "x is no topic exchange");
    world.done(ALICE, set("user", [".*"; 3]));
    world.done(ALICE, set_topic("user", "t", ["^q$", ""]));
    let topic = |key| Request::Publish(publish("t", key, "x"));
    assert!(world.passes(topic("q")) && !world.passes(topic("z")) && world.passes(topic("q")));
    let user: Bytes = "user".into();
    let (vhost, exchange) = ("/".into(), None);
    world.done(ALICE, admin(Admin::ClearTopicPermission { user, vhost, exchange }));
    assert!(world.passes(topic("z")));
    let (user, vhost) = ("user".into(), "/".into());
    world.done(ALICE, admin(Admin::ClearPermission { user, vhost }));
    assert!(!world.passes(topic("q")) && !world.passes(message()));
    world.check_recovery();
}

/// A consumer whose user may not read any more gets nothing more; what it has stays with it.
#[test]
fn a_consumer_without_its_right_is_cancelled() {
    let mut world = World::with_user([".*"; 3]);
    world.durable("r");
    world.consume(USER, "q", 1);
    world.consume(USER, "r", 2);
    world.put("q", "one");
    assert_eq!(world.bodies(), ["one"]);
    world.outputs.clear();
    world.send(ALICE, 1, set("user", ["", "", "^r$"]));
    let is_cancelled = |output: &Output| {
        output.session == USER
            && matches!(output.push, Push::Cancelled { consumer: ConsumerId(1), .. })
    };
    assert_eq!(world.outputs.iter().filter(|output| is_cancelled(output)).count(), 1);
    world.put("q", "two");
    world.put("r", "three");
    assert_eq!(world.bodies(), ["three"], "the other consumer goes on");
    world.ack(USER, 1);
    assert_eq!(world.ready("q"), 1);
    world.check_recovery();
}

#[test]
fn a_deleted_user_takes_rights_and_connections_along() {
    let mut world = World::with_user([".*"; 3]);
    world.done(ALICE, set_topic("user", "t", ["a", "a"]));
    world.outputs.clear();
    world.send(ALICE, 1, admin(Admin::DeleteUser("user".into())));
    let asked_to_leave =
        |output: &&Output| output.session == USER && matches!(output.push, Push::Shutdown(_));
    assert_eq!(world.outputs.iter().filter(asked_to_leave).count(), 1);
    assert!(!world.passes(Request::Publish(publish("x", "q", "x"))));
    for listing in [Listing::Permissions, Listing::TopicPermissions] {
        assert!(world.engine.list(listing, &Sight::Everything).is_empty());
    }
    world.done(ALICE, put_tagged("user", ""));
    assert!(!world.passes(Request::OpenVhost("/".into())), "the name alone gives nothing");
    world.check_recovery();
}

/// Users stored before there were permissions may do everything, also in virtual hosts made since,
/// until somebody says anything about their permissions.
#[test]
fn users_from_before_are_not_locked_out() {
    let mut world = World::with_user(["", "", ""]);
    let mut old = Vec::new();
    for text in ["old", "hash", ""] {
        record::put_text(&mut old, text.as_bytes());
    }
    record::append(&mut world.tape, record::OLD_USER_PUT, &old);
    world.restart();
    world.enter_as(USER, "old");
    assert!(world.passes(Request::Publish(publish("x", "q", "x"))));
    world.done(ALICE, admin(Admin::PutVhost("new".into())));
    assert!(world.passes(Request::OpenVhost("new".into())));
    assert_eq!(world.engine.list(Listing::Permissions, &Sight::Everything).len(), 3);
    world.done(ALICE, put_tagged("old", "management"));
    assert!(world.passes(Request::OpenVhost("/".into())), "a new password changes no right");
    world.check_recovery();
    world.done(ALICE, set("old", ["", "", ""]));
    assert!(!world.passes(Request::Publish(publish("x", "q", "x"))));
    assert!(world.passes(Request::OpenVhost("new".into())), "the other rows stay");
    world.done(ALICE, admin(Admin::PutVhost("later".into())));
    assert!(!world.passes(Request::OpenVhost("later".into())));
    world.check_recovery();
}

#[test]
fn who_makes_a_vhost_owns_it() {
    let mut world = World::with_user(["", "", ""]);
    assert!(!world.passes(admin(Admin::PutVhost("mine".into()))));
    world.done(ALICE, put_tagged("user", "administrator"));
    assert!(world.passes(admin(Admin::PutVhost("mine".into()))));
    assert!(world.passes(Request::OpenVhost("mine".into())));
    assert!(world.passes(declare("q", durable(QueueOptions::default()))));
    world.done(ALICE, admin(Admin::PutVhost("other".into())));
    assert!(!world.passes(Request::OpenVhost("other".into())));
    world.check_recovery();
}

/// A request, and the letters of the tags that let it pass.
type AdminCase = (fn() -> Admin, &'static str);

/// Every administrative request by every tag.
#[test]
fn administration_goes_by_tags() {
    let requests: [AdminCase; 14] = [
        (|| Admin::List(Listing::Users), "a"),
        (|| Admin::List(Listing::Permissions), "a"),
        (|| Admin::List(Listing::TopicPermissions), "a"),
        (|| Admin::List(Listing::Vhosts), "ampo"),
        (|| Admin::List(Listing::Queues), "ampo"),
        (|| Admin::List(Listing::Exchanges), "ampo"),
        (|| Admin::List(Listing::Bindings), "ampo"),
        (|| Admin::List(Listing::Connections), "ampo"),
        (|| Admin::List(Listing::Consumers), "ampo"),
        (|| Admin::PutVhost("v".into()), "a"),
        (|| Admin::DeleteVhost("v".into()), "a"),
        (|| Admin::DeleteUser("none".into()), "a"),
        (|| Admin::ClearPermission { user: "user".into(), vhost: "v".into() }, "a"),
        (
            || Admin::ClearTopicPermission {
                user: "user".into(),
                vhost: "/".into(),
                exchange: None,
            },
            "a",
        ),
    ];
    let tags = [
        ('a', "administrator"),
        ('m', "monitoring"),
        ('p', "policymaker"),
        ('o', "management"),
        ('i', "impersonator"),
        ('-', ""),
    ];
    for (letter, tag) in tags {
        let mut world = World::with_user([".*"; 3]);
        world.done(ALICE, put_tagged("user", tag));
        for (request, allowed) in &requests {
            let asked = request();
            let what = format!("{asked:?} by {tag}");
            assert_eq!(world.passes(admin(asked)), allowed.contains(letter), "{what}");
        }
        let (user, vhost) = ("user".into(), "/".into());
        let set = Admin::SetPermission { user, vhost, permission: Permission::full() };
        assert_eq!(world.passes(admin(set)), letter == 'a');
    }
}

/// Whoever only manages sees their own virtual hosts and connections.
#[test]
fn listings_show_what_one_may_see() {
    let mut world = World::with_user(["", "", ""]);
    world.done(ALICE, admin(Admin::PutVhost("shop".into())));
    world.done(ALICE, put_tagged("user", "management"));
    world.consume(ALICE, "q", 1);
    let carol = SessionId::from_parts(5, 1);
    world.engine.open_session(carol, SessionInfo::default());
    world.done(carol, Request::OpenVhost("shop".into()));
    world.open(carol, 1);
    world.done(carol, declare("theirs", durable(QueueOptions::default())));
    world.done(carol, declare_exchange("theirs", exchange_spec(ExchangeKind::Topic)));
    world.done(carol, Request::Bind(Box::new(binding("theirs", "theirs", ""))));
    world.consume(carol, "theirs", 1);
    let mut count = |listing| {
        let Reply::Listing(rows) = world.ask(USER, admin(Admin::List(listing))) else {
            panic!("no listing")
        };
        rows.len()
    };
    let all = [
        Listing::Vhosts,
        Listing::Queues,
        Listing::Bindings,
        Listing::Consumers,
        Listing::Connections,
    ];
    assert_eq!(all.map(&mut count), [1, 1, 0, 1, 1]);
    let exchanges = count(Listing::Exchanges);
    world.done(ALICE, put_tagged("user", "monitoring"));
    let mut count = |listing| {
        let Reply::Listing(rows) = world.ask(USER, admin(Admin::List(listing))) else {
            panic!("no listing")
        };
        rows.len()
    };
    assert_eq!(all.map(&mut count), [2, 2, 1, 2, 4]);
    assert!(count(Listing::Exchanges) > exchanges);
}

/// A made-up address reaches nobody, and a real one only from its own virtual host.
#[test]
fn answers_cannot_be_forged() {
    let mut world = World::with_user([".*"; 3]);
    let mut ask = consume("amq.rabbitmq.reply-to", 1);
    ask.no_ack = true;
    let Reply::Queue { name: address, .. } = world.ask(USER, Request::Consume(Box::new(ask)))
    else {
        panic!("no address")
    };
    let answer = |key: &Bytes| {
        let mut message = publish("", "", "answer");
        message.routing_key = key.clone();
        message.options.is_mandatory = true;
        Request::Publish(message)
    };
    for forged in ["amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.00", "amq.rabbitmq.reply-to"] {
        let reply = world.ask(ALICE, answer(&bytes(forged)));
        assert!(matches!(reply, Reply::Unroutable(_)), "{forged}: {reply:?}");
    }
    world.done(ALICE, admin(Admin::PutVhost("shop".into())));
    world.done(BOB, Request::OpenVhost("shop".into()));
    assert!(matches!(world.ask(BOB, answer(&address)), Reply::Unroutable(_)));
    world.send(ALICE, 1, answer(&address));
    assert_eq!(world.bodies(), ["answer"]);
}

#[test]
fn tags_change_alone() {
    let mut world = World::with_user([".*"; 3]);
    let set =
        |name: &str, tags: &str| admin(Admin::SetTags { name: bytes(name), tags: bytes(tags) });
    assert!(!world.passes(set("user", "administrator")));
    let refusal = world.refusal(ALICE, set("none", ""));
    assert!(matches!(refusal, Refusal::NotFound { noun: Noun::User, .. }), "{refusal:?}");
    world.done(ALICE, set("user", "administrator"));
    assert!(world.passes(set("user", "")), "the last thing they could do");
    assert!(!world.passes(set("user", "")));
    assert_eq!(world.engine.state.users[b"user".as_slice()].hash, "hash");
    world.check_recovery();
}

#[test]
fn permissions_are_for_users_and_vhosts_that_are_there() {
    let mut world = World::with_user(["", "", ""]);
    let set = |user: &'static str, vhost: &'static str| {
        let (user, vhost) = (user.into(), vhost.into());
        admin(Admin::SetPermission { user, vhost, permission: Permission::full() })
    };
    let refusal = world.refusal(ALICE, set("none", "/"));
    assert!(matches!(refusal, Refusal::NotFound { noun: Noun::User, .. }), "{refusal:?}");
    let refusal = world.refusal(ALICE, set("user", "none"));
    assert!(matches!(refusal, Refusal::NotFound { noun: Noun::Vhost, .. }), "{refusal:?}");
    world.done(ALICE, admin(Admin::PutVhost("shop".into())));
    world.done(ALICE, set("user", "shop"));
    world.done(ALICE, admin(Admin::DeleteVhost("shop".into())));
    world.done(ALICE, admin(Admin::PutVhost("shop".into())));
    let refusal = world.refusal(USER, Request::OpenVhost("shop".into()));
    assert!(matches!(refusal, Refusal::NotPermitted { .. }), "rights go with the virtual host");
    assert_eq!(world.refusal(USER, put_tagged("x", "")), Refusal::TagMissing(Tag::Administrator));
    world.check_recovery();
}
