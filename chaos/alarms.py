"""Alarms: the disk fills up, memory grows; publishers wait, everything else goes on.

What lives here: four shortages and what must follow. What does not: the publishers
(rig/publishers.py), the disk (rig/disk.py), the control group (rig/group.py).

Each story is the same: publish until the alarm; publishers are told by `connection.blocked`
within a second; consumers, acknowledgements, purges and deletes go on; the shortage ends;
publishers go on by themselves; nothing confirmed is missing.

Promise: P13.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

from pika.exceptions import AMQPError

from rig.clients import PERSISTENT, connect, drained
from rig.disk import Image
from rig.group import MemoryGroup
from rig.ledger import body, identity
from rig.node import Node
from rig.publishers import Kombu, Pika, Publisher
from rig.shortage import LIMIT_S, LOG, MIB, SLACK_S, ballast, is_alarmed, resident_bytes, wait
from rig.verdict import Skipped, Verdict

PATIENCE_S = 2.0
BACKLOG = 3_000


def run(options, verdict: Verdict) -> None:
    """All shortages; one that cannot be made here does not keep the others from running."""
    for story in (disk_watermark, disk_full, disk_crowded, memory_setting, memory_group):
        name = story.__name__.replace("_", " ")
        folder = options.folder / story.__name__
        folder.mkdir()
        print(f"  -- {name}")
        try:
            story(options.binary, folder, verdict)
        except Skipped as why:
            verdict.skip(f"{name}: {why}")


def disk_watermark(binary: Path, folder: Path, verdict: Verdict) -> None:
    """Somebody else fills the disk to below `alarm.disk_free_bytes_min`, and makes room."""
    image = Image(folder, 320)
    try:
        with Story(binary, image.data_dir, folder, verdict, *LOG,
                   "--set", "alarm.disk_free_bytes_min=64 MiB") as story:
            story.publish(size=500, pause_s=0.002)
            story.warm_up()
            began = time.monotonic()
            foreign = ballast(image, 40 * MIB)
            story.short(began, time.monotonic())
            foreign.unlink()
            story.over(time.monotonic())
    finally:
        image.unmount()


def disk_full(binary: Path, folder: Path, verdict: Verdict) -> None:
    """Messages that nobody takes fill the disk to the last block; taking them makes room."""
    image = Image(folder, 160)
    try:
        with Story(binary, image.data_dir, folder, verdict, *LOG, "--set", "log.segments_max=5",
                   "--set", "alarm.disk_free_bytes_min=0") as story:
            story.publish(size=60_000, pause_s=0)
            story.short_by_itself(90)
            verdict.figure("bytes left on the disk", image.free_bytes())
            story.take_all()
            story.over(time.monotonic(), limit_s=10)
    finally:
        image.unmount()


def disk_crowded(binary: Path, folder: Path, verdict: Verdict) -> None:
    """On a full disk new publishers come again and again, each with one message before it is told.

    What they bring must not use up the room that acknowledgements and deletes need.
    """
    image = Image(folder, 160)
    try:
        with Story(binary, image.data_dir, folder, verdict, *LOG, "--set", "log.segments_max=5",
                   "--set", "alarm.disk_free_bytes_min=0") as story:
            story.publish(size=60_000, pause_s=0)
            verdict.claim(wait(story.is_alarmed, 90, 0.005), "the alarm comes on")
            for one in story.publishers:
                one.told.set()
            outcome = story.crowd(300, 100_000)
            verdict.figure("messages of the crowd", dict(outcome))
            verdict.claim(story.node.code() is None, "the server outlives a crowd of publishers",
                          story.node.tail(2))
            story.others_go_on()
            story.take_all()
            verdict.claim(wait(lambda: not story.is_alarmed(), 10), "the alarm clears")
            story.settle()
    finally:
        image.unmount()


def memory_setting(binary: Path, folder: Path, verdict: Verdict) -> None:
    """Volatile messages fill the memory up to `alarm.memory_bytes_max`; taking them frees it."""
    with Story(binary, folder / "data", folder, verdict, *LOG, "--set",
               "alarm.memory_bytes_max=120 MiB", is_durable=False) as story:
        fill_memory(story, verdict)


def memory_group(binary: Path, folder: Path, verdict: Verdict) -> None:
    """The same with no setting at all: 60 % of what the control group allows."""
    with MemoryGroup(200 * MIB) as group:
        verdict.note(f"limit of 200 MiB by {group.kind}")
        with Story(binary, folder / "data", folder, verdict, *LOG, is_durable=False,
                   group=group) as story:
            fill_memory(story, verdict)
            verdict.figure("most memory of the group, MiB", group.most_bytes() // MIB)


def fill_memory(story: Story, verdict: Verdict) -> None:
    """Publish until memory is short, take everything, see it clear."""
    story.publish(size=60_000, pause_s=0)
    story.short_by_itself(60)
    verdict.figure("resident at the alarm, MiB", resident_bytes(story.node) // MIB)
    story.take_all()
    story.over(time.monotonic(), limit_s=10)


class Story:
    """One server, its publishers, a consumer of a backlog, and what was seen of each."""

    def __init__(self, binary: Path, data_dir: Path, folder: Path, verdict: Verdict,
                 *settings: str, is_durable: bool = True, group: MemoryGroup | None = None) -> None:
        """Starts the server and lays in a backlog."""
        self.verdict, self.is_durable = verdict, is_durable
        self.node = Node(binary, data_dir, folder, *settings,
                         wrapper=group.wrapper if group else ())
        self.publishers: list[Publisher] = []
        self.backlog: set[str] = set()
        self.taken: list[tuple[float, str]] = []
        self.rest: list[str] = []
        self.extra: set[str] = set()
        self.told = threading.Event()
        self.eater = threading.Thread(target=self._eat, daemon=True)

    def __enter__(self) -> Story:
        """Start it."""
        self.node.start()
        with connect(self.node.port) as link:
            channel = link.channel()
            for queue in ("backlog", "doomed"):
                channel.queue_declare(queue, durable=True)
                for number in range(BACKLOG):
                    channel.basic_publish("", queue, body(queue, number, 100), PERSISTENT)
            self.backlog = {f"backlog.{number}" for number in range(BACKLOG)}
            channel.queue_declare("fill", durable=self.is_durable)
            channel.queue_declare("backlog", passive=True)
        self.eater.start()
        return self

    def __exit__(self, *_) -> None:
        """End everything, whatever happened."""
        self.told.set()
        for publisher in self.publishers:
            publisher.told.set()
        self.node.kill()

    def publish(self, size: int, pause_s: float) -> None:
        """Start every kind of publisher."""
        given = (self.node.port, "fill", size, pause_s)
        more = {"is_durable": self.is_durable}
        self.patient = Pika("pika", *given, **more)
        self.hasty = Pika("pika-timeout", *given, limit_s=PATIENCE_S, **more)
        self.publishers = [
            self.patient, self.hasty,
            Kombu("kombu-confirm", *given, has_confirms=True, **more),
            Kombu("kombu-plain", *given, has_confirms=False, **more),
        ]
        for publisher in self.publishers:
            publisher.start()

    def warm_up(self) -> None:
        """Wait until everybody publishes."""
        wait(lambda: all(len(one.confirmed) > 20 for one in self.publishers), 20)

    def short_by_itself(self, limit_s: float) -> None:
        """The publishers themselves bring the shortage about."""
        happened = wait(self.is_alarmed, limit_s, pause_s=0.005)
        began = time.monotonic()
        self.verdict.claim(happened, "the alarm comes on")
        self.short(began - 0.05, began)

    def short(self, began: float, noticed: float) -> None:
        """Everything that must hold while the alarm is on."""
        claim = self.verdict.claim
        for one in self.publishers:
            told = wait(lambda one=one: any(at > began for at in one.blocked), 3, 0.005)
            first = min((at for at in one.blocked if at > began), default=noticed)
            after = max(0.0, first - noticed)
            claim(told and after <= LIMIT_S, f"{one.name} is told within {LIMIT_S:g} s", after)
            if told:
                self.verdict.figure(f"{one.name} told after, ms", round(after * 1e3))
        quiet = noticed + LIMIT_S + SLACK_S
        time.sleep(max(0.0, quiet - time.monotonic()))
        self.others_go_on()
        claim(wait(lambda: self.hasty.timeouts, PATIENCE_S + 2),
              "blocked_connection_timeout raises ConnectionBlockedTimeout")
        now = time.monotonic()
        for one in self.publishers:
            if one.has_confirms:
                # One that gave up and came back may bring one message before it is told.
                came = sum(at > began for at in one.connected)
                claim(one.progress(quiet, now) <= came,
                      f"nothing of {one.name} is confirmed meanwhile", one.progress(quiet, now))
        claim(self.is_alarmed(), "the alarm is still on, and shown by the metrics")

    def others_go_on(self) -> None:
        """Consumers, acknowledgements, purge, delete, new connections."""
        claim = self.verdict.claim
        before, began = len(self.taken), time.monotonic()
        with connect(self.node.port) as link:
            channel = link.channel()
            claim(True, "a new connection is served")
            method, _, _ = channel.basic_get("doomed")
            channel.basic_ack(method.delivery_tag)
            left = channel.queue_declare("doomed", passive=True).method.message_count
            claim(left == BACKLOG - 1, "get and acknowledge succeed", left)
            count = channel.queue_purge("doomed").method.message_count
            claim(count == BACKLOG - 1, "a purge succeeds", count)
            channel.queue_delete("doomed")
            claim(True, "a queue delete succeeds")
            channel.queue_declare("doomed", durable=True)
        took = time.monotonic() - began
        claim(took < LIMIT_S, "all of that within 1 s", took)
        claim(wait(lambda: len(self.taken) > before + 20, 3), "the consumer goes on",
              len(self.taken) - before)

    def take_all(self) -> None:
        """Empty the queue of the publishers by consuming."""
        began = time.monotonic()
        self.rest += [what for what, _ in drained(self.node.port, "fill")]
        self.verdict.claim(len(self.rest) > 100, "consuming what fills the server goes on",
                           len(self.rest))
        self.verdict.figure("taken while short", len(self.rest))
        self.verdict.figure("taken in, s", round(time.monotonic() - began, 2))

    def crowd(self, count: int, size: int) -> Counter:
        """One connection and one message after the other; what became of them."""
        outcome: Counter = Counter()
        for number in range(count):
            message = body("crowd", number, size)
            try:
                with connect(self.node.port, blocked_connection_timeout=0.05) as link:
                    channel = link.channel()
                    channel.confirm_delivery()
                    channel.basic_publish("", "fill", message, PERSISTENT)
                    self.extra.add(f"crowd.{number}")
                    outcome["confirmed"] += 1
            except (AMQPError, OSError) as error:
                outcome[type(error).__name__] += 1
        return outcome

    def over(self, at: float, limit_s: float = LIMIT_S) -> None:
        """The shortage has ended at `at`: everybody goes on, everything is there."""
        claim = self.verdict.claim
        cleared = wait(lambda: not self.is_alarmed(), limit_s + 3, 0.01)
        took = time.monotonic() - at
        claim(cleared and took <= limit_s + SLACK_S, f"the alarm clears within {limit_s:g} s", took)
        for one in self.publishers:
            went_on = wait(lambda one=one: one.went_on_at(at), 5)
            claim(went_on, f"{one.name} goes on by itself", one.troubles[-1:])
        claim(any(moment > at - 10 for moment in self.patient.unblocked),
              "pika is told by connection.unblocked")
        self.settle()

    def settle(self) -> None:
        """Stop the publishers and compare."""
        claim = self.verdict.claim
        for one in self.publishers:
            one.told.set()
        deadline = time.monotonic() + 15
        while any(one.is_alive() for one in self.publishers) and time.monotonic() < deadline:
            self.rest += [what for what, _ in drained(self.node.port, "fill")]
        hanging = [one.name for one in self.publishers if one.is_alive()]
        claim(not hanging, "nobody hangs", hanging)
        self.rest += [what for what, _ in drained(self.node.port, "fill")]
        promised = {what for one in self.publishers if one.has_confirms
                    for _, what in one.confirmed} | self.extra
        self.verdict.none_of(promised - set(self.rest), "nothing confirmed is lost")
        sent = {what for one in self.publishers for what in one.sent}
        sent |= {what for what in self.rest if what.startswith("crowd.")}
        self.verdict.none_of(set(self.rest) - sent, "nothing arrives that nobody sent")
        self.told.set()
        self.eater.join(10)
        there = {what for what, _ in drained(self.node.port, "backlog")}
        gone = self.backlog - there - {what for _, what in self.taken}
        self.verdict.none_of(gone, "nothing of the backlog is lost")
        self.verdict.figure("confirmed", len(promised))
        claim(self.node.stop() == 0, "the server stops in order")

    def _eat(self) -> None:
        """Take the backlog, slowly enough that it lasts for the whole story."""
        try:
            self._take_backlog()
        except (AMQPError, OSError) as error:
            self.verdict.claim(self.told.is_set(), "the consumer keeps its connection", error)

    def _take_backlog(self) -> None:
        with connect(self.node.port) as link:
            channel = link.channel()
            channel.basic_qos(prefetch_count=10)
            for method, _, message in channel.consume("backlog", inactivity_timeout=0.05):
                if method is not None:
                    channel.basic_ack(method.delivery_tag)
                    self.taken.append((time.monotonic(), identity(message)))
                    time.sleep(0.01)
                if self.told.is_set():
                    return

    def is_alarmed(self) -> bool:
        """What the metrics say."""
        return is_alarmed(self.node)
