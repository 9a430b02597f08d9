"""Power cuts under AMQP clients: publishers, consumers, transactions and dead letters.

What lives here: which clients. What does not: cutting (rig/cuts.py), their work and its comparison
(rig/load.py).

Promise: P1, P2, P3, P5, P11, P12.
"""

from __future__ import annotations

from rig import cuts
from rig.load import Load
from rig.verdict import Verdict


def run(options, verdict: Verdict) -> None:
    """All cycles, then the control."""
    cuts.prove(options, verdict, Load)
