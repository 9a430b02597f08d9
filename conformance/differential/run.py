#!/usr/bin/env python3
"""Sends generated sequences of AMQP methods to RabbitMQ and to Potager and compares every answer.

What lives here: the command line, the two servers, the report. What does not: the sequences
(generator.py), how they are played (player.py, compare.py), what may differ (known.py). Called by
people and by the conformance suites.

    run.py --binary PATH --seed 1 --sequences 100      both servers are started and stopped
    run.py --binary PATH --replay FILE                 one sequence again, as printed
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

import generator  # noqa: E402
import known  # noqa: E402
from compare import Comparison, Difference  # noqa: E402
from harness.server import Potager  # noqa: E402
from rabbitmq import PeerMissing, Rabbit  # noqa: E402


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, help="the potager binary")
    parser.add_argument("--ports", nargs=2, type=int, metavar=("RABBITMQ", "POTAGER"),
                        help="servers that run already, instead of --binary")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first sequence")
    parser.add_argument("--sequences", type=int, default=100)
    parser.add_argument("--length", type=int, default=40, help="actions of a sequence")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after this time")
    parser.add_argument("--replay", type=Path, help="a file with one sequence, as printed")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first difference")
    parser.add_argument("--texts", action="store_true", help="print texts of errors that differ")
    parser.add_argument("--require", action="store_true", help="fail when RabbitMQ is missing")
    return parser.parse_args()


def show(found: Difference, actions: list[dict], seed: int) -> None:
    """Print a difference and the sequence that leads to it."""
    print(f"\nDIFFERENCE, seed {seed}, after {len(actions)} actions; "
          "save the lines in braces and give the file to --replay:")
    for action in actions:
        print(json.dumps(action))
    for name, (theirs, ours) in found.parts.items():
        print(f"  {name}\n    RabbitMQ: {theirs}\n    Potager:  {ours}")
    print(f"  texts: RabbitMQ {found.theirs_text}\n         Potager  {found.ours_text}", flush=True)


def sequences(chosen: argparse.Namespace):
    """Seeds and their sequences."""
    if chosen.replay:
        lines = chosen.replay.read_text().splitlines()
        yield 0, [json.loads(line) for line in lines if line.startswith("{")]
        return
    began = time.monotonic()
    for seed in range(chosen.seed, chosen.seed + chosen.sequences):
        if chosen.seconds and time.monotonic() - began > chosen.seconds:
            return
        yield seed, generator.sequence(seed, chosen.length)


def compare(chosen: argparse.Namespace, ports: tuple[int, int]) -> int:
    """Play all sequences; the number of differences that nobody knows."""
    comparison, unknown, count, names = Comparison(*ports), 0, 0, Counter()
    began = time.monotonic()
    for seed, actions in sequences(chosen):
        count += 1
        found = comparison.play(actions)
        if found is None:
            continue
        name = known.name_of(found)
        if name:
            names[name] += 1
            continue
        unknown += 1
        is_known = lambda one: known.name_of(one) is not None  # noqa: E731
        shorter, last = comparison.shrink(actions, found, is_known)
        show(last, shorter, seed)
        if not chosen.go_on:
            break
    if chosen.texts:
        for (theirs, ours), times in sorted(comparison.texts.items()):
            print(f"text, {times} times\n  RabbitMQ: {theirs}\n  Potager:  {ours}")
    listed = ", ".join(f"{name} {times}" for name, times in sorted(names.items())) or "none"
    print(f"differential: {count} sequences, {comparison.methods} methods on both servers, "
          f"{unknown} differences, known: {listed} ({time.monotonic() - began:.0f} s)")
    return unknown


def main() -> int:
    """Start the servers, compare, stop them."""
    chosen = arguments()
    if chosen.ports:
        return 1 if compare(chosen, tuple(chosen.ports)) else 0
    if not chosen.binary or not chosen.binary.is_file():
        raise SystemExit("differential: give --binary PATH of a built potager, or --ports")
    with tempfile.TemporaryDirectory(prefix="differential-") as room:
        try:
            theirs = Rabbit(Path(room) / "rabbitmq")
        except PeerMissing as missing:
            print(f"differential: skipped, {missing}")
            return 1 if chosen.require else 0
        ours = Potager(chosen.binary.resolve(), Path(room) / "potager")
        try:
            theirs.start()
            ours.start()
            return 1 if compare(chosen, (theirs.port, ours.port)) else 0
        finally:
            theirs.stop()
            ours.stop()


if __name__ == "__main__":
    sys.exit(main())
