"""Bulk by raw frames: filling a queue faster than any client library, and whole handshakes.

What lives here: pipelined publishes with confirms, reading until so many confirms have come.
What does not: the frames themselves (conformance/amqp/frames.py). Used where a million messages
must be laid in within seconds.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "conformance" / "amqp"))

import frames  # noqa: E402

# basic-header flags 0x1000 (delivery-mode), 0x2000 (headers), 0x0100 (expiration); fields in the
# order of their bits. Source: AMQP 0-9-1 4.2.6.1.
PERSISTENT_FLAG, PERSISTENT = 0x1000, b"\x02"
BATCH = 500


def fill(port: int, queue: str, count: int, make: Callable[[int], bytes],
         exchange: str = "", flags: int = PERSISTENT_FLAG,
         fields: Callable[[int], bytes] = lambda _: PERSISTENT) -> float:
    """Publish `count` messages with confirms, in batches; returns the seconds it took."""
    raw = frames.Raw(port, limit_s=60).to_channel()
    raw.send(frames.SELECT_CONFIRM)
    raw.await_method(85, 11)
    began = time.monotonic()
    confirmed = sent = 0
    while confirmed < count:
        while sent < count and sent - confirmed < 20 * BATCH:
            batch = range(sent, min(sent + BATCH, count))
            raw.send(b"".join(frames.publish(queue, make(number), exchange, flags=flags,
                                             fields=fields(number)) for number in batch))
            sent = batch.stop
        tag, _ = struct.unpack(">QB", raw.await_method(60, 80))
        confirmed = max(confirmed, tag)
    took = time.monotonic() - began
    raw.close()
    return took
