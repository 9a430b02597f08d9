"""Runs one suite against one server and hands back its verdict.

What lives here: the server a suite gets, the pytest process, its time limit and its end. What
does not: which suites exist (suites.py) and what a result means (verdict.py). Called by run.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import environment, verdict
from .server import Potager, Server, ServerFault, answers
from .suites import Suite

PLUGIN = environment.HERE / "plugin"


@dataclass(frozen=True)
class Target:
    """What the suites are pointed at: a binary, an original, or a server somebody else runs."""

    kind: str
    door: str
    binary: Path | None = None
    url: str = ""

    def server(self, data_dir: Path) -> Server | None:
        """A fresh server for one suite; `None` when somebody else runs it."""
        if self.kind == "potager" and self.binary:
            return Potager(self.binary, data_dir, door=self.door)
        if self.kind == "rabbitmq" and not self.url:
            from rabbitmq import Rabbit

            return Rabbit(data_dir)
        if self.kind == "beanstalkd" and not self.url:
            from beanstalkd import Beanstalkd

            return Beanstalkd(data_dir)
        return None


def run_suite(suite: Suite, target: Target, keep: bool, only: str) -> verdict.Verdict:
    """Start a server, run the suite against it, stop the server, judge."""
    room = environment.WORK / "run" / suite.name.replace("/", "-")
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(parents=True)
    server = target.server(room / "data")
    began = time.monotonic()
    end = ""
    try:
        if server:
            server.start()
        end = _pytest(suite, target, server, room, only)
    except ServerFault as fault:
        end = str(fault)
    finally:
        end = "; ".join(part for part in (end, _stop(server, target.door)) if part)
    seconds = time.monotonic() - began
    found = verdict.judge(suite.name, target.kind, room / "record.jsonl", seconds, end)
    if only:
        found.surprises = [name for name in found.surprises if "not in the suite" not in name]
    if found.is_good and not keep:
        shutil.rmtree(room / "data", ignore_errors=True)
    return found


def _stop(server: Server | None, door: str) -> str:
    """Stop the server; says what was wrong with its life or its end."""
    if server is None:
        return ""
    if not server.pid:
        code = server.process.returncode if server.process else "?"
        server.stop()
        return f"the server ended by itself with {code}"
    if not answers(server.port, door):
        server.kill()
        return "the server no longer answered after the suite"
    try:
        code = server.stop()
    except ServerFault as fault:
        return str(fault)
    if code and server.kind == "potager":
        return f"the server's exit code after SIGTERM was {code}"
    return ""


def _pytest(suite: Suite, target: Target, server: Server | None, room: Path, only: str) -> str:
    """Run pytest in its own process group; the answer is empty or says what went wrong."""
    python = environment.venv_python()
    folder = suite.folder()
    port = server.port if server else int(target.url.rsplit(":", 1)[1].strip("/"))
    command = [
        str(python), "-m", "pytest", "-p", "conformance_recorder", "-p", "no:cacheprovider",
        "-q", "--tb=short", "-rN", *suite.arguments, *(["-k", only] if only else []),
    ]
    settings = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
        "PYTHONPATH": str(PLUGIN),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": f"{python.parent}:{os.environ.get('PATH', '')}",
        "CONFORMANCE_RECORD": str(room / "record.jsonl"),
        "CONFORMANCE_SERVER": target.kind,
        "CONFORMANCE_PORT": str(port),
        "CONFORMANCE_PID": str(server.pid if server else 0),
        "CONFORMANCE_ROOM": str(room),
        "CONFORMANCE_BINARY": str(target.binary or ""),
        "CONFORMANCE_OWNED": "1" if server else "",
        **suite.settings(port),
    }
    with open(room / "pytest.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=settings, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )
        try:
            code = process.wait(suite.limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(process)
    if code is None:
        return f"killed after its limit of {suite.limit_s} s"
    return "" if code in (0, 1) else f"pytest ended with {code}, see {room.name}/pytest.log"


def _end_group(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
