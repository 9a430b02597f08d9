"""Alarms seen through the beanstalk door: puts are refused at once, everything else goes on.

What lives here: three shortages and what must follow for unmodified greenstalk clients. What does
not: making a disk short (rig/shortage.py), the disk (rig/disk.py).

Each story is the same: put until the alarm; every put is answered OUT_OF_MEMORY within a second,
none is taken any more; reserve, release, bury, kick, touch and delete go on as fast as ever; the
shortage ends; puts are taken again by themselves; nothing inserted is missing, nothing refused is
there.

Promise: P13.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import greenstalk
from pika.exceptions import AMQPError

from rig import jobs
from rig.clients import connect
from rig.disk import Image
from rig.ledger import body, identity
from rig.node import Node
from rig.shortage import LIMIT_S, LOG, MIB, SLACK_S, ballast, is_alarmed, wait
from rig.verdict import Skipped, Verdict

FILL, WORK = jobs.TUBES
BACKLOG = 2_000
PUTTERS = 3
SHORT_S = 3.0


def run(options, verdict: Verdict) -> None:
    """All shortages; one that cannot be made here does not keep the others from running."""
    for story in (watermark, full, memory):
        folder = options.folder / story.__name__
        folder.mkdir()
        print(f"  -- {story.__name__}")
        try:
            story(options.binary, folder, verdict)
        except Skipped as why:
            verdict.skip(f"{story.__name__}: {why}")


def watermark(binary: Path, folder: Path, verdict: Verdict) -> None:
    """Somebody else fills the disk to below `alarm.disk_free_bytes_min`, and makes room."""
    image = Image(folder, 320)
    try:
        node = Node(binary, image.data_dir, folder, *LOG,
                    "--set", "alarm.disk_free_bytes_min=64 MiB")
        with Story(node, verdict) as story:
            story.put(size=500, pause_s=0.002)
            foreign = ballast(image, 40 * MIB)
            story.short(time.monotonic())
            foreign.unlink()
            story.over(time.monotonic())
    finally:
        image.unmount()


def full(binary: Path, folder: Path, verdict: Verdict) -> None:
    """Jobs that nobody takes fill the disk to the last block; taking them makes room."""
    image = Image(folder, 160)
    try:
        node = Node(binary, image.data_dir, folder, *LOG, "--set", "log.segments_max=5",
                    "--set", "alarm.disk_free_bytes_min=0")
        with Story(node, verdict) as story:
            story.put(size=60_000, pause_s=0)
            verdict.claim(wait(lambda: is_alarmed(node), 90, 0.005), "the alarm comes on")
            story.short(time.monotonic())
            verdict.figure("bytes left on the disk", image.free_bytes())
            story.take(FILL)
            story.over(time.monotonic(), limit_s=10)
    finally:
        image.unmount()


def memory(binary: Path, folder: Path, verdict: Verdict) -> None:
    """Volatile messages of the AMQP door fill the memory; a purge frees it."""
    node = Node(binary, folder / "data", folder, *LOG,
                "--set", "alarm.memory_bytes_max=120 MiB")
    with Story(node, verdict) as story:
        story.put(size=500, pause_s=0.002)
        # It is blocked as soon as the alarm is on.
        with suppress(AMQPError), connect(node.port, blocked_connection_timeout=1) as link:
            channel = link.channel()
            channel.queue_declare("volatile")
            while not is_alarmed(node):
                for _ in range(20):
                    channel.basic_publish("", "volatile", bytes(60_000))
        verdict.claim(is_alarmed(node), "the alarm comes on")
        story.short(time.monotonic())
        with connect(node.port) as link:
            link.channel().queue_purge("volatile")
        story.over(time.monotonic(), limit_s=10)


class Putter(threading.Thread):
    """Puts for ever over one connection, whatever the answer."""

    def __init__(self, name: str, port: int, size: int, pause_s: float) -> None:
        """Bodies of `size` bytes, with a pause after each."""
        super().__init__(name=name, daemon=True)
        self.port, self.size, self.pause_s = port, size, pause_s
        self.told = threading.Event()
        self.number = 0
        self.inserted: dict[str, int] = {}
        # When it was asked, when it was answered, whether it was inserted.
        self.answers: list[tuple[float, float, bool]] = []
        self.trouble = ""

    def run(self) -> None:
        """One connection until told to stop."""
        try:
            with jobs.connect(self.port, FILL) as link:
                while not self.told.is_set():
                    self.one(link)
                    time.sleep(self.pause_s)
        except jobs.TROUBLE as error:
            self.trouble = repr(error)

    def one(self, link: greenstalk.Client) -> None:
        """One put and what became of it."""
        self.number += 1
        asked = time.monotonic()
        try:
            ident = link.put(body(self.name, self.number, self.size), ttr=600)
        except greenstalk.OutOfMemoryError:
            self.answers.append((asked, time.monotonic(), False))
            # Clients try again later.
            time.sleep(0.01)
            return
        self.inserted[f"{self.name}.{self.number}"] = ident
        self.answers.append((asked, time.monotonic(), True))


class Worker(threading.Thread):
    """Works on a backlog with every verb that takes nothing new; notes how long each took."""

    def __init__(self, port: int) -> None:
        """Starts nothing yet."""
        super().__init__(name="worker", daemon=True)
        self.port = port
        self.told = threading.Event()
        self.deleted: list[tuple[float, str]] = []
        # When it began, how long it took.
        self.turns: list[tuple[float, float]] = []
        self.trouble = ""

    def run(self) -> None:
        """Until told to stop."""
        try:
            with jobs.connect(self.port, WORK) as link:
                link.ignore(FILL)
                while not self.told.is_set():
                    began = time.monotonic()
                    self.turn(link)
                    self.turns.append((began, time.monotonic() - began))
                    time.sleep(0.01)
        except jobs.TROUBLE as error:
            self.trouble = repr(error)

    def turn(self, link: greenstalk.Client) -> None:
        """One job, taken three times."""
        job = link.reserve(1)
        link.release(job, priority=0)
        job = link.reserve(1)
        link.touch(job)
        link.bury(job, priority=0)
        link.kick_job(job)
        job = link.reserve(1)
        link.delete(job)
        self.deleted.append((time.monotonic(), identity(job.body)))


class Story:
    """One server, its putters, a worker on a backlog, and what was seen of each."""

    def __init__(self, node: Node, verdict: Verdict) -> None:
        """Starts nothing yet."""
        self.node, self.verdict = node, verdict
        self.putters: list[Putter] = []
        self.worker = Worker(node.tube_port)
        self.backlog: set[str] = set()
        self.taken: list[str] = []

    def __enter__(self) -> Story:
        """Start the server, lay in a backlog, and begin to work on it."""
        self.node.start()
        with jobs.connect(self.node.tube_port, WORK) as link:
            for number in range(BACKLOG):
                link.put(body("backlog", number, 100), ttr=600)
                self.backlog.add(f"backlog.{number}")
        self.worker.start()
        return self

    def __exit__(self, *_) -> None:
        """End everything, whatever happened."""
        for thread in (*self.putters, self.worker):
            thread.told.set()
        self.node.kill()

    def put(self, size: int, pause_s: float) -> None:
        """Start the putters, and wait until all of them put."""
        self.putters = [Putter(f"putter{number}", self.node.tube_port, size, pause_s)
                        for number in range(PUTTERS)]
        for one in self.putters:
            one.start()
        self.verdict.claim(
            wait(lambda: all(one.inserted for one in self.putters), 20), "everybody puts")

    def short(self, noticed: float) -> None:
        """Everything that must hold while the alarm is on."""
        claim = self.verdict.claim
        time.sleep(SHORT_S)
        now, quiet = time.monotonic(), noticed + LIMIT_S + SLACK_S
        first = []
        for one in self.putters:
            refused = [at for _, at, is_in in list(one.answers) if not is_in]
            first.append(max(0.0, min(refused, default=now) - noticed))
            claim(first[-1] <= LIMIT_S, f"{one.name} is refused within {LIMIT_S:g} s", first[-1])
            late = [at for asked, at, is_in in list(one.answers) if is_in and asked > quiet]
            claim(not late, f"nothing of {one.name} is inserted meanwhile", len(late))
        self.verdict.figure("refused after, ms", round(max(first) * 1e3))
        some = [at - asked for one in self.putters
                for asked, at, is_in in list(one.answers) if not is_in]
        claim(max(some, default=9) <= LIMIT_S, "every refusal comes within 1 s", max(some, default=9))
        self.verdict.figure("refusals", len(some))
        turns = [took for began, took in list(self.worker.turns) if began > noticed]
        claim(len(turns) > 20, "reserve, release, touch, bury, kick and delete go on",
              f"{len(turns)} {self.worker.trouble}")
        claim(max(turns, default=9) <= LIMIT_S, "all of them together within 1 s",
              max(turns, default=9))
        began = time.monotonic()
        with jobs.connect(self.node.tube_port) as link:
            claim(link.stats_tube(WORK)["current-jobs-ready"] > 0, "a new connection is served")
            link.peek_ready()
        claim(time.monotonic() - began <= LIMIT_S, "within 1 s")
        claim(is_alarmed(self.node), "the alarm is still on, and shown by the metrics")

    def take(self, tube: str) -> None:
        """Reserve and delete all that is ready in a tube."""
        with jobs.connect(self.node.tube_port, tube) as link:
            for other in jobs.TUBES:
                if other != tube:
                    link.ignore(other)
            self.taken += [what for what, _ in jobs.taken(link)]

    def over(self, at: float, limit_s: float = LIMIT_S) -> None:
        """The shortage has ended at `at`: everybody goes on, everything is there."""
        claim = self.verdict.claim
        cleared = wait(lambda: not is_alarmed(self.node), limit_s + 3, 0.01)
        took = time.monotonic() - at
        claim(cleared and took <= limit_s + SLACK_S, f"the alarm clears within {limit_s:g} s", took)
        for one in self.putters:
            went_on = wait(lambda one=one: any(
                is_in and asked > at for asked, _, is_in in list(one.answers)), 5)
            claim(went_on, f"{one.name} goes on by itself", one.trouble)
        self.settle()

    def settle(self) -> None:
        """Stop everybody and compare."""
        claim = self.verdict.claim
        threads = (*self.putters, self.worker)
        for one in threads:
            one.told.set()
        for one in threads:
            one.join(10)
        hanging = [one.name for one in threads if one.is_alive()]
        claim(not hanging, "nobody hangs", hanging)
        troubles = [one.trouble for one in threads if one.trouble]
        claim(not troubles, "nobody lost a connection", troubles)
        self.take(FILL)
        inserted = {what for one in self.putters for what in one.inserted}
        self.verdict.none_of(inserted - set(self.taken), "nothing inserted is lost")
        self.verdict.none_of(set(self.taken) - inserted, "nothing that was refused is there")
        deleted = {what for _, what in self.worker.deleted}
        before = len(self.taken)
        self.take(WORK)
        there = set(self.taken[before:])
        self.verdict.none_of(self.backlog - there - deleted, "nothing of the backlog is lost")
        self.verdict.none_of(there & deleted, "nothing deleted comes back")
        self.verdict.figure("inserted", len(inserted))
        claim(self.node.stop() == 0, "the server stops in order")
