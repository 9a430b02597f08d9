"""What every hostile case shares: the guard that checks the server and everybody else afterwards.

What lives here: the guard. What does not: the cases (test_hostile_*.py), raw connections (wire.py).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import KIND, PID, PORT
from harness.server import rss_bytes
from wire import Raw

# Whatever one hostile peer sends, the server must not grow by more than this.
GROWTH_BYTES_MAX = 192 << 20


class Guard:
    """A healthy connection from before the attack, and the server's process."""

    def __init__(self) -> None:
        """Connect, and take the process's measure."""
        self.raw = Raw(PORT)
        self.raw.ask(b"use conf-canary")
        self.raw.ask(b"watch conf-canary")
        self.raw.ask(b"ignore default")
        self.pid = PID if KIND == "potager" else 0
        self.rss = rss_bytes(self.pid) if self.pid else 0

    def check(self) -> None:
        """The old connection and a new one work, same process, bounded memory."""
        self._round_trip(self.raw)
        with Raw(PORT) as fresh:
            assert fresh.ask(b"list-tube-used") == b"USING default\r\n"
        if self.pid:
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            assert state != "Z" and os.path.exists(f"/proc/{self.pid}"), "the server is gone"
            grown = rss_bytes(self.pid) - self.rss
            assert grown <= GROWTH_BYTES_MAX, f"resident memory grew by {grown >> 20} MiB"

    @staticmethod
    def _round_trip(raw: Raw) -> None:
        number = raw.put(b"alive")
        assert raw.ask(b"reserve-with-timeout 5") == b"RESERVED %d 5\r\nalive\r\n" % number
        assert raw.ask(b"delete %d" % number) == b"DELETED\r\n"


@pytest.fixture
def guard():
    """Guards one test: whatever it does, the rest of the world goes on."""
    one = Guard()
    yield one
    one.check()
    one.raw.close()
