"""Publishers that notice being held back: unmodified pika and kombu, a thread each.

What lives here: publishing for ever, and the moments of blocked, unblocked, confirmed, failed.
What does not: raising alarms (alarms.py). All of them reconnect until they are told to stop.
"""

from __future__ import annotations

import threading
import time

import amqp.exceptions
import kombu
import pika
from pika.exceptions import AMQPError, ConnectionBlockedTimeout

from rig.clients import parameters
from rig.ledger import body


class Publisher(threading.Thread):
    """What a publisher has seen; times are `time.monotonic`."""

    def __init__(self, name: str, port: int, queue: str, size: int, pause_s: float,
                 is_durable: bool = True) -> None:
        """Publishes bodies of `size` bytes to `queue`, with a pause after each."""
        super().__init__(name=name, daemon=True)
        self.port, self.queue, self.size, self.pause_s = port, queue, size, pause_s
        self.mode = 2 if is_durable else 1
        self.told = threading.Event()
        self.number = 0
        self.sent: list[str] = []
        self.confirmed: list[tuple[float, str]] = []
        self.connected: list[float] = []
        self.blocked: list[float] = []
        self.unblocked: list[float] = []
        self.timeouts: list[float] = []
        self.troubles: list[str] = []

    def run(self) -> None:
        """Reconnect until told to stop."""
        while not self.told.is_set():
            self.connected.append(time.monotonic())
            try:
                self.connection()
            except ConnectionBlockedTimeout:
                self.timeouts.append(time.monotonic())
            except (AMQPError, amqp.exceptions.AMQPError, OSError) as error:
                self.troubles.append(repr(error))
                time.sleep(0.05)

    def connection(self) -> None:
        """One connection's work."""
        raise NotImplementedError

    def each(self, publish) -> None:
        """Publish one after the other; a return of `publish` counts as what the client promises."""
        while not self.told.is_set():
            self.number += 1
            what = f"{self.name}.{self.number}"
            self.sent.append(what)
            publish(body(self.name, self.number, self.size))
            self.confirmed.append((time.monotonic(), what))
            time.sleep(self.pause_s)

    def went_on_at(self, since: float) -> float | None:
        """When the first publish after `since` came back."""
        return next((at for at, _ in list(self.confirmed) if at > since), None)

    def progress(self, begin: float, end: float) -> int:
        """Publishes that came back between two moments."""
        return sum(begin < at < end for at, _ in list(self.confirmed))


class Pika(Publisher):
    """BlockingConnection with confirms; `limit_s` is its blocked_connection_timeout."""

    has_confirms = True

    def __init__(self, *given, limit_s: float | None = None, **more) -> None:
        """As the others, and how long it waits when it is blocked."""
        super().__init__(*given, **more)
        self.limit_s = limit_s

    def connection(self) -> None:
        """Publish with confirms."""
        with pika.BlockingConnection(parameters(
                self.port, blocked_connection_timeout=self.limit_s)) as link:
            # The blocking face tells only between two calls; its inner connection at once.
            link._impl.add_on_connection_blocked_callback(
                lambda *_: self.blocked.append(time.monotonic()))
            link._impl.add_on_connection_unblocked_callback(
                lambda *_: self.unblocked.append(time.monotonic()))
            channel = link.channel()
            channel.confirm_delivery()
            properties = pika.BasicProperties(delivery_mode=self.mode)
            self.each(lambda message: channel.basic_publish("", self.queue, message, properties))


class Kombu(Publisher):
    """kombu's Producer, with the transport's confirms or, as Celery's default is, without.

    Without confirms it goes on writing while it is blocked, until the socket is full; py-amqp then
    gives the connection up after a second (its TCP_USER_TIMEOUT), and it reconnects.
    """

    def __init__(self, *given, has_confirms: bool, **more) -> None:
        """As the others, and whether it asks for confirms."""
        super().__init__(*given, **more)
        self.has_confirms = has_confirms

    def connection(self) -> None:
        """Publish over one connection."""
        options = {
            "confirm_publish": self.has_confirms,
            "on_blocked": lambda *_: self.blocked.append(time.monotonic()),
            "on_unblocked": lambda *_: self.unblocked.append(time.monotonic()),
        }
        url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        with kombu.Connection(url, transport_options=options, heartbeat=0) as link:
            producer = kombu.Producer(link.channel())
            self.each(lambda message: producer.publish(
                message, routing_key=self.queue, delivery_mode=self.mode,
                content_type="application/octet-stream", content_encoding="binary",
                headers={"lang": "py", "task": "chaos.nothing"}))
