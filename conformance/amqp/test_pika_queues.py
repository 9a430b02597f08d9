"""Unmodified pika: what queue arguments do: TTL, length, dead letters, priority, delivery limits.

What lives here: behaviour by queue argument. What does not: refused arguments
(test_pika_errors.py), exchanges (test_pika_routing.py).
"""

from __future__ import annotations

import calendar
import time

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, NackError

from support import Inbox, bodies, cut, is_empty, pump, put, ready, take, until


def declare(channel, name, **arguments):
    """A queue with `arguments`; underscores in the names stand for hyphens."""
    given = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    return channel.queue_declare(name(), durable=True, arguments=given).method.queue


def dead_letter_pair(channel, name, **arguments):
    """(queue, queue for its dead letters)."""
    grave = channel.queue_declare(name("grave"), durable=True).method.queue
    queue = declare(channel, name, dead_letter_exchange="", dead_letter_routing_key=grave,
                    **arguments)
    return queue, grave


@pytest.mark.parametrize("by", ["queue", "message", "both"])
def test_expired_messages_are_dead_lettered(channel, name, by):
    arguments = {"queue": {"message_ttl": 100}, "message": {}, "both": {"message_ttl": 60_000}}[by]
    queue, grave = dead_letter_pair(channel, name, **arguments)
    channel.confirm_delivery()
    sent = time.monotonic()
    put(channel, queue, "old", **({} if by == "queue" else {"expiration": "100"}))
    _, properties, body = take(channel, grave)
    assert time.monotonic() - sent >= 0.09
    assert body == b"old"
    death = properties.headers["x-death"][0]
    assert (death["reason"], death["queue"], death["count"]) == ("expired", queue, 1)
    assert death.get("original-expiration") == (None if by == "queue" else "100")
    assert properties.expiration is None
    assert is_empty(channel, queue)


def test_ttl_zero_expires_unless_a_consumer_waits(channel, name):
    queue, grave = dead_letter_pair(channel, name, message_ttl=0)
    channel.confirm_delivery()
    put(channel, queue, "nobody")
    assert take(channel, grave)[2] == b"nobody"
    inbox = Inbox(channel, queue, auto_ack=True)
    put(channel, queue, "somebody")
    assert inbox.pump(1) == ["somebody"]


def test_queue_expires_when_unused(channel, connection, name):
    queue, grave = dead_letter_pair(channel, name, expires=200)
    channel.confirm_delivery()
    put(channel, queue, "gone")
    time.sleep(0.05)

    def is_gone():
        probe = connection.channel()
        try:
            probe.basic_get(queue)
            probe.close()
        except ChannelClosedByBroker as closed:
            return closed.reply_code == 404
        # The get itself counts as use, so leave the queue in peace for longer than its limit.
        time.sleep(0.4)
        return False

    until(is_gone, what="the unused queue is gone")
    assert is_empty(channel, grave)


def test_a_consumed_queue_does_not_expire(channel, name):
    queue = declare(channel, name, expires=200)
    inbox = Inbox(channel, queue, auto_ack=True)
    inbox.settle(0.6)
    put(channel, queue, "alive")
    assert inbox.pump(1) == ["alive"]


@pytest.mark.parametrize("arguments", [{"max_length": 3}, {"max_length_bytes": 30}])
def test_drop_head(channel, name, arguments):
    queue, grave = dead_letter_pair(channel, name, **arguments)
    channel.confirm_delivery()
    for number in range(5):
        put(channel, queue, f"{number:010}")
    assert bodies(channel, queue, 3) == [f"{number:010}" for number in (2, 3, 4)]
    assert [int(text) for text in bodies(channel, grave, 2)] == [0, 1]


def test_max_length_reason_and_first_death(channel, name):
    queue, grave = dead_letter_pair(channel, name, max_length=1)
    channel.confirm_delivery()
    put(channel, queue, "a")
    put(channel, queue, "b")
    headers = take(channel, grave)[1].headers
    assert headers["x-death"][0]["reason"] == "maxlen"
    assert headers["x-first-death-reason"] == "maxlen"
    assert headers["x-first-death-queue"] == queue
    assert headers["x-first-death-exchange"] == ""


def test_max_length_zero(channel, name):
    queue, grave = dead_letter_pair(channel, name, max_length=0)
    channel.confirm_delivery()
    put(channel, queue, "x")
    assert take(channel, grave)[2] == b"x"


def test_reject_publish_nacks_and_others_still_get_it(channel, name):
    full = declare(channel, name, max_length=1, overflow="reject-publish")
    other = channel.queue_declare(name(), durable=True).method.queue
    fanout = name("fan")
    channel.exchange_declare(fanout, "fanout")
    for queue in (full, other):
        channel.queue_bind(queue, fanout)
    channel.confirm_delivery()
    put(channel, full, "first")
    with pytest.raises(NackError):
        put(channel, "", "second", exchange=fanout)
    assert bodies(channel, full, 1) == ["first"]
    assert is_empty(channel, full)
    assert bodies(channel, other, 1) == ["second"]


def test_reject_publish_dlx(channel, name):
    queue, grave = dead_letter_pair(channel, name, max_length=1, overflow="reject-publish-dlx")
    channel.confirm_delivery()
    put(channel, queue, "first")
    with pytest.raises(NackError):
        put(channel, queue, "second")
    assert take(channel, grave)[2] == b"second"
    assert bodies(channel, queue, 1) == ["first"]


def test_max_length_counts_ready_only(channel, name):
    queue = declare(channel, name, max_length=2)
    channel.confirm_delivery()
    put(channel, queue, "held")
    held = take(channel, queue, auto_ack=False)
    put(channel, queue, "a")
    put(channel, queue, "b")
    assert ready(channel, queue) == 2
    channel.basic_ack(held[0].delivery_tag)


@pytest.mark.parametrize("how", ["reject", "nack"])
def test_rejected_messages_and_x_death_contents(channel, name, how):
    grave = channel.queue_declare(name("grave"), durable=True).method.queue
    dlx, source = name("dlx"), name("src")
    channel.exchange_declare(dlx, "fanout")
    channel.exchange_declare(source, "direct")
    channel.queue_bind(grave, dlx)
    queue = declare(channel, name, dead_letter_exchange=dlx)
    channel.queue_bind(queue, source, routing_key="key")
    before = int(time.time())
    put(channel, "key", "bad", exchange=source, headers={"mine": 1, "CC": ["cc-key"]})
    method = take(channel, queue, auto_ack=False)[0]
    if how == "reject":
        channel.basic_reject(method.delivery_tag, requeue=False)
    else:
        channel.basic_nack(method.delivery_tag, requeue=False)
    delivered, properties, body = take(channel, grave)
    assert body == b"bad"
    assert (delivered.exchange, delivered.routing_key) == (dlx, "key")
    headers = properties.headers
    assert headers["mine"] == 1
    assert headers["x-first-death-reason"] == "rejected"
    assert headers["x-first-death-queue"] == queue
    assert headers["x-first-death-exchange"] == source
    (death,) = headers["x-death"]
    assert death["queue"] == queue and death["exchange"] == source
    assert death["reason"] == "rejected" and death["count"] == 1
    assert death["routing-keys"] == ["key", "cc-key"]
    assert before - 1 <= death["time"].timestamp() - _zone_shift(death["time"]) <= time.time() + 1


def _zone_shift(moment):
    """pika reads a timestamp as naive UTC; `timestamp()` would take it for local time."""
    return (time.mktime(moment.timetuple()) - calendar.timegm(moment.timetuple())) \
        if moment.tzinfo is None else 0


def test_x_death_counts_per_queue_and_reason_newest_first(channel, name):
    one, two = name("one"), name("two")
    for queue, other in ((one, two), (two, one)):
        channel.queue_declare(queue, durable=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": other})
    channel.confirm_delivery()
    put(channel, one, "pingpong")
    for queue in (one, two, one):
        channel.basic_reject(take(channel, queue, auto_ack=False)[0].delivery_tag, requeue=False)
    deaths = take(channel, two)[1].headers["x-death"]
    assert [(death["queue"], death["count"]) for death in deaths] == [(one, 2), (two, 1)]


def test_cycle_without_a_rejection_drops(channel, name):
    one, two = name("one"), name("two")
    for queue, other in ((one, two), (two, one)):
        channel.queue_declare(queue, durable=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": other,
            "x-message-ttl": 50})
    channel.confirm_delivery()
    put(channel, one, "round")
    until(lambda: ready(channel, one) + ready(channel, two) == 0, what="the cycle is cut")
    time.sleep(0.2)
    assert ready(channel, one) + ready(channel, two) == 0


def test_missing_dead_letter_exchange_drops(channel, name):
    queue = declare(channel, name, dead_letter_exchange=name("nowhere"))
    put(channel, queue, "x")
    channel.basic_reject(take(channel, queue, auto_ack=False)[0].delivery_tag, requeue=False)
    assert ready(channel, queue) == 0
    assert channel.is_open


def test_priority(channel, name):
    queue = declare(channel, name, max_priority=10)
    channel.confirm_delivery()
    for number, priority in enumerate((1, 5, None, 10, 200, 5, 0)):
        put(channel, queue, number, **({} if priority is None else {"priority": priority}))
    assert bodies(channel, queue, 7) == ["3", "4", "1", "5", "0", "2", "6"]


def test_priority_survives_a_requeue(channel, name):
    queue = declare(channel, name, max_priority=5)
    channel.confirm_delivery()
    for number, priority in enumerate((3, 1, 3)):
        put(channel, queue, number, priority=priority)
    held = take(channel, queue, auto_ack=False)[0]
    channel.basic_reject(held.delivery_tag, requeue=True)
    until(lambda: ready(channel, queue) == 3)
    assert bodies(channel, queue, 3) == ["0", "2", "1"]


def test_consumer_priority(channel, connection, name):
    queue = channel.queue_declare(name(), durable=True).method.queue
    low, high = connection.channel(), connection.channel()
    for worker in (low, high):
        worker.basic_qos(prefetch_count=2)
    below = Inbox(low, queue)
    above = Inbox(high, queue, arguments={"x-priority": 10})
    channel.confirm_delivery()
    for number in range(3):
        put(channel, queue, number)
    pump(channel, lambda: len(above.seen) + len(below.seen) == 3)
    assert (above.texts, below.texts) == (["0", "1"], ["2"])


def test_single_active_consumer(channel, connection, name):
    queue = declare(channel, name, single_active_consumer=True)
    first, second = connection.channel(), connection.channel()
    one, two = Inbox(first, queue), Inbox(second, queue)
    channel.confirm_delivery()
    for number in range(4):
        put(channel, queue, number)
    assert one.pump(4) == list("0123")
    assert two.settle() == []
    one.ack(-1, multiple=True)
    first.basic_cancel(one.tag)
    put(channel, queue, "next")
    assert two.pump(1) == ["next"]


@pytest.mark.parametrize("queue_type", ["quorum", pytest.param("classic", marks=(
    pytest.mark.potager_only("delivery limits are for quorum queues only"),))])
def test_delivery_limit(channel, connect, name, queue_type):
    queue, grave = dead_letter_pair(channel, name, queue_type=queue_type, delivery_limit=2)
    put(channel, queue, "poison")
    for attempt in range(3):
        worker = connect()
        inbox = Inbox(worker.channel(), queue)
        inbox.pump(1)
        method, properties, _ = inbox.seen[0]
        count = (properties.headers or {}).get("x-delivery-count", 0)
        assert (count, method.redelivered) == (attempt, attempt > 0)
        cut(worker)
    _, properties, body = take(channel, grave)
    assert body == b"poison"
    assert properties.headers["x-death"][0]["reason"] == "delivery_limit"


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_queue_types_are_accepted_and_work(channel, name, queue_type):
    queue = declare(channel, name, queue_type=queue_type)
    channel.confirm_delivery()
    put(channel, queue, "x", delivery_mode=2)
    assert take(channel, queue)[2] == b"x"


def test_unknown_and_legacy_arguments_are_accepted(channel, name):
    queue = declare(channel, name, queue_mode="lazy", queue_version=1, my_own="kept",
                    queue_master_locator="min-masters")
    assert ready(channel, queue) == 0


def test_transient_queue_is_permitted(channel, name):
    queue = channel.queue_declare(name()).method.queue
    put(channel, queue, "x")
    assert take(channel, queue)[2] == b"x"


def test_redeclare_is_the_same_queue(channel, name):
    queue = declare(channel, name, message_ttl=60_000)
    channel.confirm_delivery()
    put(channel, queue, "x")
    again = channel.queue_declare(queue, durable=True, arguments={"x-message-ttl": 60_000})
    assert again.method.message_count == 1


@pytest.mark.owns_server
def test_restart_keeps_durable_and_drops_transient(own_server, connect, name):
    server = own_server()
    channel = connect(port=server.port).channel()
    durable = channel.queue_declare(name("durable"), durable=True).method.queue
    transient = channel.queue_declare(name("transient")).method.queue
    exchange = name("exchange")
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.queue_bind(durable, exchange, "a.*")
    channel.confirm_delivery()
    put(channel, "a.b", "kept", exchange=exchange, delivery_mode=2)
    put(channel, transient, "dropped", delivery_mode=2)
    server.kill()
    server.start()
    again = connect(port=server.port).channel()
    assert take(again, durable)[2] == b"kept"
    put(again, "a.c", "bound", exchange=exchange)
    assert take(again, durable)[2] == b"bound"
    with pytest.raises(ChannelClosedByBroker) as raised:
        ready(again, transient)
    assert raised.value.reply_code == 404


@pytest.mark.owns_server
def test_restart_keeps_timers(own_server, connect, name):
    server = own_server()
    channel = connect(port=server.port).channel()
    queue, grave = dead_letter_pair(channel, name, message_ttl=3000)
    channel.confirm_delivery()
    put(channel, queue, "late", delivery_mode=pika.DeliveryMode.Persistent)
    server.kill()
    server.start()
    assert take(connect(port=server.port).channel(), grave, 20)[2] == b"late"
