"""Unmodified pika: every documented refusal, as a table of action -> close code and text.

What lives here: violations and refusals that a well-formed client can provoke, the scope they
close (channel or connection), and that the rest lives on. What does not: malformed bytes
(test_hostile*.py). Source of codes: observed, RabbitMQ 3.10.8, by running this table against it.
"""

from __future__ import annotations

import pika
import pytest
from pika import spec
from pika.exceptions import (AMQPConnectionError, AuthenticationError, ChannelClosedByBroker,
                             ConnectionClosedByBroker, ProbableAccessDeniedError,
                             ProbableAuthenticationError)

from conftest import parameters
from support import put, take


class Bench:
    """What an action gets: a channel, another connection's channel, and fresh names."""

    def __init__(self, connect, name) -> None:
        """Open two connections and declare one queue and one exchange."""
        self.connection = connect()
        self.channel = self.connection.channel()
        self.other = connect().channel()
        self.name = name
        self.queue = self.channel.queue_declare(name("q"), exclusive=True).method.queue
        self.exchange = name("x")
        self.channel.exchange_declare(self.exchange, "direct", auto_delete=True)

    def declare(self, **arguments):
        """Declare a queue with x-arguments."""
        given = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        return self.channel.queue_declare(self.name(), exclusive=True, arguments=given)

    def publish(self, exchange="", key="", **properties):
        """Publish and wait for the server's opinion by a round trip."""
        put(self.channel, key, "x", exchange=exchange, **properties)
        self.channel.queue_declare(self.queue, passive=True)

    def raw(self, method):
        """Send a method that pika has no safe call for, then make a round trip."""
        self.channel._impl._send_method(method)
        self.channel.queue_declare(self.queue, passive=True)


def _twice_confirm_then_tx(bench):
    bench.channel.confirm_delivery()
    bench.channel.tx_select()


def _tx_then_confirm(bench):
    bench.channel.tx_select()
    bench.channel.confirm_delivery()


def _redeclare(bench, first, second):
    queue = bench.name()
    bench.channel.queue_declare(queue, exclusive=True, arguments=first)
    bench.channel.queue_declare(queue, exclusive=True, arguments=second)


def _redeclare_durable(bench):
    queue = bench.name()
    bench.channel.queue_declare(queue, auto_delete=True)
    bench.channel.queue_declare(queue, auto_delete=True, durable=True)


def _ack_twice(bench):
    put(bench.channel, bench.queue)
    tag = take(bench.channel, bench.queue, auto_ack=False)[0].delivery_tag
    bench.channel.basic_ack(tag)
    bench.raw(spec.Basic.Ack(tag))


def _delete_used(bench):
    bench.channel.basic_consume(bench.queue, lambda *_: None)
    bench.channel.queue_delete(bench.queue, if_unused=True)


def _delete_full(bench):
    bench.publish(key=bench.queue)
    bench.channel.queue_delete(bench.queue, if_empty=True)


def _delete_bound(bench):
    bench.channel.queue_bind(bench.queue, bench.exchange, "k")
    bench.channel.exchange_delete(bench.exchange, if_unused=True)


def _second_exclusive(bench):
    bench.channel.basic_consume(bench.queue, lambda *_: None)
    bench.channel.basic_consume(bench.queue, lambda *_: None, exclusive=True)


def _internal_exchange(bench):
    inner = bench.name("inner")
    bench.channel.exchange_declare(inner, "fanout", internal=True, auto_delete=True)
    bench.publish(inner)


def _reply_to_twice(bench):
    for _ in range(2):
        bench.channel.basic_consume("amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True)


def _get_single_active(bench):
    queue = bench.declare(single_active_consumer=True).method.queue
    bench.channel.basic_get(queue)


def _headers_match_bad(bench):
    by_header = bench.name("h")
    bench.channel.exchange_declare(by_header, "headers", auto_delete=True)
    bench.channel.queue_bind(bench.queue, by_header, arguments={"x-match": "some"})


# name -> (action, code, words that the text must hold)
CHANNEL_ERRORS = {
    "declare passive, queue missing":
        (lambda b: b.channel.queue_declare("conf-missing", passive=True), 404,
         ("NOT_FOUND - no queue 'conf-missing' in vhost '/'",)),
    "declare passive, exchange missing":
        (lambda b: b.channel.exchange_declare("conf-missing", passive=True), 404,
         ("NOT_FOUND - no exchange 'conf-missing' in vhost '/'",)),
    "publish to a missing exchange": (lambda b: b.publish("conf-missing"), 404,
                                      ("no exchange 'conf-missing' in vhost '/'",)),
    "consume a missing queue":
        (lambda b: b.channel.basic_consume("conf-missing", lambda *_: None), 404,
         ("no queue 'conf-missing'",)),
    "get from a missing queue": (lambda b: b.channel.basic_get("conf-missing"), 404,
                                 ("no queue 'conf-missing'",)),
    "purge a missing queue": (lambda b: b.channel.queue_purge("conf-missing"), 404,
                              ("no queue 'conf-missing'",)),
    "bind to a missing exchange": (lambda b: b.channel.queue_bind(b.queue, "conf-missing"), 404,
                                   ("no exchange 'conf-missing'",)),
    "bind a missing queue": (lambda b: b.channel.queue_bind("conf-missing", b.exchange), 404,
                             ("no queue 'conf-missing'",)),
    "exchange bind, missing source":
        (lambda b: b.channel.exchange_bind(b.exchange, "conf-missing"), 404,
         ("no exchange 'conf-missing'",)),
    "empty name, nothing declared": (lambda b: b.other.basic_get(""), 404, ("NOT_FOUND",)),
    "another's exclusive queue": (lambda b: b.other.queue_declare(b.queue, passive=True), 405,
                                  ("RESOURCE_LOCKED", "exclusive access to locked queue")),
    "another's exclusive queue, consume":
        (lambda b: b.other.basic_consume(b.queue, lambda *_: None), 405, ("RESOURCE_LOCKED",)),
    "another's exclusive queue, delete": (lambda b: b.other.queue_delete(b.queue), 405,
                                          ("RESOURCE_LOCKED",)),
    "queue named amq.*": (lambda b: b.channel.queue_declare("amq.mine"), 403,
                          ("ACCESS_REFUSED", "amq.")),
    "exchange named amq.*": (lambda b: b.channel.exchange_declare("amq.mine", "fanout"), 403,
                             ("ACCESS_REFUSED", "amq.")),
    "delete amq.topic": (lambda b: b.channel.exchange_delete("amq.topic"), 403,
                         ("ACCESS_REFUSED",)),
    "bind the default exchange": (lambda b: b.channel.queue_bind(b.queue, "", "k"), 403,
                                  ("operation not permitted on the default exchange",)),
    "unbind the default exchange": (lambda b: b.channel.queue_unbind(b.queue, "", "k"), 403,
                                    ("operation not permitted on the default exchange",)),
    "declare the default exchange": (lambda b: b.channel.exchange_declare("", "direct"), 403,
                                     ("operation not permitted on the default exchange",)),
    "delete the default exchange": (lambda b: b.channel.exchange_delete(""), 403,
                                    ("operation not permitted on the default exchange",)),
    "publish to an internal exchange": (_internal_exchange, 403,
                                        ("ACCESS_REFUSED", "internal exchange")),
    "exclusive consumer, others present": (_second_exclusive, 403,
                                           ("ACCESS_REFUSED", "exclusive")),
    "redeclare, other durability":
        (_redeclare_durable, 406,
         ("PRECONDITION_FAILED - inequivalent arg 'durable' for queue", "received 'true'",
          "current is 'false'")),
    "redeclare, other auto-delete":
        (lambda b: b.channel.queue_declare(b.queue, auto_delete=True, exclusive=True), 406,
         ("inequivalent arg 'auto_delete' for queue",)),
    "redeclare, other TTL":
        (lambda b: _redeclare(b, {"x-message-ttl": 1000}, {"x-message-ttl": 2000}), 406,
         ("inequivalent arg 'x-message-ttl'", "received", "2000", "current is", "1000")),
    "redeclare, TTL dropped":
        (lambda b: _redeclare(b, {"x-message-ttl": 1000}, {}), 406,
         ("inequivalent arg 'x-message-ttl'", "received none", "1000")),
    "redeclare, other DLX":
        (lambda b: _redeclare(b, {"x-dead-letter-exchange": "a"},
                              {"x-dead-letter-exchange": "b"}), 406,
         ("inequivalent arg 'x-dead-letter-exchange'",)),
    "redeclare, other exchange type":
        (lambda b: b.channel.exchange_declare(b.exchange, "fanout", auto_delete=True), 406,
         ("inequivalent arg 'type' for exchange", "received 'fanout'", "current is 'direct'")),
    "redeclare, other exchange durability":
        (lambda b: b.channel.exchange_declare(b.exchange, "direct", auto_delete=True,
                                              durable=True), 406,
         ("inequivalent arg 'durable' for exchange",)),
    "redeclare, other internal":
        (lambda b: b.channel.exchange_declare(b.exchange, "direct", auto_delete=True,
                                              internal=True), 406,
         ("inequivalent arg 'internal'",)),
    "x-message-ttl negative": (lambda b: b.declare(message_ttl=-1), 406,
                               ("invalid arg 'x-message-ttl'",)),
    "x-message-ttl text": (lambda b: b.declare(message_ttl="abc"), 406,
                           ("invalid arg 'x-message-ttl'",)),
    "x-expires zero": (lambda b: b.declare(expires=0), 406, ("invalid arg 'x-expires'",)),
    "x-expires text": (lambda b: b.declare(expires="1"), 406, ("invalid arg 'x-expires'",)),
    "x-max-length negative": (lambda b: b.declare(max_length=-1), 406,
                              ("invalid arg 'x-max-length'",)),
    "x-max-length-bytes text": (lambda b: b.declare(max_length_bytes="1k"), 406,
                                ("invalid arg 'x-max-length-bytes'",)),
    "x-max-priority 256": (lambda b: b.declare(max_priority=256), 406,
                           ("invalid arg 'x-max-priority'",)),
    "x-max-priority negative": (lambda b: b.declare(max_priority=-1), 406,
                                ("invalid arg 'x-max-priority'",)),
    "x-overflow unknown": (lambda b: b.declare(overflow="explode"), 406,
                           ("invalid arg 'x-overflow'",)),
    "x-dead-letter-exchange number": (lambda b: b.declare(dead_letter_exchange=5), 406,
                                      ("arg 'x-dead-letter-exchange'",)),
    "x-dead-letter-routing-key alone": (lambda b: b.declare(dead_letter_routing_key="k"), 406,
                                        ("invalid arg 'x-dead-letter-routing-key'",)),
    "x-single-active-consumer text": (lambda b: b.declare(single_active_consumer="yes"), 406,
                                      ("invalid arg 'x-single-active-consumer'",)),
    "x-queue-type unknown": (lambda b: b.declare(queue_type="heap"), 406, ("x-queue-type",)),
    "headers binding, bad x-match": (_headers_match_bad, 406, ("x-match",)),
    "delete, in use": (_delete_used, 406, ("PRECONDITION_FAILED - queue", "in use")),
    "delete, not empty": (_delete_full, 406, ("PRECONDITION_FAILED - queue", "not empty")),
    "delete exchange, in use": (_delete_bound, 406, ("PRECONDITION_FAILED - exchange", "in use")),
    "ack unknown tag": (lambda b: b.raw(spec.Basic.Ack(77)), 406,
                        ("PRECONDITION_FAILED - unknown delivery tag 77",)),
    "ack twice": (_ack_twice, 406, ("unknown delivery tag 1",)),
    "nack unknown tag": (lambda b: b.raw(spec.Basic.Nack(9)), 406, ("unknown delivery tag 9",)),
    "reject unknown tag": (lambda b: b.raw(spec.Basic.Reject(9)), 406,
                           ("unknown delivery tag 9",)),
    "expiration not a number": (lambda b: b.publish(key=b.queue, expiration="soon"), 406,
                                ("PRECONDITION_FAILED - invalid expiration 'soon'",)),
    "expiration negative": (lambda b: b.publish(key=b.queue, expiration="-1"), 406,
                            ("invalid expiration '-1'",)),
    "user-id of another": (lambda b: b.publish(key=b.queue, user_id="mallory"), 406,
                           ("user_id property set to 'mallory' but authenticated user was "
                            "'guest'",)),
    "CC not an array": (lambda b: b.publish(key=b.queue, headers={"CC": "text"}), 406, ("CC",)),
    "confirm then tx": (_twice_confirm_then_tx, 406, ("PRECONDITION_FAILED",)),
    "tx then confirm": (_tx_then_confirm, 406, ("PRECONDITION_FAILED",)),
    "commit outside tx": (lambda b: b.channel.tx_commit(), 406, ("channel is not transactional",)),
    "rollback outside tx": (lambda b: b.channel.tx_rollback(), 406,
                            ("channel is not transactional",)),
    "reply-to with acknowledgements":
        (lambda b: b.channel.basic_consume("amq.rabbitmq.reply-to", lambda *_: None), 406,
         ("reply consumer cannot acknowledge",)),
    "reply-to twice": (_reply_to_twice, 406, ("reply consumer already set",)),
    "reply-to without consumer":
        (lambda b: b.publish(key=b.queue, reply_to="amq.rabbitmq.reply-to"), 406,
         ("fast reply consumer does not exist",)),
}

CONNECTION_ERRORS = {
    "immediate": (lambda b: b.raw_publish_immediate(), 540, ("NOT_IMPLEMENTED - immediate=true",)),
    "prefetch size": (lambda b: b.channel.basic_qos(prefetch_size=1), 540,
                      ("NOT_IMPLEMENTED - prefetch_size!=0 (1)",)),
    "recover without requeue": (lambda b: b.channel.basic_recover(requeue=False), 540,
                                ("NOT_IMPLEMENTED - requeue=false",)),
    "flow off": (lambda b: b.channel.flow(False), 540, ("NOT_IMPLEMENTED - active=false",)),
    "consumer tag used twice": (lambda b: b.same_tag_twice(), 530,
                                ("NOT_ALLOWED - attempt to reuse consumer tag 'same'",)),
    "channel opened twice": (lambda b: b.raw(spec.Channel.Open()), 504,
                             ("CHANNEL_ERROR - second 'channel.open' seen",)),
}


def _publish_immediate(bench):
    bench.channel._impl._send_method(
        spec.Basic.Publish(exchange="", routing_key=bench.queue, immediate=True),
        (pika.BasicProperties(), b"x"))
    bench.channel.queue_declare(bench.queue, passive=True)


def _same_tag(bench):
    bench.channel.basic_consume(bench.queue, lambda *_: None, consumer_tag="same")
    bench.raw(spec.Basic.Consume(queue=bench.queue, consumer_tag="same"))


Bench.raw_publish_immediate = _publish_immediate
Bench.same_tag_twice = _same_tag


@pytest.fixture
def bench(connect, name):
    """A fresh bench for each row."""
    return Bench(connect, name)


@pytest.mark.parametrize("case", CHANNEL_ERRORS)
def test_channel_error(bench, case):
    action, code, words = CHANNEL_ERRORS[case]
    with pytest.raises(ChannelClosedByBroker) as raised:
        action(bench)
    assert raised.value.reply_code == code, raised.value
    for word in words:
        assert word in raised.value.reply_text
    fresh = bench.connection.channel()
    fresh.queue_declare("", exclusive=True)
    assert fresh.is_open, "the connection lives on"


@pytest.mark.parametrize("case", CONNECTION_ERRORS)
def test_connection_error(bench, connect, case):
    action, code, words = CONNECTION_ERRORS[case]
    with pytest.raises(ConnectionClosedByBroker) as raised:
        action(bench)
    assert raised.value.reply_code == code, raised.value
    for word in words:
        assert word in raised.value.reply_text
    assert connect().channel().is_open


def test_unknown_exchange_type(bench):
    """3.10 closes the connection with 503, 4.x the channel with 406; both name the type."""
    with pytest.raises((ChannelClosedByBroker, ConnectionClosedByBroker)) as raised:
        bench.channel.exchange_declare(bench.name(), "no-such-type")
    assert raised.value.reply_code in (406, 503)
    assert "exchange type 'no-such-type'" in raised.value.reply_text


@pytest.mark.potager_only("RabbitMQ 3.10 permits it for classic queues; 4.x refuses")
def test_get_from_a_single_active_consumer_queue(bench):
    with pytest.raises(ChannelClosedByBroker) as raised:
        _get_single_active(bench)
    assert raised.value.reply_code == 405


def test_wrong_password(port):
    with pytest.raises((ProbableAuthenticationError, AuthenticationError)) as raised:
        pika.BlockingConnection(parameters(
            port, credentials=pika.PlainCredentials("guest", "wrong")))
    assert "403" in str(raised.value)
    assert "Login was refused using authentication mechanism PLAIN" in str(raised.value)


def test_unknown_user_is_refused_in_the_same_words(port):
    seen = []
    for user in ("guest", "nobody-here"):
        with pytest.raises(AMQPConnectionError) as raised:
            pika.BlockingConnection(parameters(
                port, credentials=pika.PlainCredentials(user, "wrong")))
        seen.append(str(raised.value))
    assert seen[0] == seen[1]


def test_unknown_vhost(port):
    with pytest.raises((ProbableAccessDeniedError, ConnectionClosedByBroker)) as raised:
        pika.BlockingConnection(parameters(port, virtual_host="no-such-vhost"))
    assert "530" in str(raised.value) and "no-such-vhost" in str(raised.value)


def test_a_refusal_does_not_lose_what_was_confirmed(bench):
    queue = bench.name("kept")
    bench.other.queue_declare(queue, durable=True)
    bench.channel.confirm_delivery()
    put(bench.channel, queue, "kept", delivery_mode=2)
    with pytest.raises(ChannelClosedByBroker):
        bench.channel.queue_declare("conf-missing", passive=True)
    assert take(bench.other, queue)[2] == b"kept"
    bench.other.queue_delete(queue)
