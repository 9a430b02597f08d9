"""One server under test: start it, find its address, measure it, stop or kill it.

What lives here: the process of a Potager server and what every server kind shares. What does
not: the originals (rabbitmq.py, beanstalkd.py), and anything that speaks a protocol for longer than
a greeting. Called by run.py, the originals and the fixtures of our own suites, which run in another
interpreter and import this folder by path.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

START_LIMIT_S = 20.0
STOP_LIMIT_S = 10.0
# The disk of whoever runs the suites may be fuller than a server in production would accept.
SMALL_RESERVE = {"POTAGER_ALARM__DISK_FREE_BYTES_MIN": "64 MiB"}
# By door: what a client says first, and how the server's answer begins.
GREETINGS = {
    "amqp": (b"AMQP\x00\x00\x09\x01", b"\x01"),
    "beanstalk": (b"list-tube-used\r\n", b"USING "),
    "work": (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             b"HTTP/1.1 200 "),
}


class ServerFault(RuntimeError):
    """The server did not start, did not stop, or ended by itself."""


def free_port() -> int:
    """A loopback port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int, door: str) -> bool:
    """Whether a server on `port` answers a client's first words as the door does."""
    said, expected = GREETINGS[door]
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
            probe.sendall(said)
            return probe.recv(len(expected), socket.MSG_WAITALL) == expected
    except OSError:
        return False


def answers_amqp(port: int) -> bool:
    """Whether an AMQP door listens on `port`."""
    return answers(port, "amqp")


def await_port(port: int, limit_s: float, process: subprocess.Popen, door: str) -> None:
    """Wait until `port` answers; fails at once when `process` ends before."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFault(f"the server ended with {process.returncode} before it was ready")
        if answers(port, door):
            return
        time.sleep(0.05)
    raise ServerFault(f"port {port} did not answer within {limit_s:.0f} s")


class Server:
    """What every kind of server offers. `port` is fixed after the first start."""

    kind = "none"
    version = "?"

    def __init__(self, data_dir: Path) -> None:
        """Remember where the data lies; starts nothing."""
        self.data_dir = data_dir
        self.process: subprocess.Popen | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        """The server's process id; 0 when it does not run."""
        return self.process.pid if self.process and self.process.poll() is None else 0

    @property
    def url(self) -> str:
        """Where clients connect, without a virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and return when the door listens."""
        raise NotImplementedError

    def stop(self) -> int:
        """Ask the server to end; returns its exit code."""
        raise NotImplementedError

    def kill(self) -> None:
        """SIGKILL; the data directory stays."""
        raise NotImplementedError


def rss_bytes(pid: int) -> int:
    """Resident memory of one process, from /proc; 0 when the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class Potager(Server):
    """`potager serve` on loopback, with a ready file instead of guessing."""

    kind = "potager"

    def __init__(self, binary: Path, data_dir: Path, extra: tuple[str, ...] = (),
                 door: str = "amqp") -> None:
        """Prepare a server whose `port` is the one of `door`; `extra` are arguments of `serve`."""
        super().__init__(data_dir)
        self.binary = binary
        self.extra = extra
        self.door = door
        self.amqp = ""
        self.http = ""
        self.beanstalk = ""

    def start(self) -> None:
        """Start it; after the first start it keeps its port, so clients find it again."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        ready = self.data_dir.parent / f"{self.data_dir.name}.ready"
        ready.unlink(missing_ok=True)
        log = open(self.data_dir.parent / f"{self.data_dir.name}.log", "ab")
        with log:
            self.process = subprocess.Popen(
                [str(self.binary), "serve", "--data-dir", str(self.data_dir),
                 *self._doors(), "--ready-file", str(ready), *self.extra],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **SMALL_RESERVE},
            )
        doors = self._await_ready(ready)
        # The work API is a part of the HTTP door.
        own = "http" if self.door == "work" else self.door
        self.port = int(doors[own].rsplit(":", 1)[1])
        self.amqp = doors.get("amqp", "")
        self.http = doors.get("http", "")
        self.beanstalk = doors.get("beanstalk", "")

    def _doors(self) -> list[str]:
        own, any_port = f"127.0.0.1:{self.port}", "127.0.0.1:0"
        if self.door == "work":
            return ["--http", own, "--amqp", any_port, "--beanstalk", any_port]
        if self.door == "amqp":
            return ["--http", any_port, "--amqp", own, "--beanstalk", any_port]
        return ["--http", any_port, "--amqp", "off", f"--{self.door}", own]

    def _await_ready(self, ready: Path) -> dict[str, str]:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                code = self.process.returncode if self.process else "?"
                raise ServerFault(f"{self.binary} ended with {code} before it was ready, see "
                                  f"{self.data_dir.name}.log")
            try:
                return json.loads(ready.read_text())
            except (OSError, ValueError):
                time.sleep(0.01)
        self.kill()
        raise ServerFault(f"{self.binary} was not ready within {START_LIMIT_S:.0f} s")

    def stop(self) -> int:
        """SIGTERM; a server that has not ended after 10 s is killed and reported."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFault(f"the server did not end within {STOP_LIMIT_S:.0f} s") from None
        self.process = None
        return code

    def kill(self) -> None:
        """SIGKILL and reap."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_LIMIT_S)
        self.process = None
