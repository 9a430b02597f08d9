"""Fixtures of our own beanstalk suites: the server under test, clients, names nobody else uses.

What lives here: fixtures and markers. What does not: raw connections and answers (wire.py), the
guard of the hostile cases (hostile.py). Read by pytest; the environment is set by
harness/runner.py.
"""

from __future__ import annotations

import itertools
import os
import sys
import uuid
from pathlib import Path

import greenstalk
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from beanstalkd import Beanstalkd  # noqa: E402
from harness.server import Potager, Server  # noqa: E402
from wire import Raw  # noqa: E402

pytest_plugins = ("hostile",)

KIND = os.environ.get("CONFORMANCE_SERVER", "potager")
PORT = int(os.environ.get("CONFORMANCE_PORT", "11300"))
PID = int(os.environ.get("CONFORMANCE_PID", "0"))
BINARY = os.environ.get("CONFORMANCE_BINARY", "")
OWNED = bool(os.environ.get("CONFORMANCE_OWNED", ""))


def drop_in() -> tuple[str, ...]:
    """The command that takes beanstalkd's options; empty for the installed original."""
    return (BINARY, "beanstalkd") if KIND == "potager" else ()


def pytest_collection_modifyitems(items):
    """The original may oversleep the end of a job's time; Potager may not."""
    for item in items:
        if KIND != "potager" and item.get_closest_marker("oversleeps"):
            item.add_marker(pytest.mark.flaky(reruns=3))


def pytest_runtest_setup(item):
    """Skip what this kind of server cannot be asked."""
    mark = item.get_closest_marker("potager_only")
    if mark and KIND != "potager":
        pytest.skip(f"potager_only: {mark.args[0] if mark.args else 'no reason given'}")
    if item.get_closest_marker("owns_server") and not OWNED:
        pytest.skip("needs a server that the test may start: --binary or --peer")


@pytest.fixture(scope="session")
def port() -> int:
    """The port of the server that all tests of a suite share."""
    return PORT


@pytest.fixture(scope="session")
def kind() -> str:
    """potager or beanstalkd."""
    return KIND


@pytest.fixture
def name():
    """Makes tube names that no other test uses: name() or name("suffix")."""
    stem = f"conf-{uuid.uuid4().hex[:12]}"
    numbers = itertools.count()
    return lambda suffix="": f"{stem}-{suffix or next(numbers)}"


@pytest.fixture
def tube(name) -> str:
    """One such name."""
    return name("tube")


@pytest.fixture
def connect(port, tube):
    """Opens greenstalk clients on the test's tube, bodies as bytes; closes them afterwards."""
    opened = []

    def open_one(**more):
        settings = {"encoding": None, "use": tube, "watch": tube, **more}
        client = greenstalk.Client(("127.0.0.1", settings.pop("port", port)), **settings)
        # No call of a test blocks for longer; greenstalk has no such limit of its own.
        client._sock.settimeout(20)
        opened.append(client)
        return client

    yield open_one
    for client in opened:
        client.close()


@pytest.fixture
def client(connect):
    """One such client."""
    return connect()


@pytest.fixture
def raw(port):
    """Opens raw connections to the shared server; closes them afterwards."""
    opened = []

    def open_one(**more):
        one = Raw(more.pop("port", port), **more)
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def own_server(tmp_path):
    """Makes servers with beanstalkd's options that the test may stop or kill."""
    made: list[Server] = []

    def make(*options: str, keeps_log: bool = False) -> Beanstalkd:
        server = Beanstalkd(tmp_path / f"server{len(made)}", options, command=drop_in(),
                            keeps_log=keeps_log)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def own_main_server(tmp_path):
    """Makes servers of the main kind, with their data on disk, that the test may kill."""
    made: list[Server] = []

    def make() -> Server:
        data = tmp_path / f"main{len(made)}"
        server: Server = (Potager(Path(BINARY), data, door="beanstalk") if KIND == "potager"
                          else Beanstalkd(data, keeps_log=True))
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()
