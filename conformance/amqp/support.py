"""Small helpers of our own AMQP suites: waiting with a deadline, and messages by pika.

What lives here: polling, publishing, fetching. What does not: fixtures (conftest.py), raw frames
(frames.py).
"""

from __future__ import annotations

import socket
import time

import pika

LIMIT_S = 10.0


def until(claim, limit_s: float = LIMIT_S, what: str = "", pause_s: float = 0.02):
    """Wait until `claim()` is truthy and return it; a failure names `what`."""
    deadline = time.monotonic() + limit_s
    while True:
        found = claim()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what or claim}")
        time.sleep(pause_s)


def put(channel, queue: str, body="x", exchange: str = "", mandatory: bool = False, **properties):
    """Publish one message to `exchange` (default: straight to `queue`)."""
    channel.basic_publish(
        exchange, queue, body if isinstance(body, bytes) else str(body).encode(),
        pika.BasicProperties(**properties), mandatory=mandatory,
    )


def take(channel, queue: str, limit_s: float = LIMIT_S, auto_ack: bool = True):
    """The next message of `queue` as (method, properties, body); waits for it."""
    def get():
        method, properties, body = channel.basic_get(queue, auto_ack=auto_ack)
        return (method, properties, body) if method else None

    return until(get, limit_s, f"a message in {queue}")


def bodies(channel, queue: str, count: int, limit_s: float = LIMIT_S) -> list[str]:
    """The next `count` bodies of `queue`, in order."""
    return [take(channel, queue, limit_s)[2].decode() for _ in range(count)]


def is_empty(channel, queue: str) -> bool:
    """Whether a get finds nothing."""
    method, _, _ = channel.basic_get(queue, auto_ack=True)
    return method is None


def ready(channel, queue: str) -> int:
    """Messages ready for delivery, by a passive declare."""
    return channel.queue_declare(queue, passive=True).method.message_count


def consumers(channel, queue: str) -> int:
    """Consumers of a queue, by a passive declare."""
    return channel.queue_declare(queue, passive=True).method.consumer_count


def cut(connection) -> None:
    """End a pika connection as a died client does: the socket closes without a word."""
    connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)


class Inbox:
    """What one consumer has received; `pump` lets pika read until a claim holds."""

    def __init__(self, channel, queue: str, auto_ack: bool = False, **more) -> None:
        """Start consuming."""
        self.channel = channel
        self.seen: list = []
        self.tag = channel.basic_consume(
            queue, lambda _c, method, properties, body: self.seen.append(
                (method, properties, body)),
            auto_ack=auto_ack, **more,
        )

    @property
    def texts(self) -> list[str]:
        """The bodies so far."""
        return [body.decode() for _, _, body in self.seen]

    def pump(self, count: int, limit_s: float = LIMIT_S) -> list[str]:
        """Wait for `count` messages in all."""
        pump(self.channel, lambda: len(self.seen) >= count, limit_s,
             f"{count} deliveries, got {len(self.seen)}")
        return self.texts

    def settle(self, quiet_s: float = 0.3) -> list[str]:
        """Read until nothing has come for `quiet_s`: for claims that no more arrives."""
        quiet_until = time.monotonic() + quiet_s
        known = len(self.seen)
        while time.monotonic() < quiet_until:
            self.channel.connection.process_data_events(time_limit=0.05)
            if len(self.seen) != known:
                known, quiet_until = len(self.seen), time.monotonic() + quiet_s
        return self.texts

    def ack(self, index: int = -1, **more) -> None:
        """Acknowledge one of the seen messages."""
        self.channel.basic_ack(self.seen[index][0].delivery_tag, **more)


def pump(channel, claim, limit_s: float = LIMIT_S, what: str = "") -> None:
    """Let pika read until `claim()` holds."""
    deadline = time.monotonic() + limit_s
    while not claim():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        channel.connection.process_data_events(time_limit=0.05)
