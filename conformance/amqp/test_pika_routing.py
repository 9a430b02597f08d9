"""Unmodified pika: exchanges and what they do with a message on its way to queues.

What lives here: exchange types, bindings, alternate exchanges, CC/BCC, delayed exchanges, direct
reply-to. What does not: queue arguments (test_pika_queues.py), refusals (test_pika_errors.py).
"""

from __future__ import annotations

import time

import pytest
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from support import Inbox, bodies, is_empty, pump, put, ready, take, until


@pytest.fixture
def exchange(channel, name):
    """Declares exchanges; they are deleted after the test."""
    made = []

    def make(kind, **more):
        one = name()
        channel.exchange_declare(one, kind, **more)
        made.append(one)
        return one

    yield make
    if channel.is_open:
        for one in made:
            channel.exchange_delete(one)


@pytest.fixture
def queue(channel, name):
    """Declares exclusive queues."""
    return lambda: channel.queue_declare(name(), exclusive=True).method.queue


TOPICS = [
    ("a.b.c", "a.b.c", True), ("a.*.c", "a.b.c", True), ("a.*.c", "a.b.b.c", False),
    ("a.#", "a", True), ("a.#", "a.b.c", True), ("#", "", True), ("#", "x.y", True),
    ("*", "", False), ("*", "a", True), ("*", "a.b", False), ("#.c", "a.b.c", True),
    ("a.#.c", "a.c", True), ("#.b.#", "a.b.c", True), ("*.#", "", False), ("a.*", "a.", True),
    ("#.#.x", "x", True), ("*.*", "a", False), ("a..b", "a..b", True), ("a.*.b", "a..b", True),
]


@pytest.mark.parametrize("pattern,key,matches", TOPICS)
def test_topic(channel, exchange, queue, pattern, key, matches):
    topic, target = exchange("topic"), queue()
    channel.queue_bind(target, topic, pattern)
    channel.confirm_delivery()
    put(channel, key, "x", exchange=topic)
    assert is_empty(channel, target) != matches


HEADERS = [
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 9}, True),
    ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1}, False),
    ({"x-match": "any", "a": 1, "b": "x"}, {"b": "x"}, True),
    ({"x-match": "any", "a": 1}, {"a": 2}, False),
    ({"a": 1}, {"a": 1}, True),
    ({"x-match": "all"}, {}, True),
    ({"x-match": "any"}, {"a": 1}, False),
    ({"x-match": "all", "a": None}, {"a": "whatever"}, True),
    ({"x-match": "all-with-x", "x-a": 1}, {"x-a": 1}, True),
    ({"x-match": "all-with-x", "x-a": 1}, {"x-a": 2}, False),
    ({"x-match": "any-with-x", "x-a": 1, "b": 2}, {"x-a": 1}, True),
    ({"x-match": "all", "x-a": 1, "b": 2}, {"b": 2}, True),
]


@pytest.mark.parametrize("wanted,sent,matches", HEADERS)
def test_headers(channel, exchange, queue, wanted, sent, matches):
    by_header, target = exchange("headers"), queue()
    channel.queue_bind(target, by_header, arguments=wanted)
    channel.confirm_delivery()
    put(channel, "", "x", exchange=by_header, headers=sent)
    assert is_empty(channel, target) != matches


def test_direct_and_fanout(channel, exchange, queue):
    direct, fanout = exchange("direct"), exchange("fanout")
    one, two = queue(), queue()
    channel.queue_bind(one, direct, "k1")
    channel.queue_bind(one, direct, "k2")
    channel.queue_bind(two, direct, "k2")
    for target in (one, two):
        channel.queue_bind(target, fanout, "ignored")
    channel.confirm_delivery()
    put(channel, "k2", "both", exchange=direct)
    put(channel, "k1", "one", exchange=direct)
    put(channel, "K1", "none", exchange=direct)
    put(channel, "whatever", "all", exchange=fanout)
    assert bodies(channel, one, 3) == ["both", "one", "all"]
    assert bodies(channel, two, 2) == ["both", "all"]
    channel.queue_unbind(one, direct, "k1")
    put(channel, "k1", "gone", exchange=direct)
    assert is_empty(channel, one)


def test_two_bindings_give_one_copy(channel, exchange, queue):
    topic, target = exchange("topic"), queue()
    for pattern in ("#", "a.*", "*.b"):
        channel.queue_bind(target, topic, pattern)
    channel.confirm_delivery()
    put(channel, "a.b", "once", exchange=topic)
    assert ready(channel, target) == 1


@pytest.mark.parametrize("predeclared,kind", [
    ("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
    ("amq.headers", "headers"), ("amq.match", "headers"),
])
def test_predeclared(channel, predeclared, kind):
    channel.exchange_declare(predeclared, passive=True)
    channel.exchange_declare(predeclared, kind, durable=True)


def test_exchange_to_exchange_and_one_copy(channel, exchange, queue):
    first, second, target = exchange("fanout"), exchange("topic"), queue()
    channel.exchange_bind(second, first)
    channel.queue_bind(target, second, "#")
    channel.queue_bind(target, first)
    channel.confirm_delivery()
    put(channel, "a", "x", exchange=first)
    assert ready(channel, target) == 1
    channel.exchange_unbind(second, first)
    channel.queue_unbind(target, first)
    put(channel, "a", "y", exchange=first)
    assert ready(channel, target) == 1


def test_exchange_loop_ends(channel, exchange, queue):
    one, two, target = exchange("fanout"), exchange("fanout"), queue()
    channel.exchange_bind(two, one)
    channel.exchange_bind(one, two)
    channel.queue_bind(target, two)
    channel.confirm_delivery()
    put(channel, "", "x", exchange=one)
    assert ready(channel, target) == 1


def test_alternate_exchange(channel, exchange, queue):
    spare, target = exchange("fanout"), queue()
    main = exchange("direct", arguments={"alternate-exchange": spare})
    channel.queue_bind(target, spare)
    channel.confirm_delivery()
    put(channel, "unbound", "x", exchange=main, mandatory=True)
    method, _, body = take(channel, target)
    assert (method.exchange, method.routing_key, body) == (main, "unbound", b"x")
    channel.queue_unbind(target, spare)
    with pytest.raises(UnroutableError):
        put(channel, "unbound", "y", exchange=main, mandatory=True)


def test_cc_and_bcc(channel, queue):
    main, copy, blind = queue(), queue(), queue()
    channel.confirm_delivery()
    put(channel, main, "x", headers={"CC": [copy], "BCC": [blind], "mine": 1})
    for target in (main, copy, blind):
        method, properties, _ = take(channel, target)
        assert method.routing_key == main
        assert properties.headers == {"CC": [copy], "mine": 1}


def test_auto_delete_exchange(channel, connection, name, queue):
    auto, target = name(), queue()
    channel.exchange_declare(auto, "fanout", auto_delete=True)
    channel.queue_bind(target, auto)
    channel.queue_unbind(target, auto)
    with pytest.raises(ChannelClosedByBroker) as raised:
        connection.channel().exchange_declare(auto, passive=True)
    assert raised.value.reply_code == 404


def test_deletes_and_unbinds_are_idempotent(channel, exchange, queue, name):
    channel.exchange_delete(name("never"))
    channel.queue_delete(name("never"))
    channel.queue_unbind(queue(), exchange("direct"), "never")
    assert channel.is_open


def test_deleting_an_exchange_frees_its_bindings(channel, name, queue):
    gone, target = name(), queue()
    channel.exchange_declare(gone, "direct")
    channel.queue_bind(target, gone, "k")
    channel.exchange_delete(gone)
    channel.exchange_declare(gone, "direct")
    channel.confirm_delivery()
    put(channel, "k", "x", exchange=gone)
    assert is_empty(channel, target)
    channel.exchange_delete(gone)


def test_names_of_any_bytes(channel, name):
    strange = name("käfer ☃ \u202e!#%&/'\"")
    channel.queue_declare(strange, exclusive=True)
    channel.confirm_delivery()
    put(channel, strange, "x")
    assert take(channel, strange)[2] == b"x"


@pytest.mark.potager_only("RabbitMQ 3.10 needs a plugin that Debian does not carry")
def test_delayed_exchange(channel, exchange, queue):
    delayed = exchange("x-delayed-message", durable=True,
                       arguments={"x-delayed-type": "direct"})
    target = queue()
    channel.queue_bind(target, delayed, "k")
    channel.confirm_delivery()
    began = time.monotonic()
    for delay in (600, 300, 0):
        put(channel, "k", delay, exchange=delayed, headers={"x-delay": delay})
    assert take(channel, target)[2] == b"0"
    assert take(channel, target)[2] == b"300"
    assert time.monotonic() - began >= 0.29
    _, properties, body = take(channel, target)
    assert body == b"600" and time.monotonic() - began >= 0.59
    assert properties.headers["x-delay"] in (600, -600)


@pytest.mark.owns_server
@pytest.mark.potager_only("RabbitMQ 3.10 needs a plugin that Debian does not carry")
def test_delayed_message_survives_a_kill(own_server, connect, name):
    server = own_server()
    channel = connect(port=server.port).channel()
    delayed, target = name(), name()
    channel.exchange_declare(delayed, "x-delayed-message", durable=True,
                             arguments={"x-delayed-type": "fanout"})
    channel.queue_declare(target, durable=True)
    channel.queue_bind(target, delayed)
    channel.confirm_delivery()
    put(channel, "", "later", exchange=delayed, headers={"x-delay": 1500}, delivery_mode=2)
    server.kill()
    server.start()
    assert take(connect(port=server.port).channel(), target)[2] == b"later"


def test_direct_reply_to(channel, connection, name):
    requests = channel.queue_declare(name(), exclusive=True).method.queue
    client = connection.channel()
    replies = Inbox(client, "amq.rabbitmq.reply-to", auto_ack=True)
    put(client, requests, "ask", reply_to="amq.rabbitmq.reply-to", correlation_id="c1")
    _, properties, _ = take(channel, requests)
    address = properties.reply_to
    assert address.startswith("amq.rabbitmq.reply-to.") and len(address) > 25
    channel.queue_declare(address, passive=True)
    put(channel, address, "answer", correlation_id=properties.correlation_id)
    assert replies.pump(1) == ["answer"]
    method, got, _ = replies.seen[0]
    assert (method.exchange, method.routing_key, got.correlation_id) == ("", address, "c1")
    client.basic_cancel(replies.tag)
    client.close()

    def is_gone():
        probe = connection.channel()
        try:
            probe.queue_declare(address, passive=True)
            probe.close()
            return False
        except ChannelClosedByBroker as closed:
            return closed.reply_code == 404

    until(is_gone, what="the requester's address is gone")


@pytest.mark.potager_only("RabbitMQ 3.10 crashes inside and closes the connection with 541")
def test_forged_reply_address_reaches_nobody(channel):
    returned = []
    channel.add_on_return_callback(lambda *_: returned.append(1))
    put(channel, "amq.rabbitmq.reply-to.forged.AAAA", "x", mandatory=True)
    pump(channel, lambda: returned or not channel.is_open, what="a return or a refusal")
