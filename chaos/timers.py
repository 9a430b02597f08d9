"""A million timers over two crashes: delayed and expiring messages, none early, none missing.

What lives here: laying them in with their due times, killing the server while all of them wait
and again while half are due, holding every arrival against the clock. What does not: clock jumps
and long times (the simulator has its own clock).

Promise: P8.
"""

from __future__ import annotations

import re
import struct
import time

from rig.clients import connect
from rig.node import Node
from rig.raw import PERSISTENT, fill, frames
from rig.verdict import Verdict

EACH = 500_000
# Due from this long after the beginning at least, later where laying in is slow; evenly over SPAN_S.
FIRST_S, SPAN_S = 18.0, 12.0
PROBE = 20_000
PATIENCE_S = 60.0
# A body: when it is due (ms since 1970), its kind and number.
BODY = re.compile(rb"@(\d{13})([de])(\d{6})#")
HEADERS_FLAG, PERSISTENT_FLAG, EXPIRATION_FLAG = 0x2000, 0x1000, 0x0100


def run(options, verdict: Verdict) -> None:
    """Lay in, kill, kill in the middle, account for every one."""
    node = Node(options.binary, options.folder / "data", options.folder)
    try:
        node.start()
        declare(node.port)
        slow_s = fill(node.port, "probe", PROBE, lambda _: b"x") * 2 * EACH / PROBE
        began, first = time.time(), max(FIRST_S, 3 * slow_s)
        due = [int((began + first + SPAN_S * number / EACH) * 1e3) for number in range(EACH)]
        lay_in(node.port, due)
        took = time.time() - began
        verdict.figure("laid in per second", round(2 * EACH / took))
        verdict.claim(took < first - 1, "all lie there before the first is due", took)
        node.kill()
        verdict.figure("ready with a million timers, ms", round(node.start() * 1e3))
        arrivals = Arrivals()
        middle = began + first + SPAN_S / 2
        arrivals.take(node.port, lambda: time.time() > middle)
        verdict.figure("arrived before the second kill", len(arrivals.first))
        node.kill()
        node.start()
        end = time.time() + PATIENCE_S
        arrivals.take(node.port, lambda: len(arrivals.first) == 2 * EACH or time.time() > end)
        judge(arrivals, verdict)
    finally:
        node.kill()


def declare(port: int) -> None:
    """An exchange that delays, and a queue whose messages expire into the same place."""
    with connect(port) as link:
        channel = link.channel()
        channel.queue_declare("probe", durable=True)
        channel.queue_declare("arrived", durable=True)
        channel.exchange_declare("later", "x-delayed-message", durable=True,
                                 arguments={"x-delayed-type": "direct"})
        channel.queue_bind("arrived", "later", "arrived")
        channel.queue_declare("mortal", durable=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "arrived"})


def lay_in(port: int, due: list[int]) -> None:
    """Publish all with confirms; what is left of the time is each one's delay."""
    def left(number: int) -> int:
        return max(0, due[number] - int(time.time() * 1e3))

    def delay(number: int) -> bytes:
        return frames.table(("x-delay", b"I" + struct.pack(">i", left(number)))) + PERSISTENT

    def expiration(number: int) -> bytes:
        return PERSISTENT + frames.short(str(left(number)))

    fill(port, "arrived", EACH, lambda number: b"@%dd%06d#" % (due[number], number), "later",
         flags=HEADERS_FLAG | PERSISTENT_FLAG, fields=delay)
    fill(port, "mortal", EACH, lambda number: b"@%de%06d#" % (due[number], number),
         flags=PERSISTENT_FLAG | EXPIRATION_FLAG, fields=expiration)


def judge(arrivals: Arrivals, verdict: Verdict) -> None:
    """Every one once at least, none before its time."""
    verdict.none_of(arrivals.early, "no message is early")
    verdict.claim(len(arrivals.first) == 2 * EACH, "every message arrives",
                  f"{len(arrivals.first)} of {2 * EACH}")
    verdict.figure("arrived twice, around the second kill", arrivals.again)
    late = sorted(arrivals.first.values())
    if late:
        verdict.figure("late, ms: median", late[len(late) // 2])
        verdict.figure("late, ms: 99 %", late[len(late) * 99 // 100])
        verdict.figure("late, ms: at most, the second start included", late[-1])


class Arrivals:
    """What has come: the lateness of each one's first arrival, in milliseconds."""

    def __init__(self) -> None:
        """Nothing has come."""
        self.first: dict[bytes, int] = {}
        self.early: set[bytes] = set()
        self.again = 0

    def take(self, port: int, is_over) -> None:
        """Consume by raw frames, acknowledging what came, until `is_over()`."""
        raw = frames.Raw(port, limit_s=1.0).to_channel()
        raw.send(frames.method(1, 60, 10, struct.pack(">IHB", 0, 20_000, 0)))
        raw.await_method(60, 11)
        raw.send(frames.consume("arrived"))
        data, tag = raw.buffer, 0
        while not is_over():
            try:
                data += (more := raw.socket.recv(1 << 18))
                if not more:
                    break
            except TimeoutError:
                continue
            now = int(time.time() * 1e3)
            end = 0
            for found in BODY.finditer(data):
                end, tag = found.end(), tag + 1
                self.note(found[2] + found[3], now - int(found[1]))
            if end:
                # What an acknowledgement covers is not needed any more: tags count from one.
                data = data[end:]
                raw.send(frames.ack(tag, multiple=True))
        raw.close()

    def note(self, what: bytes, late_ms: int) -> None:
        """One arrival."""
        if late_ms < 0:
            self.early.add(what)
        if what in self.first:
            self.again += 1
        else:
            self.first[what] = late_ms
