"""A mixed load around one server, and its comparison at the end.

What lives here: which clients work on which queues, hiring and dismissing them, draining and
auditing. What does not: faults, and what a client does (clients.py). Used by power.py and eio.py.
"""

from __future__ import annotations

import time
from pathlib import Path

from rig import audit
from rig.clients import Consumer, Publisher, Worker, begin, connect, drained, end
from rig.ledger import Books
from rig.node import Node

TTL_MS = 300
QUEUES = ("work", "input", "results", "next", "short", "dead")
# Small, so that a second of load meets segment rolls, checkpoints and survivor passes.
SMALL = ("limits.message_bytes_max=256 KiB", "limits.commit_bytes_max=512 KiB",
         "log.segment_bytes=9 MiB", "log.segments_max=6", "log.cache_bytes=1 MiB",
         "log.checkpoint_bytes=2 MiB", "alarm.disk_free_bytes_min=16 MiB")


def small_log() -> list[str]:
    """Arguments of `serve` for a log whose every mechanism runs all the time."""
    return [word for setting in SMALL for word in ("--set", setting)]


class Load:
    """Clients of one round: they start with empty queues and end with an audit."""

    @staticmethod
    def prepare(node: Node) -> None:
        """The queues, durable all of them."""
        with connect(node.port) as link:
            channel = link.channel()
            for queue in QUEUES:
                arguments = {"x-message-ttl": TTL_MS, "x-dead-letter-exchange": "",
                             "x-dead-letter-routing-key": "dead"} if queue == "short" else None
                channel.queue_declare(queue, durable=True, arguments=arguments)

    def __init__(self, node: Node, folder: Path, name: str) -> None:
        """Starts everybody; `name` is unique over the run, for it is part of every id."""
        self.port = node.port
        self.ledgers = folder / f"round-{name}"
        self.ledgers.mkdir()
        given = (node.port, self.ledgers)
        self.clients = [
            Publisher(f"work-{name}a", *given, "work", window=100, rate=2_000),
            Publisher(f"work-{name}b", *given, "work", window=8, rate=1_000),
            Publisher(f"tx-{name}", *given, "input", window=16, rate=500),
            Publisher(f"short-{name}", *given, "short", window=8, rate=200),
            Consumer(f"work-{name}c", *given, "work"),
            Consumer(f"work-{name}d", *given, "work"),
            Worker(f"tx-{name}e", *given, "input", "results", "next"),
            Worker(f"tx-{name}f", *given, "input", "results", "next"),
        ]
        begin(self.clients)

    def audited(self) -> audit.Findings:
        """Everybody stops, everything is drained and compared."""
        self.dismiss()
        time.sleep(TTL_MS / 1e3)
        left = {queue: drained(self.port, queue) for queue in QUEUES}
        found = audit.work(Books.read(self.ledgers, "work-*"), left["work"])
        found.merge(audit.chain(Books.read(self.ledgers, "tx-*"), left["input"],
                                left["results"], left["next"]))
        found.merge(audit.dying(Books.read(self.ledgers, "short-*"), left["short"],
                                left["dead"]))
        return found

    def dismiss(self) -> None:
        """Tell every client to end and wait for all."""
        end(self.clients)
        self.clients = []
