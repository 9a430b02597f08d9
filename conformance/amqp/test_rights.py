"""Unmodified pika: what users with few rights may do, method by method, in six roles.

What lives here: the table of what each AMQP method needs, the outcome for each role with the
server's exact words, and the doors beside the main one. What does not: how rights are set and kept
(Potager's own tests) and what a method does once it is allowed (the other test_pika_*.py). The
same table runs against RabbitMQ.

Source of the rules: observed, RabbitMQ 3.10.8, by running this table against it. Where it says
`CHANGED`, RabbitMQ 4.3.1 is followed instead.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pika
import pytest
from pika import spec
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker
from pika.exceptions import ProbableAccessDeniedError

from conftest import BINARY, KIND, parameters
from support import put, take, until

pytestmark = pytest.mark.owns_server

# Configure, write, read; the role `topics` may use only keys that begin with "a." at exchange t.
ROLES = {
    "full": (".*", ".*", ".*"),
    "configure": (".*", "", ""),
    "write": ("", ".*", ""),
    "read": ("", "", ".*"),
    "topics": (".*", ".*", ".*"),
    "nothing": ("", "", ""),
}
KEYS = "^a\\."
# Deviation(AMQP-103): a passive declare needs any of the three rights on the object, and each key
# in CC and BCC is checked like the routing key, as in RabbitMQ 4.3.1; 3.10 checks neither.
CHANGED = KIND == "potager"


@dataclass
class Need:
    """One right: `verb` on "queue NAME" or "exchange NAME", with a key for topics."""

    verb: str
    thing: str
    key: str = ""
    changed: bool = False

    def holds(self, role: str) -> bool:
        """Whether the role has it."""
        if self.changed and not CHANGED:
            return True
        allowed = dict(zip(("configure", "write", "read"), ROLES[role]))
        if self.key:
            return role != "topics" or self.key.startswith("a.")
        if self.verb == "any":
            return any(allowed.values())
        return bool(allowed[self.verb])

    def text(self, role: str, bench) -> str:
        """What the server says when it is missing."""
        kind, name = self.thing.split(" ")
        name = bench.real.get(name, name)
        place = f"{kind} '{name}' in vhost '/'"
        if self.key:
            place = f"topic '{self.key}' in exchange '{name}' in vhost '/'"
        return f"ACCESS_REFUSED - access to {place} refused for user '{role}'"


@dataclass
class Bench:
    """Fresh objects for one case: queue q, exchanges x (direct), t (topic), f (fanout)."""

    channel: object
    real: dict = field(default_factory=dict)

    def raw(self, method):
        """Send a method that has no answer."""
        self.channel._impl._send_method(method)

    def round_trip(self):
        """Something that needs no right and is answered."""
        self.channel.basic_qos(prefetch_count=10)


def c(thing):
    """Configure."""
    return Need("configure", thing)


def w(thing, key="", changed=False):
    """Write."""
    return Need("write", thing, key, changed)


def r(thing, key=""):
    """Read."""
    return Need("read", thing, key)


def some(thing):
    """Any of the three."""
    return Need("any", thing, changed=True)


def _publish(bench, exchange, key, **properties):
    put(bench.channel, key, "x", exchange=bench.real.get(exchange, exchange), **properties)


def _publish_tx(bench, exchange, key):
    bench.channel.tx_select()
    _publish(bench, exchange, key)
    bench.channel.tx_commit()


def _ack(bench):
    bench.raw(spec.Basic.Ack(0, True))


def _declare(bench, name, **arguments):
    given = {k.replace("_", "-"): bench.real.get(v, v) for k, v in arguments.items()}
    bench.channel.queue_declare(bench.real[name], auto_delete=True, arguments=given)


def _exchange(bench, name, **arguments):
    given = {k.replace("_", "-"): bench.real.get(v, v) for k, v in arguments.items()}
    bench.channel.exchange_declare(bench.real[name], "fanout", auto_delete=True, arguments=given)


# Method -> (what is needed, in the order in which it is looked at; what is done).
CASES = {
    "Channel.Open": ([], lambda b: b.channel.connection.channel().close()),
    "Channel.Close": ([], lambda b: b.channel.close()),
    "Channel.Flow": ([], lambda b: b.channel.flow(True) if hasattr(b.channel, "flow") else None),
    "Exchange.Declare": ([c("exchange n")], lambda b: _exchange(b, "n")),
    "Exchange.Declare again": ([c("exchange f")], lambda b: _exchange(b, "f")),
    "Exchange.Declare alternate": (
        [c("exchange n"), r("exchange n"), w("exchange x")],
        lambda b: _exchange(b, "n", alternate_exchange="x")),
    "Exchange.Declare alternate amq.default": (
        [c("exchange n"), r("exchange n"), w("exchange amq.default")],
        lambda b: _exchange(b, "n", alternate_exchange="")),
    "Exchange.Declare passive": (
        [some("exchange x")], lambda b: b.channel.exchange_declare(b.real["x"], passive=True)),
    "Exchange.Declare passive amq.topic": (
        [some("exchange amq.topic")],
        lambda b: b.channel.exchange_declare("amq.topic", passive=True)),
    "Exchange.Delete": (
        [c("exchange x")], lambda b: b.channel.exchange_delete(b.real["x"])),
    "Exchange.Delete none": (
        [c("exchange none")], lambda b: b.channel.exchange_delete("none")),
    "Exchange.Bind": (
        [w("exchange f"), r("exchange x")],
        lambda b: b.channel.exchange_bind(b.real["f"], b.real["x"], "k")),
    "Exchange.Bind topic": (
        [w("exchange f"), r("exchange t"), r("exchange t", "a.b")],
        lambda b: b.channel.exchange_bind(b.real["f"], b.real["t"], "a.b")),
    "Exchange.Bind other topic": (
        [w("exchange f"), r("exchange t"), r("exchange t", "z.#")],
        lambda b: b.channel.exchange_bind(b.real["f"], b.real["t"], "z.#")),
    "Exchange.Unbind": (
        [w("exchange f"), r("exchange x")],
        lambda b: b.channel.exchange_unbind(b.real["f"], b.real["x"], "k")),
    "Queue.Declare": ([c("queue n")], lambda b: _declare(b, "n")),
    "Queue.Declare again": ([c("queue q")], lambda b: _declare(b, "q")),
    "Queue.Declare dead letters": (
        [c("queue n"), r("queue n"), w("exchange x")],
        lambda b: _declare(b, "n", x_dead_letter_exchange="x")),
    "Queue.Declare dead letters amq.default": (
        [c("queue n"), r("queue n"), w("exchange amq.default")],
        lambda b: _declare(b, "n", x_dead_letter_exchange="")),
    "Queue.Declare passive": (
        [some("queue q")], lambda b: b.channel.queue_declare(b.real["q"], passive=True)),
    "Queue.Bind": (
        [w("queue q"), r("exchange x")],
        lambda b: b.channel.queue_bind(b.real["q"], b.real["x"], "k")),
    "Queue.Bind topic": (
        [w("queue q"), r("exchange t"), r("exchange t", "a.#")],
        lambda b: b.channel.queue_bind(b.real["q"], b.real["t"], "a.#")),
    "Queue.Bind other topic": (
        [w("queue q"), r("exchange t"), r("exchange t", "z")],
        lambda b: b.channel.queue_bind(b.real["q"], b.real["t"], "z")),
    "Queue.Unbind": (
        [w("queue q"), r("exchange x")],
        lambda b: b.channel.queue_unbind(b.real["q"], b.real["x"], "k")),
    "Queue.Unbind other topic": (
        [w("queue q"), r("exchange t"), r("exchange t", "z")],
        lambda b: b.channel.queue_unbind(b.real["q"], b.real["t"], "z")),
    "Queue.Purge": ([r("queue q")], lambda b: b.channel.queue_purge(b.real["q"])),
    "Queue.Delete": ([c("queue q")], lambda b: b.channel.queue_delete(b.real["q"])),
    "Queue.Delete none": ([c("queue none")], lambda b: b.channel.queue_delete("none")),
    "Basic.Qos": ([], lambda b: b.channel.basic_qos(prefetch_count=1)),
    "Basic.Consume": (
        [r("queue q")], lambda b: b.channel.basic_consume(b.real["q"], lambda *_: None)),
    "Basic.Consume answers": (
        [], lambda b: b.channel.basic_consume(
            "amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True)),
    "Basic.Cancel": ([], lambda b: b.raw(spec.Basic.Cancel("none"))),
    "Basic.Get": ([r("queue q")], lambda b: b.channel.basic_get(b.real["q"], auto_ack=True)),
    "Basic.Publish": ([w("exchange x")], lambda b: _publish(b, "x", "k")),
    "Basic.Publish to a queue": (
        [w("exchange amq.default")], lambda b: _publish(b, "", b.real["q"])),
    "Basic.Publish topic": (
        [w("exchange t"), w("exchange t", "a.b")], lambda b: _publish(b, "t", "a.b")),
    "Basic.Publish other topic": (
        [w("exchange t"), w("exchange t", "z")], lambda b: _publish(b, "t", "z")),
    "Basic.Publish CC": (
        [w("exchange t"), w("exchange t", "a.b"), w("exchange t", "z", changed=True)],
        lambda b: _publish(b, "t", "a.b", headers={"CC": ["z"]})),
    "Basic.Publish BCC": (
        [w("exchange t"), w("exchange t", "a.b"), w("exchange t", "z", changed=True)],
        lambda b: _publish(b, "t", "a.b", headers={"BCC": ["a.c", "z"]})),
    "Basic.Publish an answer": (
        [w("exchange amq.default")],
        lambda b: _publish(b, "", "amq.rabbitmq.reply-to.0123456789abcdef")),
    "Basic.Ack": ([], _ack),
    "Basic.Nack": ([], lambda b: b.raw(spec.Basic.Nack(0, True))),
    "Basic.Reject": ([], None),
    "Basic.Recover": ([], lambda b: b.channel.basic_recover(requeue=True)),
    "Basic.RecoverAsync": ([], lambda b: b.raw(spec.Basic.RecoverAsync(True))),
    "Confirm.Select": ([], lambda b: b.channel.confirm_delivery()),
    "Tx.Select": ([], lambda b: b.channel.tx_select()),
    "Tx.Rollback": ([], lambda b: (b.channel.tx_select(), b.channel.tx_rollback())),
    "Tx.Commit": ([], lambda b: (b.channel.tx_select(), b.channel.tx_commit())),
    "Tx.Commit a publish": ([w("exchange x")], lambda b: _publish_tx(b, "x", "k")),
    "Tx.Commit other topic": (
        [w("exchange t"), w("exchange t", "z")], lambda b: _publish_tx(b, "t", "z")),
    "Access.Request": ([], None),
}
# Before any virtual host is open, or the server's own.
ELSEWHERE = {
    "Connection.Start", "Connection.StartOk", "Connection.Secure", "Connection.SecureOk",
    "Connection.Tune", "Connection.TuneOk", "Connection.Open", "Connection.OpenOk",
    "Connection.Close", "Connection.CloseOk", "Connection.Blocked", "Connection.Unblocked",
    "Connection.UpdateSecret", "Connection.UpdateSecretOk", "Basic.Return", "Basic.Deliver",
    "Basic.GetEmpty",
}


def test_every_method_has_a_line():
    """A method that pika knows and this table does not fails."""
    known = {f"{cls.NAME}" for cls in spec.methods.values()}
    asked = {name for name in known if not name.endswith("Ok") and name not in ELSEWHERE}
    assert asked - {name.split(" ")[0] for name in CASES} == set()


class Control:
    """Users and rights of one server, by the commands that its operators use."""

    def __init__(self, server) -> None:
        """Remember the server."""
        self.server = server

    def potager(self, *arguments: str, stdin: str = "") -> None:
        """Run one of our commands."""
        done = subprocess.run(
            [BINARY, *arguments, "--url", f"http://{self.server.http}"], input=stdin,
            capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr

    def erlang(self, *calls: str) -> None:
        """Have RabbitMQ evaluate calls, in one run of its slow command."""
        text = ", ".join(calls) + "."
        self.server.control("eval", text)

    def user(self, name: str, tags: str = "") -> None:
        """Make a user whose password is their name."""
        if KIND == "potager":
            self.potager("users", "add", name, "--tags", tags, stdin=name)
            return
        tag_list = ", ".join(tags.split(",")) if tags else ""
        self.erlang(
            f'rabbit_auth_backend_internal:add_user(<<"{name}">>, <<"{name}">>, <<"test">>)',
            f'rabbit_auth_backend_internal:set_tags(<<"{name}">>, [{tag_list}], <<"test">>)')

    def rights(self, name: str, rights, vhost: str = "/") -> None:
        """Set configure, write and read."""
        if KIND == "potager":
            self.potager("permissions", "set", name, *rights, "--vhost", vhost)
            return
        texts = ", ".join(_binary(text) for text in rights)
        self.erlang(f'rabbit_auth_backend_internal:set_permissions({_binary(name)}, '
                    f'{_binary(vhost)}, {texts}, <<"test">>)')

    def keys(self, name: str, exchange: str, write: str, read: str) -> None:
        """Restrict routing keys."""
        if KIND == "potager":
            self.potager("permissions", "topic", "set", name, exchange, write, read)
            return
        self.erlang(
            f'rabbit_auth_backend_internal:set_topic_permissions({_binary(name)}, <<"/">>, '
            f'{_binary(exchange)}, {_binary(write)}, {_binary(read)}, <<"test">>)')

    def roles(self) -> None:
        """Make all roles at once; the topic exchange is called t everywhere."""
        if KIND == "potager":
            for role, rights in ROLES.items():
                self.user(role)
                self.rights(role, rights)
            self.keys("topics", "t", KEYS, KEYS)
            return
        calls = []
        for role, rights in ROLES.items():
            texts = ", ".join(_binary(text) for text in rights)
            calls.append(f'rabbit_auth_backend_internal:add_user({_binary(role)}, '
                         f'{_binary(role)}, <<"test">>)')
            calls.append(f'rabbit_auth_backend_internal:set_permissions({_binary(role)}, '
                         f'<<"/">>, {texts}, <<"test">>)')
        calls.append('rabbit_auth_backend_internal:set_topic_permissions(<<"topics">>, <<"/">>, '
                     f'<<"t">>, {_binary(KEYS)}, {_binary(KEYS)}, <<"test">>)')
        self.erlang(*calls)


def _binary(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'<<"{escaped}">>'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server of our own for all tests here, with a user for each role."""
    from harness.server import Potager
    data = tmp_path_factory.mktemp("rights") / "server"
    if KIND == "rabbitmq":
        from rabbitmq import Rabbit
        node = Rabbit(data)
    else:
        node = Potager(Path(BINARY), data)
    node.start()
    Control(node).roles()
    yield node
    node.kill()


@pytest.fixture
def control(server):
    """Its users and rights."""
    return Control(server)


@pytest.fixture
def login(server):
    """Opens connections as a user whose password is their name."""
    opened = []

    def open_one(user: str, **more):
        credentials = pika.PlainCredentials(user, user)
        connection = pika.BlockingConnection(
            parameters(server.port, credentials=credentials, **more))
        opened.append(connection)
        return connection

    yield open_one
    for connection in opened:
        if connection.is_open:
            connection.close()


def _prepare(owner, name) -> dict:
    real = {"q": name(), "n": name(), "x": name(), "f": name(), "t": "t"}
    owner.queue_declare(real["q"], auto_delete=True)
    owner.exchange_declare(real["x"], "direct", auto_delete=True)
    owner.exchange_declare(real["f"], "fanout", auto_delete=True)
    owner.exchange_declare("t", "topic")
    put(owner, real["q"])
    return real


def _outcome(bench, action) -> str:
    try:
        action(bench)
        if bench.channel.is_open:
            bench.round_trip()
    except ChannelClosedByBroker as closed:
        assert closed.reply_code == 403, closed
        return closed.reply_text
    return "ok"


@pytest.mark.parametrize("role", ROLES)
def test_every_method(server, login, name, role):
    """Each line of the table by this role: the outcome, in the server's words."""
    owner = login("guest").channel()
    connection = login(role)
    wrong = []
    for case, (needs, action) in CASES.items():
        if action is None:
            continue
        bench = Bench(connection.channel(), _prepare(owner, name))
        missing = next((need for need in needs if not need.holds(role)), None)
        expected = missing.text(role, bench) if missing else "ok"
        seen = _outcome(bench, action)
        if seen != expected:
            wrong.append((case, expected, seen))
        if bench.channel.is_open:
            bench.channel.close()
        owner.queue_delete(bench.real["q"])
    assert not wrong, json.dumps(wrong, indent=1)


def test_reject_needs_no_more_than_the_delivery(login, name):
    """What a channel has in hand was given to it."""
    owner = login("guest").channel()
    queue = owner.queue_declare(name(), auto_delete=True).method.queue
    put(owner, queue)
    reader = login("read").channel()
    tag = take(reader, queue, auto_ack=False)[0].delivery_tag
    reader.basic_reject(tag, requeue=True)
    tag = take(reader, queue, auto_ack=False)[0].delivery_tag
    reader.basic_nack(tag, requeue=False)
    assert owner.queue_declare(queue, passive=True).method.message_count == 0


def test_without_a_row_there_is_no_way_in(control, login):
    """The login is good; the virtual host stays closed."""
    control.user("stranger")
    with pytest.raises((ConnectionClosedByBroker, ProbableAccessDeniedError)) as refused:
        login("stranger")
    text = "NOT_ALLOWED - access to vhost '/' refused for user 'stranger'"
    assert "530" in str(refused.value) and text in str(refused.value)
    control.rights("stranger", ("", "", ""))
    assert login("stranger").is_open


def test_server_named_queues_have_names_like_any_other(control, login):
    """A name that the server makes up must be covered as well."""
    control.user("narrow")
    control.rights("narrow", ("^mine-", "", ""))
    channel = login("narrow").channel()
    channel.queue_declare("mine-1", auto_delete=True)
    with pytest.raises(ChannelClosedByBroker) as refused:
        channel.queue_declare("", exclusive=True)
    assert refused.value.reply_code == 403
    assert "access to queue 'amq.gen" in refused.value.reply_text
    control.rights("narrow", ("^(mine-|amq\\.gen)", "", ""))
    until(lambda: _declares(login, "narrow"), what="the new right counts")


def _declares(login, user) -> bool:
    channel = login(user).channel()
    try:
        channel.queue_declare("", exclusive=True)
    except ChannelClosedByBroker:
        return False
    return True


@pytest.mark.potager_only("RabbitMQ asks again only after it forgot the answer")
def test_a_right_that_is_taken_ends_at_once(control, login, name):
    """Deviation(AMQP-104): a change of permissions counts from the next method on; RabbitMQ's
    channels remember up to twelve answers, and go on delivering to consumers."""
    owner = login("guest").channel()
    queue = owner.queue_declare(name(), auto_delete=True).method.queue
    owner.queue_bind(queue, "amq.fanout")
    control.user("fickle")
    control.rights("fickle", (".*", ".*", ".*"))
    channel = login("fickle").channel()
    ended = []
    channel.add_on_cancel_callback(ended.append)
    channel.basic_consume(queue, lambda *_: None, auto_ack=True)
    put(channel, "", exchange="amq.fanout")
    channel.basic_qos(prefetch_count=1)
    control.rights("fickle", (".*", "^none$", "^none$"))
    until(lambda: channel.connection.process_data_events(0.05) or ended, what="a cancel")
    with pytest.raises(ChannelClosedByBroker) as refused:
        put(channel, "", exchange="amq.fanout")
        channel.basic_qos(prefetch_count=1)
    assert refused.value.reply_code == 403


def test_names_in_topic_permissions(control, login):
    """{username} and {vhost} stand for those names."""
    control.user("ann")
    control.rights("ann", (".*", ".*", ".*"))
    control.keys("ann", "amq.topic", "^{username}\\.", "^{vhost}$")
    channel = login("ann").channel()
    put(channel, "ann.x", exchange="amq.topic")
    channel.basic_qos(prefetch_count=1)
    with pytest.raises(ChannelClosedByBroker) as refused:
        put(channel, "bob.x", exchange="amq.topic")
        channel.basic_qos(prefetch_count=1)
    assert "access to topic 'bob.x' in exchange 'amq.topic'" in refused.value.reply_text


def test_publishing_in_somebody_elses_name(control, login, name):
    """The property user-id is checked, unless the user is an impersonator."""
    control.user("masked", tags="impersonator")
    control.rights("masked", (".*", ".*", ".*"))
    channel = login("masked").channel()
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    put(channel, queue, user_id="guest")
    assert take(channel, queue)[1].user_id == "guest"
    channel = login("full").channel()
    with pytest.raises(ChannelClosedByBroker) as refused:
        put(channel, "none", user_id="guest")
        channel.basic_qos(prefetch_count=1)
    assert refused.value.reply_code == 406
    assert ("user_id property set to 'guest' but authenticated user was 'full'"
            in refused.value.reply_text)


@pytest.mark.potager_only("the addresses are Potager's own")
def test_a_forged_reply_address_reaches_nobody(login):
    """Who only writes cannot guess an address, nor consume in somebody's stead."""
    asker = login("full").channel()
    answers = []
    asker.basic_consume(
        "amq.rabbitmq.reply-to", lambda *message: answers.append(message), auto_ack=True)
    forger = login("write").channel()
    forger.confirm_delivery()
    for key in ("amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.00",
                "amq.rabbitmq.reply-to." + "0" * 32):
        with pytest.raises(pika.exceptions.UnroutableError):
            put(forger, key, mandatory=True)
    asker.connection.process_data_events(0.1)
    assert not answers


def test_a_reader_changes_nothing(login, name):
    """Every way to change something is closed to who may only read, and leaves no trace."""
    owner = login("guest").channel()
    queue = owner.queue_declare(name(), auto_delete=True).method.queue
    exchange = name("x")
    owner.exchange_declare(exchange, "direct", auto_delete=True)
    owner.queue_bind(queue, exchange, "k")
    connection = login("read")
    for act in (
        lambda channel: channel.queue_delete(queue),
        lambda channel: channel.exchange_delete(exchange),
        lambda channel: channel.queue_unbind(queue, exchange, "k"),
        lambda channel: channel.queue_bind(queue, exchange, "other"),
        lambda channel: channel.queue_declare(name(), auto_delete=True),
        lambda channel: channel.exchange_bind(exchange, "amq.topic", "k"),
    ):
        with pytest.raises(ChannelClosedByBroker) as refused:
            act(connection.channel())
        assert refused.value.reply_code == 403
    put(owner, "k", "still bound", exchange=exchange)
    assert take(owner, queue)[2] == b"still bound"
