"""What the parts about shortages share: settings of a small log, the metrics, waiting.

What lives here: reading whether an alarm is on. What does not: raising one. Used by alarms.py and
alarms_beanstalk.py.
"""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

from rig.disk import Image
from rig.node import Node

MIB = 1 << 20
# A client is told within so long.
LIMIT_S = 1.0
SLACK_S = 0.2
LOG = ("--set", "limits.message_bytes_max=1 MiB", "--set", "limits.commit_bytes_max=1 MiB",
       "--set", "log.segment_bytes=9 MiB", "--set", "log.cache_bytes=4 MiB",
       "--set", "log.checkpoint_bytes=16 MiB")


def is_alarmed(node: Node) -> bool:
    """What the metrics say."""
    return any(line.startswith("potager_alarms_") and line.split()[-1] == "1"
               for line in _metrics(node))


def resident_bytes(node: Node) -> int:
    """Resident bytes of the server, as it reports them itself."""
    for line in _metrics(node):
        if line.startswith("process_resident_memory_bytes "):
            return int(float(line.split()[1]))
    return 0


def _metrics(node: Node) -> list[str]:
    with urllib.request.urlopen(f"http://{node.http}/metrics", timeout=2) as answer:
        return answer.read().decode().splitlines()


def ballast(image: Image, left_bytes: int) -> Path:
    """Somebody else's file that leaves so much of a disk free."""
    path = image.at / "ballast"
    with open(path, "wb") as file:
        size = image.free_bytes() - left_bytes
        while size > 0:
            size -= file.write(bytes(min(size, MIB)))
    return path


def wait(claim, limit_s: float, pause_s: float = 0.02):
    """Wait until `claim()` is truthy; what it last said."""
    deadline = time.monotonic() + limit_s
    while True:
        found = claim()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(pause_s)
