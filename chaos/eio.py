"""Failing disk operations: the Nth flush, write or rename of a running server fails.

What lives here: which operation of which thread fails, and what must follow. What does not: the
load (rig/load.py), the disk (rig/disk.py). The failure is injected by strace; the power is cut
right after the server has ended, so that whatever it confirmed after a failed flush would be
missing at the audit.

Promise: P1, P12.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from rig import audit
from rig.disk import Image
from rig.load import Load, small_log
from rig.node import Node, ServerFault
from rig.verdict import Skipped, Verdict

IMAGE_MIB = 384
STOP_LIMIT_S = 5.0
STORAGE_FAULT = 3
COMMIT, BACKGROUND = "journal-commit", "journal-backgro"


@dataclass(frozen=True)
class Case:
    """One failure: which call of which thread, with which error, the how manyeth time."""

    thread: str
    call: str
    error: str
    when: str
    stops: bool = True

    def __str__(self) -> str:
        """As the report names it."""
        return f"{self.error} from {self.call} number {self.when} of {self.thread}"


CASES = (
    Case(COMMIT, "fdatasync", "EIO", "1"),
    Case(COMMIT, "fdatasync", "EIO", "7"),
    Case(COMMIT, "fdatasync", "EIO", "60"),
    Case(COMMIT, "pwrite64", "EIO", "1"),
    Case(COMMIT, "pwrite64", "EIO", "25"),
    Case(COMMIT, "pwrite64", "ENOSPC", "5"),
    Case(BACKGROUND, "fdatasync", "EIO", "1"),
    Case(BACKGROUND, "fdatasync", "EIO", "4"),
    Case(BACKGROUND, "fsync", "EIO", "2"),
    Case(BACKGROUND, "pwrite64", "EIO", "3"),
    Case(BACKGROUND, "rename", "EIO", "1"),
    Case(BACKGROUND, "pwrite64", "ENOSPC", "3..8", stops=False),
)


def run(options, verdict: Verdict) -> None:
    """Every case on one disk, each with an audit."""
    why = lacking()
    if why:
        raise Skipped(why)
    folder = options.folder
    image = Image(folder, IMAGE_MIB)
    node = Node(options.binary, image.data_dir, folder, *small_log())
    found = audit.Findings()
    try:
        node.start()
        Load.prepare(node)
        for number, case in enumerate(CASES, 1):
            load = Load(node, folder, f"c{number}")
            try:
                fail(case, image, node, verdict)
                found.merge(load.audited())
            finally:
                load.dismiss()
    finally:
        node.kill()
        image.unmount()
    for kind, ids in sorted(found.wrong.items()):
        verdict.none_of(ids, f"none {kind}")
    for name, count in sorted(found.counts.items()):
        verdict.figure(name, count)


def lacking() -> str:
    """Why strace cannot inject failures here; empty when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=1", "true"],
        capture_output=True, text=True, check=False)
    return f"strace cannot trace: {tried.stderr.strip()}" if tried.returncode else ""


def fail(case: Case, image: Image, node: Node, verdict: Verdict) -> None:
    """Inject one failure under load, judge the end, cut the power, start again."""
    time.sleep(random.uniform(0.3, 0.8))
    mark = node.mark()
    trace = node.folder / "trace"
    trace.unlink(missing_ok=True)
    tracer = subprocess.Popen(
        ["strace", "-p", str(thread_of(node.pid, case.thread)), "-o", str(trace),
         "-e", f"trace={case.call}",
         "-e", f"inject={case.call}:error={case.error}:when={case.when}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if not verdict.claim(injected(trace), f"{case}: it happened under load"):
            return
        if case.stops:
            began = time.monotonic()
            code = node.wait(STOP_LIMIT_S)
            took = time.monotonic() - began
            last = node.words_since(mark).strip().splitlines()[-1:]
            verdict.claim(code == STORAGE_FAULT, f"{case}: exit code 3, {took * 1e3:.0f} ms later",
                          f"{code}, {last}")
            verdict.claim(names(last, image.data_dir), f"{case}: file and operation are named",
                          last)
            after = trace.read_text().partition("(INJECTED)")[2]
            verdict.claim(case.call not in after, f"{case}: it is not tried again", after[-300:])
        else:
            time.sleep(1)
            verdict.claim(node.code() is None, f"{case}: the server goes on", node.tail(1))
    finally:
        tracer.terminate()
        tracer.wait(10)
    image.cut()
    node.kill()
    image.power_up()
    try:
        node.start()
    except ServerFault as fault:
        verdict.claim(False, f"{case}: it starts again", fault)
        raise


def thread_of(pid: int, name: str) -> int:
    """The thread of a process by its name."""
    for comm in Path(f"/proc/{pid}/task").glob("*/comm"):
        if comm.read_text().strip() == name:
            return int(comm.parent.name)
    raise RuntimeError(f"process {pid} has no thread {name}")


def injected(trace: Path, limit_s: float = 20.0) -> bool:
    """Wait until strace has made a call fail."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if trace.exists() and "(INJECTED)" in trace.read_text():
            return True
        time.sleep(0.005)
    return False


def names(last: list[str], folder: Path) -> bool:
    """Whether the last words say what was being done to which file."""
    told = rf"failed to (\w+ )+{re.escape(str(folder))}(/[\w.-]+)?: .*error"
    return bool(last) and re.search(told, last[0]) is not None
