"""A control group that limits the memory of one server.

What lives here: making one, in version 2 or 1, whichever this machine lets us write; and the
command that starts a process inside. What does not: what must happen at the limit (alarms.py).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from rig.verdict import Skipped

# Puts itself into the group, then becomes the server.
ENTER = "import os,sys; open(sys.argv[1],'w').write(str(os.getpid())); " \
        "os.execv(sys.argv[2],sys.argv[2:])"
# Where each version keeps: its groups, the limit, the most that was used.
PLACES = (
    ("cgroup v2", Path("/sys/fs/cgroup"), "memory.max", "memory.peak"),
    ("cgroup v1", Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes",
     "memory.max_usage_in_bytes"),
)


class MemoryGroup:
    """A group of its own, removed at the end."""

    def __init__(self, limit_bytes: int) -> None:
        """Make it; raises `Skipped` when no version lets us."""
        reasons = []
        for self.kind, root, limit, self.most in PLACES:
            self.at = root / f"potager-chaos-{os.getpid()}"
            try:
                self.at.mkdir()
            except OSError as error:
                reasons.append(f"{self.kind}: {error.strerror}")
                continue
            try:
                if not (self.at / limit).exists():
                    raise OSError(0, "no memory controller")
                (self.at / limit).write_text(str(limit_bytes))
                return
            except OSError as error:
                reasons.append(f"{self.kind}: {error.strerror}")
                self.at.rmdir()
        raise Skipped(f"no memory limit can be set ({'; '.join(reasons)})")

    @property
    def wrapper(self) -> tuple[str, ...]:
        """In front of a command: start it inside."""
        return (sys.executable, "-c", ENTER, str(self.at / "cgroup.procs"))

    def most_bytes(self) -> int:
        """The most memory the group has used."""
        return int((self.at / self.most).read_text())

    def __enter__(self) -> MemoryGroup:
        """Nothing more to do."""
        return self

    def __exit__(self, *_) -> None:
        """Remove the group; its processes have ended."""
        for _ in range(50):
            try:
                self.at.rmdir()
                return
            except OSError:
                time.sleep(0.02)
