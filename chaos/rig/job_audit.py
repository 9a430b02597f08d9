"""Holding what is in the tubes against what was promised, job by job.

What lives here: reading the clients' ledgers as one history per job, and what must be true of the
job then. What does not: the clients and the meaning of their letters (jobs.py). Used by jobs.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import greenstalk

from rig.audit import Findings

# A delay that no round outlives.
LONG_S = 900
COUNTED = {"S": "sent", "C": "confirmed", "R": "received", "A": "settled", "B": "buried",
           "L": "released", "U": "kicked", "N": "refused"}

# A job's (state, priority) by its id.
Seen = dict[int, tuple[str, int]]


def packed(delay_s: int, priority: int) -> int:
    """Both as one number of a ledger."""
    return delay_s << 32 | priority


@dataclass
class History:
    """What is known about one job; built up event by event, in the order of time."""

    ident: int = 0
    letters: Counter = field(default_factory=Counter)
    states: set[str] = field(default_factory=set)
    priorities: set[int] = field(default_factory=set)
    is_doubtful: bool = False
    deleted_at: int = 0
    came_back: bool = False
    # When, what, and who.
    last: tuple[int, str, str] = (0, "", "")

    def enter(self, at: int, letter: str, more: int, who: str) -> None:
        """The next event, as this client wrote it down."""
        self.letters[letter] += 1
        if letter == "C":
            self.came_back |= self.ident not in (0, more)
            self.ident = more
        elif letter == "R":
            self._reserved(more)
        elif letter in "Sl":
            self._may_be(_waits(more >> 32), more & 0xFFFF_FFFF)
        elif letter in "LBU" and self.last[1:] != (letter.lower(), who):
            # Somebody else had it in hand before this answer was written down.
            return
        elif letter == "L":
            self.states, self.priorities = _waits(more >> 32), {more & 0xFFFF_FFFF}
        elif letter == "b":
            self._may_be({"buried"}, more)
        elif letter == "B":
            self.states, self.priorities = {"buried"}, {more}
        elif letter == "k":
            self.states.add("ready")
        elif letter == "U":
            self.states = {"ready"}
        elif letter == "K":
            self.is_doubtful = True
        elif letter == "A":
            self.deleted_at = at
        self.last = at, letter, who

    def _may_be(self, states: set[str], priority: int) -> None:
        self.states |= states
        self.priorities.add(priority)

    def _reserved(self, asked: int) -> None:
        if self.deleted_at and asked > self.deleted_at:
            self.came_back = True
        if asked > self.last[0]:
            # Whatever was asked before without an answer was not done, or is over.
            self.states, self.is_doubtful = {"ready"}, False
        else:
            # Received before, written down after what somebody else did.
            self.states.add("ready")


def _waits(delay_s: int) -> set[str]:
    if delay_s >= LONG_S:
        return {"delayed"}
    return {"ready"}


def read(folder: Path) -> dict[str, History]:
    """All ledgers of a folder, by job."""
    events = []
    for path in folder.glob("*.ledger"):
        with open(path) as lines:
            for line in lines:
                letter, at, what, more = line.split()
                events.append((int(at), letter, what, int(more), path.stem))
    found: dict[str, History] = {}
    for at, letter, what, more, who in sorted(events):
        found.setdefault(what, History()).enter(at, letter, more, who)
    return found


def looked_at(link: greenstalk.Client, histories: dict[str, History]) -> Seen:
    """State and priority of every job whose id is known."""
    seen: Seen = {}
    for history in histories.values():
        if history.ident:
            try:
                stats = link.stats_job(history.ident)
            except greenstalk.NotFoundError:
                continue
            seen[history.ident] = (stats["state"], stats["pri"])
    return seen


def states(histories: dict[str, History], seen: Seen) -> Findings:
    """Who is there must be, in the state and with the priority of the last answer."""
    found = Findings()
    for kind in ("confirmed and lost", "settled and back", "in another state",
                 "with another priority", "not found in its owner's hands"):
        found.add(kind, ())
    for what, history in histories.items():
        for letter, name in COUNTED.items():
            found.counts[name] += history.letters[letter]
        found.counts["put again and answered with its first id"] += max(
            0, history.letters["C"] - 1)
        if history.letters["X"]:
            found.add("not found in its owner's hands", [what])
        if history.came_back or history.letters["A"] > 1:
            found.add("settled and back", [what])
        if not history.ident:
            continue
        state, priority = seen.get(history.ident, ("gone", 0))
        if history.deleted_at:
            if state != "gone":
                found.add("settled and back", [what])
        elif state == "gone":
            if not history.is_doubtful:
                found.add("confirmed and lost", [what])
        elif state not in history.states:
            found.add("in another state", [f"{what}:{state}"])
        elif priority not in history.priorities:
            found.add("with another priority", [f"{what}:{priority}"])
    return found


def contents(histories: dict[str, History], ready: list[tuple[str, int]],
             aside: list[tuple[str, int]], seen: Seen) -> Findings:
    """What was taken out at the end: each once, whole, under its id, and in order."""
    found = Findings()
    everything = ready + aside
    found.add("damaged", [what for what, _ in everything if what.startswith("damaged:")])
    times = Counter(what for what, _ in everything)
    found.add("twice in the tubes", [what for what, count in times.items() if count > 1])
    none = History()
    for what, ident in everything:
        history = histories.get(what, none)
        if not history.letters["S"] and not what.startswith("damaged:"):
            found.add("never sent", [what])
        if history.letters["N"]:
            found.add("refused and there", [what])
        if history.deleted_at:
            found.add("settled and back", [what])
        if history.ident not in (0, ident):
            found.add("under another id", [what])
    for kind in ("never sent", "refused and there", "under another id", "out of order"):
        found.add(kind, ())
    ranks = [(seen[ident][1], ident) for _, ident in ready if ident in seen]
    found.add("out of order",
              [str(two[1]) for one, two in zip(ranks, ranks[1:]) if one > two])
    found.counts["left at the end"] += len(everything)
    return found
