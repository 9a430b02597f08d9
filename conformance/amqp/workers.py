"""Real Celery processes for the tests: workers, `celery events`, and the notebook they write.

What lives here: `Garden`, one test's application with its workers. What does not: the tasks
(apps/garden.py). Used through the fixtures in test_celery*.py's conftest section below.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apps import garden
from support import until

APPS = Path(__file__).resolve().parent / "apps"
START_LIMIT_S = 40.0
# One clear rule for every app here: a worker says "ready." once it consumes.
READY = " ready."


class Process:
    """One `celery ...` process in a group of its own, with its output in a file."""

    def __init__(self, arguments: list[str], settings: dict[str, str], log: Path, folder: Path):
        """Start it."""
        self.log = log
        self._out = open(log, "ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "celery", *arguments], cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1",
                 "C_FORCE_ROOT": "1", **settings},
            stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._out, start_new_session=True,
        )

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def await_text(self, words: str, limit_s: float = START_LIMIT_S, times: int = 1) -> None:
        """Wait until the output holds `words`."""
        def there():
            assert self.process.poll() is None, f"ended: {self.text[-2000:]}"
            return self.text.count(words) >= times

        try:
            until(there, limit_s, f"{words!r} in {self.log.name}", 0.1)
        except AssertionError as failed:
            raise AssertionError(f"{failed}\n{self.text[-2000:]}") from None

    def kill(self) -> None:
        """SIGKILL to the whole group: the main process and its pool at once."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self._out.close()

    def stop(self, limit_s: float = 20) -> int:
        """A warm shutdown; returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(limit_s)
        finally:
            self.kill()


class Garden:
    """One test's Celery app: a queue of its own, a notebook, and its processes."""

    def __init__(self, port: int, room: Path, name, **settings) -> None:
        """Make the app; `settings` are Celery's."""
        self.room = room
        self.name = name
        self.broker = f"pyamqp://guest:guest@127.0.0.1:{port}//"
        self.queue = settings.pop("task_default_queue", None) or name("celery")
        self.settings = {"task_default_queue": self.queue, "worker_prefetch_multiplier": 1,
                         **settings}
        self.notebook = room / "notes.txt"
        self.notebook.touch()
        self.app = garden.make(self.broker, **self.settings)
        self.processes: list[Process] = []

    def task(self, name: str):
        """A task by its short name."""
        return self.app.tasks[f"garden.{name}"]

    def process(self, *arguments: str, app: str = "garden", folder: Path = APPS,
                **more: str) -> Process:
        """Start `celery -A app ...`."""
        log = self.room / f"celery{len(self.processes)}.log"
        one = Process(["-A", app, *arguments], {
            "CONF_BROKER": self.broker, "CONF_SETTINGS": json.dumps(self.settings),
            "CONF_NOTES": str(self.notebook), **more,
        }, log, folder)
        self.processes.append(one)
        return one

    def worker(self, *arguments: str, pool: str = "prefork", count: int = 2,
               await_ready: bool = True, **more) -> Process:
        """Start a worker with a node name of its own and wait until it consumes."""
        node = f"{self.name()}@local"
        one = self.process("worker", "-n", node, "-P", pool, "-c", str(count), "-l", "INFO",
                           *arguments, **more)
        one.node = node
        if await_ready:
            one.await_text(READY)
        return one

    def notes(self, first: str = "") -> list[list[str]]:
        """The notebook's lines as words, those that begin with `first`."""
        lines = [line.split(" ") for line in self.notebook.read_text().splitlines()]
        return [line for line in lines if not first or line[0] == first]

    def await_notes(self, first: str, count: int, limit_s: float = 30) -> list[list[str]]:
        """Wait for `count` lines that begin with `first`."""
        until(lambda: len(self.notes(first)) >= count, limit_s,
              f"{count} notes {first!r}, there are {self.notes()[-10:]}", 0.02)
        return self.notes(first)

    def close(self) -> None:
        """Kill what still runs and drop the connections."""
        for one in self.processes:
            one.kill()
        self.app.close()


@pytest.fixture
def plant(port, tmp_path, name):
    """Makes gardens: plant(**celery_settings); closes them after the test."""
    made: list[Garden] = []

    def make(port_of_server: int = 0, **settings) -> Garden:
        room = tmp_path / f"garden{len(made)}"
        room.mkdir()
        one = Garden(port_of_server or port, room, name, **settings)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()
