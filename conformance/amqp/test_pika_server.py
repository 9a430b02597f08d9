"""Unmodified pika against servers with settings of their own: alarms, identity, limits, hosts,
stopping.

What lives here: what depends on how a server was started, and the commands that people type
beside it. What does not: anything a default server shows (the other test_pika_*.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import urllib.request

import pika
import pytest
from pika.exceptions import (AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker,
                             ProbableAccessDeniedError)

from conftest import BINARY, parameters
from support import Inbox, is_empty, pump, put, take, until

GIB = 1 << 30

pytestmark = [
    pytest.mark.owns_server,
    pytest.mark.potager_only("settings and commands are Potager's own"),
]


def potager(*arguments: str, stdin: str = "", environment=None) -> str:
    """Run a command of the binary and return its output."""
    done = subprocess.run(
        [BINARY, *arguments], input=stdin, capture_output=True, text=True, timeout=30,
        env={**os.environ, **(environment or {})}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def full_disk(tmp_path):
    """(bytes free now minus a margin, fill, free): makes the disk look full and empty again."""
    ballast = tmp_path / "ballast"
    free = os.statvfs(tmp_path)
    free_bytes = free.f_bavail * free.f_frsize
    if free_bytes < 24 * GIB:
        pytest.skip("needs 24 GiB of free disk for a moment")

    def fill():
        with open(ballast, "wb") as out:
            os.posix_fallocate(out.fileno(), 0, 12 * GIB)

    yield free_bytes - 6 * GIB, fill, lambda: ballast.unlink(missing_ok=True)
    ballast.unlink(missing_ok=True)


# Promise: P13.
def test_blocked_and_unblocked_by_the_disk(own_server, connect, name, full_disk):
    limit, fill, free = full_disk
    server = own_server("--set", f"alarm.disk_free_bytes_min={limit}")
    connection = connect(port=server.port)
    channel = connection.channel()
    said = []
    connection.add_on_connection_blocked_callback(lambda _c, frame: said.append(
        ("blocked", frame.method.reason)))
    connection.add_on_connection_unblocked_callback(lambda *_: said.append(("unblocked", "")))
    queue = channel.queue_declare(name(), durable=True).method.queue
    put(channel, queue, "before", delivery_mode=2)
    assert take(channel, queue)[2] == b"before"
    fill()

    def blocked():
        if not said:
            put(channel, queue, "held back", delivery_mode=2)
            connection.process_data_events(time_limit=0.1)
        return said

    until(blocked, 30, "connection.blocked")
    assert said[0][0] == "blocked" and "disk" in said[0][1]
    # Those who consume must go on, or the alarm would never end.
    consuming = connect(port=server.port).channel()
    inbox = Inbox(consuming, queue, auto_ack=True)
    inbox.settle()
    free()
    pump(channel, lambda: said[-1][0] == "unblocked", 30, "connection.unblocked")
    put(channel, queue, "after", delivery_mode=2)
    pump(consuming, lambda: "after" in inbox.texts, what="the message after the alarm")


def test_identity_rabbitmq(own_server, connect):
    server = own_server("--set", "amqp.identity=rabbitmq")
    properties = connect(port=server.port)._impl.server_properties
    assert properties["product"] in ("RabbitMQ", b"RabbitMQ")
    assert str(properties["version"]).strip("b'").startswith("3.13.")


def test_message_larger_than_the_limit(own_server, connect, name):
    server = own_server("--set", "limits.message_bytes_max=1 MiB")
    channel = connect(port=server.port).channel()
    queue = channel.queue_declare(name(), exclusive=True).method.queue
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"x" * (1 << 20))
    with pytest.raises(ChannelClosedByBroker) as raised:
        channel.basic_publish("", queue, b"x" * ((1 << 20) + 1))
    assert raised.value.reply_code == 406


def test_queue_limit(own_server, connect, name):
    server = own_server("--set", "limits.queues_max=3")
    channel = connect(port=server.port).channel()
    for _ in range(3):
        channel.queue_declare(name(), durable=True)
    with pytest.raises((ChannelClosedByBroker, ConnectionClosedByBroker)) as raised:
        channel.queue_declare(name(), durable=True)
    assert raised.value.reply_code in (406, 506, 530, 540)


def test_virtual_hosts_are_apart(own_server, connect):
    server = own_server()
    url = ("--url", f"http://{server.http}")
    potager("vhosts", "add", "garden", *url)
    one = connect(port=server.port).channel()
    two = connect(port=server.port, virtual_host="garden").channel()
    for channel in (one, two):
        channel.queue_declare("same", durable=True)
    put(one, "same", "in /")
    assert take(one, "same")[2] == b"in /"
    assert is_empty(two, "same")
    assert "garden" in potager("vhosts", "list", "--json", *url)
    potager("vhosts", "delete", "garden", "--yes", *url)
    with pytest.raises((ProbableAccessDeniedError, AMQPConnectionError)):
        pika.BlockingConnection(parameters(server.port, virtual_host="garden"))


def test_users(own_server, connect, tmp_path):
    server = own_server()
    url = ("--url", f"http://{server.http}")
    secret = tmp_path / "secret"
    secret.write_text("rosemary")
    potager("users", "add", "ann", "--full-access", "--password-file", str(secret), *url)

    def login(password):
        return connect(port=server.port, credentials=pika.PlainCredentials("ann", password))

    login("rosemary").close()
    secret.write_text("thyme")
    potager("users", "passwd", "ann", "--password-file", str(secret), *url)
    login("thyme").close()
    with pytest.raises(AMQPConnectionError):
        login("rosemary")
    server.kill()
    server.start()
    login("thyme").close()
    listed = potager("users", "list", "--json", "--url", f"http://{server.http}")
    assert "ann" in listed and "thyme" not in listed
    stored = b"".join(file.read_bytes() for file in server.data_dir.rglob("*") if file.is_file()
                      and file.stat().st_size < 1 << 20)
    assert b"thyme" not in stored, "a password lies in clear in the data directory"


# Promise: P19.
def test_stopping_tells_the_clients(own_server, connect, name):
    server = own_server()
    connection = connect(port=server.port)
    channel = connection.channel()
    queue = channel.queue_declare(name(), durable=True).method.queue
    Inbox(channel, queue)
    codes = []
    stopper = threading.Thread(target=lambda: codes.append(server.stop()))
    stopper.start()
    with pytest.raises(ConnectionClosedByBroker) as raised:
        pump(channel, lambda: False, 10, "the server's close")
    assert raised.value.reply_code == 320
    stopper.join(12)
    assert codes == [0]


@pytest.mark.parametrize("level", ["os", "memory"])
def test_other_durability(own_server, connect, name, level):
    server = own_server("--durability", level)
    channel = connect(port=server.port).channel()
    queue = channel.queue_declare(name(), durable=True).method.queue
    channel.confirm_delivery()
    put(channel, queue, "x", delivery_mode=2)
    server.kill()
    server.start()
    again = connect(port=server.port).channel()
    if level == "os":
        assert take(again, queue)[2] == b"x"
    else:
        again.queue_declare(queue, durable=True)
        assert is_empty(again, queue)


def test_one_server_per_data_directory(own_server):
    server = own_server()
    second = subprocess.run(
        [BINARY, "serve", "--data-dir", str(server.data_dir), "--amqp", "127.0.0.1:0",
         "--http", "off", "--beanstalk", "off"],
        capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode in (1, 3)
    assert second.stderr.strip()


def test_health_and_metrics(own_server, connect, name):
    server = own_server()
    channel = connect(port=server.port).channel()
    queue = channel.queue_declare(name(), durable=True).method.queue
    channel.confirm_delivery()
    put(channel, queue, "x")

    def fetch(path):
        with urllib.request.urlopen(f"http://{server.http}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()

    assert fetch("/health/live")[0] == 200
    assert fetch("/health/ready")[0] == 200
    metrics = fetch("/metrics")[1]
    assert "# TYPE" in metrics and "global_messages_received" in metrics


def test_publish_get_and_queues_by_command(own_server):
    server = own_server()
    amqp = ("--url", f"amqp://127.0.0.1:{server.port}")
    potager("publish", "--declare", "--queue", "hello", "first message", *amqp)
    assert "first message" in potager("get", "hello", *amqp)
    listed = json.loads(potager("queues", "list", "--json", "--url", f"http://{server.http}"))
    assert "hello" in json.dumps(listed)
