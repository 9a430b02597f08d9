"""Fixtures of the work API's suites: the server under test, clients, names nobody else uses.

What lives here: fixtures. What does not: calls (client.py). Read by pytest; the environment is set
by harness/runner.py.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from client import Client  # noqa: E402
from harness.server import Potager, rss_bytes  # noqa: E402

PORT = int(os.environ.get("CONFORMANCE_PORT", "15672"))
PID = int(os.environ.get("CONFORMANCE_PID", "0"))
BINARY = os.environ.get("CONFORMANCE_BINARY", "")
READY = Path(os.environ.get("CONFORMANCE_ROOM", ".")) / "data.ready"
# Whatever one hostile peer sends, the server must not grow by more than this.
GROWTH_BYTES_MAX = 256 << 20


def pytest_runtest_setup(item):
    """Skip what needs a server that the test may start."""
    if item.get_closest_marker("owns_server") and not BINARY:
        pytest.skip("needs a server that the test may start: --binary")


@pytest.fixture
def name():
    """Makes names that no other test uses: name() or name("suffix")."""
    stem = f"conf-{uuid.uuid4().hex[:12]}"
    numbers = itertools.count()
    return lambda suffix="": f"{stem}-{suffix or next(numbers)}"


@pytest.fixture
def queue(name) -> str:
    """One such name."""
    return name("queue")


@pytest.fixture
def worker(name) -> str:
    """Another one."""
    return name("worker")


@pytest.fixture
def api() -> Client:
    """Calls to the shared server, without a login."""
    return Client(PORT)


@pytest.fixture
def door():
    """The ports of the shared server's other doors."""
    if not READY.is_file():
        pytest.skip("the ports of the other doors are not known")
    doors = json.loads(READY.read_text())
    return lambda which: int(doors[which].rsplit(":", 1)[1])


@pytest.fixture
def own_server(tmp_path):
    """Makes servers that the test may stop or kill."""
    made = []

    def make(*extra: str) -> Potager:
        data = tmp_path / f"data{len(made)}"
        server = Potager(Path(BINARY), data, extra, door="work")
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def guard(api, queue):
    """Whatever a test does, the server goes on, in bounded memory."""
    before = rss_bytes(PID) if PID else 0
    yield
    api.publish(queue, {"text": "alive"})
    assert [item["text"] for item in api.claim("guard", queue)] == ["alive"]
    if PID:
        grown = rss_bytes(PID) - before
        assert grown <= GROWTH_BYTES_MAX, f"resident memory grew by {grown >> 20} MiB"
