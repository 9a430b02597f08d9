"""The ledger: what each client sent, was promised, received and settled, written as it happens.

What lives here: the lines, the messages' shape, and reading all of it back. What does not:
clients (clients.py), judging (audit.py). The files lie outside the disk that loses power.

One line per event: a letter, the time in nanoseconds, the message, and for a receipt whether the
server called it redelivered.

| letter | meaning |
|---|---|
| S | about to be published |
| C | confirmed |
| R | received |
| K | about to be acknowledged (or committed) |
| A | acknowledged or committed, and an answer that depends on it has come |

Clients that work with jobs have letters of their own (jobs.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

BLOB = bytes(range(251)) * 600


def body(who: str, number: int, size: int) -> bytes:
    """A message that says who sent it, and can be told from a damaged one."""
    start = number % 251
    return f"{who} {number} {size}\n".encode() + BLOB[start:start + size]


def identity(message: bytes) -> str:
    """The id of a message as it was received; names the damage when there is any."""
    head, _, rest = message.partition(b"\n")
    try:
        who, number, size = head.decode().split(" ")
        start = int(number) % 251
        if rest == BLOB[start:start + int(size)]:
            return f"{who}.{number}"
    except ValueError:
        pass
    return f"damaged:{message[:40]!r}"


class Writer:
    """One client's file."""

    def __init__(self, path: Path, begun) -> None:
        """Open for appending; `begun` is an event that the first line sets."""
        self.file = open(path, "a", buffering=1 << 16)
        self.begun = begun

    def note(self, letter: str, what: str, more: int = 0) -> None:
        """Write one event down; `more` is whether it is redelivered, or what the letter says."""
        if self.begun:
            self.begun.set()
            self.begun = None
        self.file.write(f"{letter} {time.monotonic_ns()} {what} {int(more)}\n")

    def flush(self) -> None:
        """Hand everything to the system."""
        self.file.flush()


@dataclass
class Books:
    """All files of one queue's clients, read back."""

    sent: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    settled: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, pattern: str) -> Books:
        """Every file that matches."""
        books = cls()
        for path in folder.glob(pattern):
            with open(path) as lines:
                for line in lines:
                    books._enter(*line.split())
        return books

    def _enter(self, letter: str, at: str, what: str, redelivered: str) -> None:
        if letter == "S":
            self.sent.add(what)
        elif letter == "C":
            self.confirmed.add(what)
        elif letter == "R":
            self.receipts.setdefault(what, []).append((int(at), redelivered == "1"))
        elif letter == "K":
            self.tried.add(what)
        else:
            self.settled[what] = int(at)
