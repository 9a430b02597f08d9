"""Plays a sequence on two servers, action by action, and finds the first difference.

What lives here: playing, looking again until both have come to rest, what counts as a difference,
making a sequence shorter. What does not: which differences are known (known.py). Called by run.py.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from player import Side

# Looking again after so many seconds: what servers do in the background takes its time.
PATIENCE_S = (0.002, 0.01, 0.03, 0.1, 0.25, 0.5, 0.8)
# A shorter sequence is looked for in so many runs.
SHRINK_RUNS = 60


@dataclass
class Difference:
    """The first action after which the two could be told apart."""

    at: int
    action: dict
    theirs: dict
    ours: dict
    theirs_text: list[str]
    ours_text: list[str]

    @property
    def parts(self) -> dict[str, tuple]:
        """What differs: name -> (theirs, ours)."""
        names = sorted(self.theirs.keys() | self.ours.keys())
        pairs = {name: (self.theirs.get(name), self.ours.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


class Comparison:
    """Two servers, the original first."""

    def __init__(self, theirs: int, ours: int, is_one_server: bool = False) -> None:
        """Remember both ports. With one server for both sides, names are kept apart."""
        self.ports = (theirs, ours)
        self.is_one_server = is_one_server
        # What the second side does instead of an action; for testing the comparison itself.
        self.tamper = lambda action: action
        self.runs = itertools.count()
        self.methods = 0
        self.texts: dict[tuple[str, str], int] = {}
        # Names must not meet those of another run on the same servers.
        self.stem = f"d{time.time_ns() % 10**9:x}"

    def play(self, actions: list[dict]) -> Difference | None:
        """The first difference of a sequence, if there is one."""
        prefix = f"{self.stem}-{next(self.runs)}-"
        sides = []
        try:
            for number, port in enumerate(self.ports):
                own = f"{prefix}{number}-" if self.is_one_server else prefix
                sides.append(Side(port, own))
            for at, action in enumerate(actions):
                found = self._step(sides, at, action)
                if found:
                    return found
        finally:
            for side in sides:
                side.end()
        return None

    def _step(self, sides: list[Side], at: int, action: dict) -> Difference | None:
        self.methods += 1
        for side, does in zip(sides, (action, self.tamper(action))):
            side.begin()
            side.act(does)
        theirs, ours = (side.look() for side in sides)
        for pause in PATIENCE_S:
            if theirs == ours:
                break
            time.sleep(pause)
            theirs, ours = (side.look() for side in sides)
        if theirs != ours:
            return Difference(at, action, theirs, ours, sides[0].texts, sides[1].texts)
        for pair in zip(sides[0].texts, sides[1].texts):
            if pair[0] != pair[1]:
                self.texts[pair] = self.texts.get(pair, 0) + 1
        return None

    def shrink(self, actions: list[dict], found: Difference, is_known) -> tuple[list, Difference]:
        """A shorter sequence that ends in a difference which is not known either."""
        best, last = actions[:found.at + 1], found
        runs = 0
        width = max(1, len(best) // 2)
        while width and runs < SHRINK_RUNS:
            at = 0
            while at < len(best) - 1 and runs < SHRINK_RUNS:
                shorter = best[:at] + best[at + width:] if at + width < len(best) else None
                if shorter is None:
                    break
                runs += 1
                again = self.play(shorter)
                if again and not is_known(again):
                    best, last = shorter[:again.at + 1], again
                else:
                    at += width
            width //= 2
        return best, last
