"""Fixtures of our own AMQP suites: the server under test, connections, names nobody else uses.

What lives here: fixtures and markers. What does not: waiting, raw frames and message helpers
(support.py, frames.py). Read by pytest; the environment is set by harness/runner.py.
"""

from __future__ import annotations

import itertools
import os
import sys
import uuid
from pathlib import Path

import pika
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.server import Potager, Server  # noqa: E402

pytest_plugins = ("hostile", "tls_server", "workers")

KIND = os.environ.get("CONFORMANCE_SERVER", "potager")
PORT = int(os.environ.get("CONFORMANCE_PORT", "5672"))
PID = int(os.environ.get("CONFORMANCE_PID", "0"))
BINARY = os.environ.get("CONFORMANCE_BINARY", "")
OWNED = bool(os.environ.get("CONFORMANCE_OWNED", ""))


def pytest_runtest_setup(item):
    """Skip what this kind of server cannot be asked."""
    mark = item.get_closest_marker("potager_only")
    if mark and KIND != "potager":
        pytest.skip(f"potager_only: {mark.args[0] if mark.args else 'no reason given'}")
    if item.get_closest_marker("owns_server") and not OWNED:
        pytest.skip("needs a server that the test may kill: --binary or --peer")


@pytest.fixture(scope="session")
def port() -> int:
    """The AMQP port of the server that all tests of a suite share."""
    return PORT


@pytest.fixture(scope="session")
def pid() -> int:
    """Its process id, 0 when somebody else runs it."""
    return PID if KIND == "potager" else 0


@pytest.fixture(scope="session")
def kind() -> str:
    """potager or rabbitmq."""
    return KIND


def parameters(port: int, **more) -> pika.ConnectionParameters:
    """Connection parameters with short time-outs; `more` overrides."""
    return pika.ConnectionParameters(**{
        "host": "127.0.0.1", "port": port, "socket_timeout": 10,
        "stack_timeout": 15, "blocked_connection_timeout": 30, **more,
    })


@pytest.fixture
def connect(port):
    """Opens pika connections that are closed after the test."""
    opened = []

    def open_one(**more):
        connection = pika.BlockingConnection(parameters(more.pop("port", port), **more))
        opened.append(connection)
        return connection

    yield open_one
    for connection in opened:
        try:
            if connection.is_open:
                connection.close()
        except pika.exceptions.AMQPError:
            pass


@pytest.fixture
def connection(connect):
    """One pika connection."""
    return connect()


@pytest.fixture
def channel(connection):
    """One pika channel."""
    return connection.channel()


@pytest.fixture
def name():
    """Makes names that no other test uses: name() or name("suffix")."""
    stem = f"conf-{uuid.uuid4().hex[:12]}"
    numbers = itertools.count()
    return lambda suffix="": f"{stem}-{suffix or next(numbers)}"


@pytest.fixture
def own_server(tmp_path):
    """Makes servers that the test may kill; whatever still runs afterwards is killed."""
    made: list[Server] = []

    def make(*extra: str) -> Server:
        data = tmp_path / f"server{len(made)}"
        if KIND == "rabbitmq":
            from rabbitmq import Rabbit

            server: Server = Rabbit(data)
        else:
            server = Potager(Path(BINARY), data, extra)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()
