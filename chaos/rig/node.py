"""One real server process: start it, wait for it, end it in any way, read its last words.

What lives here: `Node`, the conformance harness's server with a data directory that may lie on a
disk of its own, and a wrapper in front of the command. What does not: disks (disk.py), clients
(clients.py). Used by every part.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "conformance"))

from harness.server import SMALL_RESERVE, Potager, ServerFault  # noqa: E402

__all__ = ["Node", "ServerFault", "quiet_port"]

# Below the range that the system hands to outgoing connections, so that a restarted server
# finds its port free again.
PORTS = range(12_000, 30_000)
# Source: Linux, prctl(2).
PR_SET_PDEATHSIG = 1


def quiet_port() -> int:
    """A loopback port that nobody listens on and no outgoing connection is given."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def die_with_parent() -> None:
    """In a new process: end when the runner ends, however it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Node(Potager):
    """`potager serve` whose ready file and output stand in `folder`, beside the data."""

    def __init__(self, binary: Path, data_dir: Path, folder: Path, *extra: str,
                 wrapper: tuple[str, ...] = (), environment: dict[str, str] | None = None) -> None:
        """Prepare a server; `wrapper` is a command that the server is started through."""
        super().__init__(binary, data_dir, extra)
        self.folder = folder
        self.wrapper = wrapper
        self.environment = environment or {}
        self.port = quiet_port()
        self.tube_port = quiet_port()
        self.output = folder / "server.log"
        self.ready_file = folder / "ready.json"
        self.ready_s = 0.0
        self._began = 0.0

    def spawn(self, *more: str) -> None:
        """Start the process and return at once."""
        self.ready_file.unlink(missing_ok=True)
        with open(self.output, "ab") as log:
            self._began = time.monotonic()
            self.process = subprocess.Popen(
                [*self.wrapper, str(self.binary), "serve", "--data-dir", str(self.data_dir),
                 "--amqp", f"127.0.0.1:{self.port}", "--http", "127.0.0.1:0",
                 "--beanstalk", f"127.0.0.1:{self.tube_port}",
                 "--ready-file", str(self.ready_file), *self.extra, *more],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **SMALL_RESERVE, **self.environment},
                preexec_fn=die_with_parent,
            )

    def await_ready(self, limit_s: float = 20.0) -> float:
        """Wait for all doors; returns the seconds since the process was started."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise ServerFault(f"ended with {self.code()} before it was ready: {self.tail(3)}")
            try:
                doors = json.loads(self.ready_file.read_text())
            except (OSError, ValueError):
                time.sleep(0.002)
                continue
            self.ready_s = time.monotonic() - self._began
            self.http = doors.get("http", "")
            return self.ready_s
        raise ServerFault(f"not ready within {limit_s:g} s: {self.tail(3)}")

    def start(self, *more: str) -> float:
        """Start and wait; returns the seconds until ready."""
        self.spawn(*more)
        return self.await_ready()

    def code(self) -> int | None:
        """The exit status, None while it runs or before it was started."""
        return self.process.poll() if self.process else None

    def wait(self, limit_s: float) -> int | None:
        """Wait for the process to end by itself; None when it has not."""
        try:
            return self.process.wait(limit_s) if self.process else None
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """SIGKILL the server, and its wrapper with it."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def mark(self) -> int:
        """Where the output ends now; for `words_since`."""
        return self.output.stat().st_size if self.output.exists() else 0

    def words_since(self, mark: int) -> str:
        """What the server printed after `mark`."""
        with open(self.output, "rb") as log:
            log.seek(mark)
            return log.read().decode(errors="replace")

    def tail(self, lines: int) -> str:
        """The last lines of the output."""
        if not self.output.exists():
            return ""
        return " / ".join(self.output.read_text(errors="replace").splitlines()[-lines:])
