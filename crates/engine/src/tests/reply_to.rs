//! Direct reply-to: answers that go straight to the asker, through no queue and no log, and what
//! happens when the asker is gone.

use super::*;

fn ask_for_replies(world: &mut World, session: SessionId) -> Bytes {
    let request = Consume { no_ack: true, ..consume("amq.rabbitmq.reply-to", 8) };
    let reply = world.ask(session, Request::Consume(Box::new(request)));
    let Reply::Queue { name, .. } = reply else { panic!("{reply:?}") };
    name
}

#[test]
fn an_answer_goes_straight_to_the_asker() {
    let mut world = World::new();
    let address = ask_for_replies(&mut world, BOB);
    assert_eq!(address.len(), "amq.rabbitmq.reply-to.".len() + 32);
    let mut answer = publish("", "", "answer");
    answer.routing_key = address.clone();
    world.send(ALICE, 1, Request::Publish(answer.clone()));
    let seen = world.deliveries.remove(0);
    assert_eq!((seen.session, seen.consumer, seen.gate), (BOB, 8, Lsn::ZERO));
    assert_eq!(seen.body, "answer");
    world.done(ALICE, Request::LookupQueue(address.clone()));
    assert!(world.tape.records.is_empty());
    world.done(BOB, Request::Cancel(ConsumerId(8)));
    assert!(matches!(
        world.refusal(ALICE, Request::LookupQueue(address)),
        Refusal::NotFound { .. }
    ));
    answer.options.is_mandatory = true;
    let reply = world.ask(ALICE, Request::Publish(answer));
    assert!(matches!(reply, Reply::Unroutable(_)), "{reply:?}");
}

#[test]
fn an_address_goes_with_its_channel_and_is_never_the_same() {
    let mut world = World::new();
    let first = ask_for_replies(&mut world, BOB);
    world.close(BOB);
    world.refusal(ALICE, Request::LookupQueue(first.clone()));
    world.enter(BOB);
    assert_ne!(ask_for_replies(&mut world, BOB), first);
    assert_eq!(world.engine.replies.len(), 1);
}

#[test]
fn one_reply_consumer_without_acknowledgements() {
    let mut world = World::new();
    let request = Request::Consume(Box::new(consume("amq.rabbitmq.reply-to", 1)));
    assert!(matches!(
        world.refusal(BOB, request),
        Refusal::Inequivalent { argument: "no_ack", .. }
    ));
    ask_for_replies(&mut world, BOB);
    let request = Consume { no_ack: true, ..consume("amq.rabbitmq.reply-to", 2) };
    let refusal = world.refusal(BOB, Request::Consume(Box::new(request)));
    assert!(matches!(refusal, Refusal::InUse { .. }));
}

#[test]
fn an_answer_inside_a_commit_waits_for_it() {
    let mut world = World::new();
    world.durable("q");
    let address = ask_for_replies(&mut world, BOB);
    let mut answer = publish("", "", "answer");
    answer.routing_key = address;
    let ops = vec![Op::Publish(answer), Op::Publish(publish("", "q", "next"))];
    world.done(ALICE, Request::Commit(ops));
    assert_eq!(world.deliveries[0].gate, world.tape.next);
}
