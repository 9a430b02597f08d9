#!/usr/bin/env python3
"""A beanstalkd as a peer: start, kill and stop it on loopback, with or without a log of its own.

What lives here: the life of one server that takes beanstalkd's options, so that every suite can be
judged against the original as well (`run.py --door beanstalk --peer beanstalkd`). The same class
starts the drop-in `potager beanstalkd`. What does not: tests, and `potager serve`
(harness/server.py). Called by run.py, beanstalk/record.py, beanstalk_differential/run.py and the
fixtures of our own suites.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.server import STOP_LIMIT_S, Server, free_port  # noqa: E402

# Set to test another build of the original than the one that is installed.
PATH_VARIABLE = "BEANSTALKD_PATH"


class PeerMissing(RuntimeError):
    """beanstalkd is not installed on this machine."""


def installation() -> str:
    """The original's program, or `PeerMissing` with what to type."""
    found = os.environ.get(PATH_VARIABLE) or shutil.which("beanstalkd")
    if not found:
        raise PeerMissing("no beanstalkd in the path: the peer needs Debian's package, "
                          "apt-get install beanstalkd")
    return found


class Beanstalkd(Server):
    """One process that takes beanstalkd's options. `options` come after address and port."""

    kind = "beanstalkd"

    def __init__(self, data_dir: Path, options: tuple[str, ...] = (), port: int = 0,
                 command: tuple[str, ...] = (), keeps_log: bool = False) -> None:
        """Prepare a server that keeps its port over restarts; nothing runs yet.

        `command` is what to start, the installed original if empty; `keeps_log` gives it `-b` with
        a folder below `data_dir`, and `-f 0`: no answer before the disk has it.
        """
        super().__init__(data_dir)
        self.command = command or (installation(),)
        self.options = options
        self.port = port or free_port()
        self.keeps_log = keeps_log

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"beanstalk://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start the process and return at once: nobody has connected to it."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        more = list(self.options)
        if self.keeps_log:
            folder = self.data_dir / "log"
            folder.mkdir(exist_ok=True)
            more += ["-b", str(folder), "-f", "0"]
        log = open(self.data_dir / "console.log", "ab")
        with log:
            self.process = subprocess.Popen(
                [*self.command, "-l", "127.0.0.1", "-p", str(self.port), *more],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def start(self) -> None:
        """Start it and wait until it accepts a connection."""
        from harness.server import START_LIMIT_S, await_port

        self.launch()
        assert self.process is not None
        await_port(self.port, START_LIMIT_S, self.process, "beanstalk")

    def drain(self) -> None:
        """Take no more jobs from now on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGUSR1)

    def stop(self) -> int:
        """SIGTERM. The original has no handler for it, so its code is -15."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL and reap."""
        self._end(signal.SIGKILL)

    def _end(self, how: int) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(how)
        try:
            return process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(STOP_LIMIT_S)
