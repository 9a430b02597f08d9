#!/usr/bin/env python3
"""Chaos: the real server and real clients, while power, disks, memory and processes fail.

What lives here: the command line and the order of things. What does not: any fault (one module
per part) and what they stand on (rig/). Called by people and by `cargo x chaos`; needs Python
3.11, and root for the parts that mount disks: what the machine forbids is said and skipped, and
fails only with --require.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
REPORTS = ROOT / "target" / "chaos"
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(ROOT / "conformance"))

from harness import environment  # noqa: E402
from rig import disk  # noqa: E402
from rig.verdict import Skipped, Verdict  # noqa: E402

PARTS = {
    "power": "power cuts under AMQP clients, compared by id",
    "power_beanstalk": "the same under beanstalk clients",
    "eio": "failing flushes, writes and renames",
    "alarms": "disk full and memory short: publishers wait, the rest goes on",
    "alarms_beanstalk": "the same seen through the beanstalk door: puts are refused at once",
    "recovery": "ready within 5 s after kill -9 with a million messages",
    "poison": "a message that kills its consumers ends among the dead letters",
    "stop": "orderly stops lose no reply, and nobody can hold them up",
    "storm": "ten thousand clients come back at once",
    "timers": "a million delayed and expiring messages over two crashes",
    "canary": "secrets show in no log, answer, metric, file or process list",
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", nargs="*", metavar="PART", help="which parts; all when none:\n" +
                        "\n".join(f"  {name:<16} {what}" for name, what in PARTS.items()))
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "potager",
                        help="the server, default target/release/potager")
    parser.add_argument("--cycles", type=int, default=0, help="power cuts, default 200")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32),
                        help="seed of the random moments")
    parser.add_argument("--require", action="store_true",
                        help="fail when the machine forbids a method, instead of skipping it")
    parser.add_argument("--keep", action="store_true", help="keep logs and ledgers")
    chosen = parser.parse_args()
    unknown = [part for part in chosen.part if part not in PARTS]
    if unknown:
        parser.error(f"no part named {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not chosen.binary.is_file():
        parser.error(f"{chosen.binary} does not exist; build it first, cargo build --release")
    chosen.binary = chosen.binary.resolve()
    return chosen


def with_clients() -> None:
    """Go on in the interpreter that has the pinned clients."""
    python = environment.venv_python()
    if Path(sys.prefix) != python.parent.parent:
        os.execv(python, [str(python), *sys.argv])


def run_part(name: str, chosen: argparse.Namespace) -> bool:
    """One part in a folder of its own; whether it passed."""
    print(f"{name}: {PARTS[name]}", flush=True)
    verdict = Verdict(name)
    chosen.folder = Path(tempfile.mkdtemp(prefix=f"potager-{name}-"))
    try:
        importlib.import_module(name).run(chosen, verdict)
    except Skipped as why:
        verdict.skip(str(why))
    except Exception as error:  # a part that breaks is a finding, and the others go on
        traceback.print_exc()
        verdict.claim(False, "the part ran to its end", repr(error))
    verdict.write(REPORTS)
    passed = verdict.is_good and not (chosen.require and verdict.skipped)
    if chosen.keep or not passed:
        print(f"         logs and ledgers: {chosen.folder}")
    else:
        shutil.rmtree(chosen.folder, ignore_errors=True)
    print(f"{name}: {'ok' if passed else 'FAILED'}\n", flush=True)
    return passed


def main() -> int:
    """All parts that were asked for; 0 when all passed."""
    chosen = arguments()
    with_clients()
    disk.enter_private_mounts()
    print(f"seed {chosen.seed}")
    failed = [part for part in chosen.part or PARTS if not run_part(part, chosen)]
    outcome = f"FAILED: {', '.join(failed)}" if failed else "ok"
    print(f"chaos: {outcome}; reports in {REPORTS}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
