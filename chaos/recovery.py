"""Ready again after `kill -9` with a million queued messages and a full ring.

What lives here: laying them in, killing, timing. What does not: power cuts (power.py).

Promise: P1, P15.
"""

from __future__ import annotations

import random

from rig.clients import connect
from rig.node import Node
from rig.raw import fill
from rig.verdict import Verdict, spread

MESSAGES = 1_000_000
KILLS = 5
BODY = b"j" * 1_000
LIMIT_S = 5.0


def run(options, verdict: Verdict) -> None:
    """One long queue, several kills, some of them in the middle of further publishing."""
    node = Node(options.binary, options.folder / "data", options.folder)
    try:
        node.start()
        with connect(node.port) as link:
            link.channel().queue_declare("long", durable=True)
        took = fill(node.port, "long", MESSAGES, lambda _: BODY)
        verdict.figure("laid in per second", round(MESSAGES / took))
        expected, ready = MESSAGES, []
        for _ in range(KILLS):
            expected += (more := random.randrange(1, 20_000))
            fill(node.port, "long", more, lambda _: BODY)
            node.kill()
            ready.append(node.start())
            found = count(node)
            verdict.claim(found == expected, f"{expected} messages are there", found)
        verdict.claim(max(ready) <= LIMIT_S, f"ready within {LIMIT_S:g} s", ready)
        verdict.figure("ready after kill -9", spread(ready))
        size = sum(path.stat().st_size for path in node.data_dir.iterdir())
        verdict.figure("data directory, MiB", size >> 20)
        verdict.claim(node.stop() == 0, "the server stops in order")
        verdict.figure("ready after an orderly stop, ms", round(node.start() * 1e3))
        verdict.claim(count(node) == expected, "and everything is there")
    finally:
        node.kill()


def count(node: Node) -> int:
    """Messages of the queue, by a passive declare."""
    with connect(node.port) as link:
        return link.channel().queue_declare("long", passive=True).method.message_count
