"""A reconnect storm: ten thousand clients lose their server and all come back at once.

What lives here: clients that do the whole handshake on raw sockets, several thousand a process.
What does not: what they do afterwards. Every one logs in, opens a channel and asks for a queue.

Promise: P15, P19.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import struct
import time

from rig.clients import connect
from rig.node import Node
from rig.raw import frames
from rig.verdict import Skipped, Verdict

CLIENTS = 10_000
PROCESSES = 2
LIMIT_S = 10.0
FILES_NEEDED = CLIENTS + 500
PATIENCE_S = 60.0
# Runnable tasks a core, ours included, beyond which a time limit is not judged.
BUSY = 3.0
ASK = frames.CHANNEL_OPEN
# What the server says, and what to answer.
ANSWERS = {
    (10, 10): frames.start_ok(),
    (10, 30): frames.tune_ok() + frames.connection_open(),
    (10, 41): ASK,
    (20, 11): frames.declare("storm", bits=0b1),
}
SERVED = (50, 11)


def run(options, verdict: Verdict) -> None:
    """Connect all, kill the server, time until the last one is served again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FILES_NEEDED:
        raise Skipped(f"{FILES_NEEDED} open files are needed and {hard} allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    node = Node(options.binary, options.folder / "data", options.folder)
    crowds: list = []
    try:
        node.start()
        with connect(node.port) as link:
            link.channel().queue_declare("storm", durable=True)
        counts = [multiprocessing.Value("i", 0) for _ in range(PROCESSES)]
        crowds = [multiprocessing.Process(
            target=crowd, args=(node.port, CLIENTS // PROCESSES, count), daemon=True)
            for count in counts]
        began = time.monotonic()
        for one in crowds:
            one.start()
        verdict.claim(served(counts), f"{CLIENTS} clients are served", total(counts))
        verdict.figure("first connect of all, s", round(time.monotonic() - began, 2))
        verdict.figure("resident with all of them, MiB", resident(node) >> 20)
        for how in ("kill -9", "an orderly stop"):
            storm(node, counts, how, verdict)
    finally:
        for one in crowds:
            one.kill()
        node.kill()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def storm(node: Node, counts, how: str, verdict: Verdict) -> None:
    """The server goes and comes; everybody is back within the limit."""
    if how == "kill -9":
        node.kill()
    else:
        began = time.monotonic()
        verdict.claim(node.stop() == 0, "the server stops in order with all of them connected")
        verdict.figure("stopped after, s", round(time.monotonic() - began, 2))
    deadline = time.monotonic() + PATIENCE_S
    while total(counts) and time.monotonic() < deadline:
        time.sleep(0.01)
    verdict.claim(total(counts) == 0, f"after {how} nobody is connected", total(counts))
    node.start()
    began = time.monotonic()
    done = served(counts)
    took = time.monotonic() - began
    verdict.claim(done, f"after {how} all are served again", total(counts))
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    if took > LIMIT_S and busy > BUSY:
        verdict.skip(f"others keep this machine busy ({busy:.0f} tasks a core), so {took:.1f} s "
                     f"says nothing about {LIMIT_S:g} s")
    else:
        verdict.claim(took <= LIMIT_S, f"after {how} that takes at most {LIMIT_S:g} s", took)
    verdict.figure(f"all served after {how}, s", round(took, 2))


def resident(node: Node) -> int:
    """Resident bytes of the server."""
    with open(f"/proc/{node.pid}/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def total(counts) -> int:
    """Clients that are served now."""
    return sum(count.value for count in counts)


def served(counts) -> bool:
    """Wait until everybody is."""
    deadline = time.monotonic() + PATIENCE_S
    while total(counts) < CLIENTS:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Guest(asyncio.Protocol):
    """One connection, from the header to the answer of a passive declare."""

    def __init__(self, count, gone: asyncio.Future) -> None:
        """`count` is raised while it is served; `gone` is set at its end."""
        self.count, self.gone = count, gone
        self.buffer = b""
        self.is_served = False

    def connection_made(self, transport) -> None:
        """The first word is ours."""
        self.transport = transport
        transport.write(frames.HEADER)

    def data_received(self, data: bytes) -> None:
        """Answer whole frames."""
        self.buffer += data
        while len(self.buffer) >= 11:
            size = struct.unpack_from(">I", self.buffer, 3)[0] + 8
            if len(self.buffer) < size:
                return
            verb = struct.unpack_from(">HH", self.buffer, 7)
            self.buffer = self.buffer[size:]
            if verb in ANSWERS:
                self.transport.write(ANSWERS[verb])
            elif verb == SERVED:
                self.is_served = True
                self.count.value += 1
            elif verb == (10, 50):
                self.transport.write(frames.method(0, 10, 51))

    def connection_lost(self, _) -> None:
        """Count down and tell whoever reconnects."""
        if self.is_served:
            self.count.value -= 1
        if not self.gone.done():
            self.gone.set_result(None)


def crowd(port: int, size: int, count) -> None:
    """`size` clients that come back for ever, in one process."""
    runner = os.getppid()

    async def one(loop) -> None:
        while os.getppid() == runner:
            gone = loop.create_future()
            try:
                await loop.create_connection(lambda: Guest(count, gone), "127.0.0.1", port)
                await gone
            except OSError:
                await asyncio.sleep(0.1)

    async def everybody() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(one(loop) for _ in range(size)))

    asyncio.run(everybody())
