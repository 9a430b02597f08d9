#!/usr/bin/env python3
"""Conformance: unmodified clients and their own test suites against a server.

What lives here: the command line and the order of things. What does not: the table of suites
(harness/suites.py), how one is run (harness/runner.py) and judged (harness/verdict.py).
Called by people and by `cargo x conform`; needs Python 3.11 and, for the first run, PyPI.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if sys.version_info < (3, 11):
    raise SystemExit("conformance: Python 3.11 or newer is needed")

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import environment, suites  # noqa: E402
from harness.runner import Target, run_suite  # noqa: E402
from harness.verdict import Verdict  # noqa: E402

DETAIL_LINES = 12
# By door: the server whose protocol it is, as a peer.
ORIGINALS = {"amqp": "rabbitmq", "beanstalk": "beanstalkd"}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--binary", type=Path, help="the potager binary to test")
    what.add_argument("--peer", choices=sorted(ORIGINALS.values()),
                      help="test Debian's package of the original instead")
    what.add_argument("--url", help="test a running server, amqp://host:port")
    parser.add_argument("--server", choices=["potager", *sorted(ORIGINALS.values())],
                        help="what runs at --url (decides which failures are known), default the "
                             "door's original")
    parser.add_argument("--door", default="amqp", help="front door, default amqp")
    parser.add_argument("--suite", action="append", default=[], help="only this suite (repeat)")
    parser.add_argument("--only", default="", metavar="EXPRESSION", help="pytest's -k")
    parser.add_argument("--jobs", type=int, default=2, help="suites at once, default 2")
    parser.add_argument("--list", action="store_true", help="list the suites and end")
    parser.add_argument("--keep", action="store_true", help="keep the data of good suites too")
    return parser.parse_args()


def target(chosen: argparse.Namespace) -> Target:
    """What to test, from the command line."""
    original = ORIGINALS.get(chosen.door, "")
    if chosen.url:
        return Target(chosen.server or original, chosen.door, url=chosen.url)
    if chosen.peer:
        if chosen.peer != original:
            raise SystemExit(f"conformance: the original of the door {chosen.door} is {original}")
        return Target(chosen.peer, chosen.door)
    if not chosen.binary:
        raise SystemExit(f"conformance: give --binary PATH, --peer {original} or --url ...")
    if not chosen.binary.is_file():
        raise SystemExit(f"conformance: {chosen.binary} does not exist; build it first, "
                         "cargo build --release")
    return Target("potager", chosen.door, binary=chosen.binary.resolve())


def show(found: Verdict) -> None:
    """Print a suite's line, and below it only what nobody expected."""
    print(found.line(), flush=True)
    for test, detail in found.failures.items():
        print(f"  FAILED {test}")
        for line in detail.splitlines()[-DETAIL_LINES:]:
            print(f"    {line}")
    for test in found.surprises:
        print(f"  UNEXPECTED PASS {test}")
    sys.stdout.flush()


def report(found: list[Verdict], kind: str, seconds: float) -> Path:
    """Write the machine-readable summary."""
    path = environment.WORK / "report.json"
    path.write_text(json.dumps({
        "server": kind, "seconds": round(seconds, 1),
        "suites": [{
            "suite": one.suite, "good": one.is_good, "passed": one.passed,
            "failed": sorted(one.failures), "known": one.known, "skipped": one.skips,
            "xfailed": one.xfailed, "unexpected_passes": one.surprises,
            "seconds": round(one.seconds, 1),
        } for one in found],
    }, indent=1) + "\n")
    return path


def main() -> int:
    """Run the chosen suites; 0 only when all went as expected."""
    chosen = arguments()
    rows = suites.chosen(chosen.suite, chosen.door)
    if chosen.list:
        for suite in rows:
            print(f"{suite.name:28} {suite.about} (limit {suite.limit_s} s)")
        return 0
    if not rows:
        raise SystemExit(f"conformance: no suites for the door {chosen.door}")
    aim = target(chosen)
    environment.venv_python()
    for suite in rows:
        suite.folder()
    began = time.monotonic()
    found: list[Verdict] = []
    # Longest first, so that the last one to start is a short one. A foreign server is shared by all
    # suites, and some use fixed names.
    rows.sort(key=lambda suite: -suite.limit_s)
    with ThreadPoolExecutor(1 if chosen.url else max(1, chosen.jobs)) as pool:
        for one in pool.map(lambda s: run_suite(s, aim, chosen.keep, chosen.only), rows):
            show(one)
            found.append(one)
    path = report(found, aim.kind, time.monotonic() - began)
    good = all(one.is_good for one in found)
    print(f"conformance against {aim.kind}: {'as expected' if good else 'NOT as expected'}, "
          f"{time.monotonic() - began:.0f} s, {path}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
