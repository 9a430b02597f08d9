#!/usr/bin/env python3
"""Sends generated sequences of commands to beanstalkd and to Potager and compares every answer.

What lives here: the two servers. What does not: the sequences (generator.py), how they are played
(player.py), compared and reported (harness/comparison.py), what may differ (known.py). Called by
people.

    run.py --binary PATH --seed 1 --sequences 100      both servers are started and stopped
    run.py --binary PATH --replay FILE                 one sequence again, as printed
    run.py --original --seed 1 --sequences 100         the original with a second one of its kind
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

import generator  # noqa: E402
from beanstalkd import Beanstalkd, PeerMissing  # noqa: E402
from harness.comparison import Comparison, Names, arguments, compare  # noqa: E402
from harness.server import Potager  # noqa: E402
from known import KNOWN  # noqa: E402
from player import Side  # noqa: E402

NAMES = Names("beanstalkd", "Potager", "actions", tries=3)


def main() -> int:
    """Start the servers, compare, stop them."""
    parser = arguments(__doc__.splitlines()[0], NAMES)
    parser.add_argument("--original", action="store_true", help="compare beanstalkd with itself")
    chosen = parser.parse_args()

    def differences(theirs: int, ours: int) -> int:
        comparison = Comparison(Side, theirs, ours)
        return compare(comparison, chosen, generator.sequence, KNOWN, NAMES)

    if chosen.ports:
        return 1 if differences(*chosen.ports) else 0
    if not chosen.original and not (chosen.binary and chosen.binary.is_file()):
        raise SystemExit("differential: give --binary PATH, --original or --ports")
    with tempfile.TemporaryDirectory(prefix="differential-") as room:
        try:
            theirs = Beanstalkd(Path(room) / "beanstalkd")
        except PeerMissing as missing:
            print(f"differential: skipped, {missing}")
            return 1 if chosen.require else 0
        ours = (Beanstalkd(Path(room) / "second") if chosen.original else
                Potager(chosen.binary.resolve(), Path(room) / "potager", door="beanstalk"))
        try:
            theirs.start()
            ours.start()
            return 1 if differences(theirs.port, ours.port) else 0
        finally:
            theirs.stop()
            ours.stop()


if __name__ == "__main__":
    sys.exit(main())
