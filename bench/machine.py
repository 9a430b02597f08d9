"""What the machine says about a server: processor time and memory of a process with all its children.

What lives here: reading /proc, waiting for quiet, naming the machine. What does not: servers
(conformance/harness) and rows (compare.py).
"""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
QUIET_SHARE = 0.03
QUIET_LIMIT_S = 30.0


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process family has used."""
    stats = [_stat(one) for one in family(pid)]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats if fields) / TICKS


def rss_bytes(pid: int) -> int:
    """Resident memory of a process family."""
    total = 0
    for one in family(pid):
        try:
            for line in Path(f"/proc/{one}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total


def await_quiet(pid: int) -> None:
    """Wait until a server has stopped working off what the last run left."""
    deadline = time.monotonic() + QUIET_LIMIT_S
    while time.monotonic() < deadline:
        before, began = cpu_s(pid), time.monotonic()
        time.sleep(0.5)
        if (cpu_s(pid) - before) / (time.monotonic() - began) < QUIET_SHARE:
            return


def busy_s() -> float:
    """Seconds that all processors together have worked since the system started."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS


class Others:
    """How much of the machine everybody else used while something was measured."""

    def __init__(self, pids: list[int]) -> None:
        """Begin; `pids` are the servers, whose work is not somebody else's."""
        self.pids = pids
        self.began = time.monotonic()
        self.before = self._spent()

    def _spent(self) -> float:
        mine = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime
        return busy_s() - own - sum(cpu_s(pid) for pid in self.pids)

    def share(self) -> float:
        """Of all processors, 0 to 1."""
        took = (time.monotonic() - self.began) * (os.cpu_count() or 1)
        return max(0.0, self._spent() - self.before) / took


def describe() -> str:
    """The machine in one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB, Linux {platform.release()}"


def load() -> float:
    """The load average of the last minute: how much others disturb."""
    return os.getloadavg()[0]


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rsplit(")", 1)[1].split()
