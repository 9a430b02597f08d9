"""Clients of the beanstalk door that never give up: unmodified greenstalk, one process each.

What lives here: putters, takers, and the crew of a power cut. What does not: the ledger's shape
(ledger.py), judging (job_audit.py). Each reconnects for ever until it is told to stop. Used by
power_beanstalk.py.

The letters of their ledger; S and N, R, K and A are as ever, with these numbers behind them:

| letter | number | meaning |
|---|---|---|
| S | delay and priority | about to be put |
| C | the id | INSERTED |
| N | | refused |
| R | when it was asked for | reserved |
| K, A | | about to be deleted; DELETED |
| b, B | priority | about to be buried; BURIED |
| l, L | delay and priority | about to be released; RELEASED |
| k, U | | a buried one about to be kicked; KICKED |
| X | | NOT_FOUND, although it must be there |
"""

from __future__ import annotations

import random
import socket
import time
from collections import deque
from pathlib import Path

import greenstalk

from rig import job_audit
from rig.audit import Findings
from rig.clients import Client, begin, end
from rig.job_audit import LONG_S, packed
from rig.ledger import body, identity
from rig.node import Node

TUBES = ("chaos", "other")
LEASE_S = 600
LIMIT_S = 8
SIZES = (20, 20, 200, 200, 1_000, 4_000, 30_000)
PRIORITIES = (0, 10, 1_023, 65_536, 2**32 - 1)
DELAYS = (0, 0, 0, 0, 0, 0, 1, LONG_S)
# greenstalk tells of an answer that was cut short by an AssertionError or a ValueError.
TROUBLE = (greenstalk.Error, OSError, AssertionError, ValueError)
AT_ONCE = 40
KEYED_PAUSE_S = 0.05


def connect(port: int, tube: str = TUBES[0]) -> greenstalk.Client:
    """One connection that uses `tube` and watches all."""
    link = socket.create_connection(("127.0.0.1", port), LIMIT_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return greenstalk.Client(link, encoding=None, use=tube, watch=TUBES)


class Putter(Client):
    """Puts one job after the other."""

    trouble = TROUBLE

    def __init__(self, name: str, port: int, folder: Path, tube: str) -> None:
        """Puts into `tube`."""
        super().__init__(name, port, folder)
        self.tube, self.number = tube, 0

    def connection(self) -> None:
        """Put over one connection until it ends."""
        with connect(self.port, self.tube) as link:
            while not self.told.is_set():
                what, job, priority, delay = self.next()
                try:
                    ident = link.put(job, priority, delay, LEASE_S)
                except greenstalk.BeanstalkdError:
                    self.ledger.note("N", what)
                    raise
                self.ledger.note("C", what, ident)

    def next(self) -> tuple[str, bytes, int, int]:
        """The next job: what it is, its body, priority and delay."""
        self.number += 1
        what = f"{self.name}.{self.number}"
        priority, delay = random.choice(PRIORITIES), random.choice(DELAYS)
        self.ledger.note("S", what, packed(delay, priority))
        return what, body(self.name, self.number, random.choice(SIZES)), priority, delay


class Keyed(Putter):
    """Puts many at once, each under an idempotency key; what is not answered is put again."""

    def connection(self) -> None:
        """Put over one connection until it ends."""
        self.waiting: deque[tuple[str, bytes]] = getattr(self, "waiting", deque())
        with socket.create_connection(("127.0.0.1", self.port), LIMIT_S) as link:
            said = link.makefile("rb")
            link.sendall(b"use %s\r\n" % self.tube.encode())
            said.readline()
            link.sendall(b"".join(line for _, line in self.waiting))
            while not self.told.is_set() or self.waiting:
                if len(self.waiting) <= AT_ONCE // 2 and not self.told.is_set():
                    time.sleep(random.uniform(0, KEYED_PAUSE_S))
                    fresh = [self.line() for _ in range(AT_ONCE - len(self.waiting))]
                    self.waiting.extend(fresh)
                    link.sendall(b"".join(line for _, line in fresh))
                word, _, ident = said.readline().partition(b" ")
                if word != b"INSERTED":
                    return
                self.ledger.note("C", self.waiting.popleft()[0], int(ident))

    def line(self) -> tuple[str, bytes]:
        """The next job as it is sent."""
        what, job, priority, delay = self.next()
        head = f"put {priority} {delay} {LEASE_S} {len(job)} idp:{what}:{LEASE_S}\r\n"
        return what, head.encode() + job + b"\r\n"


class Taker(Client):
    """Reserves and deletes; now and then releases, buries, kicks, or leaves with a job in hand."""

    trouble = TROUBLE

    def __init__(self, name: str, port: int, folder: Path, wait_s: int) -> None:
        """Waits for a job so long."""
        super().__init__(name, port, folder)
        self.wait_s = wait_s
        self.laid_aside: list[tuple[str, int]] = []

    def connection(self) -> None:
        """Take over one connection until it ends."""
        with connect(self.port) as link:
            while not self.told.is_set():
                asked = time.monotonic_ns()
                try:
                    job = link.reserve(self.wait_s)
                except greenstalk.TimedOutError:
                    time.sleep(0.005)
                    continue
                what = identity(job.body)
                self.ledger.note("R", what, asked)
                dice = random.random()
                if dice < 0.01:
                    return
                try:
                    self.settle(link, job, what, dice)
                except greenstalk.NotFoundError:
                    self.ledger.note("X", what)
                    raise

    def settle(self, link: greenstalk.Client, job: greenstalk.Job, what: str, dice: float) -> None:
        """What becomes of one job."""
        priority = random.choice(PRIORITIES)
        if dice < 0.08:
            self.step("bB", what, priority, lambda: link.bury(job, priority))
            self.laid_aside.append((what, job.id))
        elif dice < 0.18:
            delay = random.choice(DELAYS)
            self.step("lL", what, packed(delay, priority),
                      lambda: link.release(job, priority, delay))
        else:
            self.step("KA", what, 0, lambda: link.delete(job))
        if dice > 0.97 and self.laid_aside:
            what, ident = self.laid_aside.pop(random.randrange(len(self.laid_aside)))
            try:
                self.step("kU", what, 0, lambda: link.kick_job(ident))
            except greenstalk.NotFoundError:
                self.ledger.note("X", what)

    def step(self, letters: str, what: str, more: int, ask) -> None:
        """Write down what is asked, ask, write down that it is done."""
        self.ledger.note(letters[0], what, more)
        ask()
        self.ledger.note(letters[1], what, more)


class Batcher(Client):
    """Takes many at once and deletes them together, in the words of the extension."""

    trouble = TROUBLE

    def connection(self) -> None:
        """Take over one connection until it ends."""
        with socket.create_connection(("127.0.0.1", self.port), LIMIT_S) as link:
            said = link.makefile("rb")
            for tube in TUBES:
                link.sendall(b"watch %s\r\n" % tube.encode())
                said.readline()
            # The others may leave nothing to it for a while.
            self.begun.set()
            while not self.told.is_set():
                asked = time.monotonic_ns()
                link.sendall(b"reserve-batch %d\r\n" % AT_ONCE)
                batch = [self.job(said, asked) for _ in range(number(said, b"RESERVED_BATCH"))]
                if not batch:
                    time.sleep(0.02)
                    continue
                for what, _ in batch:
                    self.ledger.note("K", what)
                idents = b" ".join(ident for _, ident in batch)
                link.sendall(b"delete-batch %s\r\n" % idents)
                deleted = number(said, b"DELETED_BATCH")
                for what, _ in batch:
                    self.ledger.note("A" if deleted == len(batch) else "X", what)

    def job(self, said, asked: int) -> tuple[str, bytes]:
        """One job of the answer: what it is, and its id."""
        word, ident, size = said.readline().split()
        assert word == b"RESERVED", word
        what = identity(said.read(int(size) + 2)[:-2])
        self.ledger.note("R", what, asked)
        return what, ident


def number(said, word: bytes) -> int:
    """The first number of an answer that begins with `word`."""
    words = said.readline().split()
    assert words and words[0] == word, words
    return int(words[1])


class Crew:
    """Clients of one round: they start with empty tubes and end with an audit."""

    @staticmethod
    def prepare(node: Node) -> None:
        """Tubes are made when they are named."""

    def __init__(self, node: Node, folder: Path, name: str) -> None:
        """Starts everybody; `name` is unique over the run, for it is part of every job."""
        self.port = node.tube_port
        self.ledgers = folder / f"round-{name}"
        self.ledgers.mkdir()
        given = (self.port, self.ledgers)
        self.clients: list[Client] = [
            Putter(f"put-{name}a", *given, TUBES[0]),
            Putter(f"put-{name}b", *given, TUBES[1]),
            Keyed(f"key-{name}c", *given, TUBES[0]),
            *(Taker(f"take-{name}{letter}", *given, wait_s) for letter, wait_s in
              (("d", 0), ("e", 1))),
            Batcher(f"take-{name}f", *given),
        ]
        begin(self.clients)

    def audited(self) -> Findings:
        """Everybody stops; every job is asked for and compared, then taken away."""
        self.dismiss()
        histories = job_audit.read(self.ledgers)
        # Short delays end.
        time.sleep(1.2)
        with connect(self.port) as link:
            seen = job_audit.looked_at(link, histories)
            found = job_audit.states(histories, seen)
            found.merge(job_audit.contents(histories, *drained(link), seen))
        return found

    def dismiss(self) -> None:
        """Tell every client to end and wait for all."""
        end(self.clients)
        self.clients = []


def drained(link: greenstalk.Client) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """All jobs, as (what, id): first what is ready, in its order, then what was laid aside."""
    ready, aside = list(taken(link)), []
    for tube in TUBES:
        link.use(tube)
        while link.kick(100_000):
            aside += taken(link)
    return ready, aside


def taken(link: greenstalk.Client):
    """Reserve and delete what is ready."""
    while True:
        try:
            job = link.reserve(0)
        except greenstalk.TimedOutError:
            return
        yield identity(job.body), job.id
        link.delete(job)
