"""Power cuts: an ext4 disk loses what was not flushed, under load, again and again.

What lives here: the cycles, and the control run that proves a cut to be a cut. What does not:
the disk (rig/disk.py), the clients (rig/clients.py), the comparison (rig/audit.py).

Each cycle starts the server, lets clients work for a random moment, shuts the file system down
without flushing its journal, kills the server and mounts again. Some cycles are cut while the
server still starts, some after an orderly stop. Every few cycles everything is drained and
compared by id.

Promise: P1, P2, P3, P5, P11, P12.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from rig import audit
from rig.clients import Consumer, Publisher, Worker, connect, drained
from rig.disk import Image
from rig.ledger import Books
from rig.node import Node, ServerFault
from rig.verdict import Verdict, spread

IMAGE_MIB = 384
ROUND = 10
CONTROL_CYCLES = 4
TTL_MS = 300
QUEUES = ("work", "input", "results", "next", "short", "dead")
# Small, so that a second of load meets segment rolls, checkpoints and survivor passes.
SMALL = ("limits.message_bytes_max=256 KiB", "limits.commit_bytes_max=512 KiB",
         "log.segment_bytes=9 MiB", "log.segments_max=6", "log.cache_bytes=1 MiB",
         "log.checkpoint_bytes=2 MiB", "alarm.disk_free_bytes_min=16 MiB")


def run(options, verdict: Verdict) -> None:
    """All cycles, then the control."""
    good = Cuts(options.binary, options.folder / "power", options.seed)
    good.cycles(options.cycles or 200, verdict)
    for kind, ids in sorted(good.found.wrong.items()):
        verdict.none_of(ids, f"none {kind}")
    verdict.claim(not good.refused, "the server starts after every cut", good.refused[:3])
    verdict.claim(not good.unclean, "e2fsck finds the file system clean", good.unclean[:1])
    verdict.claim(good.found.counts["confirmed"] > 100 * good.cuts, "the load was a load",
                  dict(good.found.counts))
    figures(good, verdict)
    control(options, verdict)


def figures(cuts: Cuts, verdict: Verdict) -> None:
    """What the runs before the control counted."""
    verdict.figure("seed", cuts.seed)
    verdict.figure("power cuts", cuts.cuts)
    verdict.figure("of them while starting", cuts.while_starting)
    verdict.figure("of them after an orderly stop", cuts.after_stop)
    for name, count in sorted(cuts.found.counts.items()):
        verdict.figure(name, count)
    verdict.figure("ready after a cut", spread(cuts.ready))
    verdict.figure("checkpoints written", cuts.checkpoints)
    verdict.figure("survivor files written", cuts.survivors)


def control(options, verdict: Verdict) -> None:
    """The same with `--durability os`, which does not survive a cut, must lose something."""
    weak = Cuts(options.binary, options.folder / "control", options.seed, "--durability", "os")
    weak.cycles(CONTROL_CYCLES, verdict, is_control=True)
    lost = sum(len(ids) for kind, ids in weak.found.wrong.items() if kind.endswith("lost"))
    verdict.claim(lost > 0, "control: without flushes a cut loses acknowledged messages",
                  "nothing was lost, so the cut is no cut")
    verdict.figure("control: acknowledged and lost", lost)


class Cuts:
    """One disk, one server on it, clients around it, and what was found so far."""

    def __init__(self, binary: Path, folder: Path, seed: int, *extra: str) -> None:
        """Makes the disk; nothing runs yet."""
        folder.mkdir(parents=True)
        self.folder, self.seed = folder, seed
        self.random = random.Random(seed)
        self.image = Image(folder, IMAGE_MIB)
        settings = [word for setting in SMALL for word in ("--set", setting)]
        self.node = Node(binary, self.image.data_dir, folder, *settings, *extra)
        self.found = audit.Findings()
        self.clients: list = []
        self.ready: list[float] = []
        self.refused: list[str] = []
        self.unclean: list[str] = []
        self.cuts = self.while_starting = self.after_stop = 0
        self.checkpoints = self.survivors = 0
        self.round = 0

    def cycles(self, count: int, verdict: Verdict, is_control: bool = False) -> None:
        """Run and audit; ends early when the server refuses to start."""
        try:
            self.node.start()
            self.declare()
            self.hire()
            for cycle in range(1, count + 1):
                self.cycle(is_control)
                if cycle % 25 == 0:
                    self.fsck()
                if cycle % ROUND == 0 or cycle == count:
                    self.settle_round()
                    verdict.note(f"{cycle} cuts, {self.found.counts['confirmed']} confirmed, "
                                 f"wrong: {self.wrong() or 'nothing'}")
                    if cycle < count:
                        self.hire()
        except ServerFault as fault:
            self.refused.append(f"after {self.cuts} cuts: {fault}")
        finally:
            self.dismiss()
            self.node.kill()
            self.image.unmount()

    def wrong(self) -> dict[str, int]:
        """Broken rules so far."""
        return {kind: len(ids) for kind, ids in self.found.wrong.items() if ids}

    def declare(self) -> None:
        """The queues, durable all of them."""
        with connect(self.node.port) as link:
            channel = link.channel()
            for queue in QUEUES:
                arguments = {"x-message-ttl": TTL_MS, "x-dead-letter-exchange": "",
                             "x-dead-letter-routing-key": "dead"} if queue == "short" else None
                channel.queue_declare(queue, durable=True, arguments=arguments)

    def hire(self) -> None:
        """New clients, with new names: ids are unique over all rounds."""
        self.round += 1
        self.ledgers = self.folder / f"round-{self.round}"
        self.ledgers.mkdir()
        given = (self.node.port, self.ledgers)
        name = f"r{self.round}"
        self.clients = [
            Publisher(f"work-{name}a", *given, "work", window=100, rate=2_000),
            Publisher(f"work-{name}b", *given, "work", window=8, rate=1_000),
            Publisher(f"tx-{name}", *given, "input", window=16, rate=500),
            Publisher(f"short-{name}", *given, "short", window=8, rate=200),
            Consumer(f"work-{name}c", *given, "work"),
            Consumer(f"work-{name}d", *given, "work"),
            Worker(f"tx-{name}e", *given, "input", "results", "next"),
            Worker(f"tx-{name}f", *given, "input", "results", "next"),
        ]
        for client in self.clients:
            client.start()

    def cycle(self, is_control: bool) -> None:
        """One cut at a random moment, and the start after it."""
        kind = 1.0 if is_control else self.random.random()
        if kind < 0.2:
            # The server that runs since the last cycle is cut, and then its successor early.
            self.cut()
            self.node.spawn()
            time.sleep(self.random.uniform(0, 0.08))
            self.while_starting += 1
        elif kind < 0.3:
            time.sleep(self.random.uniform(0, 0.5))
            if self.node.process:
                self.node.process.send_signal(signal.SIGTERM)
            if self.node.wait(10) != 0:
                self.refused.append(f"orderly stop ended with {self.node.code()}")
            self.after_stop += 1
        else:
            time.sleep(self.random.uniform(0.05, 1.1))
        self.cut()
        self.ready.append(self.node.start())

    def cut(self) -> None:
        """Power off, with the server going on for a moment; power on."""
        self.look()
        self.image.cut()
        time.sleep(self.random.choice((0, 0, self.random.uniform(0, 0.03))))
        self.node.kill()
        self.image.power_up()
        self.cuts += 1

    def look(self) -> None:
        """Count what the log has done; numbers in the names only grow."""
        for path in self.image.data_dir.glob("survivor-*.sv"):
            self.survivors = max(self.survivors, int(path.stem.rpartition("-")[2], 16))
        newest = sorted(path.name for path in self.image.data_dir.glob("checkpoint-*.ckpt"))
        if newest and newest[-1] != getattr(self, "newest", ""):
            self.newest = newest[-1]
            self.checkpoints += 1

    def fsck(self) -> None:
        """Ask the file system itself, between two cuts."""
        self.image.cut()
        self.node.kill()
        self.image.power_up()
        words = self.image.check()
        if words:
            self.unclean.append(words)
        self.node.start()

    def settle_round(self) -> None:
        """Everybody stops, everything is drained and compared."""
        self.dismiss()
        time.sleep(TTL_MS / 1e3)
        left = {queue: drained(self.node.port, queue) for queue in QUEUES}
        self.found.merge(audit.work(Books.read(self.ledgers, "work-*"), left["work"]))
        self.found.merge(audit.chain(Books.read(self.ledgers, "tx-*"), left["input"],
                                     left["results"], left["next"]))
        self.found.merge(audit.dying(Books.read(self.ledgers, "short-*"), left["short"],
                                     left["dead"]))

    def dismiss(self) -> None:
        """Tell every client to end and wait for all."""
        for client in self.clients:
            client.told.set()
        for client in self.clients:
            client.finish()
        self.clients = []
