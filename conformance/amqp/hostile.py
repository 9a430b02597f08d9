"""What every hostile case shares: the guard that checks the server and everybody else afterwards.

What lives here: the guard. What does not: the cases (test_hostile_*.py), the bytes (frames.py).
"""

from __future__ import annotations

import os
from pathlib import Path

import pika
import pytest

from conftest import PID, PORT, KIND, parameters
from harness.server import rss_bytes

# Whatever one hostile peer sends, the server must not grow by more than this.
GROWTH_BYTES_MAX = 192 << 20
CANARY = "conf-canary"


class Guard:
    """A healthy connection from before the attack, and the server's process."""

    def __init__(self) -> None:
        """Connect, and take the process's measure."""
        self.connection = pika.BlockingConnection(parameters(PORT, heartbeat=0))
        self.channel = self.connection.channel()
        self.channel.queue_declare(CANARY, auto_delete=True)
        self.channel.confirm_delivery()
        self.pid = PID if KIND == "potager" else 0
        self.rss = rss_bytes(self.pid) if self.pid else 0

    def check(self) -> None:
        """The old connection and a new one work, same process, bounded memory."""
        self._round_trip(self.channel)
        with pika.BlockingConnection(parameters(PORT)) as fresh:
            self._round_trip(fresh.channel())
        if self.pid:
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            assert state != "Z" and os.path.exists(f"/proc/{self.pid}"), "the server is gone"
            grown = rss_bytes(self.pid) - self.rss
            assert grown <= GROWTH_BYTES_MAX, f"resident memory grew by {grown >> 20} MiB"

    @staticmethod
    def _round_trip(channel) -> None:
        channel.queue_declare(CANARY, auto_delete=True)
        channel.basic_publish("", CANARY, b"alive")
        method = None
        for _ in range(200):
            method, _, body = channel.basic_get(CANARY, auto_ack=True)
            if method:
                assert body == b"alive"
                return
        raise AssertionError("the canary's message did not come")


@pytest.fixture
def guard():
    """Guards one test: whatever it does, the rest of the world goes on."""
    one = Guard()
    yield one
    one.check()
    one.connection.close()
