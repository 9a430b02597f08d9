"""The ledger: what was inserted is there after every `kill -9`, and nothing deleted returns.

What lives here: a short ledger for every run over the main server, with its data on disk; the long
one is `cargo x crash`. What does not: restarts without load (test_greenstalk_server.py).
"""

from __future__ import annotations

import threading
import time

import greenstalk
import pytest
from conftest import KIND
from greenstalk import Client, NotFoundError, TimedOutError

KILLS = 8 if KIND == "potager" else 3
TUBE = "ledger"
# The whole run, starts of the server included, is to end within this time.
RUN_S = 20.0
ENDED = (ConnectionError, OSError, AssertionError, ValueError)


class Worker(threading.Thread):
    """A loop over connections; a subclass does one connection's work."""

    def __init__(self, port: int) -> None:
        """Starts nothing yet."""
        super().__init__(daemon=True)
        self.port = port
        self.done = threading.Event()
        self.fault = ""

    def run(self) -> None:
        """Reconnect for ever."""
        while not self.done.is_set():
            try:
                with Client(("127.0.0.1", self.port), encoding=None, use=TUBE,
                            watch=TUBE) as client:
                    client._sock.settimeout(10)
                    self.work(client)
            except ENDED:
                time.sleep(0.02)
            except greenstalk.Error as error:
                self.fault = repr(error)
                return

    def work(self, client: Client) -> None:
        """One connection's work."""
        raise NotImplementedError


class Producer(Worker):
    """Puts numbers; a number counts when its INSERTED has come. Every third one is delayed."""

    def __init__(self, port: int) -> None:
        """Nothing is inserted yet."""
        super().__init__(port)
        self.next = 0
        self.inserted: dict[int, int] = {}

    def work(self, client: Client) -> None:
        """Put and note."""
        while not self.done.is_set():
            self.next += 1
            number = self.next
            ident = client.put(b"%d" % number, priority=number % 5, delay=number % 3 == 0, ttr=5)
            self.inserted[number] = ident


class Consumer(Worker):
    """Reserves and deletes; now and then releases or buries. A number is deleted when told so."""

    def __init__(self, port: int) -> None:
        """Nothing has been seen yet."""
        super().__init__(port)
        self.asked: set[int] = set()
        self.deleted: set[int] = set()
        self.returned: set[int] = set()
        self.buried: set[int] = set()
        self.turns = 0

    def work(self, client: Client) -> None:
        """Settle what comes."""
        while not self.done.is_set():
            try:
                job = client.reserve(timeout=0)
            except TimedOutError:
                time.sleep(0.01)
                continue
            except greenstalk.DeadlineSoonError:
                return
            self.settle(client, job, int(job.body))

    def settle(self, client: Client, job: greenstalk.Job, number: int) -> None:
        """Delete mostly."""
        if number in self.deleted:
            self.returned.add(number)
        self.turns += 1
        if self.turns % 7 == 0:
            client.release(job, priority=number % 5)
        elif self.turns % 11 == 0:
            client.bury(job)
            self.buried.add(number)
        else:
            self.asked.add(number)
            client.delete(job)
            self.deleted.add(number)


def drained(client: Client) -> list[tuple[int, int]]:
    """Everything that is left, as (number, id): reserved and deleted one by one."""
    left = []
    quiet = 0
    while quiet < 3:
        client.kick(100_000)
        try:
            job = client.reserve(timeout=1)
        except TimedOutError:
            quiet += 1
            continue
        left.append((int(job.body), job.id))
        client.delete(job)
    return left


def until_progress(producer: Producer, consumer: Consumer, limit_s: float) -> None:
    """Wait until both have done something since now."""
    inserted, deleted = len(producer.inserted) + 30, len(consumer.deleted) + 15
    deadline = time.monotonic() + limit_s
    while len(producer.inserted) < inserted or len(consumer.deleted) < deleted:
        fault = producer.fault or consumer.fault
        assert not fault, fault
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.001)


# Promise: P1.
@pytest.mark.owns_server
def test_ledger_over_kills(own_main_server):
    server = own_main_server()
    producer, consumer = Producer(server.port), Consumer(server.port)
    producer.start()
    consumer.start()
    began = time.monotonic()
    kills = 0
    while kills < KILLS and time.monotonic() - began < RUN_S:
        until_progress(producer, consumer, 30)
        server.kill()
        server.start()
        kills += 1
    for one in (producer, consumer):
        one.done.set()
        one.join(15)
        assert not one.fault, one.fault
    with Client(("127.0.0.1", server.port), encoding=None, use=TUBE, watch=TUBE) as client:
        left = drained(client)
    numbers = [number for number, _ in left]
    assert kills >= 2
    assert not consumer.returned, f"deleted jobs came back: {sorted(consumer.returned)[:5]}"
    back = consumer.deleted & set(numbers)
    assert not back, f"deleted jobs were still there: {sorted(back)[:5]}"
    # A delete that was asked for, but not answered before a kill, may have happened or not.
    lost = set(producer.inserted) - consumer.asked - set(numbers)
    assert not lost, f"inserted jobs are gone: {sorted(lost)[:5]}"
    assert len(numbers) == len(set(numbers)), "a job is there twice"
    changed = [number for number, ident in left
               if producer.inserted.get(number, ident) != ident]
    assert not changed, f"jobs with another id than they were given: {changed[:5]}"
    assert max(numbers, default=0) <= producer.next, "jobs nobody put"


@pytest.mark.owns_server
def test_ids_are_never_given_twice_over_kills(own_main_server):
    server = own_main_server()
    given: list[int] = []
    for _ in range(4):
        with Client(("127.0.0.1", server.port), encoding=None) as client:
            given += [client.put(b"x", delay=1000) for _ in range(5)]
        server.kill()
        server.start()
    assert given == sorted(set(given))
    with Client(("127.0.0.1", server.port), encoding=None) as client:
        for number in given:
            client.delete(number)
        with pytest.raises(NotFoundError):
            client.delete(given[0])
