#!/usr/bin/env python3
"""Plays the stories on a server: records the original's answers, or checks another server's.

What lives here: reading a story, playing it, and writing what came. What does not: the stories,
which are the transcripts themselves (crates/proto-beanstalk/testdata/original/*.txt): a recording
keeps what is done and replaces what is answered. Called by people and by test_transcripts.py.

    record.py                                   records every story from the installed original
    record.py put bury                          only these
    record.py --check                           compares instead of writing
    record.py --check --command 'target/release/potager beanstalkd'
    record.py --check --address 127.0.0.1:11300 a running server; stories that need one of their
                                                own are left out

A story is a text. Lines with `#` and empty lines are comments; the others are:

    since 1.13        older servers answer otherwise: with them the story is left out
    accident          the original does this by accident: other servers are not asked
    server -z 10      options that the server is started with
    A> put 0 0 1 1\\r\\nx\\r\\n    connection A sends; it connects when it is named first
    A< INSERTED 1\\r\\n          what A then gets, a line for each line feed
    A| half-close     A will send no more         A| close    A closes
    A| closed         the server has closed A
    sleep 1100        milliseconds go by
    drain             the server is told to take no more jobs

Every step is played to its end before the next begins. Only `sleep` lets time pass that matters.
What depends on clock, machine or process is `*`, the size of such an answer too.
"""

from __future__ import annotations

import argparse
import re
import select
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

import wire  # noqa: E402
from beanstalkd import Beanstalkd, PeerMissing  # noqa: E402

STORIES = HERE.parent.parent / "crates" / "proto-beanstalk" / "testdata" / "original"
# So long nothing has come when a step is over; a step that is known to be answered is over sooner.
QUIET_S, QUIET_ANSWERED_S = 0.06, 0.02
# When answers are expected, they may take so long before they count as missing.
PATIENCE_S = 2.0
STEP = re.compile(r"([A-Z])([>|]) ?(.*)|(sleep) (\d+)|(drain)")
HEAD = re.compile(r"(since|server) (.+)|(accident)")
# Numbers of ten digits and more are no ids of a story.
WITH_ID = re.compile(
    rb"^((?:delete|release|bury|touch|peek|kick-job|stats-job|reserve-job) +)(\d{1,9})(?!\d)", re.M)
# A story that differs is played again, so often: on a busy machine time goes by between its steps.
TRIES = 3
ID_BACK = re.compile(rb"^(INSERTED|RESERVED|FOUND|BURIED|id:) (\d+)", re.M)


@dataclass
class Step:
    """One thing that is done, the comments before it, and what came of it."""

    before: list[str]
    text: str
    came: list[str] = field(default_factory=list)


@dataclass
class Story:
    """One transcript."""

    path: Path
    steps: list[Step] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    since: str = ""
    is_accident: bool = False
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How it is called on the command line."""
        return self.path.stem

    @property
    def needs_own_server(self) -> bool:
        """Whether it shows or changes something of the whole server."""
        does = [step.text.split("> ", 1)[-1] for step in self.steps]
        return bool(self.options) or any(
            text == "drain" or re.match(r"stats\\r|list-tubes\\r|stats-tube default\\r", text)
            for text in does)

    def text(self) -> str:
        """The transcript, with what came."""
        lines: list[str] = []
        for step in self.steps:
            lines += [*step.before, step.text, *step.came]
        return "\n".join(lines + self.after) + "\n"


def read(path: Path) -> Story:
    """Take a transcript apart."""
    story, before = Story(path), []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        head = HEAD.fullmatch(line)
        if re.match(r"[A-Z]< |[A-Z]\| closed$", line):
            story.steps[-1].came.append(line)
        elif STEP.fullmatch(line):
            story.steps.append(Step(before, line))
            before = []
        elif head or not line or line.startswith("#"):
            before.append(line)
            if head and head.group(1) == "since":
                story.since = head.group(2)
            elif head and head.group(1) == "server":
                story.options = tuple(head.group(2).split())
            elif head:
                story.is_accident = True
        else:
            raise SystemExit(f"{path}:{number}: not a line of a story: {line}")
    story.after = before
    return story


class Player:
    """Plays stories on one server; with `learns` its ids are told apart by what is recorded."""

    def __init__(self, port: int, server: Beanstalkd | None = None, learns: bool = False) -> None:
        """Nobody has connected yet."""
        self.port = port
        self.server = server
        self.learns = learns
        # A story counts ids from 1; other servers number as they like.
        self.theirs: dict[int, int] = {}
        self.recorded: dict[int, int] = {}
        self.open: dict[str, wire.Raw] = {}
        self.gone: set[str] = set()
        self.given: set[int] = set()

    def connection(self, name: str) -> wire.Raw:
        """The connection of that name; the first one waits until the server listens."""
        deadline = time.monotonic() + 10
        while name not in self.open:
            try:
                self.open[name] = wire.Raw(self.port)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        return self.open[name]

    def play(self, step: Step, patience_s: float) -> list[str]:
        """Do one step; what came of it, as lines."""
        name, kind, rest, sleep, length, drain = STEP.fullmatch(step.text).groups()
        if sleep:
            time.sleep(int(length) / 1000)
        elif drain and self.server:
            self.server.drain()
        elif kind == ">":
            self.connection(name).send(self._shifted(wire.unescaped(rest)))
        elif rest == "half-close":
            self.connection(name).end_sending()
        elif rest == "close":
            self.connection(name).close()
            self.gone.add(name)
        came = self._gather(step.came, patience_s)
        if self.learns:
            self._learn(step.came, came)
        return [line for name in sorted(came) for line in self._lines(name, came[name])]

    def _learn(self, expected: list[str], came: dict[str, bytes]) -> None:
        """Pair the ids that are recorded with those that came, in their order."""
        for name, data in came.items():
            own = "\n".join(line[3:] for line in expected if line.startswith(f"{name}< "))
            recorded = re.findall(r"^INSERTED (\d+)", own, re.M)
            for number, ident in zip(recorded, re.findall(rb"^INSERTED (\d+)", data, re.M)):
                self.theirs[int(number)] = int(ident)
                self.recorded[int(ident)] = int(number)

    def _shifted(self, data: bytes) -> bytes:
        """What a story sends, with the ids that this server gave."""
        return WITH_ID.sub(
            lambda m: b"%b%d" % (m[1], self.theirs.get(int(m[2]), int(m[2]))), data)

    def _gather(self, expected: list[str], patience_s: float) -> dict[str, bytes]:
        """Read from all connections until nothing comes any more."""
        came: dict[str, bytes] = {}
        quiet_s = QUIET_ANSWERED_S if expected else QUIET_S
        deadline = time.monotonic() + patience_s
        while True:
            alive = {raw.socket: name for name, raw in self.open.items() if name not in self.gone}
            ready = select.select(list(alive), [], [], quiet_s)[0] if alive else []
            for one in ready:
                name = alive[one]
                try:
                    data = one.recv(1 << 16)
                except OSError:
                    data = b""
                came[name] = came.get(name, b"") + data
                if not data:
                    self.gone.add(name)
            if ready:
                continue
            lines = [line for name in sorted(came) for line in self._lines(name, came[name])]
            if len(lines) >= len(expected) or time.monotonic() > deadline:
                return came

    def _lines(self, name: str, data: bytes) -> list[str]:
        found, rest = b"", data
        while rest:
            taken = wire.take_answer(rest)
            if not taken:
                break
            answer, rest = taken
            found += wire.steady(answer)
        found += rest
        for number in re.findall(rb"^INSERTED (\d+)", found, re.M):
            self.given.add(int(number))
        found = ID_BACK.sub(
            lambda m: b"%b %d" % (m[1], self.recorded.get(int(m[2]), int(m[2]))), found)
        lines = [f"{name}< {wire.escaped(line)}"
                 for line in re.findall(rb"[^\n]*\n|[^\n]+", found)]
        return lines + ([f"{name}| closed"] if name in self.gone and self._is_closed(name) else [])

    def _is_closed(self, name: str) -> bool:
        return self.open[name].socket.fileno() >= 0

    def end(self) -> None:
        """Close everything; a server that goes on loses the story's jobs."""
        for raw in self.open.values():
            raw.close()
        if self.server is None and self.given:
            with wire.Raw(self.port) as raw:
                for number in self.given:
                    raw.ask(b"delete %d" % number)


def played(story: Story, command: tuple[str, ...], address: str) -> list[list[str]]:
    """What came of each step."""
    with tempfile.TemporaryDirectory(prefix="stories-") as room:
        server = None
        if address:
            player = Player(int(address.rsplit(":", 1)[1]), learns=True)
        else:
            server = Beanstalkd(Path(room), story.options, command=command)
            server.launch()
            player = Player(server.port, server, learns=bool(command))
        try:
            return [player.play(step, PATIENCE_S) for step in story.steps]
        finally:
            player.end()
            if server:
                server.stop()


def is_same_list(step: Step, lines: list[str]) -> bool:
    """Whether the tubes listed are the same; the protocol promises no order of them."""
    return step.text.endswith("list-tubes\\r\\n") and sorted(step.came) == sorted(lines)


def differences(story: Story, came: list[list[str]], learns: bool) -> list[str]:
    """Where the answers are not the recorded ones."""
    found = []
    for step, lines in zip(story.steps, came):
        if step.came != lines and not (learns and is_same_list(step, lines)):
            found += [f"  {step.text}", *(f"    recorded {line}" for line in step.came),
                      *(f"    came     {line}" for line in lines)]
    return found


def played_well(story: Story, command: tuple[str, ...], address: str) -> tuple[list, list[str]]:
    """What came, and where it is not what is recorded; a difference must show every time."""
    for _ in range(TRIES):
        came = played(story, command, address)
        found = differences(story, came, bool(command or address))
        if not found:
            break
    return came, found


def version() -> str:
    """The version of the installed original, by starting it once."""
    with tempfile.TemporaryDirectory(prefix="stories-") as room:
        server = Beanstalkd(Path(room))
        server.start()
        try:
            with wire.Raw(server.port) as raw:
                return raw.stats()["version"]
        finally:
            server.stop()


def is_left_out(story: Story, original: str, address: str = "") -> bool:
    """Whether a server is not asked for this story; `original` is its version if it is one."""
    if address:
        return story.needs_own_server or story.is_accident or bool(story.since)
    if not original:
        return story.is_accident
    have, need = (re.findall(r"\d+", text)[:2] for text in (original, story.since or "0.0"))
    return [*map(int, have)] < [*map(int, need)]


def stories(names: list[str]) -> list[Story]:
    """Those named, or all."""
    found = [read(path) for path in sorted(STORIES.glob("*.txt"))]
    unknown = set(names) - {story.name for story in found}
    if unknown:
        raise SystemExit(f"record: no story named {', '.join(sorted(unknown))} in {STORIES}")
    return [story for story in found if not names or story.name in names]


def main() -> int:
    """Record or check; 0 when nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("story", nargs="*", help="only these stories")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--command", default="", help="what to start, default the original")
    parser.add_argument("--address", default="", help="a running server, host:port")
    chosen = parser.parse_args()
    command = tuple(shlex.split(chosen.command))
    if chosen.address and not chosen.check:
        raise SystemExit("record: only a server of its own is recorded; add --check")
    try:
        original = "" if chosen.address or command else version()
    except PeerMissing as missing:
        raise SystemExit(f"record: {missing}") from None
    bad = 0
    for story in stories(chosen.story):
        if is_left_out(story, original, chosen.address):
            print(f"{story.name}: left out")
            continue
        came, found = played_well(story, command, chosen.address)
        bad += bool(found)
        print(f"{story.name}: {len(story.steps)} steps, {'differs' if found else 'the same'}")
        if chosen.check:
            print("\n".join(found), end="\n" if found else "")
        else:
            for step, lines in zip(story.steps, came):
                step.came = lines
            story.path.write_text(story.text())
    return 1 if bad and chosen.check else 0


if __name__ == "__main__":
    sys.exit(main())
