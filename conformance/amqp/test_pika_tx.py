"""Unmodified pika: transactions, and that a commit is one thing through `kill -9`.

What lives here: tx semantics and the crash test of acknowledge + result + next step. What does
not: the long ledger of confirmed publishes (test_ledger.py).
"""

from __future__ import annotations

import threading
import time

import pika
import pytest
from pika.exceptions import AMQPError

from conftest import parameters
from support import is_empty, pump, put, ready, take, until

KILLS = 20
JOBS = 4_000


@pytest.fixture
def queue(channel, name):
    """One durable queue."""
    one = channel.queue_declare(name(), durable=True).method.queue
    yield one
    if channel.is_open:
        channel.queue_delete(one)


def test_publishes_wait_for_the_commit(channel, connection, queue):
    other = connection.channel()
    channel.tx_select()
    for number in range(3):
        put(channel, queue, number, delivery_mode=2)
    assert ready(other, queue) == 0
    channel.tx_commit()
    assert ready(other, queue) == 3


def test_rollback_drops_publishes(channel, connection, queue):
    channel.tx_select()
    put(channel, queue, "never")
    channel.tx_rollback()
    channel.tx_commit()
    assert is_empty(connection.channel(), queue)


def test_acks_wait_for_the_commit(channel, connection, connect, queue):
    put(channel, queue, "job", delivery_mode=2)
    worker = connect().channel()
    worker.tx_select()
    tag = take(worker, queue, auto_ack=False)[0].delivery_tag
    worker.basic_ack(tag)
    worker.close()
    method, _, body = take(channel, queue)
    assert (body, method.redelivered) == (b"job", True)


def test_rollback_lets_the_client_ack_again(channel, queue):
    put(channel, queue, "job")
    channel.tx_select()
    tag = take(channel, queue, auto_ack=False)[0].delivery_tag
    channel.basic_ack(tag)
    channel.tx_rollback()
    assert is_empty(channel, queue), "a rollback does not requeue"
    channel.basic_ack(tag)
    channel.tx_commit()
    assert is_empty(channel, queue)


def test_reject_is_transactional(channel, connection, queue):
    put(channel, queue, "job")
    channel.tx_select()
    tag = take(channel, queue, auto_ack=False)[0].delivery_tag
    channel.basic_reject(tag, requeue=True)
    other = connection.channel()
    assert ready(other, queue) == 0
    channel.tx_commit()
    until(lambda: ready(other, queue) == 1, what="requeued by the commit")


def test_returns_come_with_the_commit(channel, name):
    returned = []
    channel.add_on_return_callback(lambda _c, method, _p, body: returned.append(body))
    channel.tx_select()
    put(channel, name("nowhere"), "lost", mandatory=True)
    channel.queue_declare("", exclusive=True)
    assert returned == []
    channel.tx_commit()
    pump(channel, lambda: returned == [b"lost"], what="the return")


def test_a_closed_channel_rolls_back(connection, channel, queue):
    worker = connection.channel()
    worker.tx_select()
    put(worker, queue, "never")
    worker.close()
    assert is_empty(channel, queue)


def test_commit_spans_several_queues(channel, connection, queue, name):
    result = channel.queue_declare(name("result"), durable=True).method.queue
    put(channel, queue, "in", delivery_mode=2)
    channel.tx_select()
    tag = take(channel, queue, auto_ack=False)[0].delivery_tag
    put(channel, result, "out", delivery_mode=2)
    put(channel, queue, "next", delivery_mode=2)
    channel.basic_ack(tag)
    channel.tx_commit()
    other = connection.channel()
    assert take(other, result)[2] == b"out"
    assert take(other, queue)[2] == b"next"
    assert is_empty(other, queue) and is_empty(other, result)
    other.queue_delete(result)


class Worker(threading.Thread):
    """Takes from `in`; one transaction acknowledges and publishes to `result` and `next`."""

    def __init__(self, port: int, names: tuple[str, str, str]) -> None:
        """Starts nothing yet."""
        super().__init__(daemon=True)
        self.port, self.names = port, names
        self.committed = 0
        self.done = threading.Event()

    def run(self) -> None:
        """Work until told to stop; every kill of the server ends in a new connection."""
        while not self.done.is_set():
            try:
                with pika.BlockingConnection(parameters(self.port)) as connection:
                    self._work(connection.channel())
            except (AMQPError, OSError):
                time.sleep(0.02)

    def _work(self, channel) -> None:
        source, result, following = self.names
        channel.tx_select()
        while not self.done.is_set():
            method, _, body = channel.basic_get(source)
            if method is None:
                time.sleep(0.01)
                continue
            put(channel, result, body, delivery_mode=2)
            put(channel, following, body, delivery_mode=2)
            channel.basic_ack(method.delivery_tag)
            channel.tx_commit()
            self.committed += 1


def drain(channel, queue: str) -> list[bytes]:
    """Everything in a queue."""
    found = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return found
        found.append(body)


# Promise: P2.
@pytest.mark.owns_server
@pytest.mark.timeout(300)
@pytest.mark.potager_only("RabbitMQ documents that tx is not atomic over several queues")
def test_never_half_a_commit(own_server):
    server = own_server()
    names = ("tx-in", "tx-result", "tx-next")
    with pika.BlockingConnection(parameters(server.port)) as connection:
        channel = connection.channel()
        for one in names:
            channel.queue_declare(one, durable=True)
        channel.confirm_delivery()
        for number in range(JOBS):
            put(channel, names[0], number, delivery_mode=2)
    worker = Worker(server.port, names)
    worker.start()
    for kill in range(KILLS):
        aim = worker.committed + 3 + kill
        until(lambda aim=aim: worker.committed >= aim, 30, f"progress before kill {kill}", 0.0005)
        server.kill()
        server.start()
    worker.done.set()
    worker.join(30)
    with pika.BlockingConnection(parameters(server.port)) as connection:
        channel = connection.channel()
        left, results, following = (drain(channel, one) for one in names)
    assert len(set(results)) == len(results), "a result was stored twice"
    assert sorted(results) == sorted(following), "a commit was half"
    assert not set(left) & set(results), "an input came back although its commit stood"
    assert len(left) + len(results) == JOBS, "an input vanished without its result"
    assert len(results) >= worker.committed, "a commit that was answered is gone"
