"""The ledger: what was confirmed is there after every `kill -9`, and nothing that was settled
returns.

What lives here: a short ledger for every run; the long one is `cargo x crash`. What does not:
the atomicity of tx (test_pika_tx.py) and Celery through kills (test_celery_faults.py).
"""

from __future__ import annotations

import threading
import time

import pika
import pytest
from pika.exceptions import AMQPError

from conftest import KIND, parameters
from support import put, until

KILLS = 10 if KIND == "potager" else 2
QUEUE = "ledger"


class Client(threading.Thread):
    """A loop over connections; a subclass does one connection's work."""

    def __init__(self, port: int) -> None:
        """Starts nothing yet."""
        super().__init__(daemon=True)
        self.port = port
        self.done = threading.Event()

    def run(self) -> None:
        """Reconnect for ever."""
        while not self.done.is_set():
            try:
                with pika.BlockingConnection(parameters(self.port)) as connection:
                    self.work(connection.channel())
            except (AMQPError, OSError):
                time.sleep(0.02)

    def work(self, channel) -> None:
        """One connection's work."""
        raise NotImplementedError


class Publisher(Client):
    """Publishes numbers one by one; a number counts when its confirm has come."""

    def __init__(self, port: int) -> None:
        """Nothing is confirmed yet."""
        super().__init__(port)
        self.next = 0
        self.confirmed: set[int] = set()

    def work(self, channel) -> None:
        """Publish with confirms."""
        channel.confirm_delivery()
        while not self.done.is_set():
            self.next += 1
            number = self.next
            put(channel, QUEUE, number, delivery_mode=2)
            self.confirmed.add(number)


class Consumer(Client):
    """Takes and acknowledges; an acknowledgement counts as settled after a later round trip."""

    def __init__(self, port: int) -> None:
        """Nothing has been seen yet."""
        super().__init__(port)
        self.seen: list[int] = []
        self.settled: set[int] = set()
        self.returned: set[int] = set()

    def work(self, channel) -> None:
        """Get, acknowledge, and make sure the acknowledgement is known."""
        while not self.done.is_set():
            batch = []
            for _ in range(5):
                method, _, body = channel.basic_get(QUEUE)
                if method is None:
                    break
                number = int(body)
                self.seen.append(number)
                if number in self.settled:
                    self.returned.add(number)
                batch.append(number)
                channel.basic_ack(method.delivery_tag)
            channel.queue_declare(QUEUE, passive=True)
            self.settled.update(batch)


# Promise: P1.
@pytest.mark.owns_server
@pytest.mark.timeout(300)
def test_ledger_over_kills(own_server):
    server = own_server()
    with pika.BlockingConnection(parameters(server.port)) as connection:
        connection.channel().queue_declare(QUEUE, durable=True)
    publisher, consumer = Publisher(server.port), Consumer(server.port)
    publisher.start()
    consumer.start()
    for kill in range(KILLS):
        published, settled = len(publisher.confirmed) + 40, len(consumer.settled) + 20
        until(lambda p=published, s=settled: len(publisher.confirmed) >= p
              and len(consumer.settled) >= s, 40, f"progress before kill {kill}", 0.001)
        server.kill()
        server.start()
    publisher.done.set()
    publisher.join(30)
    until(lambda: publisher.confirmed <= set(consumer.seen), 60,
          "every confirmed message delivered")
    consumer.done.set()
    consumer.join(30)
    assert not consumer.returned, f"settled messages came back: {sorted(consumer.returned)[:5]}"
    invented = set(consumer.seen) - set(range(1, publisher.next + 1))
    assert not invented, "messages nobody sent"


@pytest.mark.owns_server
@pytest.mark.potager_only("RabbitMQ's kind of stop is its own")
def test_ready_again_after_many_kills_without_load(own_server):
    server = own_server()
    with pika.BlockingConnection(parameters(server.port)) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True)
        channel.confirm_delivery()
        put(channel, QUEUE, "stays", delivery_mode=2)
    for _ in range(10):
        server.kill()
        server.start()
    with pika.BlockingConnection(parameters(server.port)) as connection:
        method, _, body = connection.channel().basic_get(QUEUE, auto_ack=True)
        assert body == b"stays"
    assert server.stop() == 0
    server.start()
    assert server.stop() == 0
