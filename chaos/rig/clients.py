"""Clients that never give up: unmodified pika, one process each, writing a ledger.

What lives here: publishers with confirms, consumers with manual acknowledgement, workers that
commit. What does not: the ledger's shape (ledger.py), the server. Each reconnects for ever until
it is told to stop. Used by power.py, eio.py and stop.py.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path

import pika
from pika.exceptions import AMQPError

from rig.ledger import Writer, body, identity

PERSISTENT = pika.BasicProperties(delivery_mode=2)
# pika tells a connection that ends while it is made by a ValueError.
TROUBLE = (AMQPError, OSError, ValueError)
PAUSE_S = 0.01
GOODBYE_S = 3.0
BEGIN_LIMIT_S = 30.0
SIZES = (20, 20, 200, 200, 200, 1_000, 1_000, 4_000, 30_000)


def parameters(port: int, **more) -> pika.ConnectionParameters:
    """Loopback with short time-outs; `more` overrides."""
    return pika.ConnectionParameters(**{
        "host": "127.0.0.1", "port": port, "socket_timeout": 5, "stack_timeout": 8,
        "connection_attempts": 1, **more,
    })


def connect(port: int, **more) -> pika.BlockingConnection:
    """One blocking connection."""
    return pika.BlockingConnection(parameters(port, **more))


class Client(multiprocessing.Process):
    """A process that works over one connection after the other."""

    trouble: tuple[type[Exception], ...] = TROUBLE

    def __init__(self, name: str, port: int, folder: Path) -> None:
        """`name` is unique over the run: it is part of every message's id."""
        super().__init__(name=name, daemon=True)
        self.port = port
        self.path = folder / f"{name}.ledger"
        self.told = multiprocessing.Event()
        self.begun = multiprocessing.Event()
        self.runner = os.getpid()

    def run(self) -> None:
        """Reconnect until told to stop, or until nobody is there to tell."""
        self.ledger = Writer(self.path, self.begun)
        while not self.told.is_set() and os.getppid() == self.runner:
            try:
                self.connection()
            except self.trouble:
                pass
            self.ledger.flush()
            time.sleep(PAUSE_S * random.random())

    def connection(self) -> None:
        """One connection's work."""
        raise NotImplementedError

    def finish(self, limit_s: float = 15.0) -> None:
        """Tell it to stop and wait for it."""
        self.told.set()
        self.join(limit_s)
        if self.is_alive():
            self.kill()
            raise RuntimeError(f"client {self.name} did not end")


def begin(clients: list[Client]) -> None:
    """Start all, and wait until each has written its first line."""
    for client in clients:
        client.start()
    for client in clients:
        if not client.begun.wait(BEGIN_LIMIT_S):
            raise RuntimeError(f"client {client.name} does nothing")


def end(clients: list[Client]) -> None:
    """Tell every client to end and wait for all."""
    for client in clients:
        client.told.set()
    for client in clients:
        client.finish()


class Publisher(Client):
    """Publishes with confirms, `window` messages ahead of them, for ever."""

    def __init__(self, name: str, port: int, folder: Path, queue: str, window: int = 64,
                 rate: float = 0.0) -> None:
        """`rate` is messages a second at most; 0 means as fast as confirms come."""
        super().__init__(name, port, folder)
        self.queue, self.window, self.rate = queue, window, rate
        self.number = 0

    def connection(self) -> None:
        """Publish over one connection until it ends."""
        self.waiting: dict[int, str] = {}
        self.tag = 0
        self.allowed = 0.0
        self.looked = self.leaves = time.monotonic()
        self.link = pika.SelectConnection(
            parameters(self.port), on_open_callback=self._opened,
            on_open_error_callback=lambda link, _error: link.ioloop.stop(),
            on_close_callback=lambda link, _reason: link.ioloop.stop(),
        )
        self.link.ioloop.start()

    def _opened(self, link) -> None:
        link.channel(on_open_callback=self._channel)

    def _channel(self, channel) -> None:
        self.channel = channel
        channel.confirm_delivery(ack_nack_callback=self._answered,
                                 callback=lambda _ok: self._tick())

    def _tick(self) -> None:
        if not self.channel.is_open:
            return
        if self.told.is_set() and (not self.waiting or time.monotonic() > self.leaves):
            self.link.close()
            return
        if not self.told.is_set():
            self.leaves = time.monotonic() + GOODBYE_S
        self._publish()
        self.link.ioloop.call_later(0.01, self._tick)

    def _publish(self) -> None:
        now = time.monotonic()
        self.allowed = min(self.window, self.allowed + (now - self.looked) * self.rate)
        self.looked = now
        while len(self.waiting) < self.window and not self.told.is_set():
            if self.rate and self.allowed < 1:
                return
            self.allowed -= 1
            self.number += 1
            self.tag += 1
            what = f"{self.name}.{self.number}"
            self.ledger.note("S", what)
            self.waiting[self.tag] = what
            self.channel.basic_publish("", self.queue, body(
                self.name, self.number, random.choice(SIZES)), PERSISTENT)

    def _answered(self, frame) -> None:
        method = frame.method
        if method.multiple:
            tags = [tag for tag in self.waiting if tag <= method.delivery_tag]
        else:
            tags = [method.delivery_tag]
        for tag in tags:
            what = self.waiting.pop(tag)
            if isinstance(method, pika.spec.Basic.Ack):
                self.ledger.note("C", what)
        if self.channel.is_open and len(self.waiting) <= self.window // 2:
            self._publish()


class Consumer(Client):
    """Receives and acknowledges in batches; sometimes leaves with deliveries in its hands.

    An acknowledgement has no answer of its own. The answer to a passive declare shows the queue
    without the settled messages, so it waits for them to be durable: after it, they are settled.
    """

    def __init__(self, name: str, port: int, folder: Path, queue: str) -> None:
        """Takes from `queue`."""
        super().__init__(name, port, folder)
        self.queue = queue

    def connection(self) -> None:
        """Consume over one connection until it ends."""
        with connect(self.port) as link:
            channel = link.channel()
            channel.basic_qos(prefetch_count=60)
            batch: list[tuple[int, str]] = []
            for method, _, message in channel.consume(self.queue, inactivity_timeout=0.05):
                if method is not None:
                    what = identity(message)
                    self.ledger.note("R", what, method.redelivered)
                    batch.append((method.delivery_tag, what))
                if len(batch) >= 25 or (method is None and batch):
                    if random.random() < 0.02:
                        return
                    self.settle(channel, batch)
                    batch = []
                if self.told.is_set():
                    return

    def settle(self, channel, batch: list[tuple[int, str]]) -> None:
        """Acknowledge, then ask something whose answer depends on it."""
        for _, what in batch:
            self.ledger.note("K", what)
        channel.basic_ack(batch[-1][0], multiple=True)
        channel.queue_declare(self.queue, passive=True)
        for _, what in batch:
            self.ledger.note("A", what)


class Worker(Consumer):
    """The one-commit step: acknowledge the input, publish a result and what comes next."""

    def __init__(self, name: str, port: int, folder: Path, queue: str, result: str,
                 after: str) -> None:
        """Takes from `queue`, writes to `result` and `after`."""
        super().__init__(name, port, folder, queue)
        self.result, self.after = result, after

    def connection(self) -> None:
        """Work over one connection until it ends."""
        with connect(self.port) as link:
            channel = link.channel()
            channel.tx_select()
            channel._impl.add_callback(self.committed, [pika.spec.Tx.CommitOk], one_shot=False)
            channel.basic_qos(prefetch_count=20)
            several: list[tuple[int, str, bytes]] = []
            wanted = random.randint(1, 6)
            for method, _, message in channel.consume(self.queue, inactivity_timeout=0.05):
                if method is not None:
                    what = identity(message)
                    self.ledger.note("R", what, method.redelivered)
                    several.append((method.delivery_tag, what, message))
                if len(several) >= wanted or (method is None and several):
                    self.commit(channel, several)
                    several, wanted = [], random.randint(1, 6)
                if self.told.is_set():
                    return

    def commit(self, channel, several: list[tuple[int, str, bytes]]) -> None:
        """One transaction over `several` inputs, its parts in random order."""
        parts = []
        for tag, what, message in several:
            self.ledger.note("K", what)
            parts.append(lambda tag=tag: channel.basic_ack(tag))
            for queue in (self.result, self.after):
                parts.append(lambda queue=queue, message=message: channel.basic_publish(
                    "", queue, message, PERSISTENT))
        random.shuffle(parts)
        for part in parts:
            part()
        self.asked = [what for _, what, _ in several]
        channel.tx_commit()

    def committed(self, _) -> None:
        """The answer has come, even if the connection ends before the blocking call returns."""
        for what in self.asked:
            self.ledger.note("A", what)
        self.asked = []


def drained(port: int, queue: str, limit_s: float = 60.0) -> list[tuple[str, bool]]:
    """All that is ready in a queue now, in its order, as (id, redelivered)."""
    found: list[tuple[str, bool]] = []
    with connect(port) as link:
        channel = link.channel()
        count = channel.queue_declare(queue, passive=True).method.message_count
        channel.basic_qos(prefetch_count=1000)
        deadline = time.monotonic() + limit_s
        if count:
            for method, _, message in channel.consume(queue, inactivity_timeout=0.2):
                if method is not None:
                    found.append((identity(message), method.redelivered))
                    if len(found) % 500 == 0 or len(found) == count:
                        channel.basic_ack(method.delivery_tag, multiple=True)
                if len(found) == count:
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{queue}: {len(found)} of {count} came, then none")
            channel.cancel()
        channel.queue_declare(queue, passive=True)
    return found
