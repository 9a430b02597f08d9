"""Power cuts: an ext4 disk loses what was not flushed, under load, again and again.

What lives here: the cycles, and the control run that proves a cut to be a cut. What does not:
the disk (disk.py), who works meanwhile and how it is compared (a `Crew`: load.py, jobs.py). Used by
the parts power.py and power_beanstalk.py.

Each cycle starts the server, lets clients work for a random moment, shuts the file system down
without flushing its journal, kills the server and mounts again. Some cycles are cut while the
server still starts, some after an orderly stop. Every few cycles everything is drained and
compared by id.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Protocol

from rig import audit
from rig.disk import Image
from rig.load import small_log
from rig.node import Node, ServerFault
from rig.verdict import Verdict, spread

IMAGE_MIB = 384
ROUND = 10
CONTROL_CYCLES = 4
CONTROLS_MAX = 4


class Crew(Protocol):
    """Clients of one round: they start with empty queues and end with an audit."""

    def __init__(self, node: Node, folder: Path, name: str) -> None:
        """Start everybody; `name` is unique over the run."""

    @staticmethod
    def prepare(node: Node) -> None:
        """What has to be there before the first round."""

    def audited(self) -> audit.Findings:
        """Everybody stops, everything is drained and compared."""

    def dismiss(self) -> None:
        """Tell every client to end and wait for all."""


def prove(options, verdict: Verdict, crew: type[Crew]) -> None:
    """All cycles, then the control."""
    good = Cuts(options.binary, options.folder / "power", options.seed, crew)
    good.cycles(options.cycles or 200, verdict)
    for kind, ids in sorted(good.found.wrong.items()):
        verdict.none_of(ids, f"none {kind}")
    verdict.claim(not good.refused, "the server starts after every cut", good.refused[:3])
    verdict.claim(not good.unclean, "e2fsck finds the file system clean", good.unclean[:1])
    verdict.claim(good.found.counts["confirmed"] > 20 * good.cuts, "the load was a load",
                  dict(good.found.counts))
    figures(good, verdict)
    control(options, verdict, crew)


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


def control(options, verdict: Verdict, crew: type[Crew]) -> None:
    """The same with `--durability os`, which does not survive a cut, must lose something."""
    for attempt in range(CONTROLS_MAX):
        weak = Cuts(options.binary, options.folder / f"control-{attempt}", options.seed + attempt,
                    crew, "--durability", "os")
        weak.cycles(CONTROL_CYCLES, verdict, is_control=True)
        lost = sum(len(ids) for kind, ids in weak.found.wrong.items() if kind.endswith("lost"))
        if lost:
            break
    verdict.claim(lost > 0, "control: without flushes a cut loses what was confirmed",
                  "nothing was lost, so the cut is no cut")
    verdict.figure("control: acknowledged and lost", lost)


class Cuts:
    """One disk, one server on it, clients around it, and what was found so far."""

    def __init__(self, binary: Path, folder: Path, seed: int, crew: type[Crew],
                 *extra: str) -> None:
        """Makes the disk; nothing runs yet."""
        folder.mkdir(parents=True)
        self.folder, self.seed, self.crew = folder, seed, crew
        self.random = random.Random(seed)
        self.image = Image(folder, IMAGE_MIB)
        self.node = Node(binary, self.image.data_dir, folder, *small_log(), *extra)
        self.found = audit.Findings()
        self.load: Crew | None = None
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
            self.crew.prepare(self.node)
            self.hire()
            for cycle in range(1, count + 1):
                self.cycle(is_control)
                if cycle % 25 == 0:
                    self.fsck()
                if cycle % ROUND == 0 or cycle == count:
                    self.found.merge(self.load.audited())
                    verdict.note(f"{cycle} cuts, {self.found.counts['confirmed']} confirmed, "
                                 f"wrong: {self.wrong() or 'nothing'}")
                    if cycle < count:
                        self.hire()
        except ServerFault as fault:
            self.refused.append(f"after {self.cuts} cuts: {fault}")
        finally:
            if self.load:
                self.load.dismiss()
            self.node.kill()
            self.image.unmount()

    def wrong(self) -> dict[str, int]:
        """Broken rules so far."""
        return {kind: len(ids) for kind, ids in self.found.wrong.items() if ids}

    def hire(self) -> None:
        """New clients, with new names: ids are unique over all rounds."""
        self.round += 1
        self.load = self.crew(self.node, self.folder, f"r{self.round}")

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
