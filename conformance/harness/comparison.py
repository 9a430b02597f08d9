"""Plays a sequence on two servers, action by action, and finds the first difference.

What lives here: playing, looking again until both have come to rest, what counts as a difference,
making a sequence shorter, and the loop over many sequences with its report. What does not: a
protocol. Each comparison brings its sequences (generator.py), its way to play them on one server
(player.py: `Side`) and the differences that are known (known.py). Called by differential/ and
beanstalk_differential/.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Looking again after so many seconds: what servers do in the background takes its time.
PATIENCE_S = (0.002, 0.01, 0.03, 0.1, 0.25, 0.5, 0.8)
# A shorter sequence is looked for in so many runs.
SHRINK_RUNS = 60


class Side(Protocol):
    """One server, and the connections of one sequence to it."""

    texts: list[str]

    def begin(self) -> None:
        """Forget what the last action led to."""

    def act(self, action: dict) -> None:
        """Send one action and wait until the server has dealt with it."""

    def look(self) -> dict:
        """What could be seen since `begin`, and the state of things now."""

    def end(self) -> None:
        """Drop the connections and delete what the sequence made."""


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

    def __init__(self, make_side: Callable[[int, str], Side], theirs: int, ours: int,
                 is_one_server: bool = False) -> None:
        """Remember both ports. With one server for both sides, names are kept apart."""
        self.make_side = make_side
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
                sides.append(self.make_side(port, own))
            for at, action in enumerate(actions):
                found = self._step(sides, at, action)
                if found:
                    return found
        finally:
            for side in sides:
                side.end()
        return None

    def lasting(self, actions: list[dict], tries: int) -> Difference | None:
        """The difference of a sequence that shows each time it is played, so often."""
        found = None
        for _ in range(tries):
            found = self.play(actions)
            if found is None:
                break
        return found

    def _step(self, sides: list[Side], at: int, action: dict) -> Difference | None:
        self.methods += 1
        # Time goes by on both at once.
        time.sleep(action.get("sleep_s", 0.0))
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


@dataclass(frozen=True)
class Known:
    """One difference that may be there: its name, why, and what it looks like."""

    name: str
    reason: str
    is_it: Callable[[Difference], bool]


def name_among(known: tuple[Known, ...], found: Difference) -> str | None:
    """The known difference that this is; `None`: nobody knows it."""
    for one in known:
        if one.is_it(found):
            return one.name
    return None


@dataclass(frozen=True)
class Names:
    """How the servers and what they are sent are called; how often a difference must show."""

    theirs: str
    ours: str
    unit: str
    tries: int = 1


def arguments(description: str, names: Names) -> argparse.ArgumentParser:
    """The options that every comparison has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--binary", type=Path, help="the potager binary")
    parser.add_argument("--ports", nargs=2, type=int,
                        metavar=(names.theirs.upper(), names.ours.upper()),
                        help="servers that run already, instead of --binary")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first sequence")
    parser.add_argument("--sequences", type=int, default=100)
    parser.add_argument("--length", type=int, default=40, help="actions of a sequence")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after this time")
    parser.add_argument("--replay", type=Path, help="a file with one sequence, as printed")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first difference")
    parser.add_argument("--texts", action="store_true", help="print texts of errors that differ")
    parser.add_argument("--require", action="store_true",
                        help=f"fail when {names.theirs} is missing")
    return parser


def show(found: Difference, actions: list[dict], seed: int, names: Names) -> None:
    """Print a difference and the sequence that leads to it."""
    print(f"\nDIFFERENCE, seed {seed}, after {len(actions)} actions; "
          "save the lines in braces and give the file to --replay:")
    for action in actions:
        print(json.dumps(action))
    width = max(len(names.theirs), len(names.ours))
    for name, (theirs, ours) in found.parts.items():
        print(f"  {name}\n    {names.theirs + ':':{width + 1}} {theirs}"
              f"\n    {names.ours + ':':{width + 1}} {ours}")
    if found.theirs_text or found.ours_text:
        print(f"  texts: {names.theirs} {found.theirs_text}\n"
              f"         {names.ours} {found.ours_text}")


def sequences(chosen: argparse.Namespace,
              generate: Callable[[int, int], list[dict]]) -> Iterator[tuple[int, list[dict]]]:
    """Seeds and their sequences."""
    if chosen.replay:
        lines = chosen.replay.read_text().splitlines()
        yield 0, [json.loads(line) for line in lines if line.startswith("{")]
        return
    began = time.monotonic()
    for seed in range(chosen.seed, chosen.seed + chosen.sequences):
        if chosen.seconds and time.monotonic() - began > chosen.seconds:
            return
        yield seed, generate(seed, chosen.length)


def compare(comparison: Comparison, chosen: argparse.Namespace,
            generate: Callable[[int, int], list[dict]], known: tuple[Known, ...],
            names: Names) -> int:
    """Play all sequences; the number of differences that nobody knows.

    Each must show `names.tries` times: more than once where time plays a part.
    """
    unknown, count, seen = 0, 0, Counter()
    began = time.monotonic()
    for seed, actions in sequences(chosen, generate):
        count += 1
        found = comparison.lasting(actions, names.tries)
        if found is None:
            continue
        name = name_among(known, found)
        if name:
            seen[name] += 1
            continue
        unknown += 1
        is_known = lambda one: name_among(known, one) is not None  # noqa: E731
        shorter, last = comparison.shrink(actions, found, is_known)
        show(last, shorter, seed, names)
        if not chosen.go_on:
            break
    if chosen.texts:
        for (theirs, ours), times in sorted(comparison.texts.items()):
            print(f"text, {times} times\n  {names.theirs}: {theirs}\n  {names.ours}: {ours}")
    listed = ", ".join(f"{name} {times}" for name, times in sorted(seen.items())) or "none"
    print(f"differential: {count} sequences, {comparison.methods} {names.unit} on both servers, "
          f"{unknown} differences, known: {listed} ({time.monotonic() - began:.0f} s)")
    return unknown
