"""Plays a sequence on one server and says after each action what could be seen.

What lives here: [`Side`], the connections of a sequence to one server, and the normal form of what
came: whole answers by connection, ids by the order of their puts, the figures of all tubes and
jobs. What does not: comparing two sides (harness/comparison.py), which calls this.

At most one connection waits at a time: which of several is served first is the original's accident.
While one waits, another's waiting reserve is asked with a timeout of 0.
"""

from __future__ import annotations

import re
import select
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "beanstalk"))

import wire  # noqa: E402
from generator import CONNECTIONS, TUBES  # noqa: E402

# An answer that must come may take so long; one that may come is waited for as long as this.
ANSWER_S = 10.0
MAYBE_S = 0.015
MISSING = 2**64 - 1
# What the helper's own questions change is not looked at.
WATCHED_FIGURES = (
    "current-jobs-urgent", "current-jobs-ready", "current-jobs-reserved", "current-jobs-delayed",
    "current-jobs-buried", "cmd-put", "cmd-peek", "cmd-peek-ready", "cmd-peek-delayed",
    "cmd-peek-buried", "cmd-reserve", "cmd-reserve-with-timeout", "cmd-delete", "cmd-release",
    "cmd-use", "cmd-watch", "cmd-ignore", "cmd-bury", "cmd-kick", "cmd-touch",
    "cmd-list-tube-used", "cmd-list-tubes-watched", "cmd-pause-tube", "job-timeouts", "total-jobs",
    "current-connections", "current-producers", "current-workers", "current-waiting",
    "total-connections",
)
ID_LINE = re.compile(rb"^(INSERTED|RESERVED|FOUND|BURIED|id:) (\d+)", re.M)


class Connection:
    """One connection, what it is owed, and what it holds."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self.raw = wire.Raw(port)
        self.owed = 0
        self.held: list[int] = []
        self.is_waiting = False
        self.is_closed = False


class Side:
    """One server, a few connections, and one more that looks."""

    def __init__(self, port: int, prefix: str, shares_server: bool = False) -> None:
        """Connect; the other side may be on the same server."""
        self.port = port
        self.prefix = prefix
        self.shares_server = shares_server
        self.texts: list[str] = []
        self.seen: dict[str, list[bytes]] = {}
        self.jobs: list[int] = []
        self.helper = wire.Raw(port)
        self.base = self.helper.stats()
        self.connections = [self._connect(number) for number in range(CONNECTIONS)]

    def _tube(self, name: str) -> bytes:
        return f"{self.prefix}{name}".encode()

    def _connect(self, number: int) -> Connection:
        one = Connection(self.port)
        own = self._tube(TUBES[number % 2])
        one.raw.send(b"use %b\r\nwatch %b\r\nignore default\r\n" % (own, own))
        one.raw.answers(3)
        return one

    def begin(self) -> None:
        """Forget what the last action led to."""
        self.seen = {}

    def act(self, action: dict) -> None:
        """Send one action and wait for what it must lead to."""
        number = action["conn"]
        if action["do"] == "sleep":
            self._wake()
            return
        one = self.connections[number]
        if action["do"] == "leave":
            self._leave(number, action["how"])
            return
        if one.is_waiting:
            return
        parts = action["parts"] if action["do"] == "pipeline" else [action]
        data = b""
        for part in parts:
            said, answers = self._bytes(number, part)
            data += said
            one.owed += answers
        if action.get("cut"):
            one.raw.send(data[:len(data) // 2])
            time.sleep(0.001)
            data = data[len(data) // 2:]
        one.raw.send(data)
        self._await(number)

    def _wake(self) -> None:
        """The original may oversleep the end of a job's time until its owner says something."""
        for number, one in enumerate(self.connections):
            if not one.is_waiting:
                one.raw.send(b"list-tube-used\r\n")
                one.owed += 1
                self._await(number)

    def _await(self, number: int) -> None:
        one = self.connections[number]
        deadline = time.monotonic() + (MAYBE_S if one.is_waiting else ANSWER_S)
        while one.owed and not one.is_closed:
            left = deadline - time.monotonic()
            if left <= 0:
                if not one.is_waiting:
                    self._note(number, b"no answer")
                    one.owed = 0
                return
            self._pump(left)
        self._pump(0.0)

    def _bytes(self, number: int, action: dict) -> tuple[bytes, int]:
        """What is sent for an action, and how many answers it has."""
        do = action["do"]
        if do == "put":
            body = action["body"].encode("latin-1")
            return b"put %d %d %d %d\r\n%b\r\n" % (
                action["pri"], action["delay"], action["ttr"], len(body), body), 1
        if do == "say":
            line = action["line"]
            tube = self._tube(action["tube"]).decode() if "tube" in action else ""
            return line.replace("%s", tube).encode("latin-1") + b"\r\n", 1
        if do == "odd_put":
            return ODD_PUTS[action["what"]]
        if do == "reserve":
            return self._reserve(number, action["timeout"]), 1
        return self._about(number, action), 1

    def _reserve(self, number: int, timeout: int | None) -> bytes:
        others = any(one.is_waiting for one in self.connections)
        if timeout == 0 or others:
            return b"reserve-with-timeout 0\r\n"
        self.connections[number].is_waiting = True
        return b"reserve\r\n" if timeout is None else b"reserve-with-timeout %d\r\n" % timeout

    def _about(self, number: int, action: dict) -> bytes:
        """A command about a job: one that the connection holds, or any, or none."""
        pool = self.connections[number].held if action["own"] else self.jobs
        ident = pool[action["pick"] % len(pool)] if pool else MISSING
        word, rest = action["do"], b""
        if word == "release":
            rest = b" %d %d" % (action["pri"], action["delay"])
        elif word == "bury":
            rest = b" %d" % action["pri"]
        return b"%b %d%b\r\n" % (word.encode(), ident, rest)

    def _leave(self, number: int, how: str) -> None:
        """End a connection; when it hears out the server, what it hears counts."""
        one = self.connections[number]
        if how == "quit" and not one.is_waiting:
            one.raw.send(b"list-tube-used\r\nquit\r\n")
        elif how == "half":
            one.raw.send(b"list-tube-used\r\n" + b"reserve\r\n" * (not one.is_waiting))
            one.raw.end_sending()
        elif how == "reset":
            one.raw.reset()
            one.is_closed = True
        elif how == "within a body" and not one.is_waiting:
            one.raw.send(b"put 0 0 60 10\r\nabc")
            one.raw.close()
            one.is_closed = True
        else:
            one.raw.close()
            one.is_closed = True
        deadline = time.monotonic() + ANSWER_S
        while not one.is_closed and time.monotonic() < deadline:
            self._pump(0.05)
        if not one.is_closed:
            self._note(number, b"not closed")
            one.raw.close()
        self.connections[number] = self._connect(number)

    def _pump(self, wait_s: float) -> None:
        """Take in what has come on all connections, waiting for the first of it."""
        alive = {one.raw.socket: number for number, one in enumerate(self.connections)
                 if not one.is_closed}
        for ready in select.select(list(alive), [], [], wait_s)[0]:
            number = alive[ready]
            one = self.connections[number]
            try:
                data = ready.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                one.is_closed = True
                one.raw.close()
                self._note(number, b"closed")
            one.raw.buffer += data
            while found := wire.take_answer(one.raw.buffer):
                answer, one.raw.buffer = found
                self._on_answer(number, answer)

    def _on_answer(self, number: int, answer: bytes) -> None:
        one = self.connections[number]
        one.owed -= 1
        if one.owed <= 0:
            one.is_waiting = False
        words = answer.split(b"\r\n", 1)[0].split()
        if words[0] == b"INSERTED":
            self.jobs.append(int(words[1]))
        elif words[0] == b"RESERVED":
            one.held.append(int(words[1]))
        self._note(number, answer)

    def _plain(self, answer: bytes) -> str:
        """An answer with ids by the order of their puts, and without the prefix of names."""
        steady = wire.steady(answer)
        found = ID_LINE.sub(lambda m: b"%b #%d" % (m[1], self._rank(int(m[2]))), steady)
        if not found.startswith(b"OK *") and found.startswith(b"OK "):
            found = b"OK" + found[found.index(b"\r\n"):]
        return wire.escaped(found.replace(self.prefix.encode(), b""))

    def _rank(self, ident: int) -> int:
        return self.jobs.index(ident) if ident in self.jobs else -1

    def _note(self, number: int, what: bytes) -> None:
        self.seen.setdefault(f"connection {number}", []).append(what)

    def look(self) -> dict:
        """What could be seen since `begin`, with tubes, jobs and figures now."""
        self._pump(0.0)
        # Only now is the id known of a job that was given to somebody before its INSERTED came.
        found: dict[str, object] = {name: [self._plain(one) for one in said]
                                    for name, said in self.seen.items()}
        asks = [b"stats-tube %b" % self._tube(name) for name in TUBES]
        asks += [b"stats-job %d" % ident for ident in self.jobs]
        self.helper.send(b"".join(ask + b"\r\n" for ask in [*asks, b"list-tubes", b"stats"]))
        answers = self.helper.answers(len(asks) + 2)
        for name, answer in zip(TUBES, answers):
            found[f"tube {name}"] = self._plain(answer)
        for at, answer in enumerate(answers[len(TUBES):-2]):
            found[f"job {at}"] = self._plain(answer)
        tubes = [name.removeprefix(self.prefix) for name in wire.tubes(answers[-2])
                 if name.startswith(self.prefix)]
        # The protocol promises no order of them (BEAN-006).
        found["tubes"] = sorted(tubes)
        if not self.shares_server:
            now = wire.fields(answers[-1])
            found["figures"] = {key: int(now[key]) - int(self.base[key])
                                for key in WATCHED_FIGURES}
        found["waiting"] = [one.is_waiting for one in self.connections]
        self._pump(0.0)
        return found

    def end(self) -> None:
        """Drop the connections and delete what the sequence made."""
        for one in self.connections:
            one.raw.close()
        deadline = time.monotonic() + ANSWER_S
        left = list(self.jobs)
        while left and time.monotonic() < deadline:
            # A job whose owner has just gone is given back in a moment.
            self.helper.send(b"".join(b"delete %d\r\nstats-job %d\r\n" % (i, i) for i in left))
            answers = self.helper.answers(2 * len(left))
            left = [ident for ident, is_there in zip(left, answers[1::2])
                    if is_there != b"NOT_FOUND\r\n"]
        self.helper.close()


def _odd_puts() -> dict[str, tuple[bytes, int]]:
    behind = b"list-tube-used\r\n"
    return {
        "big": (b"put 0 0 60 65536\r\n" + b"x" * 65536 + b"\r\n" + behind, 2),
        "bigger": (b"put 0 0 60 100000\r\n" + b"delete 1\r\n" * 10000 + b"\r\n" + behind, 2),
        "big with more": (b"put 0 0 60 65536 more\r\n" + b"x" * 65536 + b"\r\n" + behind, 2),
        "no end": (b"put 0 0 60 3\r\nabcXY" + behind, 2),
        "short": (b"put 0 0 60 2\r\nhello\r\n" + behind, 3),
        "long": (b"put 0 0 60 9\r\nabc\r\n" + behind, 2),
    }


ODD_PUTS = _odd_puts()
