"""Power cuts under beanstalk clients: putters, and takers that delete, release, bury and kick.

What lives here: which clients. What does not: cutting (rig/cuts.py), their work (rig/jobs.py) and
its comparison (rig/job_audit.py).

Promise: P1, P5, P8, P11, P12.
"""

from __future__ import annotations

from rig import cuts
from rig.jobs import Crew
from rig.verdict import Verdict


def run(options, verdict: Verdict) -> None:
    """All cycles, then the control."""
    cuts.prove(options, verdict, Crew)
