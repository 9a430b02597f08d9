"""Unmodified pika: connection, publishing, consuming, acknowledging, quality of service.

What lives here: the everyday verbs. What does not: queue arguments (test_pika_queues.py),
routing (test_pika_routing.py), transactions (test_pika_tx.py), error codes
(test_pika_errors.py).
"""

from __future__ import annotations

import os

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from support import Inbox, bodies, consumers, cut, is_empty, pump, put, ready, take, until

CAPABILITIES = (
    "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
    "connection.blocked", "consumer_priorities", "authentication_failure_close",
    "per_consumer_qos", "direct_reply_to",
)


def test_server_properties(connection):
    properties = connection._impl.server_properties
    for capability in CAPABILITIES:
        assert properties["capabilities"][capability] is True, capability
    version = properties["version"].decode() if isinstance(properties["version"], bytes) else \
        properties["version"]
    assert len(version.split(".")) == 3 and all(part.isdigit() for part in version.split("."))
    for key in ("product", "platform", "copyright", "information", "cluster_name"):
        assert properties[key]


@pytest.mark.potager_only("RabbitMQ announces itself")
def test_product(connection):
    product = connection._impl.server_properties["product"]
    assert product in ("Potager", b"Potager")


def test_declare_publish_confirm_consume_ack(channel, name):
    queue = channel.queue_declare(name(), durable=True).method.queue
    channel.confirm_delivery()
    for number in range(20):
        put(channel, queue, number, delivery_mode=2)
    inbox = Inbox(channel, queue)
    assert inbox.pump(20) == [str(number) for number in range(20)]
    assert [seen[0].delivery_tag for seen in inbox.seen] == list(range(1, 21))
    inbox.ack(-1, multiple=True)
    channel.basic_cancel(inbox.tag)
    assert ready(channel, queue) == 0
    channel.queue_delete(queue)


def test_properties_arrive_as_sent(channel, name):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    headers = {"text": "ä", "int": 5, "big": 1 << 40, "neg": -7, "yes": True, "none": None,
               "list": [1, "two", {"three": 3}], "table": {"deep": {"deeper": b"\x00\xff"}}}
    sent = pika.BasicProperties(
        content_type="application/json", content_encoding="utf-8", headers=headers,
        delivery_mode=2, priority=3, correlation_id="corr", reply_to="back", expiration="60000",
        message_id="id-1", timestamp=1234567890, type="kind", user_id="guest", app_id="app",
        cluster_id="cluster",
    )
    channel.basic_publish("", queue, b"\x00\x01body", sent)
    _, got, body = take(channel, queue)
    assert body == b"\x00\x01body"
    for field in ("content_type", "content_encoding", "delivery_mode", "priority", "reply_to",
                  "correlation_id", "expiration", "message_id", "timestamp", "type", "user_id",
                  "app_id", "cluster_id"):
        assert getattr(got, field) == getattr(sent, field), field
    # pika reads long strings that are text as text; bytes stay bytes.
    assert got.headers == headers


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 400_000, 4_000_000])
def test_bodies_of_every_size(channel, name, size):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    body = bytes(index % 251 for index in range(min(size, 4096)))
    body = (body * (size // max(len(body), 1) + 1))[:size] if size else b""
    channel.confirm_delivery()
    channel.basic_publish("", queue, body)
    assert take(channel, queue)[2] == body


def test_mandatory_unroutable_is_returned_then_acked(channel, name):
    channel.confirm_delivery()
    with pytest.raises(UnroutableError) as raised:
        put(channel, name("nowhere"), mandatory=True)
    assert raised.value.messages[0].method.reply_code == 312
    assert raised.value.messages[0].method.reply_text == "NO_ROUTE"
    put(channel, name("nowhere"))


def test_mandatory_without_confirms_returns(channel, name):
    returned = []
    channel.add_on_return_callback(lambda _c, method, _p, body: returned.append((method, body)))
    put(channel, name("nowhere"), "lost", mandatory=True)
    pump(channel, lambda: returned, what="basic.return")
    method, body = returned[0]
    assert (method.reply_code, method.reply_text, body) == (312, "NO_ROUTE", b"lost")


def test_return_comes_before_its_confirm(connection, name):
    order = []
    channel = connection.channel()
    channel._impl.confirm_delivery(lambda frame: order.append(frame.method.NAME), None)
    pump(channel, lambda: True)
    channel.add_on_return_callback(lambda *_: order.append("Basic.Return"))
    channel._impl.basic_publish("", name("nowhere"), b"x", mandatory=True)
    pump(channel, lambda: len([n for n in order if n != "Confirm.SelectOk"]) >= 1)
    # BlockingChannel hands returns out after its own dispatch; the acknowledgement must exist.
    pump(channel, lambda: "Basic.Ack" in order, what="ack of the returned message")


def test_get_reports_what_is_left(channel, name):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    channel.confirm_delivery()
    for number in range(3):
        put(channel, queue, number)
    assert [take(channel, queue)[0].message_count for _ in range(3)] == [2, 1, 0]
    assert is_empty(channel, queue)


@pytest.mark.parametrize("how", ["nack", "reject", "recover"])
def test_requeue_keeps_place_and_marks_redelivered(channel, name, how):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    channel.confirm_delivery()
    for number in range(5):
        put(channel, queue, number)
    first = take(channel, queue, auto_ack=False)[0]
    assert first.redelivered is False
    second = take(channel, queue, auto_ack=False)[0]
    if how == "nack":
        channel.basic_nack(second.delivery_tag, multiple=True, requeue=True)
    elif how == "reject":
        channel.basic_reject(second.delivery_tag, requeue=True)
        channel.basic_reject(first.delivery_tag, requeue=True)
    else:
        channel.basic_recover(requeue=True)
    until(lambda: ready(channel, queue) == 5, what="five ready again")
    again = [take(channel, queue) for _ in range(5)]
    assert [body.decode() for _, _, body in again] == list("01234")
    assert [method.redelivered for method, _, _ in again] == [True, True, False, False, False]


def test_closing_the_channel_requeues_in_order(connection, name):
    setup = connection.channel()
    queue = setup.queue_declare(name(), exclusive=True).method.queue
    setup.confirm_delivery()
    for number in range(6):
        put(setup, queue, number)
    worker = connection.channel()
    worker.basic_qos(prefetch_count=4)
    Inbox(worker, queue).pump(4)
    worker.close()
    until(lambda: ready(setup, queue) == 6, what="all ready again")
    assert bodies(setup, queue, 6) == list("012345")


def test_killing_the_connection_requeues(connect, name):
    keeper = connect().channel()
    queue = keeper.queue_declare(name()).method.queue
    put(keeper, queue, "job")
    other = connect()
    Inbox(other.channel(), queue).pump(1)
    cut(other)
    method, _, body = take(keeper, queue)
    assert (method.redelivered, body) == (True, b"job")
    keeper.queue_delete(queue)


def test_qos_limits_unacknowledged(channel, name):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    channel.confirm_delivery()
    for number in range(10):
        put(channel, queue, number)
    channel.basic_qos(prefetch_count=3)
    inbox = Inbox(channel, queue)
    inbox.pump(3)
    assert len(inbox.settle()) == 3
    inbox.ack(0)
    inbox.pump(4)
    assert len(inbox.settle()) == 4


@pytest.mark.potager_only("RabbitMQ applies global=false to later consumers only")
@pytest.mark.parametrize("is_global", [False, True])
def test_qos_is_live(channel, name, is_global):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    channel.confirm_delivery()
    for number in range(10):
        put(channel, queue, number)
    channel.basic_qos(prefetch_count=2, global_qos=is_global)
    inbox = Inbox(channel, queue)
    inbox.pump(2)
    assert len(inbox.settle()) == 2
    channel.basic_qos(prefetch_count=5, global_qos=is_global)
    inbox.pump(5)
    assert len(inbox.settle()) == 5
    channel.basic_qos(prefetch_count=1, global_qos=is_global)
    for index in range(4):
        inbox.ack(index)
    assert len(inbox.settle()) == 5
    inbox.ack(4)
    inbox.pump(6)
    assert len(inbox.settle()) == 6


def test_global_qos_is_live_and_shared(channel, name):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    channel.confirm_delivery()
    for number in range(10):
        put(channel, queue, number)
    channel.basic_qos(prefetch_count=2, global_qos=True)
    one, two = Inbox(channel, queue), Inbox(channel, queue)
    pump(channel, lambda: len(one.seen) + len(two.seen) == 2)
    one.settle()
    assert len(one.seen) + len(two.seen) == 2
    channel.basic_qos(prefetch_count=6, global_qos=True)
    pump(channel, lambda: len(one.seen) + len(two.seen) == 6)
    one.settle()
    assert len(one.seen) + len(two.seen) == 6


def test_qos_does_not_limit_no_ack_nor_get(channel, name):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    channel.confirm_delivery()
    for number in range(6):
        put(channel, queue, number)
    channel.basic_qos(prefetch_count=1)
    assert [take(channel, queue, auto_ack=False)[2] for _ in range(2)] == [b"0", b"1"]
    assert len(Inbox(channel, queue, auto_ack=True).pump(4)) == 4


def test_round_robin_among_free_consumers(channel, name):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    one, two = Inbox(channel, queue), Inbox(channel, queue)
    for number in range(10):
        put(channel, queue, number)
    pump(channel, lambda: len(one.seen) + len(two.seen) == 10)
    assert len(one.seen) == len(two.seen) == 5


def test_cancel_leaves_deliveries_unacknowledged(channel, name):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    put(channel, queue, "job")
    inbox = Inbox(channel, queue)
    inbox.pump(1)
    channel.basic_cancel(inbox.tag)
    assert consumers(channel, queue) == 0
    assert ready(channel, queue) == 0
    inbox.ack()
    assert ready(channel, queue) == 0


def test_exclusive_consumer_refuses_others(channel, connection, name):
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    Inbox(channel, queue, exclusive=True)
    with pytest.raises(ChannelClosedByBroker) as raised:
        Inbox(connection.channel(), queue)
    assert raised.value.reply_code == 403


def test_consumer_is_told_when_its_queue_goes(channel, connection, name):
    queue = channel.queue_declare(name()).method.queue
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    inbox = Inbox(channel, queue)
    connection.channel().queue_delete(queue)
    pump(channel, lambda: cancelled, what="basic.cancel")
    assert cancelled == [inbox.tag]


def test_server_named_queue_and_consumer(channel):
    first = channel.queue_declare("", exclusive=True).method.queue
    assert first.startswith("amq.gen-")
    tag = channel.basic_consume(first, lambda *_: None)
    assert tag
    # An empty name means the queue that this channel declared last.
    channel.queue_bind("", "amq.direct", routing_key=first)
    put(channel, first, "hello", exchange="amq.direct")
    channel.basic_cancel(tag)
    assert take(channel, "", auto_ack=True)[2] == b"hello"


def test_exclusive_queue_dies_with_its_connection(connect, name):
    owner, other = connect(), connect()
    queue = owner.channel().queue_declare(name(), exclusive=True).method.queue
    with pytest.raises(ChannelClosedByBroker) as raised:
        other.channel().queue_declare(queue, passive=True)
    assert raised.value.reply_code == 405 and "RESOURCE_LOCKED" in raised.value.reply_text
    cut(owner)

    def declared():
        try:
            return other.channel().queue_declare(queue, exclusive=True)
        except ChannelClosedByBroker as refused:
            assert refused.reply_code == 405
            return None

    until(declared, limit_s=3, what="the queue of the dead owner is free again")


def test_auto_delete_queue_goes_with_its_last_consumer(channel, connection, name):
    queue = channel.queue_declare(name(), auto_delete=True).method.queue
    tags = [channel.basic_consume(queue, lambda *_: None) for _ in range(2)]
    channel.basic_cancel(tags[0])
    assert consumers(channel, queue) == 1
    channel.basic_cancel(tags[1])
    with pytest.raises(ChannelClosedByBroker) as raised:
        ready(connection.channel(), queue)
    assert raised.value.reply_code == 404


def test_delete_and_purge_report_counts(channel, name):
    queue = channel.queue_declare(name()).method.queue
    channel.confirm_delivery()
    for number in range(5):
        put(channel, queue, number)
    kept = take(channel, queue, auto_ack=False)[0]
    assert channel.queue_purge(queue).method.message_count == 4
    channel.basic_nack(kept.delivery_tag, requeue=True)
    until(lambda: ready(channel, queue) == 1)
    assert channel.queue_delete(queue).method.message_count == 1
    channel.queue_delete(queue)


def test_channel_flow_and_many_channels(connection, name):
    channels = [connection.channel() for _ in range(50)]
    assert channels[0].flow(True) is True
    queue = channels[0].queue_declare(name(), exclusive=True).method.queue
    for number, channel in enumerate(channels):
        put(channel, queue, number)
    until(lambda: ready(channels[0], queue) == 50)
    for channel in channels:
        channel.close()
    assert connection.channel().is_open


def test_update_secret(connection):
    from pika import spec

    answers = []
    implementation = connection._impl
    implementation.callbacks.add(0, spec.Connection.UpdateSecretOk, answers.append)
    implementation._send_method(0, spec.Connection.UpdateSecret(b"guest", "test"))
    pump(connection.channel(), lambda: answers, what="connection.update-secret-ok")


@pytest.mark.potager_only("looks at the processor time of the server's one process")
def test_a_connection_at_rest_costs_nothing(connect, name, pid):
    """A stream of unconfirmed publishes, then silence, without heartbeats: nothing may spin."""
    channel = connect(heartbeat=0).channel()
    queue = name()
    channel.queue_declare(queue, durable=True)
    for number in range(3000):
        put(channel, queue, number)
    assert ready(channel, queue) == 3000

    def busy_s():
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    channel.connection.sleep(1)
    before = busy_s()
    channel.connection.sleep(1)
    assert busy_s() - before < 0.5
    channel.queue_delete(queue)
