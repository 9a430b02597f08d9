"""What the machine says about a server: processor time and memory of a process with all its children.

What lives here: reading /proc, waiting for quiet, naming the machine. What does not: servers
(conformance/harness) and rows (compare.py).
"""

from __future__ import annotations

import os
import platform
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
