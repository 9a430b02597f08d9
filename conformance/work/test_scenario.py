"""The whole day of somebody with 28,000 prompts, with the programs such people have.

What lives here: the story. What does not: its programs (scenario/). The prompts are published by a
home-made agent's call in one go; three workers with prefetch 3 and manual acknowledgement answer
them; one of them and the server are killed; a pandas script keeps a table equal by key.
"""

from __future__ import annotations

import hashlib
import subprocess
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from client import Client

HERE = Path(__file__).resolve().parent / "scenario"
PROMPTS = 28_000
WORKERS = 3
PATIENCE_S = 240


def prompt(row: int) -> dict:
    """One row as it is published, with the hash that is its key."""
    text = f"Row {row}: what does the plaintiff say about it? " + "x" * (row % 200)
    return {"row": row, "prompt": text, "hash": hashlib.sha256(text.encode()).hexdigest()}


class Worker:
    """One process; what it printed."""

    def __init__(self, folder: Path, server, queue: str) -> None:
        """Start it."""
        self.book = folder / f"worker-{time.monotonic_ns()}"
        amqp = server.amqp.rsplit(":", 1)[1]
        with open(self.book, "wb") as book:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "consumer.py"), amqp, str(server.port), queue],
                stdin=subprocess.DEVNULL, stdout=book, stderr=book)

    def kill(self) -> None:
        """As a machine that vanishes."""
        self.process.kill()
        self.process.wait(10)

    def outcomes(self) -> Counter:
        """How often each outcome was printed."""
        return Counter(line for line in self.book.read_text().split()
                       if line in ("stored", "kept_first"))


def upsert(server, table: Path) -> int:
    """One pass of the script; the rows that it saw."""
    done = subprocess.run([sys.executable, str(HERE / "upsert.py"), str(server.port), str(table)],
                          capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def until(what, limit_s: float = PATIENCE_S) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@pytest.mark.owns_server
@pytest.mark.timeout(PATIENCE_S + 60)
def test_28000_prompts(own_server, tmp_path):
    server = own_server()
    api = Client(server.port)
    rows = [prompt(row) for row in range(PROMPTS)]
    began = time.monotonic()
    answer = api.call("POST", "/send_workq_message/", {
        "rabbit": "main", "routing_key": "prompts", "durable": True, "message_list": rows,
        "queue": "prompts"})
    took = time.monotonic() - began
    assert answer.json == {"status": "ok", "sent": PROMPTS}

    def left() -> int:
        counts = api.get("queues/prompts")
        return counts["ready"] + counts["claimed"]

    table = tmp_path / "answers.db"
    workers = [Worker(tmp_path, server, "prompts") for _ in range(WORKERS)]
    past = list(workers)
    try:
        until(lambda: left() < PROMPTS * 3 // 4)
        workers[0].kill()
        workers[0] = Worker(tmp_path, server, "prompts")
        past.append(workers[0])
        assert upsert(server, table) > 0
        until(lambda: left() < PROMPTS // 2)
        server.kill()
        server.start()
        # Consumers of a server that died end; whoever keeps them starts them again.
        for worker in workers:
            worker.process.wait(30)
        workers = [Worker(tmp_path, server, "prompts") for _ in range(WORKERS)]
        past.extend(workers)
        until(lambda: left() == 0)
    finally:
        for worker in workers:
            worker.kill()
    upsert(server, table)
    found = sqlite3.connect(table).execute("select hash, row, answer from answers").fetchall()
    assert len(found) == PROMPTS
    wanted = {(row["hash"], row["row"], row["prompt"][::-1]) for row in rows}
    assert set(found) == wanted
    outcomes = sum((worker.outcomes() for worker in past), Counter())
    # At most what each death left unacknowledged was answered twice; each key has one result.
    assert outcomes["kept_first"] <= 3 * (WORKERS + 1)
    assert PROMPTS - 3 * (WORKERS + 1) <= outcomes["stored"] <= PROMPTS
    print(f"{PROMPTS} accepted in {took:.2f} s, {outcomes['kept_first']} answered twice")
